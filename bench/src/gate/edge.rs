//! The edge of the gate beside its peers: new connections over TLS, memory of those that rest, the first good answer after an upstream
//! that is silent or refuses, and a reload of a thousand sites.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use super::{
    connect, find_gate, free_ports, make_certificate, start_garant_with, start_haproxy_with, start_nginx, wait_for,
};
use crate::process::{Process, children, cpu_s, now, pause, resident_mb};
use crate::{Outcome, row};

/// Connections over TLS of a round, and rounds, in turn.
const HANDSHAKES: u32 = 300;
const ROUNDS: usize = 3;
/// Connections that rest.
const RESTING: u32 = 200;
/// Sites of the reload.
const SITES: usize = 1000;
/// How often it is made.
const RELOADS: usize = 5;

/// A peer: what it is called, where it speaks TLS, and the processes that do its work.
struct Peer {
    name: &'static str,
    port: u16,
    pids: Vec<u32>,
}

impl Peer {
    fn cpu_s(&self) -> f64 {
        self.pids.iter().filter_map(|pid| cpu_s(*pid)).sum()
    }

    fn resident_mb(&self) -> f64 {
        self.pids.iter().filter_map(|pid| resident_mb(*pid)).sum()
    }
}

/// All of it.
pub(super) fn run() -> Outcome {
    over_tls()?;
    after_a_failure()?;
    reload()
}

fn over_tls() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    make_certificate(at)?;
    let pem = [std::fs::read(at.join("chain.pem"))?, std::fs::read(at.join("key.pem"))?].concat();
    std::fs::write(at.join("both.pem"), pem)?;
    let [origin, ours, ours_tls, nginx_tls, haproxy_tls, caddy_tls, team] = free_ports()?;
    let _origin = start_nginx(at, "origin", &answering(origin))?;
    let shown = at.display();
    let nginx = start_nginx(
        at,
        "peer",
        &format!(
            "access_log {shown}/peer.access; ssl_certificate {shown}/chain.pem; ssl_certificate_key {shown}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;\n\
             keepalive_timeout 300s; server {{ listen 127.0.0.1:{nginx_tls} ssl; location / {{ proxy_pass http://127.0.0.1:{origin}; }} }}"
        ),
    )?;
    let haproxy = start_haproxy_with(
        at,
        &format!(
            "timeout http-keep-alive 300s\n frontend f\n bind 127.0.0.1:{haproxy_tls} ssl crt {shown}/both.pem\n default_backend b\n\
             backend b\n server s 127.0.0.1:{origin}\n"
        ),
    )?;
    let caddy = start_caddy(at, caddy_tls, origin)?;
    let up = start_garant_with(at, ours, ours_tls, team, &site(at, "t.example", origin))?;
    for port in [origin, ours_tls, nginx_tls, haproxy_tls, caddy_tls] {
        wait_for(port)?;
    }
    let gate = find_gate(&up)?;
    let peers = [
        Peer { name: "nginx", port: nginx_tls, pids: [vec![nginx.id()], children(nginx.id())].concat() },
        Peer { name: "HAProxy", port: haproxy_tls, pids: vec![haproxy.id()] },
        Peer { name: "Caddy", port: caddy_tls, pids: vec![caddy.id()] },
        Peer { name: "garant gate", port: ours_tls, pids: vec![gate] },
    ];
    let mut figures = vec![Vec::new(); peers.len()];
    for _ in 0..ROUNDS {
        for (peer, figures) in peers.iter().zip(&mut figures) {
            figures.push(handshakes(peer)?);
        }
    }
    let medians: Vec<f64> = figures
        .iter_mut()
        .map(|figures| {
            figures.sort_by(f64::total_cmp);
            figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
        })
        .collect();
    for (peer, median) in peers.iter().zip(&medians) {
        let wanted = if peer.name == "nginx" { "the peer" } else { "–" };
        row(
            &format!("{}: processor time per new connection over TLS 1.3", peer.name),
            &format!("{median:.0} µs"),
            wanted,
        );
    }
    row("processor time per new connection, beside nginx", &format!("{:.2} ×", medians[3] / medians[0]), "≤ 0.7 ×");
    for peer in &peers {
        let per = resting(peer)?;
        let wanted = if peer.name == "garant gate" { "≤ 25 KB" } else { "–" };
        row(&format!("{}: memory per connection over TLS that rests", peer.name), &format!("{per:.1} KB"), wanted);
    }
    Ok(())
}

fn answering(port: u16) -> String {
    format!("access_log off; server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"hello\\n\"; }} }}")
}

fn site(folder: &Path, domain: &str, origin: u16) -> String {
    format!(
        "[[site]]\ndomain = \"{domain}\"\nredirect_to_https = false\ncertificate = \"{0}/chain.pem\"\n\
         key = {{ file = \"{0}/key.pem\" }}\nupstream = [{{ url = \"http://127.0.0.1:{origin}\" }}]\n",
        folder.display()
    )
}

fn start_caddy(folder: &Path, port: u16, origin: u16) -> std::io::Result<Process> {
    let config = format!(
        "{{\n admin off\n auto_https off\n servers {{\n protocols h1\n }}\n}}\n\
         https://t.example:{port} {{\n bind 127.0.0.1\n tls {0}/chain.pem {0}/key.pem\n reverse_proxy 127.0.0.1:{origin}\n}}\n",
        folder.display()
    );
    let file = folder.join("Caddyfile");
    std::fs::write(&file, config)?;
    let mut caddy = Process::command("caddy");
    caddy.env("HOME", folder).args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
    Process::start(caddy.stdout(Stdio::null()).stderr(Stdio::null()))
}

/// µs of processor time for a connection with a whole handshake and one request.
fn handshakes(peer: &Peer) -> Result<f64, Box<dyn std::error::Error>> {
    let before = peer.cpu_s();
    let mut h2load = Process::command("h2load");
    // A connection for each request: so many clients at a time, each with one.
    h2load.args(["--h1", "-c", &HANDSHAKES.to_string(), "-r", "100", "-n", &HANDSHAKES.to_string()]);
    let asked = h2load.arg(format!("--connect-to=127.0.0.1:{}", peer.port)).arg("https://t.example/hello").output()?;
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    if !said.contains(&format!(" {HANDSHAKES} succeeded")) {
        return Err(format!("h2load and {}: {said}", peer.name).into());
    }
    Ok((peer.cpu_s() - before) * 1e6 / f64::from(HANDSHAKES))
}

/// KB of memory for a connection over which one request has gone, and which waits for the next.
fn resting(peer: &Peer) -> Result<f64, Box<dyn std::error::Error>> {
    let one = rest(peer.port)?;
    let before = peer.resident_mb();
    let mut others = Vec::new();
    for _ in 0..RESTING {
        others.push(rest(peer.port)?);
    }
    pause(Duration::from_secs(1));
    let grown = (peer.resident_mb() - before) * 1e3 / f64::from(RESTING);
    drop((one, others));
    Ok(grown)
}

/// A connection of openssl that has asked once and rests.
fn rest(port: u16) -> Result<(Process, ChildStdin), Box<dyn std::error::Error>> {
    let mut openssl = Process::command("openssl");
    openssl.args(["s_client", "-quiet", "-servername", "t.example", "-connect", &format!("127.0.0.1:{port}")]);
    let mut client = Process::start(openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let mut input = client.child().stdin.take().ok_or("no input")?;
    input.write_all(b"GET /hello HTTP/1.1\r\nHost: t.example\r\n\r\n")?;
    let mut output = client.child().stdout.take().ok_or("no output")?;
    let mut got = Vec::new();
    while !got.ends_with(b"hello\n") {
        let mut buffer = [0; 1024];
        let bytes = output.read(&mut buffer)?;
        if bytes == 0 {
            return Err(format!("port {port}: {}", String::from_utf8_lossy(&got)).into());
        }
        got.extend_from_slice(&buffer[..bytes]);
    }
    Ok((client, input))
}

/// How long a client waits for the first good answer once the upstream of its region has failed.
fn after_a_failure() -> Outcome {
    for (how, words) in [(Failure::Silent, "silent: its queue is full"), (Failure::Refuses, "gone: it refuses")] {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let [bad, good, ours, unused, nginx, haproxy, team] = free_ports()?;
        let _good = start_nginx(at, "good", &answering(good))?;
        let _bad = Hole::at(bad, how)?;
        let _nginx = start_nginx(
            at,
            "peer",
            &format!(
                "access_log {}/peer.access; upstream u {{ server 127.0.0.1:{bad}; server 127.0.0.1:{good} backup; }}\n\
                 server {{ listen 127.0.0.1:{nginx}; location / {{ proxy_pass http://u; proxy_connect_timeout 1s; }} }}",
                at.display()
            ),
        )?;
        let _haproxy = start_haproxy_with(
            at,
            &format!(
                "timeout connect 1s\n retries 1\n option redispatch 1\n frontend f\n bind 127.0.0.1:{haproxy}\n default_backend b\n\
                 backend b\n server s 127.0.0.1:{bad}\n server t 127.0.0.1:{good}\n"
            ),
        )?;
        let upstreams = format!(
            "[[region]]\nname = \"a\"\nprovider = \"a\"\n[[region]]\nname = \"b\"\nprovider = \"b\"\n[[site]]\ndomain = \"t.example\"\n\
             check_every = \"1 h\"\nconnect_within = \"1 s\"\n\
             upstream = [{{ url = \"http://127.0.0.1:{bad}\", region = \"a\" }}, {{ url = \"http://127.0.0.1:{good}\", region = \"b\" }}]\n"
        );
        let up = start_garant_with(at, ours, unused, team, &upstreams)?;
        for port in [good, ours, nginx, haproxy] {
            wait_for(port)?;
        }
        for (name, port) in [("nginx", nginx), ("HAProxy", haproxy), ("garant gate", ours)] {
            let wanted = if name == "garant gate" { "≤ 1 s; at once" } else { "–" };
            row(
                &format!("{name}: first good answer, the upstream is {words}"),
                &format!("{:.0} ms", first(port)? * 1e3),
                wanted,
            );
        }
        drop(up);
    }
    Ok(())
}

/// How an upstream fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    Silent,
    Refuses,
}

/// A port behind which nobody answers.
struct Hole {
    _listener: Option<TcpListener>,
    _waiting: Vec<std::net::TcpStream>,
}

impl Hole {
    #[expect(clippy::disallowed_methods, reason = "a benchmark plays an upstream that has failed")]
    fn at(port: u16, how: Failure) -> std::io::Result<Self> {
        if how == Failure::Refuses {
            return Ok(Self { _listener: None, _waiting: Vec::new() });
        }
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = TcpListener::bind(address)?;
        // listen(2) again makes its queue as short as there is.
        rustix::net::listen(&listener, 0)?;
        let mut waiting = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
        }
        Ok(Self { _listener: Some(listener), _waiting: waiting })
    }
}

/// Seconds until a request is answered well.
fn first(port: u16) -> Result<f64, Box<dyn std::error::Error>> {
    let began = now();
    loop {
        let mut stream = connect(port)?;
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: t.example\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if text.starts_with("HTTP/1.1 200") {
            return Ok(began.elapsed().as_secs_f64());
        }
        if began.elapsed() > Duration::from_secs(30) {
            return Err(format!("port {port} never answers well: {text}").into());
        }
    }
}

/// How long reloads of many sites take, each until a request of a new one is answered.
pub(crate) fn reload() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    make_certificate(at)?;
    // As most certificates are: one that was written just before is read again at each reload.
    pause(Duration::from_secs(3));
    let [origin, ours, ours_tls, nginx, team] = free_ports()?;
    let _origin = start_nginx(at, "origin", &answering(origin))?;
    let sites = |more: usize| {
        (0..SITES + more).map(|number| site(at, &format!("s{number}.example"), origin)).collect::<String>()
    };
    let servers = |more: usize| {
        let server = |number| {
            format!(
                "server {{ listen 127.0.0.1:{nginx}; server_name s{number}.example; location / {{ proxy_pass http://127.0.0.1:{origin}; }} }}\n"
            )
        };
        let servers: String = (0..SITES + more).map(server).collect();
        format!("access_log off; server_names_hash_max_size 8192; server_names_hash_bucket_size 128;\n{servers}")
    };
    let peer = start_nginx(at, "peer", &servers(0))?;
    let up = start_garant_with(at, ours, ours_tls, team, &sites(0))?;
    for port in [origin, ours, nginx] {
        wait_for(port)?;
    }
    until_served(nginx, 0)?;
    until_served(ours, 0)?;
    let (mut theirs, mut ours_took) = (Vec::new(), Vec::new());
    for more in 1..=RELOADS {
        super::write_nginx(at, "peer", &servers(more))?;
        theirs.push(until_new(peer.id(), nginx, SITES + more - 1)?);
        super::write_policy(at, ours, ours_tls, team, &sites(more))?;
        ours_took.push(until_new(up.0.id(), ours, SITES + more - 1)?);
        pause(Duration::from_secs(1));
    }
    let what = format!("nginx: a reload of {SITES} sites, until a new one is served");
    row(&what, &spread(theirs), "–");
    row("garant: the same, from the policy on", &spread(ours_took), "≤ 100 ms");
    Ok(())
}

/// Tells a process to read its settings again, and waits for a site that is new in them; in ms.
fn until_new(process: u32, port: u16, number: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let began = now();
    Process::command("kill").args(["-HUP", &process.to_string()]).status()?;
    until_served(port, number)?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// The median of some times, the least and the most.
fn spread(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    format!("{:.0} ms ({:.0} to {:.0})", at(times.len() / 2), at(0), at(times.len().saturating_sub(1)))
}

fn until_served(port: u16, number: usize) -> Outcome {
    let began = now();
    while began.elapsed() < Duration::from_mins(1) {
        let mut stream = connect(port)?;
        let request = format!("GET /hello HTTP/1.1\r\nHost: s{number}.example\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        if stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut text)).is_ok()
            && text.starts_with("HTTP/1.1 200")
        {
            return Ok(());
        }
        pause(Duration::from_millis(2));
    }
    Err(format!("s{number}.example is not served at port {port}").into())
}
