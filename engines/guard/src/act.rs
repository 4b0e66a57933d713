//! What is done about an offence: bans of this host, kept in a file, enforced by the packet filter of the kernel.
//!
//! [`Bans`] is the truth: what is banned, until when, and why, durable without any server. A [`Firewall`] enforces it, and can
//! lose everything at any moment (a reboot, `nft flush ruleset` by somebody else): it is compared and mended. The [`Allowlist`]
//! stands before both, and the [`Enforcer`] is the only one that joins the three.

mod allowlist;
mod bans;
mod caps;
mod enforcer;
mod firewall;
mod host;
mod nft;
mod scans;
mod sessions;
#[cfg(test)]
pub(crate) mod simulated;
mod sockets;
#[cfg(test)]
pub(crate) mod test_net;

pub use allowlist::{Allowed, Allowlist, Refusal, read_list, shown};
pub use bans::{Ban, BanCounts, BanKey, Bans, BansError, Opened, Origin, PastBans};
pub use caps::{Admission, Caps};
pub(crate) use enforcer::{ADOPTED_RULE, end_of};
pub use enforcer::{Done, Drift, Enforcer, EnforcerError, EventNumbers, History, Request, later};
pub use firewall::{BadPorts, Firewall, FirewallError, Held, Hold, Lasting, Ports, Protocol, Wanted};
pub use host::{HostFacts, SshSettings};
pub use nft::Nft;
pub use scans::{Missed, Scans};
pub use sessions::Sessions;
