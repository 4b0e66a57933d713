//! A condition as a step function of time: what one observer says of one probe or finding.
//!
//! A change is known only as a bracket `[after, by]`: the start of the last sample that showed the state before, the end
//! of the first that shows the new one. Between states that differ, the bracket is undecided. Up and degraded don't
//! differ: both are up.
//!
//! A change may begin before the one before it was over: by the length of a sample when a state lasted for a single one,
//! by hours when a clock was put back, or when an observer reports the past anew. What is reported twice and
//! differently becomes undecided. A later entry can therefore make the past less certain, never better (BX-4). Nothing is
//! compared over more than [`REVISED_MAX`]: a second report of longer ago is taken for a contradiction.

use event::{Interval, Span, Time};
use serde::{Deserialize, Serialize};

use crate::deltas::{self, DeltaRow};

/// Longest time back over which a change is compared with earlier reports.
pub(crate) const REVISED_MAX: Span = Span::from_days(1);

/// The condition of a probe or a finding at an instant that was observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Up, conforming, or no finding open.
    Up,
    /// Down, not conforming, or a finding open.
    Down,
    /// In a bracket, flapping, or reported twice and differently.
    Undecided,
}

impl Condition {
    fn contradicts(self, other: Self) -> bool {
        matches!((self, other), (Self::Up, Self::Down) | (Self::Down, Self::Up))
    }
}

impl From<event::evidence::State> for Condition {
    fn from(state: event::evidence::State) -> Self {
        use event::evidence::State;
        match state {
            State::Up | State::Degraded => Self::Up,
            State::Down => Self::Down,
            State::Flapping => Self::Undecided,
        }
    }
}

/// A condition and the instant from which on it holds, until that of the next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConditionStep {
    /// The first instant.
    pub from: Time,
    /// The condition.
    pub condition: Condition,
    /// The entry that says so; none for what holds without one.
    pub sequence: Option<u64>,
}

impl DeltaRow<3> for ConditionStep {
    fn numbers(&self) -> [i64; 3] {
        let condition = match self.condition {
            Condition::Up => 0,
            Condition::Down => 1,
            Condition::Undecided => 2,
        };
        [self.from.micros(), condition, self.sequence.map_or(-1, u64::cast_signed)]
    }

    fn of([from, condition, sequence]: [i64; 3]) -> Option<Self> {
        let condition = match condition {
            0 => Condition::Up,
            1 => Condition::Down,
            2 => Condition::Undecided,
            _ => return None,
        };
        Some(Self { from: Time::from_micros(from), condition, sequence: u64::try_from(sequence).ok() })
    }
}

/// The condition at every instant from the first step on; before it, nothing is known. Each step differs from the one before.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Steps {
    #[serde(with = "deltas")]
    steps: Vec<ConditionStep>,
    /// `by` of the newest change, whether or not it made a step.
    since: Option<Time>,
}

impl Steps {
    /// Up at all times: a finding is not open until a detector says that it is.
    pub(crate) fn clear() -> Self {
        let beginning = Time::from_micros(i64::MIN);
        let step = ConditionStep { from: beginning, condition: Condition::Up, sequence: None };
        Self { steps: vec![step], since: Some(beginning) }
    }

    /// Adds a change to `condition` between `after` and `by`, which entry `sequence` reports.
    pub(crate) fn change(&mut self, after: Time, by: Time, condition: Condition, sequence: u64) {
        let by = by.max(after);
        let Some(since) = self.since else {
            self.since = Some(by);
            return self.push(by, condition, sequence);
        };
        let until = by.max(since);
        let differs = self.steps.last().is_none_or(|last| last.condition != condition);
        let told_again = Interval::new(after, since);
        let is_long_ago = after < since - REVISED_MAX;
        if differs || is_long_ago || self.over(told_again).any(|(_, told)| told.contradicts(condition)) {
            self.steps.truncate(self.steps.partition_point(|step| step.from < after));
            self.push(after, Condition::Undecided, sequence);
        }
        self.push(until, condition, sequence);
        self.since = Some(until);
    }

    /// Drops the steps that neither an instant from `before` on needs nor a change that comes later.
    pub(crate) fn forget(&mut self, before: Time) {
        let Some(since) = self.since else { return };
        let needed = before.min(since - REVISED_MAX);
        let after = self.steps.partition_point(|step| step.from <= needed);
        self.steps.drain(..after.saturating_sub(1));
    }

    /// Whether the condition at `from` lasts for ever.
    pub(crate) fn is_constant_from(&self, from: Time) -> bool {
        self.steps.last().is_none_or(|last| last.from <= from)
    }

    fn push(&mut self, from: Time, condition: Condition, sequence: u64) {
        self.steps.pop_if(|last| last.from == from);
        if self.steps.is_empty() {
            // Most never change: a `Vec` would reserve four.
            self.steps.reserve_exact(1);
        }
        if self.steps.last().is_none_or(|last| last.condition != condition) {
            self.steps.push(ConditionStep { from, condition, sequence: Some(sequence) });
        }
    }

    /// The step that holds at `time`.
    pub(crate) fn at(&self, time: Time) -> Option<&ConditionStep> {
        let after = self.steps.partition_point(|step| step.from <= time);
        self.steps[..after].last()
    }

    /// The steps that touch `within`, each with the time during which it holds there.
    pub(crate) fn over(&self, within: Interval) -> impl Iterator<Item = (Interval, Condition)> {
        let first = self.steps.partition_point(|step| step.from <= within.start).saturating_sub(1);
        let steps = &self.steps[first..];
        let ends = steps.iter().skip(1).map(|next| next.from).chain([within.end]);
        steps
            .iter()
            .zip(ends)
            .take_while(move |(step, _)| step.from < within.end)
            .map(move |(step, end)| (Interval::new(step.from, end).intersect(within), step.condition))
    }

    /// The entries that say when `outage` began and ended, as far as that is inside `window`. Earlier ones are not cited: they may
    /// be destroyed while the window is still whole, and then nobody could name the same entries.
    pub(crate) fn bounding(&self, outage: Interval, window: Interval) -> Vec<u64> {
        let began = |step: &&ConditionStep| step.condition == Condition::Down && step.from >= window.start;
        let start = self.at(outage.start).filter(began);
        let end = self.at(outage.end).filter(|step| step.from == outage.end);
        start.into_iter().chain(end).filter_map(|step| step.sequence).collect()
    }
}
