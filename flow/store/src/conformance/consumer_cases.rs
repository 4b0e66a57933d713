//! Cases for stores of consumers.

use std::sync::Arc;

use event::Retention;

use super::{ConformanceSubject, event, events, journal_cases};
use crate::{EVENTS_MAX, KEY_BYTES_MAX, LongValue, ROWS_MAX, Row, Step, StoreError, VALUE_BYTES_MAX};

fn put(key: &str, value: &str) -> Row {
    Row::Put { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

fn delete(key: &str) -> Row {
    Row::Delete { key: key.to_owned() }
}

/// All rows of the consumer, as text.
async fn rows(subject: &ConformanceSubject, consumer: &str) -> Vec<(String, String)> {
    let rows = subject.consumers.rows(consumer, "", None, usize::MAX).await.expect("readable");
    rows.into_iter().map(|(key, value)| (key, String::from_utf8(value).expect("text"))).collect()
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub async fn a_step_is_whole(subject: &ConformanceSubject) {
    let consumers = &subject.consumers;
    assert_eq!(consumers.position("judge").await.expect("readable"), None);
    let first =
        Step { rows: vec![put("a", "1"), put("b", "1")], events: events(1, 0..2), ..Step::new("judge", None, 5) };
    assert_eq!(consumers.step(first).await.expect("made"), [1, 2]);
    assert_eq!(consumers.position("judge").await.expect("readable"), Some(5));
    // Of the changes of one row, the last counts.
    let changes = vec![put("a", "2"), delete("b"), delete("never there"), put("c", "1"), put("c", "2")];
    let second = Step { rows: changes, ..Step::new("judge", Some(5), 9) };
    assert_eq!(consumers.step(second).await.expect("made"), [0; 0]);
    let expected = pairs(&[("a", "2"), ("c", "2")]);
    assert_eq!(rows(subject, "judge").await, expected);

    let head = subject.journal.head().await.expect("a head");
    for from in [None, Some(5), Some(10)] {
        let step = Step { rows: vec![put("a", "lost")], events: events(1, 2..3), ..Step::new("judge", from, 99) };
        let refused = consumers.step(step).await;
        assert!(matches!(&refused, Err(StoreError::Conflict { found: Some(9), .. })), "{refused:?}");
    }
    let refused = consumers.step(Step { rows: vec![put("a", "lost")], ..Step::new("other", Some(9), 99) }).await;
    assert!(matches!(&refused, Err(StoreError::Conflict { found: None, .. })), "{refused:?}");
    assert_eq!(consumers.position("judge").await.expect("readable"), Some(9), "a refusal changes nothing");
    assert_eq!(rows(subject, "judge").await, expected);
    assert_eq!(subject.journal.head().await.expect("a head"), head);
    assert_eq!(rows(subject, "other").await, pairs(&[]));
    // A consumer may begin anew, and another one has rows of its own.
    consumers.step(Step { rows: vec![delete("a")], ..Step::new("judge", Some(9), 0) }).await.expect("made");
    consumers.step(Step { rows: vec![put("c", "other")], ..Step::new("other", None, 0) }).await.expect("made");
    assert_eq!(rows(subject, "judge").await, pairs(&[("c", "2")]));
    journal_cases::check_whole_log(subject).await;
}

pub async fn of_many_steps_from_one_cursor_one_is_made(subject: &ConformanceSubject) {
    let tasks: Vec<_> = (0..16u8)
        .map(|consumer| {
            let consumers = Arc::clone(&subject.consumers);
            let told = event(consumer, 0, Retention::Evidence, &consumer.to_string());
            let row = put("winner", &consumer.to_string());
            let step = Step { rows: vec![row], events: vec![told], ..Step::new("judge", None, u64::from(consumer)) };
            tokio::spawn(async move { consumers.step(step).await.is_ok() })
        })
        .collect();
    let mut winners = Vec::new();
    for (task, consumer) in tasks.into_iter().zip(0u64..) {
        if task.await.expect("no panic") {
            winners.push(consumer);
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(subject.consumers.position("judge").await.expect("readable"), Some(winners[0]));
    assert_eq!(rows(subject, "judge").await, pairs(&[("winner", &winners[0].to_string())]));
    assert_eq!(subject.journal.head().await.expect("a head").size, 2, "only its event is in the journal");
}

pub async fn rows_are_read_in_order_and_by_prefix(subject: &ConformanceSubject) {
    let consumers = &subject.consumers;
    let keys = ["z", "é/2", "a/10", "a/2", "a", "b/1", "a/2/x", "b", "a0", "ê/1", "\u{10ffff}"];
    let puts = keys.iter().map(|key| put(key, key)).collect();
    consumers.step(Step { rows: puts, ..Step::new("watch", None, 0) }).await.expect("made");
    for (prefix, after, limit, expected) in [
        ("", None, 99, &["a", "a/10", "a/2", "a/2/x", "a0", "b", "b/1", "z", "é/2", "ê/1", "\u{10ffff}"][..]),
        ("a/", None, 99, &["a/10", "a/2", "a/2/x"]),
        ("a/", None, 2, &["a/10", "a/2"]),
        ("a/", Some("a/10"), 99, &["a/2", "a/2/x"]),
        ("a/", Some("a/10/no such row"), 99, &["a/2", "a/2/x"]),
        ("a/", Some("a"), 1, &["a/10"]),
        ("a/", Some("b"), 99, &[]),
        ("", Some("z"), 99, &["é/2", "ê/1", "\u{10ffff}"]),
        ("é", None, 99, &["é/2"]),
        ("\u{10ffff}", None, 99, &["\u{10ffff}"]),
        ("", None, 0, &[]),
    ] {
        let rows = consumers.rows("watch", prefix, after, limit).await.expect("readable");
        let keys: Vec<&str> = rows.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, expected, "{prefix:?} after {after:?}, {limit} at most");
        assert!(rows.iter().all(|(key, value)| key.as_bytes() == value));
    }
}

pub async fn a_step_too_large_is_refused_whole(subject: &ConformanceSubject) {
    let consumers = &subject.consumers;
    let head = subject.journal.head().await.expect("a head");
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    let named = |length: usize| put(&"k".repeat(length), "");
    let many = |count: usize| (0..count).map(|n| put(&n.to_string(), "")).collect::<Vec<_>>();
    let told = |count: u64| Step { events: events(1, 0..count), ..Step::new("judge", None, 1) };
    let too_many_events = told(EVENTS_MAX as u64 + 1);
    for rows in [vec![put("a", &long)], vec![named(KEY_BYTES_MAX + 1)], many(ROWS_MAX + 1)] {
        let refused = consumers.step(Step { rows, ..told(1) }).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    }
    let refused = consumers.step(too_many_events).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    let refused = consumers.step(Step { rows: vec![named(0)], ..told(1) }).await;
    assert!(matches!(refused, Err(StoreError::Malformed { .. })), "{refused:?}");
    assert_eq!(subject.journal.head().await.expect("a head"), head, "nothing of it was kept");
    assert_eq!(consumers.position("judge").await.expect("readable"), None);

    // What is just not too large: a read is cut after 16 MiB, and goes on from there.
    let full = || vec![b'v'; VALUE_BYTES_MAX];
    let puts = (0..300).map(|n| Row::Put { key: format!("{n:0KEY_BYTES_MAX$}"), value: full() });
    consumers.step(Step { rows: puts.collect(), ..Step::new("judge", None, 1) }).await.expect("made");
    let some = consumers.rows("judge", "", None, usize::MAX).await.expect("readable");
    assert_eq!(some.len(), 16 * 1024 * 1024 / VALUE_BYTES_MAX);
    let last = some.last().map(|(key, _)| key.as_str());
    let rest = consumers.rows("judge", "", last, usize::MAX).await.expect("readable");
    assert_eq!(some.len() + rest.len(), 300);
    consumers.step(Step { rows: many(ROWS_MAX), ..Step::new("many", None, 1) }).await.expect("made");
    assert_eq!(consumers.rows("many", "", None, usize::MAX).await.expect("readable").len(), ROWS_MAX);
}

pub async fn a_step_sent_again_journals_nothing_twice(subject: &ConformanceSubject) {
    let consumers = &subject.consumers;
    let step = || Step { rows: vec![put("a", "1")], events: events(1, 0..3), ..Step::new("judge", Some(4), 4) };
    consumers.step(Step::new("judge", None, 4)).await.expect("made");
    let places = consumers.step(step()).await.expect("made");
    assert_eq!(places, [1, 2, 3]);
    assert_eq!(consumers.step(step()).await.expect("made again"), [0; 0], "events are known by their numbers");
    assert_eq!(subject.journal.append(events(1, 0..3)).await.expect("known"), [0; 0]);
    assert_eq!(subject.journal.head().await.expect("a head").size, 4);
}

pub async fn a_long_value_is_read_as_it_was_written(subject: &ConformanceSubject) {
    let consumers = &subject.consumers;
    let mut before = LongValue::default();
    for (step, length) in (0u64..).zip([0, 1, 3 * VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1, 40 * 1024 * 1024, 5, 0]) {
        let value = LongValue::from((0..length).map(|n| u8::try_from(n % 251).expect("small")).collect::<Vec<_>>());
        let rows = value.rows("state", &before);
        consumers.step(Step { rows, ..Step::new("judge", step.checked_sub(1), step) }).await.expect("made");
        before = LongValue::read(consumers.as_ref(), "judge", "state").await.expect("readable");
        assert_eq!(before, value, "{length} bytes");
        let left = consumers.rows("judge", "", None, usize::MAX).await.expect("readable").len();
        assert!(left <= length.div_ceil(VALUE_BYTES_MAX), "{left} rows for {length} bytes");
    }
}
