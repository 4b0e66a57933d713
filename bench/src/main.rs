//! Benchmarks beside the peers of each engine, one command each:
//!
//! `cargo run --release -p garant-bench -- appends|audit|judge|probes|idle`
//!
//! A figure that a noisy machine could bend is printed as a ratio to a peer measured in the same run. Each command prints
//! the Markdown rows that `bench/RESULTS.md` holds.

mod appends;
mod audit;
mod idle;
mod judge;
mod probes;
mod process;

use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "a benchmark speaks to the person who runs it")]
fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("appends") => appends::run(),
        Some("audit") => audit::run(),
        Some("judge") => judge::run(),
        Some("probes") => probes::run(),
        Some("idle") => idle::run(),
        _ => Err("usage: garant-bench appends | audit | judge | probes | idle".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a benchmark can fail with: anything, told to the person who runs it.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A row of the result.
#[expect(clippy::print_stdout, reason = "the result of a benchmark")]
fn row(what: &str, figure: &str, wanted: &str) {
    println!("| {what} | {figure} | {wanted} |");
}
