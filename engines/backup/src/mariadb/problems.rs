//! What keeps a server from being backed up, each with what mends it.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use engine::Context;
use event::Span;
use rustix::io::Errno;

use super::base::ENGINE;
use super::connection::{Connection, OpenError, own_name};
use super::packets::ProtocolError;
use super::{Asking as _, MariaDb};
use crate::database::{DatabaseError, Mend, Problem};
use crate::versions;

/// The release that the tests run.
pub(super) const TESTED: &str = "10.11";
/// What the user must be allowed to do, everywhere.
const RIGHTS: [&str; 5] = ["RELOAD", "PROCESS", "LOCK TABLES", "BINLOG MONITOR", "REPLICATION SLAVE"];
/// The numbers of errors that say that somebody is not let in.
const DENIED: [u16; 3] = [1045, 1130, 1698];
/// How far the clocks of server and agent may be apart.
const APART_MAX: Span = Span::from_millis(500);
/// How long the server must keep its log at least.
const KEPT_MIN_S: i64 = 24 * 3600;

/// Variables, what they must be, and what happens otherwise.
const VARIABLES: [(&str, &[&str], bool, &str); 7] = [
    ("log_bin", &["1"], false, "without a binary log nothing after a base can be restored"),
    ("binlog_format", &["ROW"], false, "statements that are done again need not do the same"),
    ("sync_binlog", &["1"], false, "after a crash of the machine the log lacks what was committed"),
    ("innodb_flush_log_at_trx_commit", &["1"], false, "after a crash of the machine the tables lack what the log has"),
    ("encrypt_binlog", &["0"], false, "an encrypted binary log can't be received as it is"),
    ("gtid_strict_mode", &["1"], true, "the numbers of transactions need not go up"),
    (
        "binlog_checksum",
        &["CRC32"],
        true,
        "damage of the log is noticed when it is restored, and not when it is received",
    ),
];

pub(super) async fn problems(mariadb: &MariaDb, context: &Context) -> Result<Vec<Problem>, DatabaseError> {
    let user = mariadb.settings.user.clone().or_else(own_name).unwrap_or_default();
    let mut connection = match Connection::open(context, &mariadb.settings).await {
        Ok(connection) => connection,
        Err(OpenError::Protocol(ProtocolError::Refused { code, message })) if DENIED.contains(&code) => {
            return Ok(vec![without_account(&user, message)]);
        }
        Err(error) => return Err(DatabaseError::Database(format!("{}: {error}", mariadb.asking()))),
    };
    look(&mut connection, context, &user).await.asking(&mariadb.asking())
}

/// The problem that a user has no account of its own in the server.
fn without_account(user: &str, what: String) -> Problem {
    let account = format!("'{}'@'localhost'", user.replace('\\', "\\\\").replace('\'', "''"));
    let rights = RIGHTS.join(", ");
    let remedy = format!("CREATE USER {account} IDENTIFIED VIA unix_socket; GRANT {rights} ON *.* TO {account};");
    Problem { what, mend: Mend::Rights(remedy.clone()), remedy, is_warning: false }
}

async fn look(connection: &mut Connection, context: &Context, user: &str) -> Result<Vec<Problem>, ProtocolError> {
    let mut problems = Vec::new();
    let version = connection.value("SELECT @@version").await?;
    problems.extend(untested(&version));
    for (name, wanted, is_warning, why) in VARIABLES {
        let is = connection.value(&format!("SELECT @@global.{name}")).await?;
        if !wanted.contains(&is.as_str()) {
            let what = format!("{name} is {is}: {why}");
            let line = wanted.first().map(|wanted| format!("{name} = {wanted}")).unwrap_or_default();
            let line = if name == "log_bin" { "log_bin = binlog".to_owned() } else { line };
            let remedy =
                format!("{line} in the chapter [mariadb] of /etc/mysql/mariadb.conf.d/60-garant.cnf, then restart");
            problems.push(Problem { what, remedy, is_warning, mend: Mend::LineThenRestart(line) });
        }
    }
    let grants = connection.query("SHOW GRANTS").await?;
    let missing = missing_rights(grants.iter().filter_map(|row| row.first()?.as_deref()));
    let may_look = !missing.contains(&"BINLOG MONITOR");
    let account = connection.value("SELECT CURRENT_USER()").await?;
    if account.starts_with('@') {
        // What is granted to this account, everybody on the host may do.
        let what = format!(
            "the server takes `{user}` for its anonymous account ''{account}, for it has no account of that name"
        );
        problems.push(without_account(user, what));
    } else if !missing.is_empty() {
        let account = account.replace('\'', "''").replace('@', "'@'");
        let rights = missing.join(", ");
        let what = format!("the user may not: {rights}");
        let remedy = format!("GRANT {rights} ON *.* TO '{account}';");
        problems.push(Problem { what, mend: Mend::Rights(remedy.clone()), remedy, is_warning: false });
    }
    if may_look {
        left_out(connection, &mut problems).await?;
    }
    let kept: i64 = connection.value("SELECT @@binlog_expire_logs_seconds").await?.parse().unwrap_or(0);
    if kept != 0 && kept < KEPT_MIN_S {
        let what = format!("the server deletes its log after {kept} s: while nothing follows it, the log gets a gap");
        let remedy = format!("SET GLOBAL binlog_expire_logs_seconds = {KEPT_MIN_S};");
        problems.push(Problem { what, mend: Mend::Statements(remedy.clone()), remedy, is_warning: true });
    }
    let folder = connection.value("SELECT @@datadir").await?;
    // mariadb-backup asks so too, and gives up where a capability alone would open the file.
    if let Err(error) = rustix::fs::access(Path::new(&folder).join("ibdata1"), rustix::fs::Access::READ_OK) {
        let what = format!("the files of the server in {folder} can't be read here: {error}");
        let remedy = "run the agent on its host, with CAP_DAC_READ_SEARCH, and SecureBits=no-setuid-fixup in its unit"
            .to_owned();
        problems.push(Problem { what, remedy, is_warning: false, mend: Mend::ByHand });
    }
    if may_look {
        problems.extend(elsewhere(connection, Path::new(&folder), is_writable_to_all_of_us).await?);
    }
    let before = context.clock.now();
    let theirs = connection.value("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)").await?;
    let theirs = event::Time::from_micros(theirs.parse().unwrap_or(0));
    let (early, late) = (before.since(theirs), theirs.since(context.clock.now()));
    if early > APART_MAX || late > APART_MAX {
        let what = format!("the clock of the server is {} apart from that of the agent", early.max(late));
        let remedy = "set both by NTP: seconds to restore to are those of the agent".to_owned();
        problems.push(Problem { what, remedy, is_warning: true, mend: Mend::ByHand });
    }
    Ok(problems)
}

/// Tables whose data are elsewhere (`DATA DIRECTORY`), of which mariadb-backup opens the file that says where for writing. To look at
/// everything (`CAP_DAC_READ_SEARCH`) is no right to that.
pub(super) async fn elsewhere(
    connection: &mut Connection,
    data: &Path,
    may_write: fn(&Path) -> bool,
) -> Result<Vec<Problem>, ProtocolError> {
    let query = "SELECT NAME FROM information_schema.INNODB_SYS_TABLESPACES WHERE FILENAME NOT LIKE './%'";
    let rows = connection.query(query).await?;
    let user = own_name().unwrap_or_default();
    let of = |name: String| {
        let place = data.join(format!("{name}.isl"));
        if may_write(&place) {
            return None;
        }
        let what = format!(
            "the data of the table {name} are in another folder (DATA DIRECTORY), and mariadb-backup has to open {} for writing",
            place.display()
        );
        let remedy = format!("setfacl -m u:{user}:rw {}", place.display());
        Some(Problem { what, mend: Mend::ByHand, remedy, is_warning: false })
    };
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).filter_map(of).collect())
}

/// Whether this process may write to a file. What is not there is left to mariadb-backup.
pub(super) fn is_writable(path: &Path) -> bool {
    !matches!(rustix::fs::access(path, rustix::fs::Access::WRITE_OK), Err(Errno::ACCESS | Errno::PERM))
}

/// Whether any process of this user may: the agent has fewer capabilities than a command of root. What has an access list is left to
/// mariadb-backup.
fn is_writable_to_all_of_us(path: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(path) else { return true };
    let has_list = rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0]).is_ok();
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o200 != 0;
    has_list || is_own || metadata.mode() & 0o002 != 0
}

/// What is committed and not in the binary log.
async fn left_out(connection: &mut Connection, problems: &mut Vec<Problem>) -> Result<(), ProtocolError> {
    for row in connection.query("SHOW MASTER STATUS").await? {
        let filters = row.into_iter().skip(2).flatten().filter(|databases| !databases.is_empty());
        for databases in filters {
            let what =
                format!("the binary log is only of some databases (binlog_do_db, binlog_ignore_db: {databases})");
            let remedy =
                "take the lines binlog_do_db and binlog_ignore_db out of its configuration, then restart".into();
            problems.push(Problem { what, remedy, is_warning: false, mend: Mend::ByHand });
        }
    }
    if connection.value("SELECT @@gtid_slave_pos <> '' AND NOT @@log_slave_updates").await? == "1" {
        let what = "the server is a replica, and what it receives is not in its own log".to_owned();
        let remedy = "log_slave_updates = 1 in the chapter [mariadb] of its configuration, then restart".to_owned();
        problems.push(Problem { what, remedy, is_warning: false, mend: Mend::ByHand });
    }
    Ok(())
}

/// The release of a version: `10.11` of `10.11.19-MariaDB-log`.
/// A release that the tests do not run.
fn untested(version: &str) -> Option<Problem> {
    if release(version) == Some(TESTED) && version.contains("MariaDB") {
        return None;
    }
    let what = format!("{version} is not tested here: tests run MariaDB {TESTED}");
    let remedy = "trust it once a restore test has passed: this goes with it".to_owned();
    Some(Problem { what, remedy, is_warning: true, mend: Mend::RestoreTest(versions::release(ENGINE, version)) })
}

pub(super) fn release(version: &str) -> Option<&str> {
    let second = version.match_indices('.').nth(1)?.0;
    version.get(..second)
}

fn missing_rights<'a>(grants: impl Iterator<Item = &'a str>) -> Vec<&'static str> {
    let mut has: BTreeSet<&str> = BTreeSet::new();
    for grant in grants {
        let Some((rights, _)) = grant.strip_prefix("GRANT ").and_then(|grant| grant.split_once(" ON *.* TO ")) else {
            continue;
        };
        has.extend(rights.split(", "));
    }
    RIGHTS.into_iter().filter(|right| !has.contains(right) && !has.contains("ALL PRIVILEGES")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_the_server_writes_them() {
        let some = ["GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO `garant`@`localhost` IDENTIFIED VIA unix_socket"];
        assert_eq!(missing_rights(some.into_iter()), ["LOCK TABLES", "REPLICATION SLAVE"]);
        let all = ["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION", "GRANT PROXY ON ''@'%' TO …"];
        assert!(missing_rights(all.into_iter()).is_empty());
        let elsewhere = ["GRANT RELOAD, ALL PRIVILEGES ON `shop`.* TO `garant`@`localhost`"];
        assert_eq!(missing_rights(elsewhere.into_iter()).len(), RIGHTS.len());
    }

    #[test]
    fn a_release_is_two_numbers() {
        assert_eq!(release("10.11.19-MariaDB-0+deb12u1-log"), Some("10.11"));
        assert_eq!(release("11.8.3"), Some("11.8"));
        assert_eq!(release("8"), None);
    }

    /// What the tests do not run is said, until a restore test has passed with it.
    #[test]
    fn a_release_that_is_not_tested_is_named() {
        assert_eq!(untested("10.11.19-MariaDB-0+deb12u1-log"), None);
        for (version, release) in [("11.8.3-MariaDB-log", "11.8"), ("10.11.4-Percona", "10.11")] {
            let problem = untested(version).expect("another one");
            assert!(problem.is_warning && problem.what.contains("not tested here"), "{problem:?}");
            assert_eq!(problem.mend, Mend::RestoreTest(release.into()));
        }
    }
}
