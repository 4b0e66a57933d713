//! Real scans, in namespaces of their own.

use crate::act::test_net::{HOST4, HOST6, OPERATOR4, OPERATOR6, OTHER4, OTHER6, TestNet, tcp_server};
use crate::act::{Firewall as _, Missed, Nft, Scans, Wanted};

const SERVER_OF_UDP: &str = "import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 53)); print('ready', flush=True)
while True:
    data, peer = s.recvfrom(9000); s.sendto(data, peer)";

/// Asks for closed ports from `from`, one after the other; how many were answered (refused) before the first that was dropped.
fn scan(hosts: &TestNet, from: &str, kind: &str, ports: &str) -> u32 {
    let (to, family) = if from.contains(':') { (HOST6, "AF_INET6") } else { (HOST4, "AF_INET") };
    let answered = hosts.outside(&format!(
        "import socket
n = 0
for port in {ports}:
    s = socket.socket(socket.{family}, socket.{kind}); s.bind(('{from}', 0)); s.settimeout(2)
    try:
        s.connect(('{to}', port)); s.send(b'x'); s.recv(1)
    except ConnectionRefusedError: n += 1
    except TimeoutError: break
    s.close()
print(n)"
    ));
    answered.parse().expect("a number")
}

async fn guarded(hosts: &TestNet) -> Nft {
    // The kernel answers only so many closed ports of UDP and IPv6 a second; a test wants to see all.
    for line in [
        "net.ipv4.icmp_ratelimit=0",
        "net.ipv6.icmp.ratelimit=0",
        "net.ipv4.icmp_ratemask=0",
        "net.ipv4.icmp_msgs_per_sec=10000",
        "net.ipv4.icmp_msgs_burst=10000",
    ] {
        hosts.on_host(&["sysctl", "-qw", line]);
    }
    let nft = Nft::new(hosts.programs());
    let allow = [OPERATOR4, OPERATOR6].map(|address| address.parse::<std::net::IpAddr>().expect("an address").into());
    nft.replace(&Wanted { allow: allow.into(), scans: Some(Scans::default()), ..Wanted::default() })
        .await
        .expect("made");
    nft
}

#[tokio::test]
async fn a_scan_is_banned_within_20_ports() {
    for (from, kind) in
        [(OTHER4[0], "SOCK_STREAM"), (OTHER4[0], "SOCK_DGRAM"), (OTHER6[0], "SOCK_STREAM"), (OTHER6[0], "SOCK_DGRAM")]
    {
        let hosts = TestNet::new();
        let _server = hosts.serve(&tcp_server(&[22]));
        let nft = guarded(&hosts).await;
        assert_eq!(nft.scanned().await.expect("read"), []);
        let answered = scan(&hosts, from, kind, "range(1000, 1100)");
        assert!((10..=20).contains(&answered), "{from} {kind}: {answered} ports were answered");
        hosts.expect(from, 22, "dropped"); // an open port too
        let scanned = nft.scanned().await.expect("read");
        let [(network, left)] = scanned[..] else { panic!("{scanned:?}") };
        assert!(network.contains(&from.parse::<std::net::IpAddr>().expect("an address")), "{network}");
        assert_eq!(network.prefix_len(), if from.contains(':') { 64 } else { 32 });
        assert!((3500..=3601).contains(&left.secs()), "{left}");
    }
}

/// Asks for ports from one address of the network of [`OTHER6`] after the other; how many were answered before the first that was
/// dropped.
fn scan_hopping(hosts: &TestNet, kind: &str, ports: &str) -> u32 {
    let answered = hosts.outside(&format!(
        "import socket, subprocess
own = [f'fd99:0:0:3::{{number + 256:x}}' for number in range(100)]
added = ''.join(f'addr replace {{address}}/48 dev veth1 nodad\\n' for address in own)
subprocess.run(['ip', '-batch', '-'], input=added, text=True, check=True)
n = 0
for address, port in zip(own, {ports}):
    s = socket.socket(socket.AF_INET6, socket.{kind}); s.bind((address, 0)); s.settimeout(2)
    try:
        s.connect(('{HOST6}', port)); s.send(b'x'); s.recv(1)
    except ConnectionRefusedError: n += 1
    except TimeoutError: break
    s.close()
print(n)"
    ));
    answered.parse().expect("a number")
}

/// Who asks for each port from another address of their network is one source, and so is a network all of whose machines ask for
/// the same closed port.
#[tokio::test]
async fn a_network_of_ipv6_is_one_source() {
    for kind in ["SOCK_STREAM", "SOCK_DGRAM"] {
        let hosts = TestNet::new();
        let _server = hosts.serve(&tcp_server(&[22]));
        let nft = guarded(&hosts).await;
        assert_eq!(scan_hopping(&hosts, kind, "[445] * 100"), 100, "{kind}");
        assert_eq!(nft.scanned().await.expect("read"), []);
        let answered = scan_hopping(&hosts, kind, "range(1000, 1100)");
        assert!((10..=20).contains(&answered), "{kind}: {answered} ports were answered");
        hosts.expect(OTHER6[1], 22, "dropped");
        hosts.expect(OPERATOR6, 22, "open");
        let networks: Vec<_> = nft.scanned().await.expect("read").into_iter().map(|(network, _)| network).collect();
        assert_eq!(networks, ["fd99:0:0:3::/64".parse().expect("a network")], "{kind}");
    }
}

#[tokio::test]
async fn who_is_allowed_scans_as_much_as_they_like() {
    let hosts = TestNet::new();
    let nft = guarded(&hosts).await;
    for from in [OPERATOR4, OPERATOR6] {
        assert_eq!(scan(&hosts, from, "SOCK_STREAM", "range(1000, 1100)"), 100, "{from}");
        assert_eq!(scan(&hosts, from, "SOCK_DGRAM", "range(1000, 1100)"), 100, "{from}");
    }
    assert_eq!(nft.scanned().await.expect("read"), []);
}

/// Somebody who has a connection over which they sent data is no scanner, however many ports they ask for; nor is one who asks
/// for the same few ports again and again, or for many that are open.
#[tokio::test]
async fn who_uses_this_host_is_no_scanner() {
    let hosts = TestNet::new();
    let open: Vec<u16> = (3000..3060).collect();
    let _server = hosts.serve(&tcp_server(&open));
    let _names = hosts.serve(SERVER_OF_UDP);
    let nft = guarded(&hosts).await;
    for from in [OTHER4[0], OTHER6[0]] {
        let to = if from.contains(':') { HOST6 } else { HOST4 };
        let all = format!(
            "import socket\nfor port in {open:?}: socket.create_connection(('{to}', port), 2, ('{from}', 0)).close()"
        );
        assert_eq!(hosts.outside(&all), "");
        assert_eq!(scan(&hosts, from, "SOCK_STREAM", "[1000, 1001, 1002] * 40"), 120, "{from}");
        let family = if from.contains(':') { "AF_INET6" } else { "AF_INET" };
        let answered = hosts.outside(&format!(
            "import socket
c = socket.create_connection(('{to}', 3000), 2, ('{from}', 0)); c.send(b'GET')
n = 0
for port in range(1000, 1100):
    s = socket.socket(socket.{family}); s.bind(('{from}', 0)); s.settimeout(2)
    try: s.connect(('{to}', port))
    except ConnectionRefusedError: n += 1
    except TimeoutError: break
print(n)"
        ));
        assert_eq!(answered, "100", "{from}");
    }
    assert_eq!(nft.scanned().await.expect("read"), []);
}

/// A flood of forged senders: the kernel bans as many in a minute as it was told to, and no more.
#[tokio::test]
async fn forged_senders_get_few_banned() {
    let hosts = TestNet::new();
    let nft = guarded(&hosts).await;
    hosts.outside(&format!(
        "import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def packet(source, port):
    # The kernel fills in the checksum of IP; that of TCP is not looked at before `input`.
    tcp = struct.pack('!HHIIBBHHH', 1234, port, 0, 0, 0x50, 2, 1000, 0, 0)
    return struct.pack('!BBHHHBBH4s4s', 0x45, 0, 40, 0, 0, 64, 6, 0, source, socket.inet_aton('{HOST4}')) + tcp
for n in range(150):
    for port in range(2000, 2020): s.sendto(packet(bytes([10, 99, 9, n + 1]), port), ('{HOST4}', 0))"
    ));
    let banned = nft.scanned().await.expect("read").len();
    assert!((1..=70).contains(&banned), "{banned} of 150");
    assert!(nft.missed().await.expect("read").unbanned > 0);
}

/// A flood of forged senders fills what the kernel remembers of one protocol: that is told, and scans over the other one are banned
/// all the same. So is what is over the bound of bans in a minute.
#[tokio::test]
async fn a_flood_of_forged_senders_is_told_and_blinds_its_own_protocol_alone() {
    let hosts = TestNet::new();
    for name in ["all", "veth0"] {
        hosts.on_host(&["sysctl", "-qw", &format!("net.ipv4.conf.{name}.rp_filter=0")]);
    }
    let nft = guarded(&hosts).await;
    assert_eq!(nft.missed().await.expect("read"), Missed::default());
    hosts.outside(&format!(
        "import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
to = socket.inet_aton('{HOST4}')
for n in range(7000):
    source = struct.pack('!I', 0xc6120000 + n)
    for port in range(2000, 2010):
        udp = struct.pack('!HHHH', 1234, port, 8, 0)
        head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 0, 0, 64, 17, 0, source, to)
        s.sendto(head + udp, ('{HOST4}', 0))"
    ));
    let missed = nft.missed().await.expect("read");
    assert!(missed.udp > 0 && missed.tcp == 0 && missed.unbanned == 0, "{missed:?}");
    // Bans wait for what is listed of their table, and nothing in it grows with the flood.
    let listed = hosts.nft("list table inet garant");
    assert!(listed.lines().count() < 200, "{} lines", listed.lines().count());
    assert_eq!(nft.scanned().await.expect("read"), []);
    let answered = scan(&hosts, OTHER4[0], "SOCK_STREAM", "range(1000, 1100)");
    assert!((10..=20).contains(&answered), "{answered} ports were answered");
}
