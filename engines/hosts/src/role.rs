//! The processes that run engines of a host: what each is called, and what it is given.

use crate::account::LOG_GROUPS;

/// A process that runs engines of a host.
#[derive(Debug)]
pub struct Role {
    /// The engine of the server that speaks with it.
    pub engine: &'static str,
    /// What people call it, and the subcommand that runs it.
    pub noun: &'static str,
    /// One of them.
    pub one: &'static str,
    /// The table of the policy that says where it is.
    pub table: &'static str,
    /// The observer of what its supervisor says.
    pub supervisor: &'static str,
    /// What the names of its figures begin with.
    pub(crate) figures: &'static str,
    /// Groups of the system that it is in.
    pub(crate) groups: &'static [&'static str],
    /// Whether only root can start it: else it is started as the user that `garant up` runs as.
    pub(crate) needs_root: bool,
}

impl Role {
    /// The agent: engines that change the host.
    pub const AGENT: Self = Self {
        engine: crate::NAME,
        noun: "agent",
        one: "an agent",
        table: "[agent]",
        supervisor: "agent",
        figures: "garant_hosts",
        groups: &LOG_GROUPS,
        needs_root: true,
    };

    /// The gate: what strangers speak with.
    pub const GATE: Self = Self {
        engine: "gates",
        noun: "gate",
        one: "a gate",
        table: "[gate]",
        supervisor: "gate-process",
        figures: "garant_gates",
        groups: &[],
        needs_root: false,
    };

    /// Its socket and its lock in the directory of its state.
    pub fn file(&self, ending: &str) -> String {
        format!("{}.{ending}", self.noun)
    }
}
