//! `garant reload`: has the running `garant up` take its policy again, whole or not at all.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use notary::log;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use store::sqlite::Sqlite;

use crate::changes::Journaled;
use crate::cli::{DataArgument, runtime};
use crate::configuration::Configuration;
use crate::data::Running;
use crate::failure::{Failure, USAGE};
use crate::registry::Registry;
use crate::roles::up::RELOAD;
use crate::terminal::{Style, Terminal};

/// Deadline of the running garant to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub(crate) struct ReloadCommand {
    #[command(flatten)]
    data: DataArgument,

    /// Show the change as it would be journaled, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Write the result as JSON; mistakes in the form of `garant check --json`
    #[arg(long)]
    json: bool,
}

impl ReloadCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let before = Running::read(&self.data.data)?;
        // The mistakes are shown here. The signal is sent all the same: the process refuses the policy too, and `garant status`
        // says so.
        let now = match Configuration::load(&before.policy, registry) {
            Ok(now) => now,
            Err(mistakes) => {
                if self.json {
                    terminal.json(&mistakes.to_json());
                } else {
                    terminal.note(mistakes.render(terminal.err_coloured()));
                    terminal.note("nothing was changed: the policy in effect is the one from before");
                }
                if !self.dry_run {
                    tell(&self.data.data, &before)?;
                }
                return Ok(ExitCode::from(USAGE));
            }
        };
        if self.dry_run {
            self.show(&now, &before, terminal)?;
        } else {
            self.apply(&before, terminal)?;
        }
        let unread = now.unread();
        if !unread.is_empty() {
            let what = if self.dry_run { "the policy is sound" } else { "the policy is applied" };
            return Err(Failure::new(format!("{what}, and files that it names can't be read: {}", unread.join("\n")))
                .remedy("mend them and run this again: what could be read before is followed until then"));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints the change that a reload would make.
    fn show(&self, now: &Configuration, running: &Running, terminal: &mut Terminal) -> Result<(), Failure> {
        let data = &self.data.data;
        let store = Sqlite::open_read_only(data).map_err(|error| log::refused(data, &error))?;
        let journaled = runtime()?
            .block_on(Journaled::load(store.as_ref()))
            .map_err(|error| Failure::new("what was journaled of the policy can't be read").because(&error))?;
        let diff = journaled.diff(now.sources());
        let restart = now.needs_a_restart(&running.fixed);
        let revision = &now.applied.revision;
        if self.json {
            terminal.json(&serde_json::json!({
                "dry_run": true, "revision": revision, "before": running.revision, "diff": diff, "needs_a_restart": restart,
            }));
            return Ok(());
        }
        match diff {
            Some(diff) => terminal.raw(diff.as_bytes()),
            None => terminal.line("nothing changed"),
        }
        if let Some(key) = restart {
            let refused = terminal.painted(Style::Bad, "would be refused");
            terminal.line(format!("{refused}: `{key}` can't change while garant runs; restart it to change that"));
        } else if let Some(shown) = shown(running.publish, now.basics.publication.publish) {
            terminal.line(format!("would be applied: revision {revision}, {shown}"));
        } else if *revision == running.revision {
            terminal.line(format!("would be applied: revision {revision}, nothing public changes"));
        } else {
            terminal.line(format!("would be applied: revision {revision}, now {}", running.revision));
        }
        Ok(())
    }

    /// Has the running process take its policy again, and prints the outcome.
    fn apply(&self, before: &Running, terminal: &mut Terminal) -> Result<(), Failure> {
        let now = tell(&self.data.data, before)?;
        if let Some(error) = now.reload_error {
            return Err(Failure::new(format!("the policy was not taken: {error}")));
        }
        let revision = now.revision;
        if self.json {
            let publish = now.publish;
            terminal.json(&serde_json::json!({ "revision": revision, "before": before.revision, "publish": publish }));
            return Ok(());
        }
        let applied = terminal.painted(Style::Good, "applied");
        terminal.line(if let Some(shown) = shown(before.publish, now.publish) {
            format!("{applied}: revision {revision}, {shown}")
        } else if revision == before.revision {
            format!("{applied}: revision {revision}, nothing public changed")
        } else {
            format!("{applied}: revision {revision}, before {}", before.revision)
        });
        Ok(())
    }
}

/// Sends the signal to the running process, and waits until it has taken or refused its policy.
pub(crate) fn tell(data: &Path, before: &Running) -> Result<Running, Failure> {
    let signal = rustix::process::Signal::from_named_raw(RELOAD.as_raw_value());
    let target = rustix::process::Pid::from_raw(before.pid).zip(signal);
    let (pid, signal) = target.ok_or_else(|| Failure::new("there is no process to tell"))?;
    let refused = |error: rustix::io::Errno| {
        Failure::new(format!("process {} does not take the signal to reload", before.pid))
            .because(&std::io::Error::from(error))
            .remedy("run this command as the user that runs garant")
    };
    // Held open before its start is compared, so that the signal can't reach another process with the same number.
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(refused)?;
    if Running::read(data)?.pid != before.pid {
        return Err(Failure::new("garant was started anew just now").remedy("it has read its policy"));
    }
    pidfd_send_signal(process, signal).map_err(refused)?;
    let mut left = ANSWER_WITHIN;
    while let Some(rest) = left.checked_sub(LOOK_EVERY) {
        #[expect(clippy::disallowed_methods, reason = "the command has nothing else to do, and no runtime")]
        std::thread::sleep(LOOK_EVERY);
        left = rest;
        let now = Running::read(data)?;
        if now.reloads != before.reloads {
            return Ok(now);
        }
    }
    Err(Failure::new(format!("process {} did not answer within {} s", before.pid, ANSWER_WITHIN.as_secs()))
        .remedy("look at its log, and at `garant status`"))
}

/// The effect of a change of `publish`, in words.
const fn shown(before: bool, now: bool) -> Option<&'static str> {
    match (before, now) {
        (false, true) => Some("everything public is shown to everybody from now on"),
        (true, false) => Some("nothing is shown to everybody any more"),
        _ => None,
    }
}
