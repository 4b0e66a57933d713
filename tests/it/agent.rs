//! The agent of a host: its rights, and that nothing it did is lost while it or its server is dead (NH-1, JO-1). As root, in a network
//! namespace of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Up, command, eventually, folder_with, garant, pause, transcript};

/// The bit of CAP_NET_ADMIN in a set of capabilities.
const NET_ADMIN: u64 = 1 << 12;

/// A guard that bans nobody.
fn policy(more: &str) -> String {
    format!(
        r#"
[journal]
name = "shop.example"
[pages]
listen = "127.0.0.1:0"
[[service]]
name = "logs"
title.fr = "Les journaux"
title.en = "The logs"
[guard]
service = "logs"
scans = true
simulate = true
{more}"#
    )
}

/// A user of the system and a network namespace, both gone at the end.
struct Host {
    name: String,
    uid: u32,
}

impl Host {
    fn new(tag: &str) -> Self {
        let mut host = Self { name: format!("garant-{tag}-{}", std::process::id()), uid: 0 };
        for arguments in [
            ["useradd", "--system", "--no-create-home", "--user-group", &host.name].as_slice(),
            &["ip", "netns", "add", &host.name],
            &["ip", "-n", &host.name, "link", "set", "lo", "up"],
        ] {
            let made = run(arguments);
            assert!(made.status.success(), "the tests of the agent are run as root: {}", transcript(&made));
        }
        let uid = run(&["id", "-u", &host.name]);
        host.uid = String::from_utf8_lossy(&uid.stdout).trim().parse().expect("a number");
        host
    }

    /// Starts `garant up` in the namespace.
    fn up(&self, folder: TempDir) -> Up {
        Up::start_inside(folder, &self.name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Of a test that failed, an agent may be left: only what runs in the namespace is ours.
        let left = run(&["ip", "netns", "pids", &self.name]);
        for pid in String::from_utf8_lossy(&left.stdout).split_whitespace() {
            drop(run(&["kill", "-KILL", pid]));
        }
        drop(run(&["ip", "netns", "del", &self.name]));
        drop(run(&["userdel", &self.name]));
    }
}

fn run(arguments: &[&str]) -> Output {
    command(arguments[0]).args(&arguments[1..]).output().expect("it starts; scripts/test installs what is needed")
}

/// Where the agent of a `garant up` in this folder keeps its state.
fn state(folder: &Path) -> PathBuf {
    folder.join("data.agent")
}

/// Every user may look into the folder, so that the agent's finds its state.
fn opened(folder: TempDir) -> TempDir {
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    folder
}

/// The entries of this kind in the journal, as the team sees them.
fn entries(folder: &Path, kind: &str) -> Vec<Value> {
    let data = folder.join("data");
    let shown = garant(&["log", "show", "--json", "--kind", kind, "--data", data.to_str().expect("UTF-8")]);
    assert!(shown.status.success(), "{}", transcript(&shown));
    let lines = String::from_utf8(shown.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["entry"].clone()).collect()
}

/// The process of the agent that was attached last, but for this one.
fn attached(up: &Up, but: Option<u64>) -> u64 {
    eventually("an agent to be attached", || {
        let last = entries(&up.path(""), "hosts.attached").last()?["body"]["pid"].as_u64()?;
        (but != Some(last)).then_some(last)
    })
}

/// The attachments in the journal.
fn attachments(folder: &Path) -> usize {
    entries(folder, "hosts.attached").len()
}

fn lives(pid: u64) -> bool {
    // A process that has ended and that nobody has waited for is none.
    status(pid).is_some_and(|status| !field(&status, "State").starts_with('Z'))
}

fn status(pid: u64) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

fn kill(pid: u64, signal: &str) {
    let sent = run(&["kill", &format!("-{signal}"), &pid.to_string()]);
    assert!(sent.status.success(), "{}", transcript(&sent));
}

/// How often the journal says that the agent stood still.
fn standstills(folder: &Path) -> usize {
    let of_agent = |entry: &&Value| entry["observer"] == "server.agent-timekeeper";
    entries(folder, "engine.blind").iter().filter(of_agent).count()
}

#[test]
fn an_agent_can_change_the_packet_filter_and_nothing_else_and_loses_nothing() {
    let host = Host::new("agent");
    let folder = opened(folder_with(&policy(&format!("[agent]\nuser = \"{}\"\n", host.name))));
    let up = host.up(folder);
    let first = attached(&up, None);

    // Its rights.
    let now = status(first).expect("it lives");
    for ids in ["Uid", "Gid"] {
        let uid = host.uid.to_string();
        let gid = String::from_utf8(run(&["id", "-g", &host.name]).stdout).expect("UTF-8");
        let expected = if ids == "Uid" { uid.as_str() } else { gid.trim() };
        assert!(field(&now, ids).split_whitespace().all(|id| id == expected), "{now}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(field(&now, set), 16), Ok(NET_ADMIN), "{set}: {now}");
    }
    assert_eq!(field(&now, "NoNewPrivs"), "1");
    let names = run(&["getent", "group", "adm", "systemd-journal"]);
    let names = String::from_utf8(names.stdout).expect("UTF-8");
    let mut logs: Vec<&str> = names.lines().filter_map(|line| line.split(':').nth(2)).collect();
    let mut groups: Vec<&str> = field(&now, "Groups").split_whitespace().collect();
    logs.sort_unstable();
    groups.sort_unstable();
    assert_eq!(groups, logs, "the groups that read logs, and no others");
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let state = state(up.folder.path());
    assert_eq!((mode(&state), mode(&state.join("agent.sock"))), (0o700, 0o660));

    // A second one on its state is refused, and changes nothing.
    let second = garant(&["agent", "--state", state.to_str().expect("UTF-8")]);
    assert!(!second.status.success(), "{}", transcript(&second));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("an agent runs on {} already", state.display())), "{said}");

    // Killed, it is started again.
    kill(first, "KILL");
    let agent = attached(&up, Some(first));

    // Its server is killed: it lives on, and what it sees meanwhile is in its spool.
    let before = attachments(up.folder.path());
    let folder = up.crash();
    assert!(lives(agent), "it lives on");
    kill(agent, "STOP");
    pause(3.5);
    kill(agent, "CONT");
    eventually("the standstill in the spool", || {
        let segments = std::fs::read_dir(state.join("spool")).expect("its spool").filter_map(Result::ok);
        let texts = segments.filter_map(|segment| std::fs::read(segment.path()).ok());
        texts.into_iter().find(|text| String::from_utf8_lossy(text).contains("engine.blind"))
    });
    assert_eq!(standstills(folder.path()), 0);
    let up = host.up(folder);
    eventually("the next server to attach", || (attachments(up.folder.path()) > before).then_some(()));
    assert_eq!(attached(&up, None), agent, "the next server attaches to the same");
    eventually("the standstill in the journal", || (standstills(up.folder.path()) > 0).then_some(()));

    // And once, whoever is killed then.
    let before = attachments(up.folder.path());
    let folder = up.crash();
    kill(agent, "KILL");
    let up = host.up(folder);
    eventually("the next server to attach", || (attachments(up.folder.path()) > before).then_some(()));
    let agent = attached(&up, Some(agent));
    assert_eq!(standstills(up.folder.path()), 1);

    // An orderly stop leaves none, whether this server started it or another.
    let before = attachments(up.folder.path());
    let up = host.up(up.crash());
    eventually("the next server to attach", || (attachments(up.folder.path()) > before).then_some(()));
    assert_eq!(attached(&up, None), agent);
    let folder = up.stop();
    assert!(!lives(agent), "an agent of an earlier server is stopped");
    let up = host.up(folder);
    let own = attached(&up, Some(agent));
    drop(up.stop());
    assert!(!lives(own), "its own agent is stopped");
}

#[test]
fn without_rights_garant_says_what_can_not_act() {
    let host = Host::new("nobody");
    let folder = folder_with(&policy(""));
    let owned = run(&["chown", "-R", &host.name, folder.path().to_str().expect("UTF-8")]);
    assert!(owned.status.success(), "{}", transcript(&owned));
    let up = Up::start_as(folder, &host.name);
    let said = eventually("a word on the engine that can't act", || {
        Some(up.errors()).filter(|errors| errors.contains("can't act"))
    });
    let said = said.lines().find(|line| line.contains("can't act")).expect("there");
    for part in [&*format!("garant runs as user {}", host.uid), "`garant agent`", "docs/agent.md", "[agent]", "guard"] {
        assert!(said.contains(part), "{part} in: {said}");
    }
    drop(up.stop());

    // Where a unit is to answer, it is named.
    let folder = opened(folder_with(&policy("[agent]\nsocket = \"/nonexistent/agent.sock\"\n")));
    let up = host.up(folder);
    let said = eventually("a word on the agent that does not answer", || {
        Some(up.errors()).filter(|errors| errors.contains("can't act"))
    });
    assert!(said.contains("/nonexistent/agent.sock") && said.contains("garant-agent.service"), "{said}");
    assert!(!state(up.folder.path()).exists(), "and none is started");
    drop(up.stop());
}
