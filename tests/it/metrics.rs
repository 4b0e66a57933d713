//! `/metrics` as programs that we did not write read it: Prometheus itself, and the strict parser of its Python client.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Nginx, Service, Up, command, eventually, free_port, get, http, python, transcript};
use crate::shadow::policy;

#[test]
fn prometheus_scrapes_us() {
    let nginx = Nginx::start();
    let up = Up::start(&policy(&nginx));
    eventually("a first verdict", || up.verdicts("AV-1").pop());

    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let target = up.team.trim_start_matches("http://").trim_end_matches('/');
    let configuration = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         scrape_configs: [{{ job_name: garant, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
    );
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, configuration).expect("written");
    let mut prometheus = command("prometheus");
    prometheus.arg(format!("--config.file={}", file.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()));
    prometheus.args([&format!("--web.listen-address=127.0.0.1:{port}"), "--log.level=error"]);
    let _serving = Service::start(&mut prometheus, port);
    let query = |expression: &str| {
        let answer = get(&format!("http://127.0.0.1:{port}/api/v1/query?query={expression}"))?;
        let answer: Value = serde_json::from_slice(&answer).ok()?;
        Some(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    };
    let figure = |expression: &str| {
        let result = query(expression)?;
        let [one] = &result[..] else { return None };
        one["value"][1].as_str()?.parse::<f64>().ok()
    };

    eventually("a scrape that Prometheus could read", || (figure("up")? > 0.5).then_some(()));
    // Kinds, units, labels and values arrived: a state set, a counter by its name with the suffix, a ratio, an info.
    for (expression, expected) in [
        ("garant_service_state{service=%22shop%22,garant_service_state=%22up%22}", 1.0),
        ("garant_service_state{service=%22shop%22,garant_service_state=%22down%22}", 0.0),
        ("garant_objective_ratio{promise=%22AV-1%22,objective=%220%22,end=%22target%22}", 0.9999),
        ("garant_engine_healthy{engine=%22judge%22}", 1.0),
        ("count(garant_build_info)", 1.0),
    ] {
        eventually(expression, || figure(expression).filter(|found| (found - expected).abs() < 1e-9));
    }
    let entries = eventually("the size of the log", || figure("garant_journal_entries_total"));
    assert!(entries > 3.0, "{entries}");
    let metadata =
        get(&format!("http://127.0.0.1:{port}/api/v1/metadata?metric=garant_service_state")).expect("metadata");
    assert!(String::from_utf8_lossy(&metadata).contains("\"stateset\""), "read as OpenMetrics, not as the older text");

    // What reads nothing newer, such as `promtool check metrics`, gets the older text.
    let (status, fields, text) =
        http("GET", &up.url("metrics"), &[("Accept", "text/plain;version=0.0.4")], b"").expect("metrics");
    assert_eq!(status, 200, "{fields:?}");
    let mut promtool = command("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool starts");
    promtool.stdin.take().expect("piped").write_all(&text).expect("written");
    let read = promtool.wait_with_output().expect("it ends");
    assert!(read.status.success(), "{}", transcript(&read));

    let Some(python) = python() else { return };
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("verify-python/openmetrics.py");
    let mut parser = command(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let text = get(&up.url("metrics")).expect("metrics");
    parser.stdin.take().expect("piped").write_all(&text).expect("written");
    let read = parser.wait_with_output().expect("it ends");
    assert!(read.status.success(), "{}", transcript(&read));
    let families = String::from_utf8_lossy(&read.stdout).into_owned();
    for family in ["garant_service_state", "garant_journal_entries", "garant_promise_outcome", "process_cpu_seconds"] {
        assert!(families.lines().any(|line| line == family), "{family} is missing in\n{families}");
    }
}
