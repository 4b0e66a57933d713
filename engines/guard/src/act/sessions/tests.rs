use super::*;
use crate::act::host::tests::socket_line;
use crate::act::sockets::Sockets;
use crate::act::test_net::{HOST4, OPERATOR4, OTHER4, Serving, TestNet};

/// A host of which everything that is looked at is made up.
struct Host {
    root: tempfile::TempDir,
    uptime: u64,
    /// Whether netlink is there; then what is not set up is not marked.
    has_netlink: bool,
    /// How connections are marked, and since when they are kept alive.
    set_up: BTreeMap<String, (u8, Option<u64>)>,
}

const ROOT: u32 = 0;
const SSHD: u32 = 105;
const DEPLOY: u32 = 1000;

impl Host {
    fn new() -> Self {
        let host = Self {
            root: tempfile::tempdir().expect("a folder"),
            uptime: 100_000,
            has_netlink: false,
            set_up: BTreeMap::new(),
        };
        host.connections(&[]);
        host.process(1, "/sbin/init", 0, ROOT, 0);
        host.process(500, "sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups", 1, ROOT, 10);
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    /// The connections there are, beside the sockets of sshd that wait for others.
    fn connections(&self, connections: &[(&str, &str)]) {
        let waiting = ["0.0.0.0:22", "0.0.0.0:2222", "0.0.0.0:443"];
        let mut text: String = waiting.iter().map(|ours| socket_line(ours, "0.0.0.0:0", "0A") + "\n").collect();
        text.extend(connections.iter().map(|(ours, peer)| socket_line(ours, peer, "01") + "\n"));
        self.write("proc/net/tcp", &text);
    }

    fn process(&self, id: u32, title: &str, parent: u32, user: u32, started: u64) {
        self.write(&format!("proc/{id}/comm"), if title.starts_with("sshd") { "sshd\n" } else { "init\n" });
        self.write(&format!("proc/{id}/cmdline"), &format!("{title}\0\0\0"));
        self.write(&format!("proc/{id}/status"), &format!("Name:\tsshd\nPPid:\t{parent}\nUid:\t{user}\t{user}\n"));
        self.write(&format!("proc/{id}/stat"), &format!("{id} (a) b) S {parent} {}{started} 0 0", "0 ".repeat(17)));
        let link = self.root.path().join(format!("proc/{id}/net/tcp"));
        std::fs::create_dir_all(link.parent().expect("a folder")).expect("made");
        std::fs::remove_file(&link).ok();
        std::fs::hard_link(self.root.path().join("proc/net/tcp"), link).expect("linked");
    }

    /// sshd marks this connection so, and has it kept alive since then.
    fn set_up(&mut self, connection: (&str, &str), dscp: u8, since: impl Into<Option<u64>>) {
        self.has_netlink = true;
        self.set_up.insert(connection.1.to_owned(), (dscp, since.into()));
    }

    fn end(&self, id: u32) {
        std::fs::remove_dir_all(self.root.path().join(format!("proc/{id}"))).expect("it was there");
    }

    /// Somebody who tries: the process of root, and the one without rights.
    fn attempt(&self, id: u32, started: u64) {
        self.process(id, "sshd: root [priv]", 500, ROOT, started);
        self.process(id + 1, "sshd: root [net]", id, SSHD, started);
    }

    /// Somebody who is in.
    fn session(&self, id: u32, started: u64) {
        self.process(id, "sshd: deploy [priv]", 500, ROOT, started);
        self.process(id + 1, "sshd: deploy@pts/0", id, DEPLOY, started + 20);
        // What it starts has its title for a moment.
        self.process(id + 2, "sshd: deploy@pts/0", id + 1, DEPLOY, started + 30);
    }

    /// Looks so many seconds later.
    fn look(&mut self, sessions: &mut Sessions, seconds: u64) -> Vec<String> {
        self.uptime += seconds * 100;
        self.write("proc/uptime", &format!("{}.{:02} 1.00\n", self.uptime / 100, self.uptime % 100));
        let mut facts = HostFacts::read(self.root.path());
        if self.has_netlink {
            facts.sockets.listening = facts.sockets.listening.iter().map(|(port, _)| (*port, Some(0))).collect();
            for ((_, peer), socket) in &mut facts.sockets.accepted {
                let (dscp, at) = self.set_up.get(&peer.to_string()).copied().unwrap_or_default();
                *socket = Socket { dscp: Some(dscp), kept_alive: at.map(|at| (at, at)) };
            }
        }
        let monotonic = Monotonic(i64::try_from(self.uptime * 10_000).expect("small"));
        let found = sessions.look(&facts, Time::from_secs(1_800_000_000), monotonic);
        found.iter().map(ToString::to_string).collect()
    }
}

fn sessions() -> Sessions {
    Sessions::new(SshSettings::default())
}

const NOBODY: [&str; 0] = [];
const OPERATOR: (&str, &str) = ("192.0.2.7:22", "198.51.100.1:5000");
const ATTACKER: (&str, &str) = ("192.0.2.7:22", "198.51.100.66:6000");

/// However long a connection is held, before the start or after it, and however long sshd lets it be.
#[test]
fn a_connection_that_is_held_without_a_login_is_no_session() {
    let mut host = Host::new();
    host.connections(&[ATTACKER]);
    host.attempt(600, 90_000);
    let mut sessions = sessions();
    for seconds in [0, 5, 161, 100_000] {
        assert_eq!(host.look(&mut sessions, seconds), NOBODY);
    }
    host.connections(&[ATTACKER, ("192.0.2.7:22", "198.51.100.67:6000")]);
    host.process(700, "sshd: [accepted]", 500, ROOT, host.uptime + 100);
    for seconds in [5, 161] {
        assert_eq!(host.look(&mut sessions, seconds), NOBODY);
    }
    assert_eq!(sessions.unknown(), None, "nobody is in");
}

/// Without logind and without a log: the process that was started with the connection has somebody who is logged in.
#[test]
fn a_session_is_known_by_the_process_that_serves_it() {
    for operator in [OPERATOR, ("192.0.2.7:2222", OPERATOR.1)] {
        let mut host = Host::new();
        let mut sessions = sessions();
        host.connections(&[ATTACKER, ("192.0.2.7:443", "198.51.100.80:80")]);
        host.attempt(600, 90_000);
        assert_eq!(host.look(&mut sessions, 0), NOBODY);
        host.connections(&[ATTACKER, ("192.0.2.7:443", "198.51.100.80:80"), operator]);
        host.session(700, host.uptime + 350);
        assert_eq!(host.look(&mut sessions, 5), ["198.51.100.1"], "{operator:?}");
        assert_eq!(host.look(&mut sessions, 500), ["198.51.100.1"]);
        for id in 700..703 {
            host.end(id);
        }
        // The connection is there for a moment longer.
        assert_eq!(host.look(&mut sessions, 5), NOBODY);
    }
}

/// What a user of this host may have written into the log makes nobody a session whose connection came at another time, nor does it
/// take the place of what the log said before.
#[test]
fn a_line_that_anybody_may_have_written_only_tells_connections_of_one_moment_apart() {
    let mut host = Host::new();
    let mut sessions = sessions();
    let at = Time::from_secs(1_800_000_000);
    let [operator, attacker] = [OPERATOR, ATTACKER].map(|(_, peer)| peer.parse().expect("an address"));
    host.connections(&[ATTACKER]);
    host.attempt(600, host.uptime - 10);
    assert_eq!(host.look(&mut sessions, 0), NOBODY);
    let both = [ATTACKER, OPERATOR, ("192.0.2.7:22", "198.51.100.67:6001")];
    host.connections(&both);
    host.session(700, host.uptime + 350);
    host.attempt(800, host.uptime + 350);
    assert_eq!(host.look(&mut sessions, 5), NOBODY, "two came at once");
    let mut forged = sessions.clone();
    forged.accepted(700, attacker, at, false);
    assert_eq!(host.look(&mut forged, 5), NOBODY);
    assert!(forged.is_connected(attacker) && !forged.is_connected("198.51.100.66:1".parse().expect("an address")));
    sessions.accepted(700, operator, at, false);
    sessions.accepted(700, attacker, at, false);
    assert_eq!(host.look(&mut sessions, 5), ["198.51.100.1"]);
}

/// For root there is one process; SFTP within it is none of its own.
#[test]
fn a_session_of_root_is_one_process() {
    let mut host = Host::new();
    host.connections(&[OPERATOR]);
    host.process(700, "sshd: root@notty", 500, ROOT, 90_000);
    host.process(701, "sshd: root@internal-sftp", 700, ROOT, 90_010);
    assert_eq!(host.look(&mut sessions(), 0), ["198.51.100.1"]);
}

/// Who came in the same moment may be either, until one is gone, or a log tells which it is.
#[test]
fn who_can_not_be_told_apart_is_not_allowed() {
    let mut host = Host::new();
    let (operator, attacker) = (("192.0.2.7:2222", OPERATOR.1), ("192.0.2.7:2222", ATTACKER.1));
    host.connections(&[operator, attacker]);
    host.session(700, 90_000);
    host.attempt(600, 90_001);
    let mut both = sessions();
    assert_eq!(host.look(&mut both, 0), NOBODY);
    assert_eq!(both.unknown(), None, "not at once");
    assert_eq!(host.look(&mut both, 30), NOBODY);
    assert!(both.unknown().is_some_and(|reason| reason.contains("`allow`")));
    let mut told = both.clone();
    let from = OPERATOR.1.parse().expect("an address");
    // Another process had the number long before: what it accepted is somebody else's.
    told.accepted(700, "198.51.100.99:1".parse().expect("ok"), Time::from_secs(1_700_000_000), true);
    assert_eq!(host.look(&mut told, 5), NOBODY);
    // One of a container that logs to the same file.
    told.accepted(700, "198.51.100.99:1".parse().expect("ok"), Time::from_secs(1_800_000_000 - 200), true);
    assert_eq!(host.look(&mut told, 5), NOBODY);
    told.accepted(700, from, Time::from_secs(1_800_000_000 - 100), true);
    assert_eq!(host.look(&mut told, 5), ["198.51.100.1"]);
    assert_eq!(told.unknown(), None);
    // An attempt that has the number of a log's line is none.
    told.accepted(600, ATTACKER.1.parse().expect("ok"), Time::from_secs(1_800_000_000), true);
    assert_eq!(host.look(&mut told, 5), ["198.51.100.1"]);
    host.connections(&[operator]);
    host.end(600);
    host.end(601);
    assert_eq!(host.look(&mut both, 5), ["198.51.100.1"]);
    assert_eq!(both.unknown(), None);
}

/// Of those that came between two looks, the timers of their connections say which is served by whom: also with `ssh -N`, and where
/// packets are not marked.
#[test]
fn who_came_between_the_same_looks_is_told_apart_by_timers() {
    let mut host = Host::new();
    let mut sessions = sessions();
    let others: Vec<String> = (0..10_u32).map(|number| format!("198.51.100.66:{}", 7000 + number)).collect();
    assert_eq!(host.look(&mut sessions, 0), NOBODY);
    let mut connections = vec![OPERATOR];
    for (number, peer) in others.iter().enumerate() {
        let (number, at) = (u32::try_from(number).expect("few"), host.uptime + 300 * number as u64);
        connections.push((OPERATOR.0, peer));
        host.attempt(600 + 2 * number, at);
        host.set_up((OPERATOR.0, peer), 0, at + 2);
    }
    host.session(700, host.uptime + 130);
    host.set_up(OPERATOR, 0, host.uptime + 132);
    host.connections(&connections);
    assert_eq!(host.look(&mut sessions, 40), ["198.51.100.1"]);
    // One that came within a second of it may be either.
    let mut host = Host::new();
    let mut sessions = Sessions::new(SshSettings::default());
    assert_eq!(host.look(&mut sessions, 0), NOBODY);
    host.attempt(600, host.uptime + 100);
    host.session(700, host.uptime + 101);
    host.set_up(OPERATOR, 0, host.uptime + 103);
    host.set_up(ATTACKER, 0, host.uptime + 103);
    host.connections(&[OPERATOR, ATTACKER]);
    assert_eq!(host.look(&mut sessions, 5), NOBODY);
    // The timer of what was there at the start may have run out once, and have begun anew.
    let mut host = Host::new();
    host.attempt(600, 10_000);
    host.session(700, 20_000);
    host.set_up(ATTACKER, 0, 20_002);
    host.set_up(OPERATOR, 0, 90_000);
    host.connections(&[OPERATOR, ATTACKER]);
    assert_eq!(host.look(&mut Sessions::new(SshSettings::default()), 5), NOBODY);
}

/// A machine so busy that its sshd needs most of a second to begin.
#[test]
fn a_busy_machine_gets_no_wrong_answer() {
    for late in [45, 70, 99] {
        let mut host = Host::new();
        let mut sessions = sessions();
        assert_eq!(host.look(&mut sessions, 0), NOBODY);
        let start = host.uptime + 100;
        host.session(700, start);
        host.set_up(OPERATOR, 0, start + late);
        // He came later, and was served sooner.
        host.attempt(600, start + 40);
        host.set_up(ATTACKER, 0, start + 42);
        host.connections(&[OPERATOR, ATTACKER]);
        assert_eq!(host.look(&mut sessions, 5), NOBODY);
    }
}

const OLD_TERMINAL: u8 = 0x10 >> 2;
const NEW_TERMINAL: u8 = 0xb8 >> 2;

/// A host whose sshd marks connections before a login so, as has been learned, and an attacker who holds one.
fn attacked(before_login: u8) -> (Host, Sessions) {
    let (mut host, mut sessions) = (Host::new(), sessions());
    assert_eq!(host.look(&mut sessions, 0), NOBODY);
    let held = (ATTACKER.0, "198.51.100.67:1000");
    host.attempt(500 + 30, host.uptime + 100);
    host.set_up(held, before_login, host.uptime + 102);
    host.connections(&[held]);
    for _ in 0..2 {
        assert_eq!(host.look(&mut sessions, 5), NOBODY);
    }
    (host, sessions)
}

/// Two that come at once: somebody who is in, and somebody who is not.
fn at_once(host: &mut Host, operator: u8, attacker: u8) {
    let at = host.uptime + 100;
    host.session(700, at);
    host.attempt(600, at);
    host.set_up(OPERATOR, operator, at + 2);
    host.set_up(ATTACKER, attacker, at + 2);
    host.connections(&[(ATTACKER.0, "198.51.100.67:1000"), OPERATOR, ATTACKER]);
}

#[test]
fn a_marking_tells_who_is_in() {
    // Up to OpenSSH 10.0: a terminal, a command.
    for dscp in [OLD_TERMINAL, 0x08 >> 2] {
        let (mut host, mut sessions) = attacked(0);
        at_once(&mut host, dscp, 0);
        assert_eq!(host.look(&mut sessions, 5), ["198.51.100.1"]);
        assert_eq!(host.look(&mut sessions, 500), ["198.51.100.1"]);
        // The session is over, and its connection will be in a moment.
        for id in 700..703 {
            host.end(id);
        }
        assert_eq!(host.look(&mut sessions, 5), NOBODY);
    }
    // Another session is over, and its connection will be in a moment: that hides nobody.
    let (mut host, mut sessions) = attacked(0);
    at_once(&mut host, OLD_TERMINAL, 0);
    let ended = (OPERATOR.0, "198.51.100.2:4000");
    host.set_up(ended, OLD_TERMINAL, host.uptime + 350);
    host.connections(&[(ATTACKER.0, "198.51.100.67:1000"), OPERATOR, ATTACKER, ended]);
    assert_eq!(host.look(&mut sessions, 5), ["198.51.100.1"]);
    // From 10.1 on: a terminal says nothing, a command does.
    for (dscp, expected) in [(NEW_TERMINAL, &NOBODY[..]), (0, &["198.51.100.1"]), (0x20 >> 2, &["198.51.100.1"])] {
        let (mut host, mut sessions) = attacked(NEW_TERMINAL);
        at_once(&mut host, dscp, NEW_TERMINAL);
        assert_eq!(host.look(&mut sessions, 5), expected);
    }
    // Nothing was learned yet.
    let (mut host, mut sessions) = (Host::new(), Sessions::new(SshSettings::default()));
    assert_eq!(host.look(&mut sessions, 0), NOBODY);
    at_once(&mut host, OLD_TERMINAL, 0);
    assert_eq!(host.look(&mut sessions, 5), NOBODY);
}

/// Whoever holds a connection that is not marked as others are before a login, for a reason of which no login is the cause.
#[test]
fn a_marking_that_is_no_logins_allows_nobody() {
    // sshd has accepted it, and not marked it yet.
    let (mut host, mut sessions) = attacked(NEW_TERMINAL);
    at_once(&mut host, NEW_TERMINAL, 0);
    host.set_up.remove(ATTACKER.1);
    assert_eq!(host.look(&mut sessions, 5), NOBODY);
    // When it came, a peer decided.
    let (mut host, mut sessions) = attacked(0);
    at_once(&mut host, 0, OLD_TERMINAL);
    host.has_netlink = false;
    assert_eq!(host.look(&mut sessions, 5), NOBODY);
    host.has_netlink = true;
    assert_eq!(host.look(&mut sessions, 5), NOBODY);
    // Another service of root that marks: nothing was learned of its port, for no sshd serves there.
    let ftp = ("192.0.2.7:443", "198.51.100.68:7000");
    let (mut host, mut sessions) = attacked(0);
    host.connections(&[(ATTACKER.0, "198.51.100.67:1000"), ftp]);
    for dscp in [0, 0, OLD_TERMINAL] {
        host.set_up(ftp, dscp, host.uptime);
        assert_eq!(host.look(&mut sessions, 5), NOBODY);
    }
    at_once(&mut host, 0, OLD_TERMINAL);
    host.connections(&[(ATTACKER.0, "198.51.100.67:1000"), OPERATOR, ("192.0.2.7:443", ATTACKER.1)]);
    assert_eq!(host.look(&mut sessions, 5), NOBODY);
    // More are marked than there are sessions.
    let (mut host, mut sessions) = attacked(0);
    at_once(&mut host, OLD_TERMINAL, OLD_TERMINAL);
    assert_eq!(host.look(&mut sessions, 5), NOBODY);
    // One that came long before, and not with the session.
    let (mut host, mut sessions) = attacked(0);
    at_once(&mut host, 0, 0);
    host.set_up((ATTACKER.0, "198.51.100.67:1000"), OLD_TERMINAL, 1);
    assert_eq!(host.look(&mut sessions, 5), NOBODY);
}

/// A connection that outlives its session teaches nothing; a port that marks in several ways without a login says nothing again.
#[test]
fn only_attempts_teach_what_is_marked_before_a_login() {
    let (mut host, mut sessions) = attacked(0);
    let ended = (OPERATOR.0, "198.51.100.2:4000");
    host.process(800, "sshd: deploy [priv]", 500, ROOT, host.uptime + 100);
    host.set_up(ended, OLD_TERMINAL, host.uptime + 102);
    host.connections(&[(ATTACKER.0, "198.51.100.67:1000"), ended]);
    for _ in 0..4 {
        assert_eq!(host.look(&mut sessions, 5), NOBODY);
    }
    host.end(800);
    at_once(&mut host, OLD_TERMINAL, 0);
    assert_eq!(host.look(&mut sessions, 5), ["198.51.100.1"]);
    // sshd was replaced by a later release.
    let (mut host, mut sessions) = attacked(0);
    let held = (ATTACKER.0, "198.51.100.68:1000");
    host.attempt(800, host.uptime + 100);
    host.set_up(held, NEW_TERMINAL, host.uptime + 102);
    host.connections(&[held]);
    for _ in 0..2 {
        assert_eq!(host.look(&mut sessions, 5), NOBODY);
    }
    at_once(&mut host, OLD_TERMINAL, 0);
    assert_eq!(host.look(&mut sessions, 5), NOBODY);
}

/// A process that serves none of our connections makes nobody else's a session.
#[test]
fn a_session_elsewhere_is_none_of_the_connections_here() {
    // Of another network namespace.
    let mut host = Host::new();
    host.connections(&[ATTACKER]);
    host.attempt(600, 90_000);
    host.session(700, 90_000);
    for id in 700..703 {
        std::fs::remove_file(host.root.path().join(format!("proc/{id}/net/tcp"))).expect("there");
        host.write(&format!("proc/{id}/net/tcp"), "");
    }
    assert_eq!(host.look(&mut sessions(), 0), NOBODY);
    // A title that a user has given a program of theirs.
    let mut host = Host::new();
    host.connections(&[ATTACKER]);
    host.attempt(600, 90_000);
    host.process(700, "sshd: root@pts/0", 1, DEPLOY, 90_000);
    host.process(701, "sshd: root [priv]", 1, DEPLOY, 90_000);
    host.process(702, "sshd: root@pts/0", 701, DEPLOY, 90_000);
    assert_eq!(host.look(&mut sessions(), 0), NOBODY);
    // Without a connection of TCP.
    let mut host = Host::new();
    host.connections(&[ATTACKER]);
    host.attempt(600, 90_000);
    host.session(700, 90_000);
    assert_eq!(host.look(&mut sessions(), 0), NOBODY);
}

#[test]
fn where_processes_can_not_be_seen_nobody_is_guessed() {
    let mut host = Host::new();
    host.connections(&[ATTACKER]);
    host.session(700, 90_000);
    host.end(1);
    let mut sessions = sessions();
    assert_eq!(host.look(&mut sessions, 0), NOBODY);
    assert_eq!(host.look(&mut sessions, 30), NOBODY);
    assert!(sessions.unknown().is_some_and(|reason| reason.contains("hidepid")));
    host.write("run/systemd/sessions/4", "REMOTE_HOST=198.51.100.66\nSERVICE=sshd\nSTATE=active\nLEADER=7\n");
    assert_eq!(host.look(&mut sessions, 5), ["198.51.100.66"]);
    assert_eq!(sessions.unknown(), None);
}

#[test]
fn each_point_is_given_an_interval_of_its_own() {
    assert_eq!(served(&[], vec![(1, 2)]), 0);
    assert_eq!(served(&[5], vec![(1, 2), (6, 9)]), 0);
    assert_eq!(served(&[1, 5], vec![(0, 9), (0, 2)]), 2, "the one that ends first goes first");
    assert_eq!(served(&[1, 1, 1], vec![(0, 9), (1, 1)]), 2);
}

/// The real sshd on a port that nobody named, without PAM, logind, and a bound of time for who does not log in, and whoever comes.
struct Ssh {
    net: TestNet,
    folder: tempfile::TempDir,
    _sshd: Serving,
    looks: i64,
}

const NOW: Time = Time::from_secs(1_800_000_000);

impl Ssh {
    /// With this beside its configuration, started by this user: only root's can change to others.
    fn new(options: &str, user: u32) -> Self {
        let (net, folder) = (TestNet::new(), tempfile::tempdir().expect("a folder"));
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        let at = folder.path().display().to_string();
        let configuration = format!(
            "Port 2222\nHostKey {at}/host\nAuthorizedKeysFile {at}/key.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             LoginGraceTime 0\nPidFile none\nMaxStartups 1000\nSubsystem sftp internal-sftp\n{options}\n"
        );
        std::fs::write(folder.path().join("sshd_config"), configuration).expect("written");
        let sshd = net.serve(&format!(
            "import ctypes, os, signal, socket, subprocess, time
for key in ['host', 'key']: subprocess.check_call(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', '{at}/' + key])
os.chown('{at}/host', {user}, -1)
open('{at}/pid', 'w').write(str(os.getpid()))
die = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
run = 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec setpriv --pdeathsig KILL --reuid {user} /usr/sbin/sshd -D -f {at}/sshd_config'
subprocess.Popen(['unshare', '-m', 'sh', '-c', run], preexec_fn=die)
while True:
    try: socket.create_connection(('127.0.0.1', 2222), 1).close(); break
    except OSError: time.sleep(0.05)
print('ready', flush=True)
time.sleep(1000)"
        ));
        Self { net, folder, _sshd: sshd, looks: 0 }
    }

    /// What is seen of that host, by netlink or, without it, in `/proc` alone.
    fn facts(&self, by_netlink: bool) -> HostFacts {
        let server = std::fs::read_to_string(self.folder.path().join("pid")).expect("written");
        let root = tempfile::tempdir().expect("a folder");
        let proc = root.path().join("proc");
        std::fs::create_dir(&proc).expect("made");
        let link =
            |from: &str, to: &str| std::os::unix::fs::symlink(format!("/proc/{from}"), proc.join(to)).expect("linked");
        link(&format!("{server}/net"), "net");
        link("uptime", "uptime");
        link("sys", "sys");
        let all = std::fs::read_dir("/proc").expect("there").flatten();
        for id in all.filter_map(|entry| entry.file_name().into_string().ok()?.parse::<u32>().ok()) {
            link(&id.to_string(), &id.to_string());
        }
        let mut facts = HostFacts::default();
        let told = |root: &Path| Sockets::told(root).expect("netlink is there");
        self.net.on_thread_of_host(|| facts.read_sessions(root.path(), if by_netlink { told } else { Sockets::read }));
        facts
    }

    /// Who has a session, at one look more.
    fn look(&mut self, sessions: &mut Sessions) -> Vec<String> {
        self.looks += 1;
        let found = sessions.look(&self.facts(true), NOW, Monotonic(self.looks * 1_000_000));
        found.iter().map(ToString::to_string).collect()
    }

    /// Holds a connection from this address after the other, with so many seconds between them; the first one is there.
    fn hold(&self, from: &str, every: f64) -> Serving {
        self.net.start_outside(&format!(
            "import socket, time
held = []
while True:
    s = socket.create_connection(('{HOST4}', 2222), 20, ('{from}', 0)); s.recv(10); held.append(s)
    if len(held) == 1: print('ready', flush=True)
    time.sleep({every})"
        ))
    }

    /// Runs a client from this address, which holds so many connections just before; it is in when it has written `in` (or sftp, in
    /// which folder it is *working*), and ends when it is dropped.
    fn client(&self, from: &str, before: &str, program: &[&str]) -> Serving {
        let at = self.folder.path().display();
        self.net.start_outside(&format!(
            "import ctypes, pty, signal, socket, subprocess, time
die = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BindAddress={from}', 'LogLevel=ERROR', 'BatchMode=yes', 'IdentityFile={at}/key', 'Port=2222']
c = [w.replace('@', '@{HOST4}') for w in {program:?}]
c = c[:1] + ['-F', 'none'] + [w for o in options for w in ('-o', o)] + c[1:]
{before}
p = subprocess.Popen(c, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=die)
p.stdin.write(b'pwd\\n'); p.stdin.flush()
heard = b''
while b'in' not in heard:
    more = p.stdout.read1(1000); assert more, heard; heard += more
print('ready', flush=True)
time.sleep(1000)"
        ))
    }
}

/// Lets time pass until sshd and its clients have gone on.
fn pass(seconds: f32) {
    #[expect(clippy::disallowed_methods, reason = "programs of real time")]
    std::thread::sleep(std::time::Duration::from_secs_f32(seconds));
}

const IN: &[&str] = &["ssh", "root@", "echo in; sleep 1000"];
/// The client marks nothing itself, before the login.
const NO_SESSION: &[&str] =
    &["ssh", "-N", "-o", "IPQoS=none", "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo in"];

/// Who is in is found, and who holds a connection is not. A start that finds both knows that who came before the session is not who
/// has it; the other one, only the log says.
#[test]
fn a_session_of_a_real_sshd_is_told_from_a_held_connection() {
    let mut ssh = Ssh::new("", ROOT);
    let _attacker = ssh.hold(OTHER4[0], 1000.0);
    let mut sessions = sessions();
    let of_proc = |ssh: &Ssh, sessions: &mut Sessions| {
        let found = sessions.look(&ssh.facts(false), NOW, Monotonic(0));
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of_proc(&ssh, &mut sessions), NOBODY);
    pass(2.5);
    let _operator = ssh.client(OPERATOR4, "", IN);
    assert_eq!(of_proc(&ssh, &mut sessions), [OPERATOR4]);
    assert_eq!(ssh.look(&mut Sessions::new(SshSettings::default())), [OPERATOR4]);
    let _other = ssh.hold(OTHER4[1], 1000.0);
    let mut later = Sessions::new(SshSettings::default());
    assert_eq!(ssh.look(&mut later), NOBODY);
    let both = ssh.facts(true);
    let session =
        both.processes.iter().flatten().find(|process| process.stage == Stage::Session).expect("there is one");
    let from =
        both.sockets.accepted.keys().find(|(_, peer)| peer.ip().to_string() == OPERATOR4).expect("there is one").1;
    later.accepted(session.id, from, NOW, true);
    assert_eq!(ssh.look(&mut later), [OPERATOR4]);
}

/// Attackers hold a connection more each second, for as long as it takes, and several at the very time of each login: whoever logs in,
/// for whatever, is found within two looks, and none of them is.
#[test]
fn a_session_is_found_at_once_however_many_connections_are_held() {
    let mut ssh = Ssh::new("", ROOT);
    let _attackers = ssh.hold(OTHER4[0], 1.0);
    let (mut sessions, mut without) = (sessions(), sessions());
    for _ in 0..3 {
        pass(1.2);
        assert_eq!(ssh.look(&mut sessions), NOBODY);
        without.look(&ssh.facts(false), NOW, Monotonic(0));
    }
    let at_once =
        format!("held = [socket.create_connection(('{HOST4}', 2222), 20, ('{}', 0)) for _ in range(3)]", OTHER4[1]);
    for program in [IN, &["ssh", "-tt", "root@", "echo in; sleep 1000"], &["sftp", "root@"]] {
        let operator = ssh.client(OPERATOR4, &at_once, program);
        let found = [ssh.look(&mut sessions), ssh.look(&mut sessions)];
        assert!(found.iter().any(|found| found == &[OPERATOR4]), "{program:?} {found:?}");
        let found = without.look(&ssh.facts(false), NOW, Monotonic(0));
        assert_eq!(found, BTreeSet::new(), "`/proc` alone would do");
        drop(operator);
        pass(1.2);
        assert_eq!(ssh.look(&mut sessions), NOBODY);
        pass(1.2);
    }
}

/// sshd marks nothing, and `ssh -N` has no session of its own: what is left is the time at which both began.
#[test]
fn a_session_without_a_marking_is_found_by_its_time() {
    for user in ["nobody@", "root@"] {
        let mut ssh = Ssh::new("IPQoS none", ROOT);
        let mut sessions = sessions();
        assert_eq!(ssh.look(&mut sessions), NOBODY);
        let _attacker = ssh.hold(OTHER4[0], 1000.0);
        pass(2.5);
        let _operator = ssh.client(OPERATOR4, "", &[NO_SESSION, &[user]].concat());
        pass(2.5);
        let _other = ssh.hold(OTHER4[1], 1000.0);
        assert_eq!(ssh.look(&mut sessions), [OPERATOR4], "{:?}", ssh.facts(true));
    }
}

/// With `tcp_reflect_tos` a peer decides how our packets are marked, so that says nothing.
#[test]
fn where_peers_decide_the_marking_it_says_nothing() {
    let mut ssh = Ssh::new("", ROOT);
    assert!(ssh.net.on_host(&["sysctl", "-qw", "net.ipv4.tcp_reflect_tos=1"]).status.success());
    let _attackers = ssh.hold(OTHER4[0], 1.0);
    let mut sessions = sessions();
    for _ in 0..3 {
        pass(1.2);
        assert_eq!(ssh.look(&mut sessions), NOBODY);
    }
    let marked = format!(
        "held = socket.socket(); held.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x10); held.bind(('{}', 0)); held.connect(('{HOST4}', 2222))",
        OTHER4[1]
    );
    let _operator = ssh.client(OPERATOR4, &marked, &[NO_SESSION, &["nobody@"]].concat());
    let found = ssh.look(&mut sessions);
    assert!(!found.contains(&OTHER4[1].to_owned()), "{found:?}");
}

/// A user's own sshd lets in whom he likes, and marks their connections; it has no say, whatever its processes call themselves.
#[test]
fn the_sshd_of_a_user_allows_nobody() {
    const NOBODYS: u32 = 65_534;
    let mut ssh = Ssh::new("", NOBODYS);
    let mut sessions = sessions();
    let _attackers = ssh.hold(OTHER4[0], 1.0);
    for _ in 0..3 {
        pass(1.2);
        assert_eq!(ssh.look(&mut sessions), NOBODY);
    }
    let _in = ssh.client(OTHER4[1], "", &["sftp", "nobody@"]);
    assert_eq!(ssh.look(&mut sessions), NOBODY);
    assert_eq!(ssh.facts(true).sockets.accepted, BTreeMap::new());
}
