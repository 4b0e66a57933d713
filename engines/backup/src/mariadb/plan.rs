//! What an instant is restored from: a base with those that it builds on, and the pieces of log that go on from it.

use std::sync::Arc;

use event::Time;

use super::base::{BaseFacts, ENGINE};
use super::waiting::Facts;
use crate::bases::Bases;
use crate::database::{DatabaseError, PieceHead};
use crate::sealed::{Catalog, LogPiece, Manifest, PieceName, Repository, RepositoryError};

/// What an instant is restored from.
pub(super) struct Plan {
    /// The full base, and the incremental ones up to the newest before the instant.
    pub(super) sets: Vec<Manifest>,
    /// What the last of them says.
    pub(super) base: BaseFacts,
    /// The log that goes on from it.
    pub(super) pieces: Vec<LogPiece>,
}

/// Whether a piece begins where another one ends: files are whole, and follow each other. How long a file was says the head of the
/// first piece of the next one ([`Facts::before`]).
fn goes_on(before: &PieceName, next: &PieceName) -> bool {
    next.start == 0 && before.file.checked_add(1) == Some(next.file)
}

/// Finds what the instant `to` of `backup` is restored from: the newest base before it whose log is known to reach it.
///
/// # Errors
/// There is none: why not from the newest base before the instant, and which instants there are.
pub(super) async fn plan(
    repository: &Arc<Repository>,
    catalog: &Catalog,
    (backup, to): (&str, Time),
    bases: &Bases,
) -> Result<Plan, DatabaseError> {
    let mut sets: Vec<&Manifest> =
        catalog.sets.iter().map(|entry| &entry.manifest).filter(|set| set.engine == ENGINE).collect();
    sets.sort_by_key(|set| set.consistent_at);
    let unreachable =
        |why: String| DatabaseError::Unreachable(format!("{backup} can't be restored to {to}: {why}{}", bases.words()));
    let Some(first) = sets.first() else { return Err(unreachable("it has no base".to_owned())) };
    let later = sets.iter().find(|set| set.consistent_at > to).map(|set| set.consistent_at);
    let mut first_why = None;
    for set in sets.iter().rev().filter(|set| set.consistent_at <= to) {
        match from(repository, catalog, (set, &sets), to, bases).await? {
            Ok(plan) => return Ok(plan),
            Err(why) => drop(first_why.get_or_insert(why)),
        }
    }
    let later = later.map(|later| format!("; the next base shows {}", next_second(later))).unwrap_or_default();
    Err(unreachable(match first_why {
        Some(why) => format!("{why}{later}"),
        None => format!("its first base shows {}", next_second(first.consistent_at)),
    }))
}

/// The first full second of which everything is at or behind the instant.
fn next_second(at: Time) -> Time {
    Time::from_secs(at.micros().div_euclid(1_000_000) + 1)
}

/// Up to which instant the log goes on from a base without a gap, or why the base is of no use.
pub(super) async fn through(
    repository: &Arc<Repository>,
    catalog: &Catalog,
    set: &Manifest,
) -> Result<Result<Time, String>, DatabaseError> {
    let sets: Vec<&Manifest> = catalog.sets.iter().map(|entry| &entry.manifest).collect();
    Ok(reach(repository, catalog, set, &sets, Listed::All).await?.map(|(_, reach)| reach.through))
}

/// The plan from one base, or why there is none.
async fn from(
    repository: &Arc<Repository>,
    catalog: &Catalog,
    (set, sets): (&Manifest, &[&Manifest]),
    to: Time,
    bases: &Bases,
) -> Result<Result<Plan, String>, DatabaseError> {
    // The newest days of the log first: the others are listed only where those are not enough.
    if let Ok((plan, reach)) = reach(repository, catalog, set, sets, Listed::Recent).await?
        && reach.through >= to
        && bases.against(plan.sets.iter()).is_none()
    {
        return Ok(Ok(plan));
    }
    let (plan, reach) = match reach(repository, catalog, set, sets, Listed::All).await? {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    if let Some(why) = bases.against(plan.sets.iter()) {
        return Ok(Err(why));
    }
    if reach.through < to {
        let through = Time::from_secs(reach.through.micros().div_euclid(1_000_000));
        let why = if reach.has_gap { "a piece of its log is missing" } else { "its log ends" };
        return Ok(Err(format!(
            "{why} behind {through}, the newest instant that can be restored from the base before{}",
            reach.unread
        )));
    }
    Ok(Ok(plan))
}

/// How much of a log is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listed {
    /// The days from the base on.
    Recent,
    /// All of it.
    All,
}

/// How far a plan leads.
struct Reach {
    /// Up to this instant.
    through: Time,
    /// Whether there is more of the log behind a gap.
    has_gap: bool,
    /// What is said of a piece that can't be opened, behind its end.
    unread: String,
}

/// All that goes on from a base, and how far that leads; or why the base is of no use.
async fn reach(
    repository: &Arc<Repository>,
    catalog: &Catalog,
    set: &Manifest,
    sets: &[&Manifest],
    listed: Listed,
) -> Result<Result<(Plan, Reach), String>, DatabaseError> {
    let mut chain = vec![set.clone()];
    while let Some(parent) = chain.last().and_then(|set| set.parent.as_ref()) {
        let Some(found) = sets.iter().find(|set| set.set == *parent) else {
            return Ok(Err(format!("the base {} builds on {parent}, which is not there whole", set.set)));
        };
        if chain.len() > sets.len() {
            return Ok(Err(format!("the base {} builds on itself", set.set)));
        }
        chain.push((*found).clone());
    }
    chain.reverse();
    let base = BaseFacts::of(set)?;
    let Some(log) = &set.log else { return Ok(Err(format!("no log goes on from the base {}", set.set))) };
    // The byte before: a log that ends there and goes on in the next file is whole.
    let at = base.position.at;
    let (mut pieces, mut has_gap) = (Vec::new(), false);
    for start in [at.saturating_sub(1), at] {
        let start = (base.position.file, start);
        (pieces, has_gap) = match listed {
            Listed::Recent => catalog.recent_pieces(log, start, goes_on).await?,
            Listed::All => catalog.pieces(log, start, goes_on).await?,
        };
        // Where nothing had happened for long before the base, that byte may have expired, and is not needed.
        let Some(first) = pieces.first() else { continue };
        let is_before = first.name.file == base.position.file && first.name.end <= at && start.1 < at;
        match if is_before { head_of(repository, first).await.err() } else { None } {
            Some(error) if Repository::is_destroyed(&error) => {}
            _ => break,
        }
    }
    let mut unread = String::new();
    let through = loop {
        let Some(last) = pieces.last() else {
            return Ok(Err(format!("the log {log} does not go on from the base {}{unread}", set.set)));
        };
        match head_of(repository, last).await {
            Ok((head, _)) => break head.through,
            // What comes before it may be all that is needed.
            Err(error @ (RepositoryError::Seal { .. } | RepositoryError::Unusable(_))) => {
                let LogPiece { folder, name, .. } = last;
                tracing::warn!(piece = %format_args!("{folder}/{name}"), %error, "a piece of log can't be opened");
                if unread.is_empty() {
                    unread = format!("; of its log {folder}/{name} can't be opened: {error}");
                }
                pieces.pop();
            }
            // Its key is at no copy: nothing that was sealed with that is of use.
            Err(error) if Repository::is_destroyed(&error) => {
                let folder = last.folder.clone();
                tracing::warn!(folder, %error, "pieces of log can't be opened: their key is not there");
                if unread.is_empty() {
                    unread = format!("; what is in {folder} can't be opened: {error}");
                }
                while pieces.pop_if(|piece| piece.folder == folder).is_some() {}
            }
            Err(error) => return Err(error.into()),
        }
    };
    let reach = Reach { through, has_gap, unread };
    Ok(Ok((Plan { sets: chain, base, pieces }, reach)))
}

/// The head of a piece, and what it says.
pub(super) async fn head_of(repository: &Repository, piece: &LogPiece) -> Result<(PieceHead, Facts), RepositoryError> {
    let name = piece.name.to_string();
    let head = repository.fetch_head(&piece.folder, &name).await?;
    parse_head(&piece.folder, &name, &head)
}

pub(super) fn parse_head(folder: &str, name: &str, head: &[u8]) -> Result<(PieceHead, Facts), RepositoryError> {
    let unusable = |error: serde_json::Error| {
        RepositoryError::Unusable(format!("the head of {folder}/{name} is none of a log of MariaDB: {error}"))
    };
    let head: PieceHead = serde_json::from_slice(head).map_err(unusable)?;
    let facts: Facts = serde_json::from_value(head.facts.clone()).map_err(unusable)?;
    Ok((head, facts))
}
