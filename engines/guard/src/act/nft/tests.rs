//! The real `nft`, real packets, in namespaces of their own.

use std::collections::BTreeMap;

use event::Span;
use ipnet::IpNet;

use super::owner::Owner;
use crate::act::test_net::{HOST4, HOST6, OPERATOR4, OPERATOR6, OTHER4, OTHER6, TestNet, put_script, tcp_server};
use crate::act::{Firewall as _, FirewallError, Hold, Lasting, Missed, Nft, Ports, Protocol, Scans, Wanted};

fn net(text: &str) -> IpNet {
    text.parse::<IpNet>().unwrap_or_else(|_| text.parse::<std::net::IpAddr>().expect(text).into())
}

fn hold(network: &str) -> Hold {
    Hold { network: net(network), ports: Ports::All }
}

fn holds(all: impl IntoIterator<Item = (Hold, Lasting)>) -> BTreeMap<Hold, Lasting> {
    all.into_iter().collect()
}

fn minutes(minutes: i64) -> Lasting {
    Some(Span::from_secs(60 * minutes))
}

fn operator() -> Wanted {
    Wanted { allow: vec![net(OPERATOR4), net(OPERATOR6)], ..Wanted::default() }
}

#[tokio::test]
async fn bans_drop_packets_of_an_address_a_64_a_network_and_some_ports() {
    let hosts = TestNet::new();
    let _server = hosts.serve(&tcp_server(&[22, 80]));
    let nft = Nft::new(hosts.programs());
    assert!(
        matches!(nft.ban(&holds([(hold(OTHER4[0]), None)])).await, Err(FirewallError::Gone)),
        "nothing was made yet"
    );
    assert!(!nft.is_present(true).await.expect("read"));
    nft.replace(&operator()).await.expect("made");
    assert!(nft.is_present(true).await.expect("read"));
    hosts.expect(OTHER4[0], 22, "open");

    let ssh = Ports::some(Protocol::Tcp, [(22, 22), (2222, 2300)]).expect("ports");
    let some = Hold { network: net(OTHER4[0]), ports: ssh };
    let bans = holds([(some.clone(), minutes(10)), (hold("fd99:0:0:3::/64"), None)]);
    nft.ban(&bans).await.expect("banned");
    hosts.expect(OTHER4[0], 22, "dropped");
    hosts.expect(OTHER4[0], 80, "open");
    hosts.expect(OTHER6[0], 80, "dropped");
    hosts.expect(OTHER6[1], 80, "dropped"); // another address of its /64
    hosts.expect(OPERATOR6, 80, "open");

    nft.ban(&holds([(hold("10.99.1.0/24"), minutes(1))])).await.expect("banned");
    hosts.expect(OTHER4[1], 80, "dropped");
    nft.unban(&[hold("10.99.1.0/24"), hold("192.0.2.1"), some]).await.expect("unbanned");
    hosts.expect(OTHER4[1], 80, "open");
    hosts.expect(OTHER4[0], 22, "open");
    nft.lists(&[net("10.99.1.0/25"), net("10.99.1.0/24"), net("2001:db8::/32")]).await.expect("listed");
    hosts.expect(OTHER4[1], 80, "dropped");
    let held = nft.read().await.expect("read").expect("there");
    assert_eq!(held.lists, [net("10.99.1.0/24"), net("2001:db8::/32")]);
    assert_eq!(held.bans, holds([(hold("fd99:0:0:3::/64"), None)]));
    assert!(held.intact);
    nft.lists(&[]).await.expect("listed");
    hosts.expect(OTHER4[1], 80, "open");
    nft.remove().await.expect("removed");
    nft.remove().await.expect("nothing is left to remove");
    assert_eq!(nft.read().await.expect("read"), None);
    hosts.expect(OTHER6[0], 80, "open");
}

/// Whatever is banned, the operator is let in: what is allowed is looked up first.
#[tokio::test]
async fn the_operator_is_let_in_whatever_is_banned() {
    let hosts = TestNet::new();
    let _server = hosts.serve(&tcp_server(&[22]));
    let nft = Nft::new(hosts.programs());
    let bans = [OPERATOR4, "10.99.0.0/16", OPERATOR6, "fd99:0:0:2::/64", "fd99::/32", HOST4, HOST6];
    let bans = holds(bans.map(|network| (hold(&net(network).trunc().to_string()), None)));
    let wanted = Wanted { bans, lists: vec![net("10.0.0.0/8"), net("fd00::/8")], ..operator() };
    nft.replace(&wanted).await.expect("made");
    for (from, expected) in [(OPERATOR4, "open"), (OPERATOR6, "open"), (OTHER4[0], "dropped"), (OTHER6[0], "dropped")] {
        hosts.expect(from, 22, expected);
    }
    nft.allow(&[net("10.99.0.3")]).await.expect("allowed");
    hosts.expect(OTHER4[0], 22, "open");
}

/// What the tables of others close stays closed, for those whom we allow too; and they are left as they are, also when ours is
/// made, changed and removed.
#[tokio::test]
async fn tables_of_others_close_what_they_close_and_are_left_alone() {
    let hosts = TestNet::new();
    let _server = hosts.serve(&tcp_server(&[22, 8080]));
    // As ufw (iptables-nft), firewalld and Docker have it.
    hosts.nft(
        "table ip filter {
           chain INPUT { type filter hook input priority filter; policy drop; tcp dport 22 accept
           }
         }
         table ip6 filter {
           chain INPUT { type filter hook input priority filter; policy drop; tcp dport 22 accept
             icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
           }
         }
         table inet firewalld {
           set known { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1d }; }
           chain pre { type filter hook prerouting priority mangle + 10; policy accept; ip saddr @known drop
           }
         }
         table ip nat {
           chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; tcp dport 80 redirect to :22
           }
         }",
    );
    let others = || {
        let listed = ["ip filter", "ip6 filter", "inet firewalld", "ip nat"]
            .map(|table| hosts.nft(&format!("list table {table}")));
        let counted =
            |text: String| text.lines().filter(|line| !line.contains("expires")).map(str::to_owned).collect::<Vec<_>>();
        listed.map(counted)
    };
    let before = others();
    let nft = Nft::new(hosts.programs());
    nft.replace(&Wanted { scans: Some(Scans::default()), ..operator() }).await.expect("made");
    for from in [OPERATOR4, OPERATOR6] {
        hosts.expect(from, 22, "open");
        hosts.expect(from, 8080, "dropped"); // an accept of ours opens nothing
    }
    hosts.expect(OTHER4[0], 80, "open"); // a port that Docker publishes
    let published = Hold { network: net(OTHER4[0]), ports: Ports::some(Protocol::Tcp, [(80, 80)]).expect("ports") };
    nft.ban(&holds([(published, minutes(1))])).await.expect("banned");
    hosts.expect(OTHER4[0], 80, "dropped"); // before destination NAT, by the port that the sender named
    hosts.expect(OTHER4[0], 22, "open");
    assert_eq!(others(), before);
    nft.remove().await.expect("removed");
    assert_eq!(others(), before);
}

#[tokio::test]
async fn what_was_set_is_read_back_by_another_process() {
    let hosts = TestNet::new();
    let nft = Nft::new(hosts.programs());
    let both = Ports::some(Protocol::Both, [(53, 53), (1000, 2000)]).expect("ports");
    let many = Ports::some(Protocol::Udp, (0..15).map(|n| (10_000 + n * 1000, 10_500 + n * 1000))).expect("ports");
    let bans = holds([
        (hold("192.0.2.1"), minutes(60)),
        (hold("192.0.2.0/24"), None),
        (hold("2001:db8::/64"), minutes(5)),
        (hold("2001:db8::7/128"), Some(Span::from_days(10_000))),
        (Hold { network: net("198.51.100.9"), ports: both }, minutes(1)),
        (Hold { network: net("198.51.100.9"), ports: many }, minutes(1)),
    ]);
    let scans = Scans { ports: 7, window: Span::from_secs(30), ban: Span::from_secs(100), bans_per_minute: 9 };
    let lists = vec![net("203.0.113.0/25"), net("203.0.113.128/26"), net("2001:db8:1::/48")];
    let wanted = Wanted { bans: bans.clone(), lists: lists.clone(), scans: Some(scans.clone()), ..operator() };
    nft.replace(&wanted).await.expect("made");
    let other = Nft::new(hosts.programs());
    let held = other.read().await.expect("read").expect("there");
    assert!(held.intact);
    assert_eq!((held.allow, held.lists, held.scans), (operator().allow, lists, Some(scans)));
    assert_eq!(held.bans.keys().collect::<Vec<_>>(), bans.keys().collect::<Vec<_>>());
    for (hold, left) in &held.bans {
        match (bans[hold], left) {
            (None, None) => {}
            (Some(wanted), Some(left)) => {
                let lost = wanted.min(Span::from_secs(90_000_000)) - *left;
                assert!((-1..30).contains(&lost.secs()), "{hold:?}: {wanted} became {left}");
            }
            other => panic!("{hold:?}: {other:?}"),
        }
    }
    // A time is changed, longer or shorter, in what another process made; a new scope leaves the old rules in place.
    let changed =
        holds([(hold("192.0.2.1"), minutes(1)), (hold("192.0.2.0/24"), minutes(1)), (hold("192.0.0.0/16"), None)]);
    let fresh = Nft::new(hosts.programs());
    fresh.ban(&changed).await.expect("banned");
    let held = fresh.read().await.expect("read").expect("there");
    assert!(held.intact && held.bans.len() == 7);
    for hold in [hold("192.0.2.1"), hold("192.0.2.0/24")] {
        assert!(held.bans[&hold].is_some_and(|left| left < Span::from_secs(62)), "{:?}", held.bans[&hold]);
    }
}

#[tokio::test]
async fn a_change_by_somebody_else_is_noticed() {
    let hosts = TestNet::new();
    let nft = Nft::new(hosts.programs());
    let one = holds([(hold("192.0.2.1"), None)]);
    let wanted = Wanted { bans: one.clone(), ..operator() };
    for (script, gone, intact) in [
        ("flush ruleset", true, false),
        ("delete table inet garant", true, false),
        ("flush table inet garant", false, false),
        ("flush chain inet garant bans", false, false),
        ("insert rule inet garant guard accept", false, false),
        ("flush set inet garant ban4_32_all", false, true),
    ] {
        nft.replace(&wanted).await.expect("made");
        hosts.nft(script);
        // Without any rule it is not there either, whatever its sets hold.
        let is_present = !gone && script != "flush table inet garant";
        assert_eq!(nft.is_present(true).await.expect("read"), is_present, "{script}");
        let held = nft.read().await.expect("read");
        assert_eq!((held.is_none(), held.as_ref().is_some_and(|held| held.intact)), (gone, intact), "{script}");
        if let Some(held) = held {
            assert_eq!(held.bans.is_empty(), script.starts_with("flush set"), "{script}");
        }
        assert_eq!(matches!(nft.ban(&one).await, Err(FirewallError::Gone)), !intact, "{script}");
    }
}

/// What notices scans is in a table of its own, and a change of it by somebody else is noticed too.
#[tokio::test]
async fn a_change_of_the_search_for_scans_is_noticed() {
    let hosts = TestNet::new();
    let nft = Nft::new(hosts.programs());
    let wanted = Wanted { scans: Some(Scans::default()), ..operator() };
    for (script, intact, rules) in [
        ("delete table inet garant_scans", false, false),
        ("flush table inet garant_scans", true, false),
        ("insert rule inet garant_scans guard accept", true, false),
        ("flush set inet garant_scans allow4", false, true),
        ("flush set inet garant_scans peer4", true, true),
    ] {
        nft.replace(&wanted).await.expect("made");
        assert!(nft.has_scan_rules().await.expect("read"), "{script}");
        hosts.nft(script);
        assert_eq!(nft.has_scan_rules().await.expect("read"), rules, "{script}");
        assert_eq!(nft.read().await.expect("read").expect("there").intact, intact, "{script}");
    }
    nft.replace(&operator()).await.expect("made");
    assert_eq!(hosts.nft("list tables").trim(), "table inet garant", "nothing is left of it");
    assert!(nft.has_scan_rules().await.expect("read"));
    assert_eq!(nft.missed().await.expect("read"), Missed::default());
}

#[tokio::test]
async fn a_missing_program_and_a_missing_right_say_what_to_do() {
    let nothing = Nft::new(engine::Programs::in_folders([]));
    let error = nothing.replace(&operator()).await.expect_err("nothing is installed");
    assert!(matches!(error, FirewallError::Missing) && error.to_string().contains("install the package"), "{error}");
    let folder = tempfile::tempdir().expect("a folder");
    let wrapper = folder.path().join("nft");
    let script = "#!/bin/sh\nexec /usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all /usr/sbin/nft \"$@\"\n";
    put_script(script, &wrapper);
    let nobody = Nft::new(engine::Programs::in_folders([folder.path().to_owned()]));
    for error in [nobody.replace(&operator()).await.expect_err("no right"), nobody.read().await.expect_err("no right")]
    {
        assert!(matches!(error, FirewallError::NoRight) && error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    }
}

#[tokio::test]
async fn a_hundred_thousand_bans_are_one_transaction() {
    let hosts = TestNet::new();
    let nft = Nft::new(hosts.programs());
    let bans = holds((0..100_000_u32).map(|n| {
        let address = std::net::Ipv4Addr::from(0x1400_0000 + n * 3).to_string();
        (hold(&address), Some(Span::from_secs(3600 + i64::from(n))))
    }));
    let wanted = Wanted { bans, ..operator() };
    nft.replace(&wanted).await.expect("made");
    let held = nft.read().await.expect("read").expect("there");
    assert!(held.intact);
    assert!(held.bans.keys().eq(wanted.bans.keys()));
    nft.ban(&holds([(hold("192.0.2.1"), minutes(1))])).await.expect("one more");
    nft.replace(&operator()).await.expect("all gone");
    assert_eq!(nft.read().await.expect("read").expect("there").bans.len(), 0);
}

#[tokio::test]
async fn there_is_a_bound_on_everything() {
    let hosts = TestNet::new();
    let nft = Nft::new(hosts.programs());
    nft.replace(&operator()).await.expect("made");
    let scopes = (1..=65).map(|port| {
        let ports = Ports::some(Protocol::Tcp, [(port, port)]).expect("ports");
        (Hold { network: net("192.0.2.1"), ports }, None)
    });
    assert!(matches!(nft.ban(&holds(scopes)).await, Err(FirewallError::TooManyScopes(65, 64))));
    let lists: Vec<_> =
        (0..32_769_u32).map(|n| IpNet::from(std::net::IpAddr::V4(std::net::Ipv4Addr::from(n * 2)))).collect();
    assert!(matches!(nft.lists(&lists).await, Err(FirewallError::TooMany(32_769, 32_768))));
}

/// NH-1: a ban on a port holds on both sides of a translation, whichever the port names: that of a local redirect, and of a container
/// that packets are forwarded to.
#[tokio::test]
async fn a_ban_on_ports_holds_before_and_behind_a_translation() {
    let hosts = TestNet::new();
    let _server = hosts.serve(&tcp_server(&[8080]));
    let _container = hosts.start_outside(&tcp_server(&[9090]));
    assert!(hosts.on_host(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]).status.success());
    let container = OTHER4[1];
    hosts.nft(&format!(
        "table ip nat {{
           chain PREROUTING {{ type nat hook prerouting priority dstnat; policy accept;
             tcp dport 80 redirect to :8080
             tcp dport 90 dnat to {container}:9090
           }}
           chain POSTROUTING {{ type nat hook postrouting priority srcnat; policy accept;
             ip daddr {container} masquerade
           }}
         }}"
    ));
    let nft = Nft::new(hosts.programs());
    nft.replace(&operator()).await.expect("made");
    let (sender, on) = (OTHER4[0], |port| Hold {
        network: net(OTHER4[0]),
        ports: Ports::some(Protocol::Tcp, [(port, port)]).expect("ports"),
    });
    for (port, dropped, open) in [
        (8080, vec![80, 8080], vec![90]),
        (80, vec![80], vec![8080, 90]),
        (9090, vec![90], vec![80]),
        (90, vec![90], vec![80]),
    ] {
        nft.ban(&holds([(on(port), minutes(10))])).await.expect("banned");
        for port in dropped {
            hosts.expect(sender, port, "dropped");
            hosts.expect(OPERATOR4, port, "open");
        }
        for port in open {
            hosts.expect(sender, port, "open");
        }
        assert!(nft.read().await.expect("read").expect("there").intact);
        nft.unban(&[on(port)]).await.expect("unbanned");
    }
    // The operator is let in whatever is banned, behind the translation too.
    let wide = Hold { network: net("10.99.0.0/16"), ..on(8080) };
    nft.ban(&holds([(wide, None)])).await.expect("banned");
    hosts.expect(sender, 80, "dropped");
    hosts.expect(OPERATOR4, 80, "open");
}

/// NH-1: a second agent on one network enforces nothing, and undoes nothing, until the first has ended.
#[tokio::test]
async fn a_table_of_another_process_that_runs_is_left_alone() {
    let hosts = TestNet::new();
    let first = hosts.serve("print('ready', flush=True)\nimport time\ntime.sleep(600)");
    let other = Nft { owner: Owner::of(first.pid()).expect("it runs"), ..Nft::new(hosts.programs()) };
    let bans = holds([(hold(OTHER4[0]), minutes(10))]);
    other.replace(&Wanted { bans: bans.clone(), ..operator() }).await.expect("made");

    let nft = Nft::new(hosts.programs());
    let owned = |error: FirewallError| matches!(error, FirewallError::Owned(pid) if pid == first.pid());
    assert!(owned(nft.is_present(true).await.expect_err("it is of another")));
    assert!(owned(nft.read().await.expect_err("it is of another")));
    assert!(owned(nft.replace(&Wanted::default()).await.expect_err("it is of another")));
    assert!(owned(nft.ban(&holds([(hold(OTHER4[1]), None)])).await.expect_err("it is of another")));
    assert!(owned(nft.remove().await.expect_err("it is of another")));
    assert!(other.is_present(true).await.expect("read"));
    assert_eq!(other.read().await.expect("read").expect("there").bans.len(), 1);

    drop(first);
    assert!(nft.is_present(true).await.expect("it is nobody's"));
    let held = nft.read().await.expect("read").expect("there");
    assert!(held.intact && held.bans.len() == 1, "bans go on: {held:?}");
    nft.ban(&holds([(hold(OTHER4[1]), None)])).await.expect("banned");
    // Whose it is now is written down.
    assert_eq!(nft.read_owner().await.expect("read"), Some(Owner::this()));
    hosts.nft("flush table inet garant");
    assert!(!nft.is_present(true).await.expect("read"), "rules are missing");
}
