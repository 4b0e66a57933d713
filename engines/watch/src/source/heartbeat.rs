//! Heartbeats: a job tells that it ran, and silence is the alarm.
//!
//! Compatible with Healthchecks.io, so that the cron jobs people have keep working: `/ping/<uuid>` is a success,
//! `/ping/<uuid>/start` a start, `/ping/<uuid>/fail` a failure, `/ping/<uuid>/<exit status>` a success if it is 0 and a
//! failure otherwise. A success is expected every `every`, plus `grace`. A job that said it started has `grace` to
//! finish. What it says itself about failing is believed at once.
//!
//! Its figure is the number of seconds since the last success.
//!
//! Every ping changes the state; not every one becomes an entry, or a job in a loop could fill the journal. Each
//! heartbeat may journal ten pings in a row and then one per ten seconds (per half of `every`, if that is shorter), so
//! two journaled successes are never further apart than the real ones by more than that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use event::watch::Ping;
use event::{ProbeId, Span, Time};
use policy::{Section, Table};
use serde::{Deserialize, Serialize};

use crate::config::Common;
use crate::source::{Answer, Asking, Probe, Settings};

/// Shortest time between two expected pings.
const EVERY_MIN: Span = Span::from_secs(10);
/// Longest time between two looks at a heartbeat: how late its lateness may be told.
const LOOK_EVERY_MAX: Span = Span::from_secs(30);
/// How many pings in a row are journaled.
const BURST: i64 = 10;
/// After the burst, one per this.
const REFILL: Span = Span::from_secs(10);

/// The address of a heartbeat, in `/ping/<uuid>`. Whoever knows it can ping, so it is random.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PingId(String);

impl PingId {
    /// As text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
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
    const RULE: &'static str = "write a random UUID of your own, such as `uuidgen -r` prints";
}

impl policy::Value for PingId {
    const SHAPE: &'static str = "a random UUID";
    const EXAMPLE: &'static str = "\"6ba7b810-9dad-41d1-80b4-00c04fd430c8\"";
    const PRIVATE: bool = true;

    fn read(slot: policy::Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}

/// `[[probe.heartbeat]]`.
#[derive(Debug)]
pub struct Expected {
    common: Common,
    uuid: PingId,
    grace: Span,
}

impl Section for Expected {
    const ABOUT: &'static str = "A sign of life that is waited for: a job fetches `/ping/<uuid>` when it has run, and is down \
        when it has not for `every` plus `grace`. `/start`, `/fail` and `/<exit status>` may be added to the address, as with \
        Healthchecks.io.";
    const EXAMPLE: &'static str = "[[probe.heartbeat]]\nname = \"nightly-backup\"\nservice = \"shop\"\n\
        uuid = \"6ba7b810-9dad-41d1-80b4-00c04fd430c8\"\nevery = \"1 d\"\ngrace = \"1 h\"\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let common = Common::read_here(table, EVERY_MIN..=Span::from_days(366), Span::from_days(1));
        let uuid =
            table.declare("uuid", "The address of the heartbeat. Whoever knows it can ping: keep it to yourself.");
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

    fn into_probe(self) -> Arc<dyn Probe> {
        Arc::new(Heartbeat::new(self.uuid, self.common.every, self.grace))
    }

    fn asked_every(&self) -> Span {
        Span::from_micros(self.common.every.micros() / 10).max(Span::from_secs(1)).min(LOOK_EVERY_MAX)
    }
}

/// What was heard of a job; kept over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
pub struct Heard {
    /// The last success.
    pub success: Option<Time>,
    /// The last start that no success or failure followed yet.
    pub running_since: Option<Time>,
    /// Whether the last word was a failure.
    pub failed: bool,
}

impl Heard {
    fn hear(&mut self, ping: Ping, at: Time) {
        match ping {
            Ping::Start => self.running_since = Some(at),
            Ping::Success => *self = Self { success: Some(at), running_since: None, failed: false },
            Ping::Fail => *self = Self { running_since: None, failed: true, ..*self },
        }
    }

    /// What it means at `now`, when waiting began at `waiting_since`.
    fn answer(&self, every: Span, grace: Span, waiting_since: Time, now: Time) -> Answer {
        let answer = if self.failed {
            Answer::down("the job said that it failed")
        } else if self.running_since.is_some_and(|start| now.since(start) > grace) {
            Answer::down(format!("the job started and did not finish within {grace}"))
        } else if now.since(self.success.unwrap_or(waiting_since)) > every + grace {
            Answer::down(format!("no sign of life for {every} and {grace}"))
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

/// A bucket of tokens: how many pings may be journaled.
#[derive(Clone, Copy, Debug)]
struct Budget {
    tokens: i64,
    filled_at: Option<Time>,
}

impl Budget {
    fn take(&mut self, refill: Span, now: Time) -> bool {
        let filled_at = *self.filled_at.get_or_insert(now);
        let earned = now.since(filled_at).micros() / refill.micros().max(1);
        if earned > 0 || now < filled_at {
            self.tokens = (self.tokens + earned.max(0)).min(BURST);
            self.filled_at = Some(now);
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

#[derive(Debug)]
struct Inner {
    heard: Heard,
    budget: Budget,
    waiting_since: Option<Time>,
}

/// A job that is waited for.
#[derive(Debug)]
pub struct Heartbeat {
    uuid: PingId,
    every: Span,
    grace: Span,
    inner: Mutex<Inner>,
}

impl Heartbeat {
    /// Nothing was heard yet.
    pub fn new(uuid: PingId, every: Span, grace: Span) -> Self {
        let budget = Budget { tokens: BURST, filled_at: None };
        Self { uuid, every, grace, inner: Mutex::new(Inner { heard: Heard::default(), budget, waiting_since: None }) }
    }

    /// Where it is heard.
    pub fn uuid(&self) -> &PingId {
        &self.uuid
    }

    /// A ping arrived. Whether it is to be journaled.
    pub fn hear(&self, ping: Ping, at: Time) -> bool {
        let refill = REFILL.min(Span::from_micros(self.every.micros() / 2));
        let mut inner = self.lock();
        inner.heard.hear(ping, at);
        inner.budget.take(refill, at)
    }

    /// What was heard, to keep.
    pub fn heard(&self) -> Heard {
        self.lock().heard
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

/// What all heartbeats have said, kept over restarts: a job that runs once a day must not be given a new day by each
/// restart of garant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    heard: BTreeMap<ProbeId, Heard>,
}

impl Memory {
    /// Under this name it is kept.
    const PROJECTION: &str = "watch.heartbeats";

    /// What an earlier run has kept.
    pub(crate) async fn load(projections: &dyn store::Projections) -> Result<Self, store::StoreError> {
        let Some(kept) = projections.load(Self::PROJECTION).await? else { return Ok(Self::default()) };
        let heard = serde_json::from_slice(&kept.state).unwrap_or_else(|error| {
            // Worth a line, not the watch: every job that still runs tells it anew.
            tracing::warn!(%error, "what heartbeats had said can't be read: waiting starts anew");
            BTreeMap::new()
        });
        Ok(Self { heard })
    }

    /// Keeps it. What can't be kept is logged: the entries are in the journal all the same.
    pub(crate) async fn save(&self, projections: &dyn store::Projections) {
        let kept = async {
            // The cursor only counts: this is the one writer, and what it writes is whole.
            let before = projections.load(Self::PROJECTION).await?.map(|kept| kept.cursor);
            let state = serde_json::to_vec(&self.heard).unwrap_or_default();
            projections.save(Self::PROJECTION, before, before.map_or(0, |cursor| cursor + 1), state).await
        };
        if let Err(error) = kept.await {
            tracing::error!(%error, "what heartbeats said can't be kept over a restart");
        }
    }

    /// Tells a heartbeat what it had heard.
    pub(crate) fn remind(&self, probe: &ProbeId, heartbeat: &Heartbeat) {
        if let Some(heard) = self.heard.get(probe) {
            heartbeat.remember(*heard);
        }
    }

    /// Notes what a heartbeat has heard now.
    pub(crate) fn note(&mut self, probe: &ProbeId, heartbeat: &Heartbeat) {
        self.heard.insert(probe.clone(), heartbeat.heard());
    }
}

#[async_trait]
impl Probe for Heartbeat {
    async fn ask(&self, asking: &Asking<'_>) -> Answer {
        let now = asking.clock.now();
        let mut inner = self.lock();
        let waiting_since = *inner.waiting_since.get_or_insert(now);
        inner.heard.answer(self.every, self.grace, waiting_since, now)
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

    /// BK-1's measure: what a heartbeat says at minute `now`, after these pings.
    #[test]
    fn silence_is_down_and_so_is_a_job_that_says_so() {
        use Ping::{Fail, Start, Success};
        type Case<'a> = (&'a [(Ping, i64)], i64, Reading);
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
                heard.hear(ping, at(minute));
            }
            let answer = heard.answer(Span::from_secs(3600), Span::from_secs(600), at(0), at(*now));
            assert_eq!(answer.reading, *expect, "{pings:?} at {now}: {}", answer.text);
        }
    }

    #[test]
    fn a_job_in_a_loop_journals_little() {
        let uuid = "6BA7B810-9dad-41d1-80b4-00c04fd430c8".parse().expect("a UUID");
        let heartbeat = Heartbeat::new(uuid, Span::from_secs(3600), Span::from_secs(60));
        assert_eq!(heartbeat.uuid().as_str(), "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
        let journaled = (0..6000).filter(|i| heartbeat.hear(Ping::Success, Time::from_micros(i * 10_000))).count();
        assert_eq!(journaled, 10 + 5, "a minute of a hundred pings a second: the burst, and one per ten seconds");
        assert_eq!(heartbeat.heard().success, Some(Time::from_micros(5999 * 10_000)), "all are heard");
        assert!(heartbeat.hear(Ping::Success, at(60)), "and the budget comes back");
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
