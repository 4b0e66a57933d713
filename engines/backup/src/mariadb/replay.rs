//! A server of our own on restored files: it plays the log, says how far it has come, or answers questions, and stops in good order.
//!
//! It is in the [blank place](crate::blank), for tables of other servers are in what is played too; it has no network, reads no configuration but what mariadb-backup wrote of the files, starts no replication and no events, and lets
//! in a single account that is made for it and dropped before it stops. The log is played in one session, by mariadb-binlog and the
//! client `mariadb`. Both have been seen to end well and to have done nothing: so the server writes a log of its own meanwhile, and what
//! is in that at the end must be exactly what was to be played.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use engine::program::Running;
use engine::{Context, Program, ProgramError};
use event::Span;

use super::Asking as _;
use super::base::{BaseFacts, option, write_defaults};
use super::connection::{Connection, OpenError, password_hash};
use super::events::Gtid;
use super::packets::ProtocolError;
use crate::blank::Blank;
use crate::checks::without_data;
use crate::database::{DatabaseError, Watcher};
use crate::owner::Owner;
use crate::sealed::hex;
use crate::{Connection as Settings, SecretPlace};

/// How long the server may take to start: InnoDB reads every file of tables.
const START_WITHIN: Span = Span::from_secs(600);
/// How long it may take to stop: whatever is in memory is written.
const STOP_WITHIN: Span = Span::from_secs(3600);
/// Longest path of a socket (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;
/// The number of the server, which no other has.
const NUMBER: u32 = u32::MAX - 1;
/// What messages call it.
const ASKING: &str = "the server that plays the log";

/// What a server on restored files is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// The log is played: what is in memory is of no use before it has stopped.
    Play,
    /// It is asked, and what it writes is as safe as that of any other.
    Ask,
}

/// A server on restored files.
pub(super) struct PrivateServer {
    running: Running,
    connection: Connection,
    account: String,
    /// How the client `mariadb` reaches it.
    defaults: PathBuf,
    errors: PathBuf,
    socket: PathBuf,
}

impl PrivateServer {
    /// Starts a server on the prepared files in `data`; what it writes beside goes into `work`, which is empty.
    pub(super) async fn start(
        context: &Context,
        (purpose, blank): (Purpose, &Blank),
        owner: &Owner,
        base: &BaseFacts,
        data: &Path,
        work: &Path,
    ) -> Result<Self, DatabaseError> {
        let socket = work.join("socket");
        if socket.as_os_str().len() > SOCKET_BYTES_MAX {
            let why = format!("{} is too long for the path of a socket: name a shorter folder", socket.display());
            return Err(DatabaseError::Database(why));
        }
        let (init, errors, defaults) = (work.join("init.sql"), work.join("errors.err"), work.join("client.cnf"));
        let settings = write_account(context, &init, &work.join("password"), socket.clone())?;
        write_defaults(&settings, context, &defaults).await?;
        owner.give(&init)?;
        owner.give(&defaults)?;

        let mut program = blank.server("mariadbd", owner).arg(option("defaults-file", &data.join("backup-my.cnf")));
        for (name, path) in [
            ("datadir", data),
            ("socket", &settings.socket),
            ("pid-file", &work.join("pid")),
            ("log-error", &errors),
            ("tmpdir", work),
            // Whatever is asked writes no file elsewhere, and reads none.
            ("secure-file-priv", work),
            ("init-file", &init),
        ] {
            program = program.arg(option(name, path));
        }
        program = program.args([
            "--skip-networking",
            "--skip-slave-start",
            // Nothing outside of the folder: tables with `DATA DIRECTORY` are made in it, tables of other servers are not reached.
            "--skip-symbolic-links",
            "--loose-plugin-federated=OFF",
            "--loose-plugin-connect=OFF",
            "--loose-plugin-spider=OFF",
            "--loose-plugin-s3=OFF",
            // What a session had allowed itself is not in the log.
            "--system-versioning-alter-history=KEEP",
            // INSTALL SONAME is not either. One that is not installed here is passed over.
            "--plugin-load-add=ha_archive",
            "--plugin-load-add=ha_blackhole",
            "--event-scheduler=OFF",
            "--gtid-strict-mode=OFF",
            // The account has a hash of a password, which plugins that judge passwords can't judge.
            "--strict-password-validation=OFF",
            "--max-allowed-packet=1G",
            "--innodb-buffer-pool-size=256M",
        ]);
        program = match purpose {
            Purpose::Play => program.arg(option("log-bin", &work.join("played"))).args([
                // As statements, what the log has as statements.
                "--binlog-format=MIXED",
                // All of it is on the disk once it has stopped, and of no use before.
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-doublewrite=OFF",
                "--sync-binlog=0",
            ]),
            Purpose::Ask => program.arg("--skip-log-bin"),
        };
        program = program.arg(format!("--server-id={NUMBER}"));
        program = program.args(base.variables.iter().map(|(name, value)| OsString::from(format!("--{name}={value}"))));
        // Behind what the server had: a session may have been allowed more.
        program = program.arg("--innodb-strict-mode=OFF");
        let mut running = context.programs.stream(&program)?;

        let begun = context.clock.monotonic();
        let connection = loop {
            let ended = tokio::time::timeout(Span::from_millis(100).to_std(), running.ended()).await;
            match ended {
                Ok(ended) => return Err(broken(&errors, "did not start", ended.err())),
                Err(_) if context.clock.monotonic().since(begun) > START_WITHIN => {
                    return Err(broken(&errors, "did not start in time", None));
                }
                Err(_) => {}
            }
            match Connection::open(context, &settings).await {
                Ok(connection) => break connection,
                // It does not listen yet.
                Err(OpenError::Protocol(ProtocolError::Broken(_))) => {}
                Err(error) => return Err(DatabaseError::Database(format!("{ASKING}: {error}"))),
            }
        };
        let account = settings.user.unwrap_or_default();
        let mut server = Self { running, connection, account, defaults, errors, socket };
        // Hours may pass until the next question.
        server.tell("SET SESSION wait_timeout = 31536000, SESSION sql_log_bin = 0").await?;
        Ok(server)
    }

    /// Makes an account that can read everything and change nothing, and says how it reaches the server.
    pub(super) async fn let_read(&mut self, context: &Context, password: &Path) -> Result<Settings, DatabaseError> {
        let reader = Account::new(context);
        let account = reader.name();
        self.tell(&reader.create()).await?;
        self.tell(&format!("GRANT SELECT, SHOW VIEW, EXECUTE ON *.* TO {account}")).await?;
        reader.settings(password, self.socket.clone())
    }

    /// Drops the account that was let in by [`Self::let_read`].
    pub(super) async fn drop_reader(&mut self, reader: &Settings) -> Result<(), DatabaseError> {
        let user = reader.user.as_deref().unwrap_or_default();
        self.tell(&format!("DROP USER '{user}'@'localhost'")).await.map(drop)
    }

    async fn tell(&mut self, sql: &str) -> Result<String, DatabaseError> {
        let told = self.connection.value(sql).await;
        // A server that has ended says why in its own log.
        if let Err(ProtocolError::Broken(_)) = &told
            && let Ok(ended) = tokio::time::timeout(Span::from_secs(2).to_std(), self.running.ended()).await
        {
            return Err(broken(&self.errors, "ended by itself", ended.err()));
        }
        told.asking(ASKING)
    }

    /// Plays files of a binary log, from a place in the first one to the end of the last, of `bytes` together.
    pub(super) async fn play(
        &mut self,
        context: &Context,
        owner: &Owner,
        files: &[PathBuf],
        from: u64,
        bytes: u64,
        watcher: &dyn Watcher,
    ) -> Result<(), DatabaseError> {
        let log = Program::new("mariadb-binlog").args(["--no-defaults".to_owned(), format!("--start-position={from}")]);
        let client = Program::new("mariadb").arg(option("defaults-file", &self.defaults)).args([
            "--batch",
            "--binary-mode",
            "--max-allowed-packet=1G",
        ]);
        let mut log = context.programs.stream(&owner.run(log.args(files)))?;
        let mut client = context.programs.filter(&owner.run(client))?;
        let ends = (log.stdout(), client.stdin(), client.stdout());
        let (Some(mut read), Some(mut write), Some(mut answers)) = ends else {
            return Err(DatabaseError::Database("mariadb-binlog and mariadb can't be joined".to_owned()));
        };
        let copy = async move {
            let copied = tokio::io::copy(&mut read, &mut write).await;
            // Both ends are dropped, so both programs see the end.
            drop((read, write));
            copied
        };
        // Some statements have answers, which nobody reads.
        let drain = async move { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await };
        let all = async { tokio::join!(copy, drain, log.ended(), client.ended()) };
        tokio::pin!(all);
        let (copied, _, log_ended, client_ended) = loop {
            tokio::select! {
                ended = &mut all => break ended,
                () = tokio::time::sleep(Span::from_secs(1).to_std()) => {
                    // Where it does not answer, the end of the client says why.
                    let written = self.connection.query("SHOW BINARY LOGS").await.unwrap_or_default();
                    let sizes = written.iter().filter_map(|row| row.get(1)?.as_ref()?.parse::<u64>().ok());
                    watcher.doing("replay", sizes.sum::<u64>().min(bytes), Some(bytes));
                }
            }
        };
        // The client says what is wrong with a statement; what feeds it then has a broken pipe.
        if let Err(error) = client_ended {
            let server = tokio::time::timeout(Span::from_secs(2).to_std(), self.running.ended()).await;
            return Err(match (server, error) {
                (Ok(ended), _) => broken(&self.errors, "ended while it played", ended.err()),
                (Err(_), ProgramError::Failed { stderr, ended, .. }) => {
                    DatabaseError::Database(format!("the log can't be played ({ended}): {}", said_by_client(&stderr)))
                }
                (Err(_), error) => error.into(),
            });
        }
        log_ended?;
        copied.map_err(|error| DatabaseError::Database(format!("mariadb-binlog could not be read: {error}")))?;
        watcher.doing("replay", bytes, Some(bytes));
        Ok(())
    }

    /// Fails unless what was played is exactly what was to be: the last number of each domain and server.
    pub(super) async fn assert_reached(&mut self, wanted: &BTreeMap<(u32, u32), Gtid>) -> Result<(), DatabaseError> {
        let state = self.tell("SELECT @@global.gtid_binlog_state").await?;
        let own = format!("-{NUMBER}-");
        let reached: BTreeSet<String> = state
            .split(',')
            .map(str::trim)
            .filter(|gtid| !gtid.is_empty() && !gtid.contains(&own))
            .map(str::to_owned)
            .collect();
        let wanted: BTreeSet<String> = wanted
            .values()
            .map(|gtid| {
                let behind = Gtid { sequence: gtid.sequence.saturating_add(1), ..*gtid }.to_string();
                if gtid.has_rows_behind && reached.contains(&behind) { behind } else { gtid.to_string() }
            })
            .collect();
        if reached == wanted {
            return Ok(());
        }
        let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let why = format!("the log was played to `{}`, and not to `{}`", list(&reached), list(&wanted));
        Err(DatabaseError::Database(why))
    }

    /// Drops the account and stops the server in good order.
    pub(super) async fn stop(mut self) -> Result<(), DatabaseError> {
        self.tell(&format!("DROP USER '{}'@'localhost'", self.account)).await?;
        match self.connection.query("SHUTDOWN").await {
            // It need not wait until its answer was read.
            Ok(_) | Err(ProtocolError::Broken(_)) => {}
            Err(error) => return Err(error).asking(ASKING),
        }
        match tokio::time::timeout(STOP_WITHIN.to_std(), self.running.ended()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(broken(&self.errors, "did not stop in good order", Some(error))),
            Err(_) => Err(broken(&self.errors, "did not stop in time", None)),
        }
    }
}

/// An account with a password that nobody else knows.
struct Account {
    user: String,
    password: zeroize::Zeroizing<String>,
}

impl Account {
    fn new(context: &Context) -> Self {
        let random = || {
            let mut random = [0; 16];
            context.random.fill(&mut random);
            zeroize::Zeroizing::new(hex(&random))
        };
        Self { user: format!("garant_{}", random().get(..16).unwrap_or_default()), password: random() }
    }

    fn name(&self) -> String {
        format!("'{}'@'localhost'", self.user)
    }

    /// The statement that makes it.
    fn create(&self) -> String {
        let hash = password_hash(&self.password);
        format!("CREATE USER {} IDENTIFIED VIA mysql_native_password USING '{hash}'", self.name())
    }

    /// How it reaches the server; its password is written into a file.
    fn settings(self, secret: &Path, socket: PathBuf) -> Result<Settings, DatabaseError> {
        write_secret(secret, &self.password)?;
        Ok(Settings { socket, user: Some(self.user), password: Some(SecretPlace::File(secret.to_owned())) })
    }
}

/// Writes what the server does first: it makes the account that it lets in. Gives how that reaches it.
fn write_account(context: &Context, init: &Path, secret: &Path, socket: PathBuf) -> Result<Settings, DatabaseError> {
    let account = Account::new(context);
    let (name, create) = (account.name(), account.create());
    let sql =
        format!("SET SESSION sql_log_bin = 0;\n{create};\nGRANT ALL PRIVILEGES ON *.* TO {name} WITH GRANT OPTION;\n");
    write_secret(init, &sql)?;
    account.settings(secret, socket)
}

fn write_secret(path: &Path, text: &str) -> Result<(), DatabaseError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| DatabaseError::Files { path: path.to_owned(), error })
}

/// What the client says is wrong, without the statement, which it repeats, and without values: those are the data of others.
fn said_by_client(stderr: &str) -> String {
    match stderr.rfind("ERROR ").and_then(|at| stderr.get(at..)) {
        Some(error) => without_data(error, &['\'']),
        None => "the client `mariadb` does not say why".to_owned(),
    }
}

/// What is wrong with the server: what it says first in its log of errors, for what it says then follows from it; or else how it ended.
fn broken(errors: &Path, what: &str, ended: Option<ProgramError>) -> DatabaseError {
    let text = fs::read(errors).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("[ERROR]")).map(str::trim).collect();
    let is_full = ["error 28", "Errcode: 28", "No space left"].iter().any(|words| text.contains(words));
    let said = match lines.get(..lines.len().min(3)) {
        Some([]) | None => ended.map(|error| error.to_string()).unwrap_or_default(),
        Some(first) => first.join("; "),
    };
    let full = if is_full { "the disk is full: " } else { "" };
    DatabaseError::Database(format!("{ASKING} {what}: {full}{}", engine::printable::text(&said)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_no_data() {
        let said = "--------------; BINLOG 'aGVsbG8='; --------------; ERROR 1062 (23000) at line 31: Duplicate entry 'ada@example.org' for key 'PRIMARY'";
        assert_eq!(said_by_client(said), "ERROR 1062 (23000) at line 31: Duplicate entry '…' for key '…'");
        assert!(said_by_client("BINLOG 'aGVsbG8='").contains("does not say"));
    }
}
