//! The date of a line: which template finds it, what is cut out of the line, and the instant it means.
//!
//! As fail2ban 1.0.2: the same templates in the same order, ranked by what they found before; the same rules for what a line
//! leaves out. Two things are arguments here that are read from the machine there: the time and the zone.

mod bounds;
mod detector;
mod directives;
mod local;
mod python;
mod shapes;
mod strptime;
mod template;
mod templates;
#[cfg(test)]
mod tests;
mod zones;

pub use detector::{DateDetector, DateSettings, LogLine, TimeMatch};
pub use strptime::Unread;

/// Why there is no detector.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum DateError {
    /// A pattern that can't be read.
    #[error("datepattern {pattern}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A zone of the log that is none.
    #[error("logtimezone {zone}: no known zone; write UTC+0200, or an abbreviation such as CET")]
    Zone {
        /// What was given.
        zone: String,
    },
}
