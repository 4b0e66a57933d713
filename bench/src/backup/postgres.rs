//! PostgreSQL, beside `pg_basebackup | zstd | openssl`, pgBackRest and Barman for bases, and `pg_receivewal` for the log.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::agent::Agent;
use super::{AGENT_MB, Measured, OURS, ROUNDS, settle, shell, size_of};
use crate::process::{Process, cpu_s, now, pause};
use crate::{Outcome, row};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Scale of pgbench: about 15 MB each.
const SCALE: u32 = 16;
const LARGE_SCALE: u32 = 260;
const LOAD_S: u32 = 20;
const LAGS: usize = 5;
const AS_POSTGRES: &str = "cd /; setpriv --reuid=postgres --regid=postgres --init-groups --";

type Failed = Box<dyn std::error::Error>;

/// A program of PostgreSQL, as its own user.
fn program(name: &str) -> Command {
    let mut program = Process::command("setpriv");
    program.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(Path::new(PROGRAMS).join(name));
    program.current_dir("/");
    program
}

struct Server {
    process: Process,
    folder: PathBuf,
}

impl Server {
    fn start(data: &Path, folder: &Path) -> Result<Self, Failed> {
        let process = Process::start(
            program("postgres")
                .arg("-D")
                .arg(data)
                .args(["-c", "listen_addresses=", "-c", "max_slot_wal_keep_size=2GB", "-c", "max_wal_size=4GB", "-k"])
                .arg(folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        let server = Self { process, folder: folder.to_owned() };
        for _ in 0..300 {
            if server.sql("SELECT 1").is_ok() {
                return Ok(server);
            }
            pause(Duration::from_millis(100));
        }
        Err("the server does not start".into())
    }

    fn sql(&self, sql: &str) -> Outcome {
        let done = program("psql").args(["-X", "-q", "-d", "postgres", "-c", sql, "-h"]).arg(&self.folder).output()?;
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned().into()) }
    }

    fn pgbench(&self, arguments: &[&str]) -> Outcome {
        let done = program("pgbench").arg("-h").arg(&self.folder).args(arguments).arg("postgres").output()?;
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned().into()) }
    }
}

/// A cluster with the tables of pgbench, and their bytes.
fn begun(at: &Path, scale: u32) -> Result<(Server, PathBuf, u64), Failed> {
    super::agent::open_to_all(at)?;
    let place = at.join("server");
    std::fs::create_dir(&place)?;
    shell(&format!("chown postgres: {}", place.display()))?;
    let data = place.join("data");
    let made = program("initdb").args(["-k", "-A", "peer", "-D"]).arg(&data).stdout(Stdio::null()).status()?;
    if !made.success() {
        return Err("initdb failed".into());
    }
    let server = Server::start(&data, &place)?;
    server.pgbench(&["-i", "-q", "-s", &scale.to_string()])?;
    server.sql("CHECKPOINT")?;
    let bytes = size_of(&data.join("base"))?;
    settle()?;
    row("a cluster of PostgreSQL", &format!("{} MB", bytes / 1_000_000), "–");
    Ok((server, data, bytes))
}

/// The agent, once it has a base.
fn agent(at: &Path, socket: &str) -> Result<Agent, Failed> {
    let agent = Agent::start(at, "postgres", &format!("postgres = [{{ name = \"it\", socket = \"{socket}\" }}]"))?;
    agent.first(now())?;
    Ok(agent)
}

/// A restore of a large cluster: what takes the same time for every size counts for little there.
pub(crate) fn large() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let (server, data, bytes) = begun(at, LARGE_SCALE)?;
    let socket = server.folder.display().to_string();
    let agent = agent(at, &socket)?;
    let (backrest, barman) = (Backrest::new(at, &data, &server.folder)?, Barman::new(at, &server.folder)?);
    let (mut base, mut restore) = (Measured::default(), Measured::default());
    round(&agent, (&backrest, &barman), at, &socket, 0, &mut base, &mut restore)?;
    drop(barman);
    base.rows("full base", bytes, "–");
    restore.rows("restore of it; ours with the log, a start of the server, and proved", bytes, "≥ 0.7 × a copy");
    Ok(())
}

pub(crate) fn run() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let (server, data, bytes) = begun(at, SCALE)?;
    let place = server.folder.clone();
    let socket = place.display().to_string();
    let agent = agent(at, &socket)?;
    let backrest = Backrest::new(at, &data, &place)?;
    let barman = Barman::new(at, &place)?;
    let (mut base, mut restore, mut most_mb) = (Measured::default(), Measured::default(), 0.0);
    for number in 0..ROUNDS {
        most_mb = f64::max(most_mb, round(&agent, (&backrest, &barman), at, &socket, number, &mut base, &mut restore)?);
    }
    drop(barman);
    base.rows("full base", bytes, "–");
    row("agent, the most resident", &format!("{most_mb:.0} MB"), AGENT_MB);
    restore.rows("restore of it; ours with the log, a start of the server, and proved", bytes, "≥ 0.7 × a copy");

    let mut lags = Vec::new();
    server.sql("CREATE TABLE lag (n int)")?;
    for _ in 0..LAGS {
        server.sql("INSERT INTO lag VALUES (1)")?;
        lags.push(agent.shipped()?);
    }
    lags.sort_by(f64::total_cmp);
    let (median, most) = (lags.get(LAGS / 2).copied().unwrap_or(0.0), lags.last().copied().unwrap_or(0.0));
    row("from a commit to its copy", &format!("{median:.1} s (median of {LAGS}), {most:.1} s at most"), "≤ 10 s");
    log(&server, &agent, at)
}

/// pgBackRest of Debian, with a repository of its own, compressed and encrypted as ours.
struct Backrest {
    settings: PathBuf,
}

impl Backrest {
    fn new(at: &Path, data: &Path, socket: &Path) -> Result<Self, Failed> {
        let (settings, shown) = (at.join("pgbackrest.conf"), at.display());
        let text = format!(
            "[global]\nrepo1-path={shown}/backrest\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=x\ncompress-type=zst\n\
             compress-level=3\nprocess-max=2\nstart-fast=y\narchive-check=n\nlog-level-file=off\nlog-level-console=error\n\
             lock-path={shown}/backrest-lock\nrepo1-retention-full=9\n\
             [it]\npg1-path={}\npg1-socket-path={}\npg1-user=postgres\n",
            data.display(),
            socket.display()
        );
        std::fs::write(&settings, text)?;
        shell(&format!(
            "mkdir {shown}/backrest {shown}/backrest-lock; chown postgres: {shown}/backrest {shown}/backrest-lock"
        ))?;
        let it = Self { settings };
        shell(&it.line("stanza-create --no-online"))?;
        Ok(it)
    }

    fn line(&self, command: &str) -> String {
        format!("{AS_POSTGRES} pgbackrest --config={} --stanza=it {command}", self.settings.display())
    }
}

/// Barman of Debian, which keeps bases as they are, and receives the log beside.
struct Barman {
    settings: PathBuf,
    #[expect(dead_code, reason = "it is ended when it is dropped")]
    receiving: Process,
}

impl Barman {
    fn new(at: &Path, socket: &Path) -> Result<Self, Failed> {
        let (settings, shown, socket) = (at.join("barman.conf"), at.display(), socket.display());
        let text = format!(
            "[barman]\nbarman_user = postgres\nbarman_home = {shown}/barman\nbarman_lock_directory = {shown}/barman\n\
             configuration_files_directory = {shown}/none\nlog_file = {shown}/barman/log\n\
             [it]\ndescription = \"it\"\nconninfo = host={socket} user=postgres dbname=postgres\n\
             streaming_conninfo = host={socket} user=postgres\nbackup_method = postgres\nstreaming_archiver = on\n\
             slot_name = barman\nimmediate_checkpoint = true\npath_prefix = {PROGRAMS}\n"
        );
        std::fs::write(&settings, text)?;
        shell(&format!("mkdir {shown}/barman; chown postgres: {shown}/barman"))?;
        let line = |command: &str| barman(&settings, command);
        shell(&line("receive-wal --create-slot it"))?;
        let receiving = Process::start(
            Process::command("sh")
                .args(["-c", &line("receive-wal it").replace("setpriv", "exec setpriv")])
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        // No base is taken before the first file of the log has come.
        pause(Duration::from_secs(3));
        shell(&line("switch-wal --force --archive it"))?;
        Ok(Self { settings, receiving })
    }

    fn line(&self, command: &str) -> String {
        barman(&self.settings, command)
    }
}

impl Drop for Barman {
    fn drop(&mut self) {
        // It has a program of its own, which would live on.
        drop(shell(&self.line("receive-wal --stop it")));
    }
}

fn barman(settings: &Path, command: &str) -> String {
    format!("{AS_POSTGRES} barman --config={} --quiet {command}", settings.display())
}

/// A base and a restore of it, ours and those of the peers; the memory of the agent.
fn round(
    agent: &Agent,
    (backrest, barman): (&Backrest, &Barman),
    at: &Path,
    socket: &str,
    number: usize,
    base: &mut Measured,
    restore: &mut Measured,
) -> Result<f64, Failed> {
    let (shown, seal) = (at.display(), "openssl enc -aes-256-ctr -pbkdf2 -pass pass:x");
    settle()?;
    let theirs = shell(&format!(
        "{AS_POSTGRES} {PROGRAMS}/pg_basebackup -h {socket} -D - -Ft -X none -c fast | zstd -q -3 | {seal} > {shown}/base; sync {shown}/base"
    ))?;
    base.add("pg_basebackup, zstd -3, openssl", theirs);
    settle()?;
    base.add("pgBackRest 2.45, two processes", shell(&backrest.line("--type=full backup"))?);
    settle()?;
    base.add("Barman 3.4, neither compressed nor encrypted", shell(&barman.line("backup --wait it"))?);
    settle()?;
    let ours = agent.take()?;
    let mb = ours.peak_mb;
    base.add(OURS, ours);

    settle()?;
    let theirs = shell(&format!(
        "mkdir {shown}/theirs; {seal} -d < {shown}/base | zstd -q -d | tar -x -C {shown}/theirs; sync -f {shown}/theirs"
    ))?;
    restore.add("tar, synced", theirs);
    settle()?;
    let copied = shell(&format!("cp -a {shown}/theirs {shown}/copied; sync -f {shown}/copied"))?;
    restore.add("cp -a, synced", copied);
    shell(&format!(
        "rm -r {shown}/theirs {shown}/copied {shown}/base; mkdir {shown}/theirs; chown postgres: {shown}/theirs"
    ))?;
    settle()?;
    let theirs = shell(&backrest.line(&format!("--type=none --pg1-path={shown}/theirs restore")))?;
    restore.add("pgBackRest 2.45, without a log", theirs);
    shell(&format!("rm -r {shown}/theirs; mkdir {shown}/theirs; chown postgres: {shown}/theirs"))?;
    settle()?;
    let theirs =
        shell(&format!("{}; sync -f {shown}/theirs", barman.line(&format!("recover it latest {shown}/theirs"))))?;
    restore.add("Barman 3.4, which copies, synced", theirs);
    shell(&format!("rm -r {shown}/theirs"))?;
    settle()?;
    let into = format!("ours-{number}");
    restore.add(OURS, agent.restore(&into)?);
    shell(&format!("rm -r {shown}/{into}"))?;
    Ok(mb)
}

/// The processor time of receiving the same log.
fn log(server: &Server, agent: &Agent, at: &Path) -> Outcome {
    let stream = at.join("stream");
    std::fs::create_dir(&stream)?;
    shell(&format!("chown postgres: {}", stream.display()))?;
    server.sql("SELECT pg_create_physical_replication_slot('peer')")?;
    let peer = Process::start(program("pg_receivewal").arg("-h").arg(&server.folder).arg("-D").arg(&stream).args([
        "-S",
        "peer",
        "--synchronous",
        "-s",
        "1",
    ]))?;
    pause(Duration::from_secs(3));
    let (theirs, ours) = (cpu_s(peer.id()).ok_or("the peer has ended")?, agent.cpu_s().ok_or("there is no agent")?);
    let before = wal(server)?;
    server.pgbench(&["-n", "-c", "4", "-T", &LOAD_S.to_string()])?;
    let bytes = wal(server)?.saturating_sub(before);
    // Nobody is asked meanwhile: the log is shipped every ten seconds.
    pause(Duration::from_secs(15));
    let theirs = cpu_s(peer.id()).ok_or("the peer has ended")? - theirs;
    let ours = agent.cpu_s().ok_or("there is no agent")? - ours;
    row(
        &format!("receiving {} MB of log: pg_receivewal", bytes / 1_000_000),
        &format!("{theirs:.2} s of a processor"),
        "the peer",
    );
    row(
        "the same: the agent, which compresses, seals and ships it",
        &format!("{ours:.2} s: {:.1} ×", ours / theirs.max(0.01)),
        "≤ 1.0 ×",
    );
    Ok(())
}

/// How far the log is, in bytes.
fn wal(server: &Server) -> Result<u64, Failed> {
    let asked = program("psql")
        .args(["-X", "-q", "-A", "-t", "-d", "postgres", "-c", "SELECT pg_current_wal_lsn() - '0/0'", "-h"])
        .arg(&server.folder)
        .output()?;
    Ok(String::from_utf8(asked.stdout)?.trim().parse()?)
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(Process::command("kill").args(["-QUIT", &self.process.id().to_string()]).status());
        drop(self.process.child().wait());
    }
}
