//! What a command says when it can't do what it was asked, and its exit code.

pub(crate) use engine::Failure;

/// Exit code of a command that was called wrongly (as clap does), or whose policy has mistakes.
pub(crate) const USAGE: u8 = 2;
