use super::*;
use crate::checkpoint::Checkpoint;
use crate::cosignature::cosign;
use crate::testing::test_key;

fn log_key() -> String {
    test_key(100, "log.example/1").vkey().to_string()
}

fn witness_line(n: u8) -> String {
    format!("witness W{n} {}\n", test_key(n, &format!("w{n}.example")).cosigner_vkey())
}

/// The example of the specification: 2 of three X and any of three Y.
fn two_levels() -> String {
    let witnesses: String = (1..=6).map(witness_line).collect();
    format!(
        "# who counts\nlog {} https://log.example/\n\n{witnesses}\tgroup X 2 W1 W2 W3\n group\tY any W4 W5 W6\ngroup both all X Y\nquorum both\n",
        log_key()
    )
}

fn note(witnesses: &[u8]) -> Note {
    let head = Checkpoint { origin: "log.example/1".into(), size: 3, root: crate::tree::EMPTY_ROOT };
    let mut note = Note::parse(&head.sign(&[&test_key(100, "log.example/1")])).expect("a note");
    for n in witnesses {
        let key = test_key(*n, &format!("w{n}.example"));
        note.signatures.push(cosign(&key, &note.text, Time::from_secs(1000 + i64::from(*n))));
    }
    note
}

#[test]
fn quorums_are_counted() {
    let policy = TlogPolicy::parse(&two_levels()).expect("a policy");
    for (witnesses, met) in [
        (&[][..], false),
        (&[1, 2], false),
        (&[4, 5, 6], false),
        (&[1, 4], false),
        (&[1, 3, 6], true),
        (&[1, 2, 3, 4, 5, 6], true),
        (&[1, 1, 4], false),
        (&[7, 8, 9], false),
    ] {
        let evaluation = policy.evaluate(&note(witnesses)).expect("signed by the log");
        assert_eq!(evaluation.quorum_met, met, "{witnesses:?}");
    }
    let evaluation = policy.evaluate(&note(&[2])).expect("signed by the log");
    let by: Vec<_> = evaluation.witnessed_by.iter().map(|(witness, at)| (witness.name.as_str(), *at)).collect();
    assert_eq!(by, [("W2", Time::from_secs(1002))]);
}

#[test]
fn a_false_signature_is_not_an_absent_one() {
    let policy = TlogPolicy::parse(&two_levels()).expect("a policy");
    let mut forged = note(&[1, 2, 4]);
    forged.signatures[1].bytes[20] ^= 1;
    assert!(matches!(policy.evaluate(&forged), Err(EvaluationError::Cosignature(_))));
    let mut unsigned = note(&[1, 2, 4]);
    unsigned.signatures.remove(0);
    assert!(matches!(policy.evaluate(&unsigned), Err(EvaluationError::Note(NoteError::NotSigned { .. }))));
    assert!(policy.count(&unsigned).expect("witnesses only").quorum_met);
}

#[test]
fn policies_round_trip() {
    let policy = TlogPolicy::parse(&two_levels()).expect("a policy");
    assert_eq!(TlogPolicy::parse(&policy.to_text()).as_ref(), Ok(&policy));
    let alone = TlogPolicy::of_log(log_key().parse().expect("a key"), None, vec![], 0);
    assert_eq!(alone.to_text(), format!("log {}\nquorum none\n", log_key()));
    assert!(alone.evaluate(&note(&[])).expect("signed").quorum_met, "quorum none asks for nobody");
    let some = TlogPolicy::of_log(log_key().parse().expect("a key"), None, policy.witnesses, 2);
    assert_eq!(TlogPolicy::parse(&some.to_text()).as_ref(), Ok(&some));
    assert!(some.evaluate(&note(&[5, 6])).expect("signed").quorum_met);
    assert!(!some.evaluate(&note(&[5])).expect("signed").quorum_met);
}

/// The specification allows witnesses that cosign with ML-DSA-44. A policy that names one is one, and is never met by it.
#[test]
fn a_witness_that_can_not_be_verified_never_counts() {
    let key = |name: &str, byte: u8| {
        let material = [&[0x06][..], &[byte; 1312]].concat();
        let hash = crate::Hash::of(&[name.as_bytes(), b"\n", &material]);
        let [a, b, c, d, ..] = *hash.as_bytes();
        let id = u32::from_be_bytes([a, b, c, d]);
        format!("{name}+{id:08x}+{}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, material))
    };
    let post_quantum = key("pq.example", 7);
    let with = |quorum: &str| {
        let witnesses = format!("{}witness PQ {post_quantum} https://pq.example/\n", witness_line(1));
        format!("log {}\n{witnesses}group any1 any W1 PQ\nquorum {quorum}\n", log_key())
    };
    for (quorum, by, met) in [("any1", &[1][..], true), ("any1", &[], false), ("PQ", &[1], false)] {
        let policy = TlogPolicy::parse(&with(quorum)).expect("a policy");
        assert_eq!(TlogPolicy::parse(&policy.to_text()).as_ref(), Ok(&policy));
        assert_eq!(policy.unverifiable.len(), 1);
        assert_eq!(policy.evaluate(&note(by)).expect("signed by the log").quorum_met, met, "{quorum} {by:?}");
    }
    let text = with("any1");
    for (what, bad) in [
        ("not copied whole", text.replacen("BwcH", "BwgH", 1)),
        ("twice", text.replacen("group", &format!("witness Again {post_quantum}\ngroup"), 1)),
        ("twice", text.replacen("group", &format!("witness PQ {}\ngroup", key("other.example", 8)), 1)),
    ] {
        let error = TlogPolicy::parse(&bad).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn mistakes_are_named_with_their_line() {
    let (w1, w2) = (witness_line(1), witness_line(2));
    let same_key = w1.replace("W1", "Other");
    let cases = [
        (String::new(), 0),
        (w1.clone(), 0),
        ("quorum none\nquorum none\n".to_owned(), 2),
        ("quorum W1\n".to_owned() + &w1, 1),
        (w1.clone() + &w1 + "quorum none\n", 2),
        (w1.clone() + &same_key + "quorum none\n", 2),
        (w1.clone() + "group W1 any W1\nquorum W1\n", 2),
        (w1.clone() + "group none any W1\nquorum none\n", 2),
        (w1.clone() + "group G 0 W1\nquorum G\n", 2),
        (w1.clone() + "group G 2 W1\nquorum G\n", 2),
        (w1.clone() + "group G any\nquorum G\n", 2),
        (w1.clone() + "group G any none\nquorum G\n", 2),
        (w1.clone() + &w2 + "group G any W1\ngroup H any W1 W2\nquorum G\n", 4),
        (format!("log {}\nquorum none\n", test_key(1, "w").cosigner_vkey()), 1),
        (format!("witness A {}\nquorum none\n", log_key()), 1),
        (format!("log {} url more\nquorum none\n", log_key()), 1),
        (format!("log {0}\nlog {0}\nquorum none\n", log_key()), 2),
        ("quorum none\r\n".to_owned(), 1),
        ("witnesses\n".to_owned(), 1),
        ("log x+00000000+AQ==\n".to_owned(), 1),
    ];
    for (text, line) in cases {
        let error = TlogPolicy::parse(&text).expect_err(&text);
        assert_eq!(error.line, line, "{error}\n{text}");
    }
}
