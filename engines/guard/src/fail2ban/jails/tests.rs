//! NH-1: jails are read as the installed fail2ban reads them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::reader::oracle::{CONFIG, Oracle, TEST_CONFIG};
use super::*;
use crate::fail2ban::UseDns;

/// A copy of the installed configuration by links, with a `jail.local` of our own.
fn with_local(dir: &Path, local: &str) -> PathBuf {
    let copy = dir.join("fail2ban");
    std::fs::create_dir(&copy).unwrap();
    for entry in Path::new(CONFIG).read_dir().expect("install fail2ban, as scripts/test does") {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "jail.local" {
            symlink(&path, copy.join(name)).unwrap();
        }
    }
    std::fs::write(copy.join("jail.local"), local).unwrap();
    copy
}

/// What we read of a jail, in the words of the oracle.
fn ours(jail: &Jail) -> Value {
    let filter = &jail.filter;
    json!({
        "prefregex": filter.prefregex,
        "failregex": filter.failregex,
        "ignoreregex": filter.ignoreregex,
        "datepattern": filter.datepattern,
        "maxlines": filter.maxlines,
        "journalmatch": filter.journalmatch,
        "use_dns": jail.use_dns,
        "journal": matches!(jail.backend, Backend::Journal(_)),
        "log_paths": jail.log_paths.iter().map(|path| json!([path.pattern, path.tail])).collect::<Vec<_>>(),
        "max_retry": jail.max_retry,
        "max_matches": jail.max_matches,
        "find_time": jail.find_time.secs(),
        "ban_time": match jail.ban_time { BanTime::Forever => -1, BanTime::For(span) => span.secs() },
        "increment": jail.increment.as_ref().map(|increment| json!({
            "factor": increment.factor,
            "formula": increment.formula,
            "multipliers": increment.multipliers,
            "max_time": increment.max_time.map(Span::secs),
            "rnd_time": increment.rnd_time.map(Span::secs),
            "overall_jails": increment.overall_jails,
        })),
        "ignored": jail.ignored.iter().map(ignored).collect::<Vec<_>>(),
        "ignore_self": jail.ignore_self,
        "ignore_command": jail.ignore_command,
        "log_encoding": jail.log_encoding,
        "log_time_zone": jail.log_time_zone,
        "actions": jail.actions.iter().map(|action| {
            let options: serde_json::Map<String, Value> =
                action.options.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!(options)
        }).collect::<Vec<_>>(),
    })
}

fn ignored(ignored: &Ignored) -> String {
    match ignored {
        Ignored::Network(network) => network.to_string(),
        Ignored::Name(name) | Ignored::Mistaken(name, _) => name.clone(),
    }
}

/// What fail2ban reads, with its server's defaults.
fn theirs(oracle: &mut Oracle, jail: &Value) -> Value {
    let text = |key: &str| jail[key].as_str().filter(|text| !text.is_empty());
    let option = |key: &str| jail["options"][key].as_str().filter(|text| !text.is_empty());
    let mut seconds = |key: &str| {
        option(key).map(|text| {
            let answer = oracle.ask(&json!({ "duration": text }));
            answer["seconds"].as_str().unwrap_or_else(|| panic!("{text}: {answer}")).parse::<i64>().unwrap()
        })
    };
    let increment = (option("bantime.increment") == Some("True")).then(|| {
        json!({
            "factor": option("bantime.factor"),
            "formula": option("bantime.formula"),
            "multipliers": option("bantime.multipliers"),
            "max_time": seconds("bantime.maxtime"),
            "rnd_time": seconds("bantime.rndtime"),
            "overall_jails": option("bantime.overalljails") == Some("True"),
        })
    });
    let paths = jail["logpath"].as_array().unwrap().iter().filter(|path| path[0] != "");
    json!({
        "prefregex": text("prefregex"),
        "failregex": jail["failregex"],
        "ignoreregex": jail["ignoreregex"],
        "datepattern": jail["datepattern"].as_str(),
        "maxlines": text("maxlines").map_or(1, |lines| lines.parse().unwrap()),
        "journalmatch": jail["journalmatch"],
        "use_dns": match text("usedns").map(str::to_lowercase).as_deref() {
            Some("yes") => UseDns::Yes,
            Some("warn") | None => UseDns::Warn,
            Some("raw") => UseDns::Raw,
            Some(_) => UseDns::No,
        },
        "journal": text("backend").is_some_and(|backend| backend.starts_with("systemd")),
        "log_paths": paths.map(|path| json!([path[0], path[1] == "tail"])).collect::<Vec<_>>(),
        "max_retry": option("maxretry").map_or(3, |count| count.parse().unwrap()),
        "max_matches": option("maxmatches").map_or(50, |count| count.parse().unwrap()),
        "find_time": seconds("findtime").unwrap_or(600),
        "ban_time": seconds("bantime").unwrap_or(600),
        "increment": increment,
        "ignored": jail["ignoreip"].as_array().into_iter().flatten()
            .map(|word| ignored(&Ignored::parse(word.as_str().unwrap()))).collect::<Vec<_>>(),
        "ignore_self": option("ignoreself").is_none_or(|text| text == "True"),
        "ignore_command": option("ignorecommand"),
        "log_encoding": option("logencoding").unwrap_or("auto"),
        "log_time_zone": option("logtimezone"),
        "actions": jail["actions"].as_array().unwrap().iter().map(|action| action["options"].clone()).collect::<Vec<_>>(),
    })
}

/// Reads a directory with both, and counts the enabled jails; what one refuses, the other must.
fn check(oracle: &mut Oracle, dir: &Path) -> usize {
    let answer = oracle.ask(&json!({"jails": true, "dir": dir}));
    let read = read_jails(dir);
    let Some(expected) = answer["jails"].as_array() else {
        assert!(read.is_err(), "fail2ban: {answer}");
        return 0;
    };
    let read = read.unwrap_or_else(|error| panic!("{}: {error}; fail2ban reads {answer}", dir.display()));
    let mut compared = 0;
    for jail in expected {
        let name = jail["name"].as_str().unwrap();
        let local = std::fs::read_to_string(dir.join("jail.local")).unwrap_or_default();
        if jail["disabled"] == true {
            assert!(read.disabled.iter().any(|disabled| disabled == name), "{name} is disabled");
        } else if ["maxretry", "maxmatches"]
            .into_iter()
            .any(|count| jail["options"].get(count).is_some_and(Value::is_null))
        {
            // Its server is sent nothing in place of a number, and refuses it.
            assert!(read.broken.iter().any(|broken| broken.name == name), "{name}: a count is no number");
        } else if let Some(error) = jail["error"].as_str() {
            assert!(read.broken.iter().any(|broken| broken.name == name), "{name}: fail2ban says {error}");
        } else {
            let found = read.jails.iter().find(|jail| jail.name == name).unwrap_or_else(|| {
                panic!("{name} is not read: {:?}\n{local}", read.broken.iter().find(|broken| broken.name == name))
            });
            assert_eq!(ours(found), theirs(oracle, jail), "{name}\n{local}");
            compared += 1;
        }
    }
    assert_eq!(expected.len(), read.jails.len() + read.disabled.len() + read.broken.len());
    compared
}

#[test]
fn every_jail_is_read_as_by_fail2ban() {
    let mut oracle = Oracle::start();
    assert_eq!(check(&mut oracle, Path::new(CONFIG)), 1, "Debian enables sshd");
    let dir = tempfile::tempdir().unwrap();
    let all = with_local(dir.path(), "[DEFAULT]\nenabled = true\n");
    assert!(check(&mut oracle, &all) > 80);
    check(&mut oracle, Path::new(TEST_CONFIG));
}

/// Lines that a `jail.local` may have, good ones and some that both must refuse or pass over.
const DEFAULTS: &[&str] = &[
    "bantime = 1h 30m",
    "bantime = -1",
    "bantime = 2 weeks",
    "bantime.increment = yes",
    "bantime.multipliers = 1 2 4 8",
    "bantime.maxtime = 5w",
    "bantime.rndtime = 10m",
    "bantime.factor = 1.5",
    "bantime.overalljails = true",
    "bantime.formula = ban.Time * 2",
    "findtime = 1d12h",
    "maxretry = 7",
    "maxretry = %(maxmatches)s\nmaxmatches = 3",
    "maxmatches = 0_9",
    "usedns = no",
    "usedns = True",
    "ignoreip = 127.0.0.1/8 ::1, 10.0.0.0/255.0.0.0\n  # inside\n  office.example,2001:db8::/32",
    "ignoreself = off",
    "ignorecommand = /bin/false <ip>",
    "logtimezone = UTC+0200",
    "logencoding = latin-1",
    "backend = systemd",
    "backend = systemd[journalflags=1]",
    "backend = polling",
    "banaction = nftables[type=multiport]",
    "banaction = ufw",
    "banaction = firewallcmd-ipset[actiontype=<allports>]",
    "banaction = iptables-ipset-proto6",
    "action = %(action_mw)s",
    "action = %(action_mwl)s\n         %(action_)s",
    "action = %(banaction)s[port=\"%(port)s\", protocol='udp', blocktype=\"DROP\"]\n   sendmail[name=mine, dest=\"a@b, c\"][sender=x]",
    "action = smtp.py[host=\"x:25\", sender=\"a@b\"]",
    "action = abuseipdb[abuseipdb_apikey=\"%(__name__)s\"]",
    "mode = aggressive",
    "mode = extra ; a comment",
    "chain = MINE",
    "protocol = tcp,udp",
    "port = 1:1024,ssh",
    "destemail = %(__name__)s@example.org",
    "mta = mail",
];
const OWN: &[&str] = &[
    "failregex = ^mine <HOST>$",
    "failregex = %(known/failregex)s\n            ^and mine <HOST>$",
    "ignoreregex = ^not <HOST>\n\n   ^nor <HOST>",
    "datepattern = %%Y-%%m-%%d\n  {^LN-BEG}EPOCH",
    "maxlines = 4",
    "maxlines = many",
    "journalmatch = _SYSTEMD_UNIT=a.service + _COMM=\"a b\"\n  _COMM='c'",
    "prefregex = ^<F-CONTENT>.+</F-CONTENT>$",
    "filter = %(__name__)s[mode=ddos, logtype=journal]",
    "filter = sshd[maxlines=\"2\", publickey=any]",
    "filter = sshd[mode=%(mode)s][failregex=\"^x <HOST>$\"]",
    "filter = postfix[mode=auth]\nlogpath = %(sshd/logpath)s",
    "filter = recidive[_jailname=other]",
    "filter = nosuch",
    "filter = sshd[mode",
    "filter = ",
    "logpath = /var/log/a.log tail\n          /var/log/*b.log\n          /c.log head",
    "logpath = %(default/apache_error_log)s",
    "logpath = %(nosuch)s",
    "usedns = raw",
    "enabled = off",
    "port = %(known/port)s",
    "action = nosuch",
    "action = iptables[name=%(__name__)s, port=\"%(port)s\"",
    "maxretry = 0x10",
    "%(x)s = 1",
    "findtime = %(bantime)s",
];

#[test]
fn drawn_overrides_are_read_as_by_fail2ban() {
    let mut draws = drawn::Draws::from_environment();
    let mut oracle = Oracle::start();
    let mut compared = 0;
    for _ in 0..12 {
        let mut local = "[DEFAULT]\nenabled = true\n".to_owned();
        let mut add = |local: &mut String, lines: &[&str], percent: u64| {
            let mut names: Vec<&str> = Vec::new();
            for line in lines {
                let name = line.split('=').next().unwrap_or_default();
                if draws.chance(percent) && !names.contains(&name) {
                    names.push(name);
                    local.push_str(line);
                    local.push('\n');
                }
            }
        };
        add(&mut local, DEFAULTS, 25);
        for jail in
            ["sshd", "nginx-http-auth", "postfix", "recidive", "mysqld-auth", "dovecot", "pam-generic", "newjail"]
        {
            local.extend(["[", jail, "]\n"]);
            add(&mut local, OWN, 12);
        }
        let dir = tempfile::tempdir().unwrap();
        compared += check(&mut oracle, &with_local(dir.path(), &local));
    }
    assert!(compared > 300, "only {compared} jails were read by both");
}

#[test]
fn times_are_read_as_by_fail2ban() {
    let mut oracle = Oracle::start();
    let mut draws = drawn::Draws::from_environment();
    let mut texts: Vec<String> = [
        "600",
        "-1",
        "1h 30m",
        "1d12h",
        "0d 1h 30m",
        "1year-6mo",
        "6 months",
        "1hour+30min",
        "60*60",
        "1.5h",
        "(1h+1m)*2",
        "1 h",
        "010",
        "00",
        "1__0",
        "",
        "x",
        "1h30",
        "3 4 5",
        "1H",
        "2WEEKS",
        "1mon",
        "1mo",
        "1m",
        "1mm",
        "1ss",
        "5//2",
        "-7//2",
        "-7%4",
        "7/0",
        "1e3",
        "--1",
        "1.",
        ".5h",
        "1..2",
        "1,5",
        "1h\t2m",
        "1 000",
        "1h # one hour",
        "10m#ten",
        "# 600",
        "600 # 5 + 5 (",
        "1h # one\n2",
        "(1h # one\n+ 2)",
        "1h\n# one\n",
        "1h\n+2",
        "(1h\n+2)",
        "\n1h",
        "1 #\n#",
    ]
    .map(str::to_owned)
    .to_vec();
    for _ in 0..3_000 {
        let parts = [
            "1", "2", "90", "0", "1.5", " ", "h", "m", "min", "d", "w", "mo", "y", "s", "+", "-", "*", "/", "(", ")",
            " ", "#", "\n",
        ];
        let length = draws.below(8_usize);
        texts.push((0..length).map(|_| draws.pick(&parts)).collect());
    }
    for text in texts {
        // Powers and what else Python has are no time.
        if text.contains("**") {
            continue;
        }
        let answer = oracle.ask(&json!({ "duration": text }));
        let theirs = answer["seconds"]
            .as_str()
            .map(|seconds| seconds.parse::<i128>().unwrap().clamp(-1_000_000_000_000, 1_000_000_000_000));
        // fail2ban evaluates the text: `1 (2)` is a call, which fails, and `()` a tuple, which does too.
        assert_eq!(duration::seconds(&text).ok().map(i128::from), theirs, "{text:?}: {answer}");
    }
}

#[test]
fn options_in_brackets_are_split_as_by_fail2ban() {
    let mut oracle = Oracle::start();
    let mut draws = drawn::Draws::from_environment();
    let parts = [
        "name",
        "a=1",
        "[",
        "]",
        ",",
        " ",
        "\n",
        "\"",
        "'",
        "b=\"x, y\"",
        "c='z]'",
        "=",
        "][",
        ", d=",
        "e-f.g=h",
        "é",
        "name[a=b]",
    ];
    for _ in 0..5_000 {
        let length = draws.below(9_usize);
        let text: String = (0..length).map(|_| draws.pick(&parts)).collect();
        let answer = oracle.ask(&json!({ "extract": text }));
        let mine = extract(&text).ok().map(|(name, options)| {
            let options: serde_json::Map<String, Value> =
                options.into_iter().map(|(name, value)| (name, json!(value))).collect();
            json!({"name": name, "options": options})
        });
        let theirs = answer["error"].is_null().then_some(answer.clone());
        assert_eq!(mine, theirs, "{text:?}: {answer}");
        let answer = oracle.ask(&json!({ "split": text }));
        assert_eq!(json!(crate::fail2ban::options::split(&text).unwrap()), answer["split"], "{text:?}");
    }
}
