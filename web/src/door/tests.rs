use std::sync::Mutex;

use axum::Router;
use engine::BoxFuture;
use engine::door::{alike, both};

use super::*;
use crate::fake::{Answer, Fixture, Never, ask, get};

const TOKEN: &str = "dGhlIHRva2VuIG9mIHRoZSB0ZWFtIG9mIHRoZXNlIHRlc3Q";
const BEARER: &str = "Bearer dGhlIHRva2VuIG9mIHRoZSB0ZWFtIG9mIHRoZXNlIHRlc3Q";
const JSON: (&str, &str) = ("content-type", "application/json");
const BODY_BYTES_MAX: usize = 64;

const MOUNTS: &[Mount] = &[
    Mount {
        prefix: "/api/v1/desk",
        listeners: Listeners::Team,
        access: Access::TeamToken,
        methods: &[Method::Get, Method::Post, Method::Delete],
        body_bytes_max: BODY_BYTES_MAX,
    },
    Mount {
        prefix: "/api/v1/desk/intake",
        listeners: Listeners::Everybody,
        access: Access::OfTheEngine,
        methods: &[Method::Post],
        body_bytes_max: BODY_BYTES_MAX,
    },
    Mount {
        prefix: "/a",
        listeners: Listeners::Everybody,
        access: Access::OfTheEngine,
        methods: &[Method::Get, Method::Post],
        body_bytes_max: BODY_BYTES_MAX,
    },
];

/// A door that remembers its calls. A stranger has neither the link `/a/link` nor the intake's token.
#[derive(Default)]
struct Desk {
    calls: Mutex<Vec<Call>>,
}

impl Desk {
    fn taken(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().expect("no panic"))
    }
}

impl Door for Desk {
    fn mounts(&self) -> &'static [Mount] {
        MOUNTS
    }

    fn admit(&self, call: &Call) -> Result<(), Reply> {
        assert_eq!(call.body, CallBody::Empty, "the body is read later");
        let known = match call.mount {
            "/a" => call.path.first().is_some_and(|link| link == "link"),
            _ => call.credential.as_ref().is_some_and(|credential| credential.secret() == b"intake"),
        };
        if known { Ok(()) } else { Err(Reply::Refused(404)) }
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            self.calls.lock().expect("no panic").push(call.clone());
            match call.segments()[..] {
                [.., "slow"] => std::future::pending().await,
                ["text"] => Reply::Text(201, "é".to_owned()),
                ["calendar"] => Reply::Calendar("BEGIN:VCALENDAR\r\n".to_owned()),
                ["nonsense"] => Reply::Text(7, String::new()),
                ["link"] => DoorPage::titled("Alerte <b>", "Alert <b>")
                    .paragraph("Elle dure.", "It goes on.")
                    .row(both("depuis", "since"), alike("\"14:03\""))
                    .button(both("Accuser réception", "Acknowledge"), "do", "\"><script>")
                    .reply(200),
                _ => Reply::json(&call.path),
            }
        })
    }
}

fn desk() -> (Fixture, Arc<Desk>) {
    let (mut fixture, desk) = (Fixture::new(), Arc::new(Desk::default()));
    let doors = Doors::new(vec![("desk", Arc::clone(&desk) as _)], Hash::of(&[TOKEN.as_bytes()]));
    Arc::get_mut(&mut fixture.state).expect("not shared yet").doors = doors.expect("good mounts");
    (fixture, desk)
}

async fn by_team(router: Router, method: HttpMethod, path: &str, body: Body) -> Answer {
    ask(router, method, path, &[("authorization", BEARER), JSON], body).await
}

/// A mount of the team answers nobody without the token, whatever is sent, and reads nothing of it.
#[tokio::test]
async fn no_call_without_the_team_token() {
    let (fixture, desk) = desk();
    let basic = format!("Basic {}", STANDARD.encode(format!("team:{TOKEN}")));
    let longer = format!("{BEARER}x");
    let hash = format!("Bearer {}", Hash::of(&[TOKEN.as_bytes()]).to_base64());
    for fields in [
        &[][..],
        &[""],
        &["Bearer"],
        &["Bearer "],
        &[TOKEN],
        &["Bearer wrong"],
        &[&BEARER[..BEARER.len() - 1]],
        &[&longer],
        &[&hash],
        &[&basic],
        &[BEARER, BEARER],
        &["Bearer wrong", BEARER],
    ] {
        for method in [HttpMethod::GET, HttpMethod::HEAD, HttpMethod::POST, HttpMethod::DELETE] {
            let fields: Vec<_> = fields.iter().map(|field| ("authorization", *field)).collect();
            let answer = ask(fixture.team(), method.clone(), "/api/v1/desk/x", &fields, Body::new(Never)).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {fields:?}");
            assert_eq!((answer.header("www-authenticate"), answer.header("connection")), ("Bearer", "close"));
            assert_eq!(answer.header("content-type"), "application/json");
            if method != HttpMethod::HEAD {
                assert!(
                    answer.text().starts_with(r#"{"error":"the team token is missing or wrong"#),
                    "{}",
                    answer.text()
                );
            }
        }
    }
    assert!(desk.taken().is_empty());
    for field in [BEARER, &BEARER.replace("Bearer", "bearer"), &BEARER.replace("Bearer ", "Bearer  ")] {
        let headers = [("authorization", field)];
        let answer = ask(fixture.team(), HttpMethod::GET, "/api/v1/desk/x", &headers, Body::empty()).await;
        assert_eq!(answer.text(), r#"["x"]"#, "{field}");
    }
}

/// The engine judges the callers of its own mounts from their heads; a stranger's body is not waited for.
#[tokio::test]
async fn the_engine_judges_its_own_callers() {
    let (fixture, desk) = desk();
    let stranger = ask(fixture.public(), HttpMethod::POST, "/a/guessed", &[], Body::new(Never)).await;
    let absent = get(fixture.public(), "/nothing").await;
    assert_eq!((stranger.status, &stranger.body), (StatusCode::NOT_FOUND, &absent.body), "as if there were nothing");
    let path = "/api/v1/desk/intake";
    // The token of the team is none of the engine's.
    assert_eq!(by_team(fixture.team(), HttpMethod::POST, path, Body::empty()).await.status, StatusCode::NOT_FOUND);
    assert!(desk.taken().is_empty());
    let basic = format!("Basic {}", STANDARD.encode("monitor:intake"));
    for (field, known) in [("Bearer intake", true), (&basic, true), ("Bearer intakes", false), ("Digest intake", false)]
    {
        for router in [fixture.team(), fixture.public()] {
            let answer = ask(router, HttpMethod::POST, path, &[("authorization", field), JSON], Body::from("{}")).await;
            let status = if known { StatusCode::OK } else { StatusCode::NOT_FOUND };
            assert_eq!((answer.status, desk.taken().len()), (status, usize::from(known)), "{field}");
        }
    }
}

#[test]
fn credentials_are_read() {
    let of = |fields: &[&str]| {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(field).expect("a value"));
        }
        credential(&headers)
    };
    let basic = |user: &str, password: &str| {
        Some(Credential::Basic { user: user.to_owned(), password: Zeroizing::new(password.as_bytes().to_vec()) })
    };
    // The example of RFC 7617, section 2.
    assert_eq!(of(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]), basic("Aladdin", "open sesame"));
    assert_eq!(of(&[&format!("Basic {}", STANDARD.encode(":a:b"))]), basic("", "a:b"));
    for broken in ["Basic", "Basic ", "Basic !", "Basic QWxhZGRpbg==", "Basic /w==:", "Digest x", "x", " Bearer x"] {
        assert_eq!(of(&[broken]), None, "{broken}");
    }
}

/// GET and HEAD arrive as one method that changes nothing; HEAD gets no body.
#[tokio::test]
async fn looking_arrives_as_looking() {
    let (fixture, desk) = desk();
    let whole = by_team(fixture.team(), HttpMethod::GET, "/api/v1/desk/x?a=1&b=%C3%A9+2", Body::empty()).await;
    let head = by_team(fixture.team(), HttpMethod::HEAD, "/api/v1/desk/x?a=1&b=%C3%A9+2", Body::empty()).await;
    assert_eq!((whole.status, whole.text()), (StatusCode::OK, r#"["x"]"#));
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (StatusCode::OK, 0, "5"));
    for path in ["/a/link", "/a/link/"] {
        for router in [fixture.team(), fixture.public()] {
            let head = ask(router.clone(), HttpMethod::HEAD, path, &[], Body::empty()).await;
            assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
            assert_eq!(get(router, path).await.status, StatusCode::OK);
        }
    }
    let calls = desk.taken();
    assert_eq!(calls.len(), 10);
    assert!(calls.iter().all(|call| call.method == Method::Get), "{calls:?}");
    assert_eq!((calls[0].at, calls[0].mount), (crate::fake::NOW, "/api/v1/desk"));
    assert_eq!((calls[0].parameter("a"), calls[0].parameter("b")), (Some("1"), Some("é 2")));
    // The intake takes POST alone: HEAD is no way around.
    for method in [HttpMethod::GET, HttpMethod::HEAD] {
        let answer = by_team(fixture.team(), method, "/api/v1/desk/intake", Body::empty()).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    }
    for method in [HttpMethod::PUT, HttpMethod::PATCH, HttpMethod::OPTIONS, HttpMethod::TRACE] {
        let answer = by_team(fixture.team(), method, "/api/v1/desk/x", Body::empty()).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET,HEAD,POST,DELETE"));
    }
    assert!(desk.taken().is_empty());
}

#[tokio::test]
async fn bodies_have_a_kind_and_a_bound() {
    let (fixture, desk) = desk();
    let send = async |content_type: &[&str], body: Body| {
        let types = content_type.iter().map(|value| ("content-type", *value));
        let headers: Vec<_> = types.chain([("authorization", BEARER)]).collect();
        ask(fixture.team(), HttpMethod::POST, "/api/v1/desk/x", &headers, body).await
    };
    for kind in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"] {
        assert_eq!(send(&[kind], Body::from("{}")).await.status, StatusCode::OK, "{kind}");
        assert_eq!(desk.taken()[0].body, CallBody::Json(Bytes::from_static(b"{}")));
    }
    assert_eq!(send(&["application/x-www-form-urlencoded"], Body::from("a=%31")).await.status, StatusCode::OK);
    assert_eq!(desk.taken()[0].field("a").as_deref(), Some("1"));
    for empty in [&[][..], &["text/plain"]] {
        assert_eq!(send(empty, Body::empty()).await.status, StatusCode::OK, "nothing has no kind");
        assert_eq!(desk.taken()[0].body, CallBody::Empty);
    }
    // A page of another site can send these kinds without asking.
    for kinds in [
        &[][..],
        &["text/plain"],
        &["multipart/form-data; boundary=x"],
        &["application/jsonx"],
        &["text/json"],
        &["x+json"],
        &["application/json", "text/plain"],
    ] {
        let answer = send(kinds, Body::from("{}")).await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "close"),
            "{kinds:?}"
        );
    }
    let longest = vec![b' '; BODY_BYTES_MAX];
    assert_eq!(send(&[JSON.1], Body::from(longest.clone())).await.status, StatusCode::OK);
    assert_eq!(desk.taken().len(), 1);
    let answer = send(&[JSON.1], Body::from([&longest[..], b" "].concat())).await;
    assert_eq!((answer.status, answer.header("connection")), (StatusCode::PAYLOAD_TOO_LARGE, "close"));
    assert!(answer.text().contains("longer than 64 bytes"), "{}", answer.text());
    // One that says its length is refused by it, before anything of it comes.
    let headers = [("authorization", BEARER), JSON, ("content-length", "65")];
    let answer = ask(fixture.team(), HttpMethod::POST, "/api/v1/desk/x", &headers, Body::new(Never)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(desk.taken().is_empty());
}

/// The bound on the time is over body and call together; the other calls of the mount are not held up.
#[tokio::test(start_paused = true)]
async fn slow_bodies_and_slow_calls_end() {
    let (fixture, desk) = desk();
    let team = fixture.team();
    #[expect(clippy::disallowed_methods, reason = "the paused clock of tokio is the clock of this test")]
    let began = tokio::time::Instant::now();
    let slow = by_team(team.clone(), HttpMethod::POST, "/api/v1/desk/x", Body::new(Never)).await;
    assert_eq!((slow.status, slow.header("connection")), (StatusCode::REQUEST_TIMEOUT, "close"));
    assert_eq!(began.elapsed(), CALL_TIME_MAX.to_std());
    assert!(desk.taken().is_empty());
    let slow = by_team(team.clone(), HttpMethod::GET, "/api/v1/desk/slow", Body::empty()).await;
    assert_eq!((slow.status, slow.header("connection")), (StatusCode::SERVICE_UNAVAILABLE, ""));
    assert!(slow.text().contains("takes too long"), "{}", slow.text());
    assert_eq!(began.elapsed(), 2 * CALL_TIME_MAX.to_std());
}

/// At the bound a mount says that it is busy; the others, and strangers, do not notice.
#[tokio::test(start_paused = true)]
async fn calls_under_way_are_bounded() {
    let (fixture, desk) = desk();
    let team = fixture.team();
    let path = "/api/v1/desk/slow";
    let under_way: Vec<_> =
        (0..CALLS_MAX).map(|_| tokio::spawn(by_team(team.clone(), HttpMethod::GET, path, Body::empty()))).collect();
    while desk.calls.lock().expect("no panic").len() < CALLS_MAX {
        tokio::task::yield_now().await;
    }
    let busy = by_team(team.clone(), HttpMethod::GET, "/api/v1/desk/x", Body::empty()).await;
    assert_eq!((busy.status, busy.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
    assert_eq!(busy.text(), r#"{"error":"too many calls are under way: try again"}"#);
    assert_eq!(get(team.clone(), "/api/v1/desk/x").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(get(fixture.public(), "/a/link").await.status, StatusCode::OK);
    for call in under_way {
        assert_eq!(call.await.expect("no panic").status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(by_team(team, HttpMethod::GET, "/api/v1/desk/x", Body::empty()).await.status, StatusCode::OK);
}

/// CO-7 stays: what is for the team is on its listener only, and what is for everybody depends on no policy.
#[tokio::test]
async fn where_doors_are() {
    let (fixture, _desk) = desk();
    let absent = get(fixture.public(), "/no/such/address").await;
    for publish in [false, true] {
        fixture.set_publish(publish);
        for router in [fixture.team(), fixture.public()] {
            assert_eq!(get(router, "/a/link").await.status, StatusCode::OK, "publish = {publish}");
        }
        for path in ["/api/v1/desk", "/api/v1/desk/x", "/api/v1", "/api/v1/", "/ab", "/a%2Flink", "/A/link", "//a/link"]
        {
            let answer = by_team(fixture.public(), HttpMethod::POST, path, Body::new(Never)).await;
            assert_eq!((answer.status, &answer.body), (StatusCode::NOT_FOUND, &absent.body), "{path}");
        }
        for path in ["/api/v1", "/api/v1/deskx", "/api/v1/intake", "/ab"] {
            assert_eq!(
                by_team(fixture.team(), HttpMethod::GET, path, Body::empty()).await.status,
                StatusCode::NOT_FOUND
            );
        }
        assert_eq!(get(fixture.team(), "/api/status.json").await.status, StatusCode::OK);
    }
}

/// The name of another site that resolves to this machine leads to no door of the team's listener.
#[tokio::test]
async fn no_door_under_another_name() {
    let (fixture, desk) = desk();
    for (path, method) in [("/api/v1/desk/x", HttpMethod::POST), ("/a/link", HttpMethod::GET)] {
        let headers = [("host", "attacker.example"), ("authorization", BEARER), JSON];
        let answer = ask(fixture.team(), method, path, &headers, Body::empty()).await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    assert!(desk.taken().is_empty());
}

/// A page of another site can have a browser send a form, also with what the browser knows of a password. It can't hide that.
#[tokio::test]
async fn no_form_of_another_site() {
    let (fixture, desk) = desk();
    for (site, expected) in [
        ("cross-site", StatusCode::FORBIDDEN),
        ("same-site", StatusCode::FORBIDDEN),
        ("", StatusCode::FORBIDDEN),
        ("same-origin", StatusCode::OK),
        ("none", StatusCode::OK),
    ] {
        let headers = [("sec-fetch-site", site), ("content-type", "application/x-www-form-urlencoded")];
        let answer = ask(fixture.public(), HttpMethod::POST, "/a/link", &headers, Body::from("do=ack")).await;
        assert_eq!((answer.status, desk.taken().len()), (expected, usize::from(expected == StatusCode::OK)), "{site}");
        // A link in a message that is read in a browser comes from another site.
        let answer = ask(fixture.public(), HttpMethod::GET, "/a/link", &headers, Body::empty()).await;
        assert_eq!((answer.status, desk.taken().len()), (StatusCode::OK, 1), "{site}");
    }
}

/// A page of a door is in the reader's language, holds no markup of others, and may send a form to itself. No other may.
#[tokio::test]
async fn a_door_shows_a_page() {
    let (fixture, _desk) = desk();
    for (language, says, not) in [("fr", "Accuser réception", "Acknowledge"), ("en", "Acknowledge", "Accuser")] {
        let headers = [("accept-language", language)];
        let answer = ask(fixture.public(), HttpMethod::GET, "/a/link", &headers, Body::empty()).await;
        let html = answer.text();
        assert!(html.contains(&format!("<html lang=\"{language}\">")) && html.contains(says), "{html}");
        assert!(!html.contains(not) && !html.contains("<b>") && !html.contains("<script>"), "{html}");
        assert!(html.contains("<form method=\"post\">") && html.contains("<button name=\"do\" value=\""), "{html}");
        assert_eq!((answer.header("content-language"), answer.header("vary")), (language, "accept-language"));
        assert_eq!((answer.header("cache-control"), answer.header("referrer-policy")), ("no-store", "no-referrer"));
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("form-action 'self'; frame-ancestors 'none'"), "{policy}");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    }
    for path in ["/api/v1/desk/x", "/api/v1/desk/text", "/fr", "/nothing"] {
        let answer = by_team(fixture.team(), HttpMethod::GET, path, Body::empty()).await;
        assert!(answer.header("content-security-policy").contains("form-action 'none'"), "{path}");
    }
    for (path, status, kind) in [
        ("text", StatusCode::CREATED, "text/plain; charset=utf-8"),
        ("calendar", StatusCode::OK, "text/calendar; charset=utf-8"),
        ("nonsense", StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8"),
    ] {
        let path = format!("/api/v1/desk/{path}");
        let answer = by_team(fixture.team(), HttpMethod::GET, &path, Body::empty()).await;
        assert_eq!((answer.status, answer.header("content-type")), (status, kind), "{path}");
    }
}

/// Mounts that would hide an address of the pages, or each other, are told at the start, by the name of their engine.
#[test]
fn mounts_are_looked_at_first() {
    struct One(Mount);

    impl Door for One {
        fn mounts(&self) -> &'static [Mount] {
            // Mounts live as long as the program, as those of an engine do.
            Box::leak(Box::new([self.0]))
        }

        fn call(&self, _: Call) -> BoxFuture<'_, Reply> {
            Box::pin(async { Reply::Refused(404) })
        }
    }

    let of =
        |prefix, listeners, access| Arc::new(One(Mount { prefix, listeners, access, ..MOUNTS[0] })) as Arc<dyn Door>;
    let team = |prefix| of(prefix, Listeners::Team, Access::TeamToken);
    let fault = |doors: Vec<Arc<dyn Door>>| {
        let doors = doors.into_iter().map(|door| ("desk", door)).collect();
        Doors::new(doors, Hash::of(&[])).map(|doors| format!("{doors:?}"))
    };
    for prefix in ["/a", "/api/v1/alerts", "/logs", "/api/v1.0/x_y-z"] {
        assert!(fault(vec![team(prefix)]).is_ok_and(|shown| shown.contains(prefix)), "{prefix}");
    }
    for prefix in ["", "/", "a", "/a/", "//a", "/a//b", "/a b", "/é", "/..", "/a/./b", "/%61", "/{x}"] {
        let failure = fault(vec![team(prefix)]).expect_err(prefix);
        assert!(failure.what().contains("the engine desk") && failure.what().contains("is no path"), "{failure}");
    }
    for prefix in ["/log", "/log/x", "/fr", "/ping/x", "/api", "/api/status.json", "/metrics"] {
        let failure = fault(vec![team(prefix)]).expect_err(prefix);
        assert!(failure.what().contains("the pages have that address"), "{failure}");
    }
    let twice = fault(vec![team("/a"), of("/a", Listeners::Everybody, Access::OfTheEngine)]).expect_err("twice");
    assert!(twice.what().contains("another mount"), "{twice}");
    let everybody = fault(vec![of("/a", Listeners::Everybody, Access::TeamToken)]).expect_err("a token in the open");
    assert!(everybody.what().contains("never asked for on the public listener"), "{everybody}");
}
