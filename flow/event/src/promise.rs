//! Verdicts: the results of judging a promise.

use serde::{Deserialize, Serialize};

use crate::{Body, Family, Interval, Kind, PromiseId, Span, Time};

/// Kept, broken, or unproven: no evidence is not a kept promise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The low figure reaches the target.
    Kept,
    /// The high figure does not.
    Broken,
    /// The target lies between the two figures, or there is no evidence.
    Unproven,
}

/// The unit of a figure.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Parts per billion; more is better.
    Ppb,
    /// Microseconds; less is better.
    Micros,
    /// A count; less is better.
    Count,
}

/// A measured figure: the truth lies in `[low, high]`. "Low" is the pessimistic end for a share, the optimistic one for a
/// length or a count.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Figure {
    /// The unit of all three numbers.
    pub unit: Unit,
    /// Lower end.
    pub low: i64,
    /// Upper end.
    pub high: i64,
    /// The promised figure.
    pub target: i64,
}

/// A reason of a verdict, or a note beside it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The window is younger than its length: it started when this revision of the promise was declared.
    WindowFilling {
        /// Time since then.
        elapsed: Span,
        /// Length of the window.
        length: Span,
    },
    /// What may go wrong over the whole length of the window, and what of it has. The truth lies between the two uses.
    Budget {
        /// What went wrong for certain.
        used_at_least: Span,
        /// What is not known to have gone well.
        used_at_most: Span,
        /// What may go wrong before the promise is broken.
        of: Span,
    },
    /// A part of the window was observed by nobody.
    Unobserved {
        /// Length of that part in all.
        length: Span,
    },
    /// A part of the window was down for certain.
    Down {
        /// Length of that part in all.
        length: Span,
        /// Number of outages.
        outages: u64,
    },
    /// A part of the window was announced maintenance and set apart.
    Maintenance {
        /// Length of that part in all.
        length: Span,
    },
    /// Only one observer: nobody else can confirm what it says.
    LoneObserver,
    /// Nothing in the journal bears on the promise.
    NoEvidence,
    /// Still kept, but more than half of what may go wrong has.
    AtRisk,
}

/// One objective of one promise was judged at `at`, from the first `tree_size` entries of the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Verdict {
    /// The promise.
    pub promise: PromiseId,
    /// The revision of the promise.
    pub revision: String,
    /// The number of the objective, counted from 0.
    pub objective: u32,
    /// Version of the evaluator: a later release recomputes with the rules of this one.
    pub evaluator: u32,
    /// Entries that were read: those with a sequence below this.
    pub tree_size: u64,
    /// When the verdict was computed.
    pub at: Time,
    /// The window that was looked at, at most as long as the objective says. It ends where the observers' records do: the
    /// verdict speaks up to there.
    pub window: Interval,
    /// The verdict.
    pub outcome: Outcome,
    /// The figure, when anything could be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<Figure>,
    /// The reasons.
    pub reasons: Vec<Reason>,
    /// Sequences of up to sixteen entries that weigh most.
    pub evidence: Vec<u64>,
}

impl Body for Verdict {
    const KIND: Kind = Kind::public("promise.verdict", Family::Statistics);
}
