//! `garant` keeps the promises of a security page, and proves that it does.
//!
//! Everything starts here: the command line is read, one command is run, its outcome becomes an exit code. The commands
//! are in [`cli`], one file each; what runs for long is in [`roles`].

mod changes;
mod cli;
mod configuration;
mod data;
mod failure;
mod figures;
mod roles;
mod runtime;
mod step;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    runtime::frugal_allocator();
    let arguments = cli::Arguments::parse();
    let mut terminal = terminal::Terminal::new(arguments.colour);
    let outcome = cli::run(arguments, &mut terminal);
    match outcome.and_then(|code| terminal.finish().map(|()| code)) {
        Ok(code) => code,
        Err(failure) => {
            terminal.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
