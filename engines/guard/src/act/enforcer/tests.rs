use std::net::IpAddr;
use std::path::Path;

use drawn::Draws;
use engine::clock::SystemClock;
use event::Monotonic;

use serde_json::{Value, json};

use super::*;
use crate::act::simulated::Simulated;
use crate::act::test_net::{HOST4, HOST6, OPERATOR4, OPERATOR6, OTHER4, OTHER6, TestNet, tcp_server};
use crate::act::{HostFacts, Nft};
use crate::detect::{BanLength, BanTimes, BanTimesText, oracle};

/// A clock that a test sets.
struct TestClock(Mutex<(Time, Monotonic)>);

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new((Time::from_secs(1_800_000_000), Monotonic(7_000_000_000)))))
    }

    fn pass(&self, seconds: i64) {
        let mut both = self.0.lock().expect("a lock");
        *both = (Time::from_micros(both.0.micros() + seconds * 1_000_000), Monotonic(both.1.0 + seconds * 1_000_000));
    }

    fn step(&self, seconds: i64) {
        let mut both = self.0.lock().expect("a lock");
        both.0 = Time::from_micros(both.0.micros() + seconds * 1_000_000);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        self.0.lock().expect("a lock").0
    }
    fn monotonic(&self) -> Monotonic {
        self.0.lock().expect("a lock").1
    }
}

fn net(text: &str) -> IpNet {
    text.parse::<IpNet>().unwrap_or_else(|_| text.parse::<IpAddr>().expect(text).into())
}

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn numbers() -> EventNumbers {
    Arc::new(|| engine::EventNumber { boot: event::BootId::from_bytes([7; 16]), sequence: 7 })
}

fn enforcer(dir: &Path, firewall: Arc<dyn Firewall>, clock: Arc<dyn Clock>, allow: &[&str], caps: Caps) -> Enforcer {
    let (bans, _) = Bans::open(dir, "boot", Span::from_days(10), clock.now(), clock.monotonic()).expect("opened");
    let allowlist = Allowlist::new(allow.iter().map(|network| net(network)), Span::from_days(7));
    Enforcer::new(firewall, bans, clock, numbers(), allowlist, caps, Some(Scans::default()))
}

fn request(network: &str, rule: &str, lasts: Option<i64>) -> Request {
    let (network, rule, lasts) = (net(network), rule.to_owned(), lasts.map(Span::from_secs));
    Request { network, rule, ports: Ports::All, lasts, since: None, origin: Origin::Detected }
}

struct Scene {
    _dir: tempfile::TempDir,
    firewall: Arc<Simulated>,
    clock: Arc<TestClock>,
    enforcer: Enforcer,
}

async fn scene(allow: &[&str], caps: Caps) -> Scene {
    let dir = tempfile::tempdir().expect("a folder");
    let (firewall, clock) = (Arc::new(Simulated::default()), TestClock::new());
    let mut enforcer = enforcer(dir.path(), Arc::clone(&firewall) as _, Arc::clone(&clock) as _, allow, caps);
    assert!(enforcer.reconcile().await.expect("made").table_gone);
    Scene { _dir: dir, firewall, clock, enforcer }
}

fn banned(done: &[Done]) -> Vec<&Ban> {
    done.iter()
        .filter_map(|done| if let Done::Banned(ban) | Done::Prolonged(ban) = done { Some(ban) } else { None })
        .collect()
}

#[tokio::test]
async fn bans_of_several_rules_are_held_until_the_last_of_them_ends() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&[], Caps::default()).await;
    let both = vec![request("2001:db8::1", "sshd", Some(60)), request("2001:db8::2", "nginx", Some(600))];
    assert_eq!(banned(&enforcer.ban(both).await.expect("banned")).len(), 2);
    let holds = |firewall: &Simulated| firewall.state.lock().expect("a lock").as_ref().expect("made").bans.clone();
    let hold = Hold { network: net("2001:db8::/64"), ports: Ports::All };
    assert_eq!(holds(&firewall), BTreeMap::from([(hold.clone(), Some(Span::from_secs(600)))]));
    // A shorter ban of another rule does not shorten what is held.
    enforcer.ban(vec![request("2001:db8::3", "postfix", Some(5))]).await.expect("banned");
    assert_eq!(holds(&firewall)[&hold], Some(Span::from_secs(600)));
    clock.pass(30);
    let ended = enforcer.unban_network(net("2001:db8::2"), false, false).await.expect("unbanned");
    assert_eq!(ended.len(), 3, "whoever asks for an address wants it to be reachable");
    assert_eq!(holds(&firewall), BTreeMap::new());
}

/// NH-1: whom a rule spares is not cut off with a neighbour of the same /64, also where that was banned before.
#[tokio::test]
async fn a_neighbour_whom_a_rule_spares_is_not_held_back() {
    let Scene { _dir, firewall, mut enforcer, .. } = scene(&[], Caps::default()).await;
    enforcer
        .ban(vec![request("2001:db8:1::2", "web", None), request("2001:db8:9::2", "web", None)])
        .await
        .expect("banned");
    assert!(firewall.drops(address("2001:db8:1::1")));
    enforcer.spare([net("2001:db8:1::1"), net("192.0.2.1")]).await.expect("known");
    enforcer.reconcile().await.expect("compared");
    enforcer.ban(vec![request("2001:db8:1::3", "sshd", Some(60))]).await.expect("banned");
    for (sender, is_dropped) in [
        ("2001:db8:1::1", false),
        ("2001:db8:1::2", true),
        ("2001:db8:1::3", true),
        ("2001:db8:1::4", false),
        ("2001:db8:9::4", true),
    ] {
        assert_eq!(firewall.drops(address(sender)), is_dropped, "{sender}");
    }
    enforcer.allow_changed().await.expect("told");
    assert!(enforcer.reconcile().await.expect("compared").is_none());
    // What a killed process has left in the kernel does not say for which address it was.
    for neighbours in ["2001:db8:1::/64", "2001:db8:8::/64"] {
        let hold = Hold { network: net(neighbours), ports: Ports::All };
        firewall.change(|state| _ = state.bans.insert(hold, None)).expect("changed");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut next = self::enforcer(dir.path(), Arc::clone(&firewall) as _, TestClock::new() as _, &[], Caps::default());
    next.spare([net("2001:db8:1::1")]).await.expect("known");
    next.reconcile().await.expect("compared");
    assert!(!firewall.drops(address("2001:db8:1::1")) && firewall.drops(address("2001:db8:8::4")));
}

/// NH-1: who offends again after the end of a ban is banned anew, whether or not the end was noticed yet.
#[tokio::test]
async fn a_ban_after_the_end_of_another_is_a_new_one() {
    let Scene { _dir, clock, mut enforcer, .. } = scene(&[], Caps::default()).await;
    let at = |done: &[Done]| match done {
        [Done::Banned(ban)] => (true, ban.count, ban.since),
        [Done::Prolonged(ban)] => (false, ban.count, ban.since),
        other => panic!("{other:?}"),
    };
    let start = clock.now();
    let ban = || vec![request("192.0.2.1", "sshd", Some(8))];
    assert_eq!(at(&enforcer.ban(ban()).await.expect("banned")), (true, 0, start));
    clock.pass(7);
    assert_eq!(at(&enforcer.ban(ban()).await.expect("banned")), (false, 0, start));
    clock.pass(8);
    assert_eq!(at(&enforcer.ban(ban()).await.expect("banned")), (true, 1, clock.now()));
    assert!(enforcer.expire().await.expect("none").is_empty());
}

/// NH-1: a network that is banned is not opened for the sake of one address, unless that is asked for.
#[tokio::test]
async fn an_address_does_not_end_the_ban_of_a_network_around_it() {
    let Scene { _dir, firewall, mut enforcer, .. } = scene(&[], Caps::default()).await;
    let all = ["10.7.0.0/16", "10.7.0.5", "2001:db8::/48", "2001:db8:0:1::/64"];
    enforcer.ban(all.map(|network| request(network, "manual", None)).to_vec()).await.expect("banned");
    let around = |enforcer: &Enforcer, network: &str| -> Vec<IpNet> {
        enforcer.bans_around(net(network)).iter().map(|ban| ban.network).collect()
    };
    assert_eq!(around(&enforcer, "10.7.0.5"), [net("10.7.0.0/16")]);
    assert_eq!(around(&enforcer, "10.7.0.0/16"), []);
    assert_eq!(around(&enforcer, "2001:db8:0:1::7"), [net("2001:db8::/48")]);
    assert_eq!(enforcer.unban_network(net("10.7.0.5"), false, false).await.expect("ended").len(), 1);
    assert_eq!(enforcer.unban_network(net("2001:db8:0:1::7"), false, false).await.expect("ended").len(), 1);
    assert!(firewall.drops(address("10.7.0.5")) && firewall.drops(address("2001:db8:0:1::7")));
    assert_eq!(enforcer.unban_network(net("10.7.0.5"), true, false).await.expect("ended").len(), 1);
    assert_eq!(enforcer.unban_network(net("2001:db8::/32"), false, false).await.expect("ended").len(), 1);
    assert!(enforcer.bans().is_empty());
}

#[tokio::test]
async fn one_ban_of_two_is_lifted_and_the_other_stays_held() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&[], Caps::default()).await;
    let both = vec![request("192.0.2.1", "sshd", Some(60)), request("192.0.2.1", "nginx", Some(600))];
    let done = enforcer.ban(both).await.expect("banned");
    let keys: Vec<_> = banned(&done).into_iter().map(Ban::key).collect();
    clock.pass(10);
    let nginx: Vec<_> = keys.into_iter().filter(|key| key.rule == "nginx").collect();
    enforcer.unban(nginx, false).await.expect("unbanned");
    assert!(firewall.drops(address("192.0.2.1")));
    let held = firewall.read().await.expect("read").expect("there");
    assert_eq!(held.bans.into_values().collect::<Vec<_>>(), [Some(Span::from_secs(50))]);
    // A second ban of the same rule is the same one, and no shorter.
    let done = enforcer.ban(vec![request("192.0.2.1", "sshd", Some(5))]).await.expect("banned");
    let ban = banned(&done)[0].clone();
    assert_eq!((ban.count, ban.until.expect("an end").since(ban.since)), (0, Span::from_secs(60)));
    clock.pass(60);
    assert_eq!(enforcer.expire().await.expect("expired").len(), 1);
    let done = enforcer.ban(vec![request("192.0.2.1", "sshd", Some(5))]).await.expect("banned");
    assert_eq!(banned(&done)[0].count, 1, "it came back");
    assert_eq!(enforcer.unban_all(true).await.expect("unbanned").len(), 1);
    assert!(enforcer.bans().is_empty() && !firewall.drops(address("192.0.2.1")));
}

#[tokio::test]
async fn over_the_cap_nobody_is_banned_and_a_person_may_still_ban() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&[], Caps::new(2, 3)).await;
    let many = (1..=5).map(|n| request(&format!("192.0.2.{n}"), "sshd", None)).collect();
    let done = enforcer.ban(many).await.expect("banned");
    assert_eq!(banned(&done).len(), 2);
    let firsts: Vec<_> = done
        .iter()
        .filter_map(|done| if let Done::Simulated { first, .. } = done { Some(*first) } else { None })
        .collect();
    assert_eq!(firsts, [true, false, false], "one alert");
    assert!(!firewall.drops(address("192.0.2.5")));
    let manual = Request { origin: Origin::Manual, ..request("192.0.2.5", "manual", None) };
    assert_eq!(banned(&enforcer.ban(vec![manual]).await.expect("banned")).len(), 1);
    clock.pass(60);
    assert_eq!(banned(&enforcer.ban(vec![request("192.0.2.4", "sshd", None)]).await.expect("banned")).len(), 1);
}

/// Without the right to, nobody is banned, and nothing says otherwise.
#[tokio::test]
async fn what_can_not_be_enforced_is_no_ban() {
    let Scene { _dir, firewall, mut enforcer, .. } = scene(&[], Caps::default()).await;
    let first = enforcer.ban(vec![request("192.0.2.1", "sshd", Some(60))]).await.expect("banned");
    *firewall.fails.lock().expect("a lock") = true;
    let both = vec![request("192.0.2.1", "sshd", None), request("192.0.2.2", "sshd", None)];
    let error = enforcer.ban(both).await.expect_err("no right");
    assert!(matches!(error, EnforcerError::Firewall(FirewallError::NoRight)), "{error}");
    assert_eq!(enforcer.bans().iter().collect::<Vec<_>>(), banned(&first));
}

#[tokio::test]
async fn what_somebody_else_changed_is_mended_and_told() {
    let Scene { _dir, firewall, mut enforcer, .. } = scene(&["203.0.113.0/24"], Caps::default()).await;
    let some = (1..=3).map(|n| request(&format!("192.0.2.{n}"), "sshd", Some(600))).collect();
    enforcer.ban(some).await.expect("banned");
    enforcer.lists(vec![net("198.51.100.0/24")]).await.expect("listed");
    assert_eq!(enforcer.listed(), (1, 0));
    assert!(enforcer.reconcile().await.expect("compared").is_none());
    let before = firewall.state.lock().expect("a lock").clone();
    firewall
        .change(|state| {
            state.bans.pop_first();
            state.bans.insert(Hold { network: net("192.0.2.2"), ports: Ports::All }, Some(Span::from_secs(9000)));
            state.bans.insert(Hold { network: net("192.0.2.77"), ports: Ports::All }, None);
            (state.allow, state.lists) = (Vec::new(), Vec::new());
        })
        .expect("changed");
    let drift = enforcer.reconcile().await.expect("mended");
    let expected =
        Drift { missing: 1, times: 1, extra: 1, allow_changed: true, lists_changed: true, ..Drift::default() };
    assert_eq!(drift, expected);
    assert_eq!(*firewall.state.lock().expect("a lock"), before);
    firewall.remove().await.expect("removed");
    assert!(!enforcer.is_present().await.expect("read"));
    assert!(enforcer.reconcile().await.expect("mended").table_gone);
    assert_eq!(*firewall.state.lock().expect("a lock"), before);
    // Without a comparison as well: a ban finds that the table is gone.
    firewall.remove().await.expect("removed");
    enforcer.ban(vec![request("192.0.2.4", "sshd", None)]).await.expect("banned");
    for sender in ["192.0.2.1", "192.0.2.4", "198.51.100.1"] {
        assert!(firewall.drops(address(sender)), "{sender}");
    }
}

/// A change of our own that the packet filter was not told of yet is not somebody else's, and is made all the same.
/// NH-1: a packet filter that takes long to read and to change, as with many bans on a slow machine, was changed by nobody else.
#[tokio::test]
async fn what_a_slow_packet_filter_takes_is_no_change_by_somebody_else() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&[], Caps::default()).await;
    let of_test = Arc::clone(&clock);
    *firewall.takes.lock().expect("a lock") = Some(Box::new(move || of_test.pass(20)));
    let both = vec![request("192.0.2.1", "web", Some(600)), request("192.0.2.2", "web", Some(30))];
    enforcer.ban(both).await.expect("banned");
    // They are read as they were before a reading of 20 s, and last 20 s longer than they are said to.
    assert_eq!(enforcer.reconcile().await.expect("compared"), Drift::default());
    assert_eq!(enforcer.expire().await.expect("expired").len(), 1);
    let hold = |address: &str| Hold { network: net(address), ports: Ports::All };
    let holds = |address: &str, seconds: i64| {
        let hold = hold(address);
        firewall.change(|state| _ = state.bans.insert(hold, Some(Span::from_secs(seconds)))).expect("changed");
    };
    holds("192.0.2.1", 580);
    holds("192.0.2.2", 10);
    assert_eq!(enforcer.reconcile().await.expect("compared"), Drift::default());
    assert!(firewall.drops(address("192.0.2.1")) && !firewall.drops(address("192.0.2.2")), "what is over is taken out");
    // What somebody else does is told as before.
    holds("192.0.2.1", 300);
    holds("192.0.2.3", 300);
    let drift = enforcer.reconcile().await.expect("mended");
    assert_eq!(drift, Drift { times: 1, extra: 1, ..Drift::default() });
    holds("192.0.2.1", 700);
    assert_eq!(enforcer.reconcile().await.expect("mended"), Drift { times: 1, ..Drift::default() });
}

/// NH-1: bans do not wait for a packet filter that takes long to look at: that is done less often.
#[tokio::test]
async fn a_slow_look_is_taken_less_often() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&[], Caps::default()).await;
    let looks = || *firewall.looks.lock().expect("a lock");
    for _ in 0..3 {
        assert!(enforcer.is_present().await.expect("looked"));
    }
    assert_eq!(looks(), 3);
    let of_test = Arc::clone(&clock);
    *firewall.takes.lock().expect("a lock") = Some(Box::new(move || of_test.pass(3)));
    for _ in 0..6 {
        assert!(enforcer.is_present().await.expect("looked"));
        clock.pass(5);
    }
    assert_eq!(looks(), 4);
    assert!(enforcer.is_present().await.expect("looked"));
    assert_eq!(looks(), 5);
    // That it is gone is seen all the same.
    firewall.remove().await.expect("removed");
    assert!(!enforcer.is_present().await.expect("looked"));
}

#[tokio::test]
async fn what_changed_in_the_allowlist_is_no_change_by_somebody_else() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&["203.0.113.0/24"], Caps::default()).await;
    enforcer.lists(vec![net("198.51.0.0/16")]).await.expect("listed");
    for last in 1..=3 {
        let sender = format!("198.51.100.{last}");
        enforcer.allowlist.logged_in(address(&sender), clock.now());
        assert!(enforcer.reconcile().await.expect("compared").is_none(), "{sender}");
        assert!(!firewall.drops(address(&sender)) && firewall.drops(address("198.51.100.9")));
        assert_eq!(enforcer.allow_changed().await.expect("told"), []);
    }
    // It is not hidden behind one of ours.
    enforcer.allowlist.logged_in(address("198.51.100.4"), clock.now());
    firewall.change(|state| state.allow.clear()).expect("changed");
    let drift = enforcer.reconcile().await.expect("mended");
    assert_eq!(drift, Drift { allow_changed: true, ..Drift::default() });
    assert!(enforcer.reconcile().await.expect("compared").is_none());
}

/// The process dies between a ban in the kernel and the one in the file, or the other way round.
#[tokio::test]
async fn a_start_adopts_what_the_kernel_holds_and_enforces_what_the_file_has() {
    let dir = tempfile::tempdir().expect("a folder");
    let (firewall, clock) = (Arc::new(Simulated::default()), TestClock::new());
    let start =
        || enforcer(dir.path(), Arc::clone(&firewall) as _, Arc::clone(&clock) as _, &["192.0.2.9"], Caps::default());
    let mut first = start();
    first.reconcile().await.expect("made");
    first
        .ban(vec![request("192.0.2.1", "sshd", Some(600)), request("192.0.2.2", "sshd", Some(600))])
        .await
        .expect("banned");
    drop(first);
    firewall
        .change(|state| {
            state.bans.pop_first();
            for network in ["192.0.2.3", "192.0.2.9"] {
                state.bans.insert(Hold { network: net(network), ports: Ports::All }, Some(Span::from_secs(300)));
            }
        })
        .expect("changed");
    clock.pass(60);
    let mut second = start();
    let drift = second.reconcile().await.expect("mended");
    assert_eq!((drift.missing, drift.adopted, drift.extra), (1, 1, 2), "{drift:?}");
    let bans: Vec<_> = second.bans().into_iter().map(|ban| (ban.network.addr().to_string(), ban.origin)).collect();
    let expected = [("192.0.2.1", Origin::Detected), ("192.0.2.2", Origin::Detected), ("192.0.2.3", Origin::Adopted)];
    assert_eq!(bans, expected.map(|(address, origin)| (address.to_owned(), origin)));
    let holds = firewall.read().await.expect("read").expect("there").bans;
    assert_eq!(
        holds.keys().map(|hold| hold.network).collect::<Vec<_>>(),
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(net)
    );
}

#[tokio::test]
async fn the_clock_steps_and_bans_last_as_long_as_they_were_to() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&[], Caps::default()).await;
    enforcer.ban(vec![request("192.0.2.1", "sshd", Some(600))]).await.expect("banned");
    for step in [86_400 * 400, -86_400 * 800, 5] {
        clock.step(step);
        assert_eq!(enforcer.expire().await.expect("expired"), [], "stepped by {step} s");
        assert!(enforcer.reconcile().await.expect("compared").is_none(), "stepped by {step} s");
    }
    assert!(firewall.drops(address("192.0.2.1")));
    clock.pass(600);
    assert_eq!(enforcer.expire().await.expect("expired").len(), 1);
}

/// Who logs in, or is allowed, is let in from then on, whatever had been banned before.
#[tokio::test]
async fn who_is_allowed_later_is_let_in() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&[], Caps::default()).await;
    let some = vec![
        request("192.0.2.1", "sshd", None),
        request("192.0.2.2", "sshd", None),
        request("198.51.0.0/16", "manual", None),
    ];
    enforcer.ban(some).await.expect("banned");
    enforcer.lists(vec![net("192.0.0.0/16")]).await.expect("listed");
    enforcer.allowlist.logged_in(address("192.0.2.1"), clock.now());
    enforcer.allowlist.configure([net("198.51.100.0/24")]);
    let ended = enforcer.allow_changed().await.expect("allowed");
    assert_eq!(ended.iter().map(|ban| ban.network).collect::<Vec<_>>(), ["192.0.2.1", "198.51.0.0/16"].map(net));
    for (sender, drops) in [("192.0.2.1", false), ("192.0.2.2", true), ("192.0.99.1", true), ("198.51.100.7", false)] {
        assert_eq!(firewall.drops(address(sender)), drops, "{sender}");
    }
    // Nothing changed: nothing is done.
    assert_eq!(enforcer.allow_changed().await.expect("allowed"), []);
}

/// No sequence of bans, lists, changes of the allowlist, removals by others, starts and steps of the clock makes the operator
/// unreachable: neither from where they are logged in, nor from where they are allowed, nor this host for itself.
#[tokio::test]
async fn the_operator_is_never_locked_out() {
    const SESSION: &str = "198.51.100.7";
    const SAFE: [&str; 6] = [SESSION, "203.0.113.200", "2001:db8:aaaa::1", "192.0.2.1", "192.0.2.254", "2001:db8:5::5"];
    let mut draws = Draws::from_environment();
    let dir = tempfile::tempdir().expect("a folder");
    let (firewall, clock) = (Arc::new(Simulated::default()), TestClock::new());
    let facts = HostFacts {
        own: [address("192.0.2.1"), address("2001:db8:5::5")].into(),
        gateways: [address("192.0.2.254")].into(),
        ..HostFacts::default()
    };
    let allow = ["203.0.113.192/26", "2001:db8:aaaa::/48"];
    let start = || {
        let caps = Caps::new(1_000_000, 1_000_000);
        let mut made = enforcer(dir.path(), Arc::clone(&firewall) as _, Arc::clone(&clock) as _, &allow, caps);
        made.allowlist.look(&facts, [address(SESSION)].into(), []);
        made
    };
    let mut enforcer = start();
    let mut anybody_dropped = 0;
    for number in 0..600 {
        let near = address(draws.pick(&SAFE));
        let network = match near {
            IpAddr::V4(near) => {
                let noise = u32::try_from(draws.number() >> 32).expect("bits");
                IpNet::new(
                    IpAddr::V4((u32::from(near) ^ noise.unbounded_shr(draws.below(33_u32))).into()),
                    draws.pick(&[8, 15, 16, 24, 31, 32, 32, 32]),
                )
            }
            IpAddr::V6(near) => {
                let noise = (u128::from(draws.number()) << 64) | u128::from(draws.number());
                IpNet::new(
                    IpAddr::V6((u128::from(near) ^ noise.unbounded_shr(draws.below(129_u32))).into()),
                    draws.pick(&[31, 32, 48, 64, 80, 128, 128]),
                )
            }
        }
        .expect("a prefix");
        let origin = draws.pick(&[Origin::Detected, Origin::Manual, Origin::Imported]);
        let lasts = draws.chance(50).then(|| Span::from_secs(1 + draws.below(1000_i64)));
        let one = Request { network, lasts, origin, ..request("192.0.2.7", draws.pick(&["sshd", "nginx"]), None) };
        match draws.below(14_u8) {
            0..=4 => drop(enforcer.ban(vec![one.clone(), one]).await.expect("banned")),
            5 => enforcer
                .lists(vec![network, net("2001:db8::/32"), net("198.51.0.0/16"), net("0.0.0.0/0")])
                .await
                .expect("listed"),
            6 => {
                enforcer
                    .allowlist
                    .configure(allow.iter().map(|n| net(n)).chain([network].into_iter().filter(|_| draws.chance(50))));
                enforcer.allow_changed().await.expect("allowed");
            }
            7 => drop(enforcer.unban_network(network, true, draws.chance(50)).await.expect("unbanned")),
            8 => drop(enforcer.reconcile().await.expect("mended")),
            9 => drop(enforcer.expire().await.expect("expired")),
            10 => clock.pass(draws.below(300_i64)),
            11 => clock.step(draws.below(2_000_000_i64) - 1_000_000),
            12 => firewall.remove().await.expect("somebody did"),
            _ => {
                drop(enforcer);
                enforcer = start();
                enforcer.reconcile().await.expect("made");
            }
        }
        for safe in SAFE {
            assert!(!firewall.drops(address(safe)), "step {number}: {safe} after {network}");
        }
        anybody_dropped += usize::from(firewall.drops(network.addr()));
    }
    assert!(anybody_dropped > 40, "somebody is banned at all: {anybody_dropped}");
}

/// The same with the real packet filter, real packets, and connections that are tried after each step.
#[tokio::test]
async fn the_operator_is_never_locked_out_of_a_real_host() {
    let mut draws = Draws::from_environment();
    let hosts = TestNet::new();
    let _server = hosts.serve(&tcp_server(&[22]));
    let dir = tempfile::tempdir().expect("a folder");
    let start =
        |nft: Nft| enforcer(dir.path(), Arc::new(nft), Arc::new(SystemClock), &[OPERATOR4, OPERATOR6], Caps::default());
    let mut enforcer = start(Nft::new(hosts.programs()));
    enforcer.reconcile().await.expect("made");
    let networks = [
        "10.99.0.0/16",
        "10.99.0.0/24",
        "fd99::/32",
        "fd99:0:0:2::/64",
        HOST4,
        HOST6,
        OPERATOR4,
        OPERATOR6,
        OTHER4[0],
        OTHER6[0],
    ];
    let mut dropped = 0;
    for _ in 0..25 {
        let network = draws.pick(&networks);
        match draws.below(7_u8) {
            0..=2 => drop(enforcer.ban(vec![request(network, "sshd", Some(600))]).await.expect("banned")),
            3 => enforcer.lists(vec![net("10.0.0.0/8"), net("fd00::/20")]).await.expect("listed"),
            4 => drop(enforcer.unban_all(false).await.expect("unbanned")),
            5 => {
                hosts.nft(draws.pick(&["flush ruleset", "list tables"]));
                enforcer.reconcile().await.expect("mended");
            }
            _ => {
                drop(enforcer);
                enforcer = start(Nft::new(hosts.programs()));
                assert!(enforcer.reconcile().await.expect("adopted").missing == 0);
            }
        }
        for from in [OPERATOR4, OPERATOR6] {
            hosts.expect(from, 22, "open");
        }
        if enforcer.bans().iter().any(|ban| ban.hold.network.contains(&address(OTHER4[0]))) {
            hosts.expect(OTHER4[0], 22, "dropped");
            dropped += 1;
        }
    }
    assert!(dropped > 0, "somebody was banned at all");
}

/// What the kernel banned for a port scan becomes a ban that is told of once, survives `flush ruleset`, and can be lifted.
#[tokio::test]
async fn a_scan_becomes_a_ban() {
    let hosts = TestNet::new();
    let _server = hosts.serve(&tcp_server(&[22]));
    let dir = tempfile::tempdir().expect("a folder");
    let start = || {
        let nft = Arc::new(Nft::new(hosts.programs()));
        enforcer(dir.path(), nft, Arc::new(SystemClock), &[OPERATOR4, OPERATOR6], Caps::default())
    };
    let mut enforcer = start();
    enforcer.reconcile().await.expect("made");
    assert_eq!(enforcer.poll_scans().await.expect("asked"), []);
    for from in [OTHER4[0], OTHER6[0]] {
        for ports in [1000..1010_u16, 1010..1025] {
            let ports: Vec<_> = ports.collect();
            let to = if from.contains(':') { HOST6 } else { HOST4 };
            hosts.outside(&format!(
                "import socket
for port in {ports:?}:
    try: socket.create_connection(('{to}', port), 0.05, ('{from}', 0))
    except OSError: pass"
            ));
        }
    }
    let done = enforcer.poll_scans().await.expect("asked");
    let found: Vec<_> = banned(&done).into_iter().map(|ban| (ban.network, ban.rule.as_str())).collect();
    assert_eq!(found, [(net(OTHER4[0]), "port-scan"), (net("fd99:0:0:3::/64"), "port-scan")]);
    assert_eq!(enforcer.poll_scans().await.expect("asked"), [], "told of once");
    drop(enforcer);
    let mut enforcer = start();
    assert!(enforcer.reconcile().await.expect("adopted").is_none());
    assert_eq!(enforcer.poll_scans().await.expect("asked"), [], "also after a start");
    hosts.nft("flush ruleset");
    hosts.expect(OTHER4[0], 22, "open");
    assert!(enforcer.reconcile().await.expect("mended").table_gone);
    hosts.expect(OTHER4[0], 22, "dropped");
    enforcer.unban_network(net(OTHER4[0]), true, false).await.expect("unbanned");
    enforcer.unban_network(net(OTHER6[1]), true, false).await.expect("unbanned");
    for from in [OTHER4[0], OTHER6[0], OTHER6[1]] {
        hosts.expect(from, 22, "open");
    }
}

/// A disk with room for next to nothing.
struct FullDisk(tempfile::TempDir);

impl FullDisk {
    #[expect(clippy::disallowed_methods, reason = "tests start programs of the system")]
    fn run(arguments: &[&str]) {
        let output = std::process::Command::new(arguments[0]).args(&arguments[1..]).output().expect("it runs");
        assert!(output.status.success(), "{arguments:?} (root is needed): {}", String::from_utf8_lossy(&output.stderr));
    }

    fn new() -> Self {
        let disk = Self(tempfile::tempdir().expect("a folder"));
        Self::run(&["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk.0.path().to_str().expect("UTF-8")]);
        disk
    }

    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.path().join("filler")).expect("made");
        while file.write_all(&[0; 4096]).is_ok() {}
        // What is left of the last page of the file of bans.
        let mut bans = std::fs::OpenOptions::new().append(true).open(self.0.path().join("bans.log")).expect("it opens");
        while bans.write_all(b"\n").is_ok() {}
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        Self::run(&["umount", "-l", self.0.path().to_str().expect("UTF-8")]);
    }
}

/// As [`enforcer`], on what is there.
fn started(disk: &FullDisk, firewall: &Arc<Simulated>, clock: &Arc<TestClock>) -> Enforcer {
    enforcer(disk.0.path(), Arc::clone(firewall) as _, Arc::clone(clock) as _, &[], Caps::default())
}

#[tokio::test]
async fn with_a_full_disk_bans_end_when_somebody_says_so_and_a_start_keeps_what_the_kernel_holds() {
    let (disk, firewall, clock) = (FullDisk::new(), Arc::new(Simulated::default()), TestClock::new());
    let mut enforcer = started(&disk, &firewall, &clock);
    enforcer.reconcile().await.expect("made");
    let written = ["192.0.2.1", "192.0.2.2"].map(|address| request(address, "sshd", None)).to_vec();
    enforcer.ban(written).await.expect("banned");
    disk.fill();
    enforcer.ban(vec![request("192.0.2.3", "sshd", Some(600))]).await.expect("banned");
    assert!(enforcer.unwritten().is_some_and(|reason| reason.contains("bans.log")), "{:?}", enforcer.unwritten());
    assert_eq!(enforcer.unban_network(net("192.0.2.1"), true, true).await.expect("lifted").len(), 1);
    assert!(!firewall.drops(address("192.0.2.1")) && firewall.drops(address("192.0.2.3")));
    assert!(enforcer.unwritten().is_some());
    // It does not come back.
    enforcer.expire().await.expect("expired");
    assert!(enforcer.unwritten().is_some());
    let drift = enforcer.reconcile().await.expect("compared");
    assert!(drift.is_none(), "{drift}");
    assert!(!firewall.drops(address("192.0.2.1")));

    // A start on the full disk: what is in the kernel and not in the file is in force, whatever the start before wrote.
    for _ in 0..2 {
        disk.fill();
        enforcer = started(&disk, &firewall, &clock);
        enforcer.reconcile().await.expect("what is in the kernel stays in force");
        assert!(firewall.drops(address("192.0.2.3")) && firewall.drops(address("192.0.2.2")));
        assert!(enforcer.with_bans(|bans| bans.iter().any(|ban| ban.network == net("192.0.2.3"))));
        assert!(enforcer.unwritten().is_some());
    }
    assert_eq!(enforcer.unban_all(false).await.expect("lifted").len(), 3);
    assert!(["192.0.2.1", "192.0.2.2", "192.0.2.3"].iter().all(|sender| !firewall.drops(address(sender))));

    // With room it is written.
    std::fs::remove_file(disk.0.path().join("filler")).expect("removed");
    enforcer.expire().await.expect("written");
    assert_eq!(enforcer.unwritten(), None);
    let enforcer = started(&disk, &firewall, &clock);
    assert_eq!(enforcer.bans(), []);
}

/// What the kernel holds and the file has not, because the disk was full, is the ban of the offence that is read again: one ban, and
/// no later reaction.
#[tokio::test]
async fn a_ban_that_was_found_in_the_kernel_is_the_one_of_its_offence() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&[], Caps::default()).await;
    let both = vec![request("192.0.2.1", "sshd", Some(600)), request("2001:db8::1", "sshd", None)];
    enforcer.ban(both.clone()).await.expect("banned");
    clock.pass(10);
    let dir = tempfile::tempdir().expect("a folder");
    let mut enforcer =
        self::enforcer(dir.path(), Arc::clone(&firewall) as _, Arc::clone(&clock) as _, &[], Caps::default());
    assert_eq!(enforcer.reconcile().await.expect("adopted").adopted, 2);
    let at = clock.now() - Span::from_secs(10);
    let again = both.into_iter().map(|request| Request { since: Some(at), ..request }).collect();
    let done = enforcer.ban(again).await.expect("banned");
    assert!(done.iter().all(|done| matches!(done, Done::Known(_))), "{done:?}");
    let bans: Vec<_> = enforcer.bans().into_iter().map(|ban| (ban.rule, ban.since, ban.count)).collect();
    assert_eq!(bans, [("sshd".to_owned(), at, 0), ("sshd".to_owned(), at, 0)]);
    assert!(firewall.drops(address("192.0.2.1")) && firewall.drops(address("2001:db8::2")));
    assert!(enforcer.reconcile().await.expect("compared").is_none());
    // So it is after a restart, and an offence of later is one by itself.
    let mut enforcer =
        self::enforcer(dir.path(), Arc::clone(&firewall) as _, Arc::clone(&clock) as _, &[], Caps::default());
    assert_eq!((enforcer.reconcile().await.expect("made").adopted, enforcer.bans().len()), (0, 2));
    let done = enforcer.ban(vec![request("192.0.2.1", "nginx", Some(60))]).await.expect("banned");
    assert_eq!(banned(&done).len(), 1);
}

/// A ban of the kernel's own began when the kernel says, and one that is longer than the calendar is for ever.
#[tokio::test]
async fn bans_begin_and_end_when_they_do() {
    let Scene { _dir, firewall, clock, mut enforcer } = scene(&[], Caps::default()).await;
    let hour = Scans::default().ban;
    firewall.scanned.lock().expect("a lock").push((net("192.0.2.9"), hour - Span::from_secs(5)));
    let done = enforcer.poll_scans().await.expect("read");
    let ban = banned(&done)[0];
    let since = clock.now() - Span::from_secs(5);
    assert_eq!((ban.since, ban.until), (since, Some(since + hour)));
    let done = enforcer.ban(vec![request("192.0.2.1", "sshd", Some(999_999_999_999))]).await.expect("banned");
    assert_eq!(banned(&done)[0].until, None);
}

/// How long the next ban lasts depends on those before it, of this jail or of all: as in the database of the installed fail2ban.
#[tokio::test]
async fn bans_of_several_jails_grow_as_in_fail2ban() {
    let mut draws = Draws::from_environment();
    let (mut cases, mut all_ours) = (Vec::new(), Vec::new());
    for _ in 0..oracle::rounds(40) {
        let Scene { _dir, clock, mut enforcer, .. } = scene(&[], Caps::default()).await;
        let (mut jails, mut rules, mut counts) = (serde_json::Map::new(), Vec::new(), BanCounts::default());
        for name in ["a", "b", "c"] {
            let (time_s, grows, of_all) = (draws.pick(&[1_i64, 4, 60]), draws.chance(75), draws.chance(60));
            let text = |is_so: bool| if is_so { "true" } else { "false" };
            // As the reader of jails gives them to the server.
            let options = json!({"increment": text(grows), "overalljails": of_all, "factor": "1", "maxtime": "3000"});
            jails.insert(name.to_owned(), json!({"time": time_s, "options": options}));
            match (grows, of_all) {
                (true, true) => _ = counts.of_all.insert(name.to_owned()),
                (true, false) => {}
                (false, _) => _ = counts.once.insert(name.to_owned()),
            }
            let mut text = BanTimesText::fixed(BanLength::For(Span::from_secs(time_s)));
            (text.increment, text.overall_jails, text.max_time) = (grows, of_all, Some(Span::from_secs(3000)));
            rules.push((name, BanTimes::parse(&text).expect("a rule")));
        }
        enforcer.count_as(counts);
        let (mut steps, mut ours) = (Vec::new(), Vec::new());
        let mut banned = BTreeSet::new();
        for _ in 0..20 {
            // Within a second of each other, as `recidive` bans for a ban; else when all are over.
            let passed = draws.pick(&[0, 0, 1, 4000, 4000]);
            clock.pass(passed);
            enforcer.expire().await.expect("ended");
            if passed > 1 {
                banned.clear();
            }
            let (rule, times) = &rules[draws.below(rules.len())];
            let whom = draws.pick(&["192.0.2.1", "192.0.2.2"]);
            if !banned.insert((whom, *rule)) {
                continue;
            }
            let before = if times.increments() { enforcer.history().counted(net(whom), rule) } else { 0 };
            let BanLength::For(lasts) = times.length(u64::from(before), 0).expect("a length") else {
                panic!("for ever")
            };
            let done = enforcer.ban(vec![request(whom, rule, Some(lasts.secs()))]).await.expect("banned");
            let [Done::Banned(ban)] = &done[..] else { panic!("{done:?}") };
            // The count of a rule that does not grow is told, and nobody is banned for longer because of it.
            ours.push(json!([lasts.secs(), if times.increments() { ban.count + 1 } else { 1 }]));
            steps.push(json!({"now": clock.now().micros() / 1_000_000, "jail": rule, "address": whom}));
        }
        cases.push(json!({"bans": {"jails": jails, "steps": steps}}));
        all_ours.push(Value::Array(ours));
    }
    for ((case, ours), theirs) in cases.iter().zip(all_ours).zip(oracle::asked(&cases)) {
        assert_eq!(ours, theirs, "{case}");
    }
}
