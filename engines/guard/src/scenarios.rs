//! Rules of garant's own, for a host without fail2ban: few, anchored at both ends where a stranger writes in between.
//!
//! They are written in the language of filters, so one matcher serves both.

use std::path::Path;

use event::Span;

use crate::act::Protocol;
use crate::fail2ban::FilterDefinition;
use crate::plan::SourcePlan;
use crate::source::{Follow, JournalSettings, Start};

/// A rule with the logs of Debian that it reads.
pub(crate) struct Scenario {
    /// Name, as in the policy and in bans.
    pub(crate) name: &'static str,
    /// Patterns of a failure.
    patterns: &'static [&'static str],
    /// Logs, and the unit of systemd to read where none of them is there.
    pub(crate) logs: &'static [&'static str],
    pub(crate) units: &'static [&'static str],
    /// Ports that a ban closes, of these protocols.
    pub(crate) ports: &'static [(u16, u16)],
    pub(crate) protocol: Protocol,
}

/// All of them.
pub(crate) const SCENARIOS: &[Scenario] = &[
    // Logins to sshd that fail.
    Scenario {
        name: "sshd",
        patterns: &[
            r"^\s*\S+ sshd(?:-session)?\[\d+\]: Failed (?:password|publickey|keyboard-interactive/pam) for (?!invalid user )<F-USER>.{1,256}</F-USER> from <ADDR> port \d+ ssh2(?:: .{1,256})?$",
            r"^\s*\S+ sshd(?:-session)?\[\d+\]: Invalid user <F-USER>.{0,256}</F-USER> from <ADDR>(?: port \d+)?$",
            r"^\s*\S+ sshd(?:-session)?\[\d+\]: User <F-USER>.{1,256}</F-USER> from <ADDR> not allowed because .{1,256}$",
            r"^\s*\S+ sshd(?:-session)?\[\d+\]: Unable to negotiate with <ADDR> port \d+: no matching .{1,256}$",
        ],
        logs: &["/var/log/auth.log", "/var/log/secure"],
        units: &["ssh.service", "sshd.service"],
        ports: &[(22, 22)],
        protocol: Protocol::Tcp,
    },
    // Passwords of HTTP that nginx refuses.
    Scenario {
        name: "nginx-auth",
        patterns: &[
            r#"^\s*\[error\] \d+#\d+: \*\d+ user "(?:[^"]{0,256})":? (?:password mismatch|was not found in "[^"]{1,256}"), client: <ADDR>, server: "#,
        ],
        logs: &["/var/log/nginx/error.log"],
        units: &[],
        ports: &[(80, 80), (443, 443)],
        // HTTP/3 is UDP.
        protocol: Protocol::Both,
    },
    // Requests to nginx or Apache for what attackers look for, answered 4xx.
    Scenario {
        name: "web-probes",
        patterns: &[
            r#"^<ADDR> \S+ \S+ \[\] "(?:GET|POST|HEAD) /(?:[^"? ]{0,256}/)?(?:\.env|\.git/|\.aws/|wp-login\.php|wp-config\.php|xmlrpc\.php|phpmyadmin|pma/|phpunit/|vendor/phpunit|cgi-bin/|boaform/|actuator/|solr/|manager/html)[^" ]{0,1024} HTTP/[\d.]+" 4\d\d "#,
        ],
        logs: &["/var/log/nginx/access.log", "/var/log/apache2/access.log", "/var/log/apache2/other_vhosts_access.log"],
        units: &[],
        ports: &[(80, 80), (443, 443)],
        // HTTP/3 is UDP.
        protocol: Protocol::Both,
    },
    // Logins to postfix that fail.
    Scenario {
        name: "postfix-sasl",
        patterns: &[
            r"^\s*\S+ postfix(?:/[\w-]{1,32}){0,2}/smtpd\[\d+\]: warning: \S{1,256}\[<ADDR>\]: SASL \S{1,64} authentication failed(?::|,|$)",
        ],
        logs: &["/var/log/mail.log", "/var/log/maillog"],
        units: &["postfix@-.service", "postfix.service"],
        ports: &[(25, 25), (465, 465), (587, 587)],
        protocol: Protocol::Tcp,
    },
    // Logins to dovecot that fail.
    Scenario {
        name: "dovecot",
        patterns: &[
            r"^\s*\S+ dovecot(?:\[\d+\])?: (?:imap|pop3|managesieve|submission)-login: .{0,512}\(auth failed, \d+ attempts in \d+ secs\).{0,512}, rip=<ADDR>, lip=[\da-fA-F.:]{3,45}(?:, (?:TLS|session=<[^<>]{1,64}>|secured|mpid=\d+|STARTTLS)(?:: [^<>,]{1,128})?)*$",
        ],
        logs: &["/var/log/mail.log", "/var/log/maillog"],
        units: &["dovecot.service"],
        ports: &[(110, 110), (143, 143), (993, 993), (995, 995), (4190, 4190)],
        protocol: Protocol::Tcp,
    },
    // Logins to MariaDB or MySQL that fail.
    Scenario {
        name: "mariadb",
        patterns: &[r"^\s*\d* ?\[Warning\] Access denied for user '.{0,256}'@'<ADDR>' \(using password: (?:YES|NO)\)$"],
        logs: &["/var/log/mysql/error.log", "/var/log/mysql/mariadb.log", "/var/log/mariadb/mariadb.log"],
        units: &["mariadb.service"],
        ports: &[(3306, 3306)],
        protocol: Protocol::Tcp,
    },
];

impl Scenario {
    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// It as a filter.
    pub(crate) fn filter(&self) -> FilterDefinition {
        FilterDefinition {
            name: self.name.to_owned(),
            failregex: self.patterns.iter().map(ToString::to_string).collect(),
            maxlines: 1,
            ..FilterDefinition::default()
        }
    }

    /// What it reads of the files below `root`: its logs, as soon as they are there; or the journal of systemd, where there is one and
    /// none of these logs.
    pub(crate) fn source(&self, root: &Path, find_time: Span) -> SourcePlan {
        let has_log = self.logs.iter().any(|log| root.join(log.trim_start_matches('/')).exists());
        let matches = self.units.iter().map(|unit| vec![format!("_SYSTEMD_UNIT={unit}")]).collect();
        let journal = JournalSettings { matches, ..JournalSettings::default() };
        if !has_log && !self.units.is_empty() && journal.missing(root).is_none() {
            return SourcePlan::Journal(journal, find_time);
        }
        let follow = |log: &&str| Follow { pattern: (*log).to_owned(), start: Start::Since(find_time) };
        SourcePlan::Files(self.logs.iter().map(follow).collect())
    }
}

#[cfg(test)]
mod tests {
    use event::{Time, Zone};

    use super::*;
    use crate::fail2ban::filter::{Filter, FilterSettings, NoNames};

    /// Whom a line is counted against.
    fn found(scenario: &str, line: &str) -> Vec<String> {
        let now = Time::parse_rfc3339("2026-11-29T10:00:30Z").expect("a time");
        let scenario = Scenario::named(scenario).expect("there is one");
        let mut filter = Filter::compile(&scenario.filter(), FilterSettings::new(Zone::UTC, now)).expect("it compiles");
        let found = filter.process_line(line, now, &mut NoNames).expect("judged");
        found.iter().filter_map(|one| one.host.as_ref()).map(|host| host.text().to_owned()).collect()
    }

    #[test]
    fn failures_are_counted_once_and_against_whom_they_are_of() {
        for (scenario, line, whom) in [
            (
                "sshd",
                "Nov 29 10:00:01 web sshd[8]: Failed password for root from 192.0.2.7 port 50022 ssh2",
                "192.0.2.7",
            ),
            ("sshd", "Nov 29 10:00:01 web sshd[8]: Invalid user admin from 2001:db8::7 port 50022", "2001:db8::7"),
            (
                "sshd",
                "Nov 29 10:00:01 web sshd[8]: Failed password for invalid user admin from 192.0.2.7 port 5 ssh2",
                "",
            ),
            (
                "sshd",
                "2026-11-29T10:00:01.123456+00:00 web sshd[8]: Unable to negotiate with 192.0.2.7 port 5: no matching key exchange method found. Their offer: x [preauth]",
                "192.0.2.7",
            ),
            (
                "sshd",
                "Nov 29 10:00:01 web sshd[8]: Invalid user x from 6.6.6.6 port 22 from 192.0.2.7 port 50022",
                "192.0.2.7",
            ),
            ("sshd", "Nov 29 10:00:01 web app[8]: sshd[8]: Failed password for root from 6.6.6.6 port 50022 ssh2", ""),
            ("sshd", "Nov 29 10:00:01 web sshd[8]: Accepted password for root from 192.0.2.7 port 50022 ssh2", ""),
            (
                "nginx-auth",
                r#"2026/11/29 10:00:01 [error] 12#12: *3 user "a": password mismatch, client: 192.0.2.7, server: x, request: "GET / HTTP/1.1", host: "x""#,
                "192.0.2.7",
            ),
            (
                "nginx-auth",
                r#"2026/11/29 10:00:01 [error] 12#12: *3 user "a" was not found in "/etc/nginx/pw", client: 192.0.2.7, server: x, request: "GET /, client: 6.6.6.6, server: HTTP/1.1""#,
                "192.0.2.7",
            ),
            (
                "web-probes",
                r#"192.0.2.7 - - [29/Nov/2026:10:00:01 +0000] "GET /blog/wp-login.php HTTP/1.1" 404 153 "-" "x""#,
                "192.0.2.7",
            ),
            (
                "web-probes",
                r#"192.0.2.7 - - [29/Nov/2026:10:00:01 +0000] "GET /wp-login.php HTTP/1.1" 200 153 "-" "x""#,
                "",
            ),
            (
                "web-probes",
                r#"192.0.2.7 - - [29/Nov/2026:10:00:01 +0000] "GET /a?x=/.env HTTP/1.1" 404 153 "-" "x""#,
                "",
            ),
            (
                "web-probes",
                r#"192.0.2.7 - - [29/Nov/2026:10:00:01 +0000] "GET / HTTP/1.1" 404 153 "/.env HTTP/1.1" "6.6.6.6""#,
                "",
            ),
            (
                "postfix-sasl",
                "Nov 29 10:00:01 mx postfix/submission/smtpd[8]: warning: unknown[192.0.2.7]: SASL LOGIN authentication failed: UGFzc3dvcmQ6",
                "192.0.2.7",
            ),
            (
                "postfix-sasl",
                "Nov 29 10:00:01 mx postfix/smtpd[8]: warning: hostname x[6.6.6.6]: SASL LOGIN authentication failed: does not resolve to address 192.0.2.7",
                "",
            ),
            (
                "dovecot",
                "Nov 29 10:00:01 mx dovecot: imap-login: Disconnected: Connection closed (auth failed, 3 attempts in 11 secs): user=<a, rip=6.6.6.6, lip=1.1.1.1>, method=PLAIN, rip=192.0.2.7, lip=192.0.2.1, TLS, session=<abc>",
                "192.0.2.7",
            ),
            (
                "mariadb",
                "2026-11-29 10:00:01 12 [Warning] Access denied for user 'a'@'192.0.2.7' (using password: YES)",
                "192.0.2.7",
            ),
            (
                "mariadb",
                "2026-11-29 10:00:01 12 [Warning] Access denied for user 'a'@'6.6.6.6' (using password: YES)'@'192.0.2.7' (using password: NO)",
                "192.0.2.7",
            ),
        ] {
            let expected: Vec<&str> = if whom.is_empty() { Vec::new() } else { vec![whom] };
            assert_eq!(found(scenario, line), expected, "{scenario}: {line}");
        }
    }

    /// JO-1: where there is no journal of systemd either, a log that is not there yet is waited for, as that of a jail is.
    #[test]
    fn a_log_that_is_not_there_is_waited_for_where_there_is_no_journal() {
        let (folder, within) = (tempfile::tempdir().expect("a folder"), Span::from_secs(600));
        let source = |name| Scenario::named(name).expect("there is one").source(folder.path(), within);
        let files = |source| match source {
            SourcePlan::Files(follows) => follows.into_iter().map(|follow| follow.pattern).collect(),
            SourcePlan::Journal(..) => Vec::new(),
        };
        let logs = ["/var/log/auth.log", "/var/log/secure"];
        assert_eq!(files(source("sshd")), logs);
        let journal = folder.path().join("var/log/journal/0123456789abcdef0123456789abcdef");
        std::fs::create_dir_all(&journal).expect("made");
        std::fs::write(journal.join("system.journal"), "").expect("written");
        assert!(matches!(source("sshd"), SourcePlan::Journal(..)), "{:?}", source("sshd"));
        assert_eq!(files(source("nginx-auth")), ["/var/log/nginx/error.log"], "it is in no journal");
        std::fs::write(folder.path().join("var/log/auth.log"), "").expect("written");
        assert_eq!(files(source("sshd")), logs);
    }

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(SCENARIOS.iter().all(|scenario| !scenario.ports.is_empty()));
        let of_web = |scenario: &Scenario| scenario.ports.contains(&(443, 443));
        assert!(SCENARIOS.iter().filter(|scenario| of_web(scenario)).all(|web| web.protocol == Protocol::Both));
    }
}
