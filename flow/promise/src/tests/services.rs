//! The state of a service and since when, as people are told it.

use event::engine::{Blind, BlindCause};
use event::evidence::{Changed, Covered, Found, State};
use event::policy::{Agreement, Applied, Service, Text};
use event::{Interval, ObserverId, ServiceId};

use super::scene::*;
use crate::Judge;

/// A service with two probes, and one with none.
fn policy(revision: &str) -> Applied {
    let services = [SHOP, "empty"].map(|id| Service { id: name(id), title: Text::default() });
    Applied {
        revision: revision.to_owned(),
        services: services.into(),
        probes: ["front", "back"].map(|id| probe(id, SHOP, &["a", "b"], Agreement::Majority)).into(),
        findings: vec![],
        maintenance: vec![],
        promises: vec![],
    }
}

struct Story {
    judge: Judge,
    next: u64,
}

impl Story {
    fn new() -> Self {
        let mut judge = Judge::new();
        judge.apply_policy(0, t(0), &policy("r1"));
        Self { judge, next: 1 }
    }

    fn says(&mut self, observer: &str, probe: &str, state: State, by: i64) {
        self.change(observer, probe, state, by, by);
    }

    fn change(&mut self, observer: &str, probe: &str, state: State, after: i64, by: i64) {
        let changed = Changed { probe: name(probe), service: name(SHOP), state, after: t(after), by: t(by) };
        self.judge.apply_changed(self.next, &name::<ObserverId>(observer), t(by), &changed);
        self.next += 1;
    }

    fn covers(&mut self, observer: &str, start: i64, end: i64) {
        let interval = Interval::new(t(start), t(end));
        let covered = Covered { interval, revision: "r1".to_owned(), every: None, gaps: vec![] };
        self.judge.apply_covered(self.next, &name::<ObserverId>(observer), t(end), &covered);
        self.next += 1;
    }

    fn blind(&mut self, engine: &str, cause: BlindCause, start: i64, end: i64) {
        let blind = Blind { engine: engine.to_owned(), interval: Interval::new(t(start), t(end)), cause };
        self.judge.apply_blind(self.next, &name::<ObserverId>("a"), &blind);
        self.next += 1;
    }

    fn unwatched(&mut self) -> Vec<[i64; 2]> {
        self.shop();
        let unwatched = self.judge.unwatched();
        unwatched.intervals().iter().map(|i| [i.start, i.end].map(|at| at.since(t(0)).secs())).collect()
    }

    /// When the state of the shop began: after and by.
    fn began(&mut self) -> (Option<i64>, i64) {
        self.shop();
        let standing = self.judge.services()[&name::<ServiceId>(SHOP)];
        (standing.began_after.map(|after| after.since(t(0)).secs()), standing.since.since(t(0)).secs())
    }

    fn finds(&mut self, open: bool, by: i64) {
        let found = Found { finding: name("disk-usage"), probe: name("front"), open, after: t(by), by: t(by) };
        self.judge.apply_found(self.next, &name::<ObserverId>("a"), t(by), &found);
        self.next += 1;
    }

    /// The state of the shop and since when; the same after a restart that goes on from what is kept.
    fn shop(&mut self) -> (Option<State>, i64) {
        let rows = self.judge.clone().changed_parts().expect("JSON");
        let again = Judge::from_parts(self.next, rows.into_iter().filter_map(|(key, value)| Some((key, value?))));
        let again = again.expect("what was kept");
        assert_eq!(again.services(), self.judge.services());
        assert_eq!(again.open_findings(), self.judge.open_findings());
        assert_eq!(again.unwatched(), self.judge.unwatched());
        let standing = self.judge.services()[&name::<ServiceId>(SHOP)];
        (standing.state, standing.since.since(t(0)).secs())
    }
}

/// One probe of two fails for a while: the service is up since that was over, not since the other probe was first asked.
#[test]
fn a_service_is_up_since_all_of_it_is() {
    let mut story = Story::new();
    assert_eq!(story.shop(), (None, 0), "nobody has looked");
    for observer in ["a", "b"] {
        story.says(observer, "front", State::Up, 10);
        story.says(observer, "back", State::Up, 11);
    }
    assert_eq!(story.shop(), (Some(State::Up), 11));
    story.says("a", "back", State::Down, 100);
    assert_eq!(story.shop(), (Some(State::Flapping), 100), "half of the observers");
    story.says("b", "back", State::Down, 101);
    assert_eq!(story.shop(), (Some(State::Down), 101));
    story.says("a", "back", State::Up, 108);
    story.says("b", "back", State::Up, 109);
    assert_eq!(story.shop(), (Some(State::Up), 109));
    story.says("a", "front", State::Degraded, 200);
    assert_eq!(story.shop(), (Some(State::Degraded), 200));
    story.says("a", "front", State::Up, 300);
    assert_eq!(story.shop(), (Some(State::Up), 300));
    let empty = story.judge.services()[&name::<ServiceId>("empty")];
    assert_eq!(empty.state, None, "without probes nothing is known");
}

/// A break is what no observer reported: another one that went on looking fills it.
#[test]
fn a_break_is_what_nobody_reported() {
    let mut story = Story::new();
    assert!(story.judge.unwatched().is_empty());
    let mut covers = |observer: &str, start: i64, end: i64| {
        story.covers(observer, start, end);
        story.unwatched()
    };
    assert_eq!(covers("a", 0, 60), [[0; 2]; 0]);
    assert_eq!(covers("a", 120, 180), [[60, 120]]);
    assert_eq!(covers("a", 300, 360), [[60, 120], [180, 300]]);
    assert_eq!(covers("b", 60, 200), [[200, 300]]);
}

/// Until a record tells it, a break is what the watch said of itself: a restart, a standstill. That a line out was dead, or that
/// another engine stood still, is none.
#[test]
fn a_break_is_told_before_the_next_record() {
    let mut story = Story::new();
    story.covers("a", 0, 60);
    story.blind("watch", BlindCause::Restart, 60, 90);
    assert_eq!(story.unwatched(), [[60, 90]]);
    story.blind("all", BlindCause::Stopped, 100, 173);
    story.blind("judge", BlindCause::Frozen, 180, 190);
    story.blind("watch", BlindCause::Uplink, 190, 200);
    assert_eq!(story.unwatched(), [[60, 90], [100, 173]]);
    story.covers("a", 90, 100);
    assert_eq!(story.unwatched(), [[60, 90], [100, 173]]);
    story.covers("a", 174, 200);
    assert_eq!(story.unwatched(), [[60, 90], [100, 174]], "now the records tell");
}

/// What began while nobody looked began at some time of that: the first look after a restart is not its beginning. In plain
/// running a bracket is as long as looks are apart, and nothing is said of it.
#[test]
fn what_began_unwatched_has_no_beginning() {
    let mut story = Story::new();
    for observer in ["a", "b"] {
        story.says(observer, "front", State::Up, 10);
        story.says(observer, "back", State::Up, 10);
        story.covers(observer, 10, 100);
    }
    assert_eq!(story.began(), (None, 10), "nothing was before");
    for observer in ["a", "b"] {
        story.says(observer, "front", State::Up, 501);
        story.says(observer, "back", State::Down, 502);
    }
    assert_eq!(story.began(), (Some(100), 502));
    story.covers("a", 500, 620);
    story.covers("b", 500, 620);
    for observer in ["a", "b"] {
        story.change(observer, "back", State::Up, 610, 621);
    }
    assert_eq!(story.began(), (None, 621), "between two looks");
    for observer in ["a", "b"] {
        story.change(observer, "back", State::Down, 680, 900);
    }
    assert_eq!(story.began(), (Some(680), 900), "looks between them showed nothing");
    story.finds(false, 900);
    story.finds(true, 2000);
    let began = *story.judge.open_findings().values().next().expect("it is open");
    assert_eq!((began.after, began.by), (Some(t(620)), t(2000)));
}

/// A probe that comes back into the policy has no state before it is looked at again, whatever it was.
#[test]
fn a_probe_that_comes_back_is_not_known() {
    let mut story = Story::new();
    for observer in ["a", "b"] {
        story.says(observer, "front", State::Up, 10);
        story.says(observer, "back", State::Down, 20);
    }
    assert_eq!(story.shop(), (Some(State::Down), 20));
    let mut without_back = policy("r2");
    without_back.probes.pop();
    for (at, applied, expected) in [(100, without_back, (Some(State::Up), 100)), (106, policy("r3"), (None, 106))] {
        story.judge.apply_policy(story.next, t(at), &applied);
        story.next += 1;
        assert_eq!(story.shop(), expected);
    }
    story.says("a", "back", State::Down, 108);
    story.says("b", "back", State::Down, 108);
    assert_eq!(story.shop(), (Some(State::Down), 108));
    assert_eq!(story.began(), (None, 108));
}

/// An outage that is handed over from one probe to another is one; a restart of the watch, which tells every state anew, and
/// a policy that changes nothing of the service are no change.
#[test]
fn an_outage_is_as_long_as_the_service_is_down() {
    let mut story = Story::new();
    for (probe, state, by) in [
        ("front", State::Up, 10),
        ("back", State::Up, 10),
        ("front", State::Down, 100),
        ("back", State::Down, 150),
        ("front", State::Up, 160),
        ("back", State::Down, 170),
        ("front", State::Up, 170),
    ] {
        story.says("a", probe, state, by);
        story.says("b", probe, state, by);
    }
    assert_eq!(story.shop(), (Some(State::Down), 100));
    story.judge.apply_policy(story.next, t(200), &policy("r2"));
    story.next += 1;
    assert_eq!(story.shop(), (Some(State::Down), 100));
    let mut without_back = policy("r3");
    without_back.probes.pop();
    story.judge.apply_policy(story.next, t(300), &without_back);
    story.next += 1;
    assert_eq!(story.shop(), (Some(State::Up), 300), "by the policy, the rest is up");
}

/// A finding that the watch tells again, after a restart or after a day, has been open since it was found first.
#[test]
fn a_finding_is_open_since_it_was_found() {
    let mut story = Story::new();
    let since = |story: &mut Story| {
        story.shop();
        story.judge.open_findings().values().map(|began| began.by.since(t(0)).secs()).collect::<Vec<_>>()
    };
    for (open, by, expected) in
        [(false, 10, &[][..]), (true, 100, &[100]), (true, 500, &[100]), (false, 600, &[]), (true, 700, &[700])]
    {
        story.finds(open, by);
        assert_eq!(since(&mut story), expected, "by {by}");
    }
    let mut without = policy("r2");
    without.probes.clear();
    story.judge.apply_policy(story.next, t(800), &without);
    story.next += 1;
    assert!(since(&mut story).is_empty(), "nobody looks for it");
}
