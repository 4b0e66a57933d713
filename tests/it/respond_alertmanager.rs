//! Alerts of programs outside: Debian's Prometheus and amtool take garant for an Alertmanager, and scripts tell it alerts.
//! Promises WA-4, WA-5.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use event::{Span, Time};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Service, Up, command, eventually, folder_with, free_port, garant, http, pause, transcript, wall_micros,
};

use crate::respond::{Sink, header};

const TOKEN: &str = "t0ken-of-the-prometheus";

/// A garant with two intakes, and places that alerts can name.
struct Site {
    up: Up,
    tokens: TempDir,
}

impl Site {
    fn start() -> Self {
        Self::start_with("")
    }

    /// One that tells somebody by mail, in French, and watches a port on which nobody listens.
    fn with_mail() -> (Self, Sink) {
        let sink = Sink::start();
        let more = format!(
            r#"
[[person]]
name = "Lea"
language = "fr"
channel = [{{ mail = "lea@shop.example" }}]
[mail]
server = "127.0.0.1:{}"
tls = "none"
from = "garant@shop.example"
[[service]]
name = "queue"
[[service]]
name = "cache"
[[probe.tcp]]
name = "cache-answers"
service = "cache"
address = "127.0.0.1:{}"
every = "1 s"
timeout = "800 ms"
"#,
            sink.port,
            free_port()
        );
        (Self::start_with(&more), sink)
    }

    fn start_with(more: &str) -> Self {
        let tokens = tempfile::Builder::new().prefix("garant-tokens-").tempdir().expect("a temporary folder");
        let token = |name: &str, token: &str| {
            let path = tokens.path().join(name);
            std::fs::write(&path, format!("{token}\n")).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
            path
        };
        let (first, second) = (token("prometheus.token", TOKEN), token("deploy.token", "another"));
        let policy = format!(
            r#"
[journal]
name = "shop.example"
[pages]
listen = "127.0.0.1:0"
[respond]
weekly_test = "never"
[[region]]
name = "gravelines"
provider = "ovh"
[[host]]
name = "web1"
region = "gravelines"
[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
host = "web1"
[[intake]]
name = "prometheus"
token = {{ file = "{}" }}
silences = true
[[intake]]
name = "deploy"
token = {{ file = "{}" }}
{more}"#,
            first.display(),
            second.display()
        );
        let site = Self { up: Up::start_in(folder_with(&policy)), tokens };
        // Tokens are read once the engine runs.
        eventually("the intake", || (site.ask("GET", "api/v2/status", b"").0 == 200).then_some(()));
        site
    }

    fn ask_as(&self, token: &str, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("Content-Type", "application/json")];
        if !token.is_empty() {
            headers.push(("Authorization", &bearer));
        }
        let (status, _, body) = http(method, &self.up.url(path), &headers, body).expect("an answer");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        self.ask_as(TOKEN, method, path, body)
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, body.to_string().as_bytes())
    }

    /// The status for a POST whose body would be so long.
    fn head(&self, path: &str, length: u64) -> u16 {
        let address = self.up.team.trim_start_matches("http://").trim_end_matches('/');
        #[expect(clippy::disallowed_methods, reason = "a test asks over the network")]
        let mut stream = TcpStream::connect(address).expect("connected");
        let head = format!(
            "POST /{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n["
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// What `garant alerts --json` shows.
    fn alerts(&self) -> Vec<Value> {
        let data = self.up.path("data");
        let shown =
            garant(&["alerts".as_ref(), "--all".as_ref(), "--json".as_ref(), "--data".as_ref(), data.as_os_str()]);
        // 1 while something fires.
        assert!(matches!(shown.status.code(), Some(0 | 1)), "{}", transcript(&shown));
        serde_json::from_slice(&shown.stdout).expect("JSON")
    }

    /// The alert of this title, once it is in this state.
    fn alert(&self, title: &str, state: &str) -> Value {
        eventually(&format!("{title}: {state}"), || {
            self.alerts().into_iter().find(|it| it["title"]["en"] == title && it["state"] == state)
        })
    }

    /// A file for the clients of Prometheus, with the token as the password of basic authentication.
    fn client(&self, token: &str) -> PathBuf {
        let file = self.tokens.path().join(format!("{token}.yml"));
        std::fs::write(&file, format!("basic_auth:\n  username: prometheus\n  password: {token}\n")).expect("written");
        file
    }

    fn amtool_as(&self, token: &str, arguments: &[&str]) -> Output {
        let mut amtool = command("amtool");
        amtool.arg(format!("--alertmanager.url={}", self.up.team));
        amtool.arg(format!("--http.config.file={}", self.client(token).display()));
        // No file of whoever runs the test.
        amtool.env("HOME", self.tokens.path()).args(arguments);
        amtool.output().expect("amtool starts; scripts/test installs prometheus-alertmanager")
    }

    fn amtool(&self, arguments: &[&str]) -> String {
        let ran = self.amtool_as(TOKEN, arguments);
        assert!(ran.status.success(), "amtool {arguments:?}: {}", transcript(&ran));
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    fn amtool_json(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output=json"]).collect();
        serde_json::from_str(&self.amtool(&arguments)).expect("JSON")
    }
}

/// A rule fires in a real Prometheus: the alert comes with its words, at the place that the policy declares; it is over when the
/// rule no longer fires, and when the Prometheus is gone.
#[test]
fn prometheus_sends_its_alerts() {
    let site = Site::start();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let port = free_port();
    let rule = |expression: &str| {
        let rules = format!(
            r#"
groups:
- name: site
  interval: 1s
  rules:
  - alert: TargetDown
    expr: {expression}
    labels: {{ severity: page, service: shop, instance: "web1.gravelines.example:9100" }}
    annotations:
      summary: "The exporter of {{{{ $labels.job }}}} is gone"
      description: "It has not answered since a minute"
      runbook_url: "https://wiki.shop.example/exporter"
  - alert: Elsewhere
    expr: vector(1)
    labels: {{ severity: none, host: unknown.example }}
"#
        );
        std::fs::write(at("rules.yml"), rules).expect("written");
    };
    rule("up == 0");
    let nothing = free_port();
    let target = site.up.team.trim_start_matches("http://").trim_end_matches('/');
    let configuration = format!(
        r"
global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}
rule_files: [rules.yml]
scrape_configs: [{{ job_name: node, static_configs: [{{ targets: ['127.0.0.1:{nothing}'] }}] }}]
alerting:
  alertmanagers:
  - static_configs: [{{ targets: ['{target}'] }}]
    basic_auth: {{ username: prometheus, password: {TOKEN} }}
"
    );
    std::fs::write(at("prometheus.yml"), configuration).expect("written");
    let mut prometheus = command("prometheus");
    prometheus.arg(format!("--config.file={}", at("prometheus.yml").display()));
    prometheus.arg(format!("--storage.tsdb.path={}", at("tsdb").display()));
    prometheus.args([&format!("--web.listen-address=127.0.0.1:{port}"), "--log.level=error", "--web.enable-lifecycle"]);
    prometheus.arg("--rules.alert.resend-delay=1s");
    let serving = Service::start(&mut prometheus, port);

    let alert = site.alert("The exporter of node is gone", "firing");
    assert_eq!(
        (&alert["severity"], &alert["source"], &alert["detail"], &alert["runbook"]["en"]),
        (
            &json!("critical"),
            &json!("outside"),
            &json!("It has not answered since a minute"),
            &json!("https://wiki.shop.example/exporter")
        ),
        "{alert}"
    );
    assert_eq!(alert["scope"]["services"], json!(["shop"]), "{alert}");
    assert_eq!((&alert["scope"]["host"], &alert["scope"]["region"]), (&json!("web1"), &json!("gravelines")), "{alert}");
    assert!(alert["key"].as_str().is_some_and(|key| key.starts_with("outside/prometheus/")), "{alert}");
    let elsewhere = site.alert("Elsewhere (unknown.example)", "firing");
    assert_eq!(elsewhere["severity"], "info");
    assert_eq!((&elsewhere["scope"]["host"], &elsewhere["scope"]["region"]), (&Value::Null, &Value::Null));

    // As its clients see it: with the labels that Prometheus sent, and no others.
    let seen = site.amtool_json(&["alert", "query", "alertname=TargetDown"]);
    let [seen] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(seen["labels"]["job"], "node", "{seen}");
    assert_eq!(seen["labels"]["severity"], "page", "{seen}");
    assert!(seen["labels"]["source"].is_null(), "{seen}");
    assert!(seen["generatorURL"].as_str().is_some_and(|url| url.starts_with("http://")), "{seen}");
    assert_eq!(seen["status"]["state"], "active");

    // Prometheus says that it is over.
    rule("up == 17");
    let reloaded = http("POST", &format!("http://127.0.0.1:{port}/-/reload"), &[], b"").expect("an answer");
    assert_eq!(reloaded.0, 200);
    site.alert("The exporter of node is gone", "resolved");
    // And when it says nothing any more, all of its alerts end: at the end that it gave them last, four delays later.
    site.alert("Elsewhere (unknown.example)", "firing");
    drop(serving);
    site.alert("Elsewhere (unknown.example)", "resolved");
}

/// From a rule that fires in a real Prometheus to a mail in the receiver's language; and what garant saw itself is in it, too. WA-1, BX-5.
#[test]
fn a_rule_of_prometheus_becomes_a_mail() {
    let (site, sink) = Site::with_mail();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let port = free_port();
    let rule = |value: u32| {
        let rules = format!(
            "groups:\n- name: site\n  interval: 1s\n  rules:\n  - alert: QueueLong\n    expr: vector(1) == {value}\n    \
             labels: {{ severity: critical, service: queue }}\n    annotations: {{ summary: The queue is long, \
             runbook_url: 'https://wiki.shop.example/queue' }}\n"
        );
        std::fs::write(at("rules.yml"), rules).expect("written");
    };
    rule(1);
    let target = site.up.team.trim_start_matches("http://").trim_end_matches('/');
    let configuration = format!(
        "global: {{ evaluation_interval: 1s }}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  - static_configs: \
         [{{ targets: ['{target}'] }}]\n    authorization: {{ credentials: {TOKEN} }}\n"
    );
    std::fs::write(at("prometheus.yml"), configuration).expect("written");
    let mut prometheus = command("prometheus");
    prometheus.arg(format!("--config.file={}", at("prometheus.yml").display()));
    prometheus.arg(format!("--storage.tsdb.path={}", at("tsdb").display()));
    prometheus.args([&format!("--web.listen-address=127.0.0.1:{port}"), "--log.level=error", "--web.enable-lifecycle"]);
    // What it has to tell before it has found the receivers it tells again after a minute: by then what garant's own probe saw is
    // another group.
    let _serving = Service::start(&mut prometheus, port);
    let mail = |subject: &str| {
        eventually(&format!("a mail: {subject}"), || {
            sink.mails().into_iter().find(|mail| mail.contains(&format!("Subject: {subject}")))
        })
    };
    let fires = mail("[critique] The queue is long");
    assert_eq!(header(&fires, "To"), Some("<lea@shop.example>"), "{fires}");
    assert!(fires.contains("https://wiki.shop.example/queue"), "{fires}");
    rule(2);
    let reloaded = http("POST", &format!("http://127.0.0.1:{port}/-/reload"), &[], b"").expect("an answer");
    assert_eq!(reloaded.0, 200);
    let over = eventually("the end", || {
        sink.mails().into_iter().find(|it| {
            it.contains("solu] The queue is long") || header(it, "In-Reply-To") == header(&fires, "Message-ID")
        })
    });
    assert_eq!(header(&over, "In-Reply-To"), header(&fires, "Message-ID"), "{over}");

    // What garant's own probe says is French: nobody listens on that port.
    let seen = eventually("a mail about the port", || {
        sink.mails().into_iter().find(|mail| mail.contains("refuse la connexion : rien n’y est à l’écoute"))
    });
    assert!(!seen.contains("refuses the connection") && seen.contains("Constaté"), "{seen}");
    assert!(seen.contains("--by Lea"), "the command names who takes it on: {seen}");
}

/// A real Alertmanager calls the webhook: what it fires fires, and what it resolves is over.
#[test]
fn the_alertmanager_of_debian_calls_the_webhook() {
    let (site, sink) = Site::with_mail();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let port = free_port();
    let configuration = format!(
        "route: {{ receiver: garant, group_wait: 1s, group_interval: 1s, repeat_interval: 1h }}\nreceivers:\n- name: garant\n  \
         webhook_configs:\n  - url: {}\n    http_config: {{ authorization: {{ credentials: {TOKEN} }} }}\n",
        site.up.url("api/v1/intake/alertmanager")
    );
    std::fs::write(at("alertmanager.yml"), configuration).expect("written");
    let mut alertmanager = command("prometheus-alertmanager");
    alertmanager.arg(format!("--config.file={}", at("alertmanager.yml").display()));
    alertmanager.arg(format!("--storage.path={}", at("data").display()));
    alertmanager.args([
        &format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=",
        "--log.level=error",
    ]);
    let _serving = Service::start(&mut alertmanager, port);
    let amtool = |arguments: &[&str]| {
        let mut amtool = command("amtool");
        amtool.arg(format!("--alertmanager.url=http://127.0.0.1:{port}/")).env("HOME", folder.path()).args(arguments);
        let ran = amtool.output().expect("amtool starts; scripts/test installs prometheus-alertmanager");
        assert!(ran.status.success(), "amtool {arguments:?}: {}", transcript(&ran));
    };
    let alert =
        ["alert", "add", "alertname=DiskFull", "severity=critical", "service=shop", "--annotation=summary=Disk full"];
    amtool(&alert);
    let fires = site.alert("Disk full", "firing");
    assert!(fires["key"].as_str().is_some_and(|key| key.starts_with("outside/prometheus/")), "{fires}");
    assert_eq!((&fires["severity"], &fires["scope"]["services"]), (&json!("critical"), &json!(["shop"])), "{fires}");
    eventually("its mail", || sink.mails().into_iter().find(|mail| mail.contains("Subject: [critique] Disk full")));
    let ended = (Time::from_micros(wall_micros()) - Span::from_secs(1)).to_rfc3339();
    let end = format!("--end={ended}");
    // Its beginning must be before its end.
    let began = (Time::from_micros(wall_micros()) - Span::from_secs(3600)).to_rfc3339();
    let start = format!("--start={began}");
    amtool(&[&alert[..], &[&start, &end]].concat());
    site.alert("Disk full", "resolved");
}

/// amtool adds and lists alerts, and adds, finds, changes and ends silences.
#[test]
fn amtool_reads_and_silences() {
    let site = Site::start();
    site.amtool(&[
        "alert",
        "add",
        "alertname=DiskFull",
        "severity=critical",
        "service=shop",
        "--annotation=summary=The disk of the shop is full",
        "--annotation=runbook_url=https://wiki.shop.example/disk",
    ]);
    site.amtool(&["alert", "add", "alertname=Backup", "severity=warning", "--annotation=summary=No backup"]);
    site.alert("The disk of the shop is full", "firing");
    let names = |arguments: &[&str]| {
        let alerts = site.amtool_json(arguments);
        let mut names: Vec<String> =
            alerts.iter().map(|it| it["labels"]["alertname"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&["alert", "query"]), ["Backup", "DiskFull"]);
    assert_eq!(names(&["alert", "query", "service=~sh.p"]), ["DiskFull"]);
    assert_eq!(names(&["alert", "query", "alertname!=DiskFull", "severity=\"warning\""]), ["Backup"]);
    assert_eq!(names(&["alert", "query", "--receiver=^other"]), Vec::<String>::new());
    assert!(site.amtool(&["alert", "query", "--output=extended"]).contains("https://wiki.shop.example/disk"));

    let (status, groups) = site.ask("GET", "api/v2/alerts/groups?filter=service%3D%22shop%22", b"");
    assert_eq!(status, 200);
    let [group] = &groups.as_array().expect("groups")[..] else { panic!("{groups}") };
    assert_eq!((&group["receiver"]["name"], &group["labels"]["alertname"]), (&json!("garant"), &json!("DiskFull")));
    assert_eq!(group["alerts"][0]["annotations"]["summary"], "The disk of the shop is full");
    assert_eq!(site.ask("GET", "api/v2/receivers", b""), (200, json!([{ "name": "garant" }])));

    let id = site.amtool(&[
        "silence",
        "add",
        "alertname=DiskFull",
        "--author=Léa",
        "--comment=A new disk comes",
        "-d",
        "2h",
    ]);
    let id = id.trim();
    let silences = site.amtool_json(&["silence", "query"]);
    let [silence] = &silences[..] else { panic!("{silences:?}") };
    assert_eq!(
        (silence["id"].as_str(), &silence["createdBy"], &silence["comment"], &silence["status"]["state"]),
        (Some(id), &json!("Léa"), &json!("A new disk comes"), &json!("active"))
    );
    assert_eq!(names(&["alert", "query"]), ["Backup"], "what is silenced is not active");
    assert_eq!(names(&["alert", "query", "--silenced"]), ["DiskFull"]);
    let silenced = site.alert("The disk of the shop is full", "firing");
    assert_eq!(silenced["silenced_by"], json!([id]));
    assert_eq!(site.amtool(&["silence", "query", "alertname=Backup", "-q"]).trim(), "", "it is about another alert");
    assert_eq!(site.amtool(&["silence", "query", "alertname=DiskFull", "-q"]).trim(), id);

    // Changed in place while it is about the same alerts.
    let changed = site.amtool(&["silence", "update", "-d", "30m", "--comment=It is there", id]);
    assert!(changed.contains(id) && changed.contains("It is there"), "{changed}");
    site.amtool(&["silence", "expire", id]);
    assert_eq!(site.amtool(&["silence", "query", "-q"]).trim(), "");
    assert_eq!(site.amtool(&["silence", "query", "--expired", "-q"]).trim(), id);
    assert_eq!(names(&["alert", "query"]), ["Backup", "DiskFull"]);

    // A silence that is over is not changed but made again, under another name.
    let again = site.amtool_json(&["silence", "update", "-d", "1h", id]);
    assert_ne!(again[0]["id"], id, "{again:?}");

    assert!(site.amtool(&["config", "show"]).contains("receiver: garant"));
    assert!(site.amtool(&["cluster", "show"]).contains("disabled"));
    assert!(site.amtool(&["config", "routes", "test", "service=shop"]).contains("garant"));

    for (arguments, why) in [
        (&["silence", "add", "alertname=~.*", "--comment=x"][..], "every matcher holds"),
        (&["silence", "add", "alertname=a", "--comment=x", "-d", "60d"][..], "31 days at most"),
        (&["silence", "expire", "00000000-0000-4000-8000-000000000000"][..], "404"),
    ] {
        let refused = site.amtool_as(TOKEN, arguments);
        assert!(!refused.status.success(), "{arguments:?}: {}", transcript(&refused));
        assert!(transcript(&refused).contains(why), "{arguments:?}: {}", transcript(&refused));
    }
    let stranger = site.amtool_as("wrong", &["alert", "query"]);
    assert!(!stranger.status.success() && transcript(&stranger).contains("401"), "{}", transcript(&stranger));
}

/// What an Alertmanager posts to a webhook: groups of alerts that fire and that are over.
#[test]
fn an_alertmanager_calls_the_webhook() {
    let site = Site::start();
    let webhook = |status: &str| {
        json!({
            "version": "4", "groupKey": "{}:{alertname=\"DiskFull\"}", "truncatedAlerts": 0, "status": status, "receiver": "garant",
            "groupLabels": { "alertname": "DiskFull" }, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am:9093",
            "alerts": [{
                "status": status, "labels": { "alertname": "DiskFull", "service": "shop", "severity": "critical" },
                "annotations": { "summary": "Full." }, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus:9090/graph", "fingerprint": "8edf92e0b5bdbf22",
            }],
        })
    };
    assert_eq!(site.post("api/v1/intake/alertmanager", &webhook("firing")), (200, json!({ "alerts": 1 })));
    let alert = site.alert("Full", "firing");
    assert_eq!(alert["key"], "outside/prometheus/8edf92e0b5bdbf22");
    assert!(alert["since"].as_str().is_some_and(|since| since.starts_with("2026-01-01T")), "{alert}");
    assert_eq!(site.post("api/v1/intake/alertmanager", &webhook("resolved")).0, 200);
    site.alert("Full", "resolved");
    let mut old = webhook("firing");
    old["version"] = json!("3");
    let (status, why) = site.post("api/v1/intake/alertmanager", &old);
    assert_eq!((status, why["error"].as_str()), (422, Some("this is not version 4 of Alertmanager's webhook")));
}

/// A script tells an alert by its key, and its end, and another intake can't end it.
#[test]
fn a_script_tells_an_alert() {
    let site = Site::start();
    let told = json!({
        "key": "backup-db", "title": "The backup of db did not run", "detail": "exit 3\nat 02:00", "severity": "warning",
        "service": "shop", "host": "web9", "runbook": "Look at the disk first",
    });
    let (status, answer) = site.post("api/v1/intake/alerts", &told);
    assert_eq!((status, &answer["state"], &answer["key"]), (200, &json!("firing"), &json!("backup-db")), "{answer}");
    assert!(answer["warnings"][0].as_str().is_some_and(|why| why.contains("declares no host `web9`")), "{answer}");
    let alert = site.alert("The backup of db did not run", "firing");
    assert_eq!((&alert["id"], &alert["detail"]), (&answer["id"], &json!("exit 3 at 02:00")), "{alert}");
    // The same key is the same alert.
    let (_, again) = site.post("api/v1/intake/alerts", &told);
    assert_eq!(again["id"], answer["id"]);
    let over = json!({ "key": "backup-db", "state": "resolved" });
    let other = site.ask_as("another", "POST", "api/v1/intake/alerts", over.to_string().as_bytes());
    assert_eq!(other.0, 200);
    site.alert("The backup of db did not run", "firing");
    assert_eq!(site.post("api/v1/intake/alerts", &over).0, 200);
    site.alert("The backup of db did not run", "resolved");
    // One that ends by itself.
    let short = json!({ "key": "short", "title": "Something short", "expires_in": "15 s" });
    assert_eq!(site.post("api/v1/intake/alerts", &short).0, 200);
    site.alert("Something short", "firing");
    site.alert("Something short", "resolved");
}

/// Nobody without a token of an intake, and nothing that is too long or odd, gets in; what is sound in a request with faults does.
#[test]
fn strangers_and_odd_bodies_are_refused() {
    let site = Site::start();
    // A program that may tell alerts may not silence those of others.
    let silence = serde_json::json!({
        "matchers": [{ "name": "service", "value": "shop", "isRegex": false, "isEqual": true }],
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2036-01-01T00:00:00Z", "createdBy": "root", "comment": "hush",
    });
    let (status, why) = site.ask_as("another", "POST", "api/v2/silences", silence.to_string().as_bytes());
    assert_eq!(status, 403, "{why}");
    assert!(why.to_string().contains("silences = true"), "{why}");
    let team = std::fs::read_to_string(site.up.path("data/team.token")).expect("the team token");
    let sound = json!([{ "labels": { "alertname": "x" } }]).to_string();
    for token in ["", "wrong", team.trim(), "t0ken-of-the-prometheu"] {
        for path in ["api/v2/alerts", "api/v1/intake/alerts", "api/v1/intake/alertmanager", "api/v2/nothing"] {
            let (status, _) = site.ask_as(token, "POST", path, sound.as_bytes());
            assert_eq!(status, 401, "{token} {path}");
        }
    }
    let labels = |count: usize| -> Value {
        (0..count).map(|index| (format!("label{index}"), json!("v"))).collect::<serde_json::Map<_, _>>().into()
    };
    let many: Vec<Value> = (0..2001).map(|index| json!({ "labels": { "alertname": index.to_string() } })).collect();
    for (path, body, expected) in [
        ("api/v2/alerts", "{".to_owned(), 400),
        ("api/v2/alerts", "null".to_owned(), 400),
        ("api/v2/alerts", "[null]".to_owned(), 400),
        ("api/v2/alerts", "[".repeat(100_000), 400),
        ("api/v2/alerts", json!([{ "labels": { "alertname": 7 } }]).to_string(), 400),
        ("api/v2/alerts", json!([{ "labels": {} }]).to_string(), 400),
        ("api/v2/alerts", json!([{ "labels": { "alertname": "" } }]).to_string(), 400),
        ("api/v2/alerts", json!([{ "labels": labels(65) }]).to_string(), 400),
        ("api/v2/alerts", json!([{ "labels": { "a": "x".repeat(1025) } }]).to_string(), 400),
        ("api/v2/alerts", json!([{ "labels": { "a\u{202e}b": "x" } }]).to_string(), 400),
        ("api/v2/alerts", json!([{ "labels": { "a": "x" }, "startsAt": "yesterday" }]).to_string(), 400),
        ("api/v2/alerts", Value::Array(many).to_string(), 400),
        ("api/v2/silences", "{}".to_owned(), 400),
        ("api/v1/intake/alerts", "[]".to_owned(), 400),
        ("api/v1/intake/alerts", json!({ "key": "a" }).to_string(), 422),
        ("api/v1/intake/alerts", json!({ "key": "", "title": "t" }).to_string(), 422),
        ("api/v1/intake/alerts", json!({ "key": "a", "title": "t", "severity": "enormous" }).to_string(), 422),
        ("api/v1/intake/alerts", json!({ "key": "a", "title": "t", "expires_in": "99 d" }).to_string(), 422),
        ("api/v1/intake/alerts", json!({ "key": "a", "title": "t", "tilte": "t" }).to_string(), 400),
        ("api/v1/intake/alerts", json!({ "key": "a", "title": "t", "state": "open" }).to_string(), 400),
        ("api/v1/intake/alertmanager", json!({ "version": "4" }).to_string(), 400),
        ("api/v1/intake/nothing", "{}".to_owned(), 404),
    ] {
        let (status, why) = site.ask("POST", path, body.as_bytes());
        assert_eq!(status, expected, "{path} {body:.200}: {why}");
        assert!(why.is_string() || why["error"].is_string(), "a reason for {path} {body:.200}: {why}");
    }
    for path in [
        "api/v2/alerts?filter=%7Bx",
        "api/v2/alerts?active=perhaps",
        "api/v2/silences?filter=a=~(",
        "api/v2/alerts?receiver=(",
    ] {
        assert_eq!(site.ask("GET", path, b"").0, 400, "{path}");
    }
    assert_eq!(site.head("api/v2/alerts", 4 * 1024 * 1024 + 1), 413);
    assert_eq!(site.head("api/v1/intake/alerts", 1 << 40), 413);
    assert_eq!(site.ask("DELETE", "api/v2/alerts", b"").0, 405);
    assert!(site.alerts().is_empty(), "{:?}", site.alerts());

    // Of a request with faults the rest is taken: one careless rule must not silence the others.
    let mixed = json!([
        { "labels": {} },
        { "labels": { "alertname": "Sound" }, "annotations": { "summary": "A\u{1b}[31m sound one\r\nBcc: all@shop.example" } },
        { "labels": { "alertname": "Cut" }, "annotations": { "summary": "x".repeat(10_000), "description": "\u{1}".repeat(60_000) } },
    ]);
    let (status, why) = site.post("api/v2/alerts", &mixed);
    assert_eq!(status, 400);
    assert!(
        why.as_str().is_some_and(|why| why.starts_with("1 of 3 alerts were refused") && why.contains("alert 0")),
        "{why}"
    );
    site.alert("A [31m sound one Bcc: all@shop.example", "firing");
    let cut = format!("{}…", "x".repeat(200));
    site.alert(&cut, "firing");
}

/// Nobody could say that an alert lasts while garant was dead: its end passes, and it is not over before it could be told again.
#[test]
fn alerts_outlast_a_crash() {
    let site = Site::start();
    let ends = Time::from_micros(wall_micros()) + Span::from_secs(15);
    let told = json!([{
        "labels": { "alertname": "Lasting", "severity": "critical" },
        "annotations": { "summary": "It lasts" },
        "endsAt": ends.to_rfc3339(),
    }]);
    assert_eq!(site.post("api/v2/alerts", &told).0, 200);
    site.alert("It lasts", "firing");
    let Site { up, tokens } = site;
    let folder = up.crash();
    eventually("the end that it gave", || (wall_micros() > ends.micros()).then_some(()));
    let site = Site { up: Up::start_in(folder), tokens };
    // Five turns of the engine at least.
    for _ in 0..5 {
        site.alert("It lasts", "firing");
        pause(0.3);
    }
    // Its source says that it is over.
    let mut over = told;
    over[0]["endsAt"] = json!((Time::from_micros(wall_micros()) - Span::from_secs(1)).to_rfc3339());
    eventually("the intake", || (site.post("api/v2/alerts", &over).0 == 200).then_some(()));
    site.alert("It lasts", "resolved");
}

/// Alerts of a program that the policy names no longer end: nobody could end them. Its token is worth nothing any more.
#[test]
fn an_intake_leaves_the_policy() {
    let site = Site::start();
    let told = |title: &str| json!({ "key": "k", "title": title, "severity": "critical" }).to_string();
    let of_deploy = |title: &str| site.ask_as("another", "POST", "api/v1/intake/alerts", told(title).as_bytes()).0;
    assert_eq!(of_deploy("Of the deploy"), 200);
    assert_eq!(site.ask("POST", "api/v1/intake/alerts", told("Of another").as_bytes()).0, 200);
    site.alert("Of the deploy", "firing");
    let file = site.up.path("garant.toml");
    let policy = std::fs::read_to_string(&file).expect("the policy");
    let (kept, _) = policy.rsplit_once("[[intake]]").expect("the second intake");
    std::fs::write(&file, kept).expect("written");
    let data = site.up.path("data");
    let reloaded = garant(&["reload".as_ref(), "--data".as_ref(), data.as_os_str()]);
    assert!(reloaded.status.success(), "{}", transcript(&reloaded));
    site.alert("Of the deploy", "resolved");
    site.alert("Of another", "firing");
    eventually("its token to be refused", || (of_deploy("Again") == 401).then_some(()));
}

/// The blocks of docs/respond.md in this language.
fn blocks(language: &str) -> Vec<String> {
    let path = format!("{}/../docs/respond.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("docs/respond.md");
    let mut blocks = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once(&format!("```{language}\n")) {
        let (block, after) = after.split_once("```").expect("a block ends");
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

/// What docs/respond.md shows is so: its policy has no mistake, its calls are taken, and Prometheus takes its configuration.
#[test]
fn the_document_is_true() {
    let policy = blocks("toml").concat();
    assert_eq!(blocks("toml").len(), 6);
    let folder = folder_with(&format!("[journal]\nname = \"shop.example\"\n{policy}"));
    let checked = garant(&["check".as_ref(), "--policy".as_ref(), folder.path().join("garant.toml").as_os_str()]);
    assert!(checked.status.success(), "{}", transcript(&checked));

    let site = Site::start();
    let script = blocks("sh").pop().expect("a script");
    let script = script.replace("http://127.0.0.1:8480/", &site.up.team);
    let script = script.replace("/etc/garant", &site.tokens.path().display().to_string());
    let (fires, ends) = script.split_at(script.rfind("curl ").expect("two calls"));
    let sh = |script: &str| {
        let ran = command("sh").args(["-ec", script]).output().expect("sh starts");
        assert!(ran.status.success(), "{}", transcript(&ran));
        serde_json::from_slice::<Value>(&ran.stdout).expect("JSON")
    };
    let fired = sh(fires);
    assert_eq!((&fired["state"], &fired["warnings"]), (&json!("firing"), &json!([])));
    let alert = site.alert("The backup of db failed", "firing");
    assert_eq!((&alert["id"], &alert["scope"]["services"]), (&fired["id"], &json!(["shop"])));
    sh(ends);
    site.alert("The backup of db failed", "resolved");

    let yaml = blocks("yaml");
    let [prometheus, amtool, _] = &yaml[..] else { panic!("{yaml:?}") };
    let here = |text: &str| {
        let tokens = site.tokens.path().display().to_string();
        text.replace("/etc/prometheus/garant.token", &format!("{tokens}/prometheus.token"))
    };
    let file = site.tokens.path().join("prometheus.yml");
    std::fs::write(&file, here(prometheus)).expect("written");
    let checked = command("promtool").args(["check", "config"]).arg(&file).output().expect("promtool starts");
    assert!(checked.status.success(), "{}", transcript(&checked));
    let file = site.tokens.path().join("garant.yml");
    std::fs::write(&file, here(amtool)).expect("written");
    let mut amtool = command("amtool");
    amtool.arg(format!("--alertmanager.url={}", site.up.team)).arg(format!("--http.config.file={}", file.display()));
    let queried = amtool.env("HOME", site.tokens.path()).args(["alert", "query"]).output().expect("amtool starts");
    assert!(queried.status.success(), "{}", transcript(&queried));
}
