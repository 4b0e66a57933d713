//! What people read when a command fails, word for word, and in which colours.

use std::path::Path;

use notary::remembered::RememberedHeads;
use notary::{keys, log};

use super::*;
use crate::data::Running;

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Caused {
    text: &'static str,
    source: Option<Box<Self>>,
}

#[test]
fn what_why_and_what_to_do() {
    // The second says what the first says already: a reader wants each fact once.
    let disk = Caused { text: "no space left on device", source: None };
    let write = Caused { text: "can't write: no space left on device", source: Some(Box::new(disk)) };
    let commit = Caused { text: "the entries can't be committed", source: Some(Box::new(write)) };
    let failure = Failure::new("the log can't be extended").because(&commit).remedy("make room in garant-data/");
    insta::assert_snapshot!("plain", rendered(&failure, false));
    insta::assert_snapshot!("coloured", rendered(&failure, true).replace('\x1b', "ESC"));
    insta::assert_snapshot!("in_one_line", failure.to_string());
}

/// A snapshot of what went wrong in a data directory, under a name that is the same on every machine.
fn check(name: &str, data: &Path, failure: &Failure) {
    let text = rendered(failure, false).replace(&data.display().to_string(), "DATA");
    insta::assert_snapshot!(name, text);
}

#[test]
fn nothing_runs_there() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    check("nothing_runs", data, &Running::read(data).expect_err("nothing was written"));
    std::fs::write(data.join("running.json"), "{").expect("written");
    check("running_is_broken", data, &Running::read(data).expect_err("half of it"));
}

/// A garant that starts has its directory locked and no `running.json` yet: it is not said to be absent.
#[test]
fn a_start_is_told_from_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let path = data.join("garant.lock");
    std::fs::write(&path, format!("process {} since 2026-11-29T08:00:00Z\n", std::process::id())).expect("written");
    check("nothing_runs", data, &Running::read(data).expect_err("nobody holds the lock"));
    let lock = std::fs::File::open(&path).expect("there");
    lock.try_lock().expect("free");
    let text = rendered(&Running::read(data).expect_err("not up yet"), false);
    assert!(text.contains(&format!("process {} has the data directory", std::process::id())), "{text}");
    assert!(text.contains("not up yet") && !text.contains("no garant runs"), "{text}");
}

#[test]
fn a_directory_that_cant_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("file");
    std::fs::write(&data, "").expect("written");
    check("not_a_directory", &data, &log::make_private(&data.join("inside")).expect_err("a file is in the way"));
}

#[test]
fn keys_that_wont_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = tempfile::tempdir().expect("a folder");
    let (data, key) = (data.path(), data.path().join("log.key"));
    let mode = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("its owner");
    let random = engine::random::SystemRandom;

    keys::load_or_create(data, "shop.example", &RememberedHeads::at(Vec::new()), &random).expect("a first key");
    let renamed = keys::load_or_create(data, "other.example", &RememberedHeads::at(Vec::new()), &random);
    check("another_name", data, &renamed.expect_err("the log has a name"));
    mode(0o644);
    check("others_read_the_key", data, &keys::load(data).expect_err("not private"));
    mode(0o600);
    std::fs::write(&key, "PRIVATE+KEY+nonsense\n").expect("written");
    check("not_a_key", data, &keys::load(data).expect_err("nonsense"));

    std::fs::remove_file(&key).expect("removed");
    let head = data.join("remembered");
    std::fs::write(&head, "garbage").expect("written");
    let remembered = RememberedHeads::at(vec![head.clone()]);
    let garbage = keys::load_or_create(data, "shop.example", &remembered, &random);
    check("the_head_is_garbage", data, &garbage.expect_err("no note"));
    let note = format!("shop.example/1\n7\n{}=\n\n\u{2014} shop.example/1 AAAAAAA=\n", "A".repeat(43));
    std::fs::write(&head, note).expect("written");
    let lost = keys::load_or_create(data, "shop.example", &remembered, &random);
    check("a_log_is_remembered_and_gone", data, &lost.expect_err("a second history"));
}

/// Certificate names, server answers, file names: whoever wrote them, a terminal shows them and obeys nothing of them.
#[test]
fn a_terminal_obeys_nobody_else() {
    let hostile = "CN=\x1b]0;owned\x07\x1b[2J\u{9b}1A\u{202e}gpj\u{200b}\r\x1b[8mhidden\x1b[38;2;0;0;0mx\x1b[1";
    let harmless = "CN=\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{9b}1A\\u{202e}gpj\\u{200b}\\r\\u{1b}[8mhidden\
        \\u{1b}[38;2;0;0;0mx\\u{1b}[1";
    for coloured in [false, true] {
        assert_eq!(shown(hostile, coloured), harmless, "coloured {coloured}");
        let failure = Failure::new(hostile).because(&Caused { text: "\x1b[5mcause", source: None }).remedy("\u{2066}");
        let text = shown(&rendered(&failure, coloured), coloured);
        assert!(!text.contains("\x1b[5m") && !text.contains("\u{2066}") && !text.contains("\x1b]"), "{text:?}");
        assert_eq!(text.lines().count(), 3, "a line each: {text:?}");
    }
    let looks =
        [Style::Good, Style::Bad, Style::Doubtful, Style::Strong, Style::Faint].map(|look| paint(true, look, "é"));
    for look in looks {
        assert_eq!(shown(&look, true), look, "our own looks are kept");
        assert!(!shown(&look, false).contains('\x1b'), "where colours are wanted");
    }
    let json = serde_json::json!({ "text": hostile, "tag": "\u{e0041}é" });
    let text = ascii_escaped(&json.to_string());
    assert!(
        text.chars().all(printable::is_shown) && text.contains("\\u202e") && text.contains("\\udb40\\udc41é"),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("still JSON"), json);
}

#[test]
fn colours_are_for_people_who_want_them() {
    for (colour, is_terminal, no_color, wanted) in [
        (Colour::Auto, true, None, true),
        (Colour::Auto, true, Some(""), true),
        (Colour::Auto, true, Some("1"), false),
        (Colour::Auto, false, None, false),
        (Colour::Always, false, Some("1"), true),
        (Colour::Never, true, None, false),
    ] {
        let said = colour.wanted(is_terminal, no_color.map(OsStr::new));
        assert_eq!(said, wanted, "{colour:?}, terminal {is_terminal}, NO_COLOR {no_color:?}");
    }
    assert_eq!(paint(true, Style::Good, "x"), "\x1b[32mx\x1b[0m");
    assert_eq!(paint(false, Style::Good, "x"), "x");
}
