//! Two network namespaces with a cable between them: a host that is guarded, and one outside. For tests, as root.

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use engine::Programs;

/// The two namespaces. They are removed at the end.
pub(super) struct TestNet {
    name: String,
    folder: tempfile::TempDir,
}

/// The addresses of the host.
pub(super) const HOST4: &str = "10.99.0.1";
pub(super) const HOST6: &str = "fd99::1";
/// The address of the operator, outside.
pub(super) const OPERATOR4: &str = "10.99.0.2";
pub(super) const OPERATOR6: &str = "fd99:0:0:2::2";
/// Others outside, in the network of the operator.
pub(super) const OTHER4: [&str; 2] = ["10.99.0.3", "10.99.1.4"];
pub(super) const OTHER6: [&str; 2] = ["fd99:0:0:3::3", "fd99:0:0:3::4"];

static NUMBER: AtomicU32 = AtomicU32::new(0);

#[expect(clippy::disallowed_methods, reason = "tests start programs of the system")]
fn command(program: &str) -> std::process::Command {
    std::process::Command::new(program)
}

fn ip(line: &str) {
    let output = command("ip").args(line.split(' ')).output().expect("install iproute2");
    assert!(output.status.success(), "ip {line}: {} (root is needed)", String::from_utf8_lossy(&output.stderr));
}

/// Puts a program of the shell in its place. Another process copies it: while this one wrote, a child of another test could hold the
/// file as well, and a file that somebody writes to can't be run (`ETXTBSY`, execve(2)).
pub(crate) fn put_script(text: &str, at: &Path) {
    let source = at.with_extension("source");
    std::fs::write(&source, text).expect("written");
    let put = command("install").args(["-m", "755"]).args([&source, at]).output().expect("install coreutils");
    assert!(put.status.success(), "install: {}", String::from_utf8_lossy(&put.stderr));
}

impl TestNet {
    pub(super) fn new() -> Self {
        assert!(std::path::Path::new("/usr/sbin/nft").exists(), "install nftables");
        let name = format!("gg{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().expect("a folder");
        let net = Self { name: name.clone(), folder };
        ip(&format!("netns add {name}h"));
        ip(&format!("netns add {name}o"));
        ip(&format!("-n {name}h link add veth0 type veth peer name veth1 netns {name}o"));
        for (side, link) in [("h", "veth0"), ("o", "veth1")] {
            ip(&format!("-n {name}{side} link set lo up"));
            ip(&format!("-n {name}{side} link set {link} up"));
        }
        ip(&format!("-n {name}h addr add {HOST4}/16 dev veth0"));
        ip(&format!("-n {name}h addr add {HOST6}/48 dev veth0 nodad"));
        for address in [OPERATOR4, OTHER4[0], OTHER4[1]] {
            ip(&format!("-n {name}o addr add {address}/16 dev veth1"));
        }
        for address in [OPERATOR6, OTHER6[0], OTHER6[1]] {
            ip(&format!("-n {name}o addr add {address}/48 dev veth1 nodad"));
        }
        // Programs of the guarded host: `nft`, in its namespace.
        let wrapper = net.folder.path().join("nft");
        put_script(&format!("#!/bin/sh\nexec /usr/sbin/ip netns exec {name}h /usr/sbin/nft \"$@\"\n"), &wrapper);
        net
    }

    pub(super) fn programs(&self) -> Programs {
        Programs::in_folders([PathBuf::from(self.folder.path())])
    }

    fn inside(&self, side: &str, program: &[&str]) -> std::process::Command {
        let mut command = command("ip");
        command.args(["netns", "exec", &format!("{}{side}", self.name)]).args(program).stdin(Stdio::null());
        command
    }

    /// Runs a program on the host to its end.
    pub(super) fn on_host(&self, program: &[&str]) -> Output {
        self.inside("h", program).output().expect("it runs")
    }

    /// Does this on a thread that is in the network of the host.
    pub(super) fn on_thread_of_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        let namespace = std::fs::File::open(format!("/run/netns/{}h", self.name)).expect("it is there");
        let work = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).expect("root is needed");
            work()
        };
        std::thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
    }

    /// Runs `nft` on the host with this text.
    pub(super) fn nft(&self, script: &str) -> String {
        let file = self.folder.path().join("script");
        std::fs::write(&file, script).expect("written");
        let output = self.on_host(&["nft", "-f", file.to_str().expect("a path")]);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Starts a program of Python on the host, and waits until it says that it is ready.
    pub(super) fn serve(&self, program: &str) -> Serving {
        self.start("h", program)
    }

    /// Starts a program of Python outside, and waits until it says that it is ready.
    pub(super) fn start_outside(&self, program: &str) -> Serving {
        self.start("o", program)
    }

    fn start(&self, side: &str, program: &str) -> Serving {
        use std::io::BufRead as _;
        let mut child =
            self.inside(side, &["python3", "-c", program]).stdout(Stdio::piped()).spawn().expect("install python3");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        std::io::BufReader::new(stdout).read_line(&mut line).expect("it is ready");
        Serving(child)
    }

    /// Runs a program of Python outside to its end; what it prints.
    pub(super) fn outside(&self, program: &str) -> String {
        let output = self.inside("o", &["python3", "-c", program]).output().expect("install python3");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Tries a connection from the address outside to the port of the host, which is to be `open` or `dropped`. An answer is
    /// waited for as long as it takes on a busy machine; that none comes, for a moment only.
    pub(super) fn expect(&self, from: &str, port: u16, expected: &str) {
        let to = if from.contains(':') { HOST6 } else { HOST4 };
        let timeout = if expected == "dropped" { 0.4 } else { 20.0 };
        let result = self.outside(&format!(
            "import socket
try:
    socket.create_connection(('{to}', {port}), {timeout}, ('{from}', 0)).close(); print('open')
except ConnectionRefusedError: print('refused')
except TimeoutError: print('dropped')"
        ));
        assert_eq!(result, expected, "from {from} to port {port}");
    }
}

impl Drop for TestNet {
    fn drop(&mut self) {
        for side in ["h", "o"] {
            ip(&format!("netns del {}{side}", self.name));
        }
    }
}

/// A program that serves until it is dropped.
pub(super) struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

impl Serving {
    /// The number of its process.
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

/// A server of TCP on these ports, of both families.
pub(super) fn tcp_server(ports: &[u16]) -> String {
    format!(
        "import selectors, socket
s = selectors.DefaultSelector()
for port in {ports:?}:
    l = socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True); s.register(l, 1)
print('ready', flush=True)
kept = []
while True:
    for key, _ in s.select(): kept.append(key.fileobj.accept()[0])"
    )
}
