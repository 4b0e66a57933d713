//! NH-1: filters are read as the installed fail2ban reads them.

use std::path::Path;

use serde_json::{Value, json};

use super::oracle::{CONFIG, Oracle, TEST_CONFIG};
use super::*;

/// The names of all filters of a configuration directory.
fn filters(dir: &str) -> Vec<String> {
    let mut names: Vec<String> = Path::new(dir)
        .join("filter.d")
        .read_dir()
        .unwrap_or_else(|error| panic!("{dir}/filter.d: {error}; install fail2ban, as scripts/test does"))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What we read, in the words of the oracle.
fn ours(found: &FilterDefinition) -> Value {
    json!({
        "prefregex": found.prefregex,
        "failregex": found.failregex,
        "ignoreregex": found.ignoreregex,
        "datepattern": found.datepattern,
        "maxlines": found.maxlines,
        "journalmatch": found.journalmatch,
        "usedns": found.use_dns,
    })
}

/// What fail2ban reads, with its server's defaults.
fn theirs(answer: &Value) -> Value {
    let text = |key: &str| answer[key].as_str().filter(|text| !text.is_empty());
    json!({
        "prefregex": text("prefregex"),
        "failregex": answer["failregex"],
        "ignoreregex": answer["ignoreregex"],
        "datepattern": answer["datepattern"].as_str(),
        "maxlines": text("maxlines").map_or(1, |lines| lines.parse().unwrap()),
        "journalmatch": answer["journalmatch"],
        "usedns": text("usedns"),
    })
}

/// Asks both, and says whether there is a filter of that name.
fn check(oracle: &mut Oracle, dir: &str, filter: &str, backend: &str, options: &[(&str, &str)]) -> bool {
    let given: serde_json::Map<String, Value> =
        options.iter().map(|&(name, value)| (name.to_owned(), json!(value))).collect();
    let answer =
        oracle.ask(&json!({"filter": filter, "dir": dir, "jail": "test", "backend": backend, "options": given}));
    let overrides = JailOverrides {
        jail: "test".to_owned(),
        backend: backend.to_owned(),
        options: options.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    let read = read_filter(Path::new(dir), filter, &overrides);
    match (&read, answer["error"].as_str()) {
        (Ok(found), None) => {
            assert_eq!(ours(found), theirs(&answer), "{filter} with {backend} and {options:?} of {dir}");
            true
        }
        (Err(_), Some(_)) => false,
        (Ok(found), Some(error)) => panic!("{filter} of {dir}: fail2ban refuses it ({error}), we read {found:?}"),
        (Err(error), None) => panic!("{filter} of {dir}: we refuse it ({error}), fail2ban reads {answer}"),
    }
}

#[test]
fn every_filter_in_every_mode_and_log_type_is_read_as_by_fail2ban() {
    let mut oracle = Oracle::start();
    let mut read = 0;
    for dir in [CONFIG, TEST_CONFIG] {
        for name in filters(dir) {
            for backend in ["auto", "systemd[journalflags=1]"] {
                read += u32::from(check(&mut oracle, dir, &name, backend, &[]));
                for mode in [
                    "normal",
                    "ddos",
                    "extra",
                    "aggressive",
                    "auth",
                    "rbl",
                    "more",
                    "errors",
                    "fast",
                    "_any",
                    "unknown",
                ] {
                    read += u32::from(check(&mut oracle, dir, &format!("{name}[mode={mode}]"), backend, &[]));
                }
                for option in ["logtype=journal", "logtype=file", "logtype=rfc5424", "logtype=short"] {
                    read += u32::from(check(&mut oracle, dir, &format!("{name}[{option}]"), backend, &[]));
                }
            }
        }
    }
    assert!(read > 2_500, "only {read} filters were read");
}
