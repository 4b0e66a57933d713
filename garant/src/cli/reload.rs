//! `garant reload`: the policy again, whole or not at all.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::DataArgument;
use crate::configuration::Configuration;
use crate::data::Running;
use crate::failure::{Failure, USAGE};
use crate::terminal::{Look, Terminal};

/// How long a running garant may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub(crate) struct Reload {
    #[command(flatten)]
    data: DataArgument,
}

impl Reload {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let data = &self.data.data;
        let before = Running::read(data)?;
        // The mistakes are shown here, where somebody reads them, before the running process is disturbed.
        if let Err(mistakes) = Configuration::load(&before.policy) {
            terminal.note(mistakes.render(terminal.err_coloured()));
            terminal.note("nothing was changed: the policy in effect is the one from before");
            return Ok(ExitCode::from(USAGE));
        }
        let pid = rustix::process::Pid::from_raw(before.pid).ok_or_else(|| Failure::new("the process id is 0"))?;
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).map_err(|error| {
            Failure::new(format!("process {} does not take the signal to reload", before.pid))
                .because(&std::io::Error::from(error))
                .remedy("run this command as the user that runs garant")
        })?;
        let mut left = PATIENCE;
        while let Some(rest) = left.checked_sub(LOOK_EVERY) {
            #[expect(clippy::disallowed_methods, reason = "the command has nothing else to do, and no runtime")]
            std::thread::sleep(LOOK_EVERY);
            left = rest;
            let now = Running::read(data)?;
            if now.reloads == before.reloads {
                continue;
            }
            if let Some(error) = now.reload_error {
                return Err(Failure::new(format!("the policy was not taken: {error}")));
            }
            let applied = terminal.painted(Look::Good, "applied");
            let revision = now.revision;
            terminal.line(if revision == before.revision {
                format!("{applied}: revision {revision}, nothing public changed")
            } else {
                format!("{applied}: revision {revision}, before {}", before.revision)
            });
            return Ok(ExitCode::SUCCESS);
        }
        Err(Failure::new(format!("process {} did not answer within {} s", before.pid, PATIENCE.as_secs()))
            .remedy("look at its log, and at `garant status`"))
    }
}
