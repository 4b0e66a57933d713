//! `garant check`: shows every mistake of a policy, in the user's own file.

use std::process::ExitCode;

use clap::Args;
use engine::clock::SystemClock;
use event::Clock as _;

use crate::cli::PolicyArgument;
use crate::configuration::Configuration;
use crate::failure::{Failure, USAGE};
use crate::registry::Registry;
use crate::terminal::{Style, Terminal, counted};

#[derive(Args, Debug)]
pub(crate) struct CheckCommand {
    #[command(flatten)]
    policy: PolicyArgument,

    /// Write the mistakes as JSON, for editors: file, line, column, reason, remedy; notes on a policy without mistakes
    #[arg(long)]
    json: bool,
}

impl CheckCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        match Configuration::load(&self.policy.policy, registry) {
            Ok(configuration) if self.json => {
                let revision = &configuration.applied.revision;
                let notes = notes(&configuration);
                let sound = serde_json::json!({ "mistakes": [], "left_out": 0, "revision": revision, "notes": notes });
                terminal.json(&sound);
                Ok(ExitCode::SUCCESS)
            }
            Ok(configuration) => {
                let applied = &configuration.applied;
                let good = terminal.painted(Style::Good, "no mistakes");
                terminal.line(format!(
                    "{}: {good}; {}, {}, {}, revision {}",
                    self.policy.policy.display(),
                    counted(applied.services.len(), "service"),
                    counted(applied.probes.len(), "probe"),
                    counted(applied.promises.len(), "promise"),
                    applied.revision,
                ));
                for note in notes(&configuration) {
                    let word = terminal.painted(Style::Doubtful, "note:");
                    terminal.line(format!("{word} {note}"));
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(mistakes) => {
                if self.json {
                    terminal.json(&mistakes.to_json());
                } else {
                    terminal.note(mistakes.render(terminal.err_coloured()));
                }
                Ok(ExitCode::from(USAGE))
            }
        }
    }
}

/// Notes on a policy without mistakes: what its author might believe to have an effect, and what else is worth knowing.
fn notes(configuration: &Configuration) -> Vec<String> {
    let unused = configuration.unused();
    let note = || format!("declared, but without effect in this release: {}", unused.join(", "));
    let unread = configuration.unread().into_iter().map(|what| format!("can't be read on this machine: {what}"));
    let warnings = configuration.warnings(SystemClock.now()).into_iter().chain(unread);
    let notes = (!unused.is_empty()).then(note).into_iter().chain(warnings);
    notes.map(|note| configuration.basics.publication.zone.of_text(&note).into_owned()).collect()
}
