//! What an instant is restored from: a base before it, and the pieces of log that lead from there to the instant.
//!
//! A timeline is left where a server was promoted. The pieces of the next one go on from there, and those of the old one behind that
//! place are a branch that was given up. An instant is restored as the cluster was that was followed then: on the first timeline that is
//! known to reach it. Between the end of a branch that was given up and the start of the server that went on elsewhere nothing was
//! committed, if the one before had stopped in good order: such an instant is of that one, and else of none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use event::Time;

use super::Lsn;
use super::base::{BaseFacts, ENGINE};
use super::resume::PieceFacts;
use super::server::History;
use crate::bases::Bases;
use crate::database::{DatabaseError, PieceHead};
use crate::sealed::{Catalog, LogPiece, Manifest, Repository, RepositoryError};

/// Most timelines behind the one that is restored whose numbers are kept free.
const TIMELINES_MAX: u32 = 10_000;

/// A piece that can't be opened, with the reason: damaged at every copy, or put there by somebody else.
#[derive(Debug)]
pub(super) struct Unread {
    /// Its whole name.
    pub(super) piece: String,
    pub(super) error: RepositoryError,
}

/// Why there is no plan, or no log by it.
#[derive(Debug)]
pub(super) enum Failure {
    /// A piece can't be opened: perhaps it goes without.
    Unread(Unread),
    /// It can't be done.
    Final(DatabaseError),
}

impl<E: Into<DatabaseError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

impl Failure {
    /// What has come of opening `piece`.
    pub(super) fn of(piece: &LogPiece, error: RepositoryError) -> Self {
        match error {
            RepositoryError::Seal { .. } | RepositoryError::Unusable(_) => {
                Self::Unread(Unread { piece: whole_name(piece), error })
            }
            error if Repository::is_destroyed(&error) => Self::Unread(Unread { piece: whole_name(piece), error }),
            error => Self::Final(error.into()),
        }
    }
}

fn whole_name(piece: &LogPiece) -> String {
    format!("{}/{}", piece.folder, piece.name)
}

/// What an instant is restored from.
#[derive(Debug)]
pub(super) struct Plan {
    /// The base.
    pub(super) set: Manifest,
    /// What its manifest says.
    pub(super) base: BaseFacts,
    /// The log that goes on from it.
    pub(super) route: Vec<Stretch>,
    /// The timeline that it leads to.
    pub(super) timeline: u32,
    /// The timelines before.
    pub(super) history: History,
    /// The highest timeline that anything is known of.
    pub(super) newest_timeline: u32,
}

/// A part of a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) piece: LogPiece,
    /// Its first byte that counts.
    pub(super) from: Lsn,
    /// The first byte behind those that count.
    pub(super) to: Lsn,
}

/// Pieces that go on from each other.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Route {
    stretches: Vec<Stretch>,
    /// Where they end.
    end: Lsn,
    /// Whether there are more behind a gap.
    has_gap: bool,
}

/// Follows the pieces, which are sorted, from the byte `from` on to the end of `timeline`, which has come about by `history`.
fn route(pieces: &[LogPiece], from: Lsn, timeline: u32, history: &History) -> Route {
    let (mut at, mut stretches) = (from, Vec::new());
    let timelines = history.0.iter().copied().chain([(timeline, Lsn(u64::MAX))]);
    for (of, left) in timelines {
        for piece in pieces.iter().filter(|piece| piece.name.file == of) {
            if at >= left || Lsn(piece.name.start) > at {
                break;
            }
            let to = Lsn(piece.name.end).min(left);
            if to > at {
                stretches.push(Stretch { piece: piece.clone(), from: at, to });
                at = to;
            }
        }
    }
    let last = pieces.iter().filter(|piece| piece.name.file == timeline);
    let has_gap = last.clone().any(|piece| Lsn(piece.name.start) > at);
    // Of those that say that nothing happened behind the end, the last one says the most.
    let idle = last.filter(|piece| piece.name.start == piece.name.end && Lsn(piece.name.end) == at);
    if let Some(idle) = idle.max_by_key(|piece| piece.name.seq) {
        stretches.push(Stretch { piece: idle.clone(), from: at, to: at });
    }
    Route { stretches, end: at, has_gap }
}

/// Finds what the instant `to` of `backup` is restored from, without those pieces of log that can't be opened.
///
/// # Errors
/// Nothing leads there: why not from the newest base before it, and which instants there are.
pub(super) async fn plan(
    repository: &Repository,
    catalog: &Catalog,
    (backup, to): (&str, Time),
    unread: &BTreeMap<String, String>,
    bases: &Bases,
) -> Result<Plan, Failure> {
    let mut sets: Vec<&Manifest> =
        catalog.sets.iter().map(|entry| &entry.manifest).filter(|set| set.engine == ENGINE).collect();
    sets.sort_by_key(|set| set.consistent_at);
    let unreachable = |why: String| {
        let unread = unread.iter().next().map(|(piece, why)| format!("; of its log {piece} can't be opened: {why}"));
        let why = format!("{backup} can't be restored to {to}: {why}{}{}", unread.unwrap_or_default(), bases.words());
        Failure::Final(DatabaseError::Unreachable(why))
    };
    let Some(first) = sets.first() else { return Err(unreachable("it has no base".to_owned())) };
    let later = sets.iter().map(|set| set.consistent_at).find(|at| *at > to);
    let mut logs = Logs { repository, catalog, unread, pieces: BTreeMap::new(), heads: BTreeMap::new() };
    let mut first_why = None;
    for set in sets.iter().rev().filter(|set| set.consistent_at <= to) {
        if let Some(why) = bases.against(std::iter::once(*set)) {
            first_why.get_or_insert(why);
            continue;
        }
        match from_base(&mut logs, set, to).await? {
            Ok(plan) => return Ok(plan),
            Err(short) => drop(first_why.get_or_insert(short.why)),
        }
    }
    let later = later.map(|later| format!("; the next base shows {}", next_second(later))).unwrap_or_default();
    Err(unreachable(match first_why {
        Some(why) => format!("{why}{later}"),
        None => format!("its first base shows {}", next_second(first.consistent_at)),
    }))
}

/// The first full second at or behind the instant.
fn next_second(at: Time) -> Time {
    Time::from_secs(at.micros().saturating_add(999_999).div_euclid(1_000_000))
}

/// What is known of the logs: each is listed once, and each head is read once, however many bases are looked at.
struct Logs<'a> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    unread: &'a BTreeMap<String, String>,
    pieces: BTreeMap<String, Arc<Vec<LogPiece>>>,
    heads: BTreeMap<String, (PieceHead, PieceFacts)>,
}

impl Logs<'_> {
    /// The pieces of a log that can be opened, as far as is known.
    async fn pieces(&mut self, log: &str) -> Result<Arc<Vec<LogPiece>>, Failure> {
        if let Some(pieces) = self.pieces.get(log) {
            return Ok(Arc::clone(pieces));
        }
        let mut pieces = self.catalog.all_pieces(log).await?;
        pieces.retain(|piece| !self.unread.contains_key(&whole_name(piece)));
        let pieces = Arc::new(pieces);
        self.pieces.insert(log.to_owned(), Arc::clone(&pieces));
        Ok(pieces)
    }

    /// The head of a piece, and what it says.
    async fn head(&mut self, piece: &LogPiece) -> Result<(PieceHead, PieceFacts), Failure> {
        let name = whole_name(piece);
        if let Some(head) = self.heads.get(&name) {
            return Ok(head.clone());
        }
        let head = self.repository.fetch_head(&piece.folder, &piece.name.to_string()).await;
        let head = read_head(piece, &head.map_err(|error| Failure::of(piece, error))?)?;
        self.heads.insert(name, head.clone());
        Ok(head)
    }
}

/// Up to which instant the log goes on from a base without a gap, or why the base is of no use.
///
/// # Errors
/// The repository fails, or a head can't be opened.
pub(super) async fn through(
    repository: &Repository,
    catalog: &Catalog,
    set: &Manifest,
) -> Result<Result<Time, String>, DatabaseError> {
    let mut unread = BTreeMap::new();
    loop {
        let mut logs = Logs { repository, catalog, unread: &unread, pieces: BTreeMap::new(), heads: BTreeMap::new() };
        match from_base(&mut logs, set, Time::from_micros(i64::MAX)).await {
            Ok(Ok(plan)) => return Ok(Err(format!("the log of the base {} has no end", plan.set.set))),
            Ok(Err(short)) => return Ok(short.through.ok_or(short.why)),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Unread(Unread { piece, error })) => drop(unread.insert(piece, error.to_string())),
        }
    }
}

/// The timeline that leads furthest from a base, of those that were looked at.
struct Newest {
    through: Time,
    route: Route,
    timeline: u32,
    history: History,
    /// Whether its server has stopped in good order.
    is_stopped: bool,
}

/// The log does not lead from a base to an instant.
struct Short {
    why: String,
    /// How far it leads, if the base is of use.
    through: Option<Time>,
}

impl From<String> for Short {
    fn from(why: String) -> Self {
        Self { why, through: None }
    }
}

/// The plan from one base, or why there is none.
async fn from_base(logs: &mut Logs<'_>, set: &Manifest, to: Time) -> Result<Result<Plan, Short>, Failure> {
    let name = &set.set;
    let base: BaseFacts = serde_json::from_value(set.facts.clone()).map_err(|error| {
        RepositoryError::Unusable(format!("the manifest of the base {name} is of no use here: {error}"))
    })?;
    let Some(log) = &set.log else { return Ok(Err(format!("no log goes on from the base {name}").into())) };
    let pieces = logs.pieces(log).await?;
    let timelines: BTreeSet<u32> = pieces.iter().map(|piece| piece.name.file).collect();
    let newest_timeline = timelines.last().copied().unwrap_or(0).max(base.timeline);
    let from = base.start.segment_start(base.segment_bytes);
    let mut newest: Option<Newest> = None;
    let mut given_up = None;
    for timeline in timelines.into_iter().filter(|timeline| *timeline >= base.timeline) {
        let last = pieces.iter().filter(|piece| piece.name.file == timeline).max_by_key(|piece| piece.name.seq);
        let Some(last) = last else { continue };
        let (_, PieceFacts { history, .. }) = logs.head(last).await?;
        let is_left_behind = history.left(base.timeline).is_some_and(|left| base.stop <= left);
        if history.of(base.timeline) != base.history || (timeline != base.timeline && !is_left_behind) {
            continue;
        }
        let route = route(&pieces, from, timeline, &history);
        // A gap on an older timeline ends there, and says nothing of this one.
        let Some(end) = route.stretches.last().filter(|end| end.piece.name.file == timeline) else { continue };
        let (head, facts) = logs.head(&end.piece).await?;
        let is_given_up = |of: &LogPiece| {
            of.name.file < timeline && history.left(of.name.file).is_none_or(|left| Lsn(of.name.end) > left)
        };
        if newest.is_some() && pieces.iter().any(is_given_up) {
            let first = pieces.iter().filter(|piece| piece.name.file == timeline).min_by_key(|piece| piece.name.seq);
            let started = logs.head(first.unwrap_or(last)).await?.1.started;
            if started.is_some_and(|started| to < started) {
                given_up = started;
                break;
            }
        }
        let reaches = head.through >= to && route.end >= base.stop;
        if reaches || newest.as_ref().is_none_or(|newest| newest.through < head.through) {
            let is_stopped = facts.is_stopped;
            newest = Some(Newest { through: head.through, route, timeline, history, is_stopped });
        }
        if reaches {
            break;
        }
    }
    // Of a server that had stopped, all instants until the next one was started are those of its end.
    let is_it = |newest: &Newest| newest.through >= to || (given_up.is_some() && newest.is_stopped);
    if let Some(Newest { route, timeline, history, .. }) =
        newest.take_if(|newest| is_it(newest) && newest.route.end >= base.stop)
    {
        let newest_timeline = newest_timeline.min(timeline.saturating_add(TIMELINES_MAX));
        return Ok(Ok(Plan { set: set.clone(), base, route: route.stretches, timeline, history, newest_timeline }));
    }
    Ok(Err(match newest {
        None => format!("the log {log} does not go on from the base {name}").into(),
        Some(Newest { route, .. }) if route.end < base.stop => {
            format!("the log {log} ends at {} before the base {name} is whole, at {}", route.end, base.stop).into()
        }
        Some(Newest { through, route, .. }) => {
            let why = match given_up {
                Some(started) => {
                    format!("another past was gone on with from {started} on, and the log of this one ends")
                }
                None if route.has_gap => "a part of its log is missing".to_owned(),
                None => "its log ends".to_owned(),
            };
            let second = Time::from_secs(through.micros().div_euclid(1_000_000));
            let why = format!(
                "{why} behind {second}, at {}: that is the newest instant that can be restored before it",
                route.end
            );
            Short { why, through: Some(through) }
        }
    }))
}

/// Reads the head of a piece.
pub(super) fn read_head(piece: &LogPiece, head: &[u8]) -> Result<(PieceHead, PieceFacts), Failure> {
    PieceFacts::read(head).map_err(|error| {
        Failure::of(piece, RepositoryError::Unusable(format!("its head is none of a log of PostgreSQL: {error}")))
    })
}
