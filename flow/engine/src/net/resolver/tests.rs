use event::Time;
use tokio::net::UdpSocket;

use super::*;
use crate::clock::SimClock;
use crate::net::{DialError, Net, NetOptions, Phase, Target};

/// What a name server does with a question, by the name in it.
type Manner = fn(&str) -> Option<ResponseCode>;

/// A name server without records; the names it was asked for.
async fn name_server(manner: Manner) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    use hickory_resolver::proto::op::{Message, MessageType};
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).expect("a question");
            let name = question.queries[0].name().to_string();
            log.lock().expect("not poisoned").push(name.clone());
            let Some(code) = manner(&name) else { continue };
            let mut answer = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
            answer.add_query(question.queries[0].clone());
            answer.metadata.response_code = code;
            socket.send_to(&answer.to_vec().expect("encodes"), peer).await.expect("sent");
        }
    });
    (address, asked)
}

fn soon() -> Deadline {
    Deadline::within(Span::from_millis(600))
}

async fn failure_of(server: SocketAddr, name: &str) -> ResolveFailure {
    let resolver = Resolver::asking(&[server]).expect("a resolver");
    resolver.addresses(name, soon()).await.expect_err("no answer").failure
}

/// A response code, the answer section and the authority section.
type Sections = (ResponseCode, &'static [&'static str], &'static [&'static str]);

/// A name server that answers each question with what `message` says of it, as zone files write it.
async fn saying(message: fn(&str) -> Sections) -> SocketAddr {
    use hickory_resolver::proto::op::{Message, MessageType};
    use hickory_resolver::proto::rr::rdata;
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let record = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        let name = |word: &str| Name::from_ascii(word).expect("a name");
        let data = match words[1] {
            "A" => RData::A(rdata::A(words[2].parse().expect("an address"))),
            "AAAA" => RData::AAAA(rdata::AAAA(words[2].parse().expect("an address"))),
            "CNAME" => RData::CNAME(rdata::CNAME(name(words[2]))),
            "NS" => RData::NS(rdata::NS(name(words[2]))),
            "SOA" => RData::SOA(rdata::SOA::new(name("ns.t."), name("h.t."), 1, 1, 1, 1, 1)),
            other => panic!("no records of type {other}"),
        };
        Record::from_rdata(name(words[0]), 5, data)
    };
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).expect("a question");
            let (code, answers, authorities) = message(&question.queries[0].name().to_string());
            let mut answer = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
            answer.add_query(question.queries[0].clone());
            answer.metadata.response_code = code;
            answer.add_answers(answers.iter().map(record));
            answer.add_authorities(authorities.iter().map(record));
            socket.send_to(&answer.to_vec().expect("encodes"), peer).await.expect("sent");
        }
    });
    address
}

/// WA-2: what a name server says of another name is nothing about the one that was asked for, its response code counts
/// whatever records stand beside it, and that others are to be asked is not that there is none.
#[tokio::test]
async fn an_answer_is_read_for_the_name_that_was_asked_for() {
    use RecordType as R;
    let server = saying(|name| match name {
        "other.t." => (ResponseCode::NoError, &["evil.t. A 192.0.2.7"], &[]),
        "both.t." => (ResponseCode::NoError, &["evil.t. A 192.0.2.7", "BOTH.t. A 192.0.2.8"], &[]),
        "gone.t." => (ResponseCode::NXDomain, &["gone.t. A 192.0.2.7"], &[]),
        "odd.t." => (ResponseCode::from(0, 11), &["odd.t. A 192.0.2.7"], &[]),
        "alias.t." => (ResponseCode::NoError, &["end.t. A 192.0.2.9", "alias.t. CNAME end.t."], &[]),
        "away.t." => (ResponseCode::NoError, &["evil.t. CNAME x.t.", "away.t. CNAME cdn.u."], &[]),
        "dangling.t." => (ResponseCode::NXDomain, &["dangling.t. CNAME no.t."], &["t. SOA"]),
        "circle.t." => (ResponseCode::NoError, &["circle.t. CNAME c.t.", "c.t. CNAME circle.t."], &[]),
        "below.t." => (ResponseCode::NoError, &[], &["below.t. NS ns.below.t."]),
        "none.t." => (ResponseCode::NoError, &[], &["t. NS ns.t.", "t. SOA"]),
        _ => (ResponseCode::NXDomain, &[], &["t. SOA"]),
    })
    .await;
    let watching = Resolver::watching(&[server]).expect("a resolver");
    let ours = Resolver::asking(&[server]).expect("a resolver");
    for (name, record_type, expected, of_ours) in [
        ("other.t", R::A, "has no record of this type (NOERROR)", "has no record of this type (NOERROR)"),
        ("both.t", R::A, "192.0.2.8", "192.0.2.8"),
        ("gone.t", R::A, "the name `gone.t` does not exist (NXDOMAIN)", "the name `gone.t` does not exist (NXDOMAIN)"),
        ("odd.t", R::A, "answers RCODE 11 for `odd.t`", "answers RCODE 11 for `odd.t`"),
        ("alias.t", R::A, "192.0.2.9", "192.0.2.9"),
        ("alias.t", R::CNAME, "end.t.", "end.t."),
        ("away.t", R::A, "alias for cdn.u.", "does not exist (NXDOMAIN)"),
        ("away.t", R::CNAME, "cdn.u.", "cdn.u."),
        ("dangling.t", R::A, "is an alias (CNAME) for `no.t.`, which does not exist (NXDOMAIN)", "(NXDOMAIN)"),
        ("circle.t", R::A, "its aliases (CNAME) lead back to it", ""),
        ("below.t", R::A, "it refers to the name servers of `below.t.`", "it refers to the name servers of `below.t.`"),
        ("below.t", R::NS, "it refers to the name servers of `below.t.`", "has no record of this type"),
        ("none.t", R::A, "has no record of this type (NOERROR)", "has no record of this type (NOERROR)"),
    ] {
        let told = |found: Result<Resolved, ResolveError>| match found {
            Ok(Resolved { alias: Some(alias), .. }) => format!("alias for {alias}"),
            Ok(found) => found.records.join(" "),
            Err(error) => error.to_string(),
        };
        let said = told(watching.records(name, record_type, soon()).await);
        assert!(
            said.contains(expected) && said.contains(' ') == expected.contains(' '),
            "{name} {record_type}: {said}"
        );
        let said = told(ours.records(name, record_type, soon()).await);
        assert!(said.contains(of_ours), "{name} {record_type}, not watched: {said}");
        if record_type == R::A {
            let said = ours.addresses(name, soon()).await;
            let said = said.map_or_else(|error| error.to_string(), |found| format!("{found:?}"));
            assert!(said.contains(of_ours) && !said.contains("192.0.2.7"), "{name}, its addresses: {said}");
        }
    }
    // Of two that are watched, one that knows the name counts, and not the one that refers to others or says nonsense.
    let (knowing, _) = name_server(|_| Some(ResponseCode::NXDomain)).await;
    for name in ["below.t", "odd.t"] {
        let watching = Resolver::watching(&[server, knowing]).expect("a resolver");
        let error = watching.records(name, R::A, soon()).await.expect_err("no record");
        assert_eq!((error.failure, error.server), (ResolveFailure::NoSuchName, Some(knowing)), "{name}");
    }
}

/// Somebody's dead name servers are their outage; ours is not.
#[tokio::test]
async fn the_silence_of_a_name_is_told_from_that_of_a_server() {
    // A recursive server that still tries, and one that has nothing to say but that it will not.
    for (code, about) in [(ResponseCode::NoError, "recursive"), (ResponseCode::Refused, "internal")] {
        let manner: Manner = match code {
            ResponseCode::Refused => |name| (name == ".").then_some(ResponseCode::Refused),
            _ => |name| (name == ".").then_some(ResponseCode::NoError),
        };
        let (server, _) = name_server(manner).await;
        assert_eq!(failure_of(server, "dead.example").await, ResolveFailure::Timeout, "{about}");
    }
    let (server, _) = name_server(|_| Some(ResponseCode::ServFail)).await;
    assert!(matches!(failure_of(server, "dead.example").await, ResolveFailure::Refused(_)), "it gave up");
    let (server, _) = name_server(|_| None).await;
    assert_eq!(failure_of(server, "shop.example").await, ResolveFailure::Unreachable(vec![server.ip()]));
    // Nothing listens: the kernel says so at once.
    #[expect(clippy::disallowed_methods, reason = "the test needs a port on which nobody answers")]
    let closed = UdpSocket::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    assert_eq!(failure_of(closed, "shop.example").await, ResolveFailure::Unreachable(vec![closed.ip()]));
}

#[tokio::test]
async fn a_connection_tells_them_apart_too() {
    let net = |server| {
        let options = NetOptions { name_servers: vec![server], ..NetOptions::default() };
        Net::new(&options, Arc::new(SimClock::starting_at(Time::from_secs(0)))).expect("a network")
    };
    let target = Target::tcp("shop.example", 80);
    let (dead, _) = name_server(|_| None).await;
    let error = net(dead).dial(&target, soon()).await.expect_err("no answer");
    assert_eq!(error.phase(), Phase::Dns);
    assert!(error.to_string().contains("no name server answers anything (127.0.0.1)"), "{error}");
    let (alive, _) = name_server(|name| (name == ".").then_some(ResponseCode::NoError)).await;
    let error = net(alive).dial(&target, soon()).await.expect_err("no answer");
    assert!(matches!(error, DialError::Timeout { phase: Phase::Dns, .. }), "{error}");
}

/// What this machine lacks is no silence of anybody.
#[test]
fn our_own_shortage_is_not_asked() {
    let io = |errno: rustix::io::Errno| failure(&NetError::Io(Arc::new(errno.into())));
    assert!(matches!(io(rustix::io::Errno::MFILE), LookupFailure::Reason(ResolveFailure::NotAsked(_))));
    assert!(
        matches!(io(rustix::io::Errno::NETUNREACH), LookupFailure::Silence(Some(_))),
        "another server may have a way"
    );
    assert!(matches!(io(rustix::io::Errno::CONNREFUSED), LookupFailure::Silence(None)));
    assert!(matches!(failure(&NetError::Busy), LookupFailure::Reason(ResolveFailure::NotAsked(_))));
    assert!(matches!(failure(&NetError::NoConnections), LookupFailure::Silence(None)));
}

/// A search domain must not answer for a name that is gone, as a wildcard of the provider would.
#[tokio::test]
async fn search_domains_are_for_names_without_a_dot() {
    let (server, asked) = name_server(|_| Some(ResponseCode::NXDomain)).await;
    let mut config = servers(&[server]);
    config.add_search(Name::from_str("provider.example.").expect("a name"));
    let resolver = Resolver::new(&config, without_hosts(), 0).expect("a resolver");
    for (name, searched) in [("gone.shop.example", false), ("db1", true)] {
        asked.lock().expect("not poisoned").clear();
        let error = resolver.addresses(name, soon()).await.expect_err("no such name");
        assert_eq!(error.failure, ResolveFailure::NoSuchName, "{name}");
        let asked = asked.lock().expect("not poisoned");
        assert_eq!(asked.iter().any(|name| name.ends_with("provider.example.")), searched, "{name}: {asked:?}");
    }
}

/// The machine gets another name server while garant runs.
#[tokio::test(start_paused = true)]
async fn a_changed_configuration_is_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("resolv.conf");
    let write = |text: &str| {
        // As DHCP clients do: written beside, then put in place.
        let beside = directory.path().join("new");
        std::fs::write(&beside, text).expect("written");
        std::fs::rename(&beside, &path).expect("put in place");
    };
    write("nameserver 192.0.2.1\n");
    let resolver = Resolver::of_file(&path).expect("a resolver");
    let asks = || resolver.servers().addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(asks(), ["192.0.2.1"]);
    let before = resolver.servers();
    tokio::time::advance(LOOK_EVERY).await;
    assert!(Arc::ptr_eq(&before, &resolver.servers()), "unchanged: its cache is kept");

    write("nameserver 192.0.2.2\nnameserver 192.0.2.3\n");
    assert_eq!(asks(), ["192.0.2.1"], "looked at every few seconds only");
    tokio::time::advance(LOOK_EVERY).await;
    assert_eq!(asks(), ["192.0.2.2", "192.0.2.3"]);

    write("# to be continued\n");
    tokio::time::advance(LOOK_EVERY).await;
    assert_eq!(asks(), ["192.0.2.2", "192.0.2.3"], "nobody to ask is no news");
    write("nameserver 192.0.2.4\n");
    tokio::time::advance(LOOK_EVERY).await;
    assert_eq!(asks(), ["192.0.2.4"]);

    let none = Resolver::of_file(&directory.path().join("none")).expect("a resolver");
    assert_eq!(none.servers().addresses, [IpAddr::from([127, 0, 0, 1])]);
}

/// Whoever is asked, and whatever the library says, people read what they could look up.
#[test]
fn answers_have_their_standard_names() {
    for number in 0..4096_u16 {
        let [high, low] = [u8::try_from(number >> 4).expect("12 bits"), u8::try_from(number & 15).expect("4 bits")];
        let word = code_word(ResponseCode::from(high, low));
        let known = word.chars().all(|c| c.is_ascii_uppercase());
        assert!(known || word == format!("RCODE {number}"), "{number}: {word}");
    }
    let plain = |text: &str| !text.contains("::") && !text.contains(['{', '(', '"']);
    for error in [
        NetError::QueryCaseMismatch,
        NetError::from(hickory_resolver::proto::ProtoError::from("of a library")),
        NetError::from("of a library"),
        NetError::from("of a library".to_owned()),
        NetError::Dns(DnsError::DnssecBogus),
    ] {
        assert!(plain(words(&error)) && !words(&error).contains("library"), "{error:?}");
    }
}

/// Of several that are watched, the silence of one does not hide what another said.
#[tokio::test]
async fn what_one_server_says_counts_beside_the_silence_of_another() {
    let (silent, _) = name_server(|_| None).await;
    let (refusing, _) = name_server(|_| Some(ResponseCode::Refused)).await;
    let (knowing, _) = name_server(|_| Some(ResponseCode::NXDomain)).await;
    for (asked, failure, server) in [
        (vec![silent, refusing], ResolveFailure::Refused("REFUSED".to_owned()), Some(refusing)),
        (vec![silent, refusing, knowing], ResolveFailure::NoSuchName, Some(knowing)),
        (vec![silent], ResolveFailure::Unreachable(vec![silent.ip()]), None),
    ] {
        let resolver = Resolver::watching(&asked).expect("a resolver");
        let error = resolver.records("shop.example", RecordType::A, soon()).await.expect_err("no record");
        assert_eq!((error.failure, error.server), (failure, server), "{asked:?}");
    }
}

/// All that the library can say: no name out of its code, and no text of its own.
#[test]
fn everything_that_the_library_says_has_words() {
    use hickory_resolver::net::{DnsError, NetError};
    use hickory_resolver::proto::ProtoError;
    use hickory_resolver::proto::rr::DNSClass;
    let io = std::io::Error::from_raw_os_error(5);
    let record = NetError::ForeignClassRecord {
        record_name: Name::root(),
        record_class: DNSClass::CH,
        record_type: RecordType::A,
    };
    for error in [
        NetError::Busy,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)),
        NetError::Message("of the library"),
        NetError::Msg("of the library".to_owned()),
        NetError::ParseInt("x".parse::<u8>().expect_err("no number")),
        NetError::NoConnections,
        NetError::Proto(ProtoError::Message("of the library")),
        NetError::Io(Arc::new(io)),
        NetError::Timeout,
        NetError::QueryCaseMismatch,
        record,
        NetError::Truncated,
    ] {
        let text = words(&error);
        assert!(!text.contains("library") && !text.contains("::") && !text.contains("error"), "{error:?}: {text}");
        assert_ne!(text, "no answer that can be used", "{error:?}");
    }
    for code in 0..=u16::MAX {
        let word = code_word(code.into());
        assert!(word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' '), "{code}: {word}");
    }
}
