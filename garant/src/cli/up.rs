//! `garant up`: reads the policy, starts the runtimes, and runs the role `up`.

use std::process::ExitCode;

use clap::Args;
use tokio::sync::watch;

use crate::cli::{DataArgument, PolicyArgument, log_to_stderr};
use crate::configuration::Configuration;
use crate::failure::{Failure, USAGE};
use crate::registry::Registry;
use crate::roles::up::{self, UpSettings};
use crate::runtime::Runtimes;
use crate::terminal::{Terminal, counted};

#[derive(Args, Debug)]
pub(crate) struct UpCommand {
    #[command(flatten)]
    policy: PolicyArgument,

    #[command(flatten)]
    data: DataArgument,

    /// Write one line of JSON with the URLs once everything runs
    #[arg(long)]
    json: bool,
}

impl UpCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let configuration = match Configuration::load(&self.policy.policy, registry) {
            Ok(configuration) => configuration,
            Err(mistakes) => {
                terminal.note(mistakes.render(terminal.err_coloured()));
                return Ok(ExitCode::from(USAGE));
            }
        };
        let zone = watch::Sender::new(configuration.basics.publication.zone.clone());
        log_to_stderr(terminal, zone.subscribe());
        for warning in configuration.exposed_files() {
            tracing::warn!("{warning}");
        }
        let settings = UpSettings { policy: self.policy.policy, data: self.data.data, log_zone: zone };
        let promises = configuration.applied.promises.len();
        let publishes = configuration.basics.publication.publish;
        let runtimes = Runtimes::start(registry.own_threads())
            .map_err(|error| Failure::new("the asynchronous runtime can't be started").because(&error))?;
        let handles = runtimes.handles();
        let ended = runtimes.run(async {
            up::up(&settings, configuration, registry, &handles, |running, key| {
                if self.json {
                    terminal.json(&serde_json::json!({
                        "ready": true,
                        "pid": running.pid,
                        "team": running.team,
                        "public": running.public,
                        "log": format!("{}log/", running.public.as_ref().unwrap_or(&running.team)),
                        "origin": key.name(),
                        "vkey": key.to_string(),
                        "revision": running.revision,
                    }));
                    return;
                }
                terminal.line(format!("garant is up, and judges {}", counted(promises, "promise")));
                terminal.line(format!("  for the team    {}", running.team));
                match &running.public {
                    Some(url) if publishes => terminal.line(format!("  for everybody   {url}")),
                    Some(url) => terminal
                        .line(format!("  for everybody   {url} (nothing yet: the policy says `publish = false`)")),
                    None => {}
                }
                terminal.line(format!("  log             {}, key {}", key.name(), key.fingerprint()));
                terminal.line("Ctrl-C stops it; `garant status` tells how it is doing.");
            })
            .await
        });
        ended.map(|()| ExitCode::SUCCESS)
    }
}
