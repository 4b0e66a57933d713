//! A packet filter that drops what is banned: typed operations, each one transaction of the kernel.

use std::collections::BTreeMap;
use std::fmt;

use engine::{BoxFuture, ProgramError};
use event::Span;
use ipnet::IpNet;

use super::{Missed, Scans};

/// The transport protocols of a port scope.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Both.
    Both,
}

/// Why port ranges are no port scope.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPorts {
    /// No range at all.
    #[error("no port is named: name one, or ban from all ports")]
    None,
    /// A range whose end is before its start.
    #[error("the port range {0}-{1} ends before it starts")]
    Reversed(u16, u16),
    /// More ranges than one rule of the packet filter is given.
    #[error("{0} port ranges are more than {RANGES_MAX}: name fewer, or ban from all ports")]
    TooMany(usize),
}

/// Most ranges of one scope, as in `multiport`.
const RANGES_MAX: usize = 15;

/// The ports that a ban closes: those that the sender names, and those that they are translated to. So a jail may name the port that
/// Docker publishes or that of its container.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Ports {
    /// Everything, whatever the protocol.
    #[default]
    All,
    /// Some ports of one or both protocols. Made by [`Ports::some`] alone: sorted, and no two ranges touch.
    Some(Protocol, Vec<(u16, u16)>),
}

impl Ports {
    /// The scope of these ranges, both ends included.
    ///
    /// # Errors
    /// None, too many, or one that ends before it starts.
    pub fn some(protocol: Protocol, ranges: impl IntoIterator<Item = (u16, u16)>) -> Result<Self, BadPorts> {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (start, end) in ranges {
            if end < start {
                return Err(BadPorts::Reversed(start, end));
            }
            match merged.last_mut() {
                Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        match merged.len() {
            0 => Err(BadPorts::None),
            1..=RANGES_MAX => Ok(Self::Some(protocol, merged)),
            many => Err(BadPorts::TooMany(many)),
        }
    }

    /// The scope that [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Self::All);
        }
        let (protocol, ranges) = text.split_once('_')?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "both" => Protocol::Both,
            _ => return None,
        };
        let range = |range: &str| {
            let (start, end) = range.split_once('t').unwrap_or((range, range));
            Some((start.parse().ok()?, end.parse().ok()?))
        };
        let ranges: Vec<(u16, u16)> = ranges.split('_').take(RANGES_MAX + 1).map(range).collect::<Option<_>>()?;
        let parsed = Self::some(protocol, ranges).ok()?;
        (parsed.to_string() == text).then_some(parsed)
    }
}

impl fmt::Display for Ports {
    /// `all`, `tcp_22_80`, `both_1000t2000`: also a part of the name of a set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Some(protocol, ranges) = self else { return f.write_str("all") };
        f.write_str(match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Both => "both",
        })?;
        ranges.iter().try_for_each(|&(start, end)| match end {
            end if end == start => write!(f, "_{start}"),
            end => write!(f, "_{start}t{end}"),
        })
    }
}

/// One thing that the packet filter holds back: whoever sends from the network to the ports is dropped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Hold {
    /// The senders: one address, one /64 of IPv6, or any other network.
    pub network: IpNet,
    /// Where they are not let in.
    pub ports: Ports,
}

/// How long a hold lasts from now on; `None` is for ever.
pub type Lasting = Option<Span>;

/// All that the packet filter is to hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Never dropped by us, whatever else is said. Nothing that others close is opened by it.
    pub allow: Vec<IpNet>,
    /// Networks of lists: dropped until the list is replaced.
    pub lists: Vec<IpNet>,
    /// Bans.
    pub bans: BTreeMap<Hold, Lasting>,
    /// How port scans are noticed; not at all without it.
    pub scans: Option<Scans>,
}

/// What the packet filter holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Never dropped; sorted, without overlaps.
    pub allow: Vec<IpNet>,
    /// Networks of lists; sorted, without overlaps.
    pub lists: Vec<IpNet>,
    /// Bans, and how long each still lasts.
    pub bans: BTreeMap<Hold, Lasting>,
    /// How port scans are noticed.
    pub scans: Option<Scans>,
    /// Whether every rule of ours is there, in its order, and nothing else.
    pub intact: bool,
}

/// Why the packet filter could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The program `nft` is not there.
    #[error("the program `nft` is not installed, so nothing can be banned: install the package `nftables`")]
    Missing,
    /// The kernel refuses: no right to change the packet filter.
    #[error(
        "the kernel refuses a change of the packet filter: run `garant agent` with the capability CAP_NET_ADMIN (as its unit \
         does with `AmbientCapabilities=CAP_NET_ADMIN`), or as root"
    )]
    NoRight,
    /// Our table, or a part of it, is not there: somebody else removed it. It is to be replaced as a whole.
    #[error(
        "the table `inet garant` of the packet filter, or `inet garant_scans`, is gone or was changed by somebody else: it has to be made again"
    )]
    Gone,
    /// Another process that runs has the table.
    #[error(
        "the table `inet garant` of this network is that of another agent, process {0}, and two would undo each other's bans: stop \
         one of them (`ps {0}` shows which it is)"
    )]
    Owned(u32),
    /// The kernel lacks something.
    #[error("this kernel can't do what the packet filter needs ({0}): use a kernel with nf_tables (5.4 or later)")]
    Unsupported(String),
    /// More different scopes of bans than the packet filter is given.
    #[error("bans with {0} different prefix lengths and port scopes are more than {1}: ban from all ports instead")]
    TooManyScopes(usize, usize),
    /// More bans than fit.
    #[error("{0} bans are more than the {1} that the packet filter is given: remove some")]
    TooMany(usize, usize),
    /// `nft` failed in another way.
    #[error("the packet filter can't be changed or read: {0}")]
    Failed(#[source] ProgramError),
    /// `nft` wrote what we don't understand.
    #[error("the packet filter can't be read: {0}")]
    Unreadable(String),
}

/// A packet filter with a part of its own for our bans.
///
/// # Contract
///
/// * Each operation is one transaction: all of it or nothing, and no packet sees a half. Every one is idempotent.
/// * What is allowed is looked up before what is banned. To be allowed means only that *we* don't drop: it opens nothing.
/// * Nothing of others is read, changed or relied upon.
/// * A hold ends by itself after the time that it was given, whether or not anything of ours is running.
/// * After an error, nothing has changed.
pub trait Firewall: Send + Sync {
    /// Makes all that is wanted, and removes the rest of ours.
    fn replace<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<(), FirewallError>>;

    /// Adds holds, or gives those that are there the new time. [`FirewallError::Gone`] when our part was removed.
    fn ban<'a>(&'a self, holds: &'a BTreeMap<Hold, Lasting>) -> BoxFuture<'a, Result<(), FirewallError>>;

    /// Takes holds away; those that are not there are none.
    fn unban<'a>(&'a self, holds: &'a [Hold]) -> BoxFuture<'a, Result<(), FirewallError>>;

    /// Replaces what is allowed.
    fn allow<'a>(&'a self, networks: &'a [IpNet]) -> BoxFuture<'a, Result<(), FirewallError>>;

    /// Replaces the networks of lists.
    fn lists<'a>(&'a self, networks: &'a [IpNet]) -> BoxFuture<'a, Result<(), FirewallError>>;

    /// Whether our part is there at all: cheap, however many bans there are; or, thoroughly, whether its rules are too and it is that
    /// of this process, which takes long where there are many.
    fn is_present(&self, thoroughly: bool) -> BoxFuture<'_, Result<bool, FirewallError>>;

    /// Reads everything back; `None` when our part is not there.
    fn read(&self) -> BoxFuture<'_, Result<Option<Held>, FirewallError>>;

    /// Sources of port scans that the kernel bans by itself, and for how long still.
    fn scanned(&self) -> BoxFuture<'_, Result<Vec<(IpNet, Span)>, FirewallError>>;

    /// What was missed of scans since the table was made.
    fn missed(&self) -> BoxFuture<'_, Result<Missed, FirewallError>>;

    /// Whether the rules by which port scans are noticed are as they were made. Takes long in a flood of them, so nothing is to wait for
    /// it: it may be asked beside anything else.
    fn has_scan_rules(&self) -> BoxFuture<'_, Result<bool, FirewallError>>;

    /// Removes everything of ours.
    fn remove(&self) -> BoxFuture<'_, Result<(), FirewallError>>;
}

/// No packet filter: in simulation, where nobody is dropped. It takes everything and holds nothing.
pub(super) struct NoFirewall;

impl Firewall for NoFirewall {
    fn replace<'a>(&'a self, _wanted: &'a Wanted) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn ban<'a>(&'a self, _holds: &'a BTreeMap<Hold, Lasting>) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn unban<'a>(&'a self, _holds: &'a [Hold]) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn allow<'a>(&'a self, _networks: &'a [IpNet]) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn lists<'a>(&'a self, _networks: &'a [IpNet]) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_present(&self, _thoroughly: bool) -> BoxFuture<'_, Result<bool, FirewallError>> {
        Box::pin(std::future::ready(Ok(true)))
    }

    fn read(&self) -> BoxFuture<'_, Result<Option<Held>, FirewallError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn scanned(&self) -> BoxFuture<'_, Result<Vec<(IpNet, Span)>, FirewallError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn missed(&self) -> BoxFuture<'_, Result<Missed, FirewallError>> {
        Box::pin(std::future::ready(Ok(Missed::default())))
    }

    fn has_scan_rules(&self) -> BoxFuture<'_, Result<bool, FirewallError>> {
        Box::pin(std::future::ready(Ok(true)))
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), FirewallError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_scope_is_sorted_merged_and_read_back() {
        let ports = Ports::some(Protocol::Tcp, [(80, 80), (22, 22), (23, 30), (25, 40)]).expect("good");
        assert_eq!(ports.to_string(), "tcp_22t40_80");
        for ports in [ports, Ports::All, Ports::some(Protocol::Both, [(0, 65535)]).expect("good")] {
            assert_eq!(Ports::parse(&ports.to_string()), Some(ports));
        }
        for text in
            ["", "tcp", "tcp_", "tcp_22_22", "tcp_9t1", "icmp_1", "tcp_65536", "tcp_+22", "tcp_80_22", "tcp_1;x"]
        {
            assert_eq!(Ports::parse(text), None, "{text}");
        }
        assert_eq!(Ports::some(Protocol::Udp, []), Err(BadPorts::None));
        assert_eq!(Ports::some(Protocol::Udp, [(2, 1)]), Err(BadPorts::Reversed(2, 1)));
        assert_eq!(Ports::some(Protocol::Udp, (0..16).map(|n| (n * 2, n * 2))), Err(BadPorts::TooMany(16)));
    }
}
