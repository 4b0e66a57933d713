//! Where lines come from: log files, and the journal of systemd.
//!
//! The contract is that of [`Batch`] and [`Positions`]: what was made of the lines of a batch is committed in one durable write
//! together with the positions after it. A process killed before that write reads the batch again, and nothing of it counts
//! already; one killed after it goes on behind it. So no line counts twice and none is missed, and what is read again is at most
//! one batch. What a batch has done outside of that write (a ban, an entry) is done again, and must be the same thing: a
//! [`Line`] says which byte of which file it ends at.

mod encoding;
mod export;
mod glob;
mod journald;
mod log_file;
mod position;
mod seek;
mod siblings;
mod tail;
#[cfg(test)]
mod tests;
mod wake;

pub use encoding::{Encoding, UnknownEncoding};
pub use export::NotExport;
pub(crate) use glob::{has_file, names};
pub use journald::{Journal, JournalBatch, JournalError, JournalLine, JournalSettings};
pub use position::{Fingerprint, Place, Position, Positions};
pub use tail::{Batch, Follow, Line, Notice, Problem, Start, Tail, TailLimits};
pub use wake::Wake;
