//! The gate beside nginx and HAProxy, in front of one nginx: processor time per request, requests per second and p99, with an access
//! log and kept connections to the upstream in all three; then over HTTP/2 beside nginx, asked by h2load. Processor time is what a
//! loaded machine changes least.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::process::{Process, children, cpu_s, garant, now, pause, resident_mb};
use crate::{Outcome, row};

pub(crate) mod edge;

/// Connections of clients at a time.
const CLIENTS: usize = 32;
/// How long each proxy is asked in a round, and how many rounds there are. They take turns, so that a load of the machine meets all.
const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
/// Requests of a round over HTTP/2.
const HTTP2_REQUESTS: u32 = 60_000;
const REQUEST: &[u8] =
    b"GET /hello HTTP/1.1\r\nHost: t.example\r\nUser-Agent: bench\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n";

/// A `garant up`. Stopped in order when dropped, so that it stops its gate, which outlives one that is killed.
struct Up(Process);

impl Drop for Up {
    fn drop(&mut self) {
        let told = Process::command("kill").arg("-TERM").arg(self.0.id().to_string()).status();
        if told.is_ok_and(|status| status.success()) {
            drop(self.0.child().wait());
        }
    }
}

/// A proxy, and what was measured of it.
struct Proxy {
    name: &'static str,
    port: u16,
    /// The processes that do its work.
    pids: Vec<u32>,
    /// µs of processor time for a request, requests per second, and p99 in ms, of each round.
    rounds: Vec<[f64; 3]>,
}

impl Proxy {
    fn cpu_s(&self) -> f64 {
        self.pids.iter().filter_map(|pid| cpu_s(*pid)).sum()
    }

    /// The median of the rounds.
    fn median(&self, figure: usize) -> f64 {
        let mut figures: Vec<f64> = self.rounds.iter().map(|round| round[figure]).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

pub(crate) fn run() -> Outcome {
    let folder = tempfile::tempdir()?;
    let [origin, ours, nginx, haproxy, team, ours_tls, nginx_tls] = free_ports()?;
    make_certificate(folder.path())?;
    let _origin = start_nginx(
        folder.path(),
        "origin",
        &format!(
            "access_log off; keepalive_requests 10000000; server {{ listen 127.0.0.1:{origin}; location / {{ return 200 \"hello\\n\"; }} }}"
        ),
    )?;
    let peer = start_nginx(
        folder.path(),
        "peer",
        &format!(
            "access_log {0}/peer.access; keepalive_requests 10000000;\n\
         upstream u {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 10000000; }}\n\
         ssl_certificate {0}/chain.pem; ssl_certificate_key {0}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
         server {{ listen 127.0.0.1:{nginx}; listen 127.0.0.1:{nginx_tls} ssl http2; location / {{ proxy_pass http://u; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;\n\
         proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; }} }}",
            folder.path().display()
        ),
    )?;
    let haproxy_process = start_haproxy(folder.path(), haproxy, origin)?;
    let up = start_garant(folder.path(), [ours, ours_tls], team, origin)?;
    for port in [origin, ours, nginx, haproxy, ours_tls, nginx_tls] {
        wait_for(port)?;
    }
    let gate = find_gate(&up)?;
    let workers = [vec![peer.id()], children(peer.id())].concat();
    let mut proxies = [
        Proxy { name: "nginx", port: nginx, pids: workers, rounds: Vec::new() },
        Proxy { name: "HAProxy", port: haproxy, pids: vec![haproxy_process.id()], rounds: Vec::new() },
        Proxy { name: "garant gate", port: ours, pids: vec![gate], rounds: Vec::new() },
    ];
    for _ in 0..ROUNDS {
        for proxy in &mut proxies {
            let before = proxy.cpu_s();
            let (times, took) = ask(proxy.port)?;
            let count = times.len() as f64;
            let cpu_us = (proxy.cpu_s() - before) * 1e6 / count;
            let p99 = times.get(times.len() * 99 / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
            proxy.rounds.push([cpu_us, count / took.as_secs_f64(), p99]);
        }
    }
    let [nginx, haproxy, ours] = &proxies;
    for proxy in [nginx, haproxy, ours] {
        let wanted = if proxy.name == "nginx" { "the peer" } else { "–" };
        row(&format!("{}: processor time per request", proxy.name), &format!("{:.1} µs", proxy.median(0)), wanted);
        row(
            &format!("{}: requests per second, p99", proxy.name),
            &format!("{:.0}/s, {:.1} ms", proxy.median(1), proxy.median(2)),
            "–",
        );
    }
    row("processor time per request, beside nginx", &format!("{:.2} ×", ours.median(0) / nginx.median(0)), "≤ 1.5 ×");
    row("processor time per request, beside HAProxy", &format!("{:.2} ×", ours.median(0) / haproxy.median(0)), "–");
    over_http2(nginx, nginx_tls, ours, ours_tls)?;
    let memory = resident_mb(gate).ok_or("no memory figure")?;
    row("garant gate: resident memory after that", &format!("{memory:.1} MB"), "–");
    drop((proxies, up));
    edge::run()
}

/// The process of the gate that a `garant up` has started.
fn find_gate(up: &Up) -> Result<u32, Box<dyn std::error::Error>> {
    let is_gate =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("gate"));
    Ok(children(up.0.id()).into_iter().find(is_gate).ok_or("garant has started no gate")?)
}

/// Processor time per request over HTTP/2: 16 connections, 16 requests at a time on each.
fn over_http2(nginx: &Proxy, nginx_port: u16, ours: &Proxy, our_port: u16) -> Outcome {
    let (mut theirs, mut own) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(ask_over_http2(nginx, nginx_port)?);
        own.push(ask_over_http2(ours, our_port)?);
    }
    let [theirs, own] = [theirs, own].map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    });
    row("HTTP/2, nginx: processor time per request", &format!("{theirs:.1} µs"), "the peer");
    row("HTTP/2, garant gate: processor time per request", &format!("{own:.1} µs"), "–");
    row("HTTP/2: processor time per request, beside nginx", &format!("{:.2} ×", own / theirs), "≤ 1.7 ×");
    Ok(())
}

/// µs of processor time for a request.
fn ask_over_http2(proxy: &Proxy, port: u16) -> Result<f64, Box<dyn std::error::Error>> {
    let before = proxy.cpu_s();
    let mut h2load = Process::command("h2load");
    h2load.args(["-c", "16", "-m", "16", "-n", &HTTP2_REQUESTS.to_string()]);
    let asked = h2load.arg(format!("--connect-to=127.0.0.1:{port}")).arg("https://t.example/hello").output()?;
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    if !said.contains(&format!(" {HTTP2_REQUESTS} succeeded")) {
        return Err(format!("h2load and {}: {said}", proxy.name).into());
    }
    Ok((proxy.cpu_s() - before) * 1e6 / f64::from(HTTP2_REQUESTS))
}

/// A certificate of its own for `t.example`.
fn make_certificate(folder: &Path) -> Outcome {
    let made = Process::command("openssl")
        .current_dir(folder)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args([
            "-keyout",
            "key.pem",
            "-out",
            "chain.pem",
            "-subj",
            "/CN=t.example",
            "-addext",
            "subjectAltName=DNS:t.example",
        ])
        .stderr(Stdio::null())
        .status()?;
    std::fs::set_permissions(folder.join("key.pem"), std::fs::Permissions::from_mode(0o600))?;
    if made.success() { Ok(()) } else { Err("openssl has made no certificate".into()) }
}

/// Asks on [`CLIENTS`] connections for [`ROUND`]; the time of each answer, the shortest first, and how long it took in all.
fn ask(port: u16) -> Result<(Vec<Duration>, Duration), Box<dyn std::error::Error>> {
    let stop = AtomicBool::new(false);
    let began = now();
    let times = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| ask_on(port, &stop))).collect();
        pause(ROUND);
        stop.store(true, Ordering::Relaxed);
        let times = clients.into_iter().map(|client| client.join().map_err(|_| "a client has failed")?);
        times.collect::<Result<Vec<_>, String>>()
    })?;
    let mut times: Vec<Duration> = times.into_iter().flatten().collect();
    times.sort_unstable();
    Ok((times, began.elapsed()))
}

fn ask_on(port: u16, stop: &AtomicBool) -> Result<Vec<Duration>, String> {
    let mut times = Vec::new();
    let mut stream = connect(port).map_err(|error| error.to_string())?;
    let (mut buffer, mut filled) = ([0; 4096], 0);
    while !stop.load(Ordering::Relaxed) {
        let began = now();
        stream.write_all(REQUEST).map_err(|error| error.to_string())?;
        // The answer is always the same: a head with its length, and "hello".
        while !buffer[..filled].ends_with(b"\r\n\r\nhello\n") {
            match stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err("the connection has ended".to_owned()),
                Ok(bytes) => filled += bytes,
                // What the kernel says to a read with a deadline when the process was stopped and goes on (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&buffer[..filled]).into_owned());
        }
        filled = 0;
        times.push(began.elapsed());
    }
    Ok(times)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark asks over the network")]
fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark needs free ports")]
fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    let listeners = (0..N).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn wait_for(port: u16) -> Outcome {
    let end = now() + Duration::from_secs(30);
    while connect(port).is_err() {
        if now() > end {
            return Err(format!("nothing listens on port {port}").into());
        }
        pause(Duration::from_millis(50));
    }
    Ok(())
}

/// An nginx with two workers, as many as the gate has threads.
fn start_nginx(folder: &Path, name: &str, http: &str) -> std::io::Result<Process> {
    let file = write_nginx(folder, name, http)?;
    let shown = folder.join(name);
    let mut nginx = Process::command("nginx");
    nginx.arg("-e").arg(format!("{}.error", shown.display())).arg("-c").arg(&file).stderr(Stdio::null());
    Process::start(&mut nginx)
}

/// The configuration of one.
fn write_nginx(folder: &Path, name: &str, http: &str) -> std::io::Result<PathBuf> {
    let at = folder.join(name);
    let shown = at.display();
    let config = format!(
        "daemon off; worker_processes 2; pid {shown}.pid; error_log {shown}.error;\nevents {{ worker_connections 1024; }}\n\
         http {{ client_body_temp_path {shown}.b; proxy_temp_path {shown}.p; fastcgi_temp_path {shown}.f;\n\
         uwsgi_temp_path {shown}.u; scgi_temp_path {shown}.s;\n{http}\n}}\n"
    );
    let file = folder.join(format!("{name}.conf"));
    std::fs::write(&file, config)?;
    Ok(file)
}

fn start_haproxy(folder: &Path, port: u16, origin: u16) -> std::io::Result<Process> {
    start_haproxy_with(
        folder,
        &format!(
            " timeout connect 3s\n timeout http-request 10s\n frontend f\n bind 127.0.0.1:{port}\n default_backend b\n\
             backend b\n http-reuse always\n server s 127.0.0.1:{origin} check\n"
        ),
    )
}

/// An HAProxy with two threads, and the rest of its configuration.
fn start_haproxy_with(folder: &Path, rest: &str) -> std::io::Result<Process> {
    let config = format!(
        "global\n nbthread 2\ndefaults\n mode http\n log stdout format raw local0\n option httplog\n option forwardfor\n\
         timeout client 300s\n timeout server 30s\n timeout connect 3s\n{rest}"
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, config)?;
    let log = std::fs::File::create(folder.join("haproxy.access"))?;
    Process::start(Process::command("haproxy").args(["-db", "-f"]).arg(&file).stdout(log).stderr(Stdio::null()))
}

fn start_garant(
    folder: &Path,
    [port, tls]: [u16; 2],
    team: u16,
    origin: u16,
) -> Result<Up, Box<dyn std::error::Error>> {
    let site = format!(
        "[[site]]\ndomain = \"t.example\"\nredirect_to_https = false\ncertificate = \"{0}/chain.pem\"\n\
         key = {{ file = \"{0}/key.pem\" }}\nupstream = [{{ url = \"http://127.0.0.1:{origin}\" }}]\n",
        folder.display()
    );
    start_garant_with(folder, port, tls, team, &site)
}

fn write_policy(folder: &Path, port: u16, tls: u16, team: u16, sites: &str) -> std::io::Result<()> {
    let policy = format!(
        "[journal]\nname = \"t.example\"\n[pages]\nlisten = \"127.0.0.1:{team}\"\n\
         [gate]\nhttp = [\"127.0.0.1:{port}\"]\nhttps = [\"127.0.0.1:{tls}\"]\naccess_log = \"{}/ours.access\"\n{sites}",
        folder.display()
    );
    std::fs::write(folder.join("garant.toml"), policy)
}

/// A garant with its gate in front of these sites, at these ports.
fn start_garant_with(
    folder: &Path,
    port: u16,
    tls: u16,
    team: u16,
    sites: &str,
) -> Result<Up, Box<dyn std::error::Error>> {
    write_policy(folder, port, tls, team, sites)?;
    let mut up = Process::command(garant()?);
    let up =
        up.current_dir(folder).args(["up", "--json", "--data", "data"]).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Up(Process::start(up)?))
}
