use axum::http::Method;
use engine::heartbeat::Said;

use super::*;
use crate::fake::{Answer, Fixture, Never, UUID, ask};

#[test]
fn addresses_mean_what_they_mean_at_healthchecks() {
    for (action, expected) in [
        ("", Some(Said::Success)),
        ("start", Some(Said::Start)),
        ("fail", Some(Said::Fail)),
        ("0", Some(Said::Success)),
        ("1", Some(Said::Fail)),
        ("255", Some(Said::Fail)),
        ("256", None),
        ("-1", None),
        ("+1", None),
        ("0000", None),
        ("START", None),
        ("../start", None),
    ] {
        assert_eq!(meaning(action), expected.map(Meaning::Sign), "{action}");
    }
    assert_eq!(meaning("log"), Some(Meaning::Output));
}

#[test]
fn uuids_have_one_spelling() {
    assert_eq!(canonical(UUID).as_deref(), Some(UUID));
    assert_eq!(canonical(&UUID.to_uppercase()).as_deref(), Some(UUID));
    for bad in
        ["", "0", &UUID[1..], &format!("{UUID}0"), &UUID.replace('-', "0"), &UUID.replace('0', "g"), &"é".repeat(18)]
    {
        assert_eq!(canonical(bad), None, "{bad}");
    }
}

/// Pings, and has the other end acknowledge each one that arrives.
async fn ping(fixture: &Fixture, method: Method, path: &str, body: Body) -> (Answer, Option<Ping>) {
    let pings = fixture.pings.clone();
    let watch = tokio::spawn(async move {
        let delivery = pings.listen().await.next().await;
        let ping = delivery.ping.clone();
        delivery.acknowledge();
        ping
    });
    let answer = ask(fixture.public(), method, path, &[], body).await;
    let taken = if answer.status == StatusCode::OK { Some(watch.await.expect("no panic")) } else { None };
    (answer, taken)
}

#[tokio::test]
async fn a_ping_is_handed_over_before_ok_is_said() {
    let fixture = Fixture::new();
    for (method, suffix, said) in [
        (Method::GET, "", Said::Success),
        (Method::HEAD, "", Said::Success),
        (Method::POST, "/start", Said::Start),
        (Method::POST, "/fail", Said::Fail),
        (Method::GET, "/0", Said::Success),
        (Method::POST, "/7", Said::Fail),
    ] {
        let path = format!("/ping/{UUID}{suffix}");
        let (answer, taken) = ping(&fixture, method.clone(), &path, Body::from("output of the job")).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}");
        assert_eq!(answer.text(), if method == Method::HEAD { "" } else { "OK" });
        assert_eq!(answer.header("cache-control"), "no-store");
        let taken = taken.expect("it was handed over");
        assert_eq!((taken.ping, taken.uuid.as_str(), taken.body_bytes), (said, UUID, 17));
    }
}

/// Before anything is published the public listener takes pings only where the policy says so; the team's always does.
#[tokio::test]
async fn where_pings_are_taken() {
    let fixture = Fixture::new();
    let path = format!("/ping/{UUID}/log");
    for (publish, pings, taken) in [(false, false, false), (false, true, true), (true, false, true), (true, true, true)]
    {
        fixture.set_publish(publish);
        fixture.policy.send_modify(|policy| std::sync::Arc::make_mut(policy).public_pings = pings);
        let public = ask(fixture.public(), Method::GET, &path, &[], Body::empty()).await;
        let expected = if taken { StatusCode::OK } else { StatusCode::NOT_FOUND };
        assert_eq!(public.status, expected, "publish {publish}, pings {pings}");
        if !taken {
            let absent = ask(fixture.public(), Method::GET, "/no/such/page", &[], Body::empty()).await;
            assert_eq!((&public.headers, &public.body), (&absent.headers, &absent.body), "as if there were nothing");
        }
        assert_eq!(ask(fixture.team(), Method::GET, &path, &[], Body::empty()).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_flood_is_told_so() {
    let fixture = Fixture::new();
    let pings = fixture.pings.clone();
    let watch = tokio::spawn(async move { pings.listen().await.next().await.refuse() });
    let answer = ask(fixture.public(), Method::GET, &format!("/ping/{UUID}"), &[], Body::empty()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("retry-after"), "1");
    watch.await.expect("no panic");
}

/// As with Healthchecks: `rid` names the run, and a slash at the end is no other address.
#[tokio::test]
async fn a_run_has_a_name() {
    let fixture = Fixture::new();
    let rid = "123E4567-e89b-12d3-a456-426614174000";
    for (suffix, said, run) in [
        (format!("?rid={rid}"), Said::Success, Some(rid.to_lowercase())),
        (format!("/start?x=y&rid={rid}"), Said::Start, Some(rid.to_lowercase())),
        ("/".to_owned(), Said::Success, None),
        (format!("/?rid={rid}"), Said::Success, Some(rid.to_lowercase())),
        ("/fail?rids=1&create=1".to_owned(), Said::Fail, None),
    ] {
        let (answer, taken) = ping(&fixture, Method::GET, &format!("/ping/{UUID}{suffix}"), Body::empty()).await;
        assert_eq!(answer.status, StatusCode::OK, "{suffix}");
        let taken = taken.expect("it was handed over");
        assert_eq!((taken.ping, taken.run), (said, run), "{suffix}");
    }
    for bad in ["?rid=", "?rid=1", "/start?rid=nonsense", "/log?rid=x"] {
        let answer = ask(fixture.public(), Method::GET, &format!("/ping/{UUID}{bad}"), &[], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn unknown_addresses_are_not_found() {
    let fixture = Fixture::new();
    let unknown = "00000000-0000-0000-0000-000000000000";
    for path in
        [unknown.to_owned(), format!("{UUID}/256"), format!("{unknown}/log"), "nonsense".to_owned(), "%ff".to_owned()]
    {
        let answer = ask(fixture.public(), Method::POST, &format!("/ping/{path}"), &[], Body::empty()).await;
        assert!(matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST), "{path}: {}", answer.status);
    }
    let answer = ask(fixture.public(), Method::DELETE, &format!("/ping/{UUID}"), &[], Body::empty()).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

/// Nobody listens here: what changes no state needs nobody.
#[tokio::test]
async fn output_is_taken_and_changes_nothing() {
    let fixture = Fixture::new();
    let answer = ask(fixture.public(), Method::POST, &format!("/ping/{UUID}/log"), &[], Body::from("12 files")).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "OK"));
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_nobody_records_is_not_acknowledged() {
    let fixture = Fixture::new();
    let answer = ask(fixture.public(), Method::GET, &format!("/ping/{UUID}"), &[], Body::empty()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((answer.header("retry-after"), answer.text()), ("5", "busy, try again\n"));
    fixture.break_storage();
    let answer = ask(fixture.public(), Method::GET, &format!("/ping/{UUID}"), &[], Body::empty()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("the disk is full"), "{}", answer.text());
}

#[tokio::test]
async fn a_long_body_is_not_read_to_its_end() {
    let fixture = Fixture::new();
    let path = format!("/ping/{UUID}");
    let (answer, taken) = ping(&fixture, Method::POST, &path, Body::from(vec![b'x'; 3_000_000])).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(taken.map(|ping| ping.body_bytes), Some(BODY_BYTES_MAX));
}

/// Whoever knows no address of the team's keeps nothing waiting for what does not come.
#[tokio::test(start_paused = true)]
async fn the_body_of_a_stranger_is_not_waited_for() {
    let fixture = Fixture::new();
    let path = "/ping/00000000-0000-0000-0000-000000000000";
    #[expect(clippy::disallowed_methods, reason = "the paused clock of tokio is the clock of this test")]
    let before = tokio::time::Instant::now();
    let answer = ask(fixture.public(), Method::POST, path, &[], Body::new(Never)).await;
    assert_eq!((answer.status, before.elapsed()), (StatusCode::NOT_FOUND, Duration::ZERO));
}
