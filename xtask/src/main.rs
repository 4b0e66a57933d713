//! `cargo xtask`: checks the rules of the workspace.
//!
//! The invariants of ARCHITECTURE.md that are marked ✓, and some rules of CONTRIBUTING.md. The program reads `cargo metadata`
//! and the sources, and says which rule is broken, where, why the rule exists and what to do instead. It changes nothing.
//! `scripts/test` runs it. Exit code 0: every rule holds; 1: one is broken; 2: the workspace can't be read.
//!
//! - [`workspace`] reads a workspace into one plain value;
//! - [`rules`] is the list: a rule is a name, a reason, a remedy and a function over that value;
//! - [`rust`] tells code from comments and strings.

mod rules;
mod rust;
mod workspace;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask tidy           check the rules of the workspace
       cargo xtask tidy --list    say what they are";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout().lock();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => workspace_root().and_then(|root| tidy(&Workspace::load(&root)?, &mut out)),
        ["tidy", "--list"] => list(&mut out).map(|()| true),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            // Standard error being closed leaves the exit code to say it.
            let _closed = writeln!(std::io::stderr(), "{reason}");
            ExitCode::from(2)
        }
    }
}

/// The root of the workspace: the parent of this crate's folder, which cargo puts into `CARGO_MANIFEST_DIR`.
fn workspace_root() -> Result<PathBuf, String> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .ok_or("start it with `cargo xtask`: cargo says where the workspace is")?;
    let mut root = PathBuf::from(here);
    root.pop();
    Ok(root)
}

/// Writes the report of all rules to `out`; true when none is broken.
fn tidy(workspace: &Workspace, out: &mut impl Write) -> Result<bool, String> {
    let report = rules::report(workspace);
    out.write_all(report.text.as_bytes()).map_err(|error| format!("the report can't be written: {error}"))?;
    Ok(report.breaches == 0)
}

/// Writes the name, the reason and the remedy of every rule to `out`.
fn list(out: &mut impl Write) -> Result<(), String> {
    rules::ALL
        .iter()
        .try_for_each(|rule| writeln!(out, "{:<20} {}\n{:<20} Instead: {}", rule.name, rule.why, "", rule.instead))
        .map_err(|error| format!("the list can't be written: {error}"))
}
