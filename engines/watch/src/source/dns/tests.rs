use store::Reading;
use tokio::net::UdpSocket;

use crate::source::testing::{Program, ask, closed_port, listening, name_server, plain};

#[tokio::test]
async fn records_are_looked_at() {
    let net = plain();
    let server = name_server().await;
    let cases = [
        ("domain = \"shop.example\"", Reading::Up, Some(2), "answers NOERROR, 2 A records: 192.0.2.1, 192.0.2.2"),
        ("domain = \"shop.example\"\nexpect = [\"192.0.2.1\", \"192.0.2.2\"]", Reading::Up, Some(2), ""),
        (
            "domain = \"shop.example\"\nexpect = \"198.51.100.1\"",
            Reading::Down,
            Some(2),
            "no A record holds 198.51.100.1",
        ),
        ("domain = \"shop.example\"\ntype = \"MX\"\nexpect = \"mx.shop.example.\"", Reading::Up, Some(1), ""),
        // A whole value, in any spelling of it.
        ("domain = \"shop.example\"\nexpect = \"192.0.2.20\"", Reading::Down, Some(2), "holds 192.0.2.20"),
        (
            "domain = \"longer.shop.example\"\nexpect = \"192.0.2.1\"",
            Reading::Down,
            Some(1),
            "answers NOERROR, 1 A record: 192.0.2.10",
        ),
        ("domain = \"shop.example\"\ntype = \"MX\"\nexpect = \"MX.shop.example\"", Reading::Up, Some(1), ""),
        ("domain = \"shop.example\"\ntype = \"MX\"\nexpect = \"10 mx.shop.example.\"", Reading::Up, Some(1), ""),
        ("domain = \"shop.example\"\ntype = \"MX\"\nexpect = \"shop.example.\"", Reading::Down, Some(1), ""),
        ("domain = \"shop.example\"\ntype = \"TXT\"\nexpect = \"v=spf1\"", Reading::Up, Some(1), ""),
        (
            "domain = \"shop.example\"\ntype = \"AAAA\"",
            Reading::Down,
            None,
            "no record of this type (NOERROR), says 127.0.0.1:",
        ),
        ("domain = \"nobody.example\"", Reading::Down, None, "(NXDOMAIN), says 127.0.0.1:"),
        ("domain = \"broken.example\"", Reading::Down, None, "answers SERVFAIL for `broken.example`"),
    ];
    for (table, reading, value, text) in cases {
        let answer = ask(&net, "dns", &format!("{table}\nserver = \"{server}\"")).await;
        assert_eq!((answer.reading, answer.value), (reading, value), "{table}: {}", answer.text);
        assert!(answer.text.contains(text), "{table}: {}", answer.text);
    }
}

/// A name server that is named in the policy is what is watched: it is down when it is silent. What this machine can't ask
/// for is unknown.
#[tokio::test]
async fn a_watched_name_server_that_is_silent_is_down() {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let closed = UdpSocket::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let options = engine::net::NetOptions { name_servers: vec![closed], ..engine::net::NetOptions::default() };
    let clock = engine::clock::SimClock::starting_at(crate::source::testing::NOW);
    let net = engine::net::Net::new(&options, std::sync::Arc::new(clock)).expect("a network");
    let watched = format!("domain = \"shop.example\"\nserver = \"{closed}\"");
    // Each takes its time out, so all at once.
    let answers = tokio::join!(
        ask(&net, "dns", &watched),
        ask(&net, "dns", "domain = \"shop.example\""),
        ask(&net, "tcp", "address = \"shop.example:80\""),
        ask(&net, "tls", "address = \"shop.example:443\""),
        ask(&net, "http", "url = \"http://shop.example/\""),
    );
    let silent = "no name server answers anything (127.0.0.1)";
    assert_eq!(answers.0.reading, Reading::Down, "{}", answers.0.text);
    assert!(answers.0.text.contains(silent), "{}", answers.0.text);
    for answer in [answers.1, answers.2, answers.3, answers.4] {
        assert_eq!(answer.reading, Reading::Unknown, "{}", answer.text);
        assert!(answer.text.contains(silent), "{}", answer.text);
    }
}

/// An authoritative server that answers with an alias into the zone of somebody else has answered; what it is asked for
/// beyond its zone, it refuses.
#[tokio::test]
async fn an_alias_out_of_the_zone_is_an_answer() {
    let address = closed_port().await;
    let port = format!("--port={}", address.port());
    let _server = Program::start(
        "dnsmasq",
        &[
            "--no-daemon",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            &port,
            "--auth-server=ns.shop.example,127.0.0.1",
            "--auth-zone=shop.example",
            "--host-record=shop.example,192.0.2.1",
            "--cname=www.shop.example,cdn.other.example",
            "--srv-host=_sip._tcp.shop.example,sip.shop.example,5060,10,20",
            "--caa-record=shop.example,0,issue,letsencrypt.org",
        ],
    );
    listening(address).await;
    let net = plain();
    let alias = format!("{address} answers NOERROR: `www.shop.example` is an alias (CNAME) for `cdn.other.example.`");
    let cases = [
        ("domain = \"www.shop.example\"", Reading::Up, Some(0), alias.clone()),
        ("domain = \"www.shop.example\"\nexpect = \"192.0.2.1\"", Reading::Down, Some(0), alias),
        (
            "domain = \"www.shop.example\"\ntype = \"CNAME\"\nexpect = \"cdn.other.example\"",
            Reading::Up,
            Some(1),
            format!("{address} answers NOERROR, 1 CNAME record: cdn.other.example."),
        ),
        (
            "domain = \"shop.example\"",
            Reading::Up,
            Some(1),
            format!("{address} answers NOERROR, 1 A record: 192.0.2.1"),
        ),
        (
            "domain = \"_sip._tcp.shop.example\"\ntype = \"SRV\"\nexpect = \"sip.shop.example\"",
            Reading::Up,
            Some(1),
            "1 SRV record: 10 20 5060 sip.shop.example.".to_owned(),
        ),
        (
            "domain = \"_sip._tcp.shop.example\"\ntype = \"SRV\"\nexpect = [\"10 20 5060 sip.shop.example.\", \"shop.example\"]",
            Reading::Down,
            Some(1),
            "no SRV record holds shop.example".to_owned(),
        ),
        (
            "domain = \"shop.example\"\ntype = \"CAA\"\nexpect = \"letsencrypt.org\"",
            Reading::Up,
            Some(1),
            "1 CAA record: 0 issue \"letsencrypt.org\"".to_owned(),
        ),
        (
            "domain = \"shop.example\"\ntype = \"SOA\"\nexpect = \"ns.shop.example\"",
            Reading::Up,
            Some(1),
            "1 SOA record: ns.shop.example. ".to_owned(),
        ),
        (
            "domain = \"none.shop.example\"",
            Reading::Down,
            None,
            format!("the name `none.shop.example` does not exist (NXDOMAIN), says {address}"),
        ),
        (
            "domain = \"cdn.other.example\"",
            Reading::Down,
            None,
            format!("the name server {address} answers REFUSED for `cdn.other.example`"),
        ),
    ];
    for (table, reading, value, text) in cases {
        let answer = ask(&net, "dns", &format!("{table}\nserver = \"{address}\"")).await;
        assert_eq!((answer.reading, answer.value), (reading, value), "{table}: {}", answer.text);
        assert!(answer.text.contains(&text), "{table}: `{text}` in: {}", answer.text);
    }
    // The name of an address, by the name server of everybody else.
    let recursive = closed_port().await;
    let port = format!("--port={}", recursive.port());
    let _other = Program::start(
        "dnsmasq",
        &[
            "--no-daemon",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            &port,
            "--ptr-record=7.2.0.192.in-addr.arpa,mx.shop.example",
        ],
    );
    listening(recursive).await;
    for domain in ["192.0.2.7", "7.2.0.192.in-addr.arpa"] {
        let table =
            format!("domain = \"{domain}\"\ntype = \"PTR\"\nserver = \"{recursive}\"\nexpect = \"mx.shop.example\"");
        let answer = ask(&net, "dns", &table).await;
        assert_eq!(answer.reading, Reading::Up, "{domain}: {}", answer.text);
    }
    // Beside one that is silent, the other's word counts.
    #[expect(clippy::disallowed_methods, reason = "the test needs a port on which nobody answers")]
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let both = format!("domain = \"shop.example\"\nserver = [\"{silent}\", \"{address}\"]");
    let answer = ask(&net, "dns", &both).await;
    assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
    assert!(answer.text.starts_with(&address.to_string()), "{}", answer.text);
}
