//! The codec by cases: what is taken, and by which class the rest is refused.

use drawn::Draws;

use super::cases::cases;
use super::chunked::{Chunks, Piece};
use super::head::{HeadLimits, HeadParser};
use super::refusal::{REFUSALS, Refusal};
use super::target::{Leniency, canonical, loosest, without_parameters};
use crate::message::{Length, Reply, Request};

fn request(bytes: &[u8]) -> Result<Option<(usize, Request)>, Refusal> {
    let (mut parser, mut request) = (HeadParser::default(), Request::default());
    Ok(parser.request(bytes, HeadLimits::default(), &mut request)?.map(|length| (length, request)))
}

fn reply(bytes: &[u8], is_head: bool) -> Result<Option<Reply>, Refusal> {
    let (mut parser, mut reply) = (HeadParser::default(), Reply::default());
    Ok(parser.reply(bytes, HeadLimits::default(), is_head, &mut reply)?.map(|_| reply))
}

#[test]
fn what_has_two_readings_is_refused() {
    let cases = cases();
    assert!(cases.len() > 100);
    for case in cases {
        assert_eq!(
            judged(&case.bytes).err().map(Refusal::class),
            case.refused_as,
            "{}",
            String::from_utf8_lossy(&case.bytes)
        );
    }
}

/// A whole request, with its body and its target.
fn judged(bytes: &[u8]) -> Result<(), Refusal> {
    let Some((length, head)) = request(bytes)? else { panic!("no case is half a request") };
    canonical(&head.target, Leniency::default(), &mut String::new())?;
    if head.length == Length::Unknown {
        chunks(&bytes[length..])?;
    }
    Ok(())
}

#[test]
fn bounds_of_a_head_are_kept_while_it_arrives() {
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(length));
    assert_eq!(request(line(9000).as_bytes()).map(|_| ()), Err(Refusal::TargetTooLong));
    assert_eq!(request("G".repeat(9000).as_bytes()).map(|_| ()), Err(Refusal::TargetTooLong), "no line end yet");
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(request(fields(99).as_bytes()).expect("sound").expect("whole").1.fields.len(), 100);
    assert_eq!(request(fields(100).as_bytes()).map(|_| ()), Err(Refusal::TooManyFields));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(33_000));
    assert_eq!(request(long.as_bytes()).map(|_| ()), Err(Refusal::HeadTooLong));
}

#[test]
fn a_sound_head_is_understood() {
    let bytes = b"POST /a?b HTTP/1.1\r\nHost: Shop.Example.:8080\r\ncOnTeNt-LeNgTh: 42\r\nX:\t y z \t\r\nConnection: close\r\n\r\nrest";
    let (length, head) = request(bytes).expect("sound").expect("whole");
    assert_eq!(length, bytes.len() - 4);
    assert_eq!((head.method.as_str(), head.target.as_str(), head.host.as_str()), ("POST", "/a?b", "shop.example"));
    assert_eq!((head.port, head.length, head.keeps), (Some(8080), Length::Known(42), false));
    assert_eq!(head.fields.iter().find(|field| field.name == b"X").expect("there").value, b"y z");
    for (bytes, target) in [
        ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "/"),
        ("GET http://A?x HTTP/1.1\r\nHost: a\r\n\r\n", "/?x"),
        ("GET HTTPS://a:1/b HTTP/1.1\r\nHost: a:1\r\n\r\n", "/b"),
    ] {
        assert_eq!(request(bytes.as_bytes()).expect("sound").expect("whole").1.target, target);
    }
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    assert!(request(upgrade).expect("sound").expect("whole").1.upgrades);
    let other = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n";
    let (_, other) = request(other).expect("sound").expect("whole");
    assert!(!other.upgrades && other.keeps);
    assert_eq!(other.fields.passed_on().count(), 0, "none of them goes on");
}

#[test]
fn what_a_client_says_of_itself_goes_no_further() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nx-forwarded-anything: x\r\nForwarded: for=1\r\n\
        X_Forwarded_User: root\r\nX-Real-IP: 1\r\nProxy: x\r\nTE: trailers\r\nKeep-Alive: 1\r\nConnection: close, X-Auth\r\n\
        X-Auth: 1\r\nAccept: */*\r\nCookie: a=b\r\n\r\n";
    let (_, head) = request(bytes).expect("sound").expect("whole");
    let passed: Vec<&[u8]> = head.fields.passed_on().map(|field| field.name).collect();
    assert_eq!(passed, [&b"Accept"[..], b"Cookie"]);
}

#[test]
fn replies_are_read_as_strictly() {
    for (bytes, class) in [
        ("HTTP/1.1 200 OK\nX: y\n\n", Refusal::BareLineFeed),
        ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", Refusal::FoldedField),
        ("HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n", Refusal::ControlCharacter),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::LengthAndCoding),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", Refusal::ManyLengths),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::CodingOfOldVersion),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Refusal::UnknownCoding),
        ("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", Refusal::BadLength),
        ("HTTP/1.1 101 S\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::BadLength),
        ("HTTP/2 200 OK\r\n\r\n", Refusal::BadStatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n", Refusal::BadStatusLine),
        ("HTTP/1.1 999 OK\r\n\r\n", Refusal::BadStatusLine),
        ("HTTP/1.1 200OK\r\n\r\n", Refusal::BadStatusLine),
        ("ICY 200 OK\r\n\r\n", Refusal::BadStatusLine),
    ] {
        assert_eq!(reply(bytes.as_bytes(), false).map(|_| ()).expect_err("refused"), class, "{bytes:?}");
    }
    let lengths = |bytes: &str, is_head| {
        let head = reply(bytes.as_bytes(), is_head).expect("sound").expect("whole");
        (head.length, head.keeps)
    };
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(lengths(sized, false), (Length::Known(3), true));
    assert_eq!(lengths(sized, true), (Length::None, true));
    assert_eq!(lengths("HTTP/1.1 304\r\nContent-Length: 3\r\n\r\n", false), (Length::None, true));
    assert_eq!(lengths("HTTP/1.1 200 \r\n\r\n", false), (Length::Unknown, false), "until the end");
    assert_eq!(lengths("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false), (Length::Known(3), false));
}

/// The data of a chunked body, and what is left of the input.
fn chunks(mut input: &[u8]) -> Result<(Vec<u8>, bool, &[u8]), Refusal> {
    let (mut chunks, mut data) = (Chunks::default(), Vec::new());
    loop {
        match chunks.piece(input)? {
            Piece::Framing(length) => input = &input[length..],
            Piece::Data(length) => {
                data.extend_from_slice(&input[..length]);
                chunks.take(length);
                input = &input[length..];
            }
            Piece::More => return Ok((data, false, input)),
            Piece::End => return Ok((data, true, input)),
        }
    }
}

#[test]
fn chunks_are_taken_apart_or_refused() {
    let sound = chunks(b"5\r\nhello\r\n0006;a=b\r\n world\r\n0\r\nX-Sum: 1\r\n\r\nGET").expect("sound");
    assert_eq!(sound, (b"hello world".to_vec(), true, &b"GET"[..]));
    for bytes in [
        &b"0x1\r\na\r\n"[..],
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b" 1\r\n",
        b"1 \r\na\r\n",
        b"1\na\r\n",
        b"1;a\nb\r\na\r\n",
        b"1;a\0\r\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na\rb",
        b"ffffffffffffffff\r\n",
        b"10000000000000000\r\n",
        &[b'1'; 300],
    ] {
        assert_eq!(chunks(bytes).map(|_| ()), Err(Refusal::BadChunk), "{:?}", String::from_utf8_lossy(bytes));
    }
    for bytes in [
        &b"0\r\nContent-Length: 3\r\n\r\n"[..],
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nHost: b\r\n\r\n",
        b"0\r\nConnection: x\r\n\r\n",
        b"0\r\nX: a\n\r\n",
        b"0\r\n X: a\r\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\nX: \0\r\n\r\n",
    ] {
        assert_eq!(chunks(bytes).map(|_| ()), Err(Refusal::BadTrailer), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_target_has_one_path() {
    let path = |target: &str, encoded_slashes| {
        let mut text = String::new();
        canonical(target, Leniency { encoded_slashes }, &mut text).map(|length| (text[..length].to_owned(), text))
    };
    for (target, expected) in [
        ("/", "/"),
        ("/a/b?c=%2f/../", "/a/b?c=%2f/../"),
        ("/%61%2E%7e%5f", "/a.~_"),
        ("/%e9%C3%a9", "/%E9%C3%A9"),
        ("/a//b///c", "/a/b/c"),
        ("/a/./b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/%2e%2e/".trim_start_matches("/%2e%2e"), "/"),
        ("/a/%2e%2E/b", "/b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/b...", "/a/b..."),
        ("/a;b=c/d", "/a;b=c/d"),
        ("/a/;x", "/a/;x"),
        ("/a%2f/../b%3b".trim_start_matches("/a%2f/.."), "/b%3B"),
    ] {
        assert_eq!(path(target, false).expect("sound").1, expected, "{target}");
    }
    for target in [
        "/..",
        "/../a",
        "/%2e%2e/a",
        "/a/../../b",
        "/%2f",
        "/a%2Fb",
        "/%5c",
        "/a\\b",
        "/%00",
        "/%0a",
        "/%7F",
        "/%",
        "/%4",
        "/%zz",
        "/..;/a",
        "/a/..;x/b",
        "/.;/a",
        "/a/%2e%2e;/b",
        "/%2e;",
    ] {
        assert_eq!(path(target, false), Err(Refusal::BadTarget), "{target}");
    }
    assert_eq!(path("/a%2fb%5c?x", true).expect("allowed"), ("/a%2Fb%5C".to_owned(), "/a%2Fb%5C?x".to_owned()));
    assert_eq!(path("/a%2f%2Fb/%2f", true).expect("allowed").0, "/a%2F%2Fb/%2F");
    for target in ["/%00", "/..;/", "/;/a", "/a\\b", "/%2e%2e", "/a%2f..%2fb", "/a%5c..", "/..%2fa", "/a%2f.;%2fb"] {
        assert!(path(target, true).is_err(), "{target}");
    }
}

/// No way to write a name changes what the program makes of it that reads most into it.
#[test]
fn the_loosest_reading_is_one() {
    for path in [
        "/wp-admin/x",
        "/WP-Admin/x",
        "/wp-admin;x=y/x",
        "/wp-admin%3Bx/x;y",
        "/wp-admin%253bx/x",
        "/wp-admin./x%20",
        "/wp-admin%20/x.",
        "/wp-admin%2520/x..%20",
        "/%2577p-admin/x",
        "/%252577p-admin/x",
        "/wp%25252dadmin/x",
        "/%25%37%37p-admin/x",
        "/wp-admin%2Fx",
        "/wp-admin%252Fx",
        "/wp-admin%255cx",
        "/wp-admin/x%2500.png",
        "/wp-admin/x%3F.png",
        "/wp-admin/x%2523",
        "/wp-admin/x/",
        "/wp-admin/x/;jsessionid=1",
    ] {
        assert_eq!(loosest(path).expect("sound"), "/wp-admin/x", "{path}");
    }
    assert_eq!(loosest("/").expect("sound"), "");
    assert_eq!(loosest("/%C3%A9/%E9"), Ok("/é/\u{fffd}".to_owned()));
    assert_eq!(loosest("/100%25/%25zz").expect("sound"), "/100%/%zz");
    assert_eq!(without_parameters("/a;b/c;/;d/e"), "/a/c//e");
}

/// However bytes are cut on their way, they are read alike; and canonical is canonical.
#[test]
fn drawn_cuts_and_damages_change_nothing() {
    let mut draw = Draws::from_environment();
    let cases = cases();
    for _ in 0..2000 {
        let mut bytes = draw.pick(&cases).bytes;
        if draw.chance(50) {
            let at = draw.below(bytes.len());
            bytes[at] = draw.below(256_u64).try_into().expect("a byte");
        }
        let whole = request(&bytes).map(|read| read.map(|(length, head)| (length, head.target, head.length)));
        let (mut parser, mut head) = (HeadParser::default(), Request::default());
        let mut cut = Ok(None);
        let mut end = 0;
        while end < bytes.len() && matches!(cut, Ok(None)) {
            end = (end + 1 + draw.below(9_usize)).min(bytes.len());
            cut = parser.request(&bytes[..end], HeadLimits::default(), &mut head);
        }
        let cut = cut.map(|length| length.map(|length| (length, head.target.clone(), head.length)));
        assert_eq!(cut, whole, "{:?}", String::from_utf8_lossy(&bytes));
        if let Ok(Some((_, target, _))) = cut {
            let (mut once, mut twice) = (String::new(), String::new());
            if canonical(&target, Leniency::default(), &mut once).is_ok() {
                canonical(&once, Leniency::default(), &mut twice).expect("still sound");
                assert_eq!(once, twice, "{target}");
            }
        }
    }
}

#[test]
fn classes_are_distinct() {
    let mut names: Vec<&str> = REFUSALS.iter().map(|refusal| refusal.class()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), REFUSALS.len());
    for (number, refusal) in REFUSALS.iter().enumerate() {
        assert_eq!(*refusal as usize, number);
        assert!((400..600).contains(&refusal.status()));
    }
}
