//! `garant log`: the log as files, its key, and what to do when it can't be continued.

mod continuation;
mod export;
mod proof;
mod rotate;
mod show;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use notary::remembered::RememberedHeads;
use notary::{head, log};
use store::sqlite::{Sqlite, SqliteReader};

use crate::cli::{DataArgument, PolicyArgument, runtime};
use crate::configuration::Configuration;
use crate::data::Running;
use crate::failure::{Failure, USAGE};
use crate::registry::Registry;
use crate::terminal::Terminal;

#[derive(Subcommand, Debug)]
pub(crate) enum LogCommand {
    /// Write the log as files: what any web server can serve and anybody can verify
    Export(export::ExportCommand),
    /// Show where the log stands
    Head(HeadCommand),
    /// Show what the entries say
    Show(show::ShowCommand),
    /// Write the proof that one entry is in the log (c2sp.org/tlog-proof), or that it continues an older state
    Proof(proof::ProofCommand),
    /// Replace the key that signs, announced inside the log; stop `garant up` first
    Rotate(rotate::RotateCommand),
    /// Go on in a new log, which cites the one that can't be written to again; stop `garant up` first
    Continue(continuation::ContinueCommand),
}

#[derive(Args, Debug)]
pub(crate) struct HeadCommand {
    #[command(flatten)]
    data: DataArgument,

    /// Write it as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of the commands that add entries to the log: `rotate` and `continue`.
#[derive(Args, Debug)]
pub(crate) struct AppendArguments {
    #[command(flatten)]
    data: DataArgument,

    /// The policy, for its `[journal]`: the files of `remember` learn the new head
    #[command(flatten)]
    policy: PolicyArgument,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

impl LogCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        match self {
            Self::Export(command) => command.run(terminal)?,
            Self::Head(command) => command.run(terminal)?,
            Self::Show(command) => command.run(registry, terminal)?,
            Self::Proof(command) => command.run(terminal)?,
            Self::Rotate(command) => runtime()?.block_on(command.run(registry, terminal))?,
            Self::Continue(command) => runtime()?.block_on(command.run(registry, terminal))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl HeadCommand {
    fn run(&self, terminal: &mut Terminal) -> Result<(), Failure> {
        let store = open_to_read(&self.data.data)?;
        note_if_outdated(&store, &self.data.data, terminal)?;
        let head = runtime()?.block_on(head::handed_out(store.as_ref(), &self.data.data))?;
        if self.json {
            terminal.json(&serde_json::json!({
                "origin": store.origin(), "size": head.size, "root": head.root.to_string(), "checkpoint": head.note,
            }));
        } else {
            terminal.raw(head.note.as_bytes());
        }
        Ok(())
    }
}

impl AppendArguments {
    /// The data directory, if nothing runs on it.
    fn data(&self) -> Result<&Path, Failure> {
        let data = &self.data.data;
        if data.exists() {
            store::refuse_of_another(data).map_err(|error| log::refused(data, &error))?;
        }
        match Running::read(data) {
            Ok(running) => {
                Err(Failure::new(format!("garant up runs on {}, as process {}", data.display(), running.pid))
                    .remedy("stop it, run this command, and start it again"))
            }
            Err(_) => Ok(data),
        }
    }

    /// The policy, and the files that it names to remember the head of the log.
    fn configuration(&self, registry: &Registry) -> Result<(Configuration, RememberedHeads), Failure> {
        let policy = &self.policy.policy;
        let configuration = Configuration::load(policy, registry).map_err(|mistakes| {
            Failure::new(format!(
                "the policy says where the head of the log is remembered, and {} can't be used:\n{}",
                policy.display(),
                mistakes.render(false)
            ))
            .remedy("name the policy that `garant up` runs with, with --policy")
            .code(USAGE)
        })?;
        let heads = RememberedHeads::of(&self.data.data, &configuration.basics.journal);
        Ok((configuration, heads))
    }
}

fn open_to_read(data: &Path) -> Result<Arc<SqliteReader>, Failure> {
    Sqlite::open_read_only(data).map_err(|error| log::refused(data, &error))
}

/// Says on standard error when what is there is not the newest state of the log.
fn note_if_outdated(store: &SqliteReader, data: &Path, terminal: &Terminal) -> Result<(), Failure> {
    if let Some(warning) = runtime()?.block_on(head::outdated(store, data))? {
        terminal.note(format!("warning: {warning}"));
    }
    Ok(())
}

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new("the journal can't be read").because(error)
}
