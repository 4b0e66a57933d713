//! `garant agent` on a host of its own, beside fail2ban-server: memory, the time from a line to a dropped packet, bans restored.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ::guard::act::{Ban, Bans, Hold, Origin, Ports};
use ::guard::{Desired, Settings};
use event::{Monotonic, Span, Time};

use super::net::Net;
use super::{CONFIG, Error, Kind, logs};
use crate::process::{Process, cpu_s, garant, now, pause, resident_mb};
use crate::{Outcome, row};

/// Jails whose memory is measured, and what their logs are like.
const JAILS: [(&str, Kind); 10] = [
    ("sshd", Kind::Auth),
    ("postfix", Kind::Auth),
    ("dovecot", Kind::Auth),
    ("proftpd", Kind::Auth),
    ("vsftpd", Kind::Auth),
    ("nginx-http-auth", Kind::Nginx),
    ("nginx-botsearch", Kind::Nginx),
    ("apache-auth", Kind::Apache),
    ("apache-badbots", Kind::Apache),
    ("apache-noscript", Kind::Apache),
];
/// Lines that each of them has seen.
const SEEN: u32 = 20_000;
/// Times that a line is followed to the packet.
const TRIALS: usize = 30;
/// Bans that are restored.
const BANS: u32 = 100_000;

/// A part of the benchmark.
type Part = fn(&Net, &Path) -> Outcome;

pub(super) fn run() -> Outcome {
    let binary = garant()?;
    let net = Net::new()?;
    let parts: [(&str, Part); 3] =
        [("memory", memory), ("from a line to the packet", reaction), ("bans restored", restore)];
    for (what, part) in parts {
        // The others are measured all the same, and it is said that this was not.
        if let Err(error) = part(&net, &binary) {
            row(what, &format!("not measured to the end: {error}"), "–");
        }
    }
    Ok(())
}

/// The configuration of the package with these jails alone, and how fail2ban is told of new lines.
fn config(folder: &Path, jails: &[&str], backend: &str) -> Result<(), Error> {
    let copied = Process::command("cp").arg("-rL").arg(CONFIG).arg(folder.join("fail2ban")).status()?;
    if !copied.success() {
        return Err(format!("{CONFIG} can't be copied").into());
    }
    let mut text = "[DEFAULT]\nusedns = no\nbantime = 1h\nfindtime = 10m\nmaxretry = 5\nprotocol = udp\n\
                    banaction = nftables[type=allports]\nbanaction_allports = nftables[type=allports]\n"
        .to_owned();
    // The package enables the jail of sshd. A section that is there twice is refused.
    let unwanted = ["sshd"].into_iter().filter(|jail| !jails.contains(jail));
    for jail in unwanted.chain(jails.iter().copied()) {
        let log = folder.join(format!("{jail}.log"));
        std::fs::OpenOptions::new().append(true).create(true).open(&log)?;
        let enabled = jails.contains(&jail);
        let log = log.display();
        writeln!(text, "[{jail}]\nenabled = {enabled}\nbackend = {backend}\nlogpath = {log}")?;
    }
    std::fs::write(folder.join("fail2ban/jail.local"), text)?;
    let log = folder.join("fail2ban.log");
    let server = format!("[Definition]\ndbfile = None\nlogtarget = {}\n", log.display());
    std::fs::write(folder.join("fail2ban/fail2ban.local"), server)?;
    Ok(())
}

/// The state of an agent that follows this configuration.
fn state(folder: &Path, follows: bool) -> Result<std::path::PathBuf, Error> {
    let state = folder.join("state");
    std::fs::create_dir(&state)?;
    let settings = Settings {
        probe: "guard".parse()?,
        service: "guard".parse()?,
        fail2ban: Some(folder.join("fail2ban")),
        allow: Vec::new(),
        simulate: false,
        bans_per_minute_max: 300,
        scans: false,
        scan_ban: Span::from_secs(3600),
        logins_remembered: Span::from_days(30),
        scenarios: Vec::new(),
        failures: 5,
        within: Span::from_secs(600),
        ban: Span::from_secs(3600),
        on_ban: None,
        lists: Vec::new(),
    };
    let guard = serde_json::to_value(Desired { settings, revision: "bench".to_owned() })?;
    let engines = if follows { serde_json::json!({ "guard": guard }) } else { serde_json::json!({}) };
    std::fs::write(state.join("desired.json"), serde_json::json!({ "revision": 1, "engines": engines }).to_string())?;
    Ok(state)
}

fn agent(net: &Net, binary: &Path, state: &Path) -> Result<Process, Error> {
    let mut command = net.on_host(binary);
    command.arg("agent").arg("--state").arg(state).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Process::start(&mut command)?)
}

/// fail2ban's server with its files in this folder.
fn fail2ban(net: &Net, folder: &Path) -> Result<Process, Error> {
    let mut command = net.on_host(Path::new("fail2ban-server"));
    command.env("TZ", "UTC").arg("-f").arg("-x").arg("-c").arg(folder.join("fail2ban"));
    command.arg("-s").arg(folder.join("sock")).arg("-p").arg(folder.join("pid"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let server = Process::start(&mut command)?;
    wait_for(|| {
        std::fs::read_to_string(folder.join("fail2ban.log")).is_ok_and(|text| text.contains("Jail 'sshd' started"))
    })?;
    Ok(server)
}

fn wait_for(mut is_there: impl FnMut() -> bool) -> Outcome {
    let start = now();
    while !is_there() {
        if start.elapsed() > Duration::from_mins(1) {
            return Err("what is waited for does not come: see the files of the benchmark".into());
        }
        pause(Duration::from_millis(50));
    }
    Ok(())
}

/// Waits until a process has nothing to do, for a minute at most.
fn quiet(pid: u32) {
    pause(Duration::from_secs(3));
    for _ in 0..30 {
        let before = cpu_s(pid);
        pause(Duration::from_secs(2));
        if cpu_s(pid).zip(before).is_none_or(|(after, before)| after - before < 0.05) {
            return;
        }
    }
}

fn memory(net: &Net, binary: &Path) -> Outcome {
    let folder = tempfile::tempdir()?;
    let idle = {
        let agent = agent(net, binary, &state(folder.path(), false)?)?;
        quiet(agent.id());
        resident_mb(agent.id()).ok_or("no memory figure")?
    };
    let folder = tempfile::tempdir()?;
    let names: Vec<&str> = JAILS.iter().map(|(name, _)| *name).collect();
    config(folder.path(), &names, "polling")?;
    let full = {
        let agent = agent(net, binary, &state(folder.path(), true)?)?;
        quiet(agent.id());
        feed(folder.path(), &JAILS)?;
        quiet(agent.id());
        resident_mb(agent.id()).ok_or("no memory figure")?
    };
    row("idle agent: resident memory", &format!("{idle:.1} MB"), "–");
    row(&format!("more with ten jails, after {SEEN} lines in each log"), &format!("{:.1} MB", full - idle), "≤ 20 MB");
    let folder = tempfile::tempdir()?;
    config(folder.path(), &["sshd"], "polling")?;
    let peer = {
        let server = fail2ban(net, folder.path())?;
        feed(folder.path(), &JAILS[..1])?;
        quiet(server.id());
        resident_mb(server.id()).ok_or("no memory figure")?
    };
    row("fail2ban-server with one jail, after as many lines", &format!("{peer:.1} MB"), "the peer");
    Ok(())
}

fn feed(folder: &Path, jails: &[(&str, Kind)]) -> Outcome {
    for (jail, kind) in jails {
        std::fs::write(folder.join(format!("{jail}.log")), logs::log(*kind, SEEN))?;
    }
    Ok(())
}

/// Half and 95 % of what was measured, in milliseconds.
fn quantiles(mut took: Vec<f64>) -> (f64, f64, f64) {
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took.get((took.len() * share).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN);
    (at(50), at(95), at(100))
}

fn reaction(net: &Net, binary: &Path) -> Outcome {
    let folder = tempfile::tempdir()?;
    config(folder.path(), &["sshd"], "polling")?;
    let log = folder.path().join("sshd.log");
    let ours = {
        let agent = agent(net, binary, &state(folder.path(), true)?)?;
        quiet(agent.id());
        net.ear(&["lines".as_ref(), log.as_os_str(), "1".as_ref(), TRIALS.to_string().as_ref()])?
    };
    let ours = quantiles(ours);
    row(
        &format!("line written → packet dropped, n = {TRIALS}"),
        &format!("half within {:.1} ms, 95 % within {:.1} ms, all within {:.1} ms", ours.0, ours.1, ours.2),
        "≤ 20 ms, ≤ 50 ms",
    );
    let has_inotify =
        Process::command("/usr/bin/python3").args(["-c", "import pyinotify"]).stderr(Stdio::null()).status()?.success();
    let backend = if has_inotify { "pyinotify" } else { "polling" };
    let folder = tempfile::tempdir()?;
    config(folder.path(), &["sshd"], backend)?;
    let log = folder.path().join("sshd.log");
    let server = fail2ban(net, folder.path())?;
    quiet(server.id());
    let theirs = net.ear(&["lines".as_ref(), log.as_os_str(), "2".as_ref(), TRIALS.to_string().as_ref()])?;
    drop(server);
    let theirs = quantiles(theirs);
    row(
        &format!("fail2ban-server ({backend}, nftables), n = {TRIALS}"),
        &format!("half within {:.0} ms, 95 % within {:.0} ms, all within {:.0} ms", theirs.0, theirs.1, theirs.2),
        "the peer",
    );
    row("ratio, half and 95 %", &format!("{:.0} ×, {:.0} ×", theirs.0 / ours.0, theirs.1 / ours.1), "–");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "bans are of now")]
fn restore(net: &Net, binary: &Path) -> Outcome {
    let folder = tempfile::tempdir()?;
    config(folder.path(), &["sshd"], "polling")?;
    let state = state(folder.path(), true)?;
    let place = state.join("guard");
    std::fs::create_dir_all(&place)?;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let since = Time::from_micros(i64::try_from(since.as_micros())?);
    let start = |boot: &str| Bans::open(&place, boot, Span::from_days(30), since, Monotonic(0));
    let (mut bans, _) = start("another")?;
    let addresses =
        (1..BANS).map(|number| Ipv4Addr::from_bits(0xc612_0000 + number)).chain([Ipv4Addr::new(10, 98, 3, 1)]);
    let all = addresses.map(|address| {
        let network = IpAddr::V4(address).into();
        let hold = Hold { network, ports: Ports::All };
        let until = Some(since + Span::from_days(2));
        Ban {
            network,
            rule: "sshd".to_owned(),
            hold,
            since,
            until,
            count: 0,
            uncounted: false,
            origin: Origin::Detected,
            event: None,
        }
    });
    bans.add(all.collect())?;
    drop(bans);
    // What was banned before would be adopted.
    net.on_host(Path::new("nft")).args(["delete", "table", "inet", "garant"]).stderr(Stdio::null()).status()?;
    let before = now();
    let (_, opened) = start("another")?;
    let opening = before.elapsed();
    if opened.in_force != BANS as usize {
        return Err(format!("{} bans were read, of {BANS}", opened.in_force).into());
    }
    let (agent, state): (&OsStr, &OsStr) = (binary.as_os_str(), state.as_os_str());
    let took =
        net.ear(&["start".as_ref(), "3".as_ref(), "1".as_ref(), agent, "agent".as_ref(), "--state".as_ref(), state])?;
    let listed = net.on_host(Path::new("nft")).args(["list", "table", "inet", "garant"]).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).matches("expires").count();
    if listed != BANS as usize {
        return Err(format!("the kernel has {listed} bans, of {BANS}").into());
    }
    let took = took.first().copied().unwrap_or(f64::NAN);
    row(
        &format!(
            "{BANS} bans restored after a reboot: from the start of the agent to the first packet that is dropped"
        ),
        &format!("{took:.0} ms, of which {:.0} ms to read their file", opening.as_secs_f64() * 1e3),
        "≤ 1 s",
    );
    Ok(())
}
