//! The logs that are judged: lines of a usual day, of which one in a hundred is of an attacker; there are 500 of them.

use std::fmt::Write as _;

/// Of each hundred lines, the one that is of an attacker.
const HOSTILE: u32 = 37;
/// Lines of one second.
const PER_SECOND: u32 = 50;
const USERS: [&str; 8] = ["root", "admin", "test", "oracle", "ubuntu", "git", "deploy", "postgres"];
const BROWSERS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
];
const PROBED: [&str; 4] = ["phpmyadmin", "webmail", "cgi-bin", "mysqladmin"];

/// What a log is of.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// `auth.log` of a host with sshd, cron and sudo.
    Auth,
    /// An access log, in which somebody looks for what may be installed.
    Nginx,
    /// An access log, in which addresses are collected.
    Apache,
}

/// A log of so many lines.
pub(crate) fn log(kind: Kind, lines: u32) -> String {
    let mut text = String::new();
    for line in 0..lines {
        let written = match kind {
            Kind::Auth => auth(&mut text, line),
            Kind::Nginx | Kind::Apache => access(&mut text, line, matches!(kind, Kind::Nginx)),
        };
        debug_assert!(written.is_ok(), "a string takes all that is written");
        text.push('\n');
    }
    text
}

fn attacker(line: u32) -> String {
    let number = line / 100 % 500;
    format!("198.51.{}.{}", 100 + number / 250, 1 + number % 250)
}

fn pick<'a>(of: &[&'a str], line: u32) -> &'a str {
    of[(line.wrapping_mul(2_654_435_761) >> 16) as usize % of.len()]
}

fn clock(line: u32) -> String {
    let second = line / PER_SECOND;
    format!("{:02}:{:02}:{:02}", 10 + second / 3600, second / 60 % 60, second % 60)
}

fn auth(to: &mut String, n: u32) -> std::fmt::Result {
    let (pid, port, user) = (1000 + n % 30_000, 1024 + n.wrapping_mul(7919) % 60_000, pick(&USERS, n));
    write!(to, "Nov 29 {} web1 ", clock(n))?;
    if n % 100 == HOSTILE {
        let from = attacker(n);
        return match n / 100 % 4 {
            0 => write!(to, "sshd[{pid}]: Failed password for {user} from {from} port {port} ssh2"),
            1 => write!(to, "sshd[{pid}]: Invalid user {user}{n} from {from} port {port}"),
            2 => write!(to, "sshd[{pid}]: Failed password for invalid user {user} from {from} port {port} ssh2"),
            _ => write!(
                to,
                "sshd[{pid}]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={from}  user={user}"
            ),
        };
    }
    let from = format!("10.1.{}.{}", n % 200, n % 250);
    match n % 8 {
        0 => write!(
            to,
            "sshd[{pid}]: Accepted publickey for {user} from {from} port {port} ssh2: ED25519 SHA256:{n:043}"
        ),
        1 => write!(to, "sshd[{pid}]: pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)"),
        2 => write!(to, "sshd[{pid}]: pam_unix(sshd:session): session closed for user {user}"),
        3 => write!(to, "CRON[{pid}]: pam_unix(cron:session): session opened for user {user}(uid=0) by (uid=0)"),
        4 => write!(to, "CRON[{pid}]: pam_unix(cron:session): session closed for user {user}"),
        5 => write!(
            to,
            "sudo:   {user} : TTY=pts/1 ; PWD=/srv/app/{n} ; USER=root ; COMMAND=/usr/bin/systemctl status app"
        ),
        6 => write!(to, "sshd[{pid}]: Received disconnect from {from} port {port}:11: disconnected by user"),
        _ => write!(to, "systemd-logind[612]: New session {n} of user {user}."),
    }
}

fn access(to: &mut String, n: u32, is_nginx: bool) -> std::fmt::Result {
    let (time, browser) = (clock(n), pick(&BROWSERS, n));
    if n % 100 != HOSTILE {
        let status = if n % 40 == 5 { 404 } else { 200 };
        return write!(
            to,
            "10.{}.{}.{} - - [29/Nov/2026:{time} +0000] \"GET /products/{}/view?page={} HTTP/1.1\" {status} {} \
             \"https://shop.example/{}\" \"{browser}\"",
            n % 7,
            n % 200,
            n % 250,
            n % 977,
            n % 13,
            5000 + n % 9999,
            n % 31
        );
    }
    let from = attacker(n);
    if is_nginx {
        let path = pick(&PROBED, n);
        write!(
            to,
            "{from} - - [29/Nov/2026:{time} +0000] \"GET /{path}/index.php?id={n} HTTP/1.1\" 404 153 \"-\" \"{browser}\""
        )
    } else {
        write!(
            to,
            "{from} - - [29/Nov/2026:{time} +0000] \"GET /contact/{n} HTTP/1.1\" 200 4153 \"-\" \"EmailCollector\""
        )
    }
}
