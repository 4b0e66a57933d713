//! A server that is to be protected: where its socket is, what keeps it from being backed up, and the script that mends it.
//!
//! What is missing is known for sure only by who will do the work: the agent, by its user and its capabilities. So it is asked by a
//! process of that user, which `garant protect` starts as root.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use engine::command::{CommandContext, JudgedPolicy};
use engine::{Failure, Program};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::Connection;
use crate::database::{Database, DatabaseError, Mend, Problem};
use crate::mariadb::MariaDb;
use crate::postgres::Postgres;

/// Longest question of another process of ours.
const QUESTION_BYTES_MAX: u64 = 64 * 1024;
/// Where the configuration of MariaDB is added to.
const CONFIGURATION: &str = "/etc/mysql/mariadb.conf.d/60-garant.cnf";
/// Sockets of the kernel (proc(5)).
const SOCKETS: &str = "/proc/net/unix";
/// What the name of a socket of PostgreSQL begins with, before its port.
const POSTGRES_SOCKET: &str = ".s.PGSQL.";
/// The port that needs not be named.
const POSTGRES_PORT: &str = "5432";

/// Which database.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Engine {
    MariaDb,
    Postgres,
}

/// A server.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(super) struct Server {
    pub(super) engine: Engine,
    pub(super) connection: Connection,
}

impl Engine {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::MariaDb => "server of MariaDB",
            Self::Postgres => "cluster of PostgreSQL",
        }
    }

    /// Where its socket is on Debian.
    pub(super) fn usual(self) -> PathBuf {
        match self {
            Self::MariaDb => "/run/mysqld/mysqld.sock".into(),
            Self::Postgres => "/run/postgresql".into(),
        }
    }

    /// The socket of the server that runs: the usual one, else the only one that the kernel knows of.
    pub(super) fn find(self) -> Result<PathBuf, Failure> {
        let usual = self.usual();
        if self.is_socket(&usual) {
            return Ok(usual);
        }
        let found = self.of_kernel(&std::fs::read_to_string(SOCKETS).unwrap_or_default());
        match &found[..] {
            [one] => Ok(one.clone()),
            [] => Err(Failure::new(format!(
                "no {} listens at {}, nor elsewhere",
                self.words(),
                self.socket_in(&usual).display()
            ))
            .remedy("start it, or name its socket with --socket")
            .code(2)),
            several => {
                let several: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
                Err(Failure::new(format!("there is more than one {}", self.words()))
                    .remedy(format!("name its socket with --socket: {}", several.join(" or ")))
                    .code(2))
            }
        }
    }

    /// The socket itself: of PostgreSQL its folder is enough where its port is 5432.
    fn socket_in(self, path: &Path) -> PathBuf {
        match self {
            Self::Postgres if path.is_dir() => path.join(format!("{POSTGRES_SOCKET}{POSTGRES_PORT}")),
            _ => path.to_owned(),
        }
    }

    fn is_socket(self, path: &Path) -> bool {
        self.socket_in(path).metadata().is_ok_and(|there| there.file_type().is_socket())
    }

    /// The sockets in the list of the kernel that are of such a server, by their names.
    fn of_kernel(self, list: &str) -> Vec<PathBuf> {
        let paths = list.lines().filter_map(|line| line.split_whitespace().nth(7)).map(Path::new);
        let ours = paths.filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            match self {
                Self::MariaDb => matches!(name, "mysqld.sock" | "mysql.sock" | "mariadb.sock").then(|| path.to_owned()),
                Self::Postgres => match name.strip_prefix(POSTGRES_SOCKET)? {
                    POSTGRES_PORT => path.parent().map(Path::to_owned),
                    port => port.bytes().all(|byte| byte.is_ascii_digit()).then(|| path.to_owned()),
                },
            }
        });
        let mut found: Vec<PathBuf> = ours.filter(|path| path.is_absolute()).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Server {
    fn database(&self) -> Box<dyn Database> {
        let nowhere = PathBuf::new();
        match self.engine {
            Engine::MariaDb => Box::new(MariaDb::new("", self.connection.clone(), nowhere)),
            Engine::Postgres => Box::new(Postgres::new("", self.connection.clone())),
        }
    }

    /// What keeps it from being backed up by the agent.
    pub(super) fn problems(&self, agent: &JudgedPolicy, command: &dyn CommandContext) -> Result<Vec<Problem>, Failure> {
        let ids = agent.agent_ids.ok_or_else(|| {
            Failure::new(format!("there is no user {}, as which the agent runs", agent.agent))
                .remedy(format!("make it: `adduser --system --group {}`", agent.agent))
        })?;
        let mut problems = self.problems_for(ids, command)?;
        // Who is not let in sees nothing of the rest. The administrator does.
        if problems.iter().any(|problem| matches!(problem.mend, Mend::Rights(_)))
            && rustix::process::geteuid().is_root()
            && let Ok(more) = self.administrator().and_then(|ids| self.as_administrator().problems_for(ids, command))
        {
            let is_news = |problem: &Problem| {
                !matches!(problem.mend, Mend::Rights(_)) && !problems.iter().any(|it| it.what == problem.what)
            };
            let news: Vec<Problem> = more.into_iter().filter(is_news).collect();
            problems.extend(news);
        }
        Ok(problems)
    }

    /// The same server, asked by the user that the process has in the system.
    fn as_administrator(&self) -> Self {
        let connection = Connection { user: None, password: None, socket: self.connection.socket.clone() };
        Self { engine: self.engine, connection }
    }

    /// The numbers of the administrator of the server: root of MariaDB, of PostgreSQL whose server it is.
    fn administrator(&self) -> Result<(u32, u32), Failure> {
        if self.engine == Engine::MariaDb {
            return Ok((0, 0));
        }
        let file = self.engine.socket_in(&self.connection.socket);
        let there = file.metadata().map_err(|error| {
            let found = self.engine.of_kernel(&std::fs::read_to_string(SOCKETS).unwrap_or_default());
            let found: Vec<String> = found.iter().map(|path| format!("--socket {}", path.display())).collect();
            Failure::new(format!("the socket {} is not there", file.display())).because(&error).remedy(match &found[..]
            {
                [] => "start the server, or name the socket itself with --socket where it has another port".to_owned(),
                found => format!("start the server, or name one that is there: {}", found.join(" or ")),
            })
        })?;
        Ok((there.uid(), there.gid()))
    }

    /// What a process with these numbers and the right to read all files finds out.
    fn problems_for(&self, ids: (u32, u32), command: &dyn CommandContext) -> Result<Vec<Problem>, Failure> {
        let own = rustix::process::geteuid();
        let unasked = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("the {} at {} can't be asked", self.engine.words(), self.connection.socket.display()))
                .because(error)
                .remedy("start it, or name its socket with --socket")
        };
        let context = command.means()?;
        let mut found = None;
        if own.as_raw() == ids.0 {
            let database = self.database();
            command.wait(Box::pin(async { found = Some(database.problems(&context).await) }))?;
            return found.unwrap_or_else(|| Ok(Vec::new())).map_err(|error| unasked(&error));
        }
        if !own.is_root() {
            return Err(Failure::new("what the agent may do can be found out by root alone")
                .remedy("run this command as root, or as the user that the agent runs as"));
        }
        let program = self.questioner(ids)?;
        let mut answered = None;
        command.wait(Box::pin(async { answered = Some(context.programs.run(&program).await) }))?;
        let answer = answered.ok_or_else(|| Failure::new("nothing was asked"))?.map_err(|error| unasked(&error))?;
        let answer: Answer = serde_json::from_slice(&answer.stdout).map_err(|error| unasked(&error))?;
        answer.problems.ok_or_else(|| unasked(&Failure::new(answer.error.unwrap_or_default())))
    }

    /// Another process of ours, with these numbers.
    fn questioner(&self, (user, group): (u32, u32)) -> Result<Program, Failure> {
        let executable =
            std::env::current_exe().map_err(|error| Failure::new("garant does not find itself").because(&error))?;
        let question = serde_json::to_vec(self).map_err(|error| Failure::new("no question").because(&error))?;
        let only = |set: &str| format!("--{set}=-all,+dac_read_search");
        Ok(Program::new("setpriv")
            .args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()])
            .args(["inh-caps", "ambient-caps", "bounding-set"].map(only))
            // As of the agent: without it access(2) does not count capabilities.
            .args(["--securebits=+no_setuid_fixup", "--no-new-privs", "--"])
            .arg(executable)
            .args(["backup", "problems"])
            .input(question))
    }

    /// Runs statements as the administrator of the server, by its socket: a right of root.
    pub(super) fn run(&self, statements: &str, command: &dyn CommandContext) -> Result<(), Failure> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new("only root is let in by the socket as the administrator of the server")
                .remedy("run this command as root, or run the statements yourself"));
        }
        let (user, group) = self.administrator()?;
        let client = match self.engine {
            Engine::MariaDb => Program::new("mariadb")
                .args(["--no-defaults", "--user=root", "--batch"])
                .arg(format!("--socket={}", self.connection.socket.display())),
            Engine::Postgres => Program::new("psql")
                .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres"])
                .args(self.place_of_psql())
                .owner(user, group),
        };
        let (context, client) = (command.means()?, client.input(format!("{statements}\n")));
        let mut done = None;
        command.wait(Box::pin(async { done = Some(context.programs.run(&client).await) }))?;
        match done {
            Some(Err(error)) => Err(Failure::new("the statements were not run").because(&error).remedy(
                "run them by hand; where an account of that name is there already, let it log in by the socket (MariaDB: ALTER USER … \
                 IDENTIFIED VIA unix_socket), or name another one with --user",
            )),
            _ => Ok(()),
        }
    }

    /// How psql is told where the cluster is: the folder of the socket, and the port where it is another than the usual one.
    fn place_of_psql(&self) -> Vec<String> {
        let socket = &self.connection.socket;
        let name = socket.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match (name.strip_prefix(POSTGRES_SOCKET), socket.parent()) {
            (Some(port), Some(folder)) if !socket.is_dir() => {
                vec!["-h".to_owned(), folder.display().to_string(), "-p".to_owned(), port.to_owned()]
            }
            _ => vec!["-h".to_owned(), socket.display().to_string()],
        }
    }

    /// What a person can run as root to mend the problems; `None` where no script can.
    pub(super) fn script(&self, problems: &[Problem]) -> Option<String> {
        let (mut lines, mut statements, mut restarts) = (Vec::new(), Vec::new(), false);
        for problem in problems {
            match &problem.mend {
                Mend::ByHand | Mend::RestoreTest(_) => {}
                Mend::Rights(sql) | Mend::Statements(sql) => statements.push(sql.as_str()),
                Mend::StatementsThenRestart(sql) => {
                    statements.push(sql);
                    restarts = true;
                }
                Mend::LineThenRestart(line) => {
                    lines.push(line.as_str());
                    restarts = true;
                }
            }
        }
        let mut script = Vec::new();
        let socket = self.connection.socket.display();
        if !statements.is_empty() {
            let client = match self.engine {
                Engine::MariaDb => format!("mariadb --socket={socket}"),
                Engine::Postgres => {
                    format!("runuser -u postgres -- psql -d postgres {}", self.place_of_psql().join(" "))
                }
            };
            script.push(format!("{client} <<'SQL'\n{}\nSQL\n", statements.join("\n")));
        }
        if !lines.is_empty() {
            script.push(format!("cat >> {CONFIGURATION} <<'LINES'\n[mariadb]\n{}\nLINES\n", lines.join("\n")));
        }
        if restarts {
            let unit = match self.engine {
                Engine::MariaDb => "mariadb",
                Engine::Postgres => "postgresql",
            };
            script.push(format!("systemctl restart {unit}\n"));
        }
        (!script.is_empty()).then(|| script.concat())
    }
}

/// What the other process says.
#[derive(Deserialize)]
struct Answer {
    problems: Option<Vec<Problem>>,
    error: Option<String>,
}

/// `garant backup problems`: reads a server from standard input, and says what keeps this user from backing it up.
pub(in crate::commands) fn questioned(_: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let read = std::io::Read::take(std::io::stdin().lock(), QUESTION_BYTES_MAX);
    let server: Server = serde_json::from_reader(read)
        .map_err(|error| Failure::new("no server is named on standard input").because(&error).code(2))?;
    let (context, database) = (command.means()?, server.database());
    let mut found: Option<Result<Vec<Problem>, DatabaseError>> = None;
    command.wait(Box::pin(async { found = Some(database.problems(&context).await) }))?;
    command.json(&match found {
        Some(Ok(problems)) => json!({ "problems": problems }),
        Some(Err(error)) => json!({ "error": error.to_string() }),
        None => json!({ "error": "nothing was asked" }),
    });
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_by_the_name_of_its_socket() {
        let list = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 20786 /var/lib/mysql/mysql.sock
0000000000000000: 00000003 00000000 00000000 0001 03 20787
0000000000000000: 00000002 00000000 00010000 0001 01 20788 /srv/pg/.s.PGSQL.5432
0000000000000000: 00000003 00000000 00000000 0001 03 20789 /srv/pg/.s.PGSQL.5432
0000000000000000: 00000003 00000000 00000000 0001 03 20789 /run/postgresql/.s.PGSQL.5433
0000000000000000: 00000002 00000000 00010000 0001 01 20790 @/abstract/mysql.sock
";
        assert_eq!(Engine::MariaDb.of_kernel(list), [PathBuf::from("/var/lib/mysql/mysql.sock")]);
        let clusters = ["/run/postgresql/.s.PGSQL.5433", "/srv/pg"].map(PathBuf::from);
        assert_eq!(Engine::Postgres.of_kernel(list), clusters, "the folder is enough where the port is the usual one");
        let connection = Connection { socket: clusters[0].clone(), user: None, password: None };
        let server = Server { engine: Engine::Postgres, connection };
        assert_eq!(server.place_of_psql(), ["-h", "/run/postgresql", "-p", "5433"]);
    }

    fn problem(mend: Mend) -> Problem {
        Problem { what: String::new(), remedy: String::new(), is_warning: false, mend }
    }

    #[test]
    fn a_script_mends_all_that_one_can() {
        let connection = Connection { socket: "/run/s".into(), user: None, password: None };
        let server = Server { engine: Engine::MariaDb, connection };
        assert_eq!(server.script(&[problem(Mend::ByHand)]), None);
        let problems = [
            problem(Mend::LineThenRestart("log_bin = binlog".into())),
            problem(Mend::Rights("GRANT x;".into())),
            problem(Mend::LineThenRestart("sync_binlog = 1".into())),
        ];
        let expected = "mariadb --socket=/run/s <<'SQL'\nGRANT x;\nSQL\n\
            cat >> /etc/mysql/mariadb.conf.d/60-garant.cnf <<'LINES'\n[mariadb]\nlog_bin = binlog\nsync_binlog = 1\nLINES\n\
            systemctl restart mariadb\n";
        assert_eq!(server.script(&problems).as_deref(), Some(expected));
        let server = Server { engine: Engine::Postgres, ..server };
        let script = server.script(&[problem(Mend::Statements("SELECT 1;".into()))]);
        assert_eq!(
            script.as_deref(),
            Some("runuser -u postgres -- psql -d postgres -h /run/s <<'SQL'\nSELECT 1;\nSQL\n")
        );
    }
}
