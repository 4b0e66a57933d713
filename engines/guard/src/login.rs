//! Lines of sshd that tell of a successful login. The addresses of those with a key are never banned for a while; all of them tell
//! which process of sshd serves whom.
//!
//! Only keys count for longer than a session: who guesses a password must not allow himself. What a line holds after the words of
//! sshd is bounded by the words that sshd itself writes, and a user who was accepted is one of this host, so no stranger can write
//! such a line. Who runs a program on this host can, into a file: whatever he hands to syslog is written there, under any name. So
//! what a file says is only a hint at which connection is a session, and counts once the kernel says that it is one
//! ([`Sessions`](crate::act::Sessions)); journald says itself who has written an entry.

use std::net::{IpAddr, SocketAddr};

/// A successful login to sshd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Login {
    /// The process of sshd that serves the connection.
    pub(crate) process: u32,
    /// The other end.
    pub(crate) from: SocketAddr,
    /// Whether it was with a key.
    pub(crate) by_key: bool,
    /// Whether it is certain that sshd has written the line.
    pub(crate) is_certain: bool,
}

/// The login, when the line is sshd's and tells of one:
/// `… sshd[123]: Accepted publickey for deploy from 192.0.2.1 port 50000 ssh2: ED25519 SHA256:…`.
pub(crate) fn login(line: &str) -> Option<Login> {
    // The first colon-space ends the name of the program; what others have written comes later.
    let (head, message) = line.split_once("]: ")?;
    let (before, number) = head.rsplit_once('[')?;
    let program = before.rsplit(' ').next()?;
    let is_sshd = matches!(program, "sshd" | "sshd-session") && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_sshd || before.contains(": ") {
        return None;
    }
    let (method, rest) = message.strip_prefix("Accepted ")?.split_once(" for ")?;
    if method.contains(' ') {
        return None;
    }
    let (_user, rest) = rest.split_once(" from ")?;
    let (address, rest) = rest.split_once(" port ")?;
    let (port, _) = rest.split_once(' ')?;
    let address = address.parse::<IpAddr>().ok()?.to_canonical();
    let from = SocketAddr::new(address, port.parse().ok()?);
    Some(Login { process: number.parse().ok()?, from, by_key: method == "publickey", is_certain: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_known() {
        for (line, expected) in [
            (
                "Nov 29 10:00:01 web sshd[812]: Accepted publickey for deploy from 192.0.2.7 port 50022 ssh2: ED25519 SHA256:x",
                Some((812, "192.0.2.7:50022", true)),
            ),
            (
                "2026-11-29T10:00:01.5+01:00 web sshd-session[9]: Accepted publickey for a from ::ffff:192.0.2.7 port 1 ssh2",
                Some((9, "192.0.2.7:1", true)),
            ),
            (
                "Nov 29 10:00:01 web sshd[8]: Accepted password for a from 192.0.2.7 port 50022 ssh2",
                Some((8, "192.0.2.7:50022", false)),
            ),
            (
                "Nov 29 10:00:01 web sshd[8]: Accepted keyboard-interactive/pam for a from 2001:db8::7 port 50022 ssh2",
                Some((8, "[2001:db8::7]:50022", false)),
            ),
            (
                "Nov 29 10:00:01 web sshd[8]: Failed password for invalid user Accepted publickey for a from 6.6.6.6 port 1 ssh2 \
                 from 192.0.2.7 port 50022 ssh2",
                None,
            ),
            ("Nov 29 10:00:01 web app[8]: sshd[8]: Accepted publickey for a from 6.6.6.6 port 1 ssh2", None),
            ("Nov 29 10:00:01 web app: sshd[8]: Accepted publickey for a from 6.6.6.6 port 1 ssh2", None),
            ("Nov 29 10:00:01 web sshd[8]: Accepted publickey for a from evil port 1 ssh2", None),
            ("sshd[8]: Accepted publickey", None),
            ("", None),
        ] {
            let found = login(line).map(|login| (login.process, login.from.to_string(), login.by_key));
            let expected = expected.map(|(process, from, by_key)| (process, from.to_owned(), by_key));
            assert_eq!(found, expected, "{line}");
        }
    }
}
