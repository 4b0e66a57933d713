//! Who is logged in with ssh: sessions are told from connections of who only tries, by what no peer can make up.
//!
//! An attacker who tries passwords has an established connection to sshd as well, may keep it for as long as he likes, and must be
//! banned. So a connection says nothing. These do:
//!
//! * systemd-logind or utmp names the address as that of a session of sshd, and it has a connection;
//! * a process of sshd serves somebody who is logged in, and its log, or logind, says from where it was accepted. sshd names its
//!   processes: `sshd: deploy@pts/0` and `sshd: deploy` are behind the login, what ends with `[priv]`, `[net]` or `[accepted]` is
//!   before it. Only processes of root count, and children of those: a title of one's own is none of sshd;
//! * a process of sshd serves somebody who is logged in, and nothing says from where. sshd starts a process for each connection when
//!   it comes, so the connections that were first seen around the start of the process are the only ones that it can have. An
//!   address counts when, without its connections, there would not be one left for each such process.
//!
//! Whom a process serves can't be seen without the right to trace it, which would be the right to become root.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use event::{Monotonic, Span, Time};

use super::host::{Connection, HostFacts, SshSettings, read_bounded};

/// Most processes that are looked at.
const PROCESSES_MAX: usize = 200_000;
/// Most logins of which is remembered which process accepted them.
const ACCEPTED_MAX: usize = 4096;
/// Most connections among which those of sessions are searched for.
const CANDIDATES_MAX: usize = 512;
/// How far apart the start of a process and its connection may seem, in hundredths of a second.
const APART_MAX: u64 = 100;
/// How far the clock of the log may be behind.
const LOG_BEHIND: Span = Span::from_secs(60);
/// How long a session may be without a known source before that is said.
const UNKNOWN_FOR: Span = Span::from_secs(20);

/// What serves one connection to sshd in our network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SshProcess {
    /// The process that was started for the connection.
    id: u32,
    /// Hundredths of a second from the boot to its start.
    started: u64,
    /// Whether somebody is logged in.
    is_session: bool,
}

/// What the title of a process says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Title {
    /// It waits for connections.
    Listener,
    /// It is root's, and serves a connection.
    Monitor,
    /// It speaks with somebody who is not logged in.
    Attempt,
    /// Somebody is logged in.
    Session,
}

impl Title {
    fn parse(title: &str) -> Option<Self> {
        let rest = ["sshd: ", "sshd-session: ", "sshd-auth: "].iter().find_map(|name| title.strip_prefix(name))?;
        Some(match rest {
            rest if rest.contains("[listener]") => Self::Listener,
            rest if rest.ends_with("[priv]") || rest.ends_with("[accepted]") => Self::Monitor,
            rest if rest.ends_with(']') => Self::Attempt,
            _ => Self::Session,
        })
    }
}

/// A process of sshd, as it names itself.
struct Titled {
    title: Title,
    /// It names a session of its own and not only a user.
    has_at: bool,
    parent: u32,
    user: u32,
    started: u64,
}

/// The processes of sshd that serve a connection of this network namespace; `None` where processes of others can't be seen.
pub(super) fn ssh_processes(root: &Path) -> Option<Vec<SshProcess>> {
    let proc = root.join("proc");
    read_bounded(&proc.join("1/stat"))?;
    let namespace = |process: &Path| std::fs::metadata(process.join("net/tcp")).map(|data| data.ino()).ok();
    let ours = std::fs::metadata(proc.join("net/tcp")).ok()?.ino();
    let mut all: BTreeMap<u32, Titled> = BTreeMap::new();
    for entry in std::fs::read_dir(&proc).ok()?.flatten().take(PROCESSES_MAX) {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let path = entry.path();
        // Its command line may have to be waited for, for as long as the process is stuck; its name never.
        if !read_bounded(&path.join("comm")).is_some_and(|name| name.starts_with("sshd")) {
            continue;
        }
        let command = read_bounded(&path.join("cmdline")).unwrap_or_default();
        let name = command.split('\0').next().unwrap_or_default().trim_end();
        let Some(title) = Title::parse(name) else { continue };
        // Another network namespace has connections of its own.
        if namespace(&path) != Some(ours) {
            continue;
        }
        let (Some(status), Some(stat)) = (read_bounded(&path.join("status")), read_bounded(&path.join("stat"))) else {
            continue;
        };
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().next()?.parse::<u32>().ok()
        };
        let started = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok());
        if let (Some(parent), Some(user), Some(started)) = (field("PPid:"), field("Uid:"), started) {
            all.insert(id, Titled { title, has_at: name.contains('@'), parent, user, started });
        }
    }
    let mut sessions = BTreeSet::new();
    for (id, process) in all.iter().filter(|(_, process)| process.title == Title::Session) {
        match all.get(&process.parent) {
            Some(parent) if parent.title == Title::Monitor && parent.user == 0 => _ = sessions.insert(process.parent),
            // What a session has started.
            Some(parent) if parent.title == Title::Session => {}
            // For root there is one process.
            _ if process.user == 0 && process.has_at => _ = sessions.insert(*id),
            _ => {}
        }
    }
    let serving = all
        .iter()
        .filter(|(id, process)| process.user == 0 && (process.title == Title::Monitor || sessions.contains(id)));
    let serving = serving.map(|(id, process)| SshProcess {
        id: *id,
        started: process.started,
        is_session: sessions.contains(id),
    });
    Some(serving.collect())
}

/// The sessions of people who logged in with ssh, followed from look to look.
#[derive(Clone, Debug)]
pub struct Sessions {
    settings: SshSettings,
    /// Between which looks each connection came, in hundredths of a second from the boot.
    seen: BTreeMap<Connection, (u64, u64)>,
    looked_at: u64,
    /// Which process accepted whom, and when, as its log says.
    accepted: BTreeMap<u32, (SocketAddr, Time)>,
    /// Since when there is a session of which the source is not known.
    unknown_since: Option<Monotonic>,
    unknown: Option<&'static str>,
}

impl Sessions {
    /// Nobody seen yet.
    pub const fn new(settings: SshSettings) -> Self {
        Self {
            settings,
            seen: BTreeMap::new(),
            looked_at: 0,
            accepted: BTreeMap::new(),
            unknown_since: None,
            unknown: None,
        }
    }

    /// Replaces what is known of the configuration of sshd.
    pub fn configure(&mut self, settings: SshSettings) {
        self.settings = settings;
    }

    /// The log of sshd says that this process has let somebody in.
    pub fn accepted(&mut self, process: u32, from: SocketAddr, at: Time) {
        let last = self.accepted.entry(process).or_insert((from, at));
        if at >= last.1 {
            *last = (from, at);
        }
        if self.accepted.len() > ACCEPTED_MAX {
            let oldest = self.accepted.iter().min_by_key(|(_, (_, at))| *at).map(|(process, _)| *process);
            oldest.map(|process| self.accepted.remove(&process));
        }
    }

    /// Why it can't be told from where somebody is logged in; `None` while it can.
    pub const fn unknown(&self) -> Option<&'static str> {
        self.unknown
    }

    /// Takes a look in, and says whose addresses have a session now.
    pub fn look(&mut self, facts: &HostFacts, now: Time, monotonic: Monotonic) -> BTreeSet<IpAddr> {
        let came = (self.looked_at, facts.uptime);
        let before = std::mem::take(&mut self.seen);
        self.seen = facts.connections.iter().map(|c| (*c, before.get(c).copied().unwrap_or(came))).collect();
        self.looked_at = facts.uptime;
        let peers: BTreeSet<SocketAddr> = facts.connections.iter().map(|(_, peer)| *peer).collect();
        let mut found: BTreeSet<IpAddr> = peers.iter().map(SocketAddr::ip).collect();
        found.retain(|peer| facts.logged_in.contains(peer));
        let processes = facts.processes.as_deref().unwrap_or_default();
        let (mut left, mut taken) = (Vec::new(), BTreeSet::new());
        // What was started after the connections were read has none among them.
        let known = |process: &&SshProcess| process.started <= facts.uptime;
        for process in processes.iter().filter(known).filter(|process| process.is_session) {
            let began =
                now - Span::from_millis(i64::try_from(facts.uptime.saturating_sub(process.started)).unwrap_or(0) * 10);
            match (self.accepted.get(&process.id), facts.leaders.get(&process.id)) {
                // A process of before may have had the number, or one of another namespace that writes to the same log.
                (Some((from, at)), _) if *at >= began - LOG_BEHIND && peers.contains(from) => {
                    found.insert(from.ip().to_canonical());
                    taken.insert(*from);
                }
                (_, from) => {
                    found.extend(from);
                    left.push(process.started);
                }
            }
        }
        let attempts = processes.iter().filter(known).filter(|process| !process.is_session);
        let attempts = attempts.map(|process| process.started).collect();
        let left_out = !left.is_empty() && self.deduce(left, attempts, &taken, &mut found);
        self.judge(facts, left_out, &found, monotonic);
        found
    }

    /// Adds the addresses that must be those of sessions whose processes were started at these times, beside processes of attempts.
    /// Returned is whether there is a session of which it is not known.
    fn deduce(
        &self,
        mut sessions: Vec<u64>,
        mut attempts: Vec<u64>,
        taken: &BTreeSet<SocketAddr>,
        found: &mut BTreeSet<IpAddr>,
    ) -> bool {
        let to_sshd = |(ours, _): &Connection| self.settings.ports.contains(&ours.port());
        let left: Vec<_> = self.seen.iter().filter(|(connection, _)| !taken.contains(&connection.1)).collect();
        // Where the ports of sshd are known, each connection to them has a process and each process has one.
        let is_known =
            left.iter().filter(|(connection, _)| to_sshd(connection)).count() == sessions.len() + attempts.len();
        let candidates = left.iter().filter(|(connection, _)| !is_known || to_sshd(connection));
        let candidates: Vec<(IpAddr, u64, u64)> = candidates
            .map(|((_, peer), (after, by))| (peer.ip(), after.saturating_sub(APART_MAX), by + APART_MAX))
            .collect();
        let is_near = |at: &u64| candidates.iter().any(|(_, from, to)| (from..=to).contains(&at));
        let all = sessions.len();
        // What has no connection of TCP (the console of a virtual machine, a pipe) is none of them.
        sessions.retain(is_near);
        attempts.retain(is_near);
        sessions.sort_unstable();
        attempts.extend(&sessions);
        attempts.sort_unstable();
        let every = candidates.iter().map(|(_, from, to)| (*from, *to)).collect();
        let mut near = candidates;
        near.retain(|(_, from, to)| sessions.iter().any(|at| (from..=to).contains(&at)));
        if near.len() > CANDIDATES_MAX || served(&attempts, every) < attempts.len() {
            // Something is not as it seems.
            return true;
        }
        let addresses: BTreeSet<IpAddr> = near.iter().map(|(peer, ..)| *peer).collect();
        found.extend(addresses.into_iter().filter(|address| {
            let others = near.iter().filter(|(peer, ..)| peer != address);
            served(&sessions, others.map(|(_, from, to)| (*from, *to)).collect()) < sessions.len()
        }));
        let is_explained =
            |at: &u64| near.iter().any(|(peer, from, to)| (from..=to).contains(&at) && found.contains(peer));
        sessions.len() < all || !sessions.iter().all(is_explained)
    }

    fn judge(&mut self, facts: &HostFacts, left_out: bool, found: &BTreeSet<IpAddr>, monotonic: Monotonic) {
        let is_hidden = facts.processes.is_none();
        let is_somebody = |(ours, peer): &Connection| {
            self.settings.ports.contains(&ours.port()) && !peer.ip().is_loopback() && !found.contains(&peer.ip())
        };
        let reason = if is_hidden && facts.connections.iter().any(is_somebody) {
            Some(
                "processes of others can't be seen (`hidepid` of /proc), so it is not known whether connections to sshd are \
                 sessions: put the addresses of the team into `allow` of [guard]",
            )
        } else if left_out {
            Some(
                "somebody is logged in, and it can't be told from where: put the addresses of the team into `allow` of [guard]",
            )
        } else {
            None
        };
        let since = *self.unknown_since.get_or_insert(monotonic);
        if reason.is_none() {
            self.unknown_since = None;
        }
        self.unknown = reason.filter(|_| monotonic.since(since) >= UNKNOWN_FOR);
    }
}

/// How many of the points get an interval of their own that they lie in, at most. The points are sorted.
fn served(points: &[u64], mut intervals: Vec<(u64, u64)>) -> usize {
    intervals.sort_unstable();
    let mut intervals = intervals.into_iter().peekable();
    let mut open = BinaryHeap::new();
    let mut count = 0;
    for point in points {
        while let Some((_, to)) = intervals.next_if(|(from, _)| from <= point) {
            open.push(Reverse(to));
        }
        while let Some(Reverse(to)) = open.pop() {
            if to >= *point {
                count += 1;
                break;
            }
        }
    }
    count
}

#[cfg(test)]
mod tests;
