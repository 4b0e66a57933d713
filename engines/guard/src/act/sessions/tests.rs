use super::*;
use crate::act::host::tests::socket_line;
use crate::act::test_net::{HOST4, OPERATOR4, OTHER4, TestNet};

/// A host of which everything that is looked at is made up.
struct Host {
    root: tempfile::TempDir,
    uptime: u64,
}

const ROOT: u32 = 0;
const SSHD: u32 = 105;
const DEPLOY: u32 = 1000;

impl Host {
    fn new() -> Self {
        let host = Self { root: tempfile::tempdir().expect("a folder"), uptime: 100_000 };
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
        let facts = HostFacts::read(self.root.path());
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
    told.accepted(700, "198.51.100.99:1".parse().expect("ok"), Time::from_secs(1_700_000_000));
    assert_eq!(host.look(&mut told, 5), NOBODY);
    // One of a container that logs to the same file.
    told.accepted(700, "198.51.100.99:1".parse().expect("ok"), Time::from_secs(1_800_000_000 - 200));
    assert_eq!(host.look(&mut told, 5), NOBODY);
    told.accepted(700, from, Time::from_secs(1_800_000_000 - 100));
    assert_eq!(host.look(&mut told, 5), ["198.51.100.1"]);
    assert_eq!(told.unknown(), None);
    // An attempt that has the number of a log's line is none.
    told.accepted(600, ATTACKER.1.parse().expect("ok"), Time::from_secs(1_800_000_000));
    assert_eq!(host.look(&mut told, 5), ["198.51.100.1"]);
    host.connections(&[operator]);
    host.end(600);
    host.end(601);
    assert_eq!(host.look(&mut both, 5), ["198.51.100.1"]);
    assert_eq!(both.unknown(), None);
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

/// The real sshd on a port that nobody named, without PAM and without a bound of time: who is in is found, and who holds a
/// connection is not.
#[test]
fn a_session_of_a_real_sshd_is_told_from_a_held_connection() {
    let net = TestNet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().display().to_string();
    let configuration = format!(
        "Port 2222\nHostKey {at}/key\nAuthorizedKeysFile {at}/key.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
         LoginGraceTime 0\nPidFile none\n"
    );
    std::fs::write(folder.path().join("sshd_config"), configuration).expect("written");
    let _sshd = net.serve(&format!(
        "import ctypes, os, signal, socket, subprocess, time
subprocess.check_call(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', '{at}/key'])
open('{at}/pid', 'w').write(str(os.getpid()))
die = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
run = 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -f {at}/sshd_config -E {at}/log'
subprocess.Popen(['unshare', '-m', 'sh', '-c', run], preexec_fn=die)
while True:
    try: socket.create_connection(('127.0.0.1', 2222), 1).close(); break
    except OSError: time.sleep(0.05)
print('ready', flush=True)
time.sleep(1000)"
    ));
    let _attacker = net.start_outside(&format!(
        "import socket, time
s = socket.create_connection(('{HOST4}', 2222), 20, ('{}', 0)); s.recv(10)
print('ready', flush=True)
time.sleep(1000)",
        OTHER4[0]
    ));
    // The processes and the network of that host, under a root of its own.
    let server = std::fs::read_to_string(folder.path().join("pid")).expect("written");
    let facts = || {
        let root = tempfile::tempdir().expect("a folder");
        let proc = root.path().join("proc");
        std::fs::create_dir(&proc).expect("made");
        let link =
            |from: &str, to: &str| std::os::unix::fs::symlink(format!("/proc/{from}"), proc.join(to)).expect("linked");
        link(&format!("{server}/net"), "net");
        link("uptime", "uptime");
        let all = std::fs::read_dir("/proc").expect("there").flatten();
        for id in all.filter_map(|entry| entry.file_name().into_string().ok()?.parse::<u32>().ok()) {
            link(&id.to_string(), &id.to_string());
        }
        HostFacts::read(root.path())
    };
    let now = Time::from_secs(1_800_000_000);
    let mut sessions = sessions();
    assert_eq!(sessions.look(&facts(), now, Monotonic(0)), BTreeSet::new());
    let _operator = net.start_outside(&format!(
        "import ctypes, signal, subprocess, time
time.sleep(2.5)
die = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BindAddress={OPERATOR4}', 'LogLevel=ERROR']
c = ['ssh', '-F', 'none', '-i', '{at}/key', '-p', '2222'] + [w for o in options for w in ('-o', o)] + ['root@{HOST4}', 'echo in; sleep 1000']
p = subprocess.Popen(c, stdout=subprocess.PIPE, preexec_fn=die)
assert p.stdout.readline() == b'in\\n'
print('ready', flush=True)
time.sleep(1000)"
    ));
    let both = facts();
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let operator = BTreeSet::from([OPERATOR4.parse().expect("an address")]);
    assert_eq!(sessions.look(&both, now, Monotonic(5_000_000)), operator, "{both:?} {log}");
    // A start that finds both: only the log says which is which.
    let mut later = Sessions::new(SshSettings::default());
    assert_eq!(later.look(&both, now, Monotonic(0)), BTreeSet::new());
    let session = both.processes.iter().flatten().find(|process| process.is_session).expect("there is one");
    let from = both.connections.iter().find(|(_, peer)| peer.ip().to_string() == OPERATOR4).expect("there is one").1;
    later.accepted(session.id, from, now);
    assert_eq!(later.look(&both, now, Monotonic(1)), operator);
}
