use super::*;
use crate::testing::{Log, policy_of, verdict};

/// The sequences that are listed.
fn listed(log: &Log) -> Vec<u64> {
    log.listing(log.entries.len()).verdicts().iter().map(|listed| listed.sequence).collect()
}

#[test]
fn the_latest_on_what_is_in_effect_is_listed() {
    let mut log = Log::new("shop.example/1", 1);
    let say = |log: &mut Log, promise: &str, revision: &str, objective| {
        let verdict = verdict(log, promise, revision, objective);
        log.append(&verdict)
    };
    say(&mut log, "AV-1", "r1", 0);
    assert_eq!(listed(&log), Vec::<u64>::new(), "no policy is in effect");
    log.append(&policy_of(&[("AV-1", "r1", 2), ("BK-1", "r7", 1)]));
    assert_eq!(listed(&log), [1]);
    let second = say(&mut log, "AV-1", "r1", 1);
    let first = say(&mut log, "AV-1", "r1", 0);
    say(&mut log, "AV-1", "r1", 2);
    say(&mut log, "CO-1", "r1", 0);
    assert_eq!(listed(&log), [first, second], "no third objective, no other promise");
    // Another revision is another promise: what was said of the one before says nothing of it.
    log.append(&policy_of(&[("AV-1", "r2", 2), ("BK-1", "r7", 1)]));
    assert_eq!(listed(&log), Vec::<u64>::new());
    let backup = say(&mut log, "BK-1", "r7", 0);
    let renewed = say(&mut log, "AV-1", "r2", 1);
    assert_eq!(listed(&log), [renewed, backup]);
    say(&mut log, "AV-1", "r1", 1);
    assert_eq!(listed(&log), [backup], "the last word on that objective is about another revision");
    // Of a policy that nobody can read, nothing is in effect.
    let applied = log.append(&policy_of(&[("BK-1", "r7", 1)]));
    assert_eq!(listed(&log), [backup]);
    log.entries[usize::try_from(applied).expect("small")].payload = None;
    assert_eq!(listed(&log), Vec::<u64>::new());
}

/// The list repeats the log byte for byte: not even the order of keys is ours to change.
#[test]
fn bodies_are_those_of_the_log() {
    let mut log = Log::new("shop.example/1", 1);
    log.append(&policy_of(&[("AV-1", "r1", 1)]));
    let body = serde_json::to_string(&verdict(&log, "AV-1", "r1", 0)).expect("JSON").replacen('{', "{ \"later\":1,", 1);
    let sequence = log.append_text(Verdict::KIND.name, 1, Verdict::KIND.name, &body);
    let mut listing = Listing::new();
    (1..=sequence).for_each(|n| listing.take(n, &log.envelope(n).expect("there")));
    assert_eq!(listing.verdicts()[0].verdict.get(), body);
    assert!(!listing.is_newer());
    let newer = log.append_text(Verdict::KIND.name, 9, Verdict::KIND.name, "{}");
    listing.take(newer, &log.envelope(newer).expect("there"));
    assert!(listing.is_newer());
}
