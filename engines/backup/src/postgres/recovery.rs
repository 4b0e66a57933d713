//! PostgreSQL lets a directory of data recover to a record of its log: a server without network and without connections, for as long as
//! that takes. What it is told is in a file of ours and not in the directory, where settings of the old server may be.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use engine::program::Running;
use engine::{Context, Program, ProgramError};
use event::Span;

use super::Lsn;
use crate::blank::Blank;
use crate::database::{DatabaseError, Watcher};
use crate::owner::Owner;

/// Longest time for a program that reads all files, and for a server to stop in good order.
const LONG: Span = Span::from_days(2);
/// How often it is looked whether recovery has ended.
const LOOKS_EVERY: Span = Span::from_millis(100);
/// Most prepared transactions that a restored server can go on with, if the one before did not say more.
const PREPARED_MAX: u64 = 200;

/// The programs of one major version, and whom they run as.
#[derive(Clone, Debug)]
pub(super) struct Server {
    folder: Option<PathBuf>,
    pub(super) owner: Owner,
}

impl Server {
    /// The programs that can read what was made by `version`.
    pub(super) async fn find(context: &Context, version: &str) -> Result<Self, DatabaseError> {
        let major = version.split('.').next().unwrap_or_default();
        let owner = Owner::find("postgres", &format!("postgresql-{major}"))?;
        let folder = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        let server = Self { folder: folder.is_dir().then_some(folder), owner };
        let missing = |is: &str| {
            DatabaseError::Database(format!(
                "the base is of PostgreSQL {version}, and {is} here: install postgresql-{major}"
            ))
        };
        match context.programs.run(&server.program("postgres").arg("--version")).await {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let found = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
                let found = found.unwrap_or_default();
                if found.split('.').next() == Some(major) { Ok(server) } else { Err(missing(&format!("{found} is"))) }
            }
            Err(ProgramError::Missing(_)) => Err(missing("none is")),
            Err(error) => Err(error.into()),
        }
    }

    fn program(&self, name: &'static str) -> Program {
        let program = match &self.folder {
            Some(folder) => Program::at(name, folder.join(name)),
            None => Program::new(name),
        };
        self.owner.run(program).deadline(LONG)
    }

    fn path(&self) -> PathBuf {
        self.folder.as_ref().map_or_else(|| PathBuf::from("postgres"), |folder| folder.join("postgres"))
    }

    /// Checks each file of a base against the manifest of the server.
    pub(super) async fn verify(&self, context: &Context, data: &Path, manifest: &Path) -> Result<(), DatabaseError> {
        let program = self.program("pg_verifybackup").args(["--no-parse-wal", "--exit-on-error"]);
        // Links lead there, by which the files are found and checked.
        let program = program.arg("--ignore=tablespaces").arg("--manifest-path").arg(manifest).arg(data);
        context.programs.run(&program).await?;
        Ok(())
    }

    /// What the control file of a directory of data says.
    pub(super) async fn control(&self, context: &Context, data: &Path) -> Result<Control, DatabaseError> {
        let output = context.programs.run(&self.program("pg_controldata").arg("-D").arg(data)).await?;
        Ok(Control(String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Recovers the directory of data, whose log is in it, and lets the server end in good order.
    ///
    /// # Errors
    /// It can't, or has reached another place than it was to.
    pub(super) async fn recover(
        &self,
        context: &Context,
        data: &Path,
        work: &Path,
        target: &Target,
        watcher: &dyn Watcher,
    ) -> Result<(), DatabaseError> {
        let control = self.control(context, data).await?;
        let settings = work.join("postgresql.conf");
        let hba = work.join("pg_hba.conf");
        self.write(&hba, "local all all reject\n")?;
        self.write(&settings, &target.settings(&control, &hba))?;
        self.write(&data.join("recovery.signal"), "")?;
        let running = self.start(context, self.program("postgres").tied().quits(), data, &settings, watcher).await?;
        running.stop(context, self).await?;
        self.check(context, data, target).await?;
        self.complete(data, &control)
    }

    /// Starts a server on a directory of data, by the settings in a file of ours, and waits until it is ready.
    async fn start(
        &self,
        context: &Context,
        program: Program,
        data: &Path,
        settings: &Path,
        watcher: &dyn Watcher,
    ) -> Result<Started, DatabaseError> {
        // What was set by ALTER SYSTEM is read whatever file is named, and is not meant for this.
        let altered = data.join("postgresql.auto.conf");
        let failed = |error| DatabaseError::Files { path: altered.clone(), error };
        let before = fs::read_to_string(&altered).map_err(failed)?;
        fs::write(&altered, "").map_err(failed)?;
        let program = program.arg("-D").arg(data).arg("-c").arg(option("config_file", settings));
        let mut running = context.programs.stream(&program)?;
        let pid = running.id();
        loop {
            match tokio::time::timeout(LOOKS_EVERY.to_std(), running.ended()).await {
                Ok(Ok(())) => {
                    let why = "PostgreSQL has ended before it was ready, and says no reason";
                    return Err(DatabaseError::Database(why.to_owned()));
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => watcher.doing("recovery", 0, None),
            }
            if is_ready(&data.join("postmaster.pid"), pid) {
                return Ok(Started { running, data: data.to_owned(), altered, before });
            }
        }
    }

    /// A server in the blank place that is asked whether all is there: whoever reaches its socket in `work`, a folder of its own, is let
    /// in.
    pub(super) async fn ask(
        &self,
        context: &Context,
        blank: &Blank,
        data: &Path,
        work: &Path,
    ) -> Result<Started, DatabaseError> {
        let control = self.control(context, data).await?;
        let (settings, hba, ident) =
            (work.join("postgresql.conf"), work.join("pg_hba.conf"), work.join("pg_ident.conf"));
        self.write(&hba, "local all all trust\n")?;
        self.write(&ident, "")?;
        let text = format!(
            "hot_standby = off\n\
             listen_addresses = ''\n\
             unix_socket_directories = '{}'\n\
             unix_socket_permissions = 0700\n\
             hba_file = '{}'\n\
             ident_file = '{}'\n\
             archive_mode = off\n\
             autovacuum = off\n\
             default_transaction_read_only = on\n\
             {}",
            quoted(work),
            quoted(&hba),
            quoted(&ident),
            control.settings()
        );
        self.write(&settings, &text)?;
        let path = self.path();
        let program = blank.program("postgres", &path, &self.owner).quits();
        self.start(context, program, data, &settings, &()).await
    }

    /// Looks where recovery has ended: the history of the timeline that it began says that, and the control file that all is on the disk.
    async fn check(&self, context: &Context, data: &Path, target: &Target) -> Result<(), DatabaseError> {
        let control = self.control(context, data).await?;
        let state = control.text("Database cluster state");
        if state != "shut down" {
            return Err(DatabaseError::Database(format!(
                "the restored server is `{state}`, where it is to be shut down"
            )));
        }
        let timeline = control.number("Latest checkpoint's TimeLineID").unwrap_or(0);
        let path = data.join(format!("pg_wal/{timeline:08X}.history"));
        let history = fs::read_to_string(&path).map_err(|error| DatabaseError::Files { path, error })?;
        let last = history.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let mut words = last.split_whitespace();
        let reached =
            words.next().and_then(|word| word.parse::<u32>().ok()).zip(words.next().and_then(|word| word.parse().ok()));
        if reached == Some((target.timeline, target.end)) {
            return Ok(());
        }
        let (of, at) = (target.timeline, target.end);
        Err(DatabaseError::Database(format!(
            "PostgreSQL has recovered to `{last}`, and was to end at {at} of timeline {of}"
        )))
    }

    /// Leaves a directory that a server starts on: without settings of its own, as of Debian, it gets the fewest there are.
    fn complete(&self, data: &Path, control: &Control) -> Result<(), DatabaseError> {
        for left_over in ["backup_label.old", "tablespace_map.old"] {
            let path = data.join(left_over);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(DatabaseError::Files { path, error });
                }
                _ => {}
            }
        }
        let settings = format!(
            "# The settings of the restored server were not in its directory: these are the fewest that it starts with.\n\
             listen_addresses = ''\n{}",
            control.settings()
        );
        for (name, text) in [
            ("postgresql.conf", settings.as_str()),
            ("pg_hba.conf", "local all all peer\n"),
            ("pg_ident.conf", "# No names of users of the system that are others in PostgreSQL.\n"),
        ] {
            let path = data.join(name);
            if !path.exists() {
                self.write(&path, text)?;
            }
        }
        Ok(())
    }

    /// Writes a file of the owner, which was not there.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), DatabaseError> {
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| DatabaseError::Files { path: path.to_owned(), error })?;
        self.owner.give(path)
    }
}

/// A server on a directory of data, that was started for a while.
pub(super) struct Started {
    running: Running,
    data: PathBuf,
    /// What was set by ALTER SYSTEM, and its file.
    altered: PathBuf,
    before: String,
}

impl Started {
    /// Lets it end in good order.
    pub(super) async fn stop(mut self, context: &Context, server: &Server) -> Result<(), DatabaseError> {
        let stop = server.program("pg_ctl").args(["stop", "-w", "-m", "fast", "-t", "86400", "-D"]).arg(&self.data);
        let (stopped, ended) = tokio::join!(context.programs.run(&stop), self.running.ended());
        stopped?;
        ended?;
        let altered = self.altered;
        fs::write(&altered, self.before).map_err(|error| DatabaseError::Files { path: altered, error })
    }
}

/// To where a server recovers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// The timeline.
    pub(super) timeline: u32,
    /// The last record that is played, by its start; `None` for as far as the base needs to be whole.
    pub(super) last_record: Option<Lsn>,
    /// Where that ends.
    pub(super) end: Lsn,
}

impl Target {
    fn settings(&self, control: &Control, hba: &Path) -> String {
        let target = match self.last_record {
            Some(at) => format!("recovery_target_lsn = '{at}'\nrecovery_target_inclusive = on"),
            None => "recovery_target = 'immediate'".to_owned(),
        };
        // The log is in the directory already, where it is looked for behind what `restore_command` gives: nothing. At its start
        // the server syncs all files at once, and not one after the other, which takes a second for each thousand.
        format!(
            "{target}\n\
             recovery_target_timeline = '{}'\n\
             recovery_target_action = promote\n\
             restore_command = 'false'\n\
             recovery_init_sync_method = syncfs\n\
             hot_standby = off\n\
             listen_addresses = ''\n\
             unix_socket_directories = '.'\n\
             unix_socket_permissions = 0700\n\
             hba_file = '{}'\n\
             ident_file = '{}'\n\
             archive_mode = off\n\
             autovacuum = off\n\
             checkpoint_timeout = '1h'\n\
             max_wal_size = '8GB'\n\
             {}",
            self.timeline,
            quoted(hba),
            quoted(hba),
            control.settings()
        )
    }
}

/// What pg_controldata says.
#[derive(Clone, Debug)]
pub(super) struct Control(String);

impl Control {
    fn text(&self, name: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    }

    /// The last checkpoint: its timeline, and where its record begins.
    pub(super) fn last_checkpoint(&self) -> Option<(u32, Lsn)> {
        let timeline = u32::try_from(self.number("Latest checkpoint's TimeLineID")?).ok()?;
        Some((timeline, self.text("Latest checkpoint location").parse().ok()?))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    /// The settings that must be no less than they were.
    fn settings(&self) -> String {
        let number = |name: &str, default: u64| self.number(name).unwrap_or(default).max(default);
        format!(
            "max_connections = {}\nmax_worker_processes = {}\nmax_wal_senders = {}\nmax_prepared_transactions = {}\n\
             max_locks_per_transaction = {}\ntrack_commit_timestamp = {}\n",
            number("max_connections setting", 20),
            number("max_worker_processes setting", 8),
            number("max_wal_senders setting", 5),
            number("max_prepared_xacts setting", PREPARED_MAX),
            number("max_locks_per_xact setting", 64),
            if self.text("track_commit_timestamp setting") == "on" { "on" } else { "off" },
        )
    }
}

/// Whether the server of that number says that it has recovered. A file of another one was in the base.
fn is_ready(file: &Path, pid: Option<u32>) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    let is_own = lines.next().and_then(|line| line.parse().ok()) == pid;
    is_own && lines.nth(6) == Some("ready")
}

/// As a value between quotes in a file of settings.
pub(super) fn quoted(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace('\'', "''")
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push("=");
    option.push(path);
    option
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::Programs;
    use engine::sim::World;
    use event::Time;

    use super::*;

    /// A base can be read by its own major version alone: with another one nothing is begun.
    #[tokio::test]
    async fn a_base_of_another_major_version_is_refused() {
        let mut context =
            World::at(Time::from_secs(1_796_000_000)).context("agent".parse().expect("a name")).expect("one");
        context.programs = Arc::new(Programs::of_system());
        Server::find(&context, "15.14").await.expect("that of Debian");
        let error = Server::find(&context, "99.2").await.expect_err("another one").to_string();
        assert!(error.contains("of PostgreSQL 99.2") && error.contains("install postgresql-99"), "{error}");
    }
}
