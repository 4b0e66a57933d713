//! Agents on hosts: what they are told to do, and how what they did comes into the journal.
//!
//! **Problem.** What acts on a host needs rights that nothing that speaks with strangers may have, and must go on while its
//! server is dead. **Principle.** Engines that need such rights run in an agent, a process of its own. It is told what to do by a
//! *desired state*, which it keeps; it acts on its own; and what it did waits in a spool on its disk until the server has it.
//!
//! Two engines, one for each side, that speak over a socket of the host ([`wire`]): [`agent::Link`] in `garant agent`, and
//! [`Hosts`] in `garant up`, which also starts the agent where it may.
//!
//! What this crate does not know: any engine, what a desired state says, what an event means.

mod account;
pub mod agent;
mod config;
mod events;
mod probes;
mod role;
mod server;
pub mod succession;
#[cfg(test)]
mod tests;
pub mod wire;

pub use config::{Agent, Config, socket_too_long};
pub use events::KINDS;
pub use role::Role;
pub use server::{AgentNow, AgentPlace, AgentView, Desire, Figures, Given, Hosts, VANTAGE, Wanted};

/// Name of the engine of the server's side.
pub const NAME: &str = "hosts";
