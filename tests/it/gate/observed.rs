//! What real requests are evidence of: the log, the trust page in both languages, and a verdict that a stranger computes again.

use serde_json::Value;

use super::client::{Client, exchange};
use super::upstream::{Upstream, process_of, process_with};
use super::{Gate, tls};
use crate::harness::{
    command, disclosed, disclosed_places, eventually, eventually_within, export, free_port, garant, get, transcript,
    wall_micros,
};
use crate::proof::go_verifier;

/// A minute that was bad is over once a minute without failures has passed.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

/// AV-1, ED-1, ED-3: failures of real requests break availability, beside what probes say; how the site was served is found.
#[test]
fn real_requests_are_evidence() {
    let near = Upstream::start(1);
    let certificate = tls::Certificate::make();
    certificate.renew_for_days(90);
    let https = free_port();
    let promises = "[[service]]\nname = \"shop\"\ntitle.fr = \"La boutique\"\ntitle.en = \"The shop\"\n\
        [[promise]]\nid = \"AV-1\"\ntext.fr = \"Disponible.\"\ntext.en = \"Available.\"\n\
        availability = { service = \"shop\", at_least = \"99.999 %\", over = \"5 min\" }\n\
        [[promise]]\nid = \"ED-1\"\ntext.fr = \"Rien en clair.\"\ntext.en = \"Nothing in clear.\"\n\
        absence = { finding = \"gate-clear\", over = \"5 min\", observed = \"1 %\" }\n\
        [[promise]]\nid = \"ED-3\"\ntext.fr = \"Des en-têtes.\"\ntext.en = \"Headers.\"\n\
        absence = { finding = \"gate-headers\", over = \"5 min\", observed = \"1 %\" }\n";
    let site = format!(
        "{}\nupstream = [{{ url = \"http://{}\" }}]\nredirect_to_https = false\n\
         observe = {{ service = \"shop\", probe = \"shop-edge\" }}\n{promises}",
        certificate.keys(),
        near.address()
    );
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]"), &site);
    let url = format!("https://t.example:{https}/echo");
    let secured = || tls::curl(&certificate.path("ca.pem"), https, &url, &[]).status.success();
    assert!(secured());
    let outcome = |promise: &str| {
        let newest = gate.up.verdicts(promise).pop()?;
        newest["outcome"].as_str().map(ToOwned::to_owned)
    };
    eventually_within(PATIENCE, "that headers are there, so far", || (outcome("ED-3")? == "kept").then_some(()));
    eventually_within(PATIENCE, "that nothing was in clear, so far", || (outcome("ED-1")? == "kept").then_some(()));
    let hello = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";
    assert_eq!(Client::connect(gate.http).expect("it listens").ask(hello).status, 200, "in clear, as the policy says");
    eventually_within(PATIENCE, "that something was", || (outcome("ED-1")? == "broken").then_some(()));
    // The checks find nothing wrong with an upstream that answers so: only those who ask see it.
    let bad = "GET /bad HTTP/1.1\r\nHost: t.example\r\n\r\n";
    assert_eq!(Client::connect(gate.http).expect("it listens").ask(bad).status, 503);
    eventually_within(PATIENCE, "that the shop was down", || (outcome("AV-1")? == "broken").then_some(()));
    assert_eq!(gate.status()["sites"][0]["upstreams"][0]["state"], "up");
    for (path, words) in [
        ("fr", ["Une page est servie en clair", "Rien en clair."]),
        ("", ["A page is served in clear", "Nothing in clear."]),
    ] {
        let trust_page = eventually("the trust page", || get(&gate.up.url(path)));
        let trust_page = String::from_utf8_lossy(&trust_page).into_owned();
        assert!(words.iter().all(|word| trust_page.contains(word)), "{path}: {trust_page}");
    }
    let counted = eventually_within(PATIENCE, "the count of the minute", || {
        let shown =
            garant(&["log", "show", "--kind", "gate.failures", "--json", "--data", gate.up.path("data").to_str()?]);
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        text.contains("gate.failures").then_some(text)
    });
    assert!(counted.contains("\"failed\":"), "{counted}");
    // Nothing of a host, an address or a path is public, and a stranger computes the same.
    let folder = tempfile::tempdir().expect("a folder");
    let data = gate.up.path("data");
    let key = export(&data, folder.path());
    let public: Vec<Value> = disclosed(folder.path());
    let text = public.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("shop-edge") && text.contains("gate-clear"));
    for secret in ["127.0.0.1", "/echo", near.address().to_string().as_str()] {
        assert!(!text.contains(secret), "{secret}");
    }
    let verified = garant(&["verify", folder.path().to_str().expect("UTF-8"), "--vkey", &key]);
    assert!(verified.status.success(), "{}", transcript(&verified));
}

/// The entries of this kind so far.
fn entries_of(up: &crate::harness::Up, kind: &str) -> Vec<Value> {
    let data = up.path("data");
    let shown = garant(&["log", "show", "--kind", kind, "--json", "--data", data.to_str().expect("UTF-8")]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let entry = |line: &str| serde_json::from_str::<Value>(line).ok().map(|shown| shown["entry"].clone());
    text.lines().filter_map(entry).collect()
}

/// Start and end of an interval.
fn ends(interval: &Value) -> (i64, i64) {
    (interval["start"].as_i64().expect("an instant"), interval["end"].as_i64().expect("an instant"))
}

/// All that was answered and failed by some counts.
fn sums<'b>(bodies: impl Iterator<Item = &'b Value>) -> (i64, i64) {
    let minutes = bodies.flat_map(|body| body["minutes"].as_array().into_iter().flatten());
    let of = |minute: &Value, key: &str| minute[key].as_i64().expect("a count");
    minutes
        .fold((0, 0), |(answered, failed), minute| (answered + of(minute, "answered"), failed + of(minute, "failed")))
}

/// The figure of a verdict on requests, by what `docs/evaluator.md` says of one gate whose counts begin in the window.
fn figure(entries: &[(u64, Value)], verdict: &Value) -> (i64, i64) {
    let read = verdict["tree_size"].as_u64().expect("a size");
    let (from, to) = ends(&verdict["window"]);
    let of_window = |body: &&Value| {
        let (start, end) = ends(&body["interval"]);
        end > from && start < to
    };
    let counts = entries.iter().filter(|(place, entry)| *place < read && entry["type"] == "evidence.counted");
    let counts: Vec<&Value> = counts.map(|(_, entry)| &entry["body"]).filter(of_window).collect();
    let (inside, beyond): (Vec<&Value>, Vec<&Value>) =
        counts.iter().partition(|body| ends(&body["interval"]).0 >= from && ends(&body["interval"]).1 <= to);
    let ((answered, failed), (perhaps, perhaps_not)) = (sums(inside.into_iter()), sums(beyond.into_iter()));
    let counted: i64 =
        counts.iter().map(|body| ends(&body["interval"])).map(|(start, end)| end.min(to) - start.max(from)).sum();
    let (one, whole) = (1_000_000_000_i128, i128::from(to - from));
    let least = i128::from(answered) * one / i128::from((answered + failed + perhaps_not).max(1));
    let greatest_of = i128::from((answered + perhaps + failed).max(1));
    let greatest = (i128::from(answered + perhaps) * one + greatest_of - 1) / greatest_of;
    let low = least * i128::from(counted) / whole;
    let high = (greatest * i128::from(counted) + one * (whole - i128::from(counted)) + whole - 1) / whole;
    (i64::try_from(low).expect("a share"), i64::try_from(high).expect("a share"))
}

/// AV-1: real requests through a gate before an nginx are counted, minute by minute, and the share that was answered is a verdict that a
/// stranger computes again. Time in which the gate was dead is in no count.
#[test]
fn requests_are_counted() {
    let near = Upstream::start(1);
    let promises = "[[service]]\nname = \"shop\"\ntitle.fr = \"La boutique\"\ntitle.en = \"The shop\"\n\
        [[promise]]\nid = \"AV-1\"\ntext.fr = \"Presque toutes.\"\ntext.en = \"Nearly all.\"\n\
        requests = { probe = \"shop-edge\", at_least = \"99.9 %\", over = \"5 min\" }\n\
        [[promise]]\nid = \"AV-1.half\"\ntext.fr = \"La moitié.\"\ntext.en = \"Half of them.\"\n\
        requests = { probe = \"shop-edge\", at_least = \"50 %\", over = \"1 d\" }\n";
    let site = format!(
        "upstream = [{{ url = \"http://{}\" }}]\nobserve = {{ service = \"shop\", probe = \"shop-edge\" }}\n{promises}",
        near.address()
    );
    let gate = Gate::start(&site);
    let up = &gate.up;
    let ask = |path: &str| exchange(gate.http, &format!("GET {path} HTTP/1.1\r\nHost: t.example\r\n\r\n"));
    // What came before the gate began to observe is in nobody's count.
    eventually("the gate to observe", || entries_of(up, "evidence.changed").pop());
    for _ in 0..19 {
        assert_eq!(ask("/echo"), 200);
    }
    assert_eq!(ask("/bad"), 503);
    let counted = eventually_within(PATIENCE, "the minute in which one failed", || {
        let counts = entries_of(up, "evidence.counted");
        let sums = sums(counts.iter().map(|entry| &entry["body"]));
        (sums.1 == 1).then_some((sums, counts))
    });
    assert_eq!(counted.0, (19, 1), "{counted:?}");
    let outcome = |promise: &str| up.verdicts(promise).pop()?["outcome"].as_str().map(ToOwned::to_owned);
    eventually_within(PATIENCE, "too many to have failed", || (outcome("AV-1")? == "broken").then_some(()));
    eventually_within(PATIENCE, "half to be answered", || (outcome("AV-1.half")? == "kept").then_some(()));
    for (path, words) in [("fr", "part des requêtes abouties"), ("", "share of requests answered")] {
        let trust_page = eventually("the trust page", || get(&up.url(path)));
        let trust_page = String::from_utf8_lossy(&trust_page).into_owned();
        assert!(trust_page.contains(words), "{path}: {trust_page}");
    }
    let metrics = String::from_utf8(get(&up.url("metrics")).expect("figures")).expect("UTF-8");
    assert!(metrics.contains("garant_objective_ratio{promise=\"AV-1.half\""), "{metrics}");

    // A gate whose place another one takes says what it has counted before it lets go, whether a record was due or not.
    assert_eq!(ask("/echo"), 200);
    let upgraded = gate.ask(&["upgrade"]);
    assert!(upgraded.status.success(), "{}", transcript(&upgraded));
    let all = || sums(entries_of(up, "evidence.counted").iter().map(|entry| &entry["body"]));
    eventually("the last count of the old gate", || (all() == (20, 1)).then_some(()));

    // The gate dies with a request that it has not told, and another takes its place.
    assert_eq!(ask("/echo"), 200);
    let state = up.path("data.gate");
    let arguments = ["gate", "--state", state.to_str().expect("UTF-8")];
    let pid = process_with(&arguments);
    let killed_at = wall_micros();
    assert!(command("kill").args(["-9", &pid]).status().expect("kill runs").success());
    eventually("another gate", || process_of(&arguments).filter(|other| *other != pid));
    // The one that was replaced just before may be about to close its socket still.
    eventually("it to answer", || (ask("/bad") == 503).then_some(()));
    let back_at = eventually_within(PATIENCE, "counts to go on", || {
        // One that fails, so that its minute is told at once, as soon as the gate observes.
        assert_eq!(ask("/bad"), 503);
        crate::harness::pause(1.0);
        let counts = entries_of(up, "evidence.counted");
        let starts = counts.iter().map(|entry| ends(&entry["body"]["interval"]).0);
        starts.filter(|start| *start > killed_at).min()
    });
    let counts = entries_of(up, "evidence.counted");
    for entry in &counts {
        let (start, end) = ends(&entry["body"]["interval"]);
        assert!(end <= killed_at || start >= back_at, "{entry} speaks of a time in which no gate was there");
    }
    let before = counts.iter().map(|entry| &entry["body"]).filter(|body| ends(&body["interval"]).1 <= killed_at);
    assert_eq!(sums(before), (20, 1), "what died with the gate is not known");

    let folder = tempfile::tempdir().expect("a folder");
    let key = export(&up.path("data"), folder.path());
    let entries = disclosed_places(folder.path());
    let verdicts = entries.iter().map(|(_, entry)| entry).filter(|entry| entry["type"] == "promise.verdict");
    let verdicts = verdicts.map(|entry| &entry["body"]);
    let measured: Vec<&Value> = verdicts.filter(|verdict| !verdict["figure"].is_null()).collect();
    assert!(measured.len() >= 2, "{measured:?}");
    for verdict in measured {
        let said = (verdict["figure"]["low"].as_i64(), verdict["figure"]["high"].as_i64());
        let (low, high) = figure(&entries, verdict);
        assert_eq!(said, (Some(low), Some(high)), "{verdict}");
    }
    let text = entries.iter().map(|(_, entry)| entry.to_string()).collect::<String>();
    for secret in ["127.0.0.1", "/echo", "t.example:", near.address().to_string().as_str()] {
        assert!(!text.contains(secret), "{secret}");
    }
    let ours = garant(&["verify", folder.path().to_str().expect("UTF-8"), "--vkey", &key]);
    assert!(ours.status.success(), "{}", transcript(&ours));
    let go = command(go_verifier()).arg(folder.path()).arg(&key).output().expect("the Go verifier starts");
    assert!(go.status.success(), "{}", transcript(&go));
}
