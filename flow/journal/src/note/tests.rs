//! Against the vector of Go's `x/mod/sumdb/note`, and both ways against the crate `signed_note`.

use signed_note::{Signer as _, StandardSigner, StandardVerifier, VerifierList};

use super::*;
use crate::Hash;
use crate::testing::test_key;

const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PRIVATE: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const LINE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn the_vector_of_go() {
    let key = SigningKey::from_text(PRIVATE).expect("a private key");
    let vkey: VerifierKey = VKEY.parse().expect("a verifier key");
    assert_eq!(key.vkey(), vkey);
    assert_eq!(vkey.to_string(), VKEY);
    assert_eq!(key.to_text(), PRIVATE);
    assert_eq!(format!("{key:?}"), "SigningKey(PeterNeumann, …)");
    let note = Note { text: TEXT.to_owned(), signatures: vec![key.sign_text(TEXT)] };
    assert_eq!(note.to_string(), format!("{TEXT}\n{LINE}"));
    assert_eq!(Note::parse(&note.to_string()), Ok(note.clone()));
    assert_eq!(note.signed_by(&[vkey]).map(|keys| keys.len()), Ok(1));
}

#[test]
fn the_fingerprint_is_what_sha256sum_says() {
    let vkey: VerifierKey = VKEY.parse().expect("a verifier key");
    let fingerprint = vkey.fingerprint().to_string();
    assert_eq!(fingerprint, format!("sha256:{}", Hash::of(&[VKEY.as_bytes()])));
    assert_eq!(fingerprint.parse(), Ok(vkey.fingerprint()));
    assert_eq!(fingerprint[7..].to_uppercase().parse(), Ok(vkey.fingerprint()));
    assert_eq!("sha256:12".parse::<Fingerprint>(), Err(BadKey::Fingerprint));
}

#[test]
fn agrees_with_signed_note_both_ways() {
    for seed in 0..20 {
        let key = test_key(seed, &format!("log{seed}.example/1"));
        let text = format!("line {seed}\n\nafter a blank line, é\n");
        // What we sign, they verify.
        let note = Note { text: text.clone(), signatures: vec![key.sign_text(&text)] };
        let verifier = StandardVerifier::new(&key.vkey().to_string()).expect("they read our key");
        let theirs = signed_note::Note::from_bytes(note.to_string().as_bytes()).expect("they read our note");
        assert_eq!(theirs.text(), text.as_bytes());
        let (known, unknown) =
            theirs.verify(&VerifierList::new(vec![Box::new(verifier)])).expect("they verify our note");
        assert_eq!((known.len(), unknown.len()), (1, 0));
        // What they sign, we verify.
        let signer = StandardSigner::new(&key.to_text()).expect("they read our private key");
        let mut theirs = signed_note::Note::new(text.as_bytes(), &[]).expect("a note");
        theirs.add_sigs(&[&signer]).expect("signed");
        let bytes = String::from_utf8(theirs.to_bytes()).expect("UTF-8");
        assert_eq!(bytes, note.to_string(), "Ed25519 is deterministic");
        assert_eq!(signer.key_id().to_be_bytes(), key.vkey().key_id());
        let ours = Note::parse(&bytes).expect("we read their note");
        assert_eq!(ours.signed_by(&[key.vkey()]).map(|keys| keys.len()), Ok(1));
    }
}

#[test]
fn keys_are_copied_whole_or_refused() {
    let refused = |text: &str| text.parse::<VerifierKey>().expect_err(text);
    assert_eq!(refused(""), BadKey::Form);
    assert_eq!(
        refused(&VKEY[1..]),
        BadKey::Id { name: "eterNeumann".into(), written: "c74f20a3".into(), computed: refused_id("eterNeumann") }
    );
    assert_eq!(refused(&VKEY[..VKEY.len() - 1]), BadKey::Form);
    assert_eq!(refused(&VKEY.replace("c74f20a3", "C74F20A3")), BadKey::Form);
    assert_eq!(refused(&VKEY.replace("PeterNeumann", "Peter Neumann")), BadKey::Name("Peter Neumann".into()));
    // ML-DSA-44 and others are not supported: the error says which type it was.
    let other = format!("x+00000000+{}", STANDARD.encode([&[6u8][..], &[1; 32]].concat()));
    assert_eq!(refused(&other), BadKey::Type { name: "x".into(), byte: 6 });
    assert_eq!(SigningKey::from_text(VKEY).expect_err("public"), BadKey::PrivateForm);
    assert_eq!(SigningKey::generate([1; 32], "a+b").expect_err("a plus"), BadKey::Name("a+b".into()));
    // The neutral point: a key under which many signatures would verify.
    let mut weak = [0; 33];
    (weak[0], weak[1]) = (1, 1);
    let id = &Hash::of(&[&b"x\n"[..], &weak]).to_string()[..8];
    assert_eq!(refused(&format!("x+{id}+{}", STANDARD.encode(weak))), BadKey::Point("x".into()));
}

fn refused_id(name: &str) -> String {
    let material = STANDARD.decode(VKEY.rsplit('+').next().expect("base64")).expect("base64");
    Hash::of(&[name.as_bytes(), b"\n", &material]).to_string()[..8].to_owned()
}

#[test]
fn a_witness_key_is_not_a_log_key() {
    let key = test_key(1, "witness.example");
    let (log, witness) = (key.vkey(), key.cosigner_vkey());
    assert_ne!(log.key_id(), witness.key_id());
    assert_eq!(witness.to_string().parse(), Ok(witness.clone()));
    // The line of a cosignature claims the witness key, and is left alone by who looks for logs.
    let note = Note { text: "a\n".into(), signatures: vec![key.sign_text("a\n")] };
    assert!(matches!(note.signed_by(&[witness]), Err(NoteError::NotSigned { .. })));
    assert!(note.signed_by(&[log]).is_ok());
}

#[test]
fn the_form_of_a_note() {
    let good = format!("{TEXT}\n{LINE}");
    assert!(Note::parse(&good).is_ok());
    for (what, bad) in [
        ("no signature", TEXT.to_owned()),
        ("no blank line", format!("{TEXT}{LINE}")),
        ("no final newline", good.trim_end().to_owned()),
        ("a tab", good.replacen("you", "\t", 1)),
        ("a carriage return", good.replace('\n', "\r\n")),
        ("a hyphen for the dash", good.replace('\u{2014}', "-")),
        ("no name", format!("{TEXT}\n\u{2014}  AAAAAAA=\n")),
        ("a key id alone", format!("{TEXT}\n\u{2014} x AAAAAA==\n")),
        ("a blank line at the end", format!("{good}\n")),
    ] {
        assert!(matches!(Note::parse(&bad), Err(NoteError::Form(_))), "{what}: {bad}");
    }
    assert_eq!(Note::parse(&format!("{TEXT}\n{}", LINE.repeat(65))), Err(NoteError::TooLarge));
    assert_eq!(Note::parse(&"x".repeat(NOTE_BYTES_MAX + 1)), Err(NoteError::TooLarge));
    assert!(Note::parse(&format!("{TEXT}\n{}", LINE.repeat(64))).is_ok());
}

#[test]
fn a_known_key_that_does_not_verify_spoils_the_note() {
    let (known, other) = (test_key(1, "log"), test_key(2, "log"));
    let text = "a\n".to_owned();
    let lines = [other.sign_text(&text), known.sign_text("b\n"), known.sign_text(&text)];
    let note = |lines: &[Signature]| Note { text: text.clone(), signatures: lines.to_vec() };
    let keys = [known.vkey()];
    assert!(note(&lines[2..]).signed_by(&keys).is_ok());
    assert!(matches!(note(&lines).signed_by(&keys), Err(NoteError::BadSignature { .. })));
    assert!(matches!(note(&lines[..1]).signed_by(&keys), Err(NoteError::NotSigned { .. })));
    assert_eq!(note(&[lines[2].clone(), lines[2].clone()]).signed_by(&keys).map(|k| k.len()), Ok(1), "counted once");
}

#[test]
fn notes_follow_one_another() {
    let key = test_key(1, "log");
    let notes: Vec<_> = (0..3)
        .map(|n| {
            let text = format!("log\n{n}\nroot\n");
            let signatures = (0..=n).map(|_| key.sign_text(&text)).collect();
            Note { text, signatures }
        })
        .collect();
    for between in ["", "\n", "\n\n"] {
        let file = notes.iter().map(ToString::to_string).collect::<Vec<_>>().join(between);
        assert_eq!(Note::parse_many(&file).as_ref(), Ok(&notes), "with {between:?} between");
    }
    assert_eq!(Note::parse_many(""), Ok(vec![]));
    assert!(Note::parse_many("log\n1\nroot\n").is_err(), "an unsigned rest is no note");
}
