//! Lines that strangers forge to have others banned (CVE-2007-4321, CVE-2013-2178, CVE-2013-7176, CVE-2013-7177, CVE-2012-5642): the counts
//! and the addresses are those of the installed fail2ban-regex, and so are the bans.

use std::collections::BTreeSet;

use serde_json::Value;

use super::bench::{Bench, append, ask, banned, done, folder, ready, run};
use crate::harness::{eventually, garant, transcript};

/// Logs of daemons in which strangers forge: filter, and lines. `10.97.50.x` connects, `10.97.51.x` is whom he wants to be banned. `@` is
/// the date of syslog, `%` that of Apache, `&` that of nginx.
const FORGED: &[(&str, &[&str])] = &[
    // CVE-2007-4321, and its kin.
    (
        "sshd",
        &[
            "@ web sshd[1]: Bad protocol version identification 'Failed password for root from 10.97.51.1 port 1 ssh2' from 10.97.50.1 port 9",
            "@ web sshd[2]: Failed password for invalid user root from 10.97.51.2 port 22 ssh2 from 10.97.50.2 port 9 ssh2",
            "@ web sshd[3]: Invalid user a from 10.97.51.3 from 10.97.50.3 port 9",
            "@ web sshd[4]: Invalid user Failed password for root from 10.97.51.4 port 1 ssh2 from 10.97.50.4",
            "@ web sshd[5]: Connection closed by authenticating user root from 10.97.51.5 port 1 10.97.50.5 port 9 [preauth]",
            "@ web sshd[6]: User root from 10.97.51.6 not allowed because not listed in AllowUsers from 10.97.50.6 not allowed because not listed in AllowUsers",
            "@ web app[7]: sshd[7]: Failed password for root from 10.97.51.7 port 1 ssh2",
            "@ web sshd[8]: Received disconnect from 10.97.50.8 port 9:3: Failed password for root from 10.97.51.8 port 1 ssh2 [preauth]",
        ],
    ),
    // CVE-2013-2178.
    (
        "apache-auth",
        &[
            "[%] [error] [client 10.97.50.11] user 10.97.51.11 not found: /in",
            "[%] [error] [client 10.97.50.12] File does not exist: /var/www/[client 10.97.51.12] user x not found: /in",
            "[%] [error] [client 10.97.50.13] user x: authentication failure for \"/\": Password Mismatch, referer: [client 10.97.51.13] user y not found: /",
            "[%] [error] [client x] [client 10.97.51.14] user y not found: /",
        ],
    ),
    (
        "apache-noscript",
        &[
            "[%] [error] [client 10.97.50.16] script '/var/www/[client 10.97.51.16] script '/x.php' not found or unable to stat'",
            "[%] [error] [client 10.97.50.17] script '/var/www/x.php' not found or unable to stat, referer: [client 10.97.51.17] script '/y.php' not found or unable to stat",
            "[%] [error] [client 10.97.50.18] script '/var/www/x.php' not found or unable to stat",
        ],
    ),
    // CVE-2013-7176.
    (
        "postfix",
        &[
            "@ web postfix/smtpd[1]: NOQUEUE: reject: RCPT from example.com[10.97.50.21]: 554 5.7.1 <a@b>: Relay access denied; from=<x@example.com[10.97.51.21]: 554 5.7.1> to=<a@b> proto=ESMTP helo=<RCPT from x[10.97.51.21]: 554 5.7.1 >",
            "@ web postfix/smtpd[1]: NOQUEUE: reject: RCPT from RCPT from x[10.97.51.22]: 554 5.7.1 [10.97.50.22]: 554 5.7.1 <a@b>: Relay access denied; from=<x> to=<a@b> proto=ESMTP helo=<y>",
            "@ web postfix/smtpd[1]: warning: hostname example.com[10.97.51.23]: SASL LOGIN does not resolve to address 10.97.50.23",
        ],
    ),
    // CVE-2013-7177.
    (
        "cyrus-imap",
        &[
            "@ web cyrus/imapd[1]: badlogin: x[10.97.51.26] plaintext y SASL(-13): authentication failure: [10.97.50.26] plaintext z SASL(-13): authentication failure: checkpass failed",
        ],
    ),
    // CVE-2012-5642.
    (
        "proftpd",
        &[
            "@ web proftpd[1]: web (x[10.97.50.29]) - USER a: no such user found from y [10.97.51.29] to 10.0.0.1:21: no such user found from x [10.97.50.29] to 10.0.0.1:21",
            "@ web proftpd[1]: web (x[10.97.50.28]) - USER a (y[10.97.51.28]): no such user found from x [10.97.51.28] to 1.1.1.1:21: no such user found from x [10.97.50.28] to 10.0.0.1:21",
        ],
    ),
    (
        "nginx-http-auth",
        &[
            "& [error] 1#1: *1 user \"a\" was not found in \"x\", client: 10.97.51.31, server: y\": password mismatch, client: 10.97.50.31, server: y, request: \"GET / HTTP/1.1\", host: \"y\"",
            "& [error] 1#1: *1 user \"b\": password mismatch, client: 10.97.50.32, server: y, request: \"GET /, client: 10.97.51.32, server: y, request: \"GET / HTTP/1.1\", host: \"y\"",
        ],
    ),
    (
        "dovecot",
        &[
            "@ web dovecot: imap-login: Disconnected (auth failed, 1 attempts in 2 secs): user=<x>, rip=10.97.51.41, lip=1.1.1.1, method=PLAIN>, method=PLAIN, rip=10.97.50.41, lip=10.0.0.1, TLS",
            "@ web dovecot: imap-login: Disconnected (auth failed, 1 attempts in 2 secs): user=<x>, method=PLAIN, rip=10.97.50.42, lip=10.0.0.1, session=<rip=10.97.51.42, lip=1>",
            "@ web dovecot: imap-login: Aborted login (auth failed, 1 attempts in 2 secs): user=<rip=10.97.51.43, lip=1>, method=PLAIN, rip=10.97.50.43, lip=10.0.0.1, session=<x>",
        ],
    ),
];

/// What fail2ban-regex prints of a filter and a log.
fn asked(filter: &str, log: &str, more: &[&str]) -> String {
    let asked = run(&[&["/usr/bin/fail2ban-regex", "--usedns=no"], more, &[log, filter]].concat());
    assert!(asked.status.success(), "install fail2ban: {}", transcript(&asked));
    String::from_utf8(asked.stdout).expect("UTF-8")
}

#[test]
fn forged_lines_ban_only_whom_fail2ban_bans() {
    let bench = Bench::new();
    let jail = |filter: &str| {
        format!(
            "[{filter}]\nenabled = true\nfilter = {filter}\nlogpath = @/{filter}.log\nmaxretry = 1\nbackend = auto\n"
        )
    };
    let jails: String = FORGED.iter().map(|(filter, _)| jail(filter)).collect();
    let folder = folder(&jails, "", "");
    let at = folder.path().to_path_buf();
    for (filter, _) in FORGED {
        append(&at.join(format!("{filter}.log")), "");
    }
    let up = bench.up(folder);
    let status = ready(&at);
    assert_eq!(status["impaired"], serde_json::json!([]), "{status}");
    let dates = [("@", "+%b %e %H:%M:%S"), ("%", "+%a %b %d %H:%M:%S %Y"), ("&", "+%Y/%m/%d %H:%M:%S")]
        .map(|(mark, format)| (mark, done(&["date", format]).trim().to_owned()));
    let (mut expected, mut count) = (BTreeSet::new(), 0);
    for (filter, lines) in FORGED {
        let log = at.join(format!("{filter}.log"));
        for line in *lines {
            // Only the first mark is a date.
            let line = dates.iter().fold((*line).to_owned(), |line, (mark, date)| {
                if line.trim_start_matches('[').starts_with(mark) { line.replacen(mark, date, 1) } else { line }
            });
            append(&log, format!("{line}\n"));
            count += 1;
        }
        let log = log.to_str().expect("UTF-8");
        let hosts: Vec<String> = asked(filter, log, &["-o", "ip"]).split_whitespace().map(ToOwned::to_owned).collect();
        assert!(!hosts.is_empty(), "fail2ban finds nothing by {filter}");
        let ours = garant(&["guard", "test", filter, log, "--json"]);
        assert!(ours.status.success(), "{}", transcript(&ours));
        let ours: Value = serde_json::from_slice(&ours.stdout).expect("JSON");
        let said = format!(
            "Lines: {} lines, {} ignored, {} matched, {} missed",
            ours["lines"], ours["ignored"], ours["matched"], ours["missed"]
        );
        assert!(asked(filter, log, &[]).contains(&said), "{filter}: {said} is not what fail2ban-regex counts");
        let matches = ours["matches"].as_array().expect("an array").iter();
        assert_eq!(matches.map(|found| found["host"].as_str().expect("text")).collect::<Vec<_>>(), hosts, "{filter}");
        expected.extend(hosts.into_iter().map(|host| format!("{host} {filter}")));
    }
    eventually("all lines to be read", || (ask(&at, &["status"])?["lines"].as_u64()? >= count).then_some(()));
    let expected: Vec<String> = expected.into_iter().collect();
    eventually("the bans of fail2ban", || (banned(&at).len() >= expected.len()).then_some(()));
    assert_eq!(banned(&at), expected);
    drop(up.stop());
}
