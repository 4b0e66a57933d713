use super::*;

/// `/proc/net` of a machine of either byte order.
fn v4(address: &str) -> String {
    format!("{:08X}", u32::from_ne_bytes(address.parse::<Ipv4Addr>().expect("an address").octets()))
}

fn v6(address: &str) -> String {
    let bytes = address.parse::<Ipv6Addr>().expect("an address").octets();
    let numbers: Vec<_> = bytes.chunks(4).map(|four| u32::from_ne_bytes(four.try_into().expect("four"))).collect();
    format!("{:08X}{:08X}{:08X}{:08X}", numbers[0], numbers[1], numbers[2], numbers[3])
}

fn socket_line(ours: &str, peer: &str, state: &str) -> String {
    let end = |end: &str| {
        let end: SocketAddr = end.parse().expect("an end");
        let address = end.ip().to_string();
        format!("{}:{:04X}", if end.is_ipv6() { v6(&address) } else { v4(&address) }, end.port())
    };
    format!("   0: {} {} {state} 00000000:00000000 00:00000000 00000000     0        0 20531 1", end(ours), end(peer))
}

fn addresses<const N: usize>(all: [&str; N]) -> BTreeSet<IpAddr> {
    all.map(|address| address.parse().expect("an address")).into()
}

#[test]
fn the_facts_of_a_host_are_read() {
    let root = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &[u8]| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    assert_eq!(HostFacts::read(root.path()), HostFacts::default(), "nothing can be read");
    let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n        \
                |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.7\n           /32 host LOCAL\n        \
                |-- 192.0.2.255\n           /32 link BROADCAST\n";
    write("proc/net/fib_trie", trie.as_bytes());
    write("proc/net/if_inet6", b"20010db8000000000000000000000007 02 40 00 80     eth0\n");
    let header = "Iface Destination Gateway Flags\n";
    write(
        "proc/net/route",
        format!("{header}eth0 00000000 {} 0003\neth0 {} 00000000 0001\n", v4("192.0.2.1"), v4("192.0.2.0")).as_bytes(),
    );
    let (any, router) = ("0".repeat(32), "fe800000000000000000000000000001");
    write(
        "proc/net/ipv6_route",
        format!("{any} 00 {any} 00 {router} 00000400 0 0 3 eth0\n{any} 00 {any} 00 {any} ffffffff 1 0 200200 lo\n")
            .as_bytes(),
    );
    write(
        "etc/resolv.conf",
        b"# of the provider\nnameserver 192.0.2.53\nnameserver fe80::53%eth0\nsearch example.org\n",
    );
    write("run/systemd/sessions/3", b"UID=0\nREMOTE=1\nREMOTE_HOST=198.51.100.1\n");
    let mut record = vec![0; 384];
    record[0] = 7;
    record[348..352].copy_from_slice(&[198, 51, 100, 2]);
    write("run/utmp", &record);
    let facts = HostFacts::read(root.path());
    assert_eq!(facts.own, addresses(["192.0.2.7", "2001:db8::7"]));
    assert_eq!(facts.gateways, addresses(["192.0.2.1", "fe80::1"]));
    assert_eq!(facts.name_servers, addresses(["192.0.2.53", "fe80::53"]));
    assert_eq!(facts.logged_in, addresses(["198.51.100.1", "198.51.100.2"]));
}

#[test]
fn this_host_has_its_own_addresses() {
    let facts = HostFacts::read(Path::new("/"));
    assert!(facts.own.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{facts:?}");
}

/// A connection to sshd is a session when somebody is known to be logged in, or when sshd would have ended it otherwise. One
/// that tries passwords is none.
#[test]
fn a_session_is_told_from_an_attempt() {
    let facts = |lines: &[(&str, &str, &str)], logged_in: BTreeSet<IpAddr>| {
        let text: String = lines.iter().map(|(ours, peer, state)| socket_line(ours, peer, state) + "\n").collect();
        HostFacts { connections: accepted(&text), logged_in, ..HostFacts::default() }
    };
    let listening = ("0.0.0.0:22", "0.0.0.0:0", "0A");
    let old = ("192.0.2.7:22", "198.51.100.1:5000", "01");
    let mapped = ("[::ffff:192.0.2.7]:22", "[::ffff:198.51.100.2]:5000", "01");
    let outgoing = ("192.0.2.7:40000", "203.0.113.1:22", "01");
    let closing = ("192.0.2.7:22", "198.51.100.9:5000", "06");
    let at = |seconds: i64| Monotonic(seconds * 1_000_000);
    let mut sessions = Sessions::new(SshSettings::default());
    let first = facts(&[listening, old, outgoing, closing], BTreeSet::new());
    assert_eq!(sessions.look(&first, at(0)), addresses(["198.51.100.1"]), "there at the first look");
    let second = facts(&[listening, old, mapped], BTreeSet::new());
    assert_eq!(sessions.look(&second, at(10)), addresses(["198.51.100.1"]), "an attempt, so far");
    assert_eq!(sessions.look(&second, at(100)), addresses(["198.51.100.1"]));
    assert_eq!(
        sessions.look(&second, at(161)),
        addresses(["198.51.100.1", "198.51.100.2"]),
        "sshd would have ended it"
    );
    let third = facts(&[listening, mapped], BTreeSet::new());
    assert_eq!(sessions.look(&third, at(162)), addresses(["198.51.100.2"]));
    let fourth = facts(&[listening, old], addresses(["198.51.100.1", "203.0.113.77"]));
    assert_eq!(
        sessions.look(&fourth, at(163)),
        addresses(["198.51.100.1"]),
        "logind knows them, and there is a connection"
    );
}

#[test]
fn the_settings_of_sshd_are_read() {
    let mut settings = SshSettings::default();
    settings.add("# Port 1\nPort 2222\n\tport=2200\nListenAddress 192.0.2.1:2201\nListenAddress [::]:2202\nListenAddress ::1\nLoginGraceTime 1m30s\n");
    assert_eq!(settings.ports, BTreeSet::from([22, 2200, 2201, 2202, 2222]));
    assert_eq!(settings.login_grace, Some(Span::from_secs(120)), "the longest");
    settings.add("LoginGraceTime 10m\n");
    assert_eq!(settings.login_grace, Some(Span::from_secs(600)));
    settings.add("LoginGraceTime 0\n");
    settings.add("LoginGraceTime 20\n");
    assert_eq!(settings.login_grace, None);
}
