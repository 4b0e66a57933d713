//! NH-1: what becomes of a configuration is told, with file, line and reason.

use std::fs;

use super::*;
use crate::fail2ban::read_jails;

/// The report of a small configuration of our own: no fail2ban is needed.
fn report(local: &str) -> ImportReport {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "jail.conf",
        "[DEFAULT]\nbantime = 1h 30m\nfindtime = 10m\nmaxretry = 5\nport = 0:65535\n\n[web]\nlogpath = /var/log/web.log\nfilter = web\n",
    );
    write("jail.local", local);
    write("filter.d/web.conf", "[Definition]\nfailregex = ^from <HOST>$\n");
    write(
        "action.d/nftables.conf",
        "[Definition]\ntype = multiport\nactionban = nft <ip>\n[Init]\nport = ssh\nprotocol = tcp\nblocktype = reject\n",
    );
    write("action.d/sendmail-whois-lines.conf", "[Definition]\nactionban = mail <dest>\n[Init]\ndest = root\n");
    write(
        "action.d/cloud.conf",
        "[Definition]\nactionban = curl -d <ip> <url>\n            echo <F-USER>\n[Init]\nurl = http://cloud/<name>\n",
    );
    let jails = read_jails(dir.path()).unwrap();
    let mut report = import_report(&jails, &Services::parse("www 80/tcp http\n"));
    // Where the test put it is not part of what is told.
    for line in report.maps.iter_mut().chain(&mut report.changes).chain(&mut report.refused) {
        line.what = line.what.replace(&dir.path().display().to_string(), "");
        if let Some(place) = &mut line.place {
            place.file = place.file.strip_prefix(dir.path()).unwrap().into();
        }
    }
    report
}

fn told(lines: &[ImportLine]) -> Vec<String> {
    lines
        .iter()
        .map(|line| format!("{}: {}", line.place.as_ref().map(Place::to_string).unwrap_or_default(), line.what))
        .collect()
}

#[test]
fn bans_map_mail_changes_and_commands_are_refused() {
    let report = report(
        "[web]\nenabled = true\nport = http,8000:8010\nignorecommand = /usr/bin/ask <ip>\nignoreip = 192.0.2.0/24, office.example\n\
         action = nftables[port=\"%(port)s\", protocol=tcp, blocktype=drop]\n         sendmail-whois-lines[dest=ops@shop.example]\n         cloud[key=hunter2]\n",
    );
    assert_eq!(
        told(&report.maps),
        [
            "jail.conf:8: /var/log/web.log with the filter web (1 patterns): banned at 5 failures in 600 s, for 5400 s",
            "jail.local:6: nftables becomes a ban in garant's own table of the packet filter, of the TCP ports http, 8000-8010",
        ]
    );
    assert_eq!(
        told(&report.changes),
        [
            "jail.local:6: sendmail-whois-lines becomes a message by garant's own notifications, without lines of the log and without \
          whois: say in the policy who is to be told; fail2ban wrote to ops@shop.example"
        ]
    );
    assert_eq!(
        told(&report.refused),
        [
            "jail.local:4: `ignorecommand`: no command is run on what stands in a log, so `/usr/bin/ask <ip>` would not be asked: \
             the jail is not followed until it is gone. Write the addresses that it would spare in `ignoreip`",
            "jail.local:5: `ignoreip`: the name `office.example` is not looked up, for who answers for it could change whom it spares: \
             the jail is not followed until its addresses stand there instead",
            "jail.local:6: cloud is not taken over: garant runs no command of others; it would run: curl -d <ip> <url>; \
             echo <F-USER>",
        ]
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["refused"][2]["place"], "jail.local:6");
    assert!(report.text().contains("Refused: 3\n"), "{}", report.text());
    // What is given to an action may be a secret.
    assert!(!json.to_string().contains("hunter2") && !report.text().contains("hunter2"));
}

/// Debian's jail `pass2allow-ftp` is of this kind: to ban whom it finds would be the contrary.
#[test]
fn an_action_that_lets_in_whom_it_finds_is_refused() {
    let report = report("[web]\nenabled = true\naction = nftables[blocktype=RETURN, returntype=DROP]\n");
    assert_eq!(
        told(&report.refused),
        [
            "jail.local:3: nftables is not taken over: it lets in whom it finds, by its `blocktype` or `returntype`, and garant only \
          bans; it would run: nft <ip>"
        ]
    );
    assert_eq!(report.maps.len(), 1, "only its detection");
}

#[test]
fn an_address_with_no_length_of_a_network_is_told_and_spared_by_itself() {
    let report = report("[web]\nenabled = true\naction = nftables\nignoreip = localhost 192.0.2.4/99\n");
    assert_eq!(
        told(&report.changes),
        [
            "jail.local:4: `ignoreip`: `192.0.2.4/99` is no network: 192.0.2.4 alone is spared, as in fail2ban; correct it"
        ]
    );
    assert_eq!(report.refused, []);
}

#[test]
fn a_port_without_a_number_closes_all_and_is_told() {
    let report = report("[web]\nenabled = true\naction = nftables[port=\"http,nosuch\"]\n");
    assert_eq!(
        told(&report.changes),
        [
            "jail.local:3: nftables: the port `nosuch` is not in /etc/services: all ports are closed instead; write its number"
        ]
    );
}

#[test]
fn an_empty_port_closes_all_and_is_told() {
    let report = report("[web]\nenabled = true\naction = nftables[port=\"\"]\n");
    assert_eq!(
        told(&report.changes),
        ["jail.local:3: nftables: `port` is empty, with which its command fails: all ports are closed"]
    );
}

/// -1 is for ever, and any other negative time bans nobody, as with fail2ban.
#[test]
fn a_negative_time_bans_nobody() {
    let of = |time: &str| {
        told(&report(&format!("[web]\nenabled = true\naction = nftables\nbantime = {time}\n")).maps).concat()
    };
    assert!(of("-1").contains("for ever"), "{}", of("-1"));
    assert!(of("-3600").contains("for -3600 s, which is nobody"), "{}", of("-3600"));
}

#[test]
fn a_jail_that_is_not_read_is_told_with_file_and_line() {
    let report = report(
        "[web]\nenabled = true\nfilter = nosuch\n[x]\nenabled = true\nfilter = web\nmaxretry = many\nbantime = soon\n",
    );
    let refused = told(&report.refused);
    assert!(
        refused[0].starts_with("jail.local:3: the jail is not read: there is no filter `nosuch` in "),
        "{refused:?}"
    );
    assert_eq!(refused[1], "jail.local:7: the jail is not read: `maxretry = many` is no number: write a whole number");
}
