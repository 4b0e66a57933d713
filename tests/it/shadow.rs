//! Shadow mode: a real nginx is watched, stopped, slowed, given a bad certificate and brought back, and what is published
//! is compared with the truth. Promises AV-1, WA-1, IN-4, CO-7, BX-1, BX-5.

use crate::harness::{Certificate, Nginx, Up, eventually, get, http, pause, wall_micros};

/// Everything at a second, so that a minute of test shows what a month of life would.
pub(crate) fn policy(nginx: &Nginx) -> String {
    format!(
        r#"
publish = true
[journal]
name = "shop.example"
[pages]
listen = "127.0.0.1:0"
public = "127.0.0.1:0"
url = "http://127.0.0.1/"
[network]
authorities = "{authority}"
[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
[[service]]
name = "secure"
title.fr = "La boutique chiffrée"
title.en = "The encrypted shop"
[[probe.http]]
name = "shop-answers"
service = "shop"
url = "http://127.0.0.1:{http}/"
every = "1 s"
timeout = "800 ms"
contains = "all is well"
[[probe.http]]
name = "secure-answers"
service = "secure"
url = "https://localhost:{https}/"
every = "1 s"
timeout = "800 ms"
[[promise]]
id = "AV-1"
text.fr = "La boutique est disponible 99,99 % du temps."
text.en = "The shop is available 99.99 % of the time."
availability = {{ service = "shop", at_least = "99.99 %", over = ["180 d", "365 d"] }}
[[promise]]
id = "AV-1.secure"
text.fr = "La boutique chiffrée est disponible 90 % du temps."
text.en = "The encrypted shop is available 90 % of the time."
availability = {{ service = "secure", at_least = "90 %", over = "180 d" }}
[[promise]]
id = "WA-1"
text.fr = "La boutique est contrôlée toutes les secondes."
text.en = "The shop is checked every second."
coverage = {{ service = "shop", at_least = "50 %", over = "30 d" }}
"#,
        authority = nginx.authority().display(),
        http = nginx.http,
        https = nginx.https,
    )
}

fn state(up: &Up, service: &str) -> String {
    let status = up.status();
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let found = services.iter().find(|s| s["service"] == service);
    found.and_then(|s| s["state"].as_str()).unwrap_or("absent").to_owned()
}

fn wait_for(up: &Up, service: &str, wanted: &str) {
    eventually(&format!("{service} to be {wanted}"), || (state(up, service) == wanted).then_some(()));
}

/// What the published figure must bracket: the share of time the service was really up since the promise was declared.
#[test]
fn what_is_published_is_what_happened() {
    let mut nginx = Nginx::start();
    let up = Up::start(&policy(&nginx));
    wait_for(&up, "shop", "up");
    wait_for(&up, "secure", "up");

    // A crash of seven seconds.
    nginx.kill();
    let down_from = wall_micros();
    wait_for(&up, "shop", "down");
    pause(7.0);
    nginx.run();
    let down_to = wall_micros();
    wait_for(&up, "shop", "up");

    // Connections taken and nothing answered, for five seconds: a slow server is a server that is down.
    nginx.freeze(true);
    let frozen_from = wall_micros();
    wait_for(&up, "shop", "down");
    pause(5.0);
    nginx.freeze(false);
    let frozen_to = wall_micros();
    wait_for(&up, "shop", "up");

    // A certificate that expired in 2021 concerns only the encrypted service.
    nginx.certificate(Certificate::Expired);
    wait_for(&up, "secure", "down");
    assert_eq!(state(&up, "shop"), "up", "the plain service does not suffer from a certificate");
    nginx.certificate(Certificate::Good);
    wait_for(&up, "secure", "up");

    // The verdict follows, and brackets the truth. Its window starts when the promise was declared.
    let truth_down = (down_to - down_from) + (frozen_to - frozen_from);
    let verdict = eventually("a verdict that has seen both outages", || {
        up.verdicts("AV-1").into_iter().find(|v| {
            v["window"]["end"].as_i64() > Some(frozen_to)
                && v["reasons"].as_array().is_some_and(|r| r.iter().any(|r| r["outages"] == 2))
        })
    });
    assert_eq!(verdict["outcome"], "broken", "{verdict}");
    let window = verdict["window"]["end"].as_i64().expect("end") - verdict["window"]["start"].as_i64().expect("start");
    let truth =
        i64::try_from(1_000_000_000 - i128::from(truth_down) * 1_000_000_000 / i128::from(window)).expect("a share");
    let (low, high) =
        (verdict["figure"]["low"].as_i64().expect("low"), verdict["figure"]["high"].as_i64().expect("high"));
    assert!(low <= truth && truth <= high, "truth {truth} must lie in [{low}, {high}]: {verdict}");
    // And the bracket is worth something: at a probe a second, two outages leave a few seconds of doubt, plus the start.
    assert!((high - low) < 500_000_000, "[{low}, {high}] says nothing");

    // The page says the same, in both languages, to everybody, since the policy says `publish = true`.
    let public = up.ready["public"].as_str().expect("a public URL").to_owned();
    for (language, sentence, outcome) in
        [("fr", "La boutique est disponible 99,99", "rompu"), ("en", "The shop is available 99.99", "broken")]
    {
        let body = get(&format!("{public}{language}")).expect("the trust page");
        let trust_page = String::from_utf8(body).expect("UTF-8");
        assert!(trust_page.contains(sentence), "{language}: {trust_page}");
        assert!(trust_page.to_lowercase().contains(outcome), "{language}: {trust_page}");
        assert!(trust_page.contains(".tlog-proof"), "a link to the proof");
        assert!(trust_page.contains("garant verify"), "the command that checks it");
        assert!(!trust_page.contains("<script"), "no JavaScript");
        assert!(trust_page.len() < 50_000, "{} bytes", trust_page.len());
    }

    // Metrics are there for the team and for nobody else.
    let metrics = String::from_utf8(get(&up.url("metrics")).expect("metrics")).expect("UTF-8");
    assert!(metrics.ends_with("# EOF\n"), "OpenMetrics ends with # EOF");
    assert_eq!(http("GET", &format!("{public}metrics"), &[], b"").map(|a| a.0), Some(404));
    up.stop();
}

/// Nothing leaves the team's listener until the policy says so.
#[test]
fn nothing_is_published_before_it_is_said() {
    let nginx = Nginx::start();
    let up = Up::start(&policy(&nginx).replace("publish = true", "publish = false"));
    let public = up.ready["public"].as_str().expect("a public URL").to_owned();
    for path in ["", "fr", "en", "log/checkpoint", "log/vkey", "log/verdicts.json", "metrics", "api/status.json"] {
        let status = http("GET", &format!("{public}{path}"), &[], b"").map(|a| a.0);
        assert_eq!(status, Some(404), "/{path} before publication");
    }
    assert!(get(&up.url("en")).is_some(), "the team sees the page");

    // Publication is a change of the policy, applied without a restart.
    std::fs::write(up.path("garant.toml"), policy(&nginx)).expect("written");
    up.signal("HUP");
    eventually("publication", || get(&format!("{public}en")));
}

/// A sign of life, as curl sends it to Healthchecks.
#[test]
fn heartbeats_are_waited_for() {
    let uuid = "0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10";
    let up = Up::start(&format!(
        r#"
[pages]
listen = "127.0.0.1:0"
[journal]
name = "shop.example"
[[service]]
name = "night-job"
title.fr = "Le travail de nuit"
title.en = "The night job"
[[probe.heartbeat]]
name = "night-job-ran"
service = "night-job"
uuid = "{uuid}"
every = "10 s"
grace = "1 s"
[[promise]]
id = "BK-1"
text.fr = "Le travail passe toutes les 10 secondes."
text.en = "The job runs every 10 seconds."
freshness = {{ probe = "night-job-ran", at_most = "15 s", over = "30 d" }}
"#
    ));
    assert_eq!(http("GET", &up.url("ping/00000000-0000-0000-0000-000000000000"), &[], b"").map(|a| a.0), Some(404));
    let beat = |suffix: &str| http("POST", &up.url(&format!("ping/{uuid}{suffix}")), &[], b"log line").map(|a| a.0);
    assert_eq!(beat("/start"), Some(200));
    assert_eq!(beat(""), Some(200));
    wait_for(&up, "night-job", "up");
    // Silence, then a failure, then life again.
    wait_for(&up, "night-job", "down");
    assert_eq!(beat(""), Some(200));
    wait_for(&up, "night-job", "up");
    assert_eq!(beat("/fail"), Some(200));
    wait_for(&up, "night-job", "down");
    assert_eq!(beat("/0"), Some(200), "an exit status of 0 is a success");
    wait_for(&up, "night-job", "up");
    assert_eq!(beat("/3"), Some(200), "another is a failure");
    wait_for(&up, "night-job", "down");
}
