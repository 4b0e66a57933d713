//! `garant up`: every role in one process, on the embedded store.
//!
//! Three steps, a file each. The order of the start is the order of the reasons not to start:
//!
//! 1. [`open`]: the policy has been judged; the data directory is locked, the log proved, the ports bound. Nothing runs yet,
//!    and what fails here fails without a trace.
//! 2. [`wire`]: each engine of the list is made of its part of the policy and of what it may have; the pages are given what
//!    they show.
//! 3. [`run`]: the policy is journaled, everything runs, signals are heard, the policy is taken again on demand, until it is
//!    all stopped in order.
//!
//! [`policy`] is what the steps share: the policy in effect, and its channels.

mod open;
mod policy;
mod run;
mod wire;

use std::path::PathBuf;

use tokio::signal::unix::SignalKind;

use crate::configuration::Configuration;
use crate::data::Running;
use crate::failure::Failure;
use crate::registry::Registry;
use crate::runtime::Handles;

pub(crate) use wire::PAGES;

/// What `garant reload` sends. SIGHUP does the same, and is what process managers send: the record of changes says which
/// of the two it was.
pub(crate) const RELOAD: SignalKind = SignalKind::user_defined1();

/// The arguments of `garant up`.
pub(crate) struct Settings {
    pub(crate) policy: PathBuf,
    pub(crate) data: PathBuf,
}

/// Runs everything until it is told to stop. `ready` is called once all is up.
pub(crate) async fn up(
    settings: &Settings,
    configuration: Configuration,
    registry: &Registry,
    runtimes: &Handles,
    ready: impl FnOnce(&Running, &journal::note::VerifierKey),
) -> Result<(), Failure> {
    let opened = open::open(settings, configuration, registry).await?;
    let wired = wire::wire(opened, registry, runtimes)?;
    run::run(wired, registry, ready).await
}
