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
        // What its server does not know is `no`.
        "usedns": answer["usedns"].as_str().map(|text| match text.to_lowercase().as_str() {
            known @ ("yes" | "warn" | "raw") => known.to_owned(),
            _ => "no".to_owned(),
        }),
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

/// A configuration directory with these files.
fn with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// What is said of a filter `x` of these files, without the path of the directory.
fn refused(files: &[(&str, &str)], filter: &str) -> String {
    let dir = with(files);
    let error = read_filter(dir.path(), filter, &JailOverrides::default()).expect_err(filter);
    error.to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn what_is_broken_is_told_with_file_line_and_what_to_do() {
    let x = |text| refused(&[("filter.d/x.conf", text)], "x");
    let check = |found: String, expect: &[&str]| {
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines.len(), expect.len(), "{found}");
        for (line, expect) in lines.iter().zip(expect) {
            assert!(line.starts_with(expect), "{found}");
        }
    };
    check(x("a = b\n"), &["filter.d/x.conf:1: an option stands before any section: put a line such as [DEFAULT]"]);
    check(
        x("[Definition]\na = 1\nA: 2\nnothing\n= 3\n[Definition]\n"),
        &[
            "filter.d/x.conf:3: `a` is there twice in the section [Definition]: remove one",
            "filter.d/x.conf:4: this is no `name = value`",
            "filter.d/x.conf:5: this is no `name = value`",
            "filter.d/x.conf:6: the section [Definition] is there twice in this file: put its options under the first one",
        ],
    );
    check(
        x("[Definition]\n\nfailregex = a\n   %(b)s\n"),
        &["filter.d/x.conf:3: `failregex` of [Definition] refers to `%(b)s`, and there is no such option: define it"],
    );
    check(
        x("[Definition]\nfailregex = 50% of <HOST>\n"),
        &[
            "filter.d/x.conf:2: in `failregex` of [Definition], `% of <HOST>` is no `%(option)s`: write a percent sign as `%%`",
        ],
    );
    check(
        x("[Definition]\nfailregex = %(a)s\na = %(b)s\nb = %(a)s\n"),
        &["filter.d/x.conf:2: `failregex` of [Definition] refers to itself, or its `%(…)s` are nested deeper than 10"],
    );
    check(
        x("[Definition]\nfailregex = <a>\na = <b>\nb = x<a>\n"),
        &["filter.d/x.conf:2: the option `failregex` holds itself by way of `<a>`"],
    );
    check(
        x("[Definition]\nmaxlines = 0\n"),
        &["filter.d/x.conf:2: `maxlines = 0` is no number of lines: write 1 or more"],
    );
    check(
        x("[Definition]\njournalmatch = A='b\n"),
        &["filter.d/x.conf:2: `journalmatch`: a quotation is not closed in `A='b`: close it"],
    );
    check(refused(&[], "nosuch"), &["there is no filter `nosuch` in "]);
    check(refused(&[], "x[a"), &["`x[…` is no `name[option=value, …]`: close its bracket"]);
    check(refused(&[], "x[a=\"1\" b=2]"), &["` b=…` follows the option `a` without a comma"]);
    let long = format!("[Definition]\nfailregex = {}\n", "x".repeat(1 << 20));
    check(x(&long), &["filter.d/x.conf: this file is larger than 1048576 bytes: split it"]);
    let mut many = "[Definition]\nfailregex = %(a9)s\na0 = x\n".to_owned();
    for at in 0..9 {
        many.extend([format!("a{} = ", at + 1), format!("%(a{at})s").repeat(100), "\n".to_owned()]);
    }
    check(x(&many), &["filter.d/x.conf:2: `failregex` of [Definition] grows to more than"]);
    let mut many = "[Definition]\nfailregex = <a9>\na0 = x\n".to_owned();
    for at in 0..9 {
        many.extend([format!("a{} = ", at + 1), format!("<a{at}>").repeat(100), "\n".to_owned()]);
    }
    check(
        x(&many),
        &["filter.d/x.conf:2: the option `failregex` grows to more than 1048576 bytes by its tags: shorten it"],
    );
    let deep: Vec<(String, String)> = (0..40)
        .map(|at| (format!("filter.d/d{at}.conf"), format!("[INCLUDES]\nbefore = d{}.conf\n[Definition]\n", at + 1)))
        .collect();
    let deep: Vec<(&str, &str)> = deep.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    check(refused(&deep, "d0"), &["filter.d/d16.conf: files include files more than 16 deep"]);
}

#[test]
fn what_fail2ban_passes_over_is_passed_over_and_noted() {
    let dir = with(&[
        (
            "filter.d/x.conf",
            "[INCLUDES]\nbefore = y.conf\n  missing.conf\nafter = z.conf\n[Definition]\nfailregex = ^x <HOST>$\n",
        ),
        ("filter.d/y.conf", "[INCLUDES]\nbefore = x.conf\n[Definition]\nignoreregex = y\n"),
    ]);
    std::fs::write(dir.path().join("filter.d/z.conf"), b"[Definition]\n# \xff\nfailregex = z\n").unwrap();
    let mut library = Library::open(dir.path()).unwrap();
    let config = library.config("filter.d/x").unwrap().unwrap();
    assert_eq!(config.files.len(), 2);
    let notes: Vec<String> =
        library.notes().map(|note| note.to_string().replace(&format!("{}/", dir.path().display()), "")).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("filter.d/y.conf:2: `before = x.conf` closes a circle of includes"), "{notes:?}");
    assert!(notes[1].starts_with("filter.d/z.conf:2: this file is not UTF-8, and is passed over"), "{notes:?}");
    let mut oracle = Oracle::start();
    assert!(check(&mut oracle, dir.path().to_str().unwrap(), "x", "auto", &[]));
}

#[test]
fn a_filter_is_read_by_its_name_and_by_its_path() {
    let dir = with(&[
        ("filter.d/x.conf", "[Definition]\nfailregex = ^x <HOST>$\n"),
        ("filter.d/x.local", "[Definition]\nfailregex = %(known/failregex)s\n  ^local <HOST>$\n"),
        ("elsewhere/own.conf", "[INCLUDES]\nbefore = ../filter.d/x.conf\n[Definition]\nignoreregex = no\n"),
    ]);
    let read = |filter: &str| read_filter(dir.path(), filter, &JailOverrides::default()).unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let both = ["^x <HOST>$", "^local <HOST>$"];
    assert_eq!(read("x").failregex, both);
    assert_eq!(read("x.conf"), read("x"));
    assert_eq!(read(&at("filter.d/x.conf")), read("x"));
    let own = read(&format!("{}[maxlines=3]", at("elsewhere/own.conf")));
    assert_eq!((own.name.as_str(), own.maxlines), ("own", 3));
    assert_eq!(
        (own.failregex.as_slice(), own.ignoreregex.as_slice()),
        (&both.map(str::to_owned)[..], &["no".to_owned()][..])
    );
}

/// Pieces of files that are put together at random.
const PIECES: &[&str] = &[
    "[Definition]\n",
    "[Init]\n",
    "[DEFAULT]\n",
    "[Init?family=inet6]\n",
    "[INCLUDES]\n",
    "[other]\n",
    "[x] y]\n",
    "before = y.conf\n",
    "after = y.conf\n",
    "failregex = ^<a> <HOST>$\n",
    "failregex = %(known/failregex)s\n",
    "   more <b>\n",
    "ignoreregex =\n",
    "\n",
    "  \n",
    "# comment\n",
    "  ; comment\n",
    "a = 1\n",
    "a = <b>\n",
    "b = %(a)s ; inline\n",
    "b: %(other/c)s;no\n",
    "c = <other/a>\n",
    "C = <d_<a>>\n",
    "d_1 = one\n",
    "d_<a> = x\n",
    "\td = tab\n",
    "mode = m\n",
    "maxlines = 2\n",
    "maxlines = %(a)s\n",
    "datepattern = %%Y\n\n    two\n",
    "prefregex = <F-CONTENT>%(__name__)s</F-CONTENT>\n",
    "usedns = RAW\n",
    "journalmatch = A=\"x y\" + B=c\\ d\n",
    "e = <known/a>\n",
    "failregex = <e> <lt_<logtype>/f>\n",
    "[lt_file]\n",
    "f = %(default/a)s\n",
    "f = \u{a0}é = x\n",
    "g = a\r\n",
    "h = a\rb\n",
    "logtype = file\n",
    "%(a)s = 1\n",
    "a\n",
    "[known]\n",
    "failregex = <a>%(c)s\n            <c>\n",
    "before = x.conf\n",
];

#[test]
fn drawn_files_are_read_as_by_fail2ban() {
    let mut draws = drawn::Draws::from_environment();
    let mut oracle = Oracle::start();
    let mut read = 0;
    for _ in 0..1_500 {
        let mut file = |first: &str| -> String {
            let length = draws.below(14_usize);
            std::iter::once(first).chain((0..length).map(|_| draws.pick(PIECES)).collect::<Vec<_>>()).collect()
        };
        let (x, y, local) = (file("[Definition]\n"), file(""), file("[Definition]\n"));
        let files = [("filter.d/x.conf", x.as_str()), ("filter.d/y.conf", &y), ("filter.d/x.local", &local)];
        let dir = with(&files[..2 + usize::from(draws.chance(50))]);
        let filter =
            draws.pick(&["x", "x[a=\"<b>\"]", "x[mode=n, c='%(a)s']", "x[logtype=journal][failregex=\"^y <HOST>\"]"]);
        let options = draws.pick(&[
            &[][..],
            &[("maxlines", "7"), ("usedns", "no")][..],
            &[("failregex", "^j\n^k"), ("a", "9")][..],
        ]);
        read += u32::from(check(&mut oracle, dir.path().to_str().unwrap(), filter, "auto", options));
    }
    assert!(read > 150, "only {read} were read by both");
}
