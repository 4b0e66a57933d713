//! Real programs for the tests: starting, asking and stopping them.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

/// Longest wait before a test fails. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The binary under test: the one named in `GARANT_BINARY`, else built once from this very tree.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(built) = std::env::var_os("GARANT_BINARY") {
            return built.into();
        }
        let here = std::env::current_exe().expect("a test knows its own path");
        // target/debug/deps/it-… → target/debug
        let profile = here.parent().and_then(Path::parent).expect("target directory").to_owned();
        let mut cargo = command(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "garant"]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "garant does not build");
        profile.join("garant")
    })
}

#[expect(clippy::disallowed_methods, reason = "tests start real programs")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| drop(thread::spawn(end_what_hangs)));
    let mut command = Command::new(program);
    command.env_remove("GARANT_POLICY").env_remove("GARANT_DATA").env("NO_COLOR", "1");
    command
}

/// Kills what a test has started and still waits for after `GARANT_TEST_LIMIT` seconds, 15 minutes unless told (campaigns take
/// longer), with all that this has started: the test fails where it waits, and says what it saw, and the run goes on.
fn end_what_hangs() -> ! {
    let limit = number("GARANT_TEST_LIMIT", 900);
    loop {
        pause(5.0);
        let running = running();
        let (own, old) = (std::process::id(), |process: &&Running| process.seconds > limit);
        let mut hang: Vec<_> = running.iter().filter(|process| process.parent == own).filter(old).collect();
        // What comes behind is looked at in turn: children of children.
        let mut next = 0;
        while let Some(parent) = hang.get(next).map(|process| process.id) {
            hang.extend(running.iter().filter(|process| process.parent == parent));
            next += 1;
        }
        for Running { id, line, seconds, .. } in hang {
            warn(&format!("killed after {seconds} s, since a test would wait for it for ever: {id} {line}"));
            #[expect(clippy::disallowed_methods, reason = "tests start real programs")]
            drop(Command::new("kill").args(["-9", &id.to_string()]).status());
        }
    }
}

/// A process of this machine.
struct Running {
    id: u32,
    parent: u32,
    /// Age, in seconds.
    seconds: u64,
    /// Command line.
    line: String,
}

/// All of them, by `/proc` (proc(5)).
fn running() -> Vec<Running> {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: u64 = uptime.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or_default();
    let of = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in brackets may hold brackets; the parent comes after the state, and the start is the 22nd field, in 1/100 s.
        let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let started: u64 = fields.get(19)?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let seconds = uptime.saturating_sub(started / 100);
        Some(Running { id, parent: fields.get(1)?.parse().ok()?, seconds, line })
    };
    std::fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| of(entry.ok()?)).collect()
}

/// Prints a line whether the test passes or not: what `eprintln` prints is captured, also of a thread that a test has started.
fn warn(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[expect(clippy::disallowed_methods, reason = "tests wait in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Puts a program in its place: a copy of the file `from` that can be run. Another process copies it: while this one wrote, a child of
/// another test could hold the file as well, and a file that somebody writes to can't be run (`ETXTBSY`, execve(2)).
pub(crate) fn put_program(from: &Path, at: &Path) {
    let put = command("install").args(["-m", "755"]).arg(from).arg(at).output().expect("install runs");
    assert!(put.status.success(), "{}", transcript(&put));
}

/// Puts a program of the shell in its place, as [`put_program`] does.
pub(crate) fn put_script(text: &str, at: &Path) {
    let source = at.with_extension("source");
    std::fs::write(&source, text).expect("written");
    put_program(&source, at);
}

/// Wall clock in µs, for comparing what was published with what was done.
#[expect(clippy::disallowed_methods, reason = "the truth that a test compares with")]
pub(crate) fn wall_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 292277")
}

/// Runs `garant` with these arguments to its end.
pub(crate) fn garant<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    command(binary()).args(arguments).output().expect("garant starts")
}

/// Exit status and output of a program, for the message of a failed assertion.
pub(crate) fn transcript(output: &Output) -> String {
    format!(
        "exit {:?}\n--- stdout\n{}--- stderr\n{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Calls `ask` again until it returns something, within [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, ask)
}

/// The same with another limit.
pub(crate) fn eventually_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(now() < end, "waited {patience:?} in vain for: {what}");
        #[expect(clippy::disallowed_methods, reason = "tests wait in real time")]
        thread::sleep(Duration::from_millis(100));
    }
}

#[expect(clippy::disallowed_methods, reason = "tests wait in real time")]
pub(crate) fn pause(seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds));
}

/// A port that is free, that no other caller is given, and that no connection is: those are given ports from 32768 on.
#[expect(clippy::disallowed_methods, reason = "tests need free ports")]
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (0..COUNT)
        .find_map(|_| {
            // Another process of tests begins elsewhere.
            let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
            let port = u16::try_from(FIRST + number % COUNT).ok()?;
            TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
        })
        .expect("a free port")
}

/// A number from the environment, or `otherwise`.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Prints a line of a test: shown when the test fails, and with `--nocapture`.
#[expect(clippy::print_stdout, reason = "what the harness of the tests captures")]
pub(crate) fn report(text: &str) {
    println!("{text}");
}

/// The Python that has what tests/verify-python/requirements.txt names. `scripts/test` names one in the environment, and
/// then it must work; on other machines the tests that need it are skipped, with a message.
pub(crate) fn python() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("GARANT_TEST_PYTHON") {
        let given = PathBuf::from(given);
        let works = command(&given)
            .args(["-c", "import aics_tlog, aics_witness, icalendar, prometheus_client, tzdata"])
            .output();
        let works =
            works.unwrap_or_else(|error| panic!("GARANT_TEST_PYTHON={} does not start: {error}", given.display()));
        assert!(works.status.success(), "GARANT_TEST_PYTHON={}: {}", given.display(), transcript(&works));
        return Some(given);
    }
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/verify-python/bin/python");
    if made.exists() {
        return Some(made);
    }
    report("no Python 3.12 with the packages of tests/verify-python/requirements.txt: scripts/test makes one");
    None
}

/// Runs a Python script of tests/ with these arguments.
pub(crate) fn python_script<S: AsRef<OsStr>>(python: &Path, name: &str, arguments: &[S]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify-python").join(name);
    command(python).arg(script).args(arguments).output().expect("Python starts")
}

/// A program that listens on a port until it is dropped.
pub(crate) struct Service(Child);

impl Service {
    /// Starts the program, and waits until it listens.
    pub(crate) fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdout(Stdio::null()).spawn().expect("it starts; scripts/test installs what is needed");
        let mut service = Self(child);
        eventually(&format!("{command:?} to listen"), || {
            let ended = service.0.try_wait().expect("it can be waited for");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            #[expect(clippy::disallowed_methods, reason = "a test asks over the network")]
            TcpStream::connect(address).ok()
        });
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// One HTTP/1.1 exchange, without any library of ours.
pub(crate) fn http(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<(u16, String, Vec<u8>)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = host.parse().ok()?;
    #[expect(clippy::disallowed_methods, reason = "a test asks over the network")]
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").ok()?;
    }
    write!(head, "Content-Length: {}\r\n\r\n", body.len()).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut body = answer[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = dechunk(&body)?;
    }
    Some((status, head, body))
}

fn dechunk(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = raw.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend(raw.get(end + 2..end + 2 + size)?);
        raw = raw.get(end + 2 + size + 2..)?;
    }
}

/// The body of a GET that answers 200; `None` for any other answer.
pub(crate) fn get(url: &str) -> Option<Vec<u8>> {
    http("GET", url, &[], b"").filter(|(status, ..)| *status == 200).map(|(_, _, body)| body)
}

/// A running `garant up` and its folder. Killed when dropped.
pub(crate) struct Up {
    pub(crate) folder: TempDir,
    child: Child,
    /// Base URL of the team's listener, with the final `/`.
    pub(crate) team: String,
    /// The ready line.
    pub(crate) ready: Value,
}

/// A fresh folder with this policy in it.
pub(crate) fn folder_with(policy: &str) -> TempDir {
    let folder = tempfile::Builder::new().prefix("garant-it-").tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("garant.toml"), policy).expect("the policy is written");
    folder
}

fn up_command(folder: &Path) -> Command {
    let mut up = command(binary());
    up.current_dir(folder).args(["up", "--json", "--policy", "garant.toml", "--data", "data"]);
    up
}

/// Runs `garant up` in a folder where it must refuse to start.
pub(crate) fn up_refused(folder: &Path) -> Output {
    let mut child = up_command(folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("garant starts");
    let end = now() + PATIENCE;
    while child.try_wait().expect("the child can be waited for").is_none() {
        if now() > end {
            child.kill().expect("the child can be killed");
            panic!(
                "garant up was expected to refuse, and runs: {}",
                transcript(&child.wait_with_output().expect("output"))
            );
        }
        #[expect(clippy::disallowed_methods, reason = "tests wait in real time")]
        thread::sleep(Duration::from_millis(50));
    }
    child.wait_with_output().expect("output")
}

/// Starts `garant up` and kills it that long after its start, wherever it is by then, or that long after its ready line when
/// `at_work`. Returns the last checkpoint that it published.
pub(crate) fn killed_after(folder: &Path, life: Duration, at_work: bool) -> Option<Vec<u8>> {
    let mut child = up_command(folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("garant starts");
    let mut published = None;
    if at_work {
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("readable");
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line but `{line}`"));
        let log = format!("{}log/checkpoint", ready["team"].as_str().expect("the team's URL"));
        let end = now() + life;
        while let Some(left) = end.checked_duration_since(now()) {
            pause(left.as_secs_f64().min(0.02));
            published = get(&log).or(published);
        }
    } else {
        pause(life.as_secs_f64());
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    published
}

/// Exports the log of `data` to the folder `to`, and returns its key.
pub(crate) fn export(data: &Path, to: &Path) -> String {
    let arguments = ["log".as_ref(), "export".as_ref(), "--data".as_ref(), data.as_os_str(), to.as_os_str()];
    let done = garant(&arguments);
    assert!(done.status.success(), "{}", transcript(&done));
    std::fs::read_to_string(to.join("vkey")).expect("vkey").trim().to_owned()
}

/// The envelopes that an export discloses, in order.
pub(crate) fn disclosed(export: &Path) -> Vec<Value> {
    disclosed_places(export).into_iter().map(|(_, envelope)| envelope).collect()
}

/// The same, each with its place in the log.
pub(crate) fn disclosed_places(export: &Path) -> Vec<(u64, Value)> {
    let mut lines: Vec<(u64, Value)> = Vec::new();
    let mut open = vec![export.join("payload")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        for line in std::fs::read_to_string(&path).expect("a bundle").lines() {
            let mut words = line.splitn(3, ' ');
            let place = words.next().and_then(|word| word.parse().ok()).expect("a place");
            let envelope = serde_json::from_str(words.nth(1).expect("a payload")).expect("an envelope");
            lines.push((place, envelope));
        }
    }
    lines.sort_by_key(|(place, _)| *place);
    // An export that was brought up to date may still have an earlier partial bundle.
    lines.dedup_by_key(|(place, _)| *place);
    lines
}

/// The library libfaketime, which shows a process another wall clock.
pub(crate) fn faketime() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").expect("/usr/lib").filter_map(Result::ok);
    let found = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("libfaketime is there; scripts/test installs it")
}

impl Up {
    /// Starts `garant up` on this policy and waits for its ready line.
    pub(crate) fn start(policy: &str) -> Self {
        Self::start_in(folder_with(policy))
    }

    /// Starts `garant up` in an existing folder and waits for its ready line.
    pub(crate) fn start_in(folder: TempDir) -> Self {
        let command = up_command(folder.path());
        Self::start_by(command, folder)
    }

    /// The same, with these variables in its environment.
    pub(crate) fn start_with(folder: TempDir, environment: &[(&str, &OsStr)]) -> Self {
        let mut command = up_command(folder.path());
        command.envs(environment.iter().copied());
        Self::start_by(command, folder)
    }

    /// Starts `garant up` with a hard limit of file descriptors.
    pub(crate) fn start_limited(folder: TempDir, descriptors: u32) -> Self {
        let unlimited = up_command(folder.path());
        let mut limited = command("prlimit");
        limited.arg(format!("--nofile={descriptors}:{descriptors}")).arg(unlimited.get_program());
        limited.args(unlimited.get_args()).current_dir(folder.path());
        Self::start_by(limited, folder)
    }

    /// Starts `garant up` inside a network namespace.
    pub(crate) fn start_inside(folder: TempDir, namespace: &str) -> Self {
        let outside = up_command(folder.path());
        let mut inside = command("ip");
        inside.args(["netns", "exec", namespace]).arg(outside.get_program());
        inside.args(outside.get_args()).current_dir(folder.path());
        Self::start_by(inside, folder)
    }

    /// Starts `garant up` as this user, without any other group.
    pub(crate) fn start_as(folder: TempDir, user: &str) -> Self {
        let ours = up_command(folder.path());
        let mut theirs = command("setpriv");
        theirs.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]).arg(ours.get_program());
        theirs.args(ours.get_args()).current_dir(folder.path());
        Self::start_by(theirs, folder)
    }

    /// Starts `garant up` with a standard error that refuses every write, as on a full disk.
    pub(crate) fn start_unheard(policy: &str) -> Self {
        let folder = folder_with(policy);
        std::os::unix::fs::symlink("/dev/full", folder.path().join("stderr.log")).expect("a link");
        Self::start_in(folder)
    }

    fn start_by(mut command: Command, folder: TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("stderr.log")).expect("a log file");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("garant starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("stdout can be read");
        let errors = || std::fs::read_to_string(folder.path().join("stderr.log")).unwrap_or_default();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line but `{line}`:\n{}", errors()));
        let team = ready["team"].as_str().expect("the ready line has the team's URL").to_owned();
        Self { folder, child, team, ready }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.team)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = command("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "the process takes the signal {name}");
    }

    /// `/api/status.json`.
    pub(crate) fn status(&self) -> Value {
        eventually("the status", || {
            get(&self.url("api/status.json")).and_then(|body| serde_json::from_slice(&body).ok())
        })
    }

    /// The latest verdict on each objective of the promise, as published.
    pub(crate) fn verdicts(&self, promise: &str) -> Vec<Value> {
        let body = get(&self.url("log/verdicts.json")).unwrap_or_default();
        let all: Vec<Value> = serde_json::from_slice(&body).unwrap_or_default();
        all.into_iter().map(|v| v["verdict"].clone()).filter(|v| v["promise"] == promise).collect()
    }

    /// Kills the process as a crash would, and keeps its folder.
    pub(crate) fn crash(mut self) -> TempDir {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
        self.into_folder()
    }

    /// Sends the signal to stop, waits for the end, and keeps the folder.
    pub(crate) fn stop(mut self) -> TempDir {
        self.signal("TERM");
        let status = eventually("the end of garant up", || self.child.try_wait().expect("it can be waited for"));
        assert!(status.success(), "a clean stop ends with {status}: {}", self.errors());
        self.into_folder()
    }

    /// Waits until the process ends by itself. Returns its exit code, its standard error, and its folder.
    pub(crate) fn ended(mut self) -> (Option<i32>, String, TempDir) {
        let status = eventually("garant up to end", || self.child.try_wait().expect("it can be waited for"));
        (status.code(), self.errors(), self.into_folder())
    }

    /// The exit status, once the process has ended.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it can be waited for")
    }

    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    fn into_folder(mut self) -> TempDir {
        let elsewhere = TempDir::new().expect("a temporary folder");
        std::mem::replace(&mut self.folder, elsewhere)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if thread::panicking() {
            let errors = self.errors();
            let tail = errors.len().saturating_sub(4000);
            drop(writeln!(std::io::stderr(), "--- last words of garant up\n{}", errors.get(tail..).unwrap_or(&errors)));
        }
        drop(self.child.kill());
        drop(self.child.wait());
        end_agent(self.folder.path());
    }
}

/// Ends the agent and the gate of a folder that is about to go: they outlive `garant up`, and would stay for ever.
fn end_agent(folder: &Path) {
    let states = ["data.agent", "data.gate"].map(|name| folder.join(name));
    let is_one = |argument: &[u8]| states.iter().any(|state| state.as_os_str().as_encoded_bytes() == argument);
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if arguments.split(|byte| *byte == 0).any(is_one) {
            drop(command("kill").arg("-9").arg(process.file_name()).output());
        }
    }
}

/// A real nginx on loopback, plain on `http` and with TLS on `https`.
pub(crate) struct Nginx {
    folder: TempDir,
    child: Option<Child>,
    slow: bool,
    pub(crate) http: u16,
    pub(crate) https: u16,
}

/// Size of a file long enough that a slow server pauses within it.
const SLOW_BYTES: usize = 6000;

/// Which certificate nginx shows.
#[derive(Clone, Copy)]
pub(crate) enum Certificate {
    Good,
    Expired,
}

impl Nginx {
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("garant-nginx-").tempdir().expect("a temporary folder");
        let mut nginx = Self { folder, child: None, slow: false, http: free_port(), https: free_port() };
        nginx.certificate(Certificate::Good);
        nginx.run();
        nginx
    }

    /// The certificate of the authority that signed nginx's.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn certificate(&mut self, which: Certificate) {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let at = |name: &str| self.folder.path().join(name);
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if !at("ca.pem").exists() {
            std::fs::write(at("ca.pem"), authority.self_signed(&authority_key).expect("a certificate").pem())
                .expect("written");
            std::fs::write(at("ca.key"), authority_key.serialize_pem()).expect("written");
        }
        let authority_key = KeyPair::from_pem(&std::fs::read_to_string(at("ca.key")).expect("read")).expect("a key");
        let issuer = Issuer::new(authority, authority_key);
        let mut leaf =
            CertificateParams::new(["localhost", "trust.shop.example"].map(str::to_owned)).expect("parameters");
        leaf.subject_alt_names.push(rcgen::SanType::IpAddress([127, 0, 0, 1].into()));
        // Not the name that the library gives, which the authority has too: a subject that is its own issuer is self-signed.
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.distinguished_name.push(rcgen::DnType::CommonName, "shop.example");
        if matches!(which, Certificate::Expired) {
            leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
            leaf.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let signed = leaf.signed_by(&key, &issuer).expect("a certificate");
        std::fs::write(at("leaf.pem"), signed.pem()).expect("written");
        std::fs::write(at("leaf.key"), key.serialize_pem()).expect("written");
        self.reload();
    }

    /// Makes the plain server slow or fast again: slow, its head comes at once and then 4 KiB in 0.4 s.
    pub(crate) fn slow(&mut self, slow: bool) {
        self.slow = slow;
        self.configure();
        self.reload();
    }

    /// Has the server, if it runs, read its configuration and certificate again.
    fn reload(&self) {
        if let Some(child) = &self.child {
            let sent = command("kill").args(["-HUP", &child.id().to_string()]).status().expect("kill runs");
            assert!(sent.success());
        }
    }

    fn configure(&self) {
        let at = self.folder.path();
        let (http, https, dir) = (self.http, self.https, at.display());
        let mut slow = b"all is well\n".to_vec();
        slow.resize(SLOW_BYTES, b'\n');
        std::fs::write(at.join("slow.txt"), slow).expect("written");
        let plain = if self.slow {
            format!("root {dir}; rewrite ^ /slow.txt break; limit_rate 10k; sendfile on; sendfile_max_chunk 4k;")
        } else {
            "return 200 'all is well\n';".to_owned()
        };
        let configuration = format!(
            "daemon off; master_process on; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;\n\
             uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             server {{ listen 127.0.0.1:{http}; location / {{ {plain} }} }}\n\
             server {{ listen 127.0.0.1:{https} ssl; ssl_certificate {dir}/leaf.pem; ssl_certificate_key {dir}/leaf.key;\n\
             location / {{ return 200 'all is well\\n'; }} }} }}\n"
        );
        std::fs::write(at.join("nginx.conf"), configuration).expect("written");
    }

    /// Starts the server, again if it was stopped.
    pub(crate) fn run(&mut self) {
        self.configure();
        let (at, http) = (self.folder.path(), self.http);
        let child = command("nginx")
            .args([OsStr::new("-c"), at.join("nginx.conf").as_os_str(), OsStr::new("-p"), at.as_os_str()])
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts; scripts/test installs it");
        self.child = Some(child);
        eventually("nginx to answer", || get(&format!("http://127.0.0.1:{http}/")));
    }

    /// Kills the server at once, as a crash of the machine would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The workers are children of the master: all are killed, the master first so that it starts no others.
            let workers = command("pgrep").args(["-P", &child.id().to_string()]).output().expect("pgrep runs").stdout;
            child.kill().expect("nginx can be killed");
            child.wait().expect("nginx ends");
            for worker in String::from_utf8_lossy(&workers).lines() {
                drop(command("kill").args(["-9", worker]).status());
            }
        }
    }

    /// Stops or continues the workers: while stopped, connections are accepted and nothing is answered.
    pub(crate) fn freeze(&self, frozen: bool) {
        let master = self.child.as_ref().expect("nginx runs").id().to_string();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        assert!(command("pkill").args([signal, "-P", &master]).status().expect("pkill runs").success());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.child.is_some() {
            drop(
                command("pkill").args(["-CONT", "-P", &self.child.as_ref().map_or(0, Child::id).to_string()]).status(),
            );
        }
        self.kill();
    }
}
