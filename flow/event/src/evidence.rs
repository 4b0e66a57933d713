//! Evidence: the public events that verdicts rest on, whichever engine observed them.
//!
//! The evaluator reads these kinds and knows no engine. An engine observes under a name of its own, `<vantage>.<engine>`, so
//! that what one engine covered never stands for what another was to look at.

use serde::{Deserialize, Serialize};

use crate::{Body, Family, FindingId, Interval, Kind, ProbeId, ServiceId, Span, Time};

/// The state of a probe, as one observer sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The condition holds.
    Up,
    /// The condition holds, but more slowly than it should. Counts as up.
    Degraded,
    /// The condition does not hold.
    Down,
    /// The state changes too often to tell, or bans are simulated: time that counts as down in the low figure and as up in the high one. A word of
    /// a later release is taken for this one.
    #[serde(other)]
    Flapping,
}

/// The state of a probe changed, as one observer sees it. The change happened somewhere in `[after, by]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Changed {
    /// The probe.
    pub probe: ProbeId,
    /// The service that the probe belongs to.
    pub service: ServiceId,
    /// The new state.
    pub state: State,
    /// Start of the last sample that showed the state before; the same as `by` when there was none before.
    pub after: Time,
    /// End of the first sample that shows this state: a sample proves a state somewhere between its start and its end.
    pub by: Time,
}

impl Body for Changed {
    const KIND: Kind = Kind::public("evidence.changed", Family::Monitoring);
}

/// One interval during which a probe was not observed, or during which it was, but one of its findings could not be looked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Gap {
    /// The probe.
    pub probe: ProbeId,
    /// The finding that could not be looked for; without one, the probe and all its findings were not observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<FindingId>,
    /// The interval.
    pub interval: Interval,
}

/// One observer's record of one stretch of time: during it, every probe of the set was observed but in the gaps. Time without
/// such a record is time that nobody observed.
///
/// The set: the probes that the policy of this revision asks this observer to look at, and whose `every`, or a minute if that
/// is longer, is the record's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Covered {
    /// The stretch of time.
    pub interval: Interval,
    /// Revision of the policy (as in [`crate::policy::Applied`]) that names the probes of this observer.
    pub revision: String,
    /// The record's `every`, which is the most that its stretch is long; a minute when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// The gaps in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

impl Covered {
    /// The shortest `every` of a record, which is that of most.
    pub const EVERY_MIN: Span = Span::from_secs(60);

    /// The `every` of the record that speaks of a probe that is looked at this often.
    pub fn class(every: Span) -> Option<Span> {
        (every > Self::EVERY_MIN).then_some(every)
    }
}

impl Body for Covered {
    const KIND: Kind = Kind::public("evidence.covered", Family::Monitoring);
}

/// A job succeeded: a heartbeat arrived, a backup was made, a scan ran to its end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Succeeded {
    /// The probe that waits for this success.
    pub probe: ProbeId,
    /// When the job succeeded.
    pub at: Time,
}

impl Body for Succeeded {
    const KIND: Kind = Kind::public("evidence.succeeded", Family::Monitoring);
}

/// A detector found something, or what it had found is over. Names no host: the detail is for the team, in an event of its engine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Found {
    /// The finding.
    pub finding: FindingId,
    /// The probe whose samples were read.
    pub probe: ProbeId,
    /// Whether the finding is there now.
    pub open: bool,
    /// Start of the last sample that showed the opposite; the same as `by` when there was none before.
    pub after: Time,
    /// End of the first sample that shows this.
    pub by: Time,
}

impl Body for Found {
    const KIND: Kind = Kind::public("evidence.found", Family::Monitoring);
}

/// What was answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum ReactedTo {
    /// A change that needs somebody: a probe that is no longer up, or a finding that opened.
    Failure,
    /// A test message, which takes the way of any other.
    Test,
    /// An offence, of which the offender was banned.
    Offence,
    /// A failure, of which the first message has reached somebody's device, as a receipt says.
    Delivered,
    /// A failure, which somebody has taken on for the first time.
    Acknowledged,
    /// A word of a later release: counts for nothing.
    #[serde(other)]
    Other,
}

/// Something was answered: a channel accepted the first message about a failure, or a test message; such a message was delivered, or
/// the failure acknowledged; or an offender was banned. Names nobody: no recipient, no channel, and no address.
///
/// One entry of a word for each change that a message answers, so also for the failures of which it says that another is their
/// cause; and one for each ban that answers an offence.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Reacted {
    /// What was answered.
    pub to: ReactedTo,
    /// Of a failure, the probe of the `evidence.changed` or `evidence.found` that the message answers; of an offence, the probe that
    /// reads the log in which it was seen. Without one, such an entry counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeId>,
    /// Of a failure, the finding of the `evidence.found` that the message answers; absent for an `evidence.changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<FindingId>,
    /// The instant from which the reaction is counted: `by` of what it answers, when the test message was put in the queue, or
    /// when the offence was complete, which is the date of its last failure.
    pub since: Time,
    /// When a channel accepted the message, when its receipt came, when somebody took the failure on, or when the ban was in force;
    /// on the same clock where that is possible.
    pub at: Time,
}

impl Reacted {
    /// A channel accepted at `at` the first message about the change of `probe` (of `finding` in it, if there is one) that was
    /// seen `by` then.
    pub const fn to_failure(probe: ProbeId, finding: Option<FindingId>, by: Time, at: Time) -> Self {
        Self { to: ReactedTo::Failure, probe: Some(probe), finding, since: by, at }
    }

    /// The receipt of the first delivery of a message about that change came at `at`.
    pub const fn to_delivered(probe: ProbeId, finding: Option<FindingId>, by: Time, at: Time) -> Self {
        Self { to: ReactedTo::Delivered, probe: Some(probe), finding, since: by, at }
    }

    /// Somebody took that change on at `at`, for the first time.
    pub const fn to_acknowledged(probe: ProbeId, finding: Option<FindingId>, by: Time, at: Time) -> Self {
        Self { to: ReactedTo::Acknowledged, probe: Some(probe), finding, since: by, at }
    }

    /// A channel accepted at `at` a test message that was put in the queue at `queued_at`.
    pub const fn to_test(queued_at: Time, at: Time) -> Self {
        Self { to: ReactedTo::Test, probe: None, finding: None, since: queued_at, at }
    }

    /// The ban that answers an offence was in force at `at`. `probe` saw it; it was complete at `complete_at`.
    pub const fn to_offence(probe: ProbeId, complete_at: Time, at: Time) -> Self {
        Self { to: ReactedTo::Offence, probe: Some(probe), finding: None, since: complete_at, at }
    }
}

impl Body for Reacted {
    const KIND: Kind = Kind::public("evidence.reacted", Family::Monitoring);
}

/// Something was restored exactly as it was at the instant that was asked for: by a test, or for somebody. What could not be restored
/// exactly is never recorded so. Names no database and no host beside the probe.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Restored {
    /// The probe of the restores of this backup.
    pub probe: ProbeId,
    /// When it had ended: the data was there, and checked.
    pub at: Time,
    /// How long it took since it began: the recovery time.
    pub took: Span,
    /// How old the newest instant that could have been restored was when it began: what would have been lost, had all but the
    /// copies been gone then.
    pub lost: Span,
}

impl Body for Restored {
    const KIND: Kind = Kind::public("evidence.restored", Family::Monitoring);
}

/// The requests of one minute, or of what of it was counted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct CountedMinute {
    /// When their answers ended.
    pub interval: Interval,
    /// Those that were answered.
    pub answered: u32,
    /// Those that failed for whoever asked.
    pub failed: u32,
}

/// One observer's count of the requests of a probe. During `interval` each one was counted; minutes in which there was none are not
/// listed. Time without such a record is time of which nobody knows how many there were. Names nobody: no address, no path, no host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Counted {
    /// The probe.
    pub probe: ProbeId,
    /// The time in which all were counted.
    pub interval: Interval,
    /// The minutes of it that had some, at most [`MINUTES_MAX`](Self::MINUTES_MAX) of those that an observer of ours tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub minutes: Vec<CountedMinute>,
}

impl Counted {
    /// After so many minutes a record is due.
    pub const MINUTES_MAX: i64 = 5;
    /// The longest time that a record speaks of, but for the time of a turn.
    pub const EVERY: Span = Span::from_secs(60 * Self::MINUTES_MAX);
}

impl Body for Counted {
    const KIND: Kind = Kind::public("evidence.counted", Family::Monitoring);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_a_later_release_is_undecided() {
        for (word, state) in [("up", State::Up), ("flapping", State::Flapping), ("limping", State::Flapping)] {
            assert_eq!(serde_json::from_value::<State>(word.into()).expect("a word"), state, "{word}");
        }
        assert_eq!(serde_json::to_value(State::Flapping).expect("it serialises"), "flapping");
    }

    #[test]
    fn a_reaction_says_what_is_known_of_it_and_no_more() {
        let (by, at) = (Time::from_micros(1), Time::from_micros(2));
        let front = || "front".parse().expect("a name");
        let failure = Reacted::to_failure(front(), None, by, at);
        let delivered = Reacted::to_delivered(front(), Some("disk-usage".parse().expect("a name")), by, at);
        for (reacted, json) in [
            (delivered, r#"{"to":"delivered","probe":"front","finding":"disk-usage","since":1,"at":2}"#),
            (
                Reacted::to_acknowledged(front(), None, by, at),
                r#"{"to":"acknowledged","probe":"front","since":1,"at":2}"#,
            ),
            (failure, r#"{"to":"failure","probe":"front","since":1,"at":2}"#),
            (Reacted::to_test(by, at), r#"{"to":"test","since":1,"at":2}"#),
            (
                Reacted::to_offence("sshd".parse().expect("a name"), by, at),
                r#"{"to":"offence","probe":"sshd","since":1,"at":2}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&reacted).expect("it serialises"), json);
            assert_eq!(serde_json::from_str::<Reacted>(json).expect("it is one"), reacted);
        }
        let later: Reacted = serde_json::from_str(r#"{"to":"drill","since":1,"at":2}"#).expect("of a later release");
        assert_eq!(later.to, ReactedTo::Other);
    }
}
