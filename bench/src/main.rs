//! Benchmarks, one command each, beside a peer where there is one:
//!
//! `cargo run --release -p garant-bench -- appends|audit|judge|respond|probes|hanging|idle|told|guard|gate|backup`
//!
//! Each command prints Markdown rows for `bench/RESULTS.md`: what was measured, the figure, the figure wanted. Where the load
//! of the machine would change a figure, a peer is measured in the same run and their ratio is printed.

mod appends;
mod audit;
mod backup;
mod gate;
mod guard;
mod hanging;
mod idle;
mod judge;
mod probes;
mod process;
mod respond;
mod told;

use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "a command prints its error")]
fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("appends") => appends::run(),
        Some("audit") => audit::run(),
        Some("judge") => judge::run(),
        Some("respond") => respond::run(),
        Some("probes") => probes::run(),
        Some("hanging") => hanging::run(),
        Some("idle") => idle::run(),
        Some("told") => told::run(),
        Some("gate") => gate::run(),
        // A part of it.
        Some("gate-reload") => gate::edge::reload(),
        Some("guard") => guard::run(),
        Some("backup") => backup::run(),
        // Parts of that of backups, each for itself.
        Some("backup-files") => backup::files::run(),
        Some("backup-mariadb") => backup::mariadb::run(),
        Some("backup-postgres") => backup::postgres::run(),
        // Restores of databases of 4 GB: some ten minutes, and 30 GB of disk.
        Some("backup-large") => backup::large(),
        // Parts of that of the guard, in the namespaces that it makes.
        Some("guard-ear") => guard::ear(),
        Some("guard-peer") => guard::peer(),
        _ => Err(
            "usage: garant-bench appends | audit | judge | respond | probes | hanging | idle | told | guard | gate | backup"
                .into(),
        ),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The result of a benchmark; `main` prints the error.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Prints a row of the result: what was measured, the figure, the figure wanted (`–`: none).
#[expect(clippy::print_stdout, reason = "the result of a benchmark")]
fn row(what: &str, figure: &str, wanted: &str) {
    println!("| {what} | {figure} | {wanted} |");
}
