//! `garant` keeps the promises of a security page, and proves that it does.
//!
//! Everything starts here: the command line is read, one command is run, its outcome becomes an exit code. The commands
//! are in [`cli`], one file each; what runs for long is in [`roles`]; what garant is made of, in [`registry`].
//!
//! It is a library so that a test can run garant with an engine more; the program is `main.rs`, with the lists of this
//! release.

mod changes;
mod cli;
mod clock_set_back;
mod configuration;
mod data;
mod engines;
mod failure;
mod parts;
mod registry;
mod roles;
mod runtime;
mod terminal;

use std::process::ExitCode;

pub use engines::Given;
pub use registry::{EngineEntry, Made, PolicyPart, Registry};

/// The program, made of what is in `registry`.
pub fn main(registry: &Registry) -> ExitCode {
    runtime::frugal_allocator();
    let asked = cli::Asked::parse(registry);
    let mut terminal = terminal::Terminal::new(asked.colour());
    let outcome = asked.run(registry, &mut terminal);
    match outcome.and_then(|code| terminal.finish().map(|()| code)) {
        Ok(code) => code,
        Err(failure) => {
            terminal.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
