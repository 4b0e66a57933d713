//! A declared value as it changed over time.

use event::{Interval, Time};
use serde::{Deserialize, Serialize};

/// From `from` on, until the next era.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Era<T> {
    /// When the policy that says so was recorded.
    pub from: Time,
    /// Which policy that was, counted from 0 in the order of the log.
    pub policy: u32,
    /// What it declares.
    pub value: T,
}

/// The eras of one thing. Only changes are kept, so a policy that is applied a thousand times costs a thousand times
/// nothing for what it leaves as it is.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Eras<T>(Vec<Era<T>>);

impl<T> Default for Eras<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq + Default> Eras<T> {
    /// From `from` on, `policy` declares `value`. Times are never before those of the era before.
    pub(crate) fn set(&mut self, from: Time, policy: u32, value: T) {
        let unchanged = match self.0.last() {
            Some(last) => last.value == value,
            None => value == T::default(),
        };
        if !unchanged {
            if self.0.is_empty() {
                // Most things are declared once: no room for more is taken beforehand.
                self.0.reserve_exact(1);
            }
            self.0.push(Era { from, policy, value });
        }
    }

    /// Every era, in order.
    pub(crate) fn all(&self) -> &[Era<T>] {
        &self.0
    }

    /// The eras that reach `from` or later.
    pub(crate) fn since(&self, from: Time) -> &[Era<T>] {
        &self.0[self.0.partition_point(|era| era.from <= from).saturating_sub(1)..]
    }

    /// What the newest policy declares.
    pub(crate) fn last(&self) -> Option<&T> {
        self.0.last().map(|era| &era.value)
    }

    /// What `policy` declares.
    pub(crate) fn under(&self, policy: u32) -> Option<&T> {
        let after = self.0.partition_point(|era| era.policy <= policy);
        self.0[..after].last().map(|era| &era.value)
    }

    /// What was declared when, inside `within`. Time before the first era is left out.
    pub(crate) fn over(&self, within: Interval) -> impl Iterator<Item = (Interval, &T)> {
        let ends = self.0.iter().skip(1).map(|era| era.from).chain([within.end]);
        self.0
            .iter()
            .zip(ends)
            .map(move |(era, end)| (Interval::new(era.from, end).intersect(within), &era.value))
            .filter(|(interval, _)| !interval.is_empty())
    }
}
