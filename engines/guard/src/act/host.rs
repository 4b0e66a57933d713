//! Facts of this host that nobody may be banned against: its addresses, its gateways, its sessions.
//!
//! All of it is read from `/proc` and `/run`, and the connections over netlink ([`Sockets`]), which needs no right. Which connections are *sessions of people who logged in* is
//! the difficult part: see [`Sessions`](super::Sessions). Sources of logins that were read in a log are given to the
//! [`Allowlist`](super::Allowlist) by its caller.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::sessions::{SshProcess, ssh_processes};
use super::sockets::{Sockets, uptime};

/// Most bytes that are read of one file.
pub(super) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most addresses of each kind that are kept.
const ADDRESSES_MAX: usize = 4096;

/// What sshd's configuration says of where it waits for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SshSettings {
    /// The ports it listens on; 22 is always one.
    pub ports: BTreeSet<u16>,
}

impl Default for SshSettings {
    fn default() -> Self {
        Self { ports: BTreeSet::from([22]) }
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

    /// Adds the ports of a text of `sshd_config`(5).
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
                _ => None,
            };
            self.ports.extend(port);
        }
    }
}

/// The facts, as they were at one look.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostFacts {
    /// Addresses of all interfaces.
    pub own: BTreeSet<IpAddr>,
    /// Routers of all routes.
    pub gateways: BTreeSet<IpAddr>,
    /// Name servers, whose late answers look like scans.
    pub name_servers: BTreeSet<IpAddr>,
    /// Addresses that logind and utmp name as those of people who are logged in with ssh.
    pub logged_in: BTreeSet<IpAddr>,
    /// Of those that logind names, the processes of sshd.
    pub(super) leaders: BTreeMap<u32, IpAddr>,
    /// Hundredths of a second from the boot until the connections were read.
    pub(super) uptime: u64,
    /// Connections from outside that a program of root has.
    pub(super) sockets: Sockets,
    /// What sshd has started for them; `None` where processes of others can't be seen.
    pub(super) processes: Option<Vec<SshProcess>>,
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
                let value = |name: &str| session.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
                // Other services have sessions too: one of FTP is nobody who is in with ssh.
                let is_ssh = value("SERVICE").is_some_and(|service| service.starts_with("sshd"));
                let is_open = value("STATE") != Some("closing");
                if let Some(address) = value("REMOTE_HOST").and_then(address_of).filter(|_| is_ssh && is_open) {
                    facts.logged_in.insert(address);
                    let leader = value("LEADER").and_then(|leader| leader.parse().ok());
                    facts.leaders.extend(leader.map(|leader: u32| (leader, address)));
                }
            }
        }
        if let Ok(records) = std::fs::read(root.join("run/utmp")) {
            // One whose process is gone was left over by a crash.
            let sees_others = root.join("proc/1").exists();
            let is_alive = |process: i32| !sees_others || root.join(format!("proc/{process}")).exists();
            let alive = utmp(&records).into_iter().filter(|(process, _)| is_alive(*process));
            facts.logged_in.extend(alive.map(|(_, address)| address));
        }
        facts.read_sessions(root, Sockets::read);
        facts
    }

    /// Reads the connections, and what serves them.
    pub(super) fn read_sessions(&mut self, root: &Path, sockets: impl FnOnce(&Path) -> Sockets) {
        self.uptime = uptime(root);
        self.sockets = sockets(root);
        // Behind the connections: whoever serves one of them now has served it then.
        self.processes = ssh_processes(root);
        if self.sockets.is_cut {
            // Which process serves whom can be told from all connections alone.
            self.processes = self.processes.take().map(|_| Vec::new());
        }
    }
}

pub(super) fn read_bounded(path: &Path) -> Option<String> {
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

/// The routers in `/proc/net/route`.
fn route4(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, _, gateway, ..] = fields[..] else { return None };
        let gateway = hex4(gateway)?;
        (!gateway.is_unspecified()).then_some(IpAddr::V4(gateway))
    })
}

/// The routers in `/proc/net/ipv6_route`.
fn route6(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, _, gateway, ..] = fields[..] else { return None };
        let gateway = hex6(gateway)?;
        (!gateway.is_unspecified()).then_some(IpAddr::V6(gateway))
    })
}

/// An IPv4 address as `/proc` writes it: one number of the machine's byte order.
pub(super) fn hex4(text: &str) -> Option<Ipv4Addr> {
    let number = u32::from_str_radix(text, 16).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

/// An IPv6 address of 32 digits in network order.
fn hex6(text: &str) -> Option<Ipv6Addr> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Ipv6Addr::from))?
}

/// The user processes on terminals, and their addresses, in a file of utmp(5), of 64-bit Linux and of 32-bit alike (384 bytes a record).
fn utmp(records: &[u8]) -> BTreeSet<(i32, IpAddr)> {
    const RECORD: usize = 384;
    const USER_PROCESS: u8 = 7;
    const PROCESS: usize = 4;
    const LINE: usize = 8;
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
        // FTP writes `vsftpd:812` there.
        let is_terminal = record.get(LINE..).is_some_and(|line| line.starts_with(b"pts/"));
        if record.first() == Some(&USER_PROCESS) && is_terminal && !address.is_unspecified() {
            let process = record.get(PROCESS..PROCESS + 4).and_then(|bytes| bytes.try_into().ok());
            all.insert((process.map_or(0, i32::from_ne_bytes), address));
        }
    }
    all
}

#[cfg(test)]
pub(super) mod tests;
