//! Attacker A: has the files, not the key.

use super::*;
use crate::disclosure::Disclosure;
use crate::leaf::Leaf;
use crate::seal;
use crate::tile::{decode_bundle, encode_bundle};
use crate::tree::{EMPTY_ROOT, leaf_hash};

const BUNDLES: [&str; 3] = ["tile/entries/000", "tile/entries/001", "tile/entries/002.p/92"];
const PAYLOADS: [&str; 3] = ["payload/000", "payload/001", "payload/002.p/92"];
const PROOF: &str = "proof/403.tlog-proof";

fn text(files: &Files, path: &str) -> String {
    String::from_utf8(files.0[path].clone()).expect("text")
}

fn put(files: &mut Files, path: &str, bytes: impl Into<Vec<u8>>) {
    files.0.insert(path.to_owned(), bytes.into());
}

/// Changes the leaves of a bundle.
fn leaves(files: &mut Files, path: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let width = path.split_once(".p/").map_or(256, |(_, width)| width.parse().expect("a width"));
    let bytes = files.0[path].clone();
    let mut leaves: Vec<_> = decode_bundle(&bytes, width).expect("a bundle").into_iter().map(<[u8]>::to_vec).collect();
    change(&mut leaves);
    put(files, path, encode_bundle(&leaves).expect("short"));
}

/// Changes one leaf of a bundle.
fn leaf(files: &mut Files, path: &str, position: usize, change: impl FnOnce(&mut Leaf)) {
    leaves(files, path, |leaves| {
        let mut leaf = Leaf::parse(&leaves[position]).expect("a leaf");
        change(&mut leaf);
        leaves[position] = leaf.encode();
    });
}

/// Changes the lines of a payload bundle.
fn lines(files: &mut Files, path: &str, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<_> = text(files, path).split_inclusive('\n').map(str::to_owned).collect();
    change(&mut lines);
    put(files, path, lines.concat());
}

/// Changes the elements of the list of verdicts.
fn list(files: &mut Files, change: impl FnOnce(&mut Vec<String>)) {
    let all: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(&files.0["verdicts.json"]).expect("a list");
    let mut all: Vec<_> = all.iter().map(|element| element.get().to_owned()).collect();
    change(&mut all);
    for element in &all {
        // Each has a proof that is good in itself, so that only the list is wrong.
        if element.contains("604") {
            put(files, "proof/604.tlog-proof", text(files, PROOF).replace("index 403", "index 604"));
        }
    }
    put(files, "verdicts.json", format!("[{}]", all.join(",")));
}

fn replace(files: &mut Files, path: &str, from: &str, to: &str) {
    let text = text(files, path);
    assert!(text.contains(from), "{path} holds no {from}");
    put(files, path, text.replacen(from, to, 1));
}

fn swap(files: &mut Files, one: &str, two: &str) {
    let (first, second) = (files.0[one].clone(), files.0[two].clone());
    put(files, one, second);
    put(files, two, first);
}

fn flip(files: &mut Files, path: &str, position: usize) {
    files.0.get_mut(path).expect("there")[position] ^= 1;
}

fn cut(files: &mut Files, path: &str, length: usize) {
    files.0.get_mut(path).expect("there").truncate(length);
}

/// Another log of the same operator.
fn other_log() -> Log {
    let mut log = Log::new("spliced.example/1", 1);
    log.append(&applied("a"));
    grow(&mut log, 301);
    log
}

fn splice(files: &mut Files, paths: &[&str]) {
    let other = other_log().export();
    for path in paths {
        put(files, path, other.0[*path].clone());
    }
}

/// Exchanges salt and payload of the first two lines, under their old sequences.
fn exchange_payloads(lines: &mut [String]) {
    let parts = |line: &String| {
        let (sequence, rest) = line.split_once(' ').expect("a sequence");
        (sequence.to_owned(), rest.to_owned())
    };
    let ((first, one), (second, two)) = (parts(&lines[0]), parts(&lines[1]));
    lines[0] = format!("{first} {two}");
    lines[1] = format!("{second} {one}");
}

fn make_up_a_payload(files: &mut Files) {
    let payload = log().entries[1].payload.clone().expect("there");
    let mut line = Vec::new();
    Disclosure { sequence: 3, salt: [1; 32], payload: &payload }.write_line(&mut line);
    lines(files, PAYLOADS[0], |lines| lines.insert(3, String::from_utf8(line).expect("text")));
}

fn alter_leaf_and_tile(files: &mut Files) {
    leaf(files, BUNDLES[1], 8, |leaf| leaf.commitment = seal::commitment(&[1; 32], b"x"));
    let leaf = decode_bundle(&files.0[BUNDLES[1]], 256).expect("a bundle")[8].to_vec();
    let tile = files.0.get_mut("tile/0/001").expect("there");
    tile[8 * 32..9 * 32].copy_from_slice(leaf_hash(&leaf).as_bytes());
}

type Mutation = fn(&mut Files);

/// (what, how, words that the message must hold)
const LEAVES: &[(&str, Mutation, &[&str])] = &[
    ("the sequence of a leaf", |f| leaf(f, BUNDLES[1], 5, |l| l.sequence = 262), &["entry 261", "it is entry 262"]),
    ("the hour of a leaf", |f| leaf(f, BUNDLES[1], 5, |l| l.hour += 1), &["payload/001, entry 261", "hour"]),
    (
        "a leaf of the last bundle",
        |f| leaf(f, BUNDLES[2], 91, |l| l.coarse = "team:debugging".into()),
        &["checkpoint", "root"],
    ),
    (
        "a leaf of no known form",
        |f| leaves(f, BUNDLES[1], |l| l[5] = b"garant-leaf/2 x".to_vec()),
        &["entry 261", "not a leaf"],
    ),
    (
        "a public kind is renamed to hide it",
        |f| {
            leaf(f, BUNDLES[0], 202, |l| l.coarse = "team:statistics".into());
            lines(f, PAYLOADS[0], |l| l.retain(|line| !line.starts_with("202 ")));
        },
        &["tile/0/000"],
    ),
    ("an entry is dropped", |f| leaves(f, BUNDLES[1], |l| drop(l.remove(7))), &["tile/entries/001", "255 entries"]),
    (
        "an entry is dropped and another filled in",
        |f| {
            leaves(f, BUNDLES[1], |l| {
                l.remove(7);
                l.push(l[254].clone());
            });
        },
        &["entry 263", "it is entry 264"],
    ),
    ("two entries change places", |f| leaves(f, BUNDLES[0], |l| l.swap(10, 11)), &["entry 10", "it is entry 11"]),
    ("two bundles change places", |f| swap(f, BUNDLES[0], BUNDLES[1]), &["entry 0", "it is entry 256"]),
    ("an entry is added", |f| leaves(f, BUNDLES[2], |l| l.push(l[0].clone())), &["93 entries or more"]),
    ("a bundle is cut", |f| cut(f, BUNDLES[0], 1000), &["ends inside"]),
    ("a bundle is missing", |f| drop(f.0.remove(BUNDLES[1])), &["tile/entries/001", "no such file"]),
    ("a leaf and its tile together", alter_leaf_and_tile, &["root"]),
];

const HEAD_AND_TILES: &[(&str, Mutation, &[&str])] = &[
    (
        "truncated below the checkpoint",
        |f| f.0.retain(|path, _| !path.ends_with("002.p/92")),
        &["tile/entries/002.p/92", "no such file"],
    ),
    ("truncated, the checkpoint too", |f| replace(f, "checkpoint", "\n604\n", "\n512\n"), &["does not verify"]),
    (
        "spliced: entries of another log",
        |f| splice(f, &[BUNDLES[1], PAYLOADS[1]]),
        &["entry 256", "of the log `spliced.example/1`"],
    ),
    (
        "spliced: entries and tiles of another log",
        |f| splice(f, &[BUNDLES[1], PAYLOADS[1], "tile/0/001"]),
        &["entry 256", "of the log `spliced.example/1`"],
    ),
    (
        "the root in the checkpoint",
        |f| replace(f, "checkpoint", &log().head(604).root.to_base64(), &EMPTY_ROOT.to_base64()),
        &["does not verify"],
    ),
    (
        "the checkpoint is not signed",
        |f| put(f, "checkpoint", text(f, "checkpoint").split_once("\n\n").expect("signed").0),
        &["not a signed note"],
    ),
    ("a tile", |f| flip(f, "tile/0/001", 4000), &["tile/0/001", "not the tile"]),
    ("a partial tile", |f| flip(f, "tile/0/002.p/92", 0), &["tile/0/002.p/92"]),
    ("a tile of level 1", |f| flip(f, "tile/1/000.p/2", 63), &["tile/1/000.p/2"]),
    ("tiles are swapped", |f| swap(f, "tile/0/000", "tile/0/001"), &["tile/0/000"]),
    ("a tile is cut", |f| cut(f, "tile/0/000", 8191), &["tile/0/000"]),
    ("a tile is missing", |f| drop(f.0.remove("tile/1/000.p/2")), &["no such file"]),
];

const PAYLOAD_LINES: &[(&str, Mutation, &[&str])] = &[
    (
        "a payload",
        |f| replace(f, PAYLOADS[0], r#""outcome":"broken""#, r#""outcome":"kept""#),
        &["payload/000, entry 202", "commitment"],
    ),
    (
        "payloads change places",
        |f| lines(f, PAYLOADS[1], |l| exchange_payloads(l)),
        &["payload/001, entry 257", "commitment"],
    ),
    (
        "a public payload is hidden",
        |f| lines(f, PAYLOADS[0], |l| l.retain(|line| !line.starts_with("202 "))),
        &["entry 202", "promise.verdict", "no destruction"],
    ),
    ("all payloads of a bundle are hidden", |f| drop(f.0.remove(PAYLOADS[1])), &["payload/001", "no destruction"]),
    ("a payload is there twice", |f| lines(f, PAYLOADS[0], |l| l.insert(3, l[2].clone())), &["there twice"]),
    ("payloads out of order", |f| lines(f, PAYLOADS[0], |l| l.swap(2, 3)), &["payload/000", "out of order"]),
    (
        "a payload in the wrong bundle",
        |f| {
            let line = text(f, PAYLOADS[1]).split_inclusive('\n').next().expect("a line").to_owned();
            lines(f, PAYLOADS[2], |l| l.insert(0, line));
        },
        &["payload/002.p/92, entry 257"],
    ),
    (
        "a payload line is no line",
        |f| lines(f, PAYLOADS[0], |l| l[4] = "garbage\n".into()),
        &["payload/000", "garbage"],
    ),
    ("a payload is made up for an entry of the team", make_up_a_payload, &["entry 3", "commitment"]),
];

const BESIDE: &[(&str, Mutation, &[&str])] = &[
    (
        "the proof of a verdict",
        |f| replace(f, PROOF, text(f, PROOF).lines().nth(3).expect("a hash"), &EMPTY_ROOT.to_base64()),
        &[PROOF, "entry 403", "not proved"],
    ),
    ("a proof of another entry", |f| replace(f, PROOF, "index 403", "index 402"), &[PROOF, "about entry 402"]),
    (
        "the evidence in a proof",
        |f| replace(f, PROOF, text(f, PROOF).lines().nth(1).expect("extra"), "extra YWdl"),
        &[PROOF, "extra data"],
    ),
    ("the proof of a verdict is missing", |f| drop(f.0.remove(PROOF)), &[PROOF, "no such file"]),
    (
        "a verdict in the list is better than in the log",
        |f| replace(f, "verdicts.json", r#""low":1"#, r#""low":3"#),
        &["verdicts.json, entry 403", "says otherwise"],
    ),
    (
        "a verdict in the list is another entry",
        |f| {
            replace(f, "verdicts.json", r#""sequence":403"#, r#""sequence":404"#);
            put(f, "proof/404.tlog-proof", text(f, PROOF).replace("index 403", "index 404"));
        },
        &["verdicts.json, entry 404", "no verdict"],
    ),
    ("the list of verdicts is no list", |f| put(f, "verdicts.json", *b"{}"), &["verdicts.json"]),
    ("a verdict is listed twice", |f| list(f, |l| l.push(l[0].clone())), &["verdicts.json, entry 403", "twice"]),
    (
        "a verdict is listed twice, the better one first",
        |f| list(f, |l| l.insert(0, l[0].replace(r#""low":1"#, r#""low":3"#))),
        &["verdicts.json, entry 403", "twice"],
    ),
    (
        "a verdict beyond the checkpoint",
        |f| list(f, |l| l.push(l[0].replace("403", "604"))),
        &["verdicts.json, entry 604", "604 entries only"],
    ),
    (
        "an older genuine verdict in place of the latest",
        |f| {
            let mut older = log();
            older.entries.truncate(403);
            let older = older.export();
            put(f, "verdicts.json", older.0["verdicts.json"].clone());
            put(f, "proof/202.tlog-proof", older.0["proof/202.tlog-proof"].clone());
        },
        &["verdicts.json, entry 202", "not the latest"],
    ),
    ("the latest verdict is left out", |f| list(f, Vec::clear), &["verdicts.json, entry 403", "left out"]),
    ("the list of verdicts is missing", |f| drop(f.0.remove("verdicts.json")), &["verdicts.json", "no such file"]),
    (
        "a key is there twice: readers differ in which one they take",
        |f| replace(f, "verdicts.json", r#""outcome":"kept""#, r#""outcome":"kept","outcome":"kept""#),
        &["verdicts.json, entry 403", "says otherwise"],
    ),
    (
        "a sequence is there twice",
        |f| replace(f, "verdicts.json", r#"{"sequence":403"#, r#"{"sequence":202,"sequence":403"#),
        &["verdicts.json", "duplicate"],
    ),
    (
        "something is added to a verdict",
        |f| replace(f, "verdicts.json", r#"{"sequence":403"#, r#"{"outcome":"kept","sequence":403"#),
        &["verdicts.json", "unknown field"],
    ),
    ("the policy beside the log is missing", |f| drop(f.0.remove("policy.json")), &["policy.json", "no such file"]),
    (
        "the policy beside the log says something twice",
        |f| replace(f, "policy.json", r#""services""#, r#""services":[],"services""#),
        &["policy.json", "applied last"],
    ),
    (
        "the policy beside the log is another",
        |f| replace(f, "policy.json", r#""revision":"a""#, r#""revision":"b""#),
        &["policy.json", "applied last"],
    ),
    (
        "the key is replaced",
        |f| put(f, "vkey", test_key(9, ORIGIN).vkey().to_string()),
        &["checkpoint", "no signature by"],
    ),
    ("the key is cut", |f| replace(f, "vkey", "shop", "hop"), &["vkey", "not copied whole"]),
];

#[test]
fn every_mutation_is_found_by_verification_alone() {
    let log = log();
    let honest = log.export();
    for (what, mutate, words) in [LEAVES, HEAD_AND_TILES, PAYLOAD_LINES, BESIDE].concat() {
        let mut files = honest.clone();
        mutate(&mut files);
        assert_ne!(files, honest, "{what} changes nothing");
        // Found with the key pinned or not: what the reader trusts plays no part in it.
        for trust in [pinned(&log), Trust::default()] {
            found(what, &files, &trust, Meaning::AlteredWithoutKey, words);
        }
    }
}

/// One bit of any byte of any file that means anything.
#[test]
fn no_byte_is_beyond_suspicion() {
    let mut log = Log::new(ORIGIN, 1);
    grow(&mut log, 4);
    let honest = log.export();
    let trust = pinned(&log);
    for (path, bytes) in &honest.0 {
        // What a log proposes as trust policy is not signed: it is for reading, and the reader's own counts.
        if path == "tlog-policy" {
            continue;
        }
        for position in 0..bytes.len() {
            let mut files = honest.clone();
            flip(&mut files, path, position);
            assert!(run(&files, &trust).is_err(), "bit 0 of byte {position} of {path}");
        }
    }
}

/// An older export is genuine. Its age shows it, or a checkpoint that the reader kept.
#[test]
fn an_older_snapshot_is_found_by_age_or_memory() {
    let mut log = log();
    let older = log.export();
    grow(&mut log, 120);
    let kept = log.checkpoint(log.entries.len());
    assert!(run(&older, &pinned(&log)).is_ok(), "genuine in itself");
    let with_since = Trust { since: Some(kept), ..pinned(&log) };
    found("with --since", &older, &with_since, Meaning::OlderSnapshot, &["you remember 844 entries, this log has 604"]);
    let by_age = Trust { at: Some(log.now), max_age: Some(Span::from_secs(3600)), ..pinned(&log) };
    found("by age", &older, &by_age, Meaning::OlderSnapshot, &["recorded at"]);
    assert_eq!(run(&log.export(), &with_since).map(|report| report.continues), Ok(Some(844)));
}

/// What the reader brings is checked too: a checkpoint of another log, a forged one.
#[test]
fn a_remembered_checkpoint_must_be_of_this_log() {
    let log = log();
    let files = log.export();
    let with = |since: String| Trust { since: Some(since), ..pinned(&log) };
    let other = other_log().checkpoint(3);
    found("of another log", &files, &with(other), Meaning::OtherKey, &["you remember", "spliced.example/1"]);
    let forged = log.checkpoint(500).replacen("\n500\n", "\n501\n", 1);
    found("forged", &files, &with(forged), Meaning::AlteredWithoutKey, &["you remember", "does not verify"]);
    let stranger = Log { keys: vec![test_key(9, ORIGIN)], ..log.clone() };
    found("by a stranger", &files, &with(stranger.checkpoint(500)), Meaning::OtherKey, &["you remember"]);
    found("no note", &files, &with("500 entries".into()), Meaning::AlteredWithoutKey, &["not a signed note"]);
}
