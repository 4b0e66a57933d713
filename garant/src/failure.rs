//! The failure of a command, and the exit codes that several commands share.

pub(crate) use engine::Failure;

/// Exit code for wrong arguments (that of clap) and for a policy with mistakes.
pub(crate) const USAGE: u8 = 2;
