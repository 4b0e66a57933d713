//! Heartbeats: a job tells that it ran, and silence is the alarm.
//!
//! Compatible with Healthchecks.io, so that the cron jobs people have keep working: `/ping/<uuid>` is a success,
//! `/ping/<uuid>/start` a start, `/ping/<uuid>/fail` a failure, `/ping/<uuid>/<exit status>` a success if it is 0 and a
//! failure otherwise. A success is expected every `every`, plus `grace`. A job that said it started has `grace` to
//! finish. What it says itself about failing is believed at once.
//!
//! Runs that overlap say which they are, as with Healthchecks, by `?rid=<uuid>`: the success of one is not the end of
//! another. Sixteen starts are remembered; a run beyond that is not timed. A success also ends what has been overdue until
//! then: a run that was killed is not the alarm of all that follow.
//!
//! **Silence that is ours.** A deadline that passed while nobody could listen (before the start, while the process stood
//! still, while the journal or the way out was dead) says nothing of the job, which may have called in vain. It gets
//! another `grace` from when listening began again, or `every` if that is shorter; until then nothing is known. And a step
//! of the wall clock is no time that passed: what is remembered moves with it.
//!
//! Its figure is the number of seconds since the last success.
//!
//! Every ping that is answered 200 is an entry: a figure that rests on some of the successes only would be wrong, and a
//! failure that is in no entry never happened. A job in a loop, or whoever has the address of a heartbeat, could fill the
//! journal so; therefore there is a bound on what is taken, and what is beyond it leaves no entry and is answered 429. Of
//! each message (success, start, failure) a heartbeat takes twenty in a row and then four a second, and over a longer time a
//! thousand and then one every five seconds. Each has room of its own: a flood of successes takes none from a failure.
//!
//! A ping that is refused was called in vain, so at that instant garant did not listen: coverage has a gap there, and no
//! promise is broken for want of a success that was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use engine::heartbeat::Said;
use engine::random::{Random as _, SystemRandom};
use engine::reason::Reason;
use event::{ProbeId, Span, Time};
use policy::{Section, Table};
use serde::{Deserialize, Serialize};

use crate::source::{Answer, Asking, Common, Probe, Settings};

/// Shortest time between two expected pings.
const EVERY_MIN: Span = Span::from_secs(10);
/// Longest time between two looks at a heartbeat: how late its lateness may be told.
const LOOK_EVERY_MAX: Span = Span::from_secs(30);
/// How many pings of one message are taken in a row, and one per which time after that.
const BURST: (i64, Span) = (20, Span::from_millis(250));
/// The same over a longer time: what is taken is journaled, and the journal is kept for a year.
const LASTING: (i64, Span) = (1000, Span::from_secs(5));
/// How many runs that have a name are timed at once.
const RUNS_MAX: usize = 16;

/// UUIDs of documentations of ours and of others, and of standards.
const KNOWN: [&str; 4] = [
    "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    "550e8400-e29b-41d4-a716-446655440000",
    "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "919108f7-52d1-4320-9bac-f847db4148a8",
];
/// Hexadecimal digits that are not alike in a random UUID: with fewer it is one in millions, or made by hand.
const DISTINCT_DIGITS_MIN: usize = 8;

/// The address of a heartbeat, in `/ping/<uuid>`. Whoever knows it can ping, so it is random.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PingId(String);

impl PingId {
    /// As text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Draws a random one (RFC 9562, section 5.4).
    fn draw() -> Self {
        let mut bytes = [0; 16];
        // The policy is read without a context, and no verdict depends on what a message proposes.
        SystemRandom.fill(&mut bytes);
        let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let digits = format!("{bits:032x}");
        let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
        Self(groups.join("-"))
    }

    /// Why others may know or guess it; `None` when it looks random.
    fn guessable(&self) -> Option<&'static str> {
        let digits: Vec<u8> = self.0.bytes().filter(|byte| *byte != b'-').collect();
        let distinct: BTreeSet<&u8> = digits.iter().collect();
        let random =
            matches!(digits.get(12), Some(b'4' | b'7')) && matches!(digits.get(16), Some(b'8' | b'9' | b'a' | b'b'));
        if KNOWN.contains(&self.as_str()) {
            Some("it stands in a documentation, where anybody reads it")
        } else if distinct.len() < DISTINCT_DIGITS_MIN {
            Some("it is not random, and can be guessed")
        } else if !random {
            Some("it is no random UUID (version 4 or 7 of RFC 9562), and can be guessed")
        } else {
            None
        }
    }
}

impl std::str::FromStr for PingId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if digits && groups == [8, 4, 4, 4, 12] { Ok(Self(text.to_ascii_lowercase())) } else { Err(()) }
    }
}

impl std::fmt::Display for PingId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl policy::Name for PingId {
    const NOUN: policy::Noun = "heartbeat address";
    const DECLARED_BY: &'static str = "[[probe.heartbeat]]";
    const NEW: &'static str = "a random UUID of its own";
    const WHAT: &'static str = "a UUID";
    const RULE: &'static str = "write a random UUID of your own, such as `uuidgen -r` prints";

    fn rule() -> String {
        format!("write a random UUID of your own, such as {}, which was drawn just now", PingId::draw())
    }
}

impl policy::Value for PingId {
    const SHAPE: &'static str = "a random UUID";
    const EXAMPLE: &'static str = "\"6ba7b810-9dad-41d1-80b4-00c04fd430c8\"";
    const PRIVATE: bool = true;

    fn proposal() -> String {
        format!("\"{}\"", Self::draw())
    }

    fn read(slot: policy::Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}

/// `[[probe.heartbeat]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Expected {
    common: Common,
    uuid: PingId,
    grace: Span,
}

impl Section for Expected {
    const ABOUT: &'static str = "A sign of life that is waited for: a job fetches `/ping/<uuid>` when it has run, and is down \
        when it has not for `every` plus `grace`. `/start`, `/fail` and `/<exit status>` may be added to the address, and \
        `?rid=<uuid>` to tell runs that overlap apart, as with Healthchecks.io.";
    const EXAMPLE: &'static str = "[[probe.heartbeat]]\nname = \"nightly-backup\"\nservice = \"shop\"\n\
        uuid = \"6ba7b810-9dad-41d1-80b4-00c04fd430c8\"\nevery = \"1 d\"\ngrace = \"1 h\"\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let common = Common::read_here(table, EVERY_MIN..=Span::from_days(366), Span::from_days(1));
        let uuid =
            table.declare("uuid", "The address of the heartbeat. Whoever knows it can ping: keep it to yourself. One that is not random is refused, and so is that of the example: `uuidgen -r` draws one.");
        let guessable = uuid.as_ref().and_then(PingId::guessable).filter(|_| !table.is_example());
        if let Some(reason) = guessable {
            let remedy = format!("whoever knows it can ping: write {}, which was drawn just now", PingId::draw());
            table.mistake("uuid", format!("`uuid` is an address that others know: {reason}"), remedy);
        }
        let range = Span::from_secs(1)..=Span::from_days(31);
        let grace = table.or_in(
            "grace",
            Span::from_secs(5 * 60),
            &range,
            "How late a ping may be, and how long a job may run that said it started.",
        );
        Some(Self { common: common?, uuid: uuid?, grace })
    }
}

impl Settings for Expected {
    fn common(&self) -> &Common {
        &self.common
    }

    fn into_probe(self: Arc<Self>) -> Arc<dyn Probe> {
        let settings = Arc::unwrap_or_clone(self);
        Arc::new(Heartbeat::new(settings.uuid, settings.common.every, settings.grace))
    }

    fn asked_every(&self) -> Span {
        Span::from_micros(self.common.every.micros() / 10).max(Span::from_secs(1)).min(LOOK_EVERY_MAX)
    }
}

/// What was heard of a job; kept over restarts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
pub struct Heard {
    /// The last success.
    pub success: Option<Time>,
    /// The last start of a run without a name, that no success or failure followed yet.
    pub running_since: Option<Time>,
    /// The same of runs that have a name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runs: BTreeMap<String, Time>,
    /// Whether the last word was a failure.
    pub failed: bool,
}

impl Heard {
    pub(crate) fn hear(&mut self, ping: Said, run: Option<&str>, at: Time, grace: Span) {
        match (ping, run) {
            (Said::Start, None) => self.running_since = Some(at),
            (Said::Start, Some(run)) => {
                if self.runs.len() < RUNS_MAX || self.runs.contains_key(run) {
                    self.runs.insert(run.to_owned(), at);
                }
            }
            (Said::Success | Said::Fail, None) => self.running_since = None,
            (Said::Success | Said::Fail, Some(run)) => drop(self.runs.remove(run)),
        }
        match ping {
            Said::Start => {}
            Said::Fail => self.failed = true,
            Said::Success => {
                (self.success, self.failed) = (Some(at), false);
                let in_time = |start: Time| at.since(start) <= grace;
                self.runs.retain(|_, start| in_time(*start));
                self.running_since = self.running_since.filter(|&start| in_time(start));
            }
        }
    }

    /// The wall clock was set: all that is remembered moves with it.
    fn step(&mut self, by: Span) {
        for time in self.success.iter_mut().chain(&mut self.running_since).chain(self.runs.values_mut()) {
            *time = *time + by;
        }
    }

    /// What it means at `now`, when waiting began at `waiting_since` and nobody listened during `absence`.
    fn answer(&self, expected: Expectation, waiting_since: Time, absence: Option<TimeUnheard>, now: Time) -> Answer {
        let Expectation { every, grace } = expected;
        let starts = self.runs.values().copied().chain(self.running_since);
        let finish = starts.min().map(|start| start + grace);
        let sign = self.success.unwrap_or(waiting_since) + every + grace;
        let missed = |deadline: Time| now > deadline;
        let excused = |deadline: Time| absence.is_some_and(|absence| absence.excuses(deadline, expected, now));
        let answer = if self.failed {
            Answer::down("the job said that it failed").because(vec![Reason::JobFailed])
        } else if finish.is_some_and(|finish| missed(finish) && !excused(finish)) {
            Answer::down(format!("the job started and did not finish within {grace}"))
                .because(vec![Reason::JobUnfinished { within: grace }])
        } else if missed(sign) && !excused(sign) {
            let last = match self.success {
                Some(success) => format!("no sign of life since {success}"),
                None => format!("no sign of life yet, waited for since {waiting_since}"),
            };
            Answer::down(format!("{last}: one is due every {every}, and {grace} late at most"))
                .because(vec![Reason::HeartbeatMissing { since: self.success, every, grace }])
        } else if missed(sign) || finish.is_some_and(missed) {
            Answer::unknown("it was due while nobody could listen; it is given some time to call again")
        } else if self.success.is_some() {
            Answer::up("the job ran")
        } else {
            Answer::unknown("no sign of life yet; it is not late")
        };
        match self.success {
            Some(success) => answer.with_value(now.since(success).secs()),
            None => answer,
        }
    }
}

/// What is expected of a job.
#[derive(Clone, Copy, Debug)]
struct Expectation {
    every: Span,
    grace: Span,
}

impl Expectation {
    /// How long a job that called in vain is given to call again.
    fn patience(self) -> Span {
        self.grace.min(self.every)
    }
}

/// A time during which nobody could listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeUnheard {
    /// When it began; always, if that is not known.
    pub(crate) since: Option<Time>,
    /// When listening began again.
    pub(crate) until: Time,
}

impl TimeUnheard {
    fn excuses(self, deadline: Time, expected: Expectation, now: Time) -> bool {
        let during = self.since.is_none_or(|since| since <= deadline) && deadline <= self.until;
        during && now <= self.until + expected.patience()
    }
}

/// A bucket of tokens: how many pings may be taken.
#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    tokens: i64,
    burst: i64,
    refill: Span,
    filled_at: Option<Time>,
}

impl TokenBucket {
    const fn full((burst, refill): (i64, Span)) -> Self {
        Self { tokens: burst, burst, refill, filled_at: None }
    }

    /// Puts in what was earned since it was last filled; what is left of a refill counts for the next.
    fn fill(&mut self, now: Time) {
        let filled_at = *self.filled_at.get_or_insert(now);
        if now < filled_at {
            self.filled_at = Some(now);
            return;
        }
        let refill = self.refill.micros().max(1);
        let earned = now.since(filled_at).micros() / refill;
        self.tokens = self.tokens.saturating_add(earned).min(self.burst);
        self.filled_at = Some(filled_at + Span::from_micros(earned * refill));
    }
}

/// How many pings of one message are taken.
#[derive(Clone, Copy, Debug)]
struct Room([TokenBucket; 2]);

impl Room {
    const fn full() -> Self {
        Self([TokenBucket::full(BURST), TokenBucket::full(LASTING)])
    }

    fn take(&mut self, now: Time) -> bool {
        self.0.iter_mut().for_each(|bucket| bucket.fill(now));
        let is_room = self.0.iter().all(|bucket| bucket.tokens > 0);
        if is_room {
            self.0.iter_mut().for_each(|bucket| bucket.tokens -= 1);
        }
        is_room
    }
}

/// How many pings are taken, of each message.
#[derive(Clone, Copy, Debug)]
struct Rooms {
    success: Room,
    start: Room,
    fail: Room,
}

impl Rooms {
    const fn full() -> Self {
        Self { success: Room::full(), start: Room::full(), fail: Room::full() }
    }

    const fn of(&mut self, said: Said) -> &mut Room {
        match said {
            Said::Success => &mut self.success,
            Said::Start => &mut self.start,
            Said::Fail => &mut self.fail,
        }
    }

    fn filled_at(&mut self) -> impl Iterator<Item = &mut Time> {
        let rooms = [&mut self.success, &mut self.start, &mut self.fail].into_iter();
        rooms.flat_map(|room| &mut room.0).filter_map(|bucket| bucket.filled_at.as_mut())
    }
}

#[derive(Debug)]
struct Inner {
    heard: Heard,
    rooms: Rooms,
    waiting_since: Option<Time>,
    absence: Option<TimeUnheard>,
}

/// A job that is waited for.
#[derive(Debug)]
pub struct Heartbeat {
    uuid: PingId,
    expected: Expectation,
    inner: Mutex<Inner>,
}

impl Heartbeat {
    /// Nothing was heard yet.
    pub fn new(uuid: PingId, every: Span, grace: Span) -> Self {
        let inner = Inner { heard: Heard::default(), rooms: Rooms::full(), waiting_since: None, absence: None };
        Self { uuid, expected: Expectation { every, grace }, inner: Mutex::new(inner) }
    }

    /// Where it is heard.
    pub fn uuid(&self) -> &PingId {
        &self.uuid
    }

    /// Whether a ping is taken: false when too many came before it.
    pub fn takes(&self, said: Said, at: Time) -> bool {
        self.lock().rooms.of(said).take(at)
    }

    /// A ping of this run of the job was taken and recorded: it changes what is known of the job.
    pub fn hear(&self, ping: Said, run: Option<&str>, at: Time) {
        self.lock().heard.hear(ping, run, at, self.expected.grace);
    }

    /// How long a job may take that said it started.
    pub(crate) const fn grace(&self) -> Span {
        self.expected.grace
    }

    /// What was heard, to keep.
    pub fn heard(&self) -> Heard {
        self.lock().heard.clone()
    }

    /// What it means now.
    pub(crate) fn read(&self, now: Time) -> Answer {
        let mut inner = self.lock();
        let waiting_since = *inner.waiting_since.get_or_insert(now);
        inner.heard.answer(self.expected, waiting_since, inner.absence, now)
    }

    /// Nobody could listen during this time. One that follows another before a job had time to call again makes it longer.
    pub(crate) fn was_absent(&self, absence: TimeUnheard) {
        let mut inner = self.lock();
        let before = inner
            .absence
            .filter(|before| absence.since.is_none_or(|since| since <= before.until + self.expected.patience()));
        let since = match before {
            Some(before) => before.since.and_then(|earlier| Some(earlier.min(absence.since?))),
            None => absence.since,
        };
        inner.absence = Some(TimeUnheard { since, ..absence });
    }

    /// The wall clock was set.
    pub(crate) fn step(&self, by: Span) {
        let inner = &mut *self.lock();
        inner.heard.step(by);
        for time in inner.waiting_since.iter_mut().chain(inner.rooms.filled_at()) {
            *time = *time + by;
        }
        if let Some(TimeUnheard { since, until }) = &mut inner.absence {
            *until = *until + by;
            *since = since.map(|since| since + by);
        }
    }

    /// What an earlier run had heard; what this run heard itself is newer and stays.
    pub fn remember(&self, heard: Heard) {
        let mut inner = self.lock();
        if inner.heard == Heard::default() {
            inner.heard = heard;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing that can panic runs under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Under this name the rows of the watch are kept.
pub(crate) const CONSUMER: &str = "watch";
/// Before the name of a heartbeat in the key of its row.
const PREFIX: &str = "heartbeat/";

/// What all heartbeats have said, kept over restarts: a job that runs once a day must not be given a new day by each
/// restart of garant.
#[derive(Clone, Debug, Default)]
pub(crate) struct SavedHeartbeats {
    heard: BTreeMap<ProbeId, Heard>,
}

impl SavedHeartbeats {
    /// What an earlier run has kept, in the rows of `state`.
    pub(crate) async fn load(state: &dyn store::Rows) -> Result<Self, store::StoreError> {
        let mut heard = BTreeMap::new();
        let mut last = None::<String>;
        loop {
            let rows = state.rows(CONSUMER, PREFIX, last.as_deref(), usize::MAX).await?;
            let Some((key, _)) = rows.last() else { break };
            last = Some(key.clone());
            for (key, value) in rows {
                // Worth a line, not the watch: a job that still runs tells it anew.
                let probe = key.strip_prefix(PREFIX).and_then(|name| name.parse().ok());
                if let Some((probe, read)) = probe.zip(serde_json::from_slice(&value).ok()) {
                    heard.insert(probe, read);
                } else {
                    tracing::warn!(
                        heartbeat = key,
                        "the saved state of a heartbeat can't be read; it is treated as never heard, so a missed job may be \
                         noticed one interval late"
                    );
                }
            }
        }
        Ok(Self { heard })
    }

    /// The rows in which this is kept.
    pub(crate) fn rows(&self) -> Vec<store::Row> {
        self.heard.iter().filter_map(|(probe, heard)| row(probe, heard)).collect()
    }

    /// Forgets heartbeats that are not waited for any more; the changes of the rows.
    pub(crate) fn keep_only(&mut self, is_declared: impl Fn(&ProbeId) -> bool) -> Vec<store::Row> {
        let gone = self.heard.extract_if(.., |probe, _| !is_declared(probe));
        gone.map(|(probe, _)| store::Row::Delete { key: key(&probe) }).collect()
    }

    /// What a heartbeat has heard.
    pub(crate) fn heard(&self, probe: &ProbeId) -> Heard {
        self.heard.get(probe).cloned().unwrap_or_default()
    }

    /// Tells a heartbeat what it had heard.
    pub(crate) fn remind(&self, probe: &ProbeId, heartbeat: &Heartbeat) {
        if let Some(heard) = self.heard.get(probe) {
            heartbeat.remember(heard.clone());
        }
    }

    /// Notes what a heartbeat has heard now.
    pub(crate) fn note(&mut self, probe: ProbeId, heard: Heard) {
        self.heard.insert(probe, heard);
    }

    /// The wall clock was set.
    pub(crate) fn step(&mut self, by: Span) {
        self.heard.values_mut().for_each(|heard| heard.step(by));
    }
}

fn key(probe: &ProbeId) -> String {
    format!("{PREFIX}{probe}")
}

/// The row in which is kept what a heartbeat has heard.
pub(crate) fn row(probe: &ProbeId, heard: &Heard) -> Option<store::Row> {
    // Plain fields always serialise.
    Some(store::Row::Put { key: key(probe), value: serde_json::to_vec(heard).ok()? })
}

#[async_trait]
impl Probe for Heartbeat {
    async fn ask(&self, asking: &Asking<'_>) -> Answer {
        self.read(asking.clock.now())
    }

    fn confirm(&self) -> bool {
        false
    }

    fn heartbeat(&self) -> Option<&Heartbeat> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use store::Reading;

    use super::*;

    fn at(minutes: i64) -> Time {
        Time::from_secs(minutes * 60)
    }

    const HOURLY: Expectation = Expectation { every: Span::from_secs(3600), grace: Span::from_secs(600) };

    /// BK-1's measure: what a heartbeat says at minute `now`, after these pings.
    #[test]
    fn silence_is_down_and_so_is_a_job_that_says_so() {
        use Said::{Fail, Start, Success};
        type Case<'a> = (&'a [(Said, i64)], i64, Reading);
        let cases: &[Case<'_>] = &[
            (&[], 10, Reading::Unknown),
            (&[], 71, Reading::Down),
            (&[(Success, 5)], 6, Reading::Up),
            (&[(Success, 5)], 74, Reading::Up),
            (&[(Success, 5)], 76, Reading::Down),
            (&[(Success, 5), (Fail, 6)], 7, Reading::Down),
            (&[(Success, 5), (Fail, 6), (Success, 8)], 9, Reading::Up),
            (&[(Success, 5), (Start, 60)], 65, Reading::Up),
            (&[(Success, 5), (Start, 60)], 71, Reading::Down),
            (&[(Success, 5), (Start, 60), (Success, 80)], 81, Reading::Up),
            (&[(Success, 5), (Start, 60), (Fail, 61)], 62, Reading::Down),
            // A start is no success: it does not postpone the alarm.
            (&[(Success, 5), (Start, 74)], 76, Reading::Down),
        ];
        for (pings, now, expect) in cases {
            let mut heard = Heard::default();
            for &(ping, minute) in *pings {
                heard.hear(ping, None, at(minute), HOURLY.grace);
            }
            let answer = heard.answer(HOURLY, at(0), None, at(*now));
            assert_eq!(answer.reading, *expect, "{pings:?} at {now}: {}", answer.text);
        }
    }

    /// Runs that overlap: each finishes for itself. One that was killed is an alarm until another run succeeds, and no
    /// longer.
    #[test]
    fn runs_that_overlap_are_told_apart() {
        use Said::{Fail, Start, Success};
        type Case<'a> = (&'a [(Said, Option<&'a str>, i64)], i64, Reading);
        let (a, b) = (Some("a"), Some("b"));
        let cases: &[Case<'_>] = &[
            (&[(Success, None, 0), (Start, a, 5), (Start, b, 6), (Success, b, 8)], 15, Reading::Up),
            (&[(Success, None, 0), (Start, a, 5), (Start, b, 6), (Success, b, 8)], 16, Reading::Down),
            (&[(Start, a, 5), (Start, b, 6), (Success, b, 8), (Success, a, 9)], 30, Reading::Up),
            (&[(Start, a, 5), (Start, b, 6), (Fail, b, 8), (Success, a, 9)], 30, Reading::Up),
            (&[(Success, None, 0), (Start, a, 5), (Start, b, 20)], 21, Reading::Down),
            (&[(Success, None, 0), (Start, a, 5), (Start, b, 20), (Success, b, 21)], 22, Reading::Up),
            (&[(Start, a, 5), (Success, None, 6)], 16, Reading::Down),
            (&[(Start, None, 5), (Success, a, 6)], 16, Reading::Down),
        ];
        for (pings, now, expect) in cases {
            let mut heard = Heard::default();
            for &(ping, run, minute) in *pings {
                heard.hear(ping, run, at(minute), HOURLY.grace);
            }
            let answer = heard.answer(HOURLY, at(0), None, at(*now));
            assert_eq!(answer.reading, *expect, "{pings:?} at {now}: {}", answer.text);
        }
        let mut heard = Heard::default();
        (0..1000).for_each(|n| heard.hear(Start, Some(&n.to_string()), at(n), HOURLY.grace));
        assert_eq!(heard.runs.len(), RUNS_MAX, "bounded");
    }

    /// What was kept by an earlier release is read.
    #[test]
    fn what_was_kept_is_read() {
        let heard: Heard = serde_json::from_str(
            &serde_json::json!({
                "success": at(1), "running_since": null, "failed": false
            })
            .to_string(),
        )
        .expect("of an earlier release");
        assert_eq!(heard, Heard { success: Some(at(1)), ..Heard::default() });
    }

    /// A deadline that nobody could see kept is no outage of the job, until it had time to call again.
    #[test]
    fn our_own_absence_is_not_their_silence() {
        use Reading::{Down, Unknown, Up};
        // The last success at minute 5, so the deadline is at 75; absent from and until; what it says at some minutes.
        type Case<'a> = (Option<i64>, i64, &'a [(i64, Reading)]);
        let cases: &[Case<'_>] = &[
            (Some(70), 80, &[(81, Unknown), (90, Unknown), (91, Down)]),
            // A restart: nobody knows since when.
            (None, 500, &[(501, Unknown), (510, Unknown), (511, Down)]),
            // It was late already, or is late since.
            (Some(78), 80, &[(81, Down)]),
            (Some(60), 70, &[(74, Up), (76, Down)]),
        ];
        for (since, until, expect) in cases {
            let uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().expect("a UUID");
            let heartbeat = Heartbeat::new(uuid, HOURLY.every, HOURLY.grace);
            heartbeat.hear(Said::Success, None, at(5));
            heartbeat.was_absent(TimeUnheard { since: since.map(at), until: at(*until) });
            for &(minute, reading) in *expect {
                assert_eq!(heartbeat.read(at(minute)).reading, reading, "{since:?} to {until}, at {minute}");
            }
            heartbeat.step(Span::from_secs(3600));
            for &(minute, reading) in *expect {
                assert_eq!(heartbeat.read(at(minute + 60)).reading, reading, "an hour later on the clock");
            }
        }
        // Absent twice, the second time before the job had its time.
        let uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().expect("a UUID");
        let heartbeat = Heartbeat::new(uuid, HOURLY.every, HOURLY.grace);
        heartbeat.hear(Said::Success, None, at(5));
        heartbeat.was_absent(TimeUnheard { since: None, until: at(80) });
        heartbeat.was_absent(TimeUnheard { since: Some(at(85)), until: at(86) });
        assert_eq!([90, 96, 97].map(|minute| heartbeat.read(at(minute)).reading), [Unknown, Unknown, Down]);
    }

    /// How many of the pings that come `apart` are taken within `length`.
    fn taken(heartbeat: &Heartbeat, said: Said, from: Time, apart: Span, length: Span) -> i64 {
        let pings = length.micros() / apart.micros();
        let at = |i: i64| from + Span::from_micros(i * apart.micros());
        (0..pings).map(|i| i64::from(heartbeat.takes(said, at(i)))).sum()
    }

    #[test]
    fn a_job_in_a_loop_journals_little() {
        let heartbeat = || {
            let uuid = "6BA7B810-9dad-41d1-80b4-00c04fd430c8".parse().expect("a UUID");
            Heartbeat::new(uuid, Span::from_secs(3600), Span::from_secs(60))
        };
        let (minute, day) = (Span::from_secs(60), Span::from_days(1));
        let flooded = heartbeat();
        assert_eq!(flooded.uuid().as_str(), "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
        let hundred_a_second = Span::from_millis(10);
        assert_eq!(
            taken(&flooded, Said::Success, Time::from_micros(0), hundred_a_second, minute),
            20 + 239,
            "a minute of a hundred a second: twenty in a row, and four a second"
        );
        // A flood of one message leaves room for the others.
        for said in [Said::Fail, Said::Start] {
            assert!(flooded.takes(said, Time::from_micros(59_990_000)), "{said:?}");
        }
        assert_eq!(
            taken(&flooded, Said::Success, at(1), Span::from_millis(100), day),
            (1000 - 259) + (24 * 3600 + 60) / 5 - 1,
            "a day of ten a second: a thousand in a row, and one every five seconds"
        );
        // Four a second, whatever the rhythm: what is left of a refill is not lost.
        for apart in [200, 170, 130] {
            let (heartbeat, apart) = (heartbeat(), Span::from_millis(apart));
            assert!((258..=260).contains(&taken(&heartbeat, Said::Success, at(0), apart, minute)), "{apart}");
        }
        // Nothing of what comes more slowly is refused.
        for (apart, length) in [(250, minute), (460, Span::from_secs(300)), (5000, day)] {
            let apart = Span::from_millis(apart);
            let pings = length.micros() / apart.micros();
            assert_eq!(taken(&heartbeat(), Said::Success, at(0), apart, length), pings, "{apart}");
        }
    }

    #[test]
    fn what_others_know_is_no_address() {
        for known in [
            "6BA7B810-9dad-41d1-80b4-00c04fd430c8",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "550e8400-e29b-41d4-a716-446655440000",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "00000000-0000-4000-8000-000000000001",
            "11112222-3333-4444-8555-666611112222",
            "123e4567-e89b-12d3-a456-426614174000",
            "0b1c7a52-6f6c-4e0e-1d57-1c3c1a6f2f10",
        ] {
            let id: PingId = known.parse().expect("a UUID");
            assert!(id.guessable().is_some(), "{known}");
        }
        let drawn: BTreeSet<PingId> = (0..1000).map(|_| PingId::draw()).collect();
        assert_eq!(drawn.len(), 1000);
        for id in drawn {
            assert_eq!(id.to_string().parse(), Ok(id.clone()));
            assert_eq!(id.guessable(), None, "{id}");
        }
    }

    #[test]
    fn addresses_are_uuids() {
        for bad in
            ["", "x", "6ba7b810", "6ba7b810-9dad-41d1-80b4-00c04fd430c", "6ba7b8109dad-41d1-80b4-00c0-4fd430c8aaaa"]
        {
            assert!(bad.parse::<PingId>().is_err(), "{bad}");
        }
    }
}
