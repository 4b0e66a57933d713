//! The notary: publishes the log, has witnesses cosign it, keeps its signing keys, and destroys payloads at the end of their
//! retention.
//!
//! Two engines run for as long as `garant up` does:
//!
//! - [`publisher`] publishes the newest checkpoint, once it is remembered outside and witnesses have seen it;
//! - [`retention`] destroys payloads that were kept for as long as the policy says.
//!
//! The rest is called by them, by `garant up` at its start, and by the commands under `garant log`:
//!
//! - [`keys`]: the signing keys in the data directory; [`log`] opens the log with them;
//! - [`remembered`]: the heads that are remembered outside the data directory; [`head`]: the one that may be handed out;
//! - [`witnessing`]: asking witnesses, and when one of them is believed to contradict the log;
//! - [`mirror`]: a log over HTTP, copied so that it can be verified offline.
//!
//! What this crate does not know: what a verdict means, who shows the log, the command line.

mod files;
mod listed;

pub mod head;
pub mod keys;
pub mod log;
pub mod mirror;
pub mod publisher;
pub mod remembered;
pub mod retention;
pub mod witnessing;
