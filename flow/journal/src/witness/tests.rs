//! Every answer of the specification, and the one property that counts: what a witness cosigned, nobody can take back.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::testing::{Tree, test_key};
use crate::tree::{HashSource as _, prove_consistency, root_at};

const ORIGIN: &str = "shop.example/1";
const NOW: Time = Time::from_secs(1_795_388_400);

fn log_tree(kind: &str) -> Tree {
    (0..700).map(|n| if n < 300 { format!("leaf {n}") } else { format!("{kind} {n}") }).collect()
}

fn signed(tree: &Tree, size: u64, seed: u8) -> String {
    let root = root_at(size, tree).expect("a root");
    Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&[&test_key(seed, ORIGIN)])
}

fn request(tree: &Tree, old: u64, new: u64) -> String {
    encode_request(old, &prove_consistency(old, new, tree).expect("a proof"), &signed(tree, new, 1))
}

fn fresh() -> WitnessState {
    let mut state = WitnessState::default();
    state.trust(test_key(1, ORIGIN).vkey());
    state
}

fn key() -> SigningKey {
    test_key(50, "witness.example/w1")
}

fn send(state: &mut WitnessState, request: &str) -> Result<String, Refusal> {
    let before = state.clone();
    let answer = add_checkpoint(state, &key(), request, NOW);
    if answer.is_err() {
        assert_eq!(*state, before, "a refusal changes nothing");
    }
    answer
}

#[test]
fn a_growing_log_is_cosigned() {
    let (mut state, tree) = (fresh(), log_tree("leaf"));
    let mut old = 0;
    for new in [5, 300, 300, 512, 700] {
        let request = request(&tree, old, new);
        let parsed = parse_request(&request).expect("what we write, we read");
        assert_eq!((parsed.old_size, parsed.checkpoint.size), (old, new));
        let answer = send(&mut state, &request).expect("consistent");
        let (line, at) = accept_answer(&parsed.note, &answer, &key().cosigner_vkey()).expect("our witness");
        assert_eq!(at, NOW);
        assert_eq!(line.bytes.len(), 72);
        assert_eq!(state.logs[ORIGIN].size, new);
        // What a witness remembers survives being written to its file.
        let file = serde_json::to_string(&state).expect("JSON");
        state = serde_json::from_str(&file).expect("JSON");
        old = new;
    }
}

#[test]
fn refusals() {
    let (tree, fork) = (log_tree("leaf"), log_tree("fork"));
    let known = |size| {
        let mut state = fresh();
        send(&mut state, &request(&tree, 0, size)).expect("the first");
        state
    };
    let consistent = |old, new| prove_consistency(old, new, &tree).expect("a proof");
    let foreign = signed(&tree, 5, 1).replace(ORIGIN, "other.example");
    let mut altered_proof = consistent(300, 700);
    altered_proof[0] = tree.subtree(0, 0).expect("a leaf");
    let cases = [
        ("unknown log", encode_request(0, &[], &foreign), 404, false),
        ("key not trusted", encode_request(0, &[], &signed(&tree, 5, 2)), 403, false),
        ("stale: the log lags behind", request(&tree, 5, 700), 409, false),
        ("ahead: the log believes we know more", request(&tree, 512, 700), 409, false),
        ("stale, asking for the size", request(&tree, 0, 700), 409, false),
        ("the same size with another root", encode_request(300, &[], &signed_other(300)), 409, true),
        ("a fork before what we know", forked_request(300, 700), 422, true),
        ("no proof", encode_request(300, &[], &signed(&tree, 700, 1)), 422, false),
        ("the same, by a log that lags behind", encode_request(5, &[], &signed_other(300)), 409, true),
        ("an altered proof", encode_request(300, &altered_proof, &signed(&tree, 700, 1)), 422, false),
        ("the proof of another size", encode_request(300, &consistent(301, 700), &signed(&tree, 700, 1)), 422, false),
        ("a fork with the proof of the true log", encode_request(300, &consistent(300, 700), &forked(700)), 422, false),
        ("a proof between equal trees", encode_request(300, &consistent(300, 700), &signed(&tree, 300, 1)), 422, false),
        (
            "a proof that is too long",
            encode_request(300, &[consistent(300, 700), consistent(300, 700)].concat(), &signed(&tree, 700, 1)),
            422,
            false,
        ),
        ("old larger than the checkpoint", encode_request(301, &[], &signed(&tree, 300, 1)), 400, false),
        ("64 hashes", encode_request(300, &[crate::tree::EMPTY_ROOT; 64], &signed(&tree, 700, 1)), 400, false),
        ("no old line", signed(&tree, 700, 1), 400, false),
        ("leading zero", request(&tree, 300, 700).replacen("old 300", "old 0300", 1), 400, false),
        ("not a hash", request(&tree, 300, 700).replacen("old 300\n", "old 300\nx\n", 1), 400, false),
        ("no signatures", "old 0\n\nshop.example/1\n1\nx\n".to_owned(), 400, false),
        ("empty", String::new(), 400, false),
    ];
    for (what, request, status, forks) in cases {
        let refusal = send(&mut known(300), &request).expect_err(what);
        assert_eq!((refusal.status, refusal.fork.is_some()), (status, forks), "{what}: {refusal}");
        let says_size = Refusal::known_size(refusal.status, refusal.content_type, &refusal.body);
        assert_eq!(says_size.is_some(), refusal.content_type == SIZE_CONTENT_TYPE, "{what}");
        assert!(says_size.is_none_or(|size| size == 300), "{what}");
    }
    // A fork after what the witness knows is invisible to it; what it knows is then the fork, for everybody.
    let mut state = known(300);
    send(&mut state, &request(&fork, 300, 700)).expect("the first to continue wins");
    let late = send(&mut state, &request(&tree, 700, 700)).expect_err("another root for 700");
    assert_eq!((late.status, late.fork.is_some()), (409, true));
    // Of no entries there is one root, and a log that signs another has forked nothing.
    let nothing = Checkpoint { origin: ORIGIN.to_owned(), size: 0, root: tree.subtree(0, 0).expect("a leaf") };
    let nothing = encode_request(0, &[], &nothing.sign(&[&test_key(1, ORIGIN)]));
    let refusal = send(&mut fresh(), &nothing).expect_err("no root of nothing");
    assert_eq!((refusal.status, refusal.fork), (422, None));
}

/// The evidence holds both checkpoints, each signed by the log: who reads it needs to believe nobody.
#[test]
fn a_fork_is_shown_by_two_checkpoints() {
    let tree = log_tree("leaf");
    for (known, request) in [(300, encode_request(300, &[], &signed_other(300))), (300, forked_request(300, 700))] {
        let mut state = fresh();
        send(&mut state, &self::request(&tree, 0, known)).expect("the first");
        let fork = send(&mut state, &request).expect_err("a fork").fork.expect("evidence");
        let keys = [test_key(1, ORIGIN).vkey()];
        let cosigned = crate::checkpoint::open(&fork.cosigned, &keys).expect("signed by the log");
        assert_eq!(cosigned.checkpoint.root, root_at(known, &tree).expect("a root"));
        let shown = parse_request(&fork.request).expect("the request").note.to_string();
        let shown = crate::checkpoint::open(&shown, &keys).expect("signed by the log").checkpoint;
        if shown.size == known {
            assert_ne!(shown.root, cosigned.checkpoint.root);
        }
        let text = fork.to_string();
        assert!(text.contains(&fork.cosigned) && text.ends_with(&request), "{text}");
    }
}

/// What strangers sign along is not kept, and asking again for what is known changes nothing: no write, no growth.
#[test]
fn what_is_kept_of_a_checkpoint() {
    let (mut state, tree) = (fresh(), log_tree("leaf"));
    let stranger = test_key(60, "stranger").sign_text(&Note::parse(&signed(&tree, 5, 1)).expect("a note").text);
    send(&mut state, &format!("{}{stranger}\n", request(&tree, 0, 5))).expect("the first");
    let note = Note::parse(state.logs[ORIGIN].note.as_deref().expect("kept")).expect("a note");
    let names: Vec<_> = note.signatures.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names, [ORIGIN, "witness.example/w1"]);
    let before = state.clone();
    assert!(add_checkpoint(&mut state, &key(), &request(&tree, 5, 5), NOW + event::Span::from_secs(9)).is_ok());
    assert_eq!(state, before);
    let path = checkpoint_path(ORIGIN);
    assert_eq!(path.len(), 64 + "/checkpoint".len());
    assert_eq!(state.checkpoint_at(&path), before.logs[ORIGIN].note.as_deref());
    assert_eq!(state.checkpoint_at(&checkpoint_path("other.example")), None);
    // The file of an earlier release has no note: then there is nothing to convict with, and all else goes on.
    let mut older = serde_json::to_value(&state).expect("JSON");
    older["logs"][ORIGIN].as_object_mut().expect("a log").remove("note").expect("a note");
    let mut older: WitnessState = serde_json::from_value(older).expect("JSON");
    let refusal = send(&mut older, &encode_request(5, &[], &signed_other(5))).expect_err("another root");
    assert_eq!((refusal.status, refusal.fork), (409, None));
    send(&mut older, &request(&tree, 5, 5)).expect("the same again");
    assert!(older.logs[ORIGIN].note.is_some());
}

#[test]
fn a_clock_that_is_not_set_signs_nothing() {
    let (mut state, tree) = (fresh(), log_tree("leaf"));
    let refusal = add_checkpoint(&mut state, &key(), &request(&tree, 0, 5), Time::from_micros(999_999));
    assert_eq!(refusal.expect_err("1970").status, 503);
    assert_eq!(state, fresh());
}

#[test]
fn a_size_is_told_by_all_three() {
    for (status, content_type, body, size) in [
        (409, "text/x.tlog.size", "300\n", Some(300)),
        (409, "Text/X.tlog.size; charset=utf-8", "0\n", Some(0)),
        (409, "text/plain", "300\n", None),
        (409, "", "300\n", None),
        (422, "text/x.tlog.size", "300\n", None),
        (409, "text/x.tlog.size", "300", None),
        (409, "text/x.tlog.size", "0300\n", None),
        (409, "text/x.tlog.size", "300\n300\n", None),
    ] {
        assert_eq!(Refusal::known_size(status, content_type, body), size, "{status} {content_type} {body:?}");
    }
}

/// The same log with other first 300 entries.
fn rewritten() -> Tree {
    (0..700).map(|n| format!("rewritten {n}")).collect()
}

/// A checkpoint of it.
fn forked(size: u64) -> String {
    signed(&rewritten(), size, 1)
}

/// A request to cosign it, with its own proof: what a log that forked sends.
fn forked_request(old: u64, new: u64) -> String {
    request(&rewritten(), old, new)
}

fn signed_other(size: u64) -> String {
    forked(size)
}

/// While a log rotates its key, either key will do; afterwards only the new one.
#[test]
fn keys_of_a_log_change() {
    let (mut state, tree) = (fresh(), log_tree("leaf"));
    let with = |seed, old, new| {
        encode_request(old, &prove_consistency(old, new, &tree).expect("a proof"), &signed(&tree, new, seed))
    };
    send(&mut state, &with(1, 0, 10)).expect("the first key");
    state.trust(test_key(2, ORIGIN).vkey());
    state.trust(test_key(2, ORIGIN).vkey());
    send(&mut state, &with(2, 10, 20)).expect("the second key");
    send(&mut state, &with(1, 20, 30)).expect("the first key still");
    state.trust(test_key(3, "other.example/1").vkey());
    state.trust_only(&[test_key(2, ORIGIN).vkey()]);
    assert_eq!(send(&mut state, &with(1, 30, 40)).expect_err("retired").status, 403);
    send(&mut state, &with(2, 30, 40)).expect("the second key");
    assert_eq!(state.logs[ORIGIN].keys, [test_key(2, ORIGIN).vkey()]);
    assert_eq!(state.logs["other.example/1"].keys.len(), 1, "no key of it was named");
    // Who is no longer cosigned for is not forgotten.
    assert!(state.distrust(ORIGIN) && !state.distrust("never seen"));
    assert_eq!(send(&mut state, &with(2, 40, 50)).expect_err("no keys").status, 404);
    assert_eq!(state.logs[ORIGIN].size, 40);
    state.trust(key().cosigner_vkey());
    assert!(!state.logs.contains_key("witness.example/w1"), "the key of a witness signs no checkpoints");
}

#[test]
fn answers_of_others_are_ignored_and_false_ones_refused() {
    let tree = log_tree("leaf");
    let note = Note::parse(&signed(&tree, 5, 1)).expect("a note");
    let other = cosignature::cosign(&test_key(51, "other"), &note.text, NOW);
    let ours = cosignature::cosign(&key(), &note.text, NOW);
    let accept = |answer: &str| accept_answer(&note, answer, &key().cosigner_vkey());
    assert!(accept(&format!("{other}\n{ours}\n")).is_ok());
    assert!(matches!(accept(&format!("{other}\n")), Err(AnswerError::Nothing(_))));
    assert!(matches!(accept("<html>"), Err(AnswerError::Note(_))));
    let timeless = cosignature::cosign(&key(), &note.text, Time::from_secs(0));
    assert!(matches!(accept(&format!("{timeless}\n")), Err(AnswerError::NoTime(_))));
    let false_one = cosignature::cosign(&key(), "another text\n", NOW);
    assert!(matches!(accept(&format!("{false_one}\n")), Err(AnswerError::Cosignature(_))));
}
