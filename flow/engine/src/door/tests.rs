//! What engines read from a call, and write into a reply.

use drawn::Draws;

use super::*;
use crate::command::Question;

#[test]
fn a_call_is_read() {
    let mut call = Call::new(Method::Post, "/api/v1/toy", &["a/b", "ack"], Time::from_secs(1));
    let ["a/b", action] = call.segments()[..] else { panic!("{call:?}") };
    assert_eq!(action, "ack");
    call.query = vec![("state".to_owned(), "firing".to_owned()), ("state".to_owned(), "resolved".to_owned())];
    assert_eq!((call.parameter("state"), call.parameter("State")), (Some("firing"), None));

    assert_eq!(call.json::<Vec<u8>>().expect_err("no body").status(), 415);
    call.body = CallBody::Form(Bytes::from_static(b"do=ack&why=%C3%A9t%C3%A9+1&do=hold"));
    assert_eq!(call.json::<Vec<u8>>().expect_err("a form").status(), 415);
    assert_eq!((call.field("do").as_deref(), call.field("why").as_deref()), (Some("ack"), Some("été 1")));
    call.body = CallBody::Json(Bytes::from_static(b"[1,2]"));
    assert_eq!(call.json::<Vec<u8>>().expect("a list"), [1, 2]);
    assert_eq!(call.form(), []);
    let Reply::Json(400, said) = call.json::<String>().expect_err("no text") else { panic!("a reply in JSON") };
    let said: serde_json::Value = serde_json::from_slice(&said).expect("JSON");
    assert!(said["error"].as_str().is_some_and(|text| text.contains("can't be read")), "{said}");
}

#[test]
fn a_credential_is_shown_nowhere() {
    let mut call = Call::new(Method::Get, "/toy", &[], Time::from_secs(1));
    for credential in [
        Credential::Bearer(Zeroizing::new(b"s3cret".to_vec())),
        Credential::Basic { user: "s3cret".to_owned(), password: Zeroizing::new(b"s3cret".to_vec()) },
    ] {
        assert_eq!(credential.secret(), b"s3cret");
        call.credential = Some(credential);
        assert!(!format!("{call:?}").contains("s3cret"), "{call:?}");
        assert!(!format!("{:?}", call.credential).contains(&format!("{:?}", b"s3cret")));
    }
}

#[test]
fn a_path_means_one_thing() {
    let eight = "/x".repeat(PATH_SEGMENTS_MAX);
    for (rest, expected) in [
        ("", Some(&[][..])),
        ("/", Some(&[])),
        ("/x", Some(&["x"])),
        ("/x/", Some(&["x"])),
        ("/a%20b+c/%C3%A9%2F%25", Some(&["a b+c", "é/%"])),
        ("/...", Some(&["..."])),
        (&eight, Some(&["x"; PATH_SEGMENTS_MAX])),
        (&format!("{eight}/"), Some(&["x"; PATH_SEGMENTS_MAX])),
        (&format!("{eight}/x"), None),
        ("//", None),
        ("//x", None),
        ("/x//", None),
        ("/x//y", None),
        ("/.", None),
        ("/..", None),
        ("/%2e%2E/x", None),
        ("/x%00", None),
        ("/x%0A", None),
        ("/%1b[2J", None),
        ("/%C2%85", None),
        ("/%ff", None),
        ("/%", None),
        ("/%2", None),
        ("/%2g", None),
        ("/%+1", None),
    ] {
        let expected = expected.map(|segments| segments.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(segments(rest), expected, "{rest}");
    }
}

/// What a command asks about arrives as it was meant, or nowhere.
#[test]
fn what_is_asked_is_what_arrives() {
    let mut draws = Draws::from_environment();
    let alphabet: Vec<char> = "ab.%+/?#&=;:@~ -_*\\\"'<>\0\n\u{7f}\u{85}éœ\u{202e}\u{10ffff}2eEF".chars().collect();
    let mut arrived = 0;
    for _ in 0..20_000 {
        let path: Vec<String> = (0..=draws.below(PATH_SEGMENTS_MAX + 1))
            .map(|_| (0..draws.below(5)).map(|_| draws.pick(&alphabet)).collect())
            .collect();
        let question = path.iter().fold(Question::get("/x"), |question, segment| question.segment(segment));
        let parsed = url::Url::parse(&format!("http://localhost{}", question.target)).expect("an address");
        assert_eq!(parsed.path(), question.target, "no client writes it otherwise");
        let fine =
            |segment: &String| !matches!(segment.as_str(), "" | "." | "..") && !segment.chars().any(char::is_control);
        let expected = (path.len() <= PATH_SEGMENTS_MAX && path.iter().all(fine)).then_some(path);
        arrived += usize::from(expected.is_some());
        assert_eq!(segments(&question.target["/x".len()..]), expected);
    }
    assert!((1_000..19_000).contains(&arrived), "{arrived} of both kinds");
    // What nobody encoded never panics.
    for _ in 0..20_000 {
        let raw: String = (0..draws.below(20)).map(|_| draws.pick(&alphabet)).collect();
        drop(segments(&raw));
    }
}
