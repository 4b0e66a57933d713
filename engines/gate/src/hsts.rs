//! How long browsers are told to come by TLS alone (HSTS, RFC 6797): a ramp, for what was said can't be taken back.
//!
//! A site whose certificate fails after it has said "two years" shuts its visitors out, with nothing to click on. So it says five
//! minutes until its certificate has been good for a day, then a week, and two years after another week. What counts is time in which
//! the gate has looked and found the certificate good, not time on a calendar: neither a gate that was off nor a clock that steps moves
//! it. A certificate that fails sends it back to the beginning.

use std::collections::BTreeMap;

use event::Span;
use serde::{Deserialize, Serialize};

/// So long a certificate must have been good before a week is said, and before two years are.
const DAY: Span = Span::from_days(1);
const EIGHT_DAYS: Span = Span::from_days(8);
/// What is counted since it was written last, before it is written again.
const WRITTEN_EVERY: Span = Span::from_secs(600);

/// A step of the ramp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Step {
    Minutes,
    Week,
    Years,
}

impl Step {
    pub(crate) const ALL: [Self; 3] = [Self::Minutes, Self::Week, Self::Years];

    /// The value of the field.
    pub(crate) const fn value(self) -> &'static str {
        match self {
            Self::Minutes => "max-age=300",
            Self::Week => "max-age=604800",
            Self::Years => "max-age=63072000",
        }
    }

    const fn after(good: Span) -> Self {
        match good.micros() {
            micros if micros < DAY.micros() => Self::Minutes,
            micros if micros < EIGHT_DAYS.micros() => Self::Week,
            _ => Self::Years,
        }
    }
}

/// How long the certificates of sites have been good, by domain.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
#[serde(transparent)]
pub(crate) struct Ramp {
    good: BTreeMap<String, Span>,
    #[serde(skip)]
    unwritten: Span,
}

impl Ramp {
    /// The certificate of a site was found good or not, and `passed` has gone by since the last look. The step that holds now.
    pub(crate) fn saw(&mut self, domain: &str, is_good: bool, passed: Span) -> Step {
        if !is_good {
            let had = self.good.remove(domain);
            if had.is_some() {
                self.unwritten = WRITTEN_EVERY;
            }
            return Step::Minutes;
        }
        let good = self.good.entry(domain.to_owned()).or_default();
        let before = Step::after(*good);
        *good = Span::from_micros(good.micros().saturating_add(passed.micros()));
        let step = Step::after(*good);
        if step != before {
            self.unwritten = WRITTEN_EVERY;
        }
        step
    }

    /// Whether it is to be written, after so much time more: a step that has changed at once, the rest now and then.
    pub(crate) fn is_due(&mut self, passed: Span) -> bool {
        self.unwritten = Span::from_micros(self.unwritten.micros().saturating_add(passed.micros()));
        self.unwritten >= WRITTEN_EVERY
    }

    pub(crate) const fn is_written(&mut self) {
        self.unwritten = Span::from_micros(0);
    }

    /// Forgets sites that are no more.
    pub(crate) fn keep_only(&mut self, is_there: impl Fn(&str) -> bool) {
        self.good.retain(|domain, _| is_there(domain));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_goes_up_slowly_and_down_at_once() {
        let mut ramp = Ramp::default();
        let hour = Span::from_secs(3600);
        let steps: Vec<Step> = (0..24 * 9).map(|_| ramp.saw("a", true, hour)).collect();
        assert_eq!(steps.iter().position(|step| *step == Step::Week), Some(23));
        assert_eq!(steps.iter().position(|step| *step == Step::Years), Some(24 * 8 - 1));
        assert_eq!(ramp.saw("b", true, hour), Step::Minutes, "each site has its own");
        let kept = serde_json::to_string(&ramp).expect("written");
        let mut again: Ramp = serde_json::from_str(&kept).expect("read");
        assert_eq!(again.saw("a", true, Span::from_micros(0)), Step::Years, "over a restart");
        assert_eq!(again.saw("a", false, hour), Step::Minutes);
        assert!(again.is_due(Span::from_micros(0)), "it is written that it went back");
        assert_eq!(again.saw("a", true, hour), Step::Minutes, "and it begins anew");
    }

    #[test]
    fn it_is_written_now_and_then() {
        let mut ramp = Ramp::default();
        assert!(!ramp.is_due(Span::from_secs(10)));
        assert!(ramp.is_due(Span::from_secs(590)));
        ramp.is_written();
        assert!(!ramp.is_due(Span::from_secs(10)));
        ramp.saw("a", true, Span::from_days(1));
        assert!(ramp.is_due(Span::from_micros(0)), "a step that has changed is written at once");
    }
}
