//! The keys that all kinds of probe share.

use std::ops::RangeInclusive;

use event::policy::Agreement;
use event::{HostId, ProbeId, ServiceId, Span, VantageId};
use policy::Table;

/// How often a probe may ask.
const EVERY: RangeInclusive<Span> = Span::from_secs(1)..=Span::from_days(1);
const EVERY_USUAL: Span = Span::from_secs(60);
/// About the key `every` of a kind that asks.
const ASKED_EVERY: &str = "The longest time between two questions: each is asked at random, half of it to the whole of it after \
    the one before. A shorter outage may pass unseen.";
/// The longest a probe may wait for an answer.
const TIMEOUT_MAX: Span = Span::from_secs(60);
/// How long it waits unless the policy says otherwise: this, or half of the interval if that is shorter.
const TIMEOUT_USUAL: Span = Span::from_secs(10);
/// How many observers may look at one probe.
const OBSERVERS_MAX: usize = 16;

/// The keys that all kinds of probe share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Common {
    /// Its name.
    pub id: ProbeId,
    /// The service whose state the probe shows.
    pub service: ServiceId,
    /// The host that the probe concerns.
    pub host: Option<HostId>,
    /// How often the probe is asked, or a ping is due.
    pub every: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// An answer that takes longer than this is degraded.
    pub slower_than: Option<Span>,
    /// Observers that look; by default all of them, or the first for what can only be seen in one place.
    pub from: Vec<VantageId>,
    /// The agreement at which the probe counts as down.
    pub agreement: Agreement,
    /// Whether it can only be seen in one place.
    pub here: bool,
}

impl Common {
    /// The keys of a kind that asks over the network.
    pub fn read_asked(table: &mut Table<'_>) -> Option<Self> {
        let (id, service, host) = (name(table), service(table), host(table));
        let every = table.or_in("every", EVERY_USUAL, &EVERY, ASKED_EVERY);
        let usual = TIMEOUT_USUAL.min(Span::from_micros(every.micros() / 2));
        let about = "How long an answer may take. By default half of `every`, but not more than 10 s.";
        let timeout = table.optional_in("timeout", &(Span::from_millis(10)..=TIMEOUT_MAX), about).unwrap_or(usual);
        let about = "An answer that takes longer than this is degraded: it counts as up, and shows.";
        let slower_than = table.optional("slower_than", about);
        let about = "Observers that ask. By default all of them.";
        let from = observers(table, about);
        let about = "How many observers must agree that it is down: more than half, one, or all.";
        let agreement = table.optional("agreement", about).unwrap_or_default();
        if timeout >= every {
            let reason = format!("`timeout` is {timeout}, not shorter than `every`, {every}");
            table.mistake("timeout", reason, "an answer must be there before the next question: shorten `timeout`");
        }
        if let Some(slow) = slower_than.filter(|&slow| slow >= timeout) {
            let reason = format!("`slower_than` is {slow}, not shorter than the timeout, {timeout}");
            table.mistake("slower_than", reason, "no answer would ever be slow: shorten it, or lengthen `timeout`");
        }
        Some(Self { id: id?, service: service?, host, every, timeout, slower_than, from, agreement, here: false })
    }

    /// The keys of a kind that only reads this machine, or waits, and can only be seen in one place.
    pub fn read_here(table: &mut Table<'_>, range: RangeInclusive<Span>, usual: Span) -> Option<Self> {
        let (id, service, host) = (name(table), service(table), host(table));
        let every = table.or_in("every", usual, &range, "How often.");
        let from = observers(table, "The observer that looks. By default the first.");
        if from.len() > 1 {
            table.mistake("from", "it can only be seen by one observer", "name one, or remove `from`");
        }
        let timeout = TIMEOUT_USUAL;
        let agreement = Agreement::default();
        Some(Self { id: id?, service: service?, host, every, timeout, slower_than: None, from, agreement, here: true })
    }
}

fn name(table: &mut Table<'_>) -> Option<ProbeId> {
    table.declare("name", "What promises and pages call it. Public: no host, no address.")
}

fn service(table: &mut Table<'_>) -> Option<ServiceId> {
    table.required("service", "The service whose state it tells.")
}

fn host(table: &mut Table<'_>) -> Option<HostId> {
    table.optional(
        "host",
        "The host that what it asks runs on. Never public. Its failures are told together with others of that host.",
    )
}

fn observers(table: &mut Table<'_>, about: &'static str) -> Vec<VantageId> {
    let from: Vec<VantageId> = table.list("from", about);
    let mut sorted = from.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() < from.len() {
        table.mistake("from", "an observer is named twice", "name each once: its word does not count double");
    }
    if from.len() > OBSERVERS_MAX {
        table.mistake("from", format!("more than {OBSERVERS_MAX} observers"), "name fewer");
    }
    from
}
