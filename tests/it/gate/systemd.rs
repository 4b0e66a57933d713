//! The units of docs/samples under a real systemd: the first process of namespaces of its own, see tests/systemd/start.

use std::fs;
use std::process::{Child, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, exchange};
use super::faults::Load;
use super::policy;
use super::upstream::{Upstream, process_of};
use crate::harness::{binary, command, eventually, folder_with, free_port, pause, transcript};

const HELLO: &str = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";
const GATE: &str = "garant-gate.service";
const SOCKET: &str = "/run/garant-gate/gate.sock";

/// A systemd with the units of a host: `garant up`, the gate, and a socket that it opens for it.
struct Systemd {
    script: Child,
    pid: String,
    http: u16,
    _folder: TempDir,
}

impl Systemd {
    fn start(upstream: &Upstream) -> Self {
        let http = free_port();
        let site = format!("upstream = [{{ url = \"http://{}\" }}]", upstream.address());
        let policy = policy(free_port(), http, &format!("socket = \"{SOCKET}\"\ndrain = \"5 s\""), &site);
        let folder = folder_with(&policy);
        let place = folder.path().join("root/etc/garant");
        fs::create_dir_all(&place).expect("made");
        fs::rename(folder.path().join("garant.toml"), place.join("garant.toml")).expect("moved");
        let project = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        for unit in ["garant.service", GATE] {
            fs::copy(format!("{project}/docs/samples/{unit}"), folder.path().join(unit)).expect("a sample");
        }
        let socket = format!("[Socket]\nListenStream=127.0.0.1:{http}\n");
        fs::write(folder.path().join("garant-gate.socket"), socket).expect("written");
        let log = fs::File::create(folder.path().join("systemd.log")).expect("a log");
        let mut script = command(format!("{project}/tests/systemd/start"));
        script.arg(folder.path()).arg(binary()).stdin(Stdio::null());
        script.stdout(log.try_clone().expect("a log")).stderr(log);
        let script = script.spawn().expect("run as root, it starts");
        let pid = eventually("systemd to run", || process_of(&["--system", "--unit=wanted.target"]));
        let systemd = Self { script, pid, http, _folder: folder };
        eventually("its units to serve", || {
            let mut client = Client::connect(http)?;
            client.send(HELLO);
            (client.reply(false)?.status == 200).then_some(())
        });
        systemd
    }

    fn inside(&self, program: &[&str]) -> Output {
        let mut inside = command("nsenter");
        inside.args(["-t", &self.pid, "-m", "-p", "-r", "-w"]).args(program).output().expect("nsenter runs")
    }

    fn systemctl(&self, arguments: &[&str]) -> String {
        let output = self.inside(&[&["systemctl"], arguments].concat());
        assert!(output.status.success(), "{}", transcript(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The main process of the gate, how often systemd has started it anew by itself, and what it says of the unit.
    fn gate(&self) -> (u32, u32, String) {
        let shown = |name: &str| self.systemctl(&["show", GATE, "--value", "-p", name]).trim().to_owned();
        let number = |name: &str| shown(name).parse().expect("a number");
        (number("MainPID"), number("NRestarts"), shown("ActiveState"))
    }

    fn status(&self) -> Value {
        let shown = self.inside(&["garant", "gate", "status", "--json", "--gate", SOCKET]);
        serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("no status: {}", transcript(&shown)))
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        drop(command("kill").args(["-9", &self.pid]).status());
        drop(self.script.wait());
    }
}

/// AV-4: with the units that the documentation gives, and all that they forbid: a reload of the unit replaces the program, and
/// systemd knows the new process; no request fails, with a server of garant or without. Whatever ends the gate, who comes meanwhile
/// waits in the socket and is answered.
#[test]
fn the_units_of_the_samples_hold_under_a_real_systemd() {
    let upstream = Upstream::start(1);
    let systemd = Systemd::start(&upstream);
    let (first, restarts, state) = systemd.gate();
    assert_eq!((restarts, state.as_str()), (0, "active"));
    assert_eq!(systemd.status()["problems"], serde_json::json!([]));

    let load = Load::begin(systemd.http, 2);
    let mut before = first;
    for with_server in [true, true, false] {
        if !with_server {
            systemd.systemctl(&["stop", "garant.service"]);
        }
        systemd.systemctl(&["reload", GATE]);
        let (pid, restarts, state) = systemd.gate();
        assert!(pid != before && restarts == 0 && state == "active", "{pid} after {before}: {restarts} {state}");
        before = pid;
        load.go_on("after a reload of the unit", 0.5, 20);
    }
    load.end();
    let killed = systemd.inside(&["kill", "-9", &before.to_string()]);
    assert!(killed.status.success(), "{}", transcript(&killed));
    assert_eq!(exchange(systemd.http, HELLO), 200, "it waits in the socket of systemd");
    let (after, restarts, state) = systemd.gate();
    assert!(after != before && restarts == 1 && state == "active", "{after} after {before}: {restarts} {state}");

    let http = systemd.http;
    let asks = std::thread::spawn(move || {
        (0..100)
            .map(|_| {
                pause(0.02);
                exchange(http, HELLO)
            })
            .collect::<Vec<_>>()
    });
    systemd.systemctl(&["restart", GATE]);
    systemd.systemctl(&["start", "garant.service"]);
    assert_eq!(asks.join().expect("asked"), [200; 100]);
    assert_eq!(systemd.gate().2, "active");
}
