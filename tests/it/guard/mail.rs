//! Attacks on a real postfix: who relays and who guesses passwords is banned by fail2ban's own filters, unmodified.

use std::path::Path;

use super::bench::{ATTACKER, Bench, HOST, OPERATOR, OTHER, banned, entries, folder, ready, until_banned};
use crate::harness::{eventually, transcript};

/// Debian's jails, with the log of this postfix.
const JAILS: &str = "
[DEFAULT]
backend = auto
logpath = @/mail.log
maxretry = 3
[postfix]
enabled = true
logpath = @/mail.log
[postfix-sasl]
enabled = true
logpath = @/mail.log
";

/// The parts of postfix that a refused mail needs, and its own log.
const MASTER: &str = "smtp inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
";

/// A postfix of its own, stopped at the end: what it starts is in sessions of its own.
struct Postfix<'a> {
    bench: &'a Bench,
    conf: String,
}

impl<'a> Postfix<'a> {
    fn start(bench: &'a Bench, at: &Path) -> Self {
        let place = at.to_str().expect("UTF-8");
        let conf = format!("{place}/postfix");
        for name in ["postfix", "queue", "lib", "sasl"] {
            std::fs::create_dir(at.join(name)).expect("made");
        }
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {place}/queue\ndata_directory = {place}/lib\n\
             maillog_file = {place}/mail.log\nmaillog_file_prefixes = {place}\ninet_interfaces = all\n\
             inet_protocols = ipv4\nmyhostname = web.example\nmydestination = web.example\nmynetworks = 127.0.0.1\n\
             smtpd_peername_lookup = no\nsmtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
             smtpd_sasl_auth_enable = yes\ncyrus_sasl_config_path = {place}/sasl\n"
        );
        std::fs::write(at.join("postfix/main.cf"), main).expect("written");
        std::fs::write(at.join("postfix/master.cf"), MASTER).expect("written");
        let sasl = format!(
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {place}/users\nmech_list: PLAIN LOGIN\n"
        );
        std::fs::write(at.join("sasl/smtpd.conf"), sasl).expect("written");
        bench.on_host(&["chown", "postfix", &format!("{place}/lib")]);
        let postfix = Self { bench, conf };
        let started = postfix.run("start");
        assert!(started.status.success(), "install postfix: {}", transcript(&started));
        postfix
    }

    fn run(&self, what: &str) -> std::process::Output {
        self.bench.host(&["postfix", "-c", &self.conf, what]).output().expect("install postfix")
    }
}

impl Drop for Postfix<'_> {
    fn drop(&mut self) {
        drop(self.run("abort"));
    }
}

/// Talks to postfix from this address; what it answered last, or nothing, within 30 seconds.
fn client(bench: &Bench, from: &str, talk: &str) -> String {
    client_within(bench, from, talk, 30)
}

/// The same within so many seconds, for who is banned meanwhile.
fn client_within(bench: &Bench, from: &str, talk: &str, within: u32) -> String {
    let program = format!(
        "import smtplib, socket\ntry:\n    s = smtplib.SMTP('{HOST}', 25, 'x', timeout={within}, source_address=('{from}', 0))\n    s.ehlo()\n    \
         {talk}\nexcept (OSError, smtplib.SMTPException) as e: print(e)"
    );
    let output = bench.outside(&["/usr/bin/python3", "-c", &program]).output().expect("install python3");
    assert!(output.status.success(), "{}", transcript(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn who_relays_and_who_guesses_passwords_of_postfix_is_banned() {
    let bench = Bench::new();
    let folder = folder(JAILS, "", "");
    let at = folder.path().to_path_buf();
    super::bench::append(&at.join("mail.log"), "");
    let _postfix = Postfix::start(&bench, &at);
    let _other = bench.listen(&[8080]);
    let up = bench.up(folder);
    assert_eq!(ready(&at)["enforced"], true);
    let greeting = "print(s.noop())";
    eventually("postfix to answer", || client(&bench, OPERATOR, greeting).contains("250").then_some(()));
    let relay = "s.mail('a@else.example'); print(s.rcpt('b@other.example'))";
    let guess = "s.login('shop', 'wrong')";
    for _ in 0..3 {
        let refused = client(&bench, ATTACKER, relay);
        assert!(refused.contains("Relay access denied"), "{refused}");
    }
    until_banned(&at, ATTACKER, "postfix");
    // One connection tries PLAIN and LOGIN.
    for _ in 0..3 {
        let refused = client_within(&bench, OTHER, guess, 4);
        assert!(refused.contains("authentication failed") || refused.contains("timed out"), "{refused}");
    }
    until_banned(&at, OTHER, "postfix-sasl");
    for from in [ATTACKER, OTHER] {
        bench.is_dropped(from, 25);
        bench.is_open(from, 8080);
    }
    assert!(client(&bench, OPERATOR, greeting).contains("250"));
    assert_eq!(banned(&at), [format!("{ATTACKER} postfix"), format!("{OTHER} postfix-sasl")]);
    eventually("the entries", || (entries(&at, "guard.banned").len() == 2).then_some(()));
    drop(up.stop());
}
