//! Who is in can't be locked out, and who is not in can't let himself in: logins that a log tells of whenever it is read, and sessions
//! of the real sshd beside connections that are only held.

use std::path::Path;
use std::process::Stdio;

use super::bench::{
    ATTACKER, Bench, Daemon, HOST, OTHER, SSHD, agent, append, ask, banned, done, failures, folder, ready, signal,
    until_banned,
};
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

/// The day of the takeover, and each restart: logins with a key that are older than what a jail looks back to, of before a rotation, or
/// written while nothing ran, spare their addresses, and those with a password do not.
#[test]
fn logins_of_the_past_spare_from_the_first_ban_on() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    append(&at.join("auth.log.1"), login("9 days", "publickey", "10.97.70.1"));
    append(&log, login("3 days", "publickey", "10.97.70.2") + &login("20 min", "publickey", "10.97.70.3"));
    append(&log, login("5 min", "publickey", "10.97.70.4") + &login("5 min", "password", "10.97.70.5"));
    let guests: Vec<String> = (1..=5).map(|last| format!("10.97.70.{last}")).collect();
    append(&log, guests.iter().map(|guest| failures(guest, 3)).collect::<String>());
    let up = bench.up(folder);
    ready(&at);
    until_banned(&at, "10.97.70.5", "sshd");
    assert_eq!(banned(&at), ["10.97.70.5 sshd"]);
    assert!(guests[..4].iter().all(|guest| is_allowed(&at, guest)), "{:?}", ask(&at, &["allow"]));

    let before = agent(&at);
    signal(before, "KILL");
    append(&log, login("1 sec", "publickey", "10.97.70.6") + &failures("10.97.70.6", 3) + &failures("10.97.70.7", 3));
    eventually("another agent", || Some(agent(&at)).filter(|pid| *pid != before));
    until_banned(&at, "10.97.70.7", "sshd");
    assert_eq!(banned(&at), ["10.97.70.5 sshd", "10.97.70.7 sshd"]);
    assert!(is_allowed(&at, "10.97.70.6"));

    // Who is banned already, and logs in from there all the same, over a connection of before.
    append(&log, login("1 sec", "publickey", "10.97.70.7"));
    eventually("the ban to be lifted", || (banned(&at) == ["10.97.70.5 sshd"]).then_some(()));
    drop(up.stop());
}

/// sshd lets connections be for ever and says nothing in a log that is read, as the agent starts: who holds a connection is banned, and
/// who logs in is found by the process that serves him.
#[test]
fn a_held_connection_allows_nobody_and_a_session_does() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    let file = |name: &str| at.join(name).to_str().expect("UTF-8").to_owned();
    done(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &file("key")]);
    let configuration = format!(
        "Port 2222\nHostKey {0}\nAuthorizedKeysFile {0}.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nLoginGraceTime 0\n\
         PidFile none\n",
        file("key")
    );
    std::fs::write(at.join("sshd_config"), configuration).expect("written");
    append(&at.join("auth.log"), "");
    let run = format!(
        "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f {}",
        file("sshd_config")
    );
    let _sshd = bench.daemon(&["unshare", "-m", "sh", "-c", &run]);
    eventually("sshd to listen", || (bench.reach(OTHER, 2222, 1.0) == "open").then_some(()));
    let hold = format!(
        "import socket, time\ns = socket.create_connection(('{HOST}', 2222), 20, ('{ATTACKER}', 0)); s.recv(9)\n\
         print('held', flush=True); time.sleep(10000)"
    );
    let client = |program: &[&str]| {
        use std::io::BufRead as _;
        let mut client = bench.outside(program).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        std::io::BufReader::new(client.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it is in");
        assert!(!line.is_empty(), "{program:?} ended");
        Daemon(client)
    };
    let _held = client(&["/usr/bin/python3", "-c", &hold]);
    let up = bench.up(folder);
    ready(&at);
    assert!(!is_allowed(&at, ATTACKER));
    // What came long behind the start can't be what was there at it.
    crate::harness::pause(3.0);
    let (key, host) = (file("key"), format!("root@{HOST}"));
    let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"];
    let mut ssh = vec!["ssh", "-F", "none", "-b", OTHER, "-i", &key, "-p", "2222"];
    ssh.extend(options.iter().flat_map(|option| ["-o", option]));
    ssh.extend([host.as_str(), "echo in; sleep 10000"]);
    let session = client(&ssh);
    eventually("the session to be found", || is_allowed(&at, OTHER).then_some(()));
    append(&at.join("auth.log"), failures(OTHER, 3) + &failures(ATTACKER, 3));
    until_banned(&at, ATTACKER, "sshd");
    assert_eq!(banned(&at), [format!("{ATTACKER} sshd")]);
    drop(session);
    eventually("the session to be over", || (!is_allowed(&at, OTHER)).then_some(()));
    assert!(!is_allowed(&at, ATTACKER));
    drop(up.stop());
}
