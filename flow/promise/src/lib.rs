//! Promise → objective → verdict: a pure function over journal entries (BX-1).
//!
//! A promise is a sentence on a page; its objectives say what figure would prove it. Everything here is computed from
//! the public entries of the log and from nothing else: no clock, no query, no float. Whoever has the entries gets the
//! same verdicts, byte for byte, so a stranger can check ours ([`audit`]) and a rewritten history shows (BX-4).
//!
//! # The flow
//!
//! [`Judge`] folds entries. `declared` keeps what the policies said as functions of time, `observed` what each observer
//! said, in steps and merged spans: memory grows with changes, not with minutes. A question, such as
//! [`Judge::verdicts`], reads both: `line` lets the observers of a probe vote and adds probes up to services,
//! `maintenance` says what is set apart, and one file per objective rules on the rest.
//!
//! # The rules (evaluator 2)
//!
//! In short; `docs/evaluator.md` has them to the last rounding, for whoever computes verdicts without this code.
//!
//! - **Declarations.** A policy holds from its `recorded_at` until the next one's.
//! - **Windows.** A verdict speaks up to its *reach*: where the records of all who look at its probes end; time without a
//!   record is late only `LATE` after the next look was due. The window of an objective is
//!   `[max(declared, reach − over), reach)`, where `declared` is when this revision of the promise came into effect,
//!   uninterrupted since. A window shorter than `over` says so: [`WindowFilling`](event::promise::Reason::WindowFilling).
//! - **Standing.** For one observer, a probe is what its last `evidence.changed` says; degraded is up; flapping is
//!   undecided; the bracket `[after, by]` between an up and a down is undecided; before the first change nothing is
//!   known. An observer that contradicts its own past makes that past undecided, never better.
//! - **Coverage.** That counts only while the observer covered the probe: inside its `evidence.covered`, outside the gaps
//!   named, the policy named asking that observer to ask that probe, as often as the record says, and the clock of its
//!   vantage not having stepped over it. Time for which there is no record is time that nobody observed.
//! - **Agreement.** Of the observers that cover a probe at an instant: `majority` needs more than half, `any` one, `all`
//!   all of them to call it down (and more than half, all, one to call it up). Otherwise it is undecided; without any
//!   observer, unknown.
//! - **Services** are as bad as the worst of the probes declared at that instant: down, undecided, unknown, up. Without
//!   probes: unknown.
//! - **Maintenance** announced before it starts, and not during an outage, is set apart from availability.
//! - **Figures** are intervals `[low, high]` that hold the truth, `low` rounded down and `high` up. Kept when even `low`
//!   reaches the target, broken when not even `high` does, unproven otherwise. Nothing observed is never kept. In a window
//!   that is still filling, a share is broken only by more than may go wrong in the whole: its
//!   [`Budget`](event::promise::Reason::Budget).
//!
//! A sample stands for the time since the one before it, so an outage shorter than the time between two may go unseen.

mod backups;
mod burn;
mod declared;
mod deltas;
mod due;
mod eras;
mod fact;
mod in_effect;
mod judge;
mod line;
mod lines;
mod maintenance;
mod observed;
mod parts;
mod ruling;
mod section;
mod services;
mod steps;

pub mod audit;
pub mod objective;
pub mod revision;

pub use burn::Burning;
pub use due::{DAILY, due};
pub use in_effect::{EvaluatedVerdict, InEffect, VerdictInEffect};
pub use judge::Judge;
pub use lines::Subject;
pub use objective::Objective;
pub use parts::{ChangedRow, NotAFold};
pub use section::{PromiseSection, Promises};
pub use services::{Began, OpenFindings, ServiceStanding, Services, agreed_state};
pub use steps::Condition;

/// Version of the rules. Each verdict names the version by which it was computed; a release that changes a rule keeps the old ones,
/// or says that it does not judge their verdicts.
pub const EVALUATOR: u32 = 2;

#[cfg(test)]
mod tests;
