//! Durable signed appends: 64 clients, each waiting for its acknowledgement.
//!
//! The peer is SQLite alone on the same disk, one row of 500 bytes per durable commit: a journal without group commit, tree
//! or signature. No server of tile logs is in the package registries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::clock::SystemClock;
use event::evidence::{Changed, State};
use event::{BootId, Clock, Observed, Time};
use journal::note::SigningKey;
use store::Append as _;
use store::sqlite::{Sqlite, SqliteOptions};

use crate::process::now;
use crate::{Outcome, row};

const CLIENTS: usize = 64;
const MEASURED: Duration = Duration::from_secs(10);

pub(crate) fn run() -> Outcome {
    let folder = tempfile::Builder::new().prefix("garant-bench-").tempdir_in(".")?;
    let peer = alone(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (rate, mut waits) = runtime.block_on(ours(folder.path()))?;
    waits.sort_unstable();
    let quantile =
        |thousandth: usize| waits.get(waits.len() * thousandth / 1000).map_or(0.0, |wait| f64::from(*wait) / 1000.0);
    row("SQLite alone, one durable commit per row", &format!("{peer:.0} rows/s"), "the peer");
    row(&format!("durable signed appends, {CLIENTS} waiting clients"), &format!("{rate:.0} appends/s"), "≥ 30,000/s");
    row("ratio", &format!("{:.1} ×", rate / peer), "–");
    row("wait for an acknowledgement, median", &format!("{:.1} ms", quantile(500)), "–");
    row("wait for an acknowledgement, p99", &format!("{:.1} ms", quantile(990)), "≤ 10 ms");
    row("wait for an acknowledgement, p99.9", &format!("{:.1} ms", quantile(999)), "–");
    Ok(())
}

/// Rows per second of the peer.
fn alone(folder: &std::path::Path) -> Result<f64, Box<dyn std::error::Error>> {
    let connection = rusqlite::Connection::open(folder.join("peer.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE row (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)")?;
    let payload = vec![0_u8; 500];
    let (start, mut rows) = (now(), 0_u32);
    while start.elapsed() < MEASURED / 2 {
        connection.prepare_cached("INSERT INTO row (payload) VALUES (?1)")?.execute([&payload])?;
        rows += 1;
    }
    Ok(f64::from(rows) / start.elapsed().as_secs_f64())
}

/// Appends per second of the store, and the wait of each for its acknowledgement, in µs.
async fn ours(folder: &std::path::Path) -> Result<(f64, Vec<u32>), Box<dyn std::error::Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Sqlite::open(SqliteOptions {
        dir: folder.join("data"),
        origin: "bench.example/1".to_owned(),
        observer: "server".parse()?,
        signers: vec![SigningKey::generate([7; 32], "bench.example/1")?],
        remembered: Vec::new(),
        continues: None,
        clock: Arc::clone(&clock),
    })?;
    let start = now();
    let mut clients = tokio::task::JoinSet::new();
    // The clients are one observer, so they share its sequence.
    let sequence = Arc::new(AtomicU64::new(0));
    for _ in 0..CLIENTS {
        let (store, clock, sequence) = (Arc::clone(&store), Arc::clone(&clock), Arc::clone(&sequence));
        clients.spawn(async move {
            let (boot, mut waits) = (BootId::from_bytes([1; 16]), Vec::new());
            while start.elapsed() < MEASURED {
                let sequence = sequence.fetch_add(1, Ordering::Relaxed);
                let body = Changed {
                    probe: "shop-answers".parse().map_err(|error| format!("{error}"))?,
                    service: "shop".parse().map_err(|error| format!("{error}"))?,
                    state: State::Up,
                    after: Time::from_secs(1),
                    by: Time::from_secs(2),
                };
                let observer = "gravelines".parse().map_err(|error| format!("{error}"))?;
                let event =
                    Observed::new(&body, observer, boot, sequence, clock.now()).map_err(|error| error.to_string())?;
                let asked = now();
                store.append(vec![event]).await.map_err(|error| error.to_string())?;
                waits.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            Ok::<_, String>(waits)
        });
    }
    let mut waits = Vec::new();
    while let Some(joined) = clients.join_next().await {
        waits.extend(joined??);
    }
    let rate = f64::from(u32::try_from(waits.len())?) / start.elapsed().as_secs_f64();
    Ok((rate, waits))
}
