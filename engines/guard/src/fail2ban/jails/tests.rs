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
        Ignored::Name(name) => name.clone(),
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
        "ban_time": seconds("bantime").unwrap_or(600).max(-1),
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
