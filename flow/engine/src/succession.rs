//! What a process serves goes on in the process that takes its place: another release of the same program.
//!
//! **Problem.** A process that listens for strangers is to be replaced without one connection that is refused. **Principle.** The two
//! run side by side for a while. The new one is given the sockets of the old one, and accepts on them before the old one lets go; so
//! nothing is lost when it never comes so far. Who runs the engines carries the sockets; an engine only gives, takes and lets go.

use std::os::fd::OwnedFd;

use serde_json::value::RawValue;

use crate::BoxFuture;

/// Where a command asks a process to start the one that takes its place.
pub const API: &str = "/api/v1/successor";
/// Most sockets that are handed over: what the kernel takes at once (unix(7)), less those of the process itself.
pub const SOCKETS_MAX: usize = 250;

/// An engine whose work goes on in another process.
pub trait Handover: Send + Sync {
    /// Why no other process is to take its place now, and what to do: that one could not serve what this one serves.
    fn obstacle(&self) -> BoxFuture<'_, Option<String>>;

    /// Says what it has observed and not said yet: what it records later goes nowhere, unless the other process fails.
    fn says_all(&self) -> BoxFuture<'_, ()>;

    /// What it listens on, and what it knows that the other one should not have to find out.
    fn give(&self) -> (Vec<OwnedFd>, Box<RawValue>);

    /// Takes what was given, before it runs: by another process with what that one knew, or by systemd.
    fn take(&self, sockets: Vec<OwnedFd>, known: Option<&RawValue>);

    /// Waits until it serves what it is to serve.
    fn serves(&self) -> BoxFuture<'_, ()>;

    /// Begins nothing new any more, and waits until what was begun has ended, or was given up.
    fn let_go(&self) -> BoxFuture<'_, ()>;
}
