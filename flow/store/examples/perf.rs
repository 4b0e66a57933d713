use std::sync::Arc;
use std::time::{Duration, Instant};
use garant_store::conformance::*;
use garant_store::sqlite::*;
use garant_store::Journal;
fn main() {
    let clients: u8 = std::env::args().nth(1).map_or(64, |a| a.parse().unwrap());
    let dir = std::path::PathBuf::from(std::env::args().nth(2).unwrap_or("/tmp/perfstore".into()));
    std::fs::remove_dir_all(&dir).ok();
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    rt.block_on(async {
        let store = Sqlite::open(Options { dir, origin: ORIGIN.into(), observer: "garant".parse().unwrap(), signers: vec![signing_key(1)], remembered: vec![], succeeds: None, clock: ManualClock::at(START) }).unwrap();
        let t0 = Instant::now();
        let body = "x".repeat(100);
        let tasks: Vec<_> = (0..clients).map(|c| { let store = Arc::clone(&store); let body = body.clone(); tokio::spawn(async move {
            let mut lat = vec![];
            let mut seq = 0;
            while t0.elapsed() < Duration::from_secs(5) {
                let e = garant_store::conformance::event(c, seq, event::Retention::Evidence, &body); seq += 1;
                let t = Instant::now();
                store.append(vec![e]).await.unwrap();
                lat.push(t.elapsed().as_micros() as u64);
            }
            lat
        })}).collect();
        let mut all = vec![];
        for t in tasks { all.extend(t.await.unwrap()); }
        all.sort_unstable();
        let s = t0.elapsed().as_secs_f64();
        println!("{} appends/s, p50 {} us p99 {} us max {} us", all.len() as f64 / s, all[all.len()/2], all[all.len()*99/100], all[all.len()-1]);
    });
}
