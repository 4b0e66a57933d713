//! Who is in can't be locked out, and who is not in can't let himself in: logins that a log tells of whenever it is read, and sessions
//! of the real sshd beside connections that are only held.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::bench::{
    ATTACKER, Bench, Daemon, HOST, OTHER, SSHD, agent, append, ask, banned, done, entries, failures, folder, ready,
    signal, until_banned,
};
use super::durability::find;
use crate::harness::eventually;

/// The line of a login that long ago.
fn login(ago: &str, by: &str, address: &str) -> String {
    let date = done(&["date", "-d", &format!("-{ago}"), "+%b %e %H:%M:%S"]);
    format!("{} web sshd[811]: Accepted {by} for root from {address} port 50000 ssh2: ED25519 SHA256:x\n", date.trim())
}

fn is_allowed(at: &Path, address: &str) -> bool {
    let allowed = ask(at, &["allow"]).unwrap_or_default();
    allowed.as_array().is_some_and(|all| all.iter().any(|allowed| allowed["network"] == address))
}

/// Whoever runs a program on this host may have a file say that somebody logged in: it spares nobody that the kernel does not know as
/// a session, not while a connection of theirs is held either. A login that it knows spares from then on, and over the next starts.
#[test]
fn a_login_that_a_file_tells_of_counts_once_it_is_a_session() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    let ssh = Ssh::start(&bench, &at);
    append(&log, login("3 days", "publickey", "10.97.70.2") + &login("5 min", "publickey", "10.97.70.4"));
    let up = bench.up(folder);
    ready(&at);
    let (_held, port) = ssh.held_from(10_000);
    crate::harness::pause(3.0);
    let (session, told) = ssh.session_from();
    let [process, its_port] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    let accepted = |address: &str, port: &str| {
        let line = login("1 sec", "publickey", address);
        line.replace("[811]", &format!("[{process}]")).replace("port 50000", &format!("port {port}"))
    };
    append(&log, accepted(ATTACKER, &port) + &accepted(OTHER, its_port) + &login("1 sec", "publickey", "10.97.70.6"));
    // While the session is there: afterwards nobody knows.
    eventually("the login to be kept", || {
        let kept = std::fs::read(find(&at.join("data.agent"), "logs.json")?).ok()?;
        let kept: serde_json::Value = serde_json::from_slice(&kept).ok()?;
        kept["logins"].to_string().contains(OTHER).then_some(())
    });
    let learned = || {
        let allowed = ask(&at, &["allow"]).unwrap_or_default();
        let is_login = |of: &&serde_json::Value| of["why"].as_str().is_some_and(|why| why.contains("login"));
        allowed
            .as_array()
            .into_iter()
            .flatten()
            .filter(is_login)
            .map(|of| of["network"].to_string())
            .collect::<Vec<_>>()
    };
    drop(session);
    eventually("the login to be learned", || (learned() == [format!("\"{OTHER}\"")]).then_some(()));
    let guests = ["10.97.70.2", "10.97.70.4", "10.97.70.6", OTHER, ATTACKER];
    append(&log, guests.iter().map(|guest| failures(guest, 3)).collect::<String>());
    until_banned(&at, ATTACKER, "sshd");
    let expected: Vec<String> = banned(&at).into_iter().filter(|ban| !ban.starts_with(OTHER)).collect();
    assert_eq!((banned(&at), expected.len()), (expected, 4));

    let before = agent(&at);
    signal(before, "KILL");
    eventually("another agent", || Some(agent(&at)).filter(|pid| *pid != before));
    append(&log, failures(OTHER, 3) + &failures("10.97.70.7", 3));
    until_banned(&at, "10.97.70.7", "sshd");
    assert_eq!(learned(), [format!("\"{OTHER}\"")]);
    drop(up.stop());
}

/// The same from the journal of systemd, of which a jail reads the last minutes alone.
#[test]
fn logins_of_the_past_are_found_in_the_journal_of_systemd() {
    let bench = Bench::new();
    let folder = folder("[sshd]\nenabled = true\nbackend = systemd[journalpath=@/journal]\nmaxretry = 3\n", "", "");
    let at = folder.path().to_path_buf();
    std::fs::create_dir(at.join("journal")).expect("made");
    let mut writer = crate::harness::command("/usr/lib/systemd/systemd-journal-remote")
        .args(["-o", at.join("journal/remote.journal").to_str().expect("UTF-8"), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("install systemd-journal-remote");
    let mut entry = 0_u64;
    let mut tell = |hours_ago: i64, message: &str| {
        entry += 1;
        let time = crate::harness::wall_micros() - hours_ago * 3_600_000_000;
        let text = format!(
            "__CURSOR=s=0123456789abcdef0123456789abcdef;i={entry:x};b=11111111111111111111111111111111;m={entry:x};t={time:x};x={entry:x}\n\
             __REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={entry}\n_BOOT_ID=11111111111111111111111111111111\n\
             _HOSTNAME=web\n_UID=0\n_COMM=sshd\n_SYSTEMD_UNIT=ssh.service\nSYSLOG_IDENTIFIER=sshd\n_PID=812\nPRIORITY=6\n\
             MESSAGE={message}\n\n"
        );
        writer.stdin.as_mut().expect("piped").write_all(text.as_bytes()).expect("written");
    };
    for (hours, by, last) in
        [(31 * 24, "publickey", 1), (20 * 24, "publickey", 3), (2, "password", 5), (1, "publickey", 7)]
    {
        tell(hours, &format!("Accepted {by} for root from 10.97.71.{last} port 50000 ssh2: ED25519 SHA256:x"));
    }
    for last in [1, 3, 5, 7] {
        (0..3).for_each(|_| tell(0, &format!("Failed password for root from 10.97.71.{last} port 40000 ssh2")));
    }
    drop(writer.stdin.take());
    assert!(writer.wait().expect("it ends").success());
    let up = bench.up(folder);
    ready(&at);
    until_banned(&at, "10.97.71.5", "sshd");
    until_banned(&at, "10.97.71.1", "sshd");
    eventually("all to be judged", || {
        ask(&at, &["status"]).filter(|status| status["rules"][0]["offences"] == 4).map(drop)
    });
    assert_eq!(banned(&at), ["10.97.71.1 sshd", "10.97.71.5 sshd"]);
    assert!(is_allowed(&at, "10.97.71.3") && is_allowed(&at, "10.97.71.7"));
    drop(up.stop());
}

/// A real sshd on port 2222, without PAM and a bound of time, that says nothing in a log that is read; and who comes to it.
struct Ssh<'a> {
    bench: &'a Bench,
    at: PathBuf,
    _sshd: Daemon,
}

impl<'a> Ssh<'a> {
    fn start(bench: &'a Bench, at: &Path) -> Self {
        let file = |name: &str| at.join(name).to_str().expect("UTF-8").to_owned();
        done(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &file("key")]);
        let configuration = format!(
            "Port 2222\nHostKey {0}\nAuthorizedKeysFile {0}.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nLoginGraceTime 0\n\
             PidFile none\nMaxStartups 1000\n",
            file("key")
        );
        std::fs::write(at.join("sshd_config"), configuration).expect("written");
        append(&at.join("auth.log"), "");
        let run = format!(
            "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f {}",
            file("sshd_config")
        );
        let sshd = bench.daemon(&["unshare", "-m", "sh", "-c", &run]);
        eventually("sshd to listen", || (bench.reach(OTHER, 2222, 1.0) == "open").then_some(()));
        Self { bench, at: at.to_owned(), _sshd: sshd }
    }

    /// Starts a client, which has written a line once it is in: that line.
    fn client(&self, program: &[&str]) -> (Daemon, String) {
        use std::io::BufRead as _;
        let mut client = self.bench.outside(program).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        std::io::BufReader::new(client.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it is in");
        assert!(!line.is_empty(), "{program:?} ended");
        (Daemon(client), line.trim().to_owned())
    }

    /// Holds connections of the attacker: the first one is there, and each further one comes so many seconds later.
    fn held(&self, every: u32) -> Daemon {
        self.held_from(every).0
    }

    /// The same, and the port that the first one comes from.
    fn held_from(&self, every: u32) -> (Daemon, String) {
        let hold = format!(
            "import socket, time\nheld = []\nwhile True:\n    s = socket.create_connection(('{HOST}', 2222), 20, ('{ATTACKER}', 0))\n    \
             held.append(s); s.recv(9); print(s.getsockname()[1], flush=True); time.sleep({every})"
        );
        self.client(&["/usr/bin/python3", "-c", &hold])
    }

    /// A session from the other address.
    fn session(&self) -> Daemon {
        self.session_from().0
    }

    /// The same, with the process that serves it and the port that it comes from.
    fn session_from(&self) -> (Daemon, String) {
        let (key, host) = (self.at.join("key"), format!("root@{HOST}"));
        let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"];
        let mut ssh = vec!["ssh", "-F", "none", "-b", OTHER, "-i", key.to_str().expect("UTF-8"), "-p", "2222"];
        ssh.extend(options.iter().flat_map(|option| ["-o", option]));
        ssh.extend([host.as_str(), "set -- $SSH_CONNECTION; echo $PPID $2; sleep 10000"]);
        self.client(&ssh)
    }
}

/// As the agent starts: who holds a connection is banned, and who logs in is found by the process that serves him.
#[test]
fn a_held_connection_allows_nobody_and_a_session_does() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    let ssh = Ssh::start(&bench, &at);
    let _held = ssh.held(10_000);
    let up = bench.up(folder);
    ready(&at);
    assert!(!is_allowed(&at, ATTACKER));
    // What came long behind the start can't be what was there at it.
    crate::harness::pause(3.0);
    let session = ssh.session();
    eventually("the session to be found", || is_allowed(&at, OTHER).then_some(()));
    append(&at.join("auth.log"), failures(OTHER, 3) + &failures(ATTACKER, 3));
    until_banned(&at, ATTACKER, "sshd");
    assert_eq!(banned(&at), [format!("{ATTACKER} sshd")]);
    drop(session);
    eventually("the session to be over", || (!is_allowed(&at, OTHER)).then_some(()));
    assert!(!is_allowed(&at, ATTACKER));
    drop(up.stop());
}

/// One more connection is held each second, and never let go: who logs in is found, and not banned by what fails beside his session. A
/// ban of before it is lifted.
#[test]
fn a_session_is_found_among_connections_that_never_end() {
    let bench = Bench::new();
    let folder = folder(&SSHD.replace("[sshd]\n", "[sshd]\nport = 22\n"), "", "");
    let at = folder.path().to_path_buf();
    let ssh = Ssh::start(&bench, &at);
    let _held = ssh.held(1);
    let up = bench.up(folder);
    ready(&at);
    let session = ssh.session();
    eventually("the session to be found", || is_allowed(&at, OTHER).then_some(()));
    append(&at.join("auth.log"), failures(OTHER, 3) + &failures(ATTACKER, 3));
    until_banned(&at, ATTACKER, "sshd");
    assert_eq!(banned(&at), [format!("{ATTACKER} sshd")]);
    drop(session);
    eventually("the session to be over", || (!is_allowed(&at, OTHER)).then_some(()));

    append(&at.join("auth.log"), failures(OTHER, 3));
    until_banned(&at, OTHER, "sshd");
    let _session = ssh.session();
    eventually("the ban to be lifted", || (banned(&at) == [format!("{ATTACKER} sshd")]).then_some(()));
    eventually("that to be journaled", || {
        entries(&at, "guard.unbanned").iter().any(|unbanned| unbanned["address"] == OTHER).then_some(())
    });
    assert!(is_allowed(&at, OTHER) && !is_allowed(&at, ATTACKER));
    drop(up.stop());
}
