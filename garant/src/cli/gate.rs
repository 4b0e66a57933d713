//! `garant gate` without a subcommand: reads its arguments, and runs the role `gate`.
//!
//! Its subcommands are those of the engine, which ask the gate that runs.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hosts::Role;
use listenfd::ListenFd;

use crate::cli::agent;
use crate::failure::Failure;
use crate::registry::Registry;
use crate::roles::agent::AgentSettings;
use crate::terminal::Terminal;

#[derive(Args, Debug)]
pub(crate) struct GateCommand {
    /// Where the gate keeps its state: what it is to do, which sites are closed, events for its server
    #[arg(long, value_name = "DIR", default_value = "/var/lib/garant-gate", env = "GARANT_GATE_STATE")]
    state: PathBuf,

    /// The socket on which a server and commands reach it; `gate.sock` in the state unless given
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Take the place of the gate that runs on this state: serve beside it, then have it end with its last connection. `garant gate
    /// upgrade` has the gate itself start one so
    #[arg(long)]
    take_over: bool,

    /// Write one line of JSON once it is reached there
    #[arg(long)]
    json: bool,
}

impl GateCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let settings = AgentSettings::new(&Role::GATE, self.state, self.socket);
        // Before there is another thread: it takes them out of the environment.
        let settings = AgentSettings { takes_over: self.take_over, given: sockets_of_systemd()?, ..settings };
        agent::run(settings, self.json, registry, terminal)
    }
}

/// The sockets that systemd listens on for the gate (sd_listen_fds(3)).
fn sockets_of_systemd() -> Result<Vec<OwnedFd>, Failure> {
    let mut given = ListenFd::from_env();
    let sockets = (0..given.len()).filter_map(|index| given.take_tcp_listener(index).transpose());
    sockets.map(|socket| socket.map(OwnedFd::from)).collect::<Result<_, _>>().map_err(|error| {
        Failure::new("a socket that systemd has given is none that takes connections of TCP")
            .because(&error)
            .remedy("have its unit say ListenStream= with an address and a port, and nothing else")
    })
}
