//! How many bans may begin in a minute: beyond it, offences are told of and nobody is banned.
//!
//! A mistake in a rule, or forged lines in a log, would otherwise ban everybody within seconds. Bans that a person asked for, and
//! those that are restored, are not counted.

use std::collections::{BTreeMap, VecDeque};

use event::{Monotonic, Span};

/// What is done about one offence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is enforced.
    Enforce,
    /// It is reported as simulated, and not enforced. `first` is true of the first one since bans were enforced: that is
    /// alerted of.
    Simulate {
        /// Whether the cap has just been reached.
        first: bool,
    },
}

/// Counts the bans of the last minute.
#[derive(Clone, Debug)]
pub struct Caps {
    per_rule: u32,
    in_all: u32,
    /// When bans began, oldest first, by rule.
    begun: BTreeMap<String, VecDeque<Monotonic>>,
    simulating: bool,
}

impl Default for Caps {
    /// 300 a minute for each rule, 1,000 in all.
    fn default() -> Self {
        Self::new(300, 1000)
    }
}

impl Caps {
    /// At most so many bans a minute for each rule, and in all.
    pub const fn new(per_rule: u32, in_all: u32) -> Self {
        Self { per_rule, in_all, begun: BTreeMap::new(), simulating: false }
    }

    /// Whether a ban of the rule may begin now; counts it if so. What is kept is as many instants as `in_all`.
    pub fn admit(&mut self, rule: &str, now: Monotonic) -> Admission {
        self.begun.retain(|_, begun| {
            while begun.front().is_some_and(|at| now.since(*at) >= Span::from_secs(60)) {
                begun.pop_front();
            }
            !begun.is_empty()
        });
        let all: usize = self.begun.values().map(VecDeque::len).sum();
        let of_rule = self.begun.get(rule).map_or(0, VecDeque::len);
        let below = |count: usize, max: u32| u32::try_from(count).is_ok_and(|count| count < max);
        if below(all, self.in_all) && below(of_rule, self.per_rule) {
            self.begun.entry(rule.to_owned()).or_default().push_back(now);
            self.simulating = false;
            return Admission::Enforce;
        }
        Admission::Simulate { first: !std::mem::replace(&mut self.simulating, true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_cap_of_a_rule_or_of_all_nothing_is_enforced() {
        let mut caps = Caps::new(2, 3);
        let at = |seconds: i64| Monotonic(seconds * 1_000_000);
        assert_eq!(caps.admit("sshd", at(0)), Admission::Enforce);
        assert_eq!(caps.admit("sshd", at(1)), Admission::Enforce);
        assert_eq!(caps.admit("sshd", at(2)), Admission::Simulate { first: true });
        assert_eq!(caps.admit("sshd", at(3)), Admission::Simulate { first: false });
        assert_eq!(caps.admit("nginx", at(3)), Admission::Enforce);
        assert_eq!(caps.admit("postfix", at(4)), Admission::Simulate { first: true });
        assert_eq!(caps.admit("postfix", at(60)), Admission::Enforce, "one minute after the first");
    }
}
