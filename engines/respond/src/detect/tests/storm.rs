//! A region with hundreds or thousands of services dies at once. WA-5, MA-2.

use std::fmt::Write as _;

use drawn::Draws;

use super::*;

fn region(hosts: usize, services: usize) -> String {
    let mut policy = POLICY.to_owned();
    policy.push_str("[[region]]\nname = \"big\"\nprovider = \"ovh\"\n");
    for host in 0..hosts {
        write!(policy, "[[host]]\nname = \"h{host}\"\nregion = \"big\"\n").expect("a text");
    }
    for service in 0..services {
        write!(policy, "[[service]]\nname = \"s{service}\"\nhost = [\"h{}\"]\n", service % hosts).expect("a text");
    }
    policy
}

/// All services die and recover, each when its probe looks next; the first message is acknowledged after a minute.
fn storm(hosts: usize, services: usize, every: i64) {
    let mut team = Team::with(&region(hosts, services));
    let mut draws = Draws::of(u64::try_from(every).expect("a number"));
    let mut at: Vec<(i64, usize)> = (0..services).map(|service| (draws.below(every * 10), service)).collect();
    at.sort_unstable();
    let mut acknowledged = false;
    for goes_down in [true, false] {
        let begin = team.now.steady;
        for (tenth, service) in &at {
            let due = begin + Span::from_millis(100 * tenth);
            if due > team.now.steady {
                team.pass(due.since(team.now.steady));
            }
            if goes_down {
                team.down(&format!("s{service}"));
            } else {
                team.up(&format!("s{service}"));
            }
            if !acknowledged && team.now.steady.since(START) >= Span::from_secs(60) {
                acknowledged = true;
                team.acknowledge(&format!("s{}", at[0].1), "Léa");
            }
        }
        if !acknowledged {
            team.pass(Span::from_secs(60));
            acknowledged = true;
            team.acknowledge(&format!("s{}", at[0].1), "Léa");
        }
        team.seconds(1800);
    }
    let words = format!("{services} services over {every} s: {:#?}", team.inbox);
    let first = &team.inbox[0];
    assert!(first.at.since(START) <= Span::from_millis(100 * at[0].0 + 1100), "{words}");
    if services / usize::try_from(every).expect("a number") >= 5 {
        assert!(first.subject.contains("Region big: ") && first.subject.contains(" services"), "{words}");
    }
    let mut per_channel: BTreeMap<&str, usize> = BTreeMap::new();
    for arrived in &team.inbox {
        *per_channel.entry(&arrived.to).or_default() += 1;
    }
    assert!(per_channel.values().all(|messages| *messages <= 3), "{words}");
    assert_eq!(team.inbox.last().map(|arrived| arrived.what), Some(What::Resolved), "{words}");
    let update = team.inbox.iter().find(|arrived| arrived.what == What::Update).expect("an update");
    if every <= 60 {
        assert!(update.subject.ends_with(&format!("Region big: {hosts} hosts, {services} services down")), "{words}");
    }
}

#[test]
fn three_hundred_services_are_three_messages() {
    for every in [10, 30, 60, 300] {
        storm(10, 300, every);
    }
}

/// More alerts than are kept are told as one; when there is room again that is over.
#[test]
fn too_many_alerts_are_told_as_one() {
    let mut team = Team::new();
    let opened = |at| Opening { severity: Severity::Info, ..Opening::bare(Source::Finding, at) };
    for number in 0..crate::detect::desk::ALERTS_MAX + 50 {
        let state = SignalState::Open(Box::new(opened(team.now.wall)));
        team.desk.signal(Signal { key: format!("finding/{number}"), state }, team.now);
    }
    team.seconds(3);
    assert_eq!(team.inbox.len(), 1, "{:?}", team.inbox);
    assert!(team.inbox[0].subject.contains("More than 20000 alerts"), "{:?}", team.inbox);
    assert!(!team.desk.has_room_again(team.now));
    for number in 0..5000 {
        let state = SignalState::Over(team.now.wall);
        team.desk.signal(Signal { key: format!("finding/{number}"), state }, team.now);
    }
    assert!(team.desk.has_room_again(team.now));
    team.seconds(10);
    assert_eq!(team.arrived(), ["Léa mail: Firing", "Léa mail: Resolved"]);
}

#[test]
fn ten_thousand_services_are_three_messages() {
    storm(100, 10_000, 30);
}
