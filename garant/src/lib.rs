//! The program `garant` as a library: parses the command line and runs one command, whose outcome becomes an exit code.
//!
//! The commands are in [`cli`], one file each; the long-running process is in [`roles`]; the lists of engines and parts of the
//! policy are in [`registry`]. A library, so that a test can run garant with one more engine; `main.rs` calls it with the lists
//! of this release.

mod changes;
mod cli;
mod clock_set_back;
mod configuration;
mod data;
mod engines;
mod failure;
mod parts;
mod place;
mod registry;
mod roles;
mod runtime;
mod signals;
mod team_token;
mod terminal;

use std::process::ExitCode;

pub use engines::Given;
pub use registry::{EngineEntry, Made, PolicyPart, Registry};

/// Runs the command that the arguments of the process name, with the engines and parts of `registry`.
pub fn main(registry: &Registry) -> ExitCode {
    let invocation = cli::Invocation::parse(registry);
    if invocation.is_frugal() {
        engine::memory::be_frugal();
    }
    let mut terminal = terminal::Terminal::new(invocation.colour());
    let outcome = invocation.run(registry, &mut terminal);
    match outcome.and_then(|code| terminal.finish().map(|()| code)) {
        Ok(code) => code,
        Err(failure) => {
            terminal.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
