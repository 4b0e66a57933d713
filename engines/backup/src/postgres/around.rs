//! The transactions around an instant, for people who choose it: when, which, and what they touched, as far as the log says that
//! without values. The log knows tables by the numbers of their files alone; what was restored knows their names.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use event::{Span, Time};

use super::log_files::Committed;
use super::plan::{Failure, plan, read_head};
use super::records::{Change, Record, Records, Relation};
use crate::bases::Bases;
use crate::checks::Examined;
use crate::database::{Around, DatabaseError, TOUCHED_MAX, Watcher};
use crate::sealed::{Catalog, Repository};

/// Most transactions whose records are counted at once.
const OPEN_MAX: usize = 10_000;

/// What a transaction has done so far.
#[derive(Clone, Default, Debug)]
struct Tally {
    bytes: u64,
    /// Records that insert, update and delete, by table.
    tables: BTreeMap<Relation, [u64; 3]>,
    drops_files: bool,
}

impl Tally {
    fn add(&mut self, record: &Record) {
        self.bytes += record.end.0 - record.start.0;
        let (relation, column) = match record.change {
            Some(Change::Inserts(relation)) => (relation, 0),
            Some(Change::Updates(relation)) => (relation, 1),
            Some(Change::Deletes(relation)) => (relation, 2),
            Some(Change::DropsFiles) => return self.drops_files = true,
            None => return,
        };
        if self.tables.len() < TOUCHED_MAX || self.tables.contains_key(&relation) {
            let counts = self.tables.entry(relation).or_default();
            if let Some(count) = counts.get_mut(column) {
                *count += 1;
            }
        }
    }

    fn words(&self) -> Vec<String> {
        let dropped = self.drops_files.then(|| "files of tables or indexes are dropped".to_owned());
        let tables = self.tables.iter().map(|(relation, counts)| {
            let words = ["inserted", "updated", "deleted"].into_iter().zip(counts).filter(|(_, count)| **count > 0);
            let words: Vec<String> = words.map(|(word, count)| format!("{count} {word}")).collect();
            format!("{}: {}", in_file(relation.database, relation.file), words.join(", "))
        });
        dropped.into_iter().chain(tables).take(TOUCHED_MAX).collect()
    }
}

/// The words for a table that has no name in the log.
fn in_file(database: u32, file: u32) -> String {
    format!("the table in the file {database}/{file}")
}

/// How long names are waited for.
const NAMED_WITHIN: Span = Span::from_secs(30);
/// All databases.
const DATABASES: &str = "select oid, datname from pg_database where datallowconn";
/// The files of all tables of a database, with their names.
const TABLES: &str = "select pg_relation_filenode(c.oid), format('%I.%I', n.nspname, c.relname) from pg_class c \
                      join pg_namespace n on n.oid = c.relnamespace where pg_relation_filenode(c.oid) is not null";

/// Gives tables their names, where a server on what was restored knows them: what was made or written anew behind the instant keeps
/// the number of its file.
pub(super) async fn name_tables(server: &dyn Examined, around: &mut [Around]) -> Result<(), String> {
    for row in server.ask("postgres", DATABASES, NAMED_WITHIN, u16::MAX).await? {
        let [Some(number), Some(database)] = row.as_slice() else { continue };
        let Ok(number) = number.parse() else { continue };
        let of_it = in_file(number, 0);
        let of_it = of_it.trim_end_matches('0');
        if !around.iter().flat_map(|around| &around.touched).any(|words| words.starts_with(of_it)) {
            continue;
        }
        let mut names = BTreeMap::new();
        for row in server.ask(database, TABLES, NAMED_WITHIN, u16::MAX).await? {
            if let [Some(file), Some(name)] = row.as_slice()
                && let Ok(file) = file.parse()
            {
                names.insert(in_file(number, file), format!("{name} of {database}"));
            }
        }
        for words in around.iter_mut().flat_map(|around| &mut around.touched) {
            let named = words.split_once(": ").and_then(|(table, rest)| Some(format!("{}: {rest}", names.get(table)?)));
            *words = named.unwrap_or_else(|| std::mem::take(words));
        }
    }
    Ok(())
}

/// Counts what transactions do, and keeps those around the instant.
struct Counting {
    open: BTreeMap<u32, Tally>,
    each: usize,
    before: VecDeque<Around>,
    behind: Vec<Around>,
}

impl Counting {
    fn record(&mut self, record: Record, is_in: impl Fn(Time) -> bool) {
        let number = record.transaction;
        if number != 0 {
            if self.open.len() >= OPEN_MAX && !self.open.contains_key(&number) {
                // Those that were rolled back, or are at work for long.
                self.open.pop_first();
            }
            self.open.entry(number).or_default().add(&record);
        }
        let Some(at) = record.commit else { return };
        let tally = self.open.remove(&number).unwrap_or_default();
        let is_in = self.behind.is_empty() && is_in(at);
        let around = Around {
            commit: Committed { record, at }.commit(),
            transaction: (number != 0).then_some(number),
            bytes: tally.bytes,
            touched: tally.words(),
            is_in,
        };
        if !is_in {
            self.behind.push(around);
            return;
        }
        self.before.push_back(around);
        if self.before.len() > self.each {
            self.before.pop_front();
        }
    }
}

/// The transactions around the instant, `each` on either side at most, in their order.
pub(super) async fn around(
    repository: &Arc<Repository>,
    (backup, to, each): (&str, Time, usize),
    watcher: &dyn Watcher,
) -> Result<Vec<Around>, DatabaseError> {
    let catalog = Catalog::read(repository, backup).await?;
    let bases = Bases::of(&catalog, to, Path::new(""));
    let found = async {
        let plan = plan(repository, &catalog, (backup, to), &BTreeMap::new(), &bases).await?;
        let (start, stop, segment_bytes) = (plan.base.start, plan.base.stop, plan.base.segment_bytes);
        let mut records = Records::starting_at(start.segment_start(segment_bytes), segment_bytes, None);
        let mut around = Counting { open: BTreeMap::new(), each, before: VecDeque::new(), behind: Vec::new() };
        let mut bytes = 0;
        for stretch in plan.route {
            let name = &stretch.piece.name;
            let fetched = repository.fetch(&stretch.piece.folder, &name.to_string()).await;
            let (head, payload) = fetched.map_err(|error| Failure::of(&stretch.piece, error))?;
            let (_, facts) = read_head(&stretch.piece, &head)?;
            let place = |at: u64| usize::try_from(at - name.start).unwrap_or(usize::MAX);
            let part = payload.get(place(stretch.from.0)..place(stretch.to.0)).unwrap_or_default();
            let instant = to + Span::from_micros(facts.clock_ahead_us);
            let fed = records.feed(part, |record| around.record(record, |at| record.end <= stop || at < instant));
            fed.map_err(|error| DatabaseError::Database(error.to_string()))?;
            bytes += stretch.to.0 - stretch.from.0;
            watcher.doing("log", bytes, None);
            if stretch.to >= stop && around.behind.len() >= each {
                break;
            }
        }
        around.behind.truncate(each);
        Ok::<_, Failure>(around.before.into_iter().chain(around.behind).collect())
    };
    found.await.map_err(|failure| match failure {
        Failure::Unread(unread) => unread.error.into(),
        Failure::Final(error) => error,
    })
}
