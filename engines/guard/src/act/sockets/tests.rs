use super::*;
use crate::act::test_net::{HOST4, HOST6, OPERATOR4, OPERATOR6, TestNet, tcp_server};

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).expect("short");
    let mut message = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], body].concat();
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

/// A socket of IPv4 with a timer and attributes.
fn socket(timer: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut socket = vec![2, 1, timer, 0];
    socket.extend([0, 22, 0x13, 0x88]);
    socket.extend([[192, 0, 2, 7], [0; 4], [0; 4], [0; 4]].concat());
    socket.extend([[198, 51, 100, 1], [0; 4], [0; 4], [0; 4]].concat());
    socket.extend([0; 12]);
    for number in [7_199_000_u32, 0, 0, 0, 4711] {
        socket.extend(number.to_ne_bytes());
    }
    for (kind, value) in attributes {
        socket.extend(u16::try_from(4 + value.len()).expect("short").to_ne_bytes());
        socket.extend(kind.to_ne_bytes());
        socket.extend(*value);
        socket.resize(socket.len().next_multiple_of(4), 0);
    }
    socket
}

#[test]
fn an_answer_comes_in_parts_and_may_be_of_no_use() {
    let told = message(SOCK_DIAG_BY_FAMILY, 0, &socket(2, &[(8, &[0]), (INET_DIAG_TOS, &[0x12])]));
    let bare = message(SOCK_DIAG_BY_FAMILY, 0, &socket(1, &[]));
    let mut answer = Answer::default();
    answer.take(&[told.clone(), bare].concat()).expect("two sockets");
    assert!(!answer.is_done);
    answer.take(&message(NLMSG_DONE, 0, &[0; 4])).expect("the end");
    assert!(answer.is_done && !answer.is_interrupted);
    let [one, other] = &answer.rows[..] else { panic!("two sockets") };
    assert_eq!((one.ours.to_string(), one.peer.to_string()), ("192.0.2.7:22".into(), "198.51.100.1:5000".into()));
    assert_eq!((one.state, one.user, one.has_process), (1, 0, true));
    assert_eq!((one.traffic_class, one.keepalive_left_ms), (Some(0x12), Some(7_199_000)));
    assert_eq!((other.traffic_class, other.keepalive_left_ms), (None, None), "another timer");

    // Something changed while it was told.
    let mut answer = Answer::default();
    answer.take(&message(NLMSG_DONE, NLM_F_DUMP_INTR, &[0; 4])).expect("the end");
    assert!(answer.is_interrupted);
    // The kernel has no such thing.
    let refused = message(NLMSG_ERROR, 0, &(-2_i32).to_ne_bytes());
    assert_eq!(Answer::default().take(&refused), Err(Errno::NOENT));
    // What is cut off anywhere is no answer, and nothing worse.
    for length in 0..told.len() {
        let mut answer = Answer::default();
        assert!(answer.take(&told[..length]).is_err() || answer.rows.is_empty(), "{length}");
    }
    assert_eq!(Answer::default().take(&message(SOCK_DIAG_BY_FAMILY, 0, &[0; 8])).err(), Some(Errno::BADMSG));
    let mut draws = drawn::Draws::from_environment();
    for _ in 0..20_000 {
        let mut damaged = told.clone();
        for _ in 0..3 {
            let at = draws.below(damaged.len());
            damaged[at] = draws.pick(&[0, 1, 3, 4, 255]);
        }
        Answer::default().take(&damaged).ok();
    }
}

/// What programs set on what they accept is told, of both families, and of IPv4 on a socket of IPv6; nothing that a peer sends is, but
/// with the setting that says so, nor what other users accept.
#[test]
fn the_kernel_tells_how_sockets_are_marked_and_since_when() {
    let net = TestNet::new();
    let _server = net.serve(
        "import selectors, socket
s = selectors.DefaultSelector()
six = lambda port: socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True)
s.register(six(2000), 1, False); s.register(six(2001), 1, True)
kept = []
print('ready', flush=True)
while True:
    for key, _ in s.select():
        c = key.fileobj.accept()[0]; kept.append(c)
        if key.data:
            v4 = c.getpeername()[0].startswith('::ffff:')
            c.setsockopt(*((socket.IPPROTO_IP, socket.IP_TOS) if v4 else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)), 0xb8)
            c.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        c.sendall(b'hello')",
    );
    let _of_nobody = net.serve(&format!("import os, selectors, socket\nos.setuid(65534)\n{}", tcp_server(&[2002])));
    let connect = |peer_asks_for: &str| {
        net.start_outside(&format!(
            "import socket, subprocess, time
subprocess.check_call(['sysctl', '-qw', 'net.ipv4.tcp_ecn=1'])
def connect(to, source, port):
    c = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET)
    c.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if ':' in to else (socket.IPPROTO_IP, socket.IP_TOS)), {peer_asks_for})
    c.settimeout(20); c.bind((source, 0)); c.connect((to, port))
    if port != 2002: c.sendall(b'x'); c.recv(9)
    return c
ends = [connect(*e, port) for e in [('{HOST4}', '{OPERATOR4}'), ('{HOST6}', '{OPERATOR6}')] for port in (2000, 2001, 2002)]
print('ready', flush=True)
time.sleep(1000)"
        ))
    };
    let told = || net.on_thread_of_host(|| Sockets::told(Path::new("/")).expect("the kernel tells"));
    let dscp = |sockets: &Sockets| -> Vec<(String, u16, Option<u8>, bool)> {
        let of = |((ours, peer), socket): (&Connection, &Socket)| {
            (peer.ip().to_string(), ours.port(), socket.dscp, socket.kept_alive.is_some())
        };
        sockets.accepted.iter().map(of).collect()
    };
    let expected = |unmarked: Option<u8>, marked: Option<u8>| {
        [OPERATOR4, OPERATOR6]
            .map(|peer| [(peer.to_owned(), 2000, unmarked, false), (peer.to_owned(), 2001, marked, true)])
            .concat()
    };
    let began = uptime(Path::new("/"));
    let peers = connect("0xb8");
    let sockets = told();
    assert_eq!(dscp(&sockets), expected(Some(0), Some(46)));
    assert!(!sockets.is_cut);
    assert!(sockets.listening.contains(&(2000, Some(0))) && sockets.listening.contains(&(2002, Some(0))));
    let now = uptime(Path::new("/"));
    for (from, to) in sockets.accepted.values().filter_map(|socket| socket.kept_alive) {
        assert!(began <= to + 2 && from <= to && to <= now, "{began} {from} {to} {now}");
    }
    drop(peers);
    // A peer decides it: nothing is told of it.
    assert!(net.on_host(&["sysctl", "-qw", "net.ipv4.tcp_reflect_tos=1"]).status.success());
    let _peers = connect("0xb8");
    let now: Vec<_> = dscp(&told()).into_iter().collect();
    assert!(now.iter().all(|(_, _, dscp, _)| dscp.is_none()), "{now:?}");
    // It would be told.
    assert!(net.on_host(&["sysctl", "-qw", "net.ipv4.tcp_reflect_tos=0"]).status.success());
    assert!(dscp(&told()).iter().any(|(_, port, dscp, _)| *port == 2000 && *dscp == Some(46)));
}
