use drawn::Draws;

use super::*;
use crate::act::Protocol;

const KEPT: Span = Span::from_days(10);

fn at(seconds: i64) -> (Time, Monotonic) {
    (Time::from_secs(1_800_000_000 + seconds), Monotonic((5_000 + seconds) * 1_000_000))
}

fn open(dir: &Path, seconds: i64) -> (Bans, Opened) {
    let (now, monotonic) = at(seconds);
    Bans::open(dir, "boot", KEPT, now, monotonic).expect("opened")
}

fn ban(address: &str, rule: &str, since: i64, lasts: Option<i64>) -> Ban {
    let network: IpNet = address.parse::<std::net::IpAddr>().expect("an address").into();
    let ports = Ports::some(Protocol::Tcp, [(22, 22)]).expect("ports");
    let (since, until) = (at(since).0, lasts.map(|lasts| at(since + lasts).0));
    Ban {
        network,
        rule: rule.into(),
        hold: Hold { network, ports },
        since,
        until,
        count: 0,
        uncounted: false,
        origin: Origin::Detected,
        event: None,
    }
}

fn all(bans: &Bans) -> Vec<Ban> {
    bans.iter().cloned().collect()
}

#[test]
fn a_ban_keeps_the_number_of_its_event_until_it_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let number = |sequence| Some(engine::EventNumber { boot: event::BootId::from_bytes([3; 16]), sequence });
    let numbered = |address: &str, sequence| Ban { event: number(sequence), ..ban(address, "sshd", 0, Some(600)) };
    let (mut bans, _) = open(dir.path(), 0);
    bans.add(vec![numbered("192.0.2.1", 1)]).expect("written");
    bans.told().expect("written");
    bans.add(vec![numbered("192.0.2.2", 2)]).expect("written");
    for seconds in 1..=2 {
        drop(bans);
        bans = open(dir.path(), seconds).0;
        assert_eq!(bans.untold(), [numbered("192.0.2.2", 2)]);
        // Written anew, it is the same.
        bans.torn = true;
        bans.tidy(at(seconds).0).expect("written");
    }
    let events: Vec<_> = bans.iter().map(|ban| ban.event).collect();
    assert_eq!(events, [None, number(2)]);
}

#[test]
fn the_history_of_another_program_makes_no_count_less_and_no_event() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, _) = open(dir.path(), 100);
    let held = ban("192.0.2.1", "sshd", 90, Some(600));
    bans.add(vec![held.clone()]).expect("written");
    bans.told().expect("written");
    let past = |count, last| PastBans { count, last: at(last).0 };
    let over = ban("192.0.2.2", "sshd", 0, None).key();
    for _ in 0..2 {
        bans.remember(vec![(held.key(), past(2, 90)), (over.clone(), past(4, 50))]).expect("written");
        bans.remember(vec![(held.key(), past(1, 95)), (over.clone(), past(3, 60))]).expect("written");
        let counted = Ban { count: 2, ..held.clone() };
        assert_eq!((all(&bans), bans.untold()), (vec![counted], Vec::new()));
        assert_eq!((bans.past(&held.key()), bans.past(&over)), (Some(past(3, 90)), Some(past(4, 50))));
        drop(bans);
        bans = open(dir.path(), 101).0;
    }
}

#[test]
fn bans_outlive_the_process_and_those_that_ended_do_not_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, opened) = open(dir.path(), 0);
    assert_eq!(opened, Opened::default());
    let some = [
        ban("192.0.2.1", "sshd", 0, Some(600)),
        ban("192.0.2.1", "nginx", 0, None),
        ban("2001:db8::1", "sshd", 0, Some(60)),
    ];
    bans.add(some.to_vec()).expect("written");
    bans.add(vec![ban("192.0.2.9", "sshd", 0, None)]).expect("written");
    assert_eq!(
        bans.remove(&[some[1].key(), ban("192.0.2.8", "x", 0, None).key()], false).expect("written"),
        [some[1].clone()]
    );
    let before = all(&bans);
    drop(bans);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join(FILE)).expect("there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let (bans, opened) = open(dir.path(), 30);
    assert_eq!((all(&bans), opened), (before, Opened { in_force: 3, ..Opened::default() }));
    drop(bans);
    let (mut bans, opened) = open(dir.path(), 61);
    assert_eq!((opened.in_force, opened.ended), (2, 1));
    assert_eq!(bans.expire(at(599).0), []);
    assert_eq!(bans.expire(at(600).0), [some[0].clone()]);
    let past = |key: &BanKey| bans.past(key).map(|past| past.count);
    assert_eq!((past(&some[0].key()), past(&some[1].key()), past(&some[2].key())), (Some(1), Some(1), Some(1)));
    assert_eq!(bans.past_of_all(some[0].network), Some(PastBans { count: 2, last: at(0).0 }));
}

#[test]
fn what_nobody_was_told_of_is_known_at_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, _) = open(dir.path(), 0);
    bans.add(vec![ban("192.0.2.1", "sshd", 0, None), ban("192.0.2.2", "sshd", 0, Some(60))]).expect("written");
    bans.told().expect("written");
    bans.add(vec![ban("192.0.2.3", "sshd", 1, None)]).expect("written");
    bans.add(vec![ban("192.0.2.4", "sshd", 1, Some(9))]).expect("written");
    drop(bans);
    let (mut bans, opened) = open(dir.path(), 20);
    assert_eq!((opened.in_force, opened.damaged), (3, 0));
    let untold: Vec<String> = bans.untold().iter().map(|ban| ban.network.addr().to_string()).collect();
    assert_eq!(untold, ["192.0.2.3", "192.0.2.4"], "also one that ended meanwhile");
    // The file is written anew: who was told of what stays known.
    bans.torn = true;
    bans.mend().expect("written");
    drop(bans);
    let (mut bans, _) = open(dir.path(), 21);
    assert_eq!(bans.untold().iter().map(|ban| ban.network.addr().to_string()).collect::<Vec<_>>(), ["192.0.2.3"]);
    bans.told().expect("written");
    drop(bans);
    assert_eq!(open(dir.path(), 22).0.untold(), []);
}

#[test]
fn those_who_come_back_are_counted_and_forgotten_after_their_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, _) = open(dir.path(), 0);
    let first = ban("192.0.2.1", "sshd", 0, Some(60));
    bans.add(vec![first.clone()]).expect("written");
    bans.expire(at(100).0);
    let again =
        Ban { count: bans.past(&first.key()).expect("known").count, ..ban("192.0.2.1", "sshd", 200, Some(120)) };
    bans.add(vec![again]).expect("written");
    drop(bans);
    let (bans, _) = open(dir.path(), 3600);
    assert_eq!(bans.past(&first.key()), Some(PastBans { count: 2, last: at(200).0 }));
    drop(bans);
    let (mut bans, _) = open(dir.path(), 9 * 86_400);
    assert_eq!(bans.past(&first.key()).map(|past| past.count), Some(2), "also after the file was written anew");
    bans.tidy(at(11 * 86_400).0).expect("tidied");
    assert_eq!(bans.past(&first.key()), None);
    let other = ban("192.0.2.2", "sshd", 0, None);
    bans.add(vec![other.clone()]).expect("written");
    bans.remove(&[other.key()], true).expect("written");
    drop(bans);
    assert_eq!(open(dir.path(), 9 * 86_400).0.past(&other.key()), None, "forgotten on request");
}

/// A ban lasts as long as it was said to last, whatever is done to the wall clock.
#[test]
fn the_wall_clock_may_step() {
    let day = Span::from_days(1);
    for step in
        [Span::from_days(-400), Span::ZERO - day, Span::from_secs(-3), Span::from_secs(3), day, Span::from_days(4000)]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut bans, _) = open(dir.path(), 0);
        bans.add(vec![ban("192.0.2.1", "sshd", 0, Some(600))]).expect("written");
        // While it runs.
        let (now, monotonic) = at(100);
        let now = moved(now, step);
        assert_eq!(bans.read_clocks(now, monotonic).expect("written"), step);
        assert_eq!(bans.read_clocks(now, monotonic).expect("written"), Span::ZERO);
        assert_eq!(bans.holds(now).into_values().collect::<Vec<_>>(), [Some(Span::from_secs(500))], "{step}");
        drop(bans);
        // While nothing runs: it is set back to where it was.
        let (mut bans, opened) = open(dir.path(), 200);
        assert_eq!(opened.step, Span::ZERO - step);
        assert_eq!(bans.holds(at(200).0).into_values().collect::<Vec<_>>(), [Some(Span::from_secs(400))], "{step}");
        assert_eq!(bans.expire(at(599).0), []);
        assert_eq!(bans.expire(at(600).0).len(), 1);
    }
}

/// After a reboot there is the wall clock alone. One that stands before the ban began gives it its whole length, and no more.
#[test]
fn after_a_reboot_no_ban_lasts_longer_than_it_was_meant_to() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, _) = open(dir.path(), 0);
    bans.add(vec![ban("192.0.2.1", "sshd", 0, Some(600)), ban("192.0.2.2", "sshd", 0, None)]).expect("written");
    drop(bans);
    let (bans, _) = Bans::open(dir.path(), "next boot", KEPT, at(100).0, Monotonic(7)).expect("opened");
    assert_eq!(bans.holds(at(100).0).into_values().collect::<Vec<_>>(), [Some(Span::from_secs(500)), None]);
    drop(bans);
    let beginning = Time::from_secs(0);
    let (mut bans, _) = Bans::open(dir.path(), "third boot", KEPT, beginning, Monotonic(0)).expect("opened");
    assert_eq!(bans.holds(beginning).into_values().collect::<Vec<_>>(), [Some(Span::from_secs(600)), None]);
    // The time is set, a minute later.
    let monotonic = Monotonic(60_000_000);
    bans.read_clocks(at(200).0, monotonic).expect("written");
    assert_eq!(bans.holds(at(200).0).into_values().collect::<Vec<_>>(), [Some(Span::from_secs(540)), None]);
}

/// Wherever the file is cut off, and whichever byte is damaged, what stands in whole lines is there, and nothing else is.
#[test]
fn a_damaged_file_loses_the_damaged_lines_alone() {
    let mut draws = Draws::from_environment();
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(FILE);
    let (mut bans, _) = open(dir.path(), 0);
    let some: Vec<_> = (1..=20).map(|n| ban(&format!("192.0.2.{n}"), "sshd", 0, None)).collect();
    for ban in &some {
        bans.add(vec![ban.clone()]).expect("written");
    }
    drop(bans);
    let whole = std::fs::read(&path).expect("read");
    for _ in 0..100 {
        let cut = draws.below(whole.len());
        std::fs::write(&path, &whole[..cut]).expect("written");
        let (bans, opened) = open(dir.path(), 1);
        // The first line is that of the clocks.
        let lines = whole[..cut].split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(all(&bans), some[..lines.saturating_sub(1)], "cut at {cut}");
        assert_eq!(opened.damaged, usize::from(cut > 0 && whole[cut - 1] != b'\n'));

        let mut damaged = whole.clone();
        let place = draws.below(damaged.len());
        damaged[place] ^= 1 << draws.below(8_u32);
        std::fs::write(&path, &damaged).expect("written");
        let (mut bans, opened) = open(dir.path(), 1);
        assert!((1..=2).contains(&opened.damaged), "byte {place}");
        assert!(bans.len() >= 18 && bans.iter().all(|ban| some.contains(ban)), "byte {place}");
        // And it can be written on.
        bans.add(vec![ban("192.0.2.99", "sshd", 0, None)]).expect("written");
        let before = all(&bans);
        drop(bans);
        let (bans, opened) = open(dir.path(), 1);
        assert_eq!((all(&bans), opened.damaged), (before, 0));
    }
}

/// What is acknowledged is there at the next start, whatever was done before: drawn changes, beside a model.
#[test]
fn the_file_holds_what_was_acknowledged() {
    let mut draws = Draws::from_environment();
    let dir = tempfile::tempdir().expect("a folder");
    let mut model = BTreeMap::new();
    let mut bans = open(dir.path(), 0).0;
    for second in 1..1500 {
        let address = format!("192.0.2.{}", draws.below(30_u8));
        match draws.below(10_u8) {
            0..=4 => {
                let lasts = draws.chance(70).then(|| 1 + draws.below(200_i64));
                let ban = ban(&address, draws.pick(&["sshd", "nginx"]), second, lasts);
                model.insert(ban.key(), ban.clone());
                bans.add(vec![ban]).expect("written");
            }
            5..=6 => {
                let key = ban(&address, "sshd", 0, None).key();
                let mut removed = bans.remove(std::slice::from_ref(&key), false).expect("written");
                removed.retain(|ban| ban.until.is_none_or(|until| until > at(second).0));
                model.retain(|_, ban: &mut Ban| ban.until.is_none_or(|until| until > at(second).0));
                assert_eq!(removed, model.remove(&key).into_iter().collect::<Vec<_>>());
            }
            7 => _ = bans.expire(at(second).0),
            8 => bans.tidy(at(second).0).expect("tidied"),
            _ => {
                drop(bans);
                bans = open(dir.path(), second).0;
            }
        }
        model.retain(|_, ban: &mut Ban| ban.until.is_none_or(|until| until > at(second).0));
        let in_force: Vec<_> =
            bans.iter().filter(|ban| ban.until.is_none_or(|until| until > at(second).0)).cloned().collect();
        assert_eq!(in_force, model.values().cloned().collect::<Vec<_>>(), "second {second}");
    }
}

#[test]
fn the_file_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, _) = open(dir.path(), 0);
    for _ in 0..6 {
        bans.add(vec![ban("192.0.2.1", &"r".repeat(500), 0, None); 1000]).expect("written");
        bans.tidy(at(0).0).expect("tidied");
    }
    assert!(bans.lines <= SPARE_LINES + 4, "{} lines", bans.lines);
    assert_eq!(all(&bans)[0].rule.len(), RULE_BYTES_MAX);
}

#[test]
fn a_full_disk_acknowledges_nothing_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, _) = open(dir.path(), 0);
    let first = ban("192.0.2.1", "sshd", 0, None);
    bans.add(vec![first.clone()]).expect("written");
    // What every write to it is answered with is that the disk is full.
    let real = std::mem::replace(&mut bans.file, OpenOptions::new().append(true).open("/dev/full").expect("opened"));
    let error = bans.add(vec![ban("192.0.2.2", "sshd", 0, None)]).expect_err("full");
    assert!(matches!(error, BansError::Io { what: "written", .. }), "{error}");
    assert_eq!(all(&bans), std::slice::from_ref(&first));
    bans.file = real;
    bans.add(vec![ban("192.0.2.3", "sshd", 0, None)]).expect("room again");
    drop(bans);
    let (bans, opened) = open(dir.path(), 0);
    assert_eq!((bans.len(), opened.damaged), (2, 0));
}

/// A hold lasts as long as the longest of the bans that want it.
#[test]
fn bans_share_a_hold() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, _) = open(dir.path(), 0);
    let shared = Hold { network: "2001:db8::/64".parse().expect("a network"), ports: Ports::All };
    let bans_of = [("2001:db8::1", Some(600)), ("2001:db8::2", Some(60)), ("2001:db8::3", Some(0))];
    bans.add(bans_of.map(|(address, lasts)| Ban { hold: shared.clone(), ..ban(address, "sshd", 0, lasts) }).into())
        .expect("written");
    assert_eq!(bans.holds(at(0).0), BTreeMap::from([(shared.clone(), Some(Span::from_secs(600)))]));
    assert_eq!(bans.lasting(&shared, at(10).0), Some(Some(Span::from_secs(590))));
    assert_eq!(bans.lasting(&shared, at(600).0), None);
    bans.add(vec![Ban { hold: shared.clone(), ..ban("2001:db8::2", "nginx", 0, None) }]).expect("written");
    assert_eq!(bans.holds(at(0).0), BTreeMap::from([(shared, None)]));
}

/// What has been acknowledged when the process is killed is there: a child adds bans and says each when it is acknowledged.
#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    use std::io::{BufRead as _, Write as _};

    const DIR: &str = "GARANT_BANS_OF_THE_CHILD";
    if let Some(dir) = std::env::var_os(DIR) {
        let (mut bans, _) = open(Path::new(&dir), 0);
        for n in 0..u32::MAX {
            bans.add(vec![ban(&std::net::Ipv4Addr::from(n).to_string(), "sshd", 0, None)]).expect("written");
            if n % 50 == 0 {
                bans.torn = true;
            }
            writeln!(std::io::stderr(), "acknowledged {n}").expect("said");
        }
    }
    for after in [1, 49, 60, 130] {
        let dir = tempfile::tempdir().expect("a folder");
        let this = std::env::current_exe().expect("this program");
        #[expect(clippy::disallowed_methods, reason = "a process that a test kills")]
        let mut child = std::process::Command::new(this)
            .args(["act::bans::tests::a_kill_loses_nothing_that_was_acknowledged", "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut last = 0;
        let mut numbers = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<usize>().ok());
        numbers.by_ref().take(after).for_each(|number| last = number);
        child.kill().expect("killed");
        child.wait().expect("ended");
        numbers.for_each(|number| last = number);
        let (bans, _) = open(dir.path(), 1);
        // The one that was being written may be there as well.
        assert!((last + 1..=last + 2).contains(&bans.len()), "{} of {last} and one", bans.len());
    }
}

/// What is asked of one hold is what is said of all.
#[test]
fn the_length_of_one_hold_is_that_of_all() {
    let mut draws = Draws::from_environment();
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, _) = open(dir.path(), 0);
    let mut all = Vec::new();
    for _ in 0..400 {
        let v6 = format!("2001:db8::{:x}:{:x}", draws.below(3_u16), draws.below(9_u16));
        let v4 = format!("192.0.2.{}", draws.below(20_u8));
        let lasts = draws.chance(80).then(|| draws.below(300_i64));
        let mut ban = ban(&if draws.chance(50) { v4 } else { v6 }, draws.pick(&["a", "b"]), 0, lasts);
        let prefix = if ban.network.addr().is_ipv6() { draws.pick(&[64, 112, 128]) } else { draws.pick(&[24, 32]) };
        ban.hold.network = IpNet::new(ban.network.addr(), prefix).expect("a prefix").trunc();
        all.push(ban);
    }
    bans.add(all.clone()).expect("written");
    let holds = bans.holds(at(100).0);
    for ban in all {
        assert_eq!(bans.lasting(&ban.hold, at(100).0), holds.get(&ban.hold).copied(), "{:?}", ban.hold);
    }
}

/// A ban that the next ones do not count is none for them, over restarts and however the file was written.
#[test]
fn a_ban_that_does_not_count_is_none_for_the_next_ones() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut bans, _) = open(dir.path(), 0);
    let both = ["recidive".to_owned(), "sshd".to_owned()];
    bans.count_as(BanCounts { of_all: both.clone().into(), ..BanCounts::default() });
    let (first, second) = (ban("192.0.2.1", "sshd", 0, Some(600)), ban("192.0.2.1", "recidive", 0, Some(600)));
    assert!(!bans.is_uncounted(&first.key(), first.since), "nobody was banned yet");
    bans.add(vec![first.clone()]).expect("written");
    assert!(bans.is_uncounted(&second.key(), second.since) && !bans.is_uncounted(&second.key(), at(1).0));
    bans.add(vec![Ban { count: 1, uncounted: true, ..second.clone() }]).expect("written");
    for seconds in 1..=3 {
        let counts = [&first, &second].map(|ban| bans.past(&ban.key()).map(|past| past.count));
        assert_eq!((counts, bans.len()), ([Some(1), Some(0)], 2));
        drop(bans);
        bans = open(dir.path(), seconds).0;
        bans.torn = seconds > 1;
        bans.tidy(at(seconds).0).expect("written");
    }
    // The database of fail2ban may know of more.
    bans.remember(vec![(second.key(), PastBans { count: 4, last: at(-90).0 })]).expect("written");
    for seconds in 4..=6 {
        assert_eq!(bans.past(&second.key()), Some(PastBans { count: 4, last: at(0).0 }));
        drop(bans);
        bans = open(dir.path(), seconds).0;
        bans.torn = seconds > 4;
        bans.tidy(at(seconds).0).expect("written");
    }
    bans.count_as(BanCounts { of_all: both.into(), ..BanCounts::default() });
    assert_eq!(bans.counted(&first.key()), Some(PastBans { count: 5, last: at(0).0 }));
}
