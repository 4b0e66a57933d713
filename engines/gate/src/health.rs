//! Whether an upstream may be given requests: decided from checks, from what requests met there, and from the time. No I/O.
//!
//! **Active checks** take an upstream out after `down_after` failures in a row, and bring it back after `up_after` passes in a row.
//! **Requests** that fail there eject it after `eject_after` in a row, each time for longer, and never more than half of a group:
//! that cap does not hold back what checks have found. A check that passes ends no ejection before its time; one that has ended
//! by time still waits for `up_after` passes where there are checks, so an upstream that fails only under load does not flap.

use event::{Monotonic, Span};

/// Longest ejection.
const EJECTED_MAX: Span = Span::from_secs(300);
/// After so much time without an ejection, the next one is short again.
const FORGIVEN_AFTER: Span = Span::from_secs(600);

/// The thresholds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rules {
    pub(crate) up_after: u32,
    pub(crate) down_after: u32,
    pub(crate) eject_after: u32,
    pub(crate) eject_for: Span,
}

/// How an upstream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It is given requests.
    Up,
    /// Checks fail.
    Down,
    /// Requests have failed there.
    Ejected,
    /// Its ejection is over, and checks have to pass first.
    Returning,
}

impl State {
    /// In events and in what commands show.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Returning => "returning",
        }
    }
}

/// What is known of an upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Health {
    pub(crate) state: State,
    /// Why it is in that state.
    pub(crate) reason: String,
    /// Until when it is ejected.
    pub(crate) ejected_until: Option<Monotonic>,
    passes: u32,
    fails: u32,
    ejections: u32,
    ejected_last: Option<Monotonic>,
}

impl Default for Health {
    fn default() -> Self {
        // A gate that starts gives requests at once: the first ones tell more than waiting would.
        let reason = "nothing has failed".to_owned();
        Self { state: State::Up, reason, ejected_until: None, passes: 0, fails: 0, ejections: 0, ejected_last: None }
    }
}

impl Health {
    /// A check has passed, or failed with a reason. Whether the state has changed.
    pub(crate) fn checked(&mut self, outcome: Result<(), &str>, rules: Rules, now: Monotonic) -> bool {
        (self.passes, self.fails) =
            if outcome.is_ok() { (self.passes.saturating_add(1), 0) } else { (0, self.fails.saturating_add(1)) };
        match (self.state, outcome) {
            (State::Down | State::Returning, Ok(())) if self.passes >= rules.up_after => {
                let reason = format!("{} checks in a row have passed", self.passes);
                self.change(State::Up, reason)
            }
            (State::Up | State::Returning, Err(reason)) if self.fails >= rules.down_after => {
                self.change(State::Down, format!("{} checks in a row have failed: {reason}", self.fails))
            }
            // What is ejected and down comes back by its checks.
            (State::Ejected, Err(reason)) if self.fails >= rules.down_after => {
                self.ejected_until = None;
                self.change(State::Down, format!("{} checks in a row have failed: {reason}", self.fails))
            }
            _ => self.passed(now, true),
        }
    }

    /// Requests have failed there `rules.eject_after` times in a row. `may_eject` is whether the cap allows one more.
    pub(crate) fn failed(&mut self, reason: &str, rules: Rules, may_eject: bool, now: Monotonic) -> bool {
        if self.state != State::Up || !may_eject {
            return false;
        }
        if self.ejected_last.is_some_and(|last| now.since(last) > FORGIVEN_AFTER) {
            self.ejections = 0;
        }
        self.ejections = self.ejections.saturating_add(1);
        let longer = rules.eject_for.micros().saturating_mul(i64::from(self.ejections));
        let length = Span::from_micros(longer).min(EJECTED_MAX);
        (self.ejected_last, self.passes) = (Some(now), 0);
        self.ejected_until = Some(Monotonic(now.0.saturating_add(length.micros())));
        let times = rules.eject_after;
        self.change(State::Ejected, format!("{times} requests in a row have failed there: {reason}"))
    }

    /// Time has passed. `has_checks` is whether checks are made at all.
    pub(crate) fn passed(&mut self, now: Monotonic, has_checks: bool) -> bool {
        if self.state != State::Ejected || self.ejected_until.is_some_and(|until| now < until) {
            return false;
        }
        (self.ejected_until, self.passes) = (None, 0);
        let reason = "its ejection is over".to_owned();
        self.change(if has_checks { State::Returning } else { State::Up }, reason)
    }

    /// A gate before this one did not use it: it waits for its checks.
    pub(crate) fn was_unused(&mut self, reason: &str) -> bool {
        self.change(State::Down, reason.to_owned())
    }

    fn change(&mut self, state: State, reason: String) -> bool {
        let is_new = self.state != state;
        (self.state, self.reason) = (state, reason);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { up_after: 2, down_after: 3, eject_after: 3, eject_for: Span::from_secs(10) };

    fn at(seconds: i64) -> Monotonic {
        Monotonic(seconds * 1_000_000)
    }

    /// The whole table: only so many in a row count, in both directions.
    #[test]
    fn checks_count_in_a_row() {
        let mut health = Health::default();
        for (second, passes, state) in [
            (0, false, State::Up),
            (1, false, State::Up),
            (2, true, State::Up),
            (3, false, State::Up),
            (4, false, State::Up),
            (5, false, State::Down),
            (6, true, State::Down),
            (7, false, State::Down),
            (8, true, State::Down),
            (9, true, State::Up),
        ] {
            let outcome = if passes { Ok(()) } else { Err("the connection is refused") };
            health.checked(outcome, RULES, at(second));
            assert_eq!(health.state, state, "second {second}");
        }
    }

    /// A check that passes ends no ejection; the return takes its time and its checks; the second ejection is longer.
    #[test]
    fn an_ejection_ends_by_time_and_by_checks() {
        let mut health = Health::default();
        assert!(!health.failed("reset", RULES, false, at(0)), "the cap");
        assert!(health.failed("reset", RULES, true, at(0)));
        for second in 1..10 {
            health.checked(Ok(()), RULES, at(second));
            assert_eq!(health.state, State::Ejected);
        }
        health.checked(Ok(()), RULES, at(10));
        assert_eq!(health.state, State::Returning);
        health.checked(Ok(()), RULES, at(11));
        assert_eq!(health.state, State::Returning);
        health.checked(Ok(()), RULES, at(12));
        assert_eq!(health.state, State::Up);
        assert!(health.failed("reset", RULES, true, at(13)));
        assert_eq!(health.ejected_until, Some(at(33)));
        let mut forgiven = health.clone();
        assert!(!health.passed(at(32), false) && health.passed(at(33), false));
        assert_eq!(health.state, State::Up, "without checks, time is enough");
        assert!(forgiven.passed(at(33), false) && forgiven.failed("reset", RULES, true, at(700)));
        assert_eq!(forgiven.ejected_until, Some(at(710)));
    }

    /// What is ejected and fails its checks too is down, and comes back by its checks.
    #[test]
    fn checks_overrule_an_ejection() {
        let mut health = Health::default();
        health.failed("reset", RULES, true, at(0));
        for second in 1..4 {
            health.checked(Err("refused"), RULES, at(second));
        }
        assert_eq!((health.state, health.ejected_until), (State::Down, None));
        health.checked(Ok(()), RULES, at(5));
        health.checked(Ok(()), RULES, at(6));
        assert_eq!(health.state, State::Up);
    }
}
