//! A declared value as a function of time.

use event::{Interval, Time};
use serde::{Deserialize, Serialize};

/// A declared value and the instant from which on it holds, until that of the next era.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Era<T> {
    /// The time at which its policy was recorded.
    pub from: Time,
    /// The number of its policy, counted from 0 in the order of the log.
    pub policy: u32,
    /// The value.
    pub value: T,
}

/// The eras of one declaration, in order. Only changes are kept: a policy that is applied again costs nothing.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Eras<T>(Vec<Era<T>>);

impl<T> Default for Eras<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq + Default> Eras<T> {
    /// Adds the `value` that `policy` declares from `from` on, which is not before the start of the last era.
    pub(crate) fn set(&mut self, from: Time, policy: u32, value: T) {
        let unchanged = match self.0.last() {
            Some(last) => last.value == value,
            None => value == T::default(),
        };
        if !unchanged {
            if self.0.is_empty() {
                // Most are declared once: a `Vec` would reserve four.
                self.0.reserve_exact(1);
            }
            self.0.push(Era { from, policy, value });
        }
    }

    /// What was declared, in order, for whoever does not change what it says.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|era| &mut era.value)
    }

    /// All eras, in order.
    pub(crate) fn all(&self) -> &[Era<T>] {
        &self.0
    }

    /// The eras that end after `from`.
    pub(crate) fn since(&self, from: Time) -> &[Era<T>] {
        &self.0[self.0.partition_point(|era| era.from <= from).saturating_sub(1)..]
    }

    /// The value in the newest policy.
    pub(crate) fn last(&self) -> Option<&T> {
        self.0.last().map(|era| &era.value)
    }

    /// The value in the policy of that number.
    pub(crate) fn under(&self, policy: u32) -> Option<&T> {
        let after = self.0.partition_point(|era| era.policy <= policy);
        self.0[..after].last().map(|era| &era.value)
    }

    /// The values inside `within`, each with the time during which it held. Time before the first era is left out.
    pub(crate) fn over(&self, within: Interval) -> impl Iterator<Item = (Interval, &T)> {
        let ends = self.0.iter().skip(1).map(|era| era.from).chain([within.end]);
        self.0
            .iter()
            .zip(ends)
            .map(move |(era, end)| (Interval::new(era.from, end).intersect(within), &era.value))
            .filter(|(interval, _)| !interval.is_empty())
    }
}
