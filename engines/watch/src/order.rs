//! What [`crate::rounds`] asks for, and what becomes of it.

use std::sync::Arc;

use event::engine::{Blind, ClockStepped};
use event::evidence::{Changed, Covered, Found, Succeeded};
use event::{ObserverId, Span};
use store::{Reading, Sample};

use crate::events::{Detail, Pinged};
use crate::moment::Moment;
use crate::source::{Answer, Probe};

/// A question to ask now.
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) timeout: Span,
}

/// What became of an order.
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) started: Moment,
    pub(crate) ended: Moment,
    pub(crate) outcome: Outcome,
}

/// How it ended.
pub(crate) enum Outcome {
    /// The probe answered.
    Answered(Answer),
    /// It did not, in its time.
    TimedOut,
    /// It panicked: our fault.
    Failed,
}

impl Outcome {
    /// Whether it says that the other side failed.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::Answered(answer) => answer.reading == Reading::Down,
            Self::TimedOut => true,
            Self::Failed => false,
        }
    }

    /// Whether it is a failure that may as well be of our own way out.
    pub(crate) fn may_be_ours(&self) -> bool {
        matches!(self, Self::Answered(answer) if answer.may_be_ours)
    }

    /// Whether the other side answered as it should.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Answered(answer) if answer.reading == Reading::Up)
    }
}

/// An entry for the journal.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Entry {
    Changed(Changed),
    Detail(Detail),
    Covered(Covered),
    Found(Found),
    Succeeded(Succeeded),
    Pinged(Pinged),
    ClockStepped(ClockStepped),
    Blind(Blind),
}

/// What to do, in this order.
pub(crate) enum Effect {
    Ask(Order),
    Journal(ObserverId, Entry),
    Sample(Sample),
}
