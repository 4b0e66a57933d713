//! From failures to bans: how many failures make an offence, and how long the ban for it lasts.
//!
//! Pure state and arithmetic: instants, random draws and the history of an address are arguments.

mod attempts;
mod bantime;
mod formula;
#[cfg(test)]
pub(crate) mod oracle;

pub(crate) use attempts::whole_seconds;
pub use attempts::{Attempts, AttemptsLimits, AttemptsState, Failure, Offence, TicketState};
pub use bantime::{BanLength, BanTimeError, BanTimes, BanTimesText};
pub use formula::{Formula, FormulaError};
