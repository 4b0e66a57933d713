//! Attacks on real daemons: sshd through syslog, nginx by its own log, and entries of the journal of systemd.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use super::bench::{
    ATTACKER, Bench, HOST, OTHER, SSHD, append, ask, banned, done, entries, folder, ready, until_banned,
};
use crate::harness::{eventually, pause, put_script, transcript};

/// A `/dev` of its own with a syslog that writes a file as Debian's does, then sshd in it.
const SYSLOG_AND_SSHD: &str = r#"
set -e
mkdir "$1/dev" && mount -t tmpfs none "$1/dev"
for node in null zero random urandom tty ptmx; do touch "$1/dev/$node"; mount --bind /dev/$node "$1/dev/$node"; done
mkdir "$1/dev/pts" && mount --bind /dev/pts "$1/dev/pts"
mount --bind "$1/dev" /dev
mount -t tmpfs none /run && mkdir -m 755 /run/sshd
/usr/bin/python3 -c '
import re, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("/dev/log")
with open(sys.argv[1], "ab", buffering=0) as log:
    while True:
        m = re.match(rb"<\d+>(\w+ [ \d]\d [\d:]+) (.*)", s.recv(65536), re.S)
        log.write(m[1] + b" web " + m[2].rstrip(b"\n\0").replace(b"\n", b" ") + b"\n")
' "$1/auth.log" &
while [ ! -S /dev/log ]; do sleep 0.05; done
exec /usr/sbin/sshd -D -f "$1/sshd_config"
"#;

/// Tries to log in from this address with passwords that are wrong. Who is banned while he does hears nothing any more.
fn guess(bench: &Bench, at: &Path, from: &str, user: &str) {
    let askpass = at.join("askpass");
    drop(
        bench
            .outside(&[
                "timeout",
                "15",
                "ssh",
                "-F",
                "none",
                "-b",
                from,
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "NumberOfPasswordPrompts=3", "-o", "PubkeyAuthentication=no", "-o", "ConnectTimeout=5"])
            .args([&format!("{user}@{HOST}"), "true"])
            .env("SSH_ASKPASS", askpass)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .output()
            .expect("install openssh-client"),
    );
}

#[test]
fn a_brute_force_on_sshd_is_banned_and_who_has_a_key_never_is() {
    let bench = Bench::new();
    let jails = SSHD.replace("[sshd]\n", "[sshd]\nport = 22\n");
    let folder = folder(&jails, "", "");
    let at = folder.path().to_path_buf();
    let file = |name: &str| at.join(name).to_str().expect("UTF-8").to_owned();
    for key in ["host_key", "user_key"] {
        done(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &file(key)]);
    }
    done(&["cp", &file("user_key.pub"), &file("keys")]);
    put_script("#!/bin/sh\necho wrong\n", &at.join("askpass"));
    let configuration = format!(
        "ListenAddress {HOST}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
         PasswordAuthentication yes\nUseDNS no\nPidFile none\nMaxStartups 100\n",
        file("host_key"),
        file("keys")
    );
    std::fs::write(at.join("sshd_config"), configuration).expect("written");
    append(&at.join("auth.log"), "");
    let _sshd =
        bench.daemon(&["unshare", "-m", "--propagation", "private", "sh", "-c", SYSLOG_AND_SSHD, "sh", &file("")]);
    let _other = bench.listen(&[8080]);
    let up = bench.up(folder);
    assert_eq!(ready(&at)["enforced"], true);
    eventually("sshd to listen", || (bench.reach(OTHER, 22, 1.0) == "open").then_some(()));

    // Somebody who has a key is let in, and may mistype as often as he likes.
    let login = bench
        .outside(&["ssh", "-F", "none", "-b", OTHER, "-i", &file("user_key"), "-o", "BatchMode=yes"])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            &format!("root@{HOST}"),
            "echo in; sleep 15",
        ])
        .output()
        .expect("install openssh-client");
    assert!(String::from_utf8_lossy(&login.stdout).contains("in"), "{}", transcript(&login));
    eventually("the login to be remembered", || {
        ask(&at, &["allow"])?.as_array()?.iter().any(|allowed| allowed["network"] == OTHER).then_some(())
    });
    guess(&bench, &at, OTHER, "root");
    guess(&bench, &at, OTHER, "nobody-here");
    eventually("the failures to be spared", || {
        entries(&at, "guard.spared").iter().any(|spared| spared["address"] == OTHER).then_some(())
    });

    // Somebody who guesses is banned from the port of ssh, within his first connection.
    guess(&bench, &at, ATTACKER, "admin");
    until_banned(&at, ATTACKER, "sshd");
    bench.is_dropped(ATTACKER, 22);
    bench.is_open(ATTACKER, 8080);
    bench.is_open(OTHER, 22);
    assert_eq!(banned(&at), [format!("{ATTACKER} sshd")]);
    let entry = eventually("the entry", || entries(&at, "guard.banned").pop());
    assert_eq!(
        (&entry["address"], &entry["rule"], &entry["log"], &entry["enforced"]),
        (&ATTACKER.into(), &"sshd".into(), &file("auth.log").into(), &true.into()),
        "{entry}"
    );
    drop(up.stop());
}

#[test]
fn guesses_at_a_password_of_nginx_are_banned_from_its_ports() {
    let bench = Bench::new();
    let jails = "[nginx-http-auth]\nenabled = true\nlogpath = @/error.log\nmaxretry = 3\nbackend = auto\n";
    let folder = folder(jails, "", "");
    let at = folder.path().to_path_buf();
    let place = at.to_str().expect("UTF-8");
    std::fs::write(at.join("users"), "shop:{PLAIN}right\n").expect("written");
    std::fs::write(
        at.join("nginx.conf"),
        format!(
            "daemon off; pid {place}/nginx.pid; error_log {place}/error.log; events {{}}\n\
             http {{ access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f;\n\
             uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
             server {{ listen 80; location / {{ auth_basic shop; auth_basic_user_file {place}/users; return 200; }} \n\
             location /in {{ auth_basic shop; auth_basic_user_file {place}/users; try_files /none /none; }} }} }}\n"
        ),
    )
    .expect("written");
    let _nginx = bench.daemon(&["nginx", "-p", place, "-c", &format!("{place}/nginx.conf")]);
    let _other = bench.listen(&[8080]);
    let up = bench.up(folder);
    assert_eq!(ready(&at)["enforced"], true);
    eventually("nginx to listen", || (bench.reach(OTHER, 80, 1.0) == "open").then_some(()));
    for (from, count) in [(OTHER, 2), (ATTACKER, 3)] {
        for number in 0..count {
            let user = format!("guest{number}:wrong");
            let url = format!("http://{HOST}/in");
            let asked = bench
                .outside(&[
                    "curl",
                    "-s",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    "--interface",
                    from,
                    "-u",
                    &user,
                    &url,
                ])
                .output()
                .expect("install curl");
            assert_eq!(String::from_utf8_lossy(&asked.stdout), "401", "{}", transcript(&asked));
        }
    }
    until_banned(&at, ATTACKER, "nginx-http-auth");
    bench.is_dropped(ATTACKER, 80);
    bench.is_open(ATTACKER, 8080);
    bench.is_open(OTHER, 80);
    assert_eq!(banned(&at), [format!("{ATTACKER} nginx-http-auth")]);
    drop(up.stop());
}

#[test]
fn the_journal_of_systemd_is_followed_and_no_entry_counts_twice() {
    let remote = "/usr/lib/systemd/systemd-journal-remote";
    assert!(Path::new(remote).exists(), "install systemd-journal-remote");
    let bench = Bench::new();
    let jails = "[sshd]\nenabled = true\nbackend = systemd[journalpath=@/journal]\nmaxretry = 4\n";
    let folder = folder(jails, "", "");
    let at = folder.path().to_path_buf();
    std::fs::create_dir(at.join("journal")).expect("made");
    let mut writer = crate::harness::command(remote)
        .args(["-o", at.join("journal/remote.journal").to_str().expect("UTF-8"), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut entry = 0_u64;
    let mut tell = |address: &str, count: usize| {
        let stdin = writer.stdin.as_mut().expect("piped");
        for _ in 0..count {
            entry += 1;
            let now = crate::harness::wall_micros();
            write!(
                stdin,
                "__CURSOR=s=0123456789abcdef0123456789abcdef;i={entry:x};b=11111111111111111111111111111111;m={entry:x};t={now:x};x={entry:x}\n\
                 __REALTIME_TIMESTAMP={now}\n__MONOTONIC_TIMESTAMP={entry}\n_BOOT_ID=11111111111111111111111111111111\n\
                 _HOSTNAME=web\n_COMM=sshd\n_SYSTEMD_UNIT=ssh.service\nSYSLOG_IDENTIFIER=sshd\n_PID=812\nPRIORITY=6\n\
                 MESSAGE=Failed password for root from {address} port 40000 ssh2\n\n"
            )
            .expect("written");
        }
        stdin.flush().expect("written");
    };
    // Debian's match of the jail, and entries of before.
    tell("10.97.5.1", 1);
    eventually("a journal", || at.join("journal/remote.journal").exists().then_some(()));
    let up = bench.up(folder);
    assert_eq!(ready(&at)["enforced"], true);
    tell("10.97.5.2", 4);
    until_banned(&at, "10.97.5.2", "sshd");
    tell("10.97.5.3", 2);
    tell("10.97.5.1", 2);
    let failures = || ask(&at, &["status"]).and_then(|status| status["rules"][0]["failures"].as_u64());
    eventually("all entries to be read", || (failures()? == 9).then_some(()));
    pause(1.5);

    // Killed in between: what was counted is not counted again, and counts on.
    let agent = super::bench::agent(&at);
    super::bench::signal(agent, "KILL");
    tell("10.97.5.4", 4);
    until_banned(&at, "10.97.5.4", "sshd");
    tell("10.97.5.3", 1);
    tell("10.97.5.1", 1);
    until_banned(&at, "10.97.5.1", "sshd");
    pause(0.5);
    assert_eq!(banned(&at), ["10.97.5.1 sshd", "10.97.5.2 sshd", "10.97.5.4 sshd"]);
    drop(up.stop());
    drop(writer.stdin.take());
    drop(writer.wait());
}
