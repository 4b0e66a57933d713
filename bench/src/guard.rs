//! The engine `guard` beside the installed fail2ban: lines judged, memory, the time from a line to a dropped packet, bans restored.

mod host;
mod logs;
#[expect(clippy::disallowed_methods, reason = "a benchmark sends and hears packets")]
mod net;

use std::path::Path;
use std::process::Stdio;

use ::guard::fail2ban::filter::{Filter, FilterSet, FilterSettings, NoNames};
use ::guard::fail2ban::{JailOverrides, read_filter};
use event::{Time, Zone};

use crate::process::{Process, children_cpu_s, cpu_s};
use crate::{Outcome, row};
use logs::Kind;

pub(crate) use net::{ear, peer};

type Error = Box<dyn std::error::Error>;

/// The configuration of Debian's package.
const CONFIG: &str = "/etc/fail2ban";
/// Lines that are judged here, and by fail2ban.
const LINES: u32 = 100_000;
const LINES_OF_PEER: u32 = 20_000;
/// When the lines are judged: after all of them, 2026-12-01.
const NOW_S: i64 = 1_796_083_200;
/// How often they are judged, so that processor time can be read.
const PASSES: u32 = 10;

pub(crate) fn run() -> Outcome {
    let version = Process::command("fail2ban-regex").arg("--version").output();
    if !version.is_ok_and(|version| version.status.success()) {
        return Err("install fail2ban: it is what garant is measured beside".into());
    }
    let one_jail = filters()?;
    all_filters(one_jail)?;
    row(
        "crowdsec on the nginx log",
        "not run: Debian's package has no parser of it, and its hub is not on the disk",
        "–",
    );
    host::run()
}

/// Judged lines: how many told of a failure, and how many were judged a second of one core.
struct Judged {
    matched: u64,
    per_second: f64,
}

/// The filters that are compared; fail2ban's lines a second with that of sshd.
fn filters() -> Result<f64, Error> {
    let folder = tempfile::tempdir()?;
    let one_line = folder.path().join("one.log");
    std::fs::write(&one_line, "one\n")?;
    let mut sshd = 0.0;
    for (kind, filter, wanted) in [
        (Kind::Auth, "sshd", "≥ 10 × (goal 20)"),
        (Kind::Nginx, "nginx-botsearch", "≥ 30 × (goal 60)"),
        (Kind::Apache, "apache-badbots", "≥ 30 × (goal 60)"),
    ] {
        let log = folder.path().join("some.log");
        let some = logs::log(kind, LINES_OF_PEER);
        std::fs::write(&log, &some)?;
        // What it costs to start is not counted.
        let start = theirs(filter, &one_line, 1)?.1;
        let (matched, cpu) = theirs(filter, &log, LINES_OF_PEER)?;
        let peer = Judged { matched, per_second: f64::from(LINES_OF_PEER) / (cpu - start) };
        let same = ours(&[filter.to_owned()], &some, 1)?;
        if same[0].matched != peer.matched {
            return Err(format!("{filter}: {} matches of fail2ban, {} here", peer.matched, same[0].matched).into());
        }
        let text = logs::log(kind, LINES);
        let bytes = text.len() / LINES as usize;
        let judged = ours(&[filter.to_owned()], &text, PASSES)?;
        row(
            &format!("fail2ban-regex {filter}, {LINES_OF_PEER} lines of {bytes} bytes, without its start"),
            &format!("{:.0} lines/s of a core, {} matches", peer.per_second, peer.matched),
            "the peer",
        );
        row(
            &format!("the same filter here, {LINES} lines {PASSES} times"),
            &format!("{:.0} lines/s of a core, {} matches in the same lines", judged[0].per_second, same[0].matched),
            "–",
        );
        row(&format!("ratio, {filter}"), &format!("{:.1} ×", judged[0].per_second / peer.per_second), wanted);
        if matches!(kind, Kind::Auth) {
            sshd = peer.per_second;
        }
    }
    Ok(sshd)
}

/// All filters over one log, beside one jail of fail2ban.
fn all_filters(one_jail: f64) -> Outcome {
    let mut names: Vec<String> = std::fs::read_dir(Path::new(CONFIG).join("filter.d"))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".conf")?.to_owned()))
        .collect();
    names.sort();
    names.retain(|name| filter(name).is_ok());
    let text = logs::log(Kind::Auth, LINES);
    let all = ours(&names, &text, PASSES)?;
    let alone = ours(&["sshd".to_owned()], &text, 1)?;
    let sshd = names.iter().position(|name| name == "sshd").ok_or("there is no filter sshd")?;
    if all[sshd].matched != alone[0].matched {
        return Err(format!("sshd: {} matches among all, {} alone", all[sshd].matched, alone[0].matched).into());
    }
    let per_second = all[sshd].per_second;
    row(
        &format!("all {} filters at once over auth.log", names.len()),
        &format!("{per_second:.0} lines/s of a core, each given to all"),
        "–",
    );
    row("ratio to one jail of fail2ban (sshd)", &format!("{:.1} ×", per_second / one_jail), "≥ 5 ×");
    Ok(())
}

/// Lines that `fail2ban-regex` matches, and the processor time that it takes, in seconds.
fn theirs(filter: &str, log: &Path, lines: u32) -> Result<(u64, f64), Error> {
    let before = children_cpu_s().ok_or("no processor time")?;
    let output =
        Process::command("fail2ban-regex").env("TZ", "UTC").arg(log).arg(filter).stderr(Stdio::inherit()).output()?;
    let cpu = children_cpu_s().ok_or("no processor time")? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let counts = text.lines().find(|line| line.starts_with("Lines:")).ok_or("fail2ban-regex told no counts")?;
    let count = |word: &str| -> Option<u64> {
        counts.split(word).next()?.rsplit([' ', ',']).find(|part| !part.is_empty())?.parse().ok()
    };
    if count(" lines,") != Some(u64::from(lines)) {
        return Err(format!("fail2ban-regex has read something else: {counts}").into());
    }
    Ok((count(" matched").ok_or("no count of matches")?, cpu))
}

fn filter(name: &str) -> Result<Filter, Error> {
    let now = Time::from_secs(NOW_S);
    let settings = FilterSettings { check_find_time: false, ..FilterSettings::new(Zone::UTC, now) };
    Ok(Filter::compile(&read_filter(Path::new(CONFIG), name, &JailOverrides::default())?, settings)?)
}

/// Judges a log by filters at once, several times; for each filter the matches of one pass, and the lines a second of all.
fn ours(names: &[String], text: &str, passes: u32) -> Result<Vec<Judged>, Error> {
    let filters = names.iter().map(|name| filter(name)).collect::<Result<Vec<_>, _>>()?;
    let mut matched = vec![0_u64; names.len()];
    let mut set = FilterSet::new(filters);
    let now = Time::from_secs(NOW_S);
    let before = cpu_s(std::process::id()).ok_or("no processor time")?;
    for pass in 0..passes {
        for line in text.lines() {
            set.process_line(line, now, &mut NoNames, &mut |filter, found| {
                // As fail2ban-regex counts: lines, in one pass.
                matched[filter] += u64::from(pass == 0 && found.is_ok_and(|found| !found.is_empty()));
            });
        }
    }
    let cpu = cpu_s(std::process::id()).ok_or("no processor time")? - before;
    let lines = text.lines().count() as f64 * f64::from(passes);
    Ok(matched.into_iter().map(|matched| Judged { matched, per_second: lines / cpu.max(0.01) }).collect())
}
