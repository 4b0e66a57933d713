//! The watch: what is up, as an honest interval.
//!
//! **Problem.** A monitor that says "99.97 %" counts its own samples. It does not know what happened between two of them,
//! it counts its own naps as the service's health or as its outage, and it calls a lost packet an outage or an outage a
//! lost packet. At 99.99 %, four minutes a month, each of these is larger than what is measured.
//!
//! **Principle.** Samples are not evidence; states and coverage are. Every pair of probe and observer is asked on its own
//! turn ([`schedule`]). A first failure is confirmed at once, here and from everywhere else, before it becomes a change of
//! state with an honest bracket ([`observe`]). Each observer records which time was observed at all ([`coverage`]).
//! Figures of the machine become findings when they last ([`finding`]). Whatever happens to the observer itself (late,
//! suspended, stepped clock, refused by the storage, cut off from the network: [`uplink`]) makes time *unknown*, never
//! *down*.
//!
//! The flow through the code: [`Config`] is read from the policy; [`Watch`] runs as an engine; its task ([`run`]) only
//! carries things between the world and [`rounds`], which decides everything and knows no world; [`source`] asks.
//!
//! What is public knows no host: changes, coverage, pings and findings are public, their [`Detail`](events::Detail) is for the
//! team.
//!
//! Observers are vantage points of this process for now. Each has its own lanes, states, coverage and sequence, and shares
//! nothing with another but the instant at which all are asked to confirm: the seam at which a remote agent will stand.

mod config;
mod coverage;
mod events;
mod figures;
mod finding;
mod in_flight;
mod journaling;
mod lane;
mod moment;
mod observe;
mod order;
mod rounds;
mod run;
mod schedule;
pub mod source;
mod uplink;

pub use config::{Config, WatchOptions};
pub use events::KINDS;
pub use figures::{CompactStanding, Counts, Figures};
pub use run::Watch;
pub use source::{Common, CompactPhases, Declared, Expiry, PROBE_KINDS, ProbeKind};

/// The name of the engine.
pub const NAME: &str = "watch";

/// The observer that the watch is at a vantage point of the policy.
fn observer(vantage: &event::VantageId) -> event::ObserverId {
    vantage.observer(NAME)
}
