//! Facts of this host that nobody may be banned against: its addresses, its gateways, its sessions.
//!
//! All of it is read from `/proc` and `/run`, which needs no right. Which connections are *sessions of people who logged in* is the
//! difficult part: an attacker who tries passwords has an established connection to sshd as well, and must be banned. Without
//! root it can't be told which process has a socket, so it is decided so: a connection to a port of sshd counts as a session
//!
//! * when systemd-logind or utmp names its address as that of somebody who is logged in, or
//! * when it has been there for longer than sshd lets anybody be without having logged in (`LoginGraceTime`, 2 min), or
//! * when it was there already at the first look: who can't log in is thrown out by sshd within that time, and then counts no
//!   longer.
//!
//! Sources of logins that were read in a log are given to the [`Allowlist`](super::Allowlist) by its caller.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use event::{Monotonic, Span};

/// Most bytes that are read of one file.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most addresses of each kind that are kept.
const ADDRESSES_MAX: usize = 4096;
/// What the grace of sshd is given on top, for polls come late.
const GRACE_MARGIN: Span = Span::from_secs(30);

/// What sshd's configuration says of where and how long it waits for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SshSettings {
    /// The ports it listens on; 22 is always one.
    pub ports: BTreeSet<u16>,
    /// How long a connection may be without a login; `None` when there is no bound.
    pub login_grace: Option<Span>,
}

impl Default for SshSettings {
    fn default() -> Self {
        Self { ports: BTreeSet::from([22]), login_grace: Some(Span::from_secs(120)) }
    }
}

impl SshSettings {
    /// Reads `sshd_config` and the files beside it in `sshd_config.d`; those that can't be read say nothing.
    pub fn read(etc_ssh: &Path) -> Self {
        let mut settings = Self::default();
        let mut paths = vec![etc_ssh.join("sshd_config")];
        if let Ok(folder) = std::fs::read_dir(etc_ssh.join("sshd_config.d")) {
            paths.extend(folder.flatten().map(|entry| entry.path()).take(100));
        }
        for path in paths {
            settings.add(&read_bounded(&path).unwrap_or_default());
        }
        settings
    }

    /// Adds the ports, and the longest of the grace times, of a text of `sshd_config`(5).
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty());
            let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
            let port = match key.to_ascii_lowercase().as_str() {
                "port" => value.parse().ok(),
                "listenaddress" => value.parse::<SocketAddr>().ok().map(|address| address.port()).or_else(|| {
                    let (host, port) = value.rsplit_once(':')?;
                    (!host.contains(':')).then(|| port.parse().ok())?
                }),
                "logingracetime" => {
                    // Of several the longest counts; 0 is for ever.
                    self.login_grace = match (self.login_grace, ssh_seconds(value)) {
                        (_, Some(0)) | (None, _) => None,
                        (grace, seconds) => grace.max(seconds.map(Span::from_secs)),
                    };
                    None
                }
                _ => None,
            };
            self.ports.extend(port);
        }
    }
}

/// A time of `sshd_config`(5): `120`, `2m`, `1h30m`.
fn ssh_seconds(text: &str) -> Option<i64> {
    let mut all = 0_i64;
    let mut number = String::new();
    for c in text.chars() {
        let factor = match c.to_ascii_lowercase() {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        all = all.checked_add(number.parse::<i64>().ok()?.checked_mul(factor)?)?;
        number.clear();
    }
    if !number.is_empty() {
        all = all.checked_add(number.parse().ok()?)?;
    }
    Some(all)
}

/// A connection of TCP: this end, and the other.
type Connection = (SocketAddr, SocketAddr);

/// The facts, as they were at one look.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostFacts {
    /// Addresses of all interfaces.
    pub own: BTreeSet<IpAddr>,
    /// Routers of the default routes.
    pub gateways: BTreeSet<IpAddr>,
    /// Name servers, whose late answers look like scans.
    pub name_servers: BTreeSet<IpAddr>,
    /// Addresses that logind and utmp name as those of people who are logged in.
    pub logged_in: BTreeSet<IpAddr>,
    /// Established connections to ports that something listens on.
    connections: BTreeSet<Connection>,
}

impl HostFacts {
    /// Looks at the host under `root`, which is `/` but in tests. What can't be read is empty.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| read_bounded(&root.join(path)).unwrap_or_default();
        let mut facts = Self::default();
        facts.own.extend(fib_trie(&text("proc/net/fib_trie")));
        facts.own.extend(if_inet6(&text("proc/net/if_inet6")));
        facts.gateways.extend(route4(&text("proc/net/route")));
        facts.gateways.extend(route6(&text("proc/net/ipv6_route")));
        let servers = text("etc/resolv.conf");
        let servers = servers.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
        facts.name_servers.extend(servers.filter_map(|rest| address_of(rest.trim())).take(16));
        if let Ok(folder) = std::fs::read_dir(root.join("run/systemd/sessions")) {
            for session in folder.flatten().take(ADDRESSES_MAX) {
                let session = read_bounded(&session.path()).unwrap_or_default();
                let host = session.lines().find_map(|line| line.strip_prefix("REMOTE_HOST="));
                facts.logged_in.extend(host.and_then(address_of));
            }
        }
        if let Ok(records) = std::fs::read(root.join("run/utmp")) {
            facts.logged_in.extend(utmp(&records));
        }
        let sockets = format!("{}\n{}", text("proc/net/tcp"), text("proc/net/tcp6"));
        facts.connections = accepted(&sockets);
        facts
    }
}

/// The sessions of people who logged in with ssh, followed from look to look.
#[derive(Clone, Debug)]
pub struct Sessions {
    settings: SshSettings,
    /// When each connection was first seen; `None` for those of the first look.
    seen: BTreeMap<Connection, Option<Monotonic>>,
    looked: bool,
}

impl Sessions {
    /// Nobody seen yet.
    pub const fn new(settings: SshSettings) -> Self {
        Self { settings, seen: BTreeMap::new(), looked: false }
    }

    /// Takes a look in, and says whose addresses have a session now.
    pub fn look(&mut self, facts: &HostFacts, now: Monotonic) -> BTreeSet<IpAddr> {
        let current: Vec<_> = facts
            .connections
            .iter()
            .filter(|(ours, _)| self.settings.ports.contains(&ours.port()))
            .take(ADDRESSES_MAX)
            .collect();
        let first = if self.looked { Some(now) } else { None };
        self.looked = true;
        let before = std::mem::take(&mut self.seen);
        self.seen = current.into_iter().map(|c| (*c, before.get(c).copied().unwrap_or(first))).collect();
        let old = |since: &Option<Monotonic>| match (since, self.settings.login_grace) {
            (None, _) => true,
            (Some(since), Some(grace)) => now.since(*since) > grace + GRACE_MARGIN,
            (Some(_), None) => false,
        };
        let peers = self.seen.iter().map(|((_, peer), since)| (peer.ip().to_canonical(), since));
        peers.filter(|(peer, since)| old(since) || facts.logged_in.contains(peer)).map(|(peer, _)| peer).collect()
    }
}

fn read_bounded(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// An address as programs write it: with a zone, or mapped into IPv6.
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.split(['%', ' ', '\t']).next().unwrap_or(text);
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// The local addresses of `/proc/net/fib_trie`: a line with the address, then one with `/32 host LOCAL`.
fn fib_trie(text: &str) -> BTreeSet<IpAddr> {
    let mut last = None;
    let mut all = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<IpAddr>().ok();
        } else if line.starts_with("/32 host LOCAL") && all.len() < ADDRESSES_MAX {
            all.extend(last);
        }
    }
    all
}

/// The addresses of `/proc/net/if_inet6`.
fn if_inet6(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| hex6(line.split_whitespace().next()?)).map(IpAddr::V6).take(ADDRESSES_MAX)
}

/// The routers of default routes in `/proc/net/route`.
fn route4(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "00000000", gateway, ..] = fields[..] else { return None };
        let gateway = hex4(gateway)?;
        (!gateway.is_unspecified()).then_some(IpAddr::V4(gateway))
    })
}

/// The routers of default routes in `/proc/net/ipv6_route`.
fn route6(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, "00", _, _, gateway, ..] = fields[..] else { return None };
        let gateway = hex6(gateway)?;
        (hex6(destination)?.is_unspecified() && !gateway.is_unspecified()).then_some(IpAddr::V6(gateway))
    })
}

/// An IPv4 address as `/proc` writes it: one number of the machine's byte order.
fn hex4(text: &str) -> Option<Ipv4Addr> {
    let number = u32::from_str_radix(text, 16).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

/// An IPv6 address of 32 digits in network order.
fn hex6(text: &str) -> Option<Ipv6Addr> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Ipv6Addr::from))?
}

/// An end of a connection in `/proc/net/tcp` or `tcp6`: an IPv6 address there is four numbers of the machine's byte order.
fn socket(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.len() {
        8 => IpAddr::V4(hex4(address)?),
        32 if address.is_ascii() => {
            let mut bytes = [0; 16];
            for (number, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                let digits = address.get(number * 8..number * 8 + 8)?;
                chunk.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// The established connections in `/proc/net/tcp` to ports that something listens on.
fn accepted(text: &str) -> BTreeSet<Connection> {
    const ESTABLISHED: &str = "01";
    const LISTENING: &str = "0A";
    let mut listening = BTreeSet::new();
    let mut established = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace().skip(1);
        let (Some(ours), Some(peer), Some(state)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (Some(ours), Some(peer)) = (socket(ours), socket(peer)) else { continue };
        match state {
            LISTENING => _ = listening.insert(ours.port()),
            ESTABLISHED => established.push((ours, peer)),
            _ => {}
        }
    }
    established.retain(|(ours, _)| listening.contains(&ours.port()));
    established.into_iter().collect()
}

/// The addresses of user processes in a file of utmp(5), of 64-bit Linux and of 32-bit alike (384 bytes a record).
fn utmp(records: &[u8]) -> BTreeSet<IpAddr> {
    const RECORD: usize = 384;
    const USER_PROCESS: u8 = 7;
    const ADDRESS: usize = 348;
    let mut all = BTreeSet::new();
    for record in records.chunks_exact(RECORD).take(ADDRESSES_MAX) {
        let Some(bytes) = record.get(ADDRESS..ADDRESS + 16).and_then(|b| <[u8; 16]>::try_from(b).ok()) else {
            continue;
        };
        let [a, b, c, d, rest @ ..] = bytes;
        // An IPv4 address has the first four bytes to itself.
        let address = if rest == [0; 12] {
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            IpAddr::V6(bytes.into()).to_canonical()
        };
        if record.first() == Some(&USER_PROCESS) && !address.is_unspecified() {
            all.insert(address);
        }
    }
    all
}

#[cfg(test)]
mod tests;
