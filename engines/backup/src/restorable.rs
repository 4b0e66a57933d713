//! What can be restored: the stretches of time of a backup, from a base to where its log ends or has a gap.

use std::sync::Arc;

use event::Time;
use serde::Serialize;

use crate::database::DatabaseError;
use crate::sealed::{Catalog, Repository};
use crate::sources;

/// A stretch of time, each instant of which can be restored, as far as listings and the heads of pieces tell.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Restorable {
    /// The log; `None` where single bases can be restored alone.
    pub log: Option<String>,
    /// The first instant.
    pub from: Time,
    /// The last instant.
    pub through: Time,
    /// Up to when the log leads that goes on from the base; before `from`, where what lies around the base is still on its way.
    #[serde(skip)]
    pub(crate) log_through: Time,
}

impl Restorable {
    /// An instant that can be restored alone.
    pub(crate) const fn instant(at: Time) -> Self {
        Self { log: None, from: at, through: at, log_through: at }
    }

    /// The first full second of it, where the log has not come as far yet.
    pub(crate) fn to_come(&self) -> Option<Time> {
        let is_whole = self.from.micros().rem_euclid(1_000_000) == 0;
        (self.log.is_some() && !is_whole).then(|| Time::from_secs(self.from.micros().div_euclid(1_000_000) + 1))
    }

    /// Whether something of the log is missing between this stretch and the next one: not where the log simply has not come further yet.
    pub(crate) fn has_gap_before(&self, next: &Self) -> bool {
        self.log == next.log && next.log_through > self.log_through
    }
}

/// The stretches of a backup, the oldest first. Bases of no use, as those whose log is not there, begin none.
///
/// # Errors
/// No copy answers, or the end of a log is whole at none.
pub async fn restorable(repository: &Arc<Repository>, catalog: &Catalog) -> Result<Vec<Restorable>, DatabaseError> {
    Ok(reach(repository, catalog).await?.stretches)
}

/// How far the bases of a backup lead.
pub(crate) struct Reached {
    /// What can be restored.
    pub(crate) stretches: Vec<Restorable>,
    /// Bases of no use, with the reason.
    pub(crate) unusable: Vec<(String, String)>,
}

/// How far the bases of a backup lead; one that lies in the stretch of another is not followed.
///
/// # Errors
/// No copy answers, or the end of a log is whole at none.
pub(crate) async fn reach(repository: &Arc<Repository>, catalog: &Catalog) -> Result<Reached, DatabaseError> {
    let (mut stretches, mut unusable): (Vec<Restorable>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    let mut sets: Vec<_> = catalog.sets.iter().map(|entry| &entry.manifest).collect();
    sets.sort_by_key(|set| set.consistent_at);
    for set in sets {
        let (log, from) = (&set.log, set.consistent_at);
        if stretches.iter().any(|stretch| stretch.log == *log && stretch.through >= from) {
            continue;
        }
        match sources::through(repository, catalog, set).await? {
            Ok(log_through) => {
                let through = log_through.max(from);
                // Instants are full seconds, and the first of them lies behind what the base shows.
                let first = Time::from_secs(from.micros().div_euclid(1_000_000) + 1);
                stretches.push(Restorable { log: log.clone(), from: first.min(through), through, log_through });
            }
            Err(why) => {
                tracing::debug!(set = set.set, why, "a base is of no use");
                unusable.push((set.set.clone(), why));
            }
        }
    }
    Ok(Reached { stretches, unusable })
}
