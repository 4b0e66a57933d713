//! A command that an engine adds to the command line.

use std::io::Write;

use crate::Failure;

/// A command of an engine: `garant <engine> …`, in help, completions and manual pages beside garant's own.
pub struct Command {
    /// Name, description, arguments and subcommands.
    pub arguments: clap::Command,
    /// Runs the command: writes its result to the given stream and returns the exit code. The process is its own, beside
    /// `garant up` or without it, so what the command shares with the engine is the data directory.
    pub run: fn(&clap::ArgMatches, &mut dyn Write) -> Result<u8, Failure>,
}
