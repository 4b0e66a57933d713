//! What keeps a cluster from being backed up, each with the line that mends it.

use engine::Context;

use super::wire::{Connection, Mode, Row, WireError};
use super::{OLDEST_MAJOR, Postgres, TESTED_MAJOR};
use crate::database::{DatabaseError, Mend, Problem};

/// Fewest connections of replication: one follows, one takes a base, and one is left over from a crash for a minute.
const SENDERS_MIN: i64 = 3;

fn blocks(what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    let remedy = remedy.into();
    let mend = mend(&remedy);
    Problem { what: what.into(), remedy, is_warning: false, mend }
}

/// What of a remedy a script can do: a remedy that begins with a statement is one.
fn mend(remedy: &str) -> Mend {
    let statements = |end: &str| remedy.split_once(end).map(|(statements, _)| format!("{statements};"));
    match remedy.split_whitespace().take(2).collect::<Vec<_>>()[..] {
        ["CREATE" | "ALTER", "ROLE"] if !remedy.contains('…') => Mend::Rights(remedy.to_owned()),
        ["ALTER", "SYSTEM"] => match statements("; SELECT pg_reload_conf();") {
            Some(statements) => Mend::Statements(format!("{statements} SELECT pg_reload_conf();")),
            None => statements(";").map_or(Mend::ByHand, Mend::StatementsThenRestart),
        },
        _ => Mend::ByHand,
    }
}

fn warns(what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { is_warning: true, ..blocks(what, remedy) }
}

/// See [`crate::database::Database::problems`].
pub(super) async fn problems(of: &Postgres, context: &Context) -> Result<Vec<Problem>, DatabaseError> {
    let user = of.user()?;
    let mut sql = match of.connect(context, Mode::Sql).await? {
        Ok(sql) => sql,
        Err(error) => return Ok(vec![unconnected(of, &user, &error, false)]),
    };
    let failed = |error: WireError| of.error(error);
    let settings = Settings::ask(&mut sql).await.map_err(failed)?;
    let mut found = of_settings(&settings);
    let rights = "select rolreplication or rolsuper from pg_roles where rolname = current_user";
    let may_replicate = sql.query(rights).await.map_err(failed)?;
    if first(&may_replicate) != Some("t") {
        found.push(blocks(format!("{user} may not replicate"), format!("ALTER ROLE \"{user}\" REPLICATION;")));
    } else if let Err(error) = of.connect(context, Mode::Replication).await? {
        found.push(unconnected(of, &user, &error, true));
    }
    Ok(found)
}

/// What the server is set to.
#[derive(Debug)]
struct Settings(Vec<Row>);

impl Settings {
    async fn ask(sql: &mut Connection) -> Result<Self, WireError> {
        let query = "select name, setting from pg_settings union all select 'in_recovery', pg_is_in_recovery()::text \
                     union all select 'slots', count(*)::text from pg_replication_slots";
        sql.query(query).await.map(Self)
    }

    fn text(&self, name: &str) -> &str {
        let row = self.0.iter().find(|row| row.first().and_then(Option::as_deref) == Some(name));
        row.and_then(|row| row.get(1)?.as_deref()).unwrap_or_default()
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }
}

fn of_settings(settings: &Settings) -> Vec<Problem> {
    let restart = "and start the server again";
    let mut found = Vec::new();
    let major = settings.number("server_version_num") / 10_000;
    if major < i64::from(OLDEST_MAJOR) {
        let what = format!("PostgreSQL {major} is older than what can be backed up");
        found.push(blocks(what, format!("go on to PostgreSQL {OLDEST_MAJOR} or later with pg_upgradecluster")));
    } else if major != i64::from(TESTED_MAJOR) {
        let what = format!("PostgreSQL {major} is not tested here: the one that is has the number {TESTED_MAJOR}");
        let mend = Mend::RestoreTest(major.to_string());
        found.push(Problem { mend, ..warns(what, "trust it once a restore test has passed: this goes with it") });
    }
    if settings.text("in_recovery") == "true" {
        found.push(blocks("it is a standby, which does not know what was committed when", "name the primary"));
    }
    if settings.text("wal_level") == "minimal" {
        let remedy = format!("ALTER SYSTEM SET wal_level = 'replica'; {restart}");
        found.push(blocks("wal_level is minimal: the log does not hold all that is needed", remedy));
    }
    if settings.number("max_wal_senders") < SENDERS_MIN {
        let remedy = format!("ALTER SYSTEM SET max_wal_senders = 10; {restart}");
        found.push(blocks(format!("max_wal_senders is {}", settings.text("max_wal_senders")), remedy));
    }
    let (slots, slots_max) = (settings.number("slots"), settings.number("max_replication_slots"));
    if slots_max == 0 {
        let remedy = format!("ALTER SYSTEM SET max_replication_slots = 10; {restart}");
        found.push(blocks("max_replication_slots is 0", remedy));
    } else if slots >= slots_max {
        let remedy = format!("ALTER SYSTEM SET max_replication_slots = {}; {restart}", slots_max + 5);
        found.push(warns(format!("all {slots_max} replication slots are taken"), remedy));
    }
    if settings.text("max_slot_wal_keep_size") == "-1" {
        found.push(blocks(
            "max_slot_wal_keep_size is not set: while garant is away, the log that is kept for it fills the disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf(); with a third of the free space, or so",
        ));
    }
    if let Ok(megabytes) = settings.text("max_slot_wal_keep_size").parse::<u64>()
        && megabytes < KEEP_MB_MIN
    {
        found.push(warns(
            format!(
                "max_slot_wal_keep_size is {megabytes} MB: the server throws its log away before it was received, and a new base is taken \
                 again and again"
            ),
            "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf(); with a third of the free space, or so",
        ));
    }
    if settings.text("full_page_writes") == "off" {
        let remedy = "ALTER SYSTEM SET full_page_writes = 'on'; SELECT pg_reload_conf();";
        found.push(blocks(
            "full_page_writes is off: a block that was half written when a base was taken stays so",
            remedy,
        ));
    }
    if settings.text("fsync") == "off" {
        let remedy = "ALTER SYSTEM SET fsync = 'on'; SELECT pg_reload_conf();";
        found.push(warns(
            "fsync is off: after a crash of the machine the log may not go on from what was received",
            remedy,
        ));
    }
    if settings.text("data_checksums") == "off" {
        let remedy = "stop the server, run pg_checksums --enable -D on its directory, and start it again";
        found.push(warns("data checksums are off: nobody notices a damaged block when a base is taken", remedy));
    }
    if settings.text("wal_block_size") != "8192" {
        let what = format!("its log has blocks of {} bytes", settings.text("wal_block_size"));
        found.push(blocks(what, "nothing: 8192 is the only size that is known here"));
    }
    found
}

fn first(rows: &[Row]) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}

/// Why there is no connection, and what to do.
fn unconnected(of: &Postgres, user: &str, error: &WireError, for_replication: bool) -> Problem {
    let method = if of.settings.password.is_some() { "scram-sha-256" } else { "peer" };
    let database = if for_replication { "replication" } else { "postgres" };
    let line = format!(
        "add `local {database} {user} {method}` to pg_hba.conf above the lines for all; SELECT pg_reload_conf();"
    );
    let remedy = match error {
        WireError::Connect(_) => format!(
            "start the server: nothing answers at {}. Where its socket is in another folder, or has another port than 5432, name the socket \
             itself with `socket`",
            of.socket().display()
        ),
        WireError::Refused(refusal) => match refusal.code.as_str() {
            "28000" if refusal.message.contains("does not exist") => {
                format!("CREATE ROLE \"{user}\" LOGIN REPLICATION;")
            }
            // Of a role that is not there, nothing else is said where there are passwords.
            "28P01" => format!(
                "CREATE ROLE \"{user}\" LOGIN REPLICATION PASSWORD '…'; or ALTER ROLE if it is there, with the one that `password` names"
            ),
            "3D000" => "CREATE DATABASE postgres; it is the one that is connected to, and stays empty".to_owned(),
            "53300" => "ALTER SYSTEM SET max_wal_senders = 10; and start the server again".to_owned(),
            _ => line,
        },
        _ => line,
    };
    blocks(error.to_string(), remedy)
}

/// What a server has to keep of its log at least: a base alone ends two segments of it.
const KEEP_MB_MIN: u64 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn of_version(number: &str) -> Vec<Problem> {
        let row = |name: &str, setting: &str| vec![Some(name.to_owned()), Some(setting.to_owned())];
        let sound = [
            ("wal_level", "replica"),
            ("max_wal_senders", "10"),
            ("max_replication_slots", "10"),
            ("max_slot_wal_keep_size", "1024"),
            ("in_recovery", "false"),
        ];
        let mut rows: Vec<Row> = sound.into_iter().map(|(name, setting)| row(name, setting)).collect();
        rows.push(row("server_version_num", number));
        of_settings(&Settings(rows))
    }

    /// A server that keeps hardly anything loses the log to each base.
    #[test]
    fn a_log_that_is_thrown_away_at_once_is_warned_of() {
        let found = |megabytes: &str| {
            let row = |name: &str, setting: &str| vec![Some(name.to_owned()), Some(setting.to_owned())];
            let rows = vec![row("max_slot_wal_keep_size", megabytes), row("server_version_num", "150014")];
            let found = of_settings(&Settings(rows));
            found.iter().any(|problem| problem.what.contains("again and again"))
        };
        assert_eq!(["20", "199", "200", "-1"].map(found), [true, true, false, false]);
    }

    /// What the tests do not run is said, until a restore test has passed with it.
    #[test]
    fn a_major_version_that_is_not_tested_is_named() {
        let is_named = |found: &[Problem]| found.iter().any(|problem| problem.what.contains("not tested here"));
        assert!(!is_named(&of_version("150014")));
        let found = of_version("170002");
        let problem = found.iter().find(|problem| problem.what.contains("not tested here")).expect("another one");
        assert!(problem.is_warning && problem.mend == Mend::RestoreTest("17".into()), "{problem:?}");
        assert!(!is_named(&of_version("090600")) && of_version("090600")[0].what.contains("older"));
    }
}
