//! A thread: what one person on one channel was told about one alert, and is owed.
//!
//! The durable outbox is made of these rows. No message is stored: a row says what was told, the alert says what is so, and the
//! difference is owed. A receiver that was dead during a whole outage so gets one message afterwards instead of a queue of old
//! ones, and a crash between sending and marking repeats one message, with the same identifier.

use event::{Span, Time};
use serde::{Deserialize, Serialize};

use super::alert::AlertId;
use crate::act::Severity;

/// Identifies a thread.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct ThreadKey {
    /// The alert; 0 for tests.
    pub alert: AlertId,
    /// The person, by the pseudonym under which the journal knows them.
    pub person: String,
    /// The channel, as [`ChannelRule::id`](super::desk::ChannelRule::id).
    pub channel: String,
}

/// What one person on one channel was told, and since when they are to be told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Thread {
    /// Which.
    pub key: ThreadKey,
    /// When it was decided that this person is to be told here.
    pub queued_at: Time,
    /// What was told last, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// The number of messages of the thread that a channel has accepted.
    #[serde(default)]
    pub count: u32,
    /// Attempts since the last message that was accepted.
    #[serde(default)]
    pub attempts: u32,
    /// No attempt before this.
    pub next_try: Time,
    /// When the first attempt that failed was made, since the last message that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Time>,
    /// Why the last attempt failed; no secret, no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Whether the channel refuses this message for good: tried again only when the policy changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// How often in a row it refused: after so many it is left alone until the policy changes.
    #[serde(default)]
    pub refusals: u32,
    /// A reminder is owed from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_at: Option<Time>,
    /// The person acknowledged over this thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<Time>,
    /// The number of the last message whose link was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_used: Option<u32>,
    /// What messages of the thread refer to since an earlier outage of the same alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Whether it belongs to an outage that is over and told: kept for its number of messages, so that no identifier and no link is
    /// used again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub past: bool,
    /// For a test: when the message was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_at: Option<Time>,
}

/// What a channel has accepted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Told {
    /// The members of the group at that time.
    pub joined: u32,
    /// How often a member had become worse by that time.
    #[serde(default)]
    pub worsened: u32,
    /// How often it had fired again by then: an end that was told is that of this time.
    #[serde(default)]
    pub again: u32,
    /// The severity at that time.
    pub severity: Severity,
    /// Whether it said that all is over.
    pub over: bool,
    /// When it was accepted.
    pub at: Time,
    /// What later messages of the thread refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Which message it was: receipts name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageNumber>,
    /// When it reached the person's device, as a receipt says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Time>,
    /// Whether an earlier message had told of the alert here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub knew: bool,
}

/// Which message of a person's channel: the alert of its first thread, and the number of that thread's messages before it.
pub type MessageNumber = (AlertId, u32);

impl Thread {
    /// A thread in which the first message is owed.
    pub const fn new(key: ThreadKey, now: Time) -> Self {
        Self {
            key,
            queued_at: now,
            told: None,
            count: 0,
            attempts: 0,
            next_try: now,
            failing_since: None,
            failure: None,
            refused: false,
            refusals: 0,
            remind_at: None,
            acknowledged_at: None,
            link_used: None,
            reference: None,
            past: false,
            test_at: None,
        }
    }

    /// What the next message of the thread refers to.
    pub fn refers_to(&self) -> Option<&str> {
        self.told.as_ref().and_then(|told| told.reference.as_deref()).or(self.reference.as_deref())
    }

    /// Whether the channel does not do its work: the next one is to be tried.
    pub fn fails(&self, now: Time) -> bool {
        self.refused || self.failing_since.is_some_and(|since| now.since(since) >= FAILS_AFTER)
    }

    /// Notes that the channel refuses the message, or could not deliver it.
    pub(super) fn refuse(&mut self, reason: &str, now: Time) {
        self.attempts = self.attempts.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.failure = Some(reason.to_owned());
        self.refused = true;
        // A server that refuses for an hour is one that is being mended.
        self.refusals = self.refusals.saturating_add(1);
        self.next_try = now + pause_after_refusal(self.refusals);
        self.test_at = None;
    }

    /// The state for people and scripts.
    pub const fn state(&self) -> &'static str {
        match self {
            Self { acknowledged_at: Some(_), .. } => "acknowledged",
            Self { refused: true, .. } => "failed",
            Self { told: Some(Told { delivered_at: Some(_), .. }), failing_since: None, .. } => "delivered",
            Self { told: Some(_), failing_since: None, .. } => "handed_over",
            Self { failing_since: Some(_), .. } => "retrying",
            _ => "queued",
        }
    }
}

/// Time of failed attempts after which a channel counts as broken.
pub const FAILS_AFTER: Span = Span::from_secs(30);
/// Longest wait between two attempts.
const PAUSE_MAX: Span = Span::from_secs(300);

/// Longest wait that a channel can ask for.
pub const NEXT_TRY_MAX: Span = Span::from_secs(3600);

/// Refusals in a row after which a channel is left alone: each attempt may cost a text message.
pub const REFUSALS_MAX: u32 = 4;

/// The wait after so many refusals: ten minutes, and three times as long after each further one.
fn pause_after_refusal(refusals: u32) -> Span {
    Span::from_secs(600 * 3_i64.pow(refusals.saturating_sub(1).min(REFUSALS_MAX)))
}

/// The wait after so many failed attempts: doubling from one second, drawn from the upper half, at most five minutes.
pub fn pause(attempts: u32, random: u64) -> Span {
    let full = Span::from_secs(1_i64 << attempts.saturating_sub(1).min(9)).min(PAUSE_MAX).micros();
    let half = full / 2;
    let drawn = i64::try_from(random % (half.unsigned_abs() + 1)).unwrap_or_default();
    Span::from_micros(half + drawn)
}

/// What was sent on one channel of one person lately: at the bound, further messages wait and are told in one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
pub struct Budget {
    sent: Vec<Time>,
    broken_through_at: Option<Time>,
}

/// Messages in a [`SHORT`] time.
const BURST: usize = 4;
const SHORT: Span = Span::from_secs(600);
/// Messages in an hour.
const HOURLY: usize = 12;
const LONG: Span = Span::from_secs(3600);
/// Time between two messages that a new cause sends beyond the bound.
const BREAK_THROUGH_EVERY: Span = Span::from_secs(60);

impl Budget {
    /// When the next message may be sent: `now` or before when one may be sent at once. A new cause need not wait, but for
    /// other new causes.
    pub fn next(&self, now: Time, new_cause: bool) -> Time {
        // A time of the future is one of a clock that was set back since.
        let within = |span: Span, most: usize| {
            let recent: Vec<Time> =
                self.sent.iter().copied().filter(|at| *at <= now && now.since(*at) < span).collect();
            (recent.len() >= most).then(|| recent[recent.len() - most] + span)
        };
        let Some(free) = within(SHORT, BURST).max(within(LONG, HOURLY)) else { return now };
        if !new_cause {
            return free;
        }
        let broken_through = self.broken_through_at.filter(|at| *at <= now).map(|at| at + BREAK_THROUGH_EVERY);
        broken_through.map_or(now, |at| at.max(now)).min(free)
    }

    /// Counts a message that is sent at `now`.
    pub fn take(&mut self, now: Time) {
        if self.next(now, false) > now {
            self.broken_through_at = Some(now);
        }
        self.sent.retain(|at| *at <= now && now.since(*at) < LONG);
        self.sent.push(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_drawn() {
        let seconds = |attempts, random| pause(attempts, random).micros() / 1000;
        assert_eq!(seconds(1, 0), 500);
        assert_eq!(seconds(1, 500_000), 1000);
        assert_eq!(seconds(4, 0), 4000);
        for attempts in [10, 30, u32::MAX] {
            assert_eq!(pause(attempts, 0), Span::from_secs(150));
            assert!(pause(attempts, u64::MAX) <= PAUSE_MAX);
        }
    }

    /// WA-4, MA-2: so many messages in so long, whatever happens; a new cause breaks through, at a pace of its own.
    #[test]
    fn a_person_gets_so_many_messages_and_new_causes_break_through() {
        let mut budget = Budget::default();
        let at = |second: i64| Time::from_secs(1_800_000_000 + second);
        for second in 0..4 {
            assert_eq!(budget.next(at(second), false), at(second));
            budget.take(at(second));
        }
        assert_eq!(budget.next(at(10), false), at(600), "the first of the four is ten minutes old then");
        assert_eq!(budget.next(at(10), true), at(10), "a new cause");
        budget.take(at(10));
        assert_eq!(budget.next(at(20), true), at(70), "and another one a minute later");
        let mut sent = 5;
        for second in 20..3600 {
            if budget.next(at(second), false) <= at(second) {
                budget.take(at(second));
                sent += 1;
            }
        }
        assert_eq!(sent, 12, "in an hour");
        // A clock set back by a day does not silence anybody.
        assert_eq!(budget.next(at(-86_400), false), at(-86_400));
    }
}
