//! Lines of sshd that tell of a successful login with a key: their addresses are never banned for a while.
//!
//! Only keys count: who guesses a password must not allow himself. What a line holds after the words of sshd is bounded by the words
//! that sshd itself writes, and a user who was accepted is one of this host, so no stranger can write such a line.

use std::net::IpAddr;

/// The address of a login with a key, when the line is sshd's and tells of one:
/// `… sshd[123]: Accepted publickey for deploy from 192.0.2.1 port 50000 ssh2: ED25519 SHA256:…`.
pub(crate) fn key_login(line: &str) -> Option<IpAddr> {
    // The first colon-space ends the name of the program; what others have written comes later.
    let (head, message) = line.split_once("]: ")?;
    let (before, number) = head.rsplit_once('[')?;
    let program = before.rsplit(' ').next()?;
    let is_sshd = matches!(program, "sshd" | "sshd-session") && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_sshd || before.contains(": ") {
        return None;
    }
    let rest = message.strip_prefix("Accepted publickey for ")?;
    let (_user, rest) = rest.split_once(" from ")?;
    let (address, rest) = rest.split_once(" port ")?;
    let (port, _) = rest.split_once(' ')?;
    port.parse::<u16>().ok()?;
    address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_with_a_key_is_known() {
        for (line, expected) in [
            (
                "Nov 29 10:00:01 web sshd[812]: Accepted publickey for deploy from 192.0.2.7 port 50022 ssh2: ED25519 SHA256:x",
                Some("192.0.2.7"),
            ),
            (
                "2026-11-29T10:00:01.5+01:00 web sshd-session[9]: Accepted publickey for a from ::ffff:192.0.2.7 port 1 ssh2",
                Some("192.0.2.7"),
            ),
            ("Nov 29 10:00:01 web sshd[8]: Accepted password for a from 192.0.2.7 port 50022 ssh2", None),
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
            assert_eq!(key_login(line), expected.map(|text| text.parse().expect("an address")), "{line}");
        }
    }
}
