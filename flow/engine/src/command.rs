//! A command that an engine adds to the command line.

use std::io::Write;

use crate::Failure;

/// A command of an engine: `garant <engine> …`. It stands beside those of garant in help, completions and manual pages.
pub struct Command {
    /// Its name, what it is for, its arguments and its own subcommands.
    pub arguments: clap::Command,
    /// Runs it: writes the result to where it is told, and gives the exit code. It runs in a process of its own, beside
    /// `garant up` or without it, so what it shares with the engine is the data directory.
    pub run: fn(&clap::ArgMatches, &mut dyn Write) -> Result<u8, Failure>,
}
