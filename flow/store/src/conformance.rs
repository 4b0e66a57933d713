//! The tests that every implementation of the traits must pass.
//!
//! A contract in prose is worth what checks it. Each function here takes a fresh [`ConformanceSubject`] and panics where the contract is
//! broken; [`conformance_tests!`](crate::conformance_tests) makes a test of each, so that a new case is one function and one
//! line, for all databases.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use event::{BootId, Clock, Family, Kind, Monotonic, Observed, Retention, Span, Time};
use journal::note::{SigningKey, VerifierKey};

use crate::sqlite::SqliteOptions;
use crate::{Append, Consumers, Publish, Retain, Samples};

pub mod consumer_cases;
pub mod journal_cases;
pub mod sample_cases;

/// Every right to a journal at once. One struct implements them all, and only these cases need more than one.
pub trait WholeJournal: Append + Publish + Retain {}

impl<J: Append + Publish + Retain> WholeJournal for J {}

/// An open store with nothing in it but its first entry.
pub struct ConformanceSubject {
    /// Its journal.
    pub journal: Arc<dyn WholeJournal>,
    /// Its consumers.
    pub consumers: Arc<dyn Consumers>,
    /// Its samples.
    pub samples: Arc<dyn Samples>,
    /// The clock it was opened with, at [`START`].
    pub clock: Arc<ManualClock>,
    /// Verifies its checkpoints.
    pub vkey: VerifierKey,
    /// Keeps its place (a directory, a database) until the test is over.
    pub place: Box<dyn std::any::Any + Send + Sync>,
}

/// 2026-11-22T10:00:30Z.
pub const START: Time = Time::from_secs(1_795_341_630);
/// Origin of the logs under test.
pub const ORIGIN: &str = "shop.example/1";

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock at that time.
    pub fn at(time: Time) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(time.micros())))
    }

    /// Moves it forward.
    pub fn advance(&self, span: Span) {
        self.0.fetch_add(span.micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.load(Ordering::SeqCst))
    }
}

/// How to open a data directory for a log under test, signed by the first key.
pub fn options(dir: &Path, clock: &Arc<ManualClock>) -> SqliteOptions {
    SqliteOptions {
        dir: dir.to_owned(),
        origin: ORIGIN.to_owned(),
        observer: "garant".parse().expect("a name"),
        signers: vec![signing_key(1)],
        remembered: Vec::new(),
        continues: None,
        clock: Arc::clone(clock) as _,
    }
}

/// The same key for the same seed.
pub fn signing_key(seed: u8) -> SigningKey {
    SigningKey::generate([seed; 32], ORIGIN).expect("the origin is a name")
}

/// The event `sequence` of the run `boot`, with a body that holds `text`.
pub fn event(boot: u8, sequence: u64, class: Retention, text: &str) -> Observed {
    let kind = match class {
        Retention::Evidence => Kind::public("watch.detail", Family::Monitoring),
        Retention::Audit => Kind::team("watch.detail", Family::Security),
        Retention::Records => Kind::record("watch.detail", Family::Security),
        Retention::Traces => Kind::trace("watch.detail"),
        Retention::Permanent => Kind::permanent("watch.detail", Family::Security),
    };
    Observed {
        kind: kind.name.to_owned(),
        version: 1,
        coarse: kind.coarse(),
        retention: class,
        observer: "gravelines".parse().expect("a name"),
        boot: BootId::from_bytes([boot; 16]),
        sequence,
        observed_at: START,
        signature: None,
        body: serde_json::value::to_raw_value(text).expect("a string is JSON"),
    }
}

/// Events `range` of the run `boot`, of both classes in turn.
pub fn events(boot: u8, range: std::ops::Range<u64>) -> Vec<Observed> {
    let class = |sequence| if sequence % 3 == 0 { Retention::Audit } else { Retention::Evidence };
    range.map(|sequence| event(boot, sequence, class(sequence), &format!("event {sequence} of run {boot}"))).collect()
}

/// Makes a test of each case. `$open` is an async function that gives a fresh [`ConformanceSubject`].
#[macro_export]
macro_rules! conformance_tests {
    ($open:path) => {
        $crate::conformance_tests!(
            $open,
            journal_cases: entries_read_back_as_they_were_appended,
            a_spool_sent_again_changes_nothing,
            no_event_is_appended_twice,
            many_callers_get_places_without_gaps,
            proofs_hold_at_every_size,
            ranges_end_where_the_log_ends,
            what_is_not_wanted_is_left_out,
            what_cant_be_kept_is_refused_whole,
            publishing_never_goes_back,
            a_destroyed_day_keeps_its_proofs,
        );
        $crate::conformance_tests!(
            $open,
            consumer_cases: a_step_is_whole,
            of_many_steps_from_one_cursor_one_is_made,
            rows_are_read_in_order_and_by_prefix,
            a_step_too_large_is_refused_whole,
            a_long_value_is_read_as_it_was_written,
            a_step_sent_again_journals_nothing_twice,
        );
        $crate::conformance_tests!(
            $open,
            sample_cases: buckets_equal_the_samples,
            a_sample_sent_twice_counts_once,
            unbelievable_times_are_dropped_and_counted,
            what_is_old_goes_as_a_whole,
        );
    };
    ($open:path, $cases:ident: $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$cases::$case(&$open().await).await;
            }
        )+
    };
}

impl ConformanceSubject {
    /// The time of its clock.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The UTC day of its clock.
    pub fn clock_day(&self) -> event::Day {
        self.clock.now().day()
    }
}
