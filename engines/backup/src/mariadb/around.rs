//! The transactions around an instant, for people who choose it: when, which, and what they touched, as far as the log says that
//! without values.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use engine::Context;
use event::Time;

use super::events::{FORMAT_DESCRIPTION, GTID, HEADER_BYTES, Header, ROTATE};
use super::log_files::{LogFiles, Transaction};
use super::plan::plan;
use super::restore::{Log, fetch};
use crate::bases::Bases;
use crate::database::{Around, DatabaseError, TOUCHED_MAX, Watcher};
use crate::sealed::{Catalog, Repository};
use crate::work::WorkFolder;

/// Kinds of events: a statement, the end of a file, the table that rows are of, rows, places of other logs.
const QUERY: u8 = 2;
const STOP: u8 = 3;
const TABLE_MAP: u8 = 19;
const INSERTS: [u8; 3] = [23, 30, 166];
const UPDATES: [u8; 3] = [24, 31, 167];
const DELETES: [u8; 3] = [25, 32, 168];
const BINLOG_CHECKPOINT: u8 = 161;
const GTID_LIST: u8 = 163;
const QUERY_COMPRESSED: u8 = 165;
/// Most bytes of an event that are looked at.
const LOOKED_AT_MAX: usize = 4096;
/// Words that a statement may begin with and that name no data.
const WORDS: [&str; 34] = [
    "CREATE",
    "OR",
    "REPLACE",
    "TEMPORARY",
    "DROP",
    "ALTER",
    "TRUNCATE",
    "RENAME",
    "TABLE",
    "TABLES",
    "DATABASE",
    "SCHEMA",
    "INDEX",
    "UNIQUE",
    "VIEW",
    "TRIGGER",
    "PROCEDURE",
    "FUNCTION",
    "EVENT",
    "SEQUENCE",
    "USER",
    "ROLE",
    "IF",
    "NOT",
    "EXISTS",
    "GRANT",
    "REVOKE",
    "INSERT",
    "INTO",
    "UPDATE",
    "DELETE",
    "FROM",
    "ANALYZE",
    "OPTIMIZE",
];

/// The transactions around the instant, `each` on either side at most, in their order.
pub(super) async fn around(
    context: &Context,
    repository: &Arc<Repository>,
    (backup, to, each): (&str, Time, usize),
    work: &Path,
    watcher: &dyn Watcher,
) -> Result<Vec<Around>, DatabaseError> {
    let to = Time::from_secs(to.micros().div_euclid(1_000_000));
    let catalog = Catalog::read(repository, backup).await?;
    let plan = plan(repository, &catalog, (backup, to), &Bases::of(&catalog, to, work)).await?;
    let work = WorkFolder::new(work, "around", context)?;
    let Log { files, cut, .. } =
        fetch(repository, &plan.base, &plan.pieces, (to, each.max(1)), work.path(), watcher).await?;
    let failed = |error| DatabaseError::Files { path: work.path().to_owned(), error };
    let (mut before, mut behind) = (VecDeque::new(), Vec::new());
    let mut transactions = files.transactions();
    while let Some(transaction) = transactions.next(&files).map_err(failed)? {
        if transaction.position >= cut.position {
            if behind.len() >= each {
                break;
            }
            behind.push(transaction);
        } else {
            before.push_back(transaction);
            if before.len() > each {
                before.pop_front();
            }
        }
    }
    let shown = before.into_iter().map(|it| (it, true)).chain(behind.into_iter().map(|it| (it, false)));
    shown.map(|(transaction, is_in)| read(&files, &transaction, is_in).map_err(failed)).collect()
}

/// Reads what a transaction touched.
fn read(files: &LogFiles, transaction: &Transaction, is_in: bool) -> io::Result<Around> {
    let mut file = File::open(files.path(transaction.position.file))?;
    let end = file.metadata()?.len();
    let mut at = transaction.position.at;
    file.seek(SeekFrom::Start(at))?;
    let mut file = BufReader::new(file);
    let (mut bytes, mut said) = (0, Said::default());
    loop {
        let mut header = [0; HEADER_BYTES];
        if at + header.len() as u64 > end {
            break;
        }
        file.read_exact(&mut header)?;
        let Some(header) = Header::parse(&header) else { break };
        let is_behind = at > transaction.position.at && header.kind == GTID;
        if is_behind || [ROTATE, STOP, FORMAT_DESCRIPTION, BINLOG_CHECKPOINT, GTID_LIST].contains(&header.kind) {
            break;
        }
        let size = u64::from(header.size);
        let body = usize::try_from(size).unwrap_or(0).saturating_sub(HEADER_BYTES).min(LOOKED_AT_MAX);
        let body = body.min(usize::try_from(end.saturating_sub(at)).unwrap_or(0).saturating_sub(HEADER_BYTES));
        let mut looked_at = vec![0; body];
        file.read_exact(&mut looked_at)?;
        said.event(&header, &looked_at);
        let rest = i64::try_from(size).unwrap_or(0) - i64::try_from(HEADER_BYTES + body).unwrap_or(0);
        file.seek_relative(rest.max(0))?;
        at += size;
        bytes += size;
    }
    Ok(Around { commit: transaction.commit(), transaction: None, bytes, touched: said.words(), is_in })
}

/// What the events of a transaction say.
#[derive(Default)]
struct Said {
    tables: BTreeMap<u64, String>,
    /// Bytes of rows, by what was done to which table.
    rows: BTreeMap<(&'static str, String), u64>,
    statements: Vec<String>,
}

impl Said {
    fn event(&mut self, header: &Header, body: &[u8]) {
        let done = [(&INSERTS, "insert into"), (&UPDATES, "update"), (&DELETES, "delete from")];
        let done = done.into_iter().find(|(kinds, _)| kinds.contains(&header.kind)).map(|(_, done)| done);
        match (header.kind, done) {
            (_, Some(done)) => {
                let table = table_number(body).and_then(|number| self.tables.get(&number));
                let table = table.map_or("a table", String::as_str).to_owned();
                *self.rows.entry((done, table)).or_default() += u64::from(header.size);
            }
            (TABLE_MAP, _) => drop(table(body).map(|(number, name)| self.tables.insert(number, name))),
            (QUERY, _) => self.statements.extend(statement(body)),
            (QUERY_COMPRESSED, _) => self.statements.push("a statement".to_owned()),
            _ => {}
        }
    }

    fn words(self) -> Vec<String> {
        let rows = self.rows.into_iter().map(|((done, table), bytes)| format!("{done} {table} ({bytes} bytes)"));
        self.statements.into_iter().chain(rows).take(TOUCHED_MAX).collect()
    }
}

fn table_number(body: &[u8]) -> Option<u64> {
    let mut number = [0; 8];
    number.get_mut(..6)?.copy_from_slice(body.get(..6)?);
    Some(u64::from_le_bytes(number))
}

/// Number and name of a table: six bytes, two of flags, and two names, each behind its length and in front of a zero.
fn table(body: &[u8]) -> Option<(u64, String)> {
    let number = table_number(body)?;
    let (length, rest) = body.get(8..)?.split_first()?;
    let (database, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.get(1..)?.split_first()?;
    let table = rest.get(..usize::from(*length))?;
    Some((number, format!("{}.{}", String::from_utf8_lossy(database), String::from_utf8_lossy(table))))
}

/// A statement as far as it holds no values: what it does, and to what. `None` of those around a transaction.
fn statement(body: &[u8]) -> Option<String> {
    // Session, duration, length of the database, error, length of the variables.
    let database = usize::from(*body.get(8)?);
    let variables = usize::from(u16::from_le_bytes(*body.get(11..)?.first_chunk()?));
    let text = body.get(13 + variables + database + 1..)?;
    let text = String::from_utf8_lossy(text);
    let mut words = text.split_whitespace();
    let mut said: Vec<&str> = Vec::new();
    let is_known = |word: &str| WORDS.iter().any(|known| known.eq_ignore_ascii_case(word));
    let name = words.by_ref().find(|word| {
        let known = is_known(word);
        if known {
            said.push(word);
        }
        !known
    });
    let first = *said.first()?;
    // What comes behind these is a name; behind others it may be anything.
    let names = ["CREATE", "DROP", "ALTER", "TRUNCATE", "RENAME"];
    let is_named = names.iter().any(|known| known.eq_ignore_ascii_case(first)) && said.len() > 1
        || first.eq_ignore_ascii_case("TRUNCATE");
    let name = name.filter(|_| is_named).map(|name| name.split(['(', ';', '\'', '"']).next().unwrap_or_default());
    Some(said.into_iter().chain(name).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(sql: &str) -> Option<String> {
        let mut body = vec![0; 13];
        (body[8], body[11]) = (4, 3);
        body.extend([9; 3]);
        body.extend(b"shop\0");
        body.extend(sql.as_bytes());
        statement(&body)
    }

    #[test]
    fn statements_are_named_without_values() {
        for (sql, said) in [
            ("DROP TABLE `shop`.`ledger` /* generated by server */", Some("DROP TABLE `shop`.`ledger`")),
            ("create or replace table t(a int default 7)", Some("create or replace table t")),
            ("CREATE USER 'ada'@'example' IDENTIFIED BY 'secret'", Some("CREATE USER ")),
            ("TRUNCATE t", Some("TRUNCATE t")),
            ("INSERT INTO customers VALUES ('ada')", Some("INSERT INTO")),
            ("GRANT SELECT ON shop.* TO ada", Some("GRANT")),
            ("BEGIN", None),
            ("COMMIT", None),
            ("# a comment", None),
        ] {
            assert_eq!(query(sql).as_deref(), said, "{sql}");
        }
        for length in 0..20 {
            assert_eq!(statement(&vec![0; length]), None);
        }
    }

    #[test]
    fn rows_are_of_tables() {
        let mut map = vec![7, 0, 0, 0, 0, 0, 1, 0, 4];
        map.extend(b"shop\0\x06ledger\0");
        assert_eq!(table(&map), Some((7, "shop.ledger".to_owned())));
        for length in 0..map.len() - 1 {
            assert_eq!(table(&map[..length]), None, "{length}");
        }
    }
}
