//! From a failure to the message: `garant up` beside Prometheus with Alertmanager, in the same run and of the same failures.
//!
//! A hundred targets fail one after the other, each at an instant of its own and for good. What is measured is the time from that
//! instant to the first request with which a system hands the failure over to a receiver of webhooks. The peer runs twice: as fast
//! as it can be told to (probes as often as ours, rules every second, no waiting in Alertmanager), and with the defaults of both
//! programs as Debian configures them (15 s, 15 s, `group_wait` 30 s). Each failure is a group of its own everywhere, for what is
//! compared is a first message.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{Process, garant, now, pause};
use crate::{Outcome, row};

const TARGETS: usize = 100;
const EVERY_S: u64 = 5;
const WARM_UP: Duration = Duration::from_secs(30);
/// All targets fail within this time.
const FAILING_S: u64 = 60;
/// How long after the last failure messages are waited for.
const WAITED: Duration = Duration::from_secs(100);
const SYSTEMS: [&str; 3] = ["garant", "fastest", "defaults"];

/// The first message of each system about each target.
type Told = Arc<Mutex<HashMap<(usize, usize), Instant>>>;

pub(crate) fn run() -> Outcome {
    let binary = garant()?;
    let (folder, runtime) = (tempfile::tempdir()?, tokio::runtime::Runtime::new()?);
    let down: Arc<[AtomicBool]> = (0..TARGETS).map(|_| AtomicBool::new(false)).collect();
    let told = Told::default();
    #[expect(clippy::disallowed_methods, reason = "a benchmark serves what is asked and takes what is told")]
    let (targets, receiver) = runtime.block_on(async {
        Ok::<_, std::io::Error>((TcpListener::bind("0.0.0.0:0").await?, TcpListener::bind("127.0.0.1:0").await?))
    })?;
    let (port, receives) = (targets.local_addr()?.port(), receiver.local_addr()?.port());
    drop(runtime.spawn(serve(targets, Arc::clone(&down))));
    drop(runtime.spawn(receive(receiver, Arc::clone(&told))));

    let _peers = [
        peer(
            folder.path(),
            "fastest",
            port,
            receives,
            &Settings { every_s: EVERY_S, rules_s: 1, wait: "0s", again: "1s" },
        )?,
        peer(
            folder.path(),
            "defaults",
            port,
            receives,
            &Settings { every_s: 15, rules_s: 15, wait: "30s", again: "5m" },
        )?,
    ];
    policy(folder.path(), port, receives)?;
    let mut up = Process::start(
        Process::command(&binary)
            .current_dir(folder.path())
            .args(["up", "--json"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("garant.log"))?),
    )?;
    BufReader::new(up.child().stdout.take().ok_or("no output")?).read_line(&mut String::new())?;
    pause(WARM_UP);

    // Instants that share no period with any of the systems.
    let mut plan: Vec<(Duration, usize)> = (0..TARGETS)
        .map(|target| (Duration::from_millis((target as u64 * 7919 + 137) % (FAILING_S * 1000)), target))
        .collect();
    plan.sort_unstable();
    let start = now();
    let mut failed = vec![start; TARGETS];
    for (after, target) in plan {
        pause((start + after).saturating_duration_since(now()));
        down.get(target).ok_or("no such target")?.store(true, Ordering::Relaxed);
        failed[target] = now();
    }
    pause(WAITED);
    let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut at_99 = Vec::new();
    for (system, name) in SYSTEMS.into_iter().enumerate() {
        let mut seconds: Vec<f64> = (0..TARGETS)
            .filter_map(|target| Some(told.get(&(system, target))?.duration_since(failed[target]).as_secs_f64()))
            .collect();
        seconds.sort_unstable_by(f64::total_cmp);
        let share = |percent: usize| seconds.get((seconds.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let (Some(half), Some(most)) = (share(50), share(99)) else {
            row(name, "nothing was told", "–");
            continue;
        };
        at_99.push(most);
        let what = match name {
            "garant" => format!("garant up, probes at {EVERY_S} s"),
            "fastest" => {
                format!("Prometheus + Alertmanager, as fast as they can be told: {EVERY_S} s, rules 1 s, no waiting")
            }
            _ => "Prometheus + Alertmanager, their defaults: 15 s, 15 s, 30 s".to_owned(),
        };
        let wanted = if name == "garant" { format!("≤ {} s at 99 %", EVERY_S + 2) } else { "the peer".to_owned() };
        let figure = format!("{} of {TARGETS} told; half within {half:.1} s, 99 % within {most:.1} s", seconds.len());
        row(&format!("a failure is handed over: {what}"), &figure, &wanted);
    }
    if let [ours, fastest, defaults] = at_99[..] {
        let figure = format!("{:.2} ×, {:.1} ×", fastest / ours, defaults / ours);
        row("ratio of their 99 % to ours: fastest, defaults", &figure, "> 1 ×");
    }
    Ok(())
}

/// The address of a target, one of its own.
fn address(target: usize) -> String {
    format!("127.81.0.{}", target + 1)
}

/// The policy: each target a service of a region of its own, told to a person of its own.
fn policy(folder: &Path, port: u16, receives: u16) -> Outcome {
    let mut policy = "[journal]\nname = \"bench.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n\
        [network]\nnotifications_may_reach = [\"127.0.0.0/8\"]\n[respond]\nweekly_test = \"never\"\n"
        .to_owned();
    for target in 0..TARGETS {
        write!(
            policy,
            "[[region]]\nname = \"r{target}\"\nprovider = \"bench\"\n\
             [[person]]\nname = \"p{target}\"\nlanguage = \"en\"\nchannel = [{{ webhook = \"http://127.0.0.1:{receives}/garant\" }}]\n\
             [[escalation]]\nname = \"e{target}\"\nstep = [{{ person = \"p{target}\" }}]\n\
             [[service]]\nname = \"t{target}\"\nregion = \"r{target}\"\nescalation = \"e{target}\"\n\
             [[probe.http]]\nname = \"t{target}-http\"\nservice = \"t{target}\"\nurl = \"http://{}:{port}/metrics\"\n\
             every = \"{EVERY_S} s\"\ntimeout = \"3 s\"\n",
            address(target)
        )?;
    }
    std::fs::write(folder.join("garant.toml"), policy)?;
    Ok(())
}

/// What a peer is told of times.
struct Settings {
    every_s: u64,
    rules_s: u64,
    wait: &'static str,
    again: &'static str,
}

/// Starts Prometheus and an Alertmanager of its own.
fn peer(
    folder: &Path,
    name: &str,
    port: u16,
    receives: u16,
    settings: &Settings,
) -> Result<[Process; 2], Box<dyn std::error::Error>> {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder)?;
    let Settings { every_s, rules_s, wait, again } = settings;
    let (ours, theirs) = (free_port()?, free_port()?);
    let targets: Vec<String> = (0..TARGETS).map(|target| format!("'{}:{port}'", address(target))).collect();
    std::fs::write(
        folder.join("rules.yml"),
        "groups:\n- name: up\n  rules:\n  - alert: Down\n    expr: up{job=\"targets\"} == 0\n",
    )?;
    std::fs::write(
        folder.join("prometheus.yml"),
        format!(
            "global:\n  scrape_interval: {every_s}s\n  scrape_timeout: 3s\n  evaluation_interval: {rules_s}s\n\
             rule_files: [rules.yml]\n\
             alerting:\n  alertmanagers:\n  - static_configs: [{{ targets: ['127.0.0.1:{theirs}'] }}]\n\
             scrape_configs:\n- job_name: targets\n  static_configs: [{{ targets: [{}] }}]\n",
            targets.join(", ")
        ),
    )?;
    std::fs::write(
        folder.join("alertmanager.yml"),
        format!(
            "route:\n  receiver: bench\n  group_by: [instance]\n  group_wait: {wait}\n  group_interval: {again}\n\
             receivers:\n- name: bench\n  webhook_configs: [{{ url: 'http://127.0.0.1:{receives}/{name}' }}]\n"
        ),
    )?;
    let quiet = |command: &mut std::process::Command, log: &str| -> std::io::Result<Process> {
        let log = std::fs::File::create(folder.join(log))?;
        Process::start(command.current_dir(&folder).stdout(Stdio::null()).stderr(log))
    };
    let alertmanager = quiet(
        Process::command("prometheus-alertmanager").args([
            "--config.file=alertmanager.yml",
            "--storage.path=alertmanager",
            "--cluster.listen-address=",
            &format!("--web.listen-address=127.0.0.1:{theirs}"),
        ]),
        "alertmanager.log",
    )?;
    let prometheus = quiet(
        Process::command("prometheus").args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=prometheus",
            &format!("--web.listen-address=127.0.0.1:{ours}"),
        ]),
        "prometheus.log",
    )?;
    Ok([prometheus, alertmanager])
}

#[expect(clippy::disallowed_methods, reason = "a benchmark needs a free port")]
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Answers for each target: well, or with 503.
async fn serve(listener: TcpListener, down: Arc<[AtomicBool]>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let down = Arc::clone(&down);
        drop(tokio::spawn(async move {
            let Some(target) = asked_for(&stream) else { return };
            let mut request = [0; 2048];
            while stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {
                let is_down = down.get(target).is_none_or(|down| down.load(Ordering::Relaxed));
                let status = if is_down { "503 Service Unavailable" } else { "200 OK" };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: 7\r\n\r\nbench 1"
                );
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }));
    }
}

fn asked_for(stream: &TcpStream) -> Option<usize> {
    let SocketAddr::V4(address) = stream.local_addr().ok()? else { return None };
    usize::from(address.ip().octets()[3]).checked_sub(1)
}

/// Takes messages, and notes the first of each system about each target.
async fn receive(listener: TcpListener, told: Told) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let told = Arc::clone(&told);
        drop(tokio::spawn(async move {
            let mut text = Vec::new();
            let mut piece = [0; 16 * 1024];
            while let Ok(bytes) = stream.read(&mut piece).await {
                text.extend_from_slice(piece.get(..bytes).unwrap_or_default());
                let whole = whole(&text);
                if bytes == 0 {
                    return;
                }
                let Some(end) = whole else { continue };
                note(&String::from_utf8_lossy(text.get(..end).unwrap_or_default()), &told);
                text.drain(..end);
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_err() {
                    return;
                }
            }
        }));
    }
}

/// Where the first request in the text ends, if all of it is there.
fn whole(text: &[u8]) -> Option<usize> {
    let head = text.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let fields = String::from_utf8_lossy(text.get(..head)?).to_ascii_lowercase();
    let length = fields.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let end = head + length.unwrap_or(0);
    (text.len() >= end).then_some(end)
}

fn note(request: &str, told: &Told) {
    let Some(system) = SYSTEMS.iter().position(|name| request.starts_with(&format!("POST /{name} "))) else { return };
    let at = now();
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    for target in 0..TARGETS {
        let names = [format!("probe/t{target}-http\""), format!("{}:", address(target))];
        if names.iter().any(|name| request.contains(name.as_str())) {
            told.entry((system, target)).or_insert(at);
        }
    }
}
