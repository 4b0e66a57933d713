//! TLS of the gate as public testers see it: sslyze and testssl.sh, against the default of the gate.

use std::path::PathBuf;

use serde_json::Value;

use super::Gate;
use super::tls::{Certificate, curl};
use super::upstream::{Recorder, process_with};
use crate::harness::{command, eventually, free_port, report, transcript};

/// The Python that has sslyze.
fn sslyze() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("GARANT_TEST_SSLYZE") {
        return Some(given.into());
    }
    let made = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/sslyze/bin/python");
    if !made.exists() {
        report("no Python with the packages of tests/testers/requirements.txt: scripts/test makes one");
        return None;
    }
    Some(made)
}

/// ED-1: Mozilla's intermediate profile is held to, and testssl.sh finds nothing of medium severity or above. What they say of the
/// certificate of the test itself, which no public authority has signed, is left out.
#[test]
fn public_testers_find_nothing() {
    // One that compresses nothing: whether it may is its own to know (BREACH).
    let near = Recorder::start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let certificate = Certificate::make();
    certificate.renew_for_days(90);
    let https = free_port();
    let site = format!(
        "redirect_from = [\"www.t.example\"]\n{}\nupstream = [{{ url = \"http://{}\" }}]",
        certificate.keys(),
        near.address()
    );
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]"), &site);
    // At the end of the ramp: a shorter HSTS is a finding of its own.
    let state = gate.up.path("data.gate");
    let pid = process_with(&["gate", "--state", state.to_str().expect("UTF-8")]);
    std::fs::write(state.join("gate/hsts.json"), "{\"t.example\":864000000000}").expect("written");
    assert!(command("kill").args(["-9", &pid]).status().expect("kill runs").success());
    let authority = certificate.path("ca.pem");
    eventually("two years", || {
        let shown = curl(&authority, https, &format!("https://t.example:{https}/echo"), &["--http1.1"]);
        String::from_utf8_lossy(&shown.stdout).contains("max-age=63072000").then_some(())
    });

    if let Some(python) = sslyze() {
        let mut sslyze = command(python);
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testers/sslyze_by_name.py");
        sslyze.arg(script).args(["--mozilla_config", "intermediate", "--certinfo_ca_file"]).arg(&authority);
        let seen = sslyze.arg(format!("t.example:{https}{{127.0.0.1}}")).output().expect("it starts");
        let text = String::from_utf8_lossy(&seen.stdout).into_owned();
        let (_, compliance) = text.split_once("COMPLIANCE AGAINST").unwrap_or_else(|| panic!("{}", transcript(&seen)));
        let wrong: Vec<&str> = compliance.lines().map(str::trim).filter(|line| line.starts_with("* ")).collect();
        let is_of_the_test = |line: &&str| line.starts_with("* certificate_path_validation");
        report(&format!("sslyze, intermediate: {compliance}"));
        assert!(wrong.iter().all(is_of_the_test), "{compliance}");
        assert!(compliance.contains("OK - Compliant") || !wrong.is_empty(), "{compliance}");
    }

    let found = certificate.path("testssl.json");
    let mut testssl = command("testssl");
    testssl.args([
        "--quiet",
        "--warnings",
        "off",
        "--color",
        "0",
        "--ip",
        "127.0.0.1",
        "-p",
        "-s",
        "-f",
        "-P",
        "-S",
        "-h",
        "-U",
    ]);
    testssl.arg("--add-ca").arg(&authority).arg("--jsonfile").arg(&found);
    let seen = testssl
        .arg(format!("https://t.example:{https}/echo"))
        .output()
        .expect("testssl starts; scripts/test installs it");
    let text = std::fs::read_to_string(&found).unwrap_or_else(|_| panic!("{}", transcript(&seen)));
    let findings: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    assert!(findings.iter().any(|finding| finding["id"] == "TLS1_3"), "it has looked: {text}");
    let is_of_the_test = |id: &str| ["cert_revocation", "cert_caIssuers", "scanTime", "engine_problem"].contains(&id);
    let severe: Vec<String> = findings
        .iter()
        .filter(|finding| {
            ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].contains(&finding["severity"].as_str().unwrap_or_default())
        })
        .filter(|finding| !is_of_the_test(finding["id"].as_str().unwrap_or_default()))
        .map(ToString::to_string)
        .collect();
    assert!(severe.is_empty(), "{}", severe.join("\n"));
}
