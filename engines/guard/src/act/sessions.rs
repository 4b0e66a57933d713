//! Who is logged in with ssh: sessions are told from connections of who only tries, by what no peer can make up.
//!
//! An attacker who tries passwords has an established connection to sshd as well, may keep it for as long as he likes, and must be
//! banned. So a connection says nothing. These do:
//!
//! * systemd-logind or utmp names the address as that of a session of sshd, and it has a connection;
//! * a process of sshd serves somebody who is logged in, and logind, or its log, says from where it was accepted. A file of a log
//!   holds what any user of this host hands to syslog, so it only tells of several connections that came when the process was started
//!   which one is its. sshd names its
//!   processes: `sshd: deploy@pts/0` and `sshd: deploy` are behind the login, what ends with `[priv]`, `[net]` or `[accepted]` is
//!   before it. Only processes of root count, and children of those: a title of one's own is none of sshd;
//! * a process of sshd serves somebody who is logged in, and the kernel marks the packets of one of the connections that may be its as
//!   sshd marks them after a login, and not before ([`Markings`]);
//! * a process of sshd serves somebody who is logged in, and only one address can be his. sshd starts a process for each connection
//!   when it comes, which has it kept alive some milliseconds later: the timer of that says when. Without it, it is known between which
//!   looks the connection came. An address counts when, without its connections, there would not be one left for each such process.
//!
//! Only connections that a program of root has accepted are looked at. Whom a process serves can't be seen without the right to trace
//! it, which would be the right to become root.
//!
//! What an attacker can do about it. He has no login: whoever has one may be counted, from wherever he comes.
//!
//! * *He holds connections, as many as he likes.* They are served by processes that are not sessions, and are marked as before a login.
//! * *He comes in the same moment as a session.* Then either may be the session's, and neither counts by its time; whether one does by
//!   its marking is not his to say: see [`Sockets`](super::sockets::Sockets). When he comes each second, or acknowledges nothing that
//!   sshd sends (then another timer runs), he can keep a session from being told by its time, and no more.
//! * *He uses another service of root that marks packets* (FTP, a database) in the same moment as a session. Of its port nothing is
//!   learned, but in the instant of an attempt of his to log in with ssh, and never again once it marked otherwise beside no session;
//!   and there must not be more connections that are marked than sessions. What is left to him is one connection in the right second,
//!   beside a session whose own is not marked, for as long as that lasts.
//! * *He is a user of this host*, with an sshd of his own, or a program that calls itself sshd and marks as it likes: neither his
//!   processes nor what they accept are root's. A session in a container is one here only when it shares the network of this host,
//!   and then its sshd is one of root of this host.
//! * *He comes through a user's session*, over a forwarded port: what such a port accepts is never marked, and not sshd's of root
//!   but for a session of root, who may allow whom he likes.
//!
//! A session is seen at the first look after it began. A ban that was made before that look, by failures of before the login or
//! beside it, is lifted at that look, as any ban of somebody who is allowed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use event::{Monotonic, Span, Time};

use super::host::{HostFacts, SshSettings, read_bounded};
use super::sockets::{Connection, Socket};

mod markings;

use markings::Markings;

/// Most processes that are looked at.
const PROCESSES_MAX: usize = 200_000;
/// Most logins of which is remembered which process accepted them.
const ACCEPTED_MAX: usize = 4096;
/// Most connections among which those of sessions are searched for.
const CANDIDATES_MAX: usize = 512;
/// How far apart the start of a process and its connection may seem, in hundredths of a second. Measured with sshd of Debian 12 on two
/// cores, from the start to the timer of the connection: 22 ms, and 136 ms with 15 programs that wait for a core.
const APART_MAX: u64 = 100;
/// How much earlier it may seem to be kept alive than the process was started: what is rounded on the way.
const ROUNDED: u64 = 3;
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
    stage: Stage,
}

/// What a connection to sshd has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nobody is logged in.
    Attempt,
    /// Somebody is logged in.
    Session,
    /// Neither can be seen: a session that is over and has something to do yet, or a process that is just being started.
    Unclear,
}

/// What the title of a process says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Title {
    /// It waits for connections.
    Listener,
    /// It is root's, and serves a connection on which nobody has said who they are.
    Accepted,
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
            rest if rest.ends_with("[accepted]") => Self::Accepted,
            rest if rest.ends_with("[priv]") => Self::Monitor,
            rest if rest.ends_with(']') => Self::Attempt,
            _ => Self::Session,
        })
    }
}

/// A process of sshd, as it names itself.
struct Titled {
    title: Title,
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
            all.insert(id, Titled { title, parent, user, started });
        }
    }
    let attempts = all.values().filter(|process| process.title == Title::Attempt);
    let attempts: BTreeSet<u32> = attempts.map(|process| process.parent).collect();
    let mut sessions = BTreeSet::new();
    for (id, process) in all.iter().filter(|(_, process)| process.title == Title::Session) {
        match all.get(&process.parent) {
            Some(parent) if parent.title == Title::Monitor && parent.user == 0 => _ = sessions.insert(process.parent),
            // What a session has started.
            Some(parent) if parent.title == Title::Session => {}
            // For root there is one process. Before a login there are two, in each release since 7.5.
            _ if process.user == 0 => _ = sessions.insert(*id),
            _ => {}
        }
    }
    let serves = |title: Title| matches!(title, Title::Accepted | Title::Monitor);
    let serving =
        all.iter().filter(|(id, process)| process.user == 0 && (serves(process.title) || sessions.contains(id)));
    let serving = serving.map(|(id, process)| {
        let stage = match id {
            id if sessions.contains(id) => Stage::Session,
            id if process.title == Title::Accepted || attempts.contains(id) => Stage::Attempt,
            _ => Stage::Unclear,
        };
        SshProcess { id: *id, started: process.started, stage }
    });
    Some(serving.collect())
}

/// A connection, as it was followed from look to look.
#[derive(Clone, Copy, Debug)]
struct Followed {
    /// Between which times it came, in hundredths of a second from the boot.
    came: (u64, u64),
    /// Whether those are the times of its timer, and not of looks.
    is_timed: bool,
    /// How its packets are marked, as long as that was told at each look: else a peer may have decided it.
    dscp: Option<u8>,
    /// Whether its process has had the time to mark it.
    is_set_up: bool,
    /// Whether no process that may be of a session has been seen that may be its.
    is_attempt: bool,
}

impl Followed {
    /// Between which times its process was started.
    const fn served_from(&self) -> (u64, u64) {
        let (from, to) = self.came;
        (from.saturating_sub(APART_MAX), to + if self.is_timed { ROUNDED } else { APART_MAX })
    }

    /// Whether the process that was started then may be its.
    fn may_be_served_by(&self, started: u64) -> bool {
        let (from, to) = self.served_from();
        (from..=to).contains(&started)
    }
}

/// The sessions of people who logged in with ssh, followed from look to look.
#[derive(Clone, Debug)]
pub struct Sessions {
    settings: SshSettings,
    followed: BTreeMap<Connection, Followed>,
    /// In hundredths of a second from the boot.
    looked_at: u64,
    markings: Markings,
    /// Which process accepted whom, and when, as its log says, and whether it is certain that sshd says so.
    accepted: BTreeMap<u32, (SocketAddr, Time, bool)>,
    /// Since when there is a session of which the source is not known.
    unknown_since: Option<Monotonic>,
    unknown: Option<&'static str>,
}

impl Sessions {
    /// Nobody seen yet.
    pub const fn new(settings: SshSettings) -> Self {
        Self {
            settings,
            followed: BTreeMap::new(),
            looked_at: 0,
            markings: Markings::new(),
            accepted: BTreeMap::new(),
            unknown_since: None,
            unknown: None,
        }
    }

    /// Replaces what is known of the configuration of sshd.
    pub fn configure(&mut self, settings: SshSettings) {
        self.settings = settings;
    }

    /// The log of sshd says that this process has let somebody in. What others may have written replaces neither what sshd has
    /// written, nor what is of a connection that is there.
    pub fn accepted(&mut self, process: u32, from: SocketAddr, at: Time, is_certain: bool) {
        let is_better = |(of, before, was_certain): &(SocketAddr, Time, bool)| {
            at >= *before && (is_certain || !was_certain && !self.is_connected(*of))
        };
        if self.accepted.get(&process).is_none_or(is_better) {
            self.accepted.insert(process, (from, at, is_certain));
        }
        if self.accepted.len() > ACCEPTED_MAX {
            let oldest = self.accepted.iter().min_by_key(|(_, (_, at, _))| *at).map(|(process, _)| *process);
            oldest.map(|process| self.accepted.remove(&process));
        }
    }

    /// Whether there was a connection from there at the last look.
    pub fn is_connected(&self, from: SocketAddr) -> bool {
        self.followed.keys().any(|(_, peer)| *peer == from)
    }

    /// Why it can't be told from where somebody is logged in; `None` while it can.
    pub const fn unknown(&self) -> Option<&'static str> {
        self.unknown
    }

    /// Takes a look in, and says whose addresses have a session now.
    pub fn look(&mut self, facts: &HostFacts, now: Time, monotonic: Monotonic) -> BTreeSet<IpAddr> {
        // What was started after the connections were read has none among them.
        let known = facts.processes.iter().flatten().filter(|process| process.started <= facts.uptime);
        let mut known: Vec<&SshProcess> = known.collect();
        known.sort_unstable_by_key(|process| process.started);
        self.follow(facts, &known);
        let peers: BTreeSet<SocketAddr> = self.followed.keys().map(|(_, peer)| *peer).collect();
        let mut found: BTreeSet<IpAddr> = peers.iter().map(SocketAddr::ip).collect();
        found.retain(|peer| facts.logged_in.contains(peer));
        let (mut left, mut taken) = (Vec::new(), BTreeSet::new());
        for process in known.iter().filter(|process| process.stage == Stage::Session) {
            let began =
                now - Span::from_millis(i64::try_from(facts.uptime.saturating_sub(process.started)).unwrap_or(0) * 10);
            match (self.accepted.get(&process.id), facts.leaders.get(&process.id)) {
                // A process of before may have had the number, or one of another namespace that writes to the same log.
                (Some((from, at, is_certain)), _)
                    if *at >= began - LOG_BEHIND
                        && peers.contains(from)
                        && (*is_certain || self.may_serve(process.started, *from)) =>
                {
                    found.insert(from.ip().to_canonical());
                    taken.insert(*from);
                }
                (_, from) => {
                    found.extend(from);
                    left.push(process.started);
                }
            }
        }
        let others = known.iter().filter(|process| process.stage != Stage::Session);
        let others = others.map(|process| process.started).collect();
        let left_out = !left.is_empty() && self.deduce(&left, others, facts, &taken, &mut found);
        self.judge(facts, left_out, &found, monotonic);
        found
    }

    /// Whether a process that was started then may serve the connection from there.
    fn may_serve(&self, started: u64, from: SocketAddr) -> bool {
        let mut of_peer = self.followed.iter().filter(|((_, peer), _)| *peer == from);
        of_peer.any(|(_, followed)| followed.may_be_served_by(started))
    }

    /// Follows the connections that there are now, beside these processes, sorted by their start.
    fn follow(&mut self, facts: &HostFacts, processes: &[&SshProcess]) {
        let (last, now) = (self.looked_at, facts.uptime);
        let sees_all = facts.processes.is_some() && !facts.sockets.is_cut;
        let mut before = std::mem::take(&mut self.followed);
        for (connection, Socket { dscp, kept_alive }) in &facts.sockets.accepted {
            let past = before.remove(connection);
            let mut followed = past.unwrap_or(Followed {
                came: (last, now),
                is_timed: false,
                dscp: *dscp,
                is_set_up: false,
                is_attempt: true,
            });
            followed.is_set_up |= kept_alive.is_some();
            if let Some((from, to)) = kept_alive.filter(|_| !followed.is_timed) {
                let (after, by) = followed.came;
                if after == 0 {
                    // It was there before anybody looked: the timer may have run out since, and says no more than that.
                    followed.came.1 = by.min(to);
                } else if from <= by + APART_MAX && to >= after {
                    (followed.came, followed.is_timed) = ((from, to), true);
                }
            }
            followed.dscp = dscp.filter(|_| followed.dscp.is_some());
            let (from, to) = followed.served_from();
            let near = processes.split_at(processes.partition_point(|process| process.started < from)).1;
            let near = near.split_at(near.partition_point(|process| process.started <= to)).0;
            followed.is_attempt &= sees_all && near.iter().all(|process| process.stage == Stage::Attempt);
            // What was seen once may have been in between.
            let is_certain = |past: &Followed| past.is_attempt && past.dscp == followed.dscp;
            if let Some(dscp) = followed.dscp.filter(|_| followed.is_attempt && past.as_ref().is_some_and(is_certain)) {
                self.markings.without_login(connection.0.port(), dscp, !near.is_empty() && followed.is_set_up);
            }
            self.followed.insert(*connection, followed);
        }
        self.looked_at = now;
    }

    /// Adds the addresses that must be those of sessions whose processes were started at these times, beside other processes.
    /// Returned is whether there is a session of which it is not known.
    fn deduce(
        &self,
        sessions: &[u64],
        others: Vec<u64>,
        facts: &HostFacts,
        taken: &BTreeSet<SocketAddr>,
        found: &mut BTreeSet<IpAddr>,
    ) -> bool {
        let to_sshd = |(ours, _): &Connection| self.settings.ports.contains(&ours.port());
        let left = self.followed.iter().filter(|(connection, _)| !taken.contains(&connection.1));
        let left: Vec<(&Connection, &Followed)> = left.collect();
        let is_marked = |(connection, followed): &&(&Connection, &Followed)| {
            let port = connection.0.port();
            // sshd marks a moment after it accepts, if it does so before the login: until then nothing has been said.
            let is_said = followed.is_set_up || !facts.sockets.listening.contains(&(port, followed.dscp));
            let tells = followed.dscp.is_some_and(|dscp| self.markings.tells_login(port, dscp));
            is_said && tells && sessions.iter().any(|started| followed.may_be_served_by(*started))
        };
        let marked: Vec<_> = left.iter().filter(is_marked).collect();
        let windows = marked.iter().map(|(_, followed)| followed.served_from()).collect();
        if served(sessions, windows) == marked.len() {
            found.extend(marked.iter().map(|((_, peer), _)| peer.ip()));
        }
        // Where the ports of sshd are known, each connection to them has a process and each process has one.
        let is_known =
            left.iter().filter(|(connection, _)| to_sshd(connection)).count() == sessions.len() + others.len();
        let candidates = left.iter().filter(|(connection, _)| !is_known || to_sshd(connection));
        let candidates: Vec<(IpAddr, &Followed)> = candidates.map(|((_, peer), about)| (peer.ip(), *about)).collect();
        found.extend(only(&candidates, sessions, others));
        let is_explained = |started: &u64| {
            candidates.iter().any(|(peer, about)| about.may_be_served_by(*started) && found.contains(peer))
        };
        !sessions.iter().all(is_explained)
    }

    fn judge(&mut self, facts: &HostFacts, left_out: bool, found: &BTreeSet<IpAddr>, monotonic: Monotonic) {
        let is_hidden = facts.processes.is_none();
        let is_somebody = |(ours, peer): &Connection| {
            self.settings.ports.contains(&ours.port()) && !peer.ip().is_loopback() && !found.contains(&peer.ip())
        };
        let reason = if is_hidden && facts.sockets.accepted.keys().any(is_somebody) {
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

/// The addresses without which there would not be a connection left for each session, whose processes were started at these times;
/// nobody, where processes and connections do not come out.
fn only(candidates: &[(IpAddr, &Followed)], sessions: &[u64], mut processes: Vec<u64>) -> BTreeSet<IpAddr> {
    let is_near = |started: &u64| candidates.iter().any(|(_, about)| about.may_be_served_by(*started));
    // What has no connection of TCP (the console of a virtual machine, a pipe) is none of them.
    let sessions: Vec<u64> = sessions.iter().copied().filter(is_near).collect();
    processes.retain(is_near);
    processes.extend(&sessions);
    processes.sort_unstable();
    let every = candidates.iter().map(|(_, about)| about.served_from()).collect();
    let mut near: Vec<_> = candidates.iter().map(|(peer, about)| (*peer, about.served_from())).collect();
    near.retain(|(_, (from, to))| sessions.iter().any(|started| (from..=to).contains(&started)));
    if near.len() > CANDIDATES_MAX || served(&processes, every) < processes.len() {
        return BTreeSet::new();
    }
    let mut addresses: BTreeSet<IpAddr> = near.iter().map(|(peer, _)| *peer).collect();
    addresses.retain(|address| {
        let others = near.iter().filter(|(peer, _)| peer != address);
        served(&sessions, others.map(|(_, window)| *window).collect()) < sessions.len()
    });
    addresses
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
