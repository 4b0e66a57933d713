//! Orders and effects: the questions and entries that [`crate::rounds`] returns, and the outcome of a question.

use std::sync::Arc;

use event::engine::{Blind, ClockStepped};
use event::evidence::{Changed, Covered, Found, Succeeded};
use event::{ObserverId, Span};
use store::{Reading, Sample};

use crate::events::{Detail, Pinged};
use crate::moment::Moment;
use crate::source::{Answer, Probe};

/// A question to be asked now.
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) timeout: Span,
}

/// An order that is done.
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) started: Moment,
    pub(crate) ended: Moment,
    pub(crate) outcome: OrderOutcome,
}

/// The outcome of an order.
pub(crate) enum OrderOutcome {
    /// The probe answered.
    Answered(Answer),
    /// The probe did not answer in its time.
    TimedOut,
    /// The probe panicked: a defect of garant.
    Failed,
}

impl OrderOutcome {
    /// Whether the target failed.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::Answered(answer) => answer.reading == Reading::Down,
            Self::TimedOut => true,
            Self::Failed => false,
        }
    }

    /// Whether the failure may be of the observer's own network.
    pub(crate) fn may_be_ours(&self) -> bool {
        matches!(self, Self::Answered(answer) if answer.may_be_ours)
    }

    /// Whether the target answered as it should.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Answered(answer) if answer.reading == Reading::Up)
    }
}

/// An event of the watch, to be journaled.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum WatchEvent {
    Changed(Changed),
    Detail(Detail),
    Covered(Covered),
    Found(Found),
    Succeeded(Succeeded),
    Pinged(Pinged),
    ClockStepped(ClockStepped),
    Blind(Blind),
}

/// An effect to be carried out, in the order of the list.
pub(crate) enum Effect {
    Ask(Order),
    Journal(ObserverId, WatchEvent),
    Sample(Sample),
}
