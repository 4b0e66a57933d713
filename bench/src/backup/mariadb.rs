//! MariaDB, beside `mariadb-backup | zstd | openssl` for bases, and `mariadb-binlog --raw` for the log.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::agent::Agent;
use super::{AGENT_MB, Measured, OURS, ROUNDS, settle, shell, size_of};
use crate::process::{Process, cpu_s, now, pause};
use crate::{Outcome, row};

const ROWS: u32 = 700_000;
/// Rows of a table of 4 GB.
const LARGE_ROWS: u32 = 13_000_000;
/// How often it is looked how long a commit waits.
const LAGS: usize = 5;
/// Rows that are written one by one while both receive the log.
const COMMITS: u32 = 20_000;

type Failed = Box<dyn std::error::Error>;

struct Server {
    process: Process,
    socket: PathBuf,
}

impl Server {
    fn start(data: &Path) -> Result<Self, Failed> {
        let socket = data.join("socket");
        let process = Process::start(
            Process::command("mariadbd")
                .args(["--no-defaults", "--user=mysql", "--skip-networking", "--innodb-buffer-pool-size=256M"])
                .args([
                    "--log-bin=binlog",
                    "--binlog-format=ROW",
                    "--sync-binlog=1",
                    "--gtid-strict-mode=1",
                    "--server-id=7",
                ])
                .arg(format!("--datadir={}", data.display()))
                .arg(format!("--socket={}", socket.display()))
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        let server = Self { process, socket };
        for _ in 0..300 {
            if server.sql("SELECT 1").is_ok() {
                return Ok(server);
            }
            pause(Duration::from_millis(100));
        }
        Err("the server does not start".into())
    }

    fn client(&self) -> Command {
        let mut client = Process::command("mariadb");
        client.args(["--no-defaults", "--user=root", "-N", "-B"]).arg(format!("--socket={}", self.socket.display()));
        client
    }

    fn sql(&self, sql: &str) -> Result<String, Failed> {
        let done = self.client().args(["-e", sql]).output()?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
        }
        Ok(String::from_utf8(done.stdout)?.trim().to_owned())
    }
}

/// A server with one table of so many rows, and its bytes.
fn begun(at: &Path, rows: u32) -> Result<(Server, u64), Failed> {
    super::agent::open_to_all(at)?;
    let data = at.join("server");
    shell(&format!(
        "mariadb-install-db --no-defaults --user=mysql --skip-test-db --auth-root-authentication-method=socket --datadir={}",
        data.display()
    ))?;
    let server = Server::start(&data)?;
    server.sql(
        "CREATE USER IF NOT EXISTS mysql@localhost IDENTIFIED VIA unix_socket; GRANT ALL ON *.* TO mysql@localhost",
    )?;
    server.sql(&format!(
        "CREATE DATABASE shop; CREATE TABLE shop.orders (n INT PRIMARY KEY, word CHAR(32), text VARCHAR(255)) ENGINE=InnoDB; \
         INSERT INTO shop.orders SELECT seq, MD5(seq), CONCAT(MD5(seq * 7), REPEAT(' paid by card', 14)) FROM shop.seq_1_to_{rows}"
    ))?;
    let bytes = size_of(&data.join("shop"))?;
    settle()?;
    row("a table of MariaDB", &format!("{} MB", bytes / 1_000_000), "–");
    Ok((server, bytes))
}

/// The agent, once it has a base.
fn agent(at: &Path, socket: &str) -> Result<Agent, Failed> {
    let agent = Agent::start(at, "mysql", &format!("mariadb = [{{ name = \"it\", socket = \"{socket}\" }}]"))?;
    agent.first(now())?;
    Ok(agent)
}

/// A restore of a large table: what takes the same time for every size counts for little there.
pub(crate) fn large() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let (server, bytes) = begun(at, LARGE_ROWS)?;
    let socket = server.socket.display().to_string();
    let agent = agent(at, &socket)?;
    let (mut base, mut restore) = (Measured::default(), Measured::default());
    round(&agent, at, &socket, 0, &mut base, &mut restore)?;
    base.rows("full base", bytes, "–");
    restore.rows("restore of it; ours with the log, and proved", bytes, "≥ 0.7 × a copy");
    Ok(())
}

pub(crate) fn run() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let (server, bytes) = begun(at, ROWS)?;
    let socket = server.socket.display().to_string();
    let agent = agent(at, &socket)?;
    let (mut base, mut restore, mut most_mb) = (Measured::default(), Measured::default(), 0.0);
    for number in 0..ROUNDS {
        most_mb = f64::max(most_mb, round(&agent, at, &socket, number, &mut base, &mut restore)?);
    }
    base.rows("full base", bytes, "–");
    row("agent, the most resident, without mariadb-backup", &format!("{most_mb:.0} MB"), AGENT_MB);
    restore.rows("restore of it; ours with the log, and proved", bytes, "≥ 0.7 × a copy");

    let mut lags = Vec::new();
    for number in 0..LAGS {
        server.sql(&format!("INSERT INTO shop.orders VALUES (-{}, '', '')", number + 1))?;
        lags.push(agent.shipped()?);
    }
    lags.sort_by(f64::total_cmp);
    let (median, most) = (lags.get(LAGS / 2).copied().unwrap_or(0.0), lags.last().copied().unwrap_or(0.0));
    row("from a commit to its copy", &format!("{median:.1} s (median of {LAGS}), {most:.1} s at most"), "≤ 10 s");
    log(&server, &agent, at)?;
    drop(agent);
    incremental(&server, at)
}

/// A base and a restore of it, ours and the peer's; the memory of the agent.
fn round(
    agent: &Agent,
    at: &Path,
    socket: &str,
    number: usize,
    base: &mut Measured,
    restore: &mut Measured,
) -> Result<f64, Failed> {
    let (shown, seal) = (at.display(), "openssl enc -aes-256-ctr -pbkdf2 -pass pass:x");
    settle()?;
    let theirs = shell(&format!(
        "mariadb-backup --no-defaults --backup --user=root --socket={socket} --stream=mbstream | zstd -q -3 | {seal} > {shown}/base; sync {shown}/base"
    ))?;
    base.add("mariadb-backup, zstd -3, openssl", theirs);
    settle()?;
    let ours = agent.take()?;
    let mb = ours.peak_mb;
    base.add(OURS, ours);

    settle()?;
    let theirs = shell(&format!(
        "mkdir {shown}/theirs; {seal} -d < {shown}/base | zstd -q -d | mbstream -x -C {shown}/theirs; \
         mariadb-backup --no-defaults --prepare --target-dir={shown}/theirs; sync -f {shown}/theirs"
    ))?;
    restore.add("mbstream, mariadb-backup --prepare, synced", theirs);
    settle()?;
    let copied = shell(&format!("cp -a {shown}/theirs {shown}/copied; sync -f {shown}/copied"))?;
    restore.add("cp -a, synced", copied);
    shell(&format!("rm -r {shown}/theirs {shown}/copied {shown}/base"))?;
    settle()?;
    let into = format!("ours-{number}");
    restore.add(OURS, agent.restore(&into)?);
    shell(&format!("rm -r {shown}/{into}"))?;
    Ok(mb)
}

/// What is shipped of an incremental base, after a hundredth of the rows has changed.
fn incremental(server: &Server, at: &Path) -> Outcome {
    let folder = at.join("incremental");
    std::fs::create_dir(&folder)?;
    super::agent::open_to_all(&folder)?;
    let (socket, shown) = (server.socket.display(), folder.display());
    let backup = format!("mariadb = [{{ name = \"it\", socket = \"{socket}\", incremental_every = \"1 min\" }}]");
    let agent = Agent::start(&folder, "mysql", &backup)?;
    agent.first(now())?;
    let peer = format!("mariadb-backup --no-defaults --backup --user=root --socket={socket} --stream=mbstream");
    shell(&format!("{peer} --extra-lsndir={shown}/lsn > {shown}/full"))?;
    server.sql("UPDATE shop.orders SET word = MD5(n + 1) WHERE n % 100 = 0 AND n BETWEEN 1 AND 100000")?;
    shell(&format!(
        "{peer} --incremental-basedir={shown}/lsn > {shown}/increment; zstd -q -3 {shown}/increment -o {shown}/increment.zst"
    ))?;
    let (read, stored) = agent.until("an incremental base", || agent.newest("incremental"))?;
    let size = |name: &str| std::fs::metadata(folder.join(name)).map(|found| found.len() as f64 / 1e6);
    let (whole, small) = (size("increment")?, size("increment.zst")?);
    let what = "shipped of an incremental base, a page in seven changed";
    row(
        &format!("{what}: mariadb-backup --incremental-basedir"),
        &format!("{whole:.1} MB, {small:.1} MB by zstd -3"),
        "the peer",
    );
    let stored = stored as f64 / 1e6;
    row(
        &format!("{what}: garant"),
        &format!(
            "{:.1} MB read, {stored:.1} MB shipped: {:.2} × as it is, {:.2} × compressed",
            read as f64 / 1e6,
            stored / whole,
            stored / small
        ),
        "≤ 1.2 ×",
    );
    Ok(())
}

/// The processor time of receiving the same log.
fn log(server: &Server, agent: &Agent, at: &Path) -> Outcome {
    let stream = at.join("stream");
    std::fs::create_dir(&stream)?;
    let file = server.sql("SHOW MASTER STATUS")?;
    let file = file.split_whitespace().next().ok_or("no log")?;
    let peer = Process::start(
        Process::command("mariadb-binlog")
            .args(["--no-defaults", "--user=root", "--read-from-remote-server", "--raw", "--stop-never"])
            .arg(format!("--socket={}", server.socket.display()))
            .arg("--stop-never-slave-server-id=4242")
            .arg(format!("--result-file={}/", stream.display()))
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    // What was there already is not what is compared.
    pause(Duration::from_secs(5));
    let (theirs, ours) = (cpu_s(peer.id()).ok_or("the peer has ended")?, agent.cpu_s().ok_or("there is no agent")?);
    let insert = |number: u32| {
        format!("INSERT INTO shop.orders VALUES ({}, MD5({number}), REPEAT('x', 200));", 10_000_000 + number)
    };
    let inserts: Vec<String> = (0..COMMITS).map(insert).collect();
    let sql = at.join("commits.sql");
    std::fs::write(&sql, inserts.join("\n"))?;
    server.client().stdin(std::fs::File::open(&sql)?).status()?;
    // Nobody is asked meanwhile: the log is shipped every ten seconds.
    pause(Duration::from_secs(15));
    let theirs = cpu_s(peer.id()).ok_or("the peer has ended")? - theirs;
    let ours = agent.cpu_s().ok_or("there is no agent")? - ours;
    row(
        &format!("receiving {COMMITS} commits: mariadb-binlog --raw"),
        &format!("{theirs:.2} s of a processor"),
        "the peer",
    );
    row(
        "the same: the agent, which compresses, seals and ships them",
        &format!("{ours:.2} s: {:.1} ×", ours / theirs.max(0.01)),
        "≤ 1.0 ×",
    );
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(Process::command("kill").args(["-TERM", &self.process.id().to_string()]).status());
        drop(self.process.child().wait());
    }
}
