//! The role `up`: every engine and the pages in one process, on the embedded store.
//!
//! Three steps, a file each, so that what can prevent the start comes first:
//!
//! 1. [`open`]: binds the ports, locks the data directory, verifies the log. The policy was read before. Nothing runs yet, and
//!    nothing public was changed when this fails.
//! 2. [`wire`]: makes each engine of the list from its part of the policy and the rights that it needs, and the pages.
//! 3. [`run`]: journals the policy, runs everything, reloads the policy on a signal, and stops everything in order.
//!
//! [`policy`] has the policy in effect and its channels, which the steps share.

mod open;
mod policy;
mod run;
mod wire;

use std::path::PathBuf;

use event::Zone;
use tokio::signal::unix::SignalKind;
use tokio::sync::watch;

use crate::configuration::Configuration;
use crate::data::Running;
use crate::failure::Failure;
use crate::registry::Registry;
use crate::runtime::Handles;

pub(crate) use wire::{PAGES, role_state};

/// The signal of `garant reload`. SIGHUP, which process managers send, does the same; `policy.changed` says which of the two it
/// was.
pub(crate) const RELOAD: SignalKind = SignalKind::user_defined1();

/// The arguments of `garant up`.
pub(crate) struct UpSettings {
    pub(crate) policy: PathBuf,
    pub(crate) data: PathBuf,
    /// The time zone of the lines on standard error.
    pub(crate) log_zone: watch::Sender<Zone>,
}

/// Runs everything until a signal stops it. Calls `ready` once every engine has started, or 20 s have passed.
pub(crate) async fn up(
    settings: &UpSettings,
    configuration: Configuration,
    registry: &Registry,
    runtimes: &Handles,
    ready: impl FnOnce(&Running, &journal::note::VerifierKey),
) -> Result<(), Failure> {
    let opened = open::open(settings, configuration, registry).await?;
    let wired = wire::wire(opened, registry, runtimes)?;
    run::run(wired, registry, &settings.log_zone, ready).await
}
