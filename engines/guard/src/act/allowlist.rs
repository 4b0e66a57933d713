//! Who is never banned: the operator can't be locked out.
//!
//! Every ban, whoever asks for it, is judged here before it is written down or enforced; the same networks are in a set of the
//! packet filter that is looked up before those of bans. So there are two reasons for which the operator's packets pass, and
//! either is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use event::{Span, Time};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why an address is never banned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Allowed {
    /// It is this host itself.
    Loopback,
    /// It is an address of an interface of this host.
    Own,
    /// It is a router of a route.
    Gateway,
    /// It is a name server of this host.
    NameServer,
    /// It is that of the server of garant.
    Server,
    /// The policy allows it.
    Configured,
    /// Somebody is logged in from there.
    Session,
    /// Somebody logged in from there in the last days.
    Login,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Own => "an address of this host",
            Self::Gateway => "a gateway of this host",
            Self::NameServer => "a name server of this host",
            Self::Server => "the server of garant",
            Self::Configured => "allowed by the policy",
            Self::Session => "the source of an ssh session that is open now",
            Self::Login => "the source of a recent successful login",
        })
    }
}

/// Why a ban is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The network holds an address that is never banned.
    #[error(
        "{} is never banned: {} is {why}", shown(*network), shown(*allowed)
    )]
    Allowed {
        /// What was to be banned.
        network: IpNet,
        /// The allowed network that it meets.
        allowed: IpNet,
        /// Why that is allowed.
        why: Allowed,
    },
    /// The network is wider than anybody bans on purpose.
    #[error("{0} is not banned: it is wider than /{min}, and would cut off too many", min = narrowest(*.0))]
    TooWide(IpNet),
    /// No sender has such an address: unspecified, multicast, broadcast.
    #[error("{0} is not banned: no packet comes from such an address")]
    NoSender(IpNet),
}

/// An address by itself, a network with its length.
pub fn shown(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

/// Widest networks that are banned.
const PREFIX_MIN_V4: u8 = 16;
const PREFIX_MIN_V6: u8 = 32;
/// The part of an IPv6 address that a customer of a provider has at least: whoever has one address of it has them all.
const CUSTOMER_V6: u8 = 64;
/// Most sources of logins that are remembered; beyond it, the oldest go.
const LOGINS_MAX: usize = 4096;
/// Most pieces that a network is cut into.
const PIECES_MAX: usize = 512;

const fn narrowest(network: IpNet) -> u8 {
    match network {
        IpNet::V4(_) => PREFIX_MIN_V4,
        IpNet::V6(_) => PREFIX_MIN_V6,
    }
}

/// Who is never banned, and why.
#[derive(Clone, Debug)]
pub struct Allowlist {
    configured: BTreeSet<IpNet>,
    /// Networks of IPv6 that rules spare (`ignoreip`): nobody is let in for it, and no ban of a neighbour holds them back.
    spared: BTreeSet<IpNet>,
    of_host: BTreeMap<IpAddr, Allowed>,
    sessions: BTreeSet<IpAddr>,
    /// When somebody last logged in from there.
    logins: BTreeMap<IpAddr, Time>,
    /// Whose logins up to then are not believed: somebody has taken them off.
    disowned: BTreeMap<IpAddr, Time>,
    logins_kept: Span,
}

impl Allowlist {
    /// The list with the networks of the policy; sources of logins count for `logins_kept`.
    pub fn new(configured: impl IntoIterator<Item = IpNet>, logins_kept: Span) -> Self {
        let configured = configured.into_iter().map(canonical).collect();
        let (spared, of_host, sessions, logins, disowned) = Default::default();
        Self { configured, spared, of_host, sessions, logins, disowned, logins_kept }
    }

    /// Who logged in, and when last: to be kept over a restart.
    pub const fn logins(&self) -> &BTreeMap<IpAddr, Time> {
        &self.logins
    }

    /// Takes off what was learned of an address from logins: only later ones count. Whether there was one.
    pub fn disown(&mut self, from: IpAddr, now: Time) -> bool {
        let from = from.to_canonical();
        self.disowned.insert(from, now);
        bound(&mut self.disowned);
        self.logins.remove(&from).is_some()
    }

    /// Whose logins up to when are not believed: to be kept over a restart.
    pub const fn disowned(&self) -> &BTreeMap<IpAddr, Time> {
        &self.disowned
    }

    /// Replaces the networks of the policy.
    pub fn configure(&mut self, networks: impl IntoIterator<Item = IpNet>) {
        self.configured = networks.into_iter().map(canonical).collect();
    }

    /// Replaces the networks that rules spare.
    pub fn spare(&mut self, networks: impl IntoIterator<Item = IpNet>) {
        // An address of IPv4 is banned alone.
        self.spared = networks.into_iter().map(canonical).filter(|network| matches!(network, IpNet::V6(_))).collect();
    }

    /// Whether a rule spares somebody in the network.
    pub fn spares(&self, network: IpNet) -> bool {
        self.spared.iter().any(|spared| overlap(*spared, network))
    }

    /// Replaces what is known of the host, and who has a session.
    pub fn look(
        &mut self,
        facts: &super::HostFacts,
        sessions: BTreeSet<IpAddr>,
        server: impl IntoIterator<Item = IpAddr>,
    ) {
        let kinds = [
            (&facts.name_servers, Allowed::NameServer),
            (&facts.gateways, Allowed::Gateway),
            (&facts.own, Allowed::Own),
        ];
        self.of_host = server.into_iter().map(|address| (address.to_canonical(), Allowed::Server)).collect();
        for (addresses, why) in kinds {
            self.of_host.extend(addresses.iter().map(|address| (address.to_canonical(), why)));
        }
        self.sessions = sessions.into_iter().map(|address| address.to_canonical()).collect();
    }

    /// Somebody logged in from there.
    pub fn logged_in(&mut self, from: IpAddr, at: Time) {
        let is_disowned = self.disowned.get(&from.to_canonical()).is_some_and(|until| at <= *until);
        if is_disowned || no_sender(canonical(IpNet::from(from))) {
            return;
        }
        let last = self.logins.entry(from.to_canonical()).or_insert(at);
        *last = (*last).max(at);
        bound(&mut self.logins);
    }

    /// Forgets logins of long ago.
    pub fn forget(&mut self, now: Time) {
        let kept = self.logins_kept;
        self.logins.retain(|_, at| now.since(*at) <= kept);
        self.disowned.retain(|_, at| now.since(*at) <= kept);
    }

    /// All that is allowed but loopback, with why.
    fn all(&self) -> impl Iterator<Item = (IpNet, Allowed)> + '_ {
        let configured = self.configured.iter().map(|network| (*network, Allowed::Configured));
        let of_host = self.of_host.iter().map(|(address, why)| (IpNet::from(*address), *why));
        let sessions = self.sessions.iter().map(|address| (IpNet::from(*address), Allowed::Session));
        let logins = self.logins.keys().map(|address| (IpNet::from(*address), Allowed::Login));
        configured.chain(of_host).chain(sessions).chain(logins)
    }

    /// The allowed networks, for the packet filter: sorted, without overlaps.
    pub fn networks(&self) -> Vec<IpNet> {
        IpNet::aggregate(&self.all().map(|(network, _)| network).collect())
    }

    /// Each network that is allowed but loopback, and why: the first reason of several.
    pub fn reasons(&self) -> BTreeMap<IpNet, Allowed> {
        let mut reasons = BTreeMap::new();
        for (network, why) in self.all() {
            reasons.entry(network).or_insert(why);
        }
        reasons
    }

    /// Why this address is never banned, if so.
    pub fn why(&self, address: IpAddr) -> Option<Allowed> {
        let network = IpNet::from(address.to_canonical());
        self.meets(network).map(|(_, why)| why)
    }

    fn meets(&self, network: IpNet) -> Option<(IpNet, Allowed)> {
        let loopback = [IpNet::V4(LOOPBACK_V4), IpNet::V6(LOOPBACK_V6)].into_iter().map(|n| (n, Allowed::Loopback));
        loopback.chain(self.all()).find(|(allowed, _)| overlap(*allowed, network))
    }

    /// What to hold back in the packet filter when this is banned: the network itself, or the /64 that an IPv6 address is in;
    /// of a /64 that holds somebody who is allowed or whom a rule spares, the one address.
    ///
    /// # Errors
    /// It must not be banned.
    pub fn judge(&self, network: IpNet) -> Result<IpNet, Refusal> {
        let network = canonical(network);
        if network.prefix_len() < narrowest(network) {
            return Err(Refusal::TooWide(network));
        }
        if no_sender(network) {
            return Err(Refusal::NoSender(network));
        }
        let refuse = |(allowed, why)| Err(Refusal::Allowed { network, allowed, why });
        self.meets(network).map_or(Ok(()), refuse)?;
        translated(network).and_then(|v4| self.meets(v4)).map_or(Ok(()), refuse)?;
        let wide = widened(network);
        // A link-local /64 is every neighbour of this host.
        let neighbours = matches!(network, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
        Ok(if neighbours || self.meets(wide).is_some() || self.spares(wide) { network } else { wide })
    }

    /// The networks of a list without what is allowed: those that hold somebody who is are cut around them. Returned beside them
    /// is how many were left out whole: too wide, cut into too many pieces, or wholly of who is allowed.
    pub fn without_allowed(&self, list: &[IpNet]) -> (Vec<IpNet>, usize) {
        let allowed: Vec<_> =
            [IpNet::V4(LOOPBACK_V4), IpNet::V6(LOOPBACK_V6)].into_iter().chain(self.networks()).collect();
        let mut left_out = 0;
        let mut all = Vec::with_capacity(list.len());
        for network in list.iter().copied().map(canonical) {
            // A list may name wide networks: a /12 that was hijacked. Half of the addresses there are is a mistake.
            let too_wide = network.prefix_len() < if matches!(network, IpNet::V4(_)) { 8 } else { 19 };
            match cut(network, &allowed) {
                Some(pieces) if !too_wide && !no_sender(network) && !pieces.is_empty() => all.extend(pieces),
                _ => left_out += 1,
            }
        }
        (IpNet::aggregate(&all), left_out)
    }
}

/// Forgets the oldest where there are too many.
fn bound(addresses: &mut BTreeMap<IpAddr, Time>) {
    if addresses.len() > LOGINS_MAX {
        let oldest = addresses.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
        oldest.map(|address| addresses.remove(&address));
    }
}

const LOOPBACK_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const LOOPBACK_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);

/// The network without host bits; one of mapped addresses is that of IPv4, which is what packets have.
pub(super) fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(prefix) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(v4, prefix)
    {
        return IpNet::V4(v4.trunc());
    }
    network.trunc()
}

/// The IPv4 address that a translator writes as this IPv6 address (RFC 6052, section 2.1).
fn translated(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = network else { return None };
    let octets = v6.addr().octets();
    let is_known = octets[..12] == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0] && v6.prefix_len() >= 96;
    let v4 = Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    is_known.then(|| Ipv4Net::new(v4, v6.prefix_len() - 96).ok().map(IpNet::V4)).flatten()
}

/// An IPv6 network as wide as a customer's; behind a translator each customer has an address.
pub(super) fn widened(network: IpNet) -> IpNet {
    match network {
        translator if translated(translator).is_some() => translator,
        IpNet::V6(v6) if v6.prefix_len() > CUSTOMER_V6 => {
            Ipv6Net::new(v6.addr(), CUSTOMER_V6).map_or(network, |wide| IpNet::V6(wide.trunc()))
        }
        other => other,
    }
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn no_sender(network: IpNet) -> bool {
    match network {
        IpNet::V4(v4) => v4.network().is_multicast() || v4.network().is_broadcast() || v4.network().octets()[0] == 0,
        IpNet::V6(v6) => v6.network().is_multicast() || v6.network().is_unspecified(),
    }
}

/// The network without the allowed ones; `None` when that takes too many pieces.
fn cut(network: IpNet, allowed: &[IpNet]) -> Option<Vec<IpNet>> {
    let mut done = Vec::new();
    let mut left = vec![network];
    while let Some(piece) = left.pop() {
        if done.len() + left.len() > PIECES_MAX {
            return None;
        }
        if allowed.iter().any(|allowed| allowed.contains(&piece)) {
            continue;
        }
        if allowed.iter().any(|allowed| piece.contains(allowed)) {
            left.extend(piece.subnets(piece.prefix_len() + 1).into_iter().flatten());
        } else {
            done.push(piece);
        }
    }
    Some(done)
}

/// Reads the text of a list of networks, such as Spamhaus DROP: a network or an address on each line, and comments after `;` or
/// `#`. Returned beside the networks is how many lines are none of those.
pub fn read_list(text: &str, networks_max: usize) -> (Vec<IpNet>, usize) {
    let mut networks = BTreeSet::new();
    let mut bad = 0;
    for line in text.lines() {
        let line = line.split([';', '#']).next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match line.parse::<IpNet>().or_else(|_| line.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) if networks.len() < networks_max => _ = networks.insert(canonical(network)),
            _ => bad += 1,
        }
    }
    (networks.into_iter().collect(), bad)
}

#[cfg(test)]
mod tests;
