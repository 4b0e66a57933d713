//! HTTP probes: `garant up` beside Prometheus with its blackbox exporter, against the same nginx, in the same run.
//!
//! The figure compared is probes per core second: requests that nginx counted / (user + system time of all processes of the
//! system under test). Both systems open a new connection for each probe. The processor time of nginx is not counted.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::process::{Process, cpu_s, garant, now, pause, resident_mb};
use crate::{Outcome, row};

const OURS: u32 = 10_000;
const OURS_EVERY_S: u32 = 10;
const PEERS: u32 = 2_000;
const PEERS_EVERY_S: u32 = 5;
const WARM_UP: Duration = Duration::from_secs(25);
const MEASURED: Duration = Duration::from_mins(1);

pub(crate) fn run() -> Outcome {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let _nginx = nginx(folder.path(), port)?;
    let peers = prometheus(folder.path(), port)?;
    let ours = ours(folder.path(), port)?;
    row(
        &format!("Prometheus + blackbox, {PEERS} targets at {PEERS_EVERY_S} s"),
        &format!(
            "{:.0} probes/s kept, {:.0} probes per core second, {:.0} MB",
            peers.rate, peers.per_core_s, peers.memory_mb
        ),
        "the peer",
    );
    row(
        &format!("garant up, {OURS} targets at {OURS_EVERY_S} s"),
        &format!(
            "{:.0} probes/s kept, {:.0} probes per core second, {:.1} MB",
            ours.rate, ours.per_core_s, ours.memory_mb
        ),
        "≤ 60 MB",
    );
    row("ratio of probes per core second", &format!("{:.1} ×", ours.per_core_s / peers.per_core_s), "≥ 8 ×");
    row("share of one core", &format!("{:.0} %", 100.0 * ours.rate / ours.per_core_s), "≤ 100 %");
    row("latest start of a probe behind its schedule", &format!("{:.0} ms", ours.latest_start_ms), "≤ 100 ms");
    Ok(())
}

/// The cost of one system under test.
struct Cost {
    /// Probes per second.
    rate: f64,
    /// Probes per second of processor time.
    per_core_s: f64,
    /// Resident, in MB (10^6 bytes).
    memory_mb: f64,
    /// Longest delay of a probe behind its schedule, in ms; 0 for the peer, which does not say it.
    latest_start_ms: f64,
}

/// The URL of target `number`: each has an address of 127.0.0.0/8 of its own.
pub(crate) fn target(number: u32, port: u16) -> String {
    format!("http://127.{}.{}.{}:{port}/", 1 + number / 62_500, (number / 250) % 250, 1 + number % 250)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark needs a free port")]
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Starts nginx on `port`, with its counter at `/count`.
fn nginx(folder: &Path, port: u16) -> Result<Process, Box<dyn std::error::Error>> {
    let dir = folder.display();
    std::fs::write(
        folder.join("nginx.conf"),
        format!(
            "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 8192; }}\n\
             http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;\n\
             uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             server {{ listen 0.0.0.0:{port} backlog=4096; location / {{ return 200 'ok\\n'; }} location = /count {{ stub_status; }} }} }}\n"
        ),
    )?;
    let nginx =
        Process::start(Process::command("nginx").arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")))?;
    pause(Duration::from_secs(1));
    Ok(nginx)
}

#[expect(clippy::disallowed_methods, reason = "reads the counters of nginx and of garant")]
/// The answer of `address`, `host:port`, to a GET: head and body.
fn get(address: &str, path: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Requests that nginx has answered so far (stub_status: accepts, handled, requests).
fn requests(port: u16) -> Result<f64, Box<dyn std::error::Error>> {
    let answer = get(&format!("127.0.0.1:{port}"), "/count")?;
    let line = answer.lines().skip_while(|line| !line.contains("requests")).nth(1).ok_or("no count")?;
    Ok(line.split_whitespace().nth(2).ok_or("no count")?.parse()?)
}

/// The cost of `processes` once they have run for [`WARM_UP`].
fn measure(processes: &[&Process], port: u16) -> Result<Cost, Box<dyn std::error::Error>> {
    pause(WARM_UP);
    let cpu = || -> f64 { processes.iter().filter_map(|p| cpu_s(p.id())).sum() };
    let (start, cpu_before, requests_before) = (now(), cpu(), requests(port)?);
    pause(MEASURED);
    let made = requests(port)? - requests_before;
    Ok(Cost {
        rate: made / start.elapsed().as_secs_f64(),
        per_core_s: made / (cpu() - cpu_before),
        memory_mb: processes.iter().filter_map(|p| resident_mb(p.id())).sum(),
        latest_start_ms: 0.0,
    })
}

/// The cost of Prometheus and its blackbox exporter.
fn prometheus(folder: &Path, port: u16) -> Result<Cost, Box<dyn std::error::Error>> {
    let (blackbox_port, prometheus_port) = (free_port()?, free_port()?);
    std::fs::write(folder.join("blackbox.yml"), "modules:\n  http_2xx:\n    prober: http\n    timeout: 4s\n")?;
    let mut configuration = format!(
        "global:\n  scrape_interval: {PEERS_EVERY_S}s\nscrape_configs:\n- job_name: bb\n  metrics_path: /probe\n  params:\n    module: [http_2xx]\n\
         \x20 relabel_configs:\n  - source_labels: [__address__]\n    target_label: __param_target\n  - target_label: __address__\n    replacement: 127.0.0.1:{blackbox_port}\n\
         \x20 static_configs:\n  - targets:\n"
    );
    for number in 0..PEERS {
        writeln!(configuration, "    - {}", target(number, port))?;
    }
    std::fs::write(folder.join("prometheus.yml"), configuration)?;
    let quiet = || Stdio::null();
    let blackbox = Process::start(
        Process::command("prometheus-blackbox-exporter")
            .arg(format!("--config.file={}", folder.join("blackbox.yml").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{blackbox_port}"))
            .arg("--log.level=error")
            .stdout(quiet())
            .stderr(quiet()),
    )?;
    let prometheus = Process::start(
        Process::command("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{prometheus_port}"))
            .stdout(quiet())
            .stderr(quiet()),
    )?;
    measure(&[&blackbox, &prometheus], port)
}

/// The cost of `garant up`.
fn ours(folder: &Path, port: u16) -> Result<Cost, Box<dyn std::error::Error>> {
    let binary = garant()?;
    let mut policy = String::from(
        "[journal]\nname = \"bench.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n[[service]]\nname = \"s\"\ntitle.fr = \"s\"\ntitle.en = \"s\"\n",
    );
    std::fs::write(folder.join("garant.toml"), &policy)?;
    // A file of the policy holds a mebibyte at most: ten thousand probes are spread over several, as a team would.
    std::fs::create_dir_all(folder.join("conf.d"))?;
    for part in 0..OURS / 1000 {
        policy.clear();
        for number in part * 1000..(part + 1) * 1000 {
            writeln!(
                policy,
                "[[probe.http]]\nname = \"p{number}\"\nservice = \"s\"\nurl = \"{}\"\nevery = \"{OURS_EVERY_S} s\"\ntimeout = \"5 s\"",
                target(number, port)
            )?;
        }
        std::fs::write(folder.join(format!("conf.d/{part}.toml")), &policy)?;
    }
    let mut up = Process::start(
        Process::command(&binary)
            .current_dir(folder)
            .args(["up", "--json"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("garant.log"))?),
    )?;
    let mut ready = String::new();
    BufReader::new(up.child().stdout.take().ok_or("no output")?).read_line(&mut ready)?;
    let ready: serde_json::Value = serde_json::from_str(&ready).map_err(|error| {
        let said = std::fs::read_to_string(folder.join("garant.log")).unwrap_or_default();
        format!("garant up did not become ready ({error}): {said}")
    })?;
    let team =
        ready["team"].as_str().and_then(|u| u.strip_prefix("http://")).map(|u| u.trim_end_matches('/').to_owned());
    let team = team.ok_or("no URL in the ready line")?;
    let mut cost = measure(&[&up], port)?;
    let metrics = get(&team, "/metrics")?;
    let latest = metrics.lines().find(|line| line.starts_with("garant_watch_start_delay_max_seconds"));
    let latest = latest.and_then(|line| line.rsplit(' ').next()).ok_or("no figure of the start delay")?;
    cost.latest_start_ms = latest.parse::<f64>()? * 1000.0;
    Ok(cost)
}
