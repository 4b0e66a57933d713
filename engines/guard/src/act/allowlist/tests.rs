use drawn::Draws;

use super::*;
use crate::act::HostFacts;

fn net(text: &str) -> IpNet {
    text.parse::<IpNet>().unwrap_or_else(|_| text.parse::<IpAddr>().expect(text).into())
}

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn allowlist() -> Allowlist {
    let mut list = Allowlist::new([net("192.0.2.0/28"), net("2001:db8:aaaa::/48")], Span::from_days(7));
    let own = BTreeSet::from([address("203.0.113.5"), address("2001:db8:5::5")]);
    let gateways = BTreeSet::from([address("203.0.113.1"), address("fe80::1")]);
    let mut facts = HostFacts::default();
    (facts.own, facts.gateways, facts.name_servers) = (own, gateways, BTreeSet::from([address("9.9.9.9")]));
    list.look(&facts, BTreeSet::from([address("198.51.100.1")]), [address("203.0.113.99")]);
    list.logged_in(address("198.51.100.77"), Time::from_secs(1000));
    list
}

#[test]
fn who_is_allowed_is_never_banned() {
    let list = allowlist();
    for (network, why) in [
        ("127.0.0.1", Allowed::Loopback),
        ("::1", Allowed::Loopback),
        ("::ffff:127.9.9.9", Allowed::Loopback),
        ("192.0.2.3", Allowed::Configured),
        ("192.0.0.0/16", Allowed::Configured),
        ("::ffff:192.0.2.3", Allowed::Configured),
        ("2001:db8:aaaa:1::1", Allowed::Configured),
        ("203.0.113.5", Allowed::Own),
        ("203.0.113.4/31", Allowed::Own),
        ("203.0.113.1", Allowed::Gateway),
        ("9.9.9.9", Allowed::NameServer),
        ("203.0.113.99", Allowed::Server),
        ("198.51.100.1", Allowed::Session),
        ("198.51.100.77", Allowed::Login),
    ] {
        match list.judge(net(network)) {
            Err(Refusal::Allowed { why: found, .. }) => assert_eq!(found, why, "{network}"),
            other => panic!("{network}: {other:?}"),
        }
    }
    let refusal = list.judge(net("198.51.100.1")).expect_err("a session");
    assert_eq!(
        refusal.to_string(),
        "198.51.100.1 is never banned: 198.51.100.1 is the source of an ssh session that is open now"
    );
    for network in ["8.0.0.0/15", "2600::/31", "0.0.0.0/0", "::/0"] {
        assert!(matches!(list.judge(net(network)), Err(Refusal::TooWide(_))), "{network}");
    }
    for network in ["224.0.0.1", "255.255.255.255", "ff02::1", "::", "0.0.0.0"] {
        assert!(matches!(list.judge(net(network)), Err(Refusal::NoSender(_))), "{network}");
    }
}

#[test]
fn an_address_of_ipv6_is_held_back_with_its_64_but_for_neighbours() {
    let list = allowlist();
    for (network, held) in [
        ("198.51.100.2", "198.51.100.2/32"),
        ("::ffff:198.51.100.2", "198.51.100.2/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::/80", "2001:db8:1:2::/64"),
        ("2001:db8:1::/48", "2001:db8:1::/48"),
        ("2001:db8:5::6", "2001:db8:5::6/128"),
        ("fe80::7", "fe80::7/128"),
        // Behind a translator each address is somebody else.
        ("64:ff9b::198.51.100.200", "64:ff9b::198.51.100.200/128"),
    ] {
        assert_eq!(list.judge(net(network)), Ok(net(held)), "{network}");
    }
}

#[test]
fn logins_are_forgotten_after_their_days() {
    let mut list = allowlist();
    assert!(list.judge(net("64:ff9b::192.0.2.9")).is_err(), "an allowed address behind a translator");
    let after = |days: i64| Time::from_secs(1000 + days * 86_400);
    list.forget(after(7));
    assert_eq!(list.why(address("198.51.100.77")), Some(Allowed::Login));
    list.forget(after(8));
    assert_eq!(list.why(address("198.51.100.77")), None);
    let source = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
    for n in 0..5000_u32 {
        list.logged_in(source(n), Time::from_secs(i64::from(n)));
    }
    assert_eq!(list.logins.len(), LOGINS_MAX);
    assert!(!list.logins.contains_key(&source(0)) && list.logins.contains_key(&source(4999)));
    list.logged_in(address("0.0.0.0"), after(8));
    assert_eq!(list.why(address("0.0.0.0")), None);
}

#[test]
fn a_list_is_read_and_cut_around_who_is_allowed() {
    let text = "; Spamhaus DROP List\n198.51.0.0/16 ; SBL1\n\n# ours\n8.8.8.8\n2001:db8::/32\nnot a network\n1.2.3.4/33\n0.0.0.0/0\n";
    let (networks, bad) = read_list(text, 100);
    assert_eq!((networks.len(), bad), (4, 2));
    assert_eq!(read_list(text, 1).1, 5);
    let list = allowlist();
    let (networks, left_out) = list.without_allowed(&networks);
    assert_eq!(left_out, 1, "the whole internet");
    let holds = |text: &str| networks.iter().any(|network| network.contains(&address(text)));
    for text in ["198.51.100.1", "198.51.100.77", "2001:db8:aaaa::1", "2001:db8:5::5"] {
        assert!(!holds(text), "{text}");
    }
    for text in ["198.51.100.2", "198.51.100.0", "8.8.8.8", "2001:db8:5::4", "2001:db8:bbbb::1"] {
        assert!(holds(text), "{text}");
    }
}

/// Whatever is judged, what is held back meets nobody who is allowed, and holds who was to be banned.
#[test]
fn no_judgement_meets_who_is_allowed() {
    let mut draws = Draws::from_environment();
    let list = allowlist();
    let allowed = list.networks();
    for _ in 0..20_000 {
        // Most near the allowed: what matters is there.
        let near = draws.pick(&allowed).addr();
        let network = match near {
            IpAddr::V4(near) => {
                let bits = u32::from(near)
                    ^ u32::try_from(draws.number() & 0xffff_ffff).expect("bits").unbounded_shr(draws.below(33_u32));
                IpNet::new(IpAddr::V4(bits.into()), draws.below(33_u8)).expect("a prefix")
            }
            IpAddr::V6(near) => {
                let noise = (u128::from(draws.number()) << 64) | u128::from(draws.number());
                let bits = u128::from(near) ^ noise.unbounded_shr(draws.below(129_u32));
                IpNet::new(IpAddr::V6(bits.into()), draws.below(129_u8)).expect("a prefix")
            }
        };
        if let Ok(held) = list.judge(network) {
            assert!(!allowed.iter().any(|allowed| overlap(*allowed, held)), "{network} became {held}");
            assert!(held.contains(&canonical(network)), "{network} became {held}");
        }
        let (pieces, left_out) = list.without_allowed(&[network]);
        for piece in &pieces {
            assert!(!allowed.iter().any(|allowed| overlap(*allowed, *piece)), "{network} became {pieces:?}");
            assert!(canonical(network).contains(piece));
        }
        assert_eq!(left_out, usize::from(pieces.is_empty()), "{network}");
    }
}
