//! `cargo xtask`: the rules of the house, checked.
//!
//! A rule that nobody checks is a wish. DESIGN and ARCHITECTURE say who may know whom; this program reads the same facts
//! from `cargo metadata` and from the sources, and says which rule is broken, where, why the rule exists and what to do
//! instead. It changes nothing.
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
usage: cargo xtask tidy           check the rules of the house
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

/// The workspace that this program was started from: cargo names our own folder, one below the root.
fn workspace_root() -> Result<PathBuf, String> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .ok_or("start it with `cargo xtask`: cargo says where the workspace is")?;
    let mut root = PathBuf::from(here);
    root.pop();
    Ok(root)
}

/// Prints every breach; true when there is none.
fn tidy(workspace: &Workspace, out: &mut impl Write) -> Result<bool, String> {
    let report = rules::report(workspace);
    out.write_all(report.text.as_bytes()).map_err(|error| format!("the report can't be written: {error}"))?;
    Ok(report.breaches == 0)
}

fn list(out: &mut impl Write) -> Result<(), String> {
    rules::ALL
        .iter()
        .try_for_each(|rule| writeln!(out, "{:<20} {}\n{:<20} Instead: {}", rule.name, rule.why, "", rule.instead))
        .map_err(|error| format!("the list can't be written: {error}"))
}
