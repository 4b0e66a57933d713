//! A guarded host and the world outside, as two network namespaces with a cable between them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Up, binary, command, eventually, folder_with, transcript};

/// The host that is guarded.
pub(super) const HOST: &str = "10.97.0.1";
/// Never banned by the policies of the tests.
pub(super) const OPERATOR: &str = "10.97.0.2";
/// Others outside. Any `10.97.x.y` may be written into logs; these can send packets too.
pub(super) const ATTACKER: &str = "10.97.0.66";
pub(super) const OTHER: &str = "10.97.0.67";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The two namespaces. At the end, what runs in them is killed and they are removed.
pub(super) struct Bench {
    pub(super) name: String,
}

/// Runs a program to its end.
pub(super) fn run(arguments: &[&str]) -> Output {
    command(arguments[0]).args(&arguments[1..]).output().expect("it starts; scripts/test installs what is needed")
}

/// Runs a program to its end, which must be a good one; what it wrote.
pub(super) fn done(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?} (the tests of the guard run as root): {}", transcript(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A program that is killed when it is dropped.
pub(super) struct Daemon(pub(super) Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let name = format!("gi{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let (host, outside) = (format!("{name}h"), format!("{name}o"));
        done(&["ip", "netns", "add", &host]);
        done(&["ip", "netns", "add", &outside]);
        let bench = Self { name };
        done(&["ip", "-n", &host, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", &outside]);
        for (side, link) in [(&host, "veth0"), (&outside, "veth1")] {
            done(&["ip", "-n", side, "link", "set", "lo", "up"]);
            done(&["ip", "-n", side, "link", "set", link, "up"]);
        }
        done(&["ip", "-n", &host, "addr", "add", &format!("{HOST}/16"), "dev", "veth0"]);
        for address in [OPERATOR, ATTACKER, OTHER] {
            done(&["ip", "-n", &outside, "addr", "add", &format!("{address}/16"), "dev", "veth1"]);
        }
        bench
    }

    fn inside(&self, side: &str, program: &[&str]) -> Command {
        let mut command = command("ip");
        command.args(["netns", "exec", &format!("{}{side}", self.name)]).args(program).stdin(Stdio::null());
        command
    }

    /// A program on the host, to be started.
    pub(super) fn host(&self, program: &[&str]) -> Command {
        self.inside("h", program)
    }

    /// Runs a program on the host to its good end; what it wrote.
    pub(super) fn on_host(&self, program: &[&str]) -> String {
        let output = self.host(program).output().expect("it starts");
        assert!(output.status.success(), "{program:?}: {}", transcript(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A program outside, to be started.
    pub(super) fn outside(&self, program: &[&str]) -> Command {
        self.inside("o", program)
    }

    /// Starts a program on the host, until it is dropped.
    pub(super) fn daemon(&self, program: &[&str]) -> Daemon {
        Daemon(self.host(program).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }

    /// A server of TCP on these ports of the host.
    pub(super) fn listen(&self, ports: &[u16]) -> Daemon {
        let program = format!(
            "import selectors, socket\ns = selectors.DefaultSelector()\nfor port in {ports:?}:\n    s.register(socket.create_server(('0.0.0.0', port)), 1)\n\
             while True:\n    for key, _ in s.select(): key.fileobj.accept()[0].close()"
        );
        let daemon = self.daemon(&["/usr/bin/python3", "-c", &program]);
        for port in ports {
            eventually("the port to be open", || (self.reach(OPERATOR, *port, 1.0) == "open").then_some(()));
        }
        daemon
    }

    /// Tries a connection from the address outside: `open`, `refused` or `dropped`.
    pub(super) fn reach(&self, from: &str, port: u16, patience: f64) -> String {
        let program = format!(
            "import socket\ntry:\n    socket.create_connection(('{HOST}', {port}), {patience}, ('{from}', 0)).close(); print('open')\n\
             except ConnectionRefusedError: print('refused')\nexcept TimeoutError: print('dropped')"
        );
        let output = self.outside(&["/usr/bin/python3", "-c", &program]).output().expect("install python3");
        assert!(output.status.success(), "{}", transcript(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The packets of this address are dropped on that port.
    pub(super) fn is_dropped(&self, from: &str, port: u16) {
        assert_eq!(self.reach(from, port, 0.5), "dropped", "{from} to {port}");
    }

    /// This address is served on that port.
    pub(super) fn is_open(&self, from: &str, port: u16) {
        assert_eq!(self.reach(from, port, 20.0), "open", "{from} to {port}");
    }

    /// Starts `garant up` on the host.
    pub(super) fn up(&self, folder: TempDir) -> Up {
        Up::start_inside(folder, &format!("{}h", self.name))
    }

    /// How many elements all sets of bans of garant hold in the kernel.
    pub(super) fn held(&self) -> usize {
        let listed = self.host(&["nft", "-j", "list", "table", "inet", "garant"]).output().expect("it starts");
        let Ok(listed) = serde_json::from_slice::<Value>(&listed.stdout) else { return 0 };
        let sets = listed["nftables"].as_array().into_iter().flatten().filter_map(|item| item.get("set"));
        let bans = sets.filter(|set| set["name"].as_str().is_some_and(|name| name.starts_with("ban")));
        bans.map(|set| set["elem"].as_array().map_or(0, Vec::len)).sum()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for side in ["h", "o"] {
            let name = format!("{}{side}", self.name);
            let left = run(&["ip", "netns", "pids", &name]);
            for pid in String::from_utf8_lossy(&left.stdout).split_whitespace() {
                drop(run(&["kill", "-KILL", pid]));
            }
            drop(run(&["ip", "netns", "del", &name]));
        }
    }
}

/// A policy with a guard of the configuration of fail2ban in `fail2ban`, and more lines of `[guard]`, and more sections.
pub(super) fn policy(folder: &Path, guard: &str, more: &str) -> String {
    format!(
        r#"
[journal]
name = "shop.example"
[pages]
listen = "127.0.0.1:0"
[[service]]
name = "guard"
title.fr = "La garde"
title.en = "The guard"
[guard]
service = "guard"
fail2ban = "{}"
allow = ["{OPERATOR}"]
{guard}
{more}"#,
        folder.join("fail2ban").display()
    )
}

/// A folder with a policy, Debian's configuration of fail2ban, and this `jail.local`, in which `@` is the folder.
pub(super) fn folder(jails: &str, guard: &str, more: &str) -> TempDir {
    let folder = folder_with("");
    let at = folder.path();
    // The agent may be a user who is not root.
    std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let copied = at.join("fail2ban");
    done(&["cp", "-r", "/etc/fail2ban", copied.to_str().expect("UTF-8")]);
    // Debian enables the jail of sshd, on /var/log/auth.log.
    std::fs::remove_dir_all(copied.join("jail.d")).expect("install fail2ban");
    std::fs::create_dir(copied.join("jail.d")).expect("made");
    write_jails(at, jails);
    std::fs::write(at.join("garant.toml"), policy(at, guard, more)).expect("written");
    folder
}

/// Writes `jail.local`.
fn write_jails(folder: &Path, jails: &str) {
    let jails = jails.replace('@', folder.to_str().expect("UTF-8"));
    std::fs::write(folder.join("fail2ban/jail.local"), jails).expect("written");
}

/// A jail of sshd that bans at the third failure.
pub(super) const SSHD: &str =
    "[sshd]\nenabled = true\nlogpath = @/auth.log\nmaxretry = 3\nbantime = 600\nbackend = auto\n";

/// The date that syslog writes now.
pub(super) fn syslog_date() -> String {
    done(&["date", "+%b %e %H:%M:%S"]).trim().to_owned()
}

/// Appends to a file at once.
pub(super) fn append(path: &Path, text: impl AsRef<[u8]>) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("it opens");
    file.write_all(text.as_ref()).expect("written");
}

/// Lines of sshd that tell of wrong passwords.
pub(super) fn failures(address: &str, count: usize) -> String {
    let date = syslog_date();
    (0..count).fold(String::new(), |mut all, number| {
        let port = 40_000 + number;
        writeln!(all, "{date} web sshd[812]: Failed password for root from {address} port {port} ssh2").expect("text");
        all
    })
}

/// The socket of the agent that `garant up` started.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("data.agent/agent.sock")
}

/// Runs `garant guard …` against the agent of this folder.
pub(super) fn guard(folder: &Path, arguments: &[&str]) -> Output {
    let socket = socket(folder);
    command(binary()).arg("guard").args(arguments).arg("--agent").arg(socket).output().expect("garant starts")
}

/// What `garant guard … --json` answers, when it does.
pub(super) fn ask(folder: &Path, arguments: &[&str]) -> Option<Value> {
    let output = guard(folder, &[arguments, &["--json"]].concat());
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// The guard is at work: its answer to `status`.
pub(super) fn ready(folder: &Path) -> Value {
    eventually("the guard to be at work", || ask(folder, &["status"]))
}

/// Bans in force: `address rule`, sorted.
pub(super) fn banned(folder: &Path) -> Vec<String> {
    let bans = ask(folder, &["bans"]).unwrap_or_default();
    let text = |ban: &Value, key: &str| ban[key].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> = bans
        .as_array()
        .into_iter()
        .flatten()
        .map(|ban| format!("{} {}", text(ban, "address"), text(ban, "rule")))
        .collect();
    all.sort();
    all
}

/// Waits until the address is banned by the rule.
pub(super) fn until_banned(folder: &Path, address: &str, rule: &str) {
    let wanted = format!("{address} {rule}");
    eventually(&format!("the ban of {wanted}"), || banned(folder).contains(&wanted).then_some(()));
}

/// The entries of this kind in the journal, as the team sees them.
pub(super) fn entries(folder: &Path, kind: &str) -> Vec<Value> {
    let data = folder.join("data");
    let shown =
        crate::harness::garant(&["log", "show", "--json", "--kind", kind, "--data", data.to_str().expect("UTF-8")]);
    assert!(shown.status.success(), "{}", transcript(&shown));
    let lines = String::from_utf8(shown.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["entry"]["body"].clone()).collect()
}

/// The process of the agent of this folder.
pub(super) fn agent(folder: &Path) -> u64 {
    eventually("an agent to be attached", || {
        let pid = entries(folder, "hosts.attached").last()?["pid"].as_u64()?;
        Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
    })
}

pub(super) fn signal(pid: u64, name: &str) {
    done(&["kill", &format!("-{name}"), &pid.to_string()]);
}
