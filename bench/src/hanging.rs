//! A mass outage: nearly all services of a policy hang at once. They accept connections, and say nothing any more.
//!
//! The worst that can happen to whoever asks: each question takes its whole timeout, its socket and its memory with it. Two
//! figures count: until when every outage was confirmed and journaled, and what it cost meanwhile. The services that are
//! well must not notice. There is no peer; the figures are against what the project asks of itself.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::clock::SystemClock;
use event::evidence::{Changed, State};
use event::{Body as _, Clock as _, Envelope, Time};
use store::sqlite::Sqlite;
use store::{RANGE_MAX, Read as _, Select};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::probes::target;
use crate::process::{Process, garant, pause, resident_mb};
use crate::{Outcome, row};

const SERVICES: u32 = 10_100;
const HANGING: u32 = 10_000;
const EVERY_S: i64 = 10;
const TIMEOUT_S: i64 = 5;
const WARM_UP: Duration = Duration::from_secs(40);
const MEASURED_S: u32 = 60;

pub(crate) fn run() -> Outcome {
    let binary = garant()?;
    let (folder, runtime, hang) =
        (tempfile::tempdir()?, tokio::runtime::Runtime::new()?, Arc::new(AtomicBool::new(false)));
    let data = folder.path().join("garant-data");
    #[expect(clippy::disallowed_methods, reason = "a benchmark serves what is asked")]
    let listener = runtime.block_on(TcpListener::bind("0.0.0.0:0"))?;
    policy(folder.path(), listener.local_addr()?.port())?;
    drop(runtime.spawn(serve(listener, Arc::clone(&hang))));

    let mut up = Process::start(
        Process::command(&binary)
            .current_dir(folder.path())
            .args(["up", "--json"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("garant.log"))?),
    )?;
    BufReader::new(up.child().stdout.take().ok_or("no output")?).read_line(&mut String::new())?;
    pause(WARM_UP);
    let resident = || resident_mb(up.id()).ok_or("garant up ended");
    let (before, since) = (resident()?, SystemClock.now());
    hang.store(true, Ordering::Relaxed);
    let (mut memory, mut descriptors) = (before, 0);
    for _ in 0..MEASURED_S {
        pause(Duration::from_secs(1));
        memory = memory.max(resident()?);
        descriptors = descriptors.max(std::fs::read_dir(format!("/proc/{}/fd", up.id()))?.count());
    }
    let changes = runtime.block_on(changes(&data, since))?;
    let down: Vec<&(Time, Changed)> = changes.iter().filter(|(_, changed)| changed.state == State::Down).collect();
    let is_well = |changed: &Changed| number(changed.probe.as_str()).is_some_and(|number| number >= HANGING);
    let last = down.iter().map(|(at, _)| *at).max().ok_or("no outage was seen")?;
    // A turn, its timeout, the pause before the confirmation, and its timeout.
    let wanted_s = EVERY_S + TIMEOUT_S + 1 + TIMEOUT_S;
    row(
        &format!("{HANGING} of {SERVICES} services hang at once: all are journaled as down"),
        &format!("{} of them after {:.1} s", down.len(), last.since(since).micros() as f64 / 1e6),
        &format!("≤ {wanted_s} s"),
    );
    row("what the others noticed", &format!("{} changes", changes.iter().filter(|(_, c)| is_well(c)).count()), "none");
    row("resident memory before, and at most", &format!("{before:.1} MB, {memory:.1} MB"), "–");
    row("file descriptors at most", &descriptors.to_string(), "–");
    Ok(())
}

/// A service and its probe for each number.
fn policy(folder: &std::path::Path, port: u16) -> Outcome {
    let start = "[journal]\nname = \"bench.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(folder.join("garant.toml"), start)?;
    std::fs::create_dir_all(folder.join("conf.d"))?;
    for part in 0..SERVICES.div_ceil(1000) {
        let mut policy = String::new();
        for number in part * 1000..SERVICES.min((part + 1) * 1000) {
            writeln!(
                policy,
                "[[service]]\nname = \"s{number}\"\n[[probe.http]]\nname = \"p{number}\"\nservice = \"s{number}\"\nurl = \"{}\"\n\
                 every = \"{EVERY_S} s\"\ntimeout = \"{TIMEOUT_S} s\"",
                target(number, port)
            )?;
        }
        std::fs::write(folder.join(format!("conf.d/{part}.toml")), &policy)?;
    }
    Ok(())
}

/// The number of a probe, by its name.
fn number(probe: &str) -> Option<u32> {
    probe.strip_prefix('p')?.parse().ok()
}

/// Answers, or holds the connection, for as long as the other side does.
async fn serve(listener: TcpListener, hang: Arc<AtomicBool>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let hangs = hang.load(Ordering::Relaxed) && asked_for(&stream).is_none_or(|number| number < HANGING);
        drop(tokio::spawn(async move {
            let mut request = [0; 1024];
            while stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
                if !hangs && stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }));
    }
}

/// The service that was asked: see [`target`].
fn asked_for(stream: &TcpStream) -> Option<u32> {
    let SocketAddr::V4(address) = stream.local_addr().ok()? else { return None };
    let [_, high, middle, low] = address.ip().octets().map(u32::from);
    Some((high - 1) * 62_500 + middle * 250 + low - 1)
}

/// The changes that were journaled since, each with when it was.
async fn changes(data: &std::path::Path, since: Time) -> Result<Vec<(Time, Changed)>, Box<dyn std::error::Error>> {
    let store = Sqlite::open_read_only(data)?;
    let (size, mut changes) = (store.head().await?.size, Vec::new());
    for start in (0..size).step_by(usize::try_from(RANGE_MAX)?) {
        let range = start..size.min(start + RANGE_MAX);
        for entry in store.select_all(range, &Select::Kinds(vec![Changed::KIND])).await? {
            let Some(payload) = entry.payload else { continue };
            let envelope = Envelope::decode(&payload.bytes)?;
            if let Some(changed) = envelope.body::<Changed>().filter(|_| envelope.recorded_at >= since) {
                changes.push((envelope.recorded_at, changed?));
            }
        }
    }
    Ok(changes)
}
