//! The two routers as a whole: who may see what, and what every answer carries.

use axum::body::Body;
use axum::http::{Method, StatusCode};

use crate::fake::{Fixture, UUID, ask, get};

const SHOWN: [&str; 10] = [
    "/",
    "/fr",
    "/en",
    "/log/checkpoint",
    "/log/vkey",
    "/log/tlog-policy",
    "/log/policy.json",
    "/log/verdicts.json",
    "/log/tile/0/000",
    "/robots.txt",
];
const FOR_THE_TEAM: [&str; 3] = ["/metrics", "/ready", "/api/status.json"];

/// CO-7: nothing is published until the policy says so, and then at once; the team sees everything always.
#[tokio::test]
async fn who_may_see_what() {
    let fixture = Fixture::new();
    for publish in [false, true, false] {
        fixture.set_publish(publish);
        for path in SHOWN {
            let public = get(fixture.public(), path).await;
            let expected = if publish { StatusCode::OK } else { StatusCode::NOT_FOUND };
            assert_eq!(public.status, expected, "{path} when publish = {publish}");
            assert_eq!(get(fixture.team(), path).await.status, StatusCode::OK, "{path}");
        }
        for path in FOR_THE_TEAM {
            assert_eq!(get(fixture.public(), path).await.status, StatusCode::NOT_FOUND, "{path}");
            assert_eq!(get(fixture.team(), path).await.status, StatusCode::OK, "{path}");
        }
    }
}

/// What a browser, a robot and a load balancer ask any site for has an answer.
#[tokio::test]
async fn the_usual_addresses_answer() {
    let fixture = Fixture::new();
    fixture.set_publish(true);
    for (path, status, says) in [
        ("/healthz", StatusCode::OK, "ok"),
        ("/robots.txt", StatusCode::OK, "Disallow: /log/"),
        ("/favicon.ico", StatusCode::NO_CONTENT, ""),
        ("/log/", StatusCode::SEE_OTHER, ""),
        ("/log", StatusCode::SEE_OTHER, ""),
    ] {
        let answer = get(fixture.public(), path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains(says), "{path}: {}", answer.text());
    }
    assert_eq!(get(fixture.public(), "/log/").await.header("location"), "/", "the page says what to do with it");
    assert_eq!(get(fixture.team(), "/api/").await.header("location"), "/api/status.json");
    assert!(get(fixture.team(), "/robots.txt").await.text().ends_with("Disallow: /\n"), "nothing is for robots");
    fixture.set_publish(false);
    assert_eq!(get(fixture.public(), "/healthz").await.status, StatusCode::OK, "it says nothing of what is there");
    assert_eq!(get(fixture.public(), "/log/").await.status, StatusCode::NOT_FOUND);
}

/// Unpublished looks like absent: the answers can't be told apart.
#[tokio::test]
async fn unpublished_is_no_different_from_absent() {
    let fixture = Fixture::new();
    fixture.set_publish(false);
    let absent = get(fixture.public(), "/no/such/page").await;
    for path in SHOWN {
        let hidden = get(fixture.public(), path).await;
        assert_eq!(
            (hidden.status, &hidden.headers, &hidden.body),
            (absent.status, &absent.headers, &absent.body),
            "{path}"
        );
    }
    let text = absent.text();
    assert!(text.contains("Page introuvable") && text.contains("Page not found"), "both languages: {text}");
    assert!(!text.contains("garant"), "it does not say what answered");
}

#[tokio::test]
async fn every_answer_is_locked_down() {
    let fixture = Fixture::new();
    let paths = SHOWN.iter().chain(&FOR_THE_TEAM).chain(&["/nothing", "/ping/nonsense", "/log/nothing"]);
    for path in paths {
        for method in [Method::GET, Method::HEAD, Method::DELETE] {
            let answer = ask(fixture.team(), method.clone(), path, &[], Body::empty()).await;
            for (header, expected) in [
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("x-frame-options", "DENY"),
                ("cross-origin-resource-policy", "same-origin"),
                ("server", ""),
            ] {
                assert_eq!(answer.header(header), expected, "{method} {path}: {header}");
            }
            let policy = answer.header("content-security-policy");
            assert!(
                policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
                "{method} {path}"
            );
            assert!(!answer.header("cache-control").is_empty(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let fixture = Fixture::new();
    for path in SHOWN.iter().chain(&FOR_THE_TEAM[1..]).chain(&["/nothing"]) {
        let whole = get(fixture.team(), path).await;
        let head = ask(fixture.team(), Method::HEAD, path, &[], Body::empty()).await;
        assert_eq!((head.status, head.body.len()), (whole.status, 0), "{path}");
        for name in ["content-type", "content-length", "etag", "cache-control"] {
            assert_eq!(head.header(name), whole.header(name), "{path}");
        }
    }
}

#[tokio::test]
async fn other_methods_are_named_and_refused() {
    let fixture = Fixture::new();
    for (path, allowed) in [("/fr", "GET,HEAD"), ("/log/checkpoint", "GET,HEAD"), ("/metrics", "GET,HEAD")] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = ask(fixture.team(), method.clone(), path, &[], Body::from("x")).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(answer.header("allow"), allowed, "{method} {path}");
            assert!(answer.text().contains("Méthode non autorisée") && answer.text().contains("Method not allowed"));
        }
    }
    let ping = ask(fixture.team(), Method::PUT, &format!("/ping/{UUID}"), &[], Body::empty()).await;
    assert_eq!(ping.header("allow"), "GET,HEAD,POST");
}
