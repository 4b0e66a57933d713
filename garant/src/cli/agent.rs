//! `garant agent`: reads its arguments, starts the runtimes, and runs the role `agent`; for `garant gate`, the role `gate`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use event::Zone;
use hosts::Role;
use tokio::sync::watch;

use crate::cli::log_to_stderr;
use crate::failure::Failure;
use crate::registry::Registry;
use crate::roles::agent::{self, AgentSettings};
use crate::runtime::Runtimes;
use crate::terminal::Terminal;

#[derive(Args, Debug)]
pub(crate) struct AgentCommand {
    /// Where the agent keeps its state: what it is to do, what it did, its bans
    #[arg(long, value_name = "DIR", default_value = "/var/lib/garant-agent", env = "GARANT_AGENT_STATE")]
    state: PathBuf,

    /// The socket on which a server and the commands of engines reach it; `agent.sock` in the state unless given
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Write one line of JSON once it listens
    #[arg(long)]
    json: bool,
}

impl AgentCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let settings = AgentSettings::new(&Role::AGENT, self.state, self.socket);
        run(settings, self.json, registry, terminal)
    }
}

/// Runs the engines of one role of this host until a signal stops it.
pub(super) fn run(
    settings: AgentSettings,
    json: bool,
    registry: &Registry,
    terminal: &mut Terminal,
) -> Result<ExitCode, Failure> {
    log_to_stderr(terminal, watch::channel(Zone::default()).1);
    let role = settings.role;
    let runtimes = Runtimes::start(registry.own_threads_of(role))
        .map_err(|error| Failure::new("the asynchronous runtime can't be started").because(&error))?;
    let handles = runtimes.handles();
    let ended = runtimes.run(async {
        agent::agent(settings, registry, &handles, |socket| {
            if json {
                terminal.json(&serde_json::json!({ "ready": true, "socket": socket }));
            } else {
                terminal.line(format!("the {} listens at {}", role.noun, socket.display()));
            }
        })
        .await
    });
    ended.map(|()| ExitCode::SUCCESS)
}
