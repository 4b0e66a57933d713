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

pub(in crate::act) fn socket_line(ours: &str, peer: &str, state: &str) -> String {
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
        format!(
            "{header}eth0 00000000 {} 0003\neth0 {} 00000000 0001\neth0 {} {} 0003\n",
            v4("192.0.2.1"),
            v4("192.0.2.0"),
            v4("203.0.113.0"),
            v4("192.0.2.9")
        )
        .as_bytes(),
    );
    let (any, router) = ("0".repeat(32), "fe800000000000000000000000000001");
    write(
        "proc/net/ipv6_route",
        format!(
            "{any} 00 {any} 00 {router} 00000400 0 0 3 eth0\n{any} 00 {any} 00 {any} ffffffff 1 0 200200 lo\n\
             20010db8000000000000000000000000 20 {any} 00 fe800000000000000000000000000009 00000400 0 0 3 eth0\n"
        )
        .as_bytes(),
    );
    write(
        "etc/resolv.conf",
        b"# of the provider\nnameserver 192.0.2.53\nnameserver fe80::53%eth0\nsearch example.org\n",
    );
    write(
        "run/systemd/sessions/3",
        b"UID=0\nREMOTE=1\nREMOTE_HOST=198.51.100.1\nSERVICE=sshd\nSTATE=active\nLEADER=812\n",
    );
    write(
        "run/systemd/sessions/4",
        b"UID=0\nREMOTE=1\nREMOTE_HOST=198.51.100.3\nSERVICE=vsftpd\nSTATE=active\nLEADER=813\n",
    );
    write(
        "run/systemd/sessions/5",
        b"UID=0\nREMOTE=1\nREMOTE_HOST=198.51.100.4\nSERVICE=sshd\nSTATE=closing\nLEADER=814\n",
    );
    let mut record = vec![0; 384];
    record[0] = 7;
    record[8..13].copy_from_slice(b"pts/3");
    record[348..352].copy_from_slice(&[198, 51, 100, 2]);
    let mut of_ftp = record.clone();
    of_ftp[8..18].copy_from_slice(b"vsftpd:812");
    of_ftp[351] = 5;
    let mut left_over = record.clone();
    (left_over[4], left_over[351]) = (9, 6);
    record[4] = 8;
    write("run/utmp", &[record, of_ftp, left_over].concat());
    write("proc/1/stat", b"1 (init)");
    write("proc/8/stat", b"8 (sshd)");
    let facts = HostFacts::read(root.path());
    assert_eq!(facts.own, addresses(["192.0.2.7", "2001:db8::7"]));
    assert_eq!(facts.gateways, addresses(["192.0.2.1", "192.0.2.9", "fe80::1", "fe80::9"]));
    assert_eq!(facts.name_servers, addresses(["192.0.2.53", "fe80::53"]));
    assert_eq!(facts.logged_in, addresses(["198.51.100.1", "198.51.100.2"]), "none of FTP, none that is over");
    assert_eq!(facts.leaders, BTreeMap::from([(812, "198.51.100.1".parse().expect("an address"))]));
}

#[test]
fn this_host_has_its_own_addresses() {
    let facts = HostFacts::read(Path::new("/"));
    assert!(facts.own.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{facts:?}");
}

#[test]
fn the_settings_of_sshd_are_read() {
    let mut settings = SshSettings::default();
    settings.add(
        "# Port 1\nPort 2222\n\tport=2200\nListenAddress 192.0.2.1:2201\nListenAddress [::]:2202\nListenAddress ::1\n",
    );
    assert_eq!(settings.ports, BTreeSet::from([22, 2200, 2201, 2202, 2222]));
}
