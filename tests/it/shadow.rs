//! Shadow mode: a real nginx is watched, stopped, slowed, given a bad certificate and brought back, and the published
//! figures are compared with the truth. Promises AV-1, WA-1, IN-4, CO-7, BX-1, BX-5.

use crate::harness::{Certificate, Nginx, Up, eventually, get, http, pause, wall_micros};

/// A policy with every interval at a second, so that a minute of test shows what a month would.
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
slower_than = "200 ms"
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
id = "AV-1.short"
text.fr = "La boutique est disponible 99,99 % de toute période de dix minutes."
text.en = "The shop is available 99.99 % of any ten minutes."
availability = {{ service = "shop", at_least = "99.99 %", over = "10 min" }}
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

/// An outage, as exactly as the test that causes it can know: from before breaking to after mending at the most, from after
/// breaking to before mending at the least. In µs of the wall clock.
struct Outage {
    before: i64,
    from: i64,
    to: i64,
    after: i64,
}

/// Breaks something, waits until `noticed` says so, and mends it.
fn outage(
    truths: &mut [&mut Vec<Outage>],
    nginx: &mut Nginx,
    broken: impl FnOnce(&mut Nginx),
    noticed: impl FnOnce(),
    mended: impl FnOnce(&mut Nginx),
) {
    let before = wall_micros();
    broken(nginx);
    let from = wall_micros();
    noticed();
    let to = wall_micros();
    mended(nginx);
    let after = wall_micros();
    for truth in truths {
        truth.push(Outage { before, from, to, after });
    }
}

/// Waits for a verdict that has seen those outages and no other, and checks that its figure brackets the truth closely.
fn is_told(up: &Up, promise: &str, truth: &[Outage]) -> serde_json::Value {
    let outages = |verdict: &serde_json::Value| {
        let reasons = verdict["reasons"].as_array()?;
        reasons.iter().find_map(|reason| usize::try_from(reason["outages"].as_u64()?).ok())
    };
    let verdict = eventually(&format!("a verdict on {promise} that has seen {} outages", truth.len()), || {
        up.verdicts(promise).into_iter().find(|verdict| outages(verdict) >= Some(truth.len()))
    });
    assert_eq!(outages(&verdict), Some(truth.len()), "what was broken, and nothing else: {verdict}");
    let number = |value: &serde_json::Value| value.as_i64().unwrap_or_else(|| panic!("{verdict}"));
    let (start, end) = (number(&verdict["window"]["start"]), number(&verdict["window"]["end"]));
    // The window may end within the last outage.
    let within = |from: i64, to: i64| (to.min(end) - from.min(end)).max(0);
    let up_ppb = |down: i64| 1_000_000_000 - i128::from(down) * 1_000_000_000 / i128::from(end - start);
    let best = up_ppb(truth.iter().map(|outage| within(outage.from, outage.to)).sum());
    let worst = up_ppb(truth.iter().map(|outage| within(outage.before, outage.after)).sum());
    let (low, high) = (number(&verdict["figure"]["low"]), number(&verdict["figure"]["high"]));
    assert!(
        i128::from(low) <= best && worst <= i128::from(high),
        "the truth, [{worst}, {best}], must lie in [{low}, {high}]: {verdict}"
    );
    // The bracket is narrow: at a probe a second each outage leaves a few seconds of doubt, and so does the start.
    let doubt_us = i128::from(high - low) * i128::from(end - start) / 1_000_000_000;
    let doubts = i128::try_from(truth.len()).expect("few") + 1;
    assert!(doubt_us < 5_000_000 * doubts, "[{low}, {high}] leaves {doubt_us} µs open: {verdict}");
    verdict
}

/// The published figure brackets the share of time the service was really up since the promise was declared.
#[test]
fn what_is_published_is_what_happened() {
    let mut nginx = Nginx::start();
    let up = Up::start(&policy(&nginx));
    wait_for(&up, "shop", "up");
    wait_for(&up, "secure", "up");
    let (mut shop, mut secure) = (Vec::new(), Vec::new());

    // Answers in time, but slower than the policy allows: degraded, which counts as up.
    nginx.slow(true);
    wait_for(&up, "shop", "degraded");
    for _ in 0..30 {
        let state = state(&up, "shop");
        assert!(state == "degraded" || state == "up", "slow is not down: {state}");
        pause(0.1);
    }
    assert_eq!(state(&up, "secure"), "up");
    nginx.slow(false);
    wait_for(&up, "shop", "up");

    // A crash of seven seconds.
    let both_down = || {
        wait_for(&up, "shop", "down");
        wait_for(&up, "secure", "down");
        pause(7.0);
    };
    outage(&mut [&mut shop, &mut secure], &mut nginx, Nginx::kill, both_down, Nginx::run);
    wait_for(&up, "shop", "up");
    wait_for(&up, "secure", "up");

    // Connections are accepted and nothing is answered, for five seconds: no answer in time is down.
    let both_down = || {
        wait_for(&up, "shop", "down");
        wait_for(&up, "secure", "down");
        pause(5.0);
    };
    let both = &mut [&mut shop, &mut secure];
    outage(both, &mut nginx, |nginx| nginx.freeze(true), both_down, |nginx| nginx.freeze(false));
    wait_for(&up, "shop", "up");
    wait_for(&up, "secure", "up");

    // A certificate that expired in 2021 puts down the encrypted service alone.
    let secure_down = || {
        wait_for(&up, "secure", "down");
        assert_eq!(state(&up, "shop"), "up", "the plain service does not suffer from a certificate");
        pause(4.0);
    };
    let renew = |nginx: &mut Nginx| {
        nginx.certificate(Certificate::Good);
        // nginx shows a new certificate when its new workers run.
        wait_for(&up, "secure", "up");
    };
    outage(&mut [&mut secure], &mut nginx, |nginx| nginx.certificate(Certificate::Expired), secure_down, renew);

    // The verdicts follow, and bracket the truth. Their windows start when the promise was declared.
    let verdict = is_told(&up, "AV-1", &shop);
    // Of 180 days, 99.99 % leaves 25 min 55.2 s: a dozen seconds break nothing, and nothing is kept either.
    assert_eq!(verdict["outcome"], "unproven", "{verdict}");
    let reasons = verdict["reasons"].as_array().expect("reasons");
    let budget = reasons.iter().find(|reason| reason["reason"] == "budget").expect("the budget");
    assert_eq!(budget["of"], 1_555_200_000, "{verdict}");
    // Of ten minutes it leaves 60 ms.
    let verdict = is_told(&up, "AV-1.short", &shop);
    assert_eq!(verdict["outcome"], "broken", "{verdict}");
    let verdict = is_told(&up, "AV-1.secure", &secure);
    assert_ne!(verdict["outcome"], "kept", "{verdict}");

    // The trust page says the same, in both languages, on the public listener, since the policy says `publish = true`.
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

    // Metrics are on the team's listener only.
    let metrics = String::from_utf8(get(&up.url("metrics")).expect("metrics")).expect("UTF-8");
    assert!(metrics.ends_with("# EOF\n"), "OpenMetrics ends with # EOF");
    assert_eq!(http("GET", &format!("{public}metrics"), &[], b"").map(|a| a.0), Some(404));
    up.stop();
}

/// Nothing is on the public listener until the policy says `publish = true`.
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

/// A heartbeat sent with curl, as Healthchecks documents it, and its absence.
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
