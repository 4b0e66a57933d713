//! An idle `garant up`: resident memory and processor time in the first minute, with the policy of `garant init` and one probe
//! that is refused.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use crate::process::{Process, cpu_s, garant, now, pause, resident_mb};
use crate::{Outcome, row};

/// How long the process is measured.
const MEASURED: Duration = Duration::from_mins(1);

pub(crate) fn run() -> Outcome {
    let binary = garant()?;
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("garant.toml");
    let init = Process::command(&binary)
        .args(["init", "http://127.0.0.1:1/", "--output"])
        .arg(&policy)
        .stderr(Stdio::null())
        .status()?;
    if !init.success() {
        return Err("garant init failed".into());
    }
    let text = std::fs::read_to_string(&policy)?.replace("127.0.0.1:8480", "127.0.0.1:0");
    std::fs::write(&policy, text)?;
    let mut up = Process::start(
        Process::command(&binary)
            .current_dir(folder.path())
            .args(["up", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    )?;
    let mut ready = String::new();
    BufReader::new(up.child().stdout.take().ok_or("no output")?).read_line(&mut ready)?;
    let (start, before) = (now(), cpu_s(up.id()).ok_or("no processor time")?);
    pause(MEASURED);
    let share = (cpu_s(up.id()).ok_or("no processor time")? - before) / start.elapsed().as_secs_f64();
    let memory = resident_mb(up.id()).ok_or("no memory figure")?;
    row("idle: resident memory after a minute", &format!("{memory:.1} MB"), "≤ 50 MB");
    row("idle: share of one core", &format!("{:.2} %", share * 100.0), "–");
    Ok(())
}
