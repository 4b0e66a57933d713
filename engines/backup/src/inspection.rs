//! The check that comes by itself, each day, of what is stored of one backup.
//!
//! **Problem.** What nobody reads rots unseen: a bit at one copy, a pack at all of them, a piece of log that somebody removed. A restore
//! test meets little of it, and a comparison of listings none.
//! **Principle.** Listings are reconciled with what manifests, index and the numbers of pieces say is there; a thirtieth of the objects of
//! each copy is read again and verified, another one each time, so that all of it is within a month. What is found is a finding at once,
//! and where something is whole at no copy a new base is taken, so that what comes from now on does not rest on it. What was found
//! damaged is read again each time, until it is whole or gone.
//!
//! That a copy lacks what another one has is not looked for here: listings are compared each quarter of an hour, and levelled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use engine::Context;
use event::{Span, Time};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use crate::board::Board;
use crate::check::{OpenGap, open_gaps};
use crate::database::DatabaseError;
use crate::events::Inspected;
use crate::files::{Files, FilesError, Lease};
use crate::objects::Why;
use crate::pace::Pace;
use crate::restorable::reach;
use crate::sealed::{Catalog, PieceName, Repository, RepositoryError, key_name};

/// How many shares the objects of a copy are read in.
pub(crate) const PARTS: u32 = 30;
/// How long after a check the next one is made.
const EVERY: Span = Span::from_days(1);
/// The same where something was found, or could not be looked at; twice as long each time.
const AGAIN_MIN: Span = Span::from_secs(15 * 60);
/// How long the first check waits after the start.
const FIRST_AFTER: Span = Span::from_secs(300);
/// After how long what the last check found says nothing any more.
pub(crate) const STALE: Span = Span::from_days(2);
/// Most damaged objects that are remembered, and read again each time.
const DAMAGED_MAX: usize = 10_000;
/// Most of them that are named.
pub(crate) const NAMED_MAX: usize = 20;

/// An object that is not what was stored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Debug)]
pub(crate) struct Damaged {
    /// The copy, by its name in the policy.
    pub(crate) copy: String,
    /// The object.
    pub(crate) object: String,
    /// What is wrong with it.
    pub(crate) why: String,
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub(crate) struct Inspection {
    /// When the last one ended that could look at everything.
    pub(crate) at: Option<Time>,
    /// The share that was read last at each copy, from 1 to [`PARTS`].
    pub(crate) parts: BTreeMap<String, u32>,
    /// Bytes that were read.
    pub(crate) read: u64,
    /// Objects that are damaged at a copy.
    pub(crate) damaged: Vec<Damaged>,
    /// Objects that are damaged at every copy.
    #[serde(default)]
    pub(crate) rotten: BTreeSet<String>,
    /// What is whole at no copy, in words.
    pub(crate) lost: Vec<String>,
    /// Where a log has a gap.
    pub(crate) gaps: Vec<String>,
    /// What could not be looked at, with the cause.
    pub(crate) unseen: Vec<String>,
}

impl Inspection {
    /// Whether all is as it was stored, as far as could be seen.
    pub(crate) fn is_well(&self) -> bool {
        self.damaged.is_empty() && self.lost.is_empty() && self.gaps.is_empty()
    }

    /// Whether it says how things are now.
    pub(crate) fn is_known(&self, now: Time) -> bool {
        self.unseen.is_empty() && self.at.is_some_and(|at| now.since(at) <= STALE)
    }

    /// What is wrong, in words: what is lost first.
    pub(crate) fn words(&self) -> Vec<String> {
        let damaged = self.damaged.iter().map(|it| format!("{}: {}: {}", it.copy, it.object, it.why));
        let all: Vec<String> = self.gaps.iter().chain(&self.lost).cloned().chain(damaged).collect();
        let more = all.len().saturating_sub(NAMED_MAX);
        let more = (more > 0).then(|| format!("and {more} more"));
        all.into_iter().take(NAMED_MAX).chain(more).collect()
    }
}

/// What is checked.
pub(crate) enum Of {
    /// Bases and logs of a database.
    Database,
    /// Snapshots of files.
    Files(Files),
}

/// Checks one backup.
pub(crate) struct Inspector {
    pub(crate) name: String,
    pub(crate) of: Of,
    pub(crate) repository: Arc<Repository>,
    pub(crate) board: Arc<Board>,
    /// Where what was found is kept over restarts.
    pub(crate) remembered: PathBuf,
    /// At most so much is read in a second, by all of them together.
    pub(crate) pace: Arc<Pace>,
    /// Has a new base taken.
    pub(crate) base_now: Arc<Notify>,
}

/// All objects of a backup, each with the copies that have it and its size there.
type Found = BTreeMap<String, Vec<(usize, u64)>>;

impl Inspector {
    /// Checks each day, until the engine stops.
    pub(crate) async fn tend(self, context: Context) {
        let mut last = self.remember();
        self.repository.distrust(&self.name, last.rotten.clone());
        self.board.inspected(&self.name, last.clone());
        let mut again = AGAIN_MIN;
        let mut due = match last.at {
            Some(at) if last.is_well() => at + EVERY,
            Some(at) => at + AGAIN_MIN,
            None => context.clock.now() + FIRST_AFTER,
        };
        while let Some(found) = self.when_due(due, &last, &context).await {
            let wait = if found.is_well() && found.unseen.is_empty() { EVERY } else { again };
            again = if wait == EVERY { AGAIN_MIN } else { (again + again).min(EVERY) };
            due = context.clock.now() + wait;
            last = found;
        }
    }

    /// Waits until a check is due and makes it; `None` when it is to stop.
    async fn when_due(&self, due: Time, last: &Inspection, context: &Context) -> Option<Inspection> {
        loop {
            let left = due.since(context.clock.now());
            if left <= Span::ZERO {
                break;
            }
            tokio::select! {
                () = context.stop.cancelled() => return None,
                // A clock that is set meanwhile moves what is due: nobody sleeps for longer than a minute.
                () = tokio::time::sleep(left.min(Span::from_secs(60)).to_std()) => {}
            }
        }
        tokio::select! {
            () = context.stop.cancelled() => None,
            found = self.check(last, context) => Some(found),
        }
    }

    /// Makes a check, says what it found, and has a base taken where one is needed.
    async fn check(&self, last: &Inspection, context: &Context) -> Inspection {
        let began = context.clock.monotonic();
        let found = self.inspect(last, context).await;
        let event = Inspected {
            backup: self.name.clone(),
            read: found.read,
            took: context.clock.monotonic().since(began),
            wrong: found.words(),
            unseen: found.unseen.clone(),
        };
        if let Err(error) = context.recorder.record(&event).await {
            tracing::error!(%error, "a check is not recorded");
        }
        for wrong in &event.wrong {
            tracing::error!(backup = self.name, wrong, "a check found what is not as it was stored");
        }
        let has_gap = is_news(&found.gaps, &last.gaps);
        if has_gap {
            let why = format!("{}: a new base is taken, and what lies there can't be restored", found.gaps.join("; "));
            self.board.log_broken(&self.name, &why);
        }
        self.repository.distrust(&self.name, found.rotten.clone());
        if has_gap || is_news(&found.lost, &last.lost) {
            self.base_now.notify_one();
        }
        let text = serde_json::to_vec(&found).unwrap_or_default();
        if let Err(error) = std::fs::write(&self.remembered, text) {
            tracing::warn!(%error, "what a check found can't be written down");
        }
        self.board.inspected(&self.name, found.clone());
        found
    }

    fn remember(&self) -> Inspection {
        let text = std::fs::read(&self.remembered).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    async fn inspect(&self, last: &Inspection, context: &Context) -> Inspection {
        let mut found = Inspection { at: last.at, parts: last.parts.clone(), ..Inspection::default() };
        // Before objects are listed: all of a base is there before its manifest.
        let listed = async {
            let catalog = match self.of {
                Of::Database => Some(Catalog::read(&self.repository, &self.name).await?),
                Of::Files(_) => None,
            };
            let (objects, silent) = self.objects(&mut found).await?;
            Ok::<_, RepositoryError>((catalog, objects, silent))
        };
        let (catalog, objects, silent) = match listed.await {
            Ok(listed) => listed,
            Err(error) => {
                return Inspection { read: 0, unseen: vec![error.to_string()], ..last.clone() };
            }
        };
        if found.unseen.is_empty() {
            let reconciled = match (&self.of, &catalog) {
                (Of::Files(files), _) => self.reconcile_files(files, context, &mut found).await,
                (Of::Database, Some(catalog)) => {
                    self.reconcile(catalog, &objects, &mut found).await.map_err(|error| error.to_string())
                }
                (Of::Database, None) => Ok(()),
            };
            found.unseen.extend(reconciled.err());
        }
        // Where an index does not lead to what is needed, which packs are to blame is known once they are read.
        let reads_all = matches!(self.of, Of::Files(_)) && is_news(&found.lost, &last.lost);
        self.read(&objects, (last, reads_all), silent, &mut found).await;
        if found.unseen.is_empty() {
            found.at = Some(context.clock.now());
        } else {
            // What was lost may lie at the copy that is away; until it is back nobody knows more than before.
            found.gaps.extend(last.gaps.iter().filter(|gap| !found.gaps.contains(gap)).cloned().collect::<Vec<_>>());
            found.rotten.extend(last.rotten.iter().cloned());
            found.lost.extend(last.lost.iter().filter(|lost| !found.lost.contains(lost)).cloned().collect::<Vec<_>>());
        }
        found
    }

    /// All objects, and the copies that can't be listed.
    async fn objects(&self, found: &mut Inspection) -> Result<(Found, BTreeSet<usize>), RepositoryError> {
        let name = &self.name;
        // Keys last: one is there before what is sealed under it.
        let prefixes = match self.of {
            Of::Database => {
                ["sets/", "logs/", "keys/sets/", "keys/logs/"].map(|kind| format!("{kind}{name}/")).to_vec()
            }
            Of::Files(_) => vec![format!("restic/{name}/")],
        };
        let (mut objects, mut silent) = (Found::new(), BTreeSet::new());
        for prefix in prefixes {
            let (listed, errors) = self.repository.list(&prefix).await?;
            found.unseen.extend(errors.iter().map(ToString::to_string));
            let is_silent =
                |at: &usize| errors.iter().any(|it| it.place == self.repository.copies()[*at].objects.place());
            silent.extend((0..self.repository.copies().len()).filter(is_silent));
            objects.extend(listed);
        }
        Ok((objects, silent))
    }

    /// Reads the next share of each copy, or all of it, and what was found damaged before. Copies that do not answer are `silent`: their share
    /// is read another time.
    async fn read(
        &self,
        objects: &Found,
        (last, reads_all): (&Inspection, bool),
        mut silent: BTreeSet<usize>,
        found: &mut Inspection,
    ) {
        let copies = self.repository.copies();
        let next: Vec<u32> =
            copies.iter().map(|copy| last.parts.get(&copy.name).map_or(1, |part| part % PARTS + 1)).collect();
        let known: BTreeSet<&str> = last.damaged.iter().map(|damaged| &*damaged.object).collect();
        for (name, at) in objects {
            let part = part_of(name);
            let is_known = reads_all || known.contains(&**name);
            let mut wrong = Vec::new();
            for (copy, size) in at.iter().filter(|(copy, _)| is_known || next.get(*copy) == Some(&part)) {
                wrong.extend(self.verify(*copy, name, *size, &mut silent, found).await);
            }
            if wrong.is_empty() {
                continue;
            }
            // Is it whole anywhere?
            for (copy, size) in at.iter().filter(|(copy, _)| !is_known && next.get(*copy) != Some(&part)) {
                wrong.extend(self.verify(*copy, name, *size, &mut silent, found).await);
            }
            if wrong.len() == at.len() && found.unseen.is_empty() {
                found.lost.push(format!("{name} is damaged at every copy"));
                found.rotten.insert(name.clone());
            }
            let room = DAMAGED_MAX.saturating_sub(found.damaged.len());
            found.damaged.extend(wrong.into_iter().take(room));
        }
        for (index, copy) in copies.iter().enumerate() {
            if silent.contains(&index) {
                found.damaged.extend(last.damaged.iter().filter(|it| it.copy == copy.name).cloned());
            } else {
                found.parts.insert(copy.name.clone(), next[index]);
            }
        }
    }

    /// Reads one object at one copy; says what is wrong with it.
    async fn verify(
        &self,
        copy: usize,
        name: &str,
        size: u64,
        silent: &mut BTreeSet<usize>,
        found: &mut Inspection,
    ) -> Option<Damaged> {
        if silent.contains(&copy) {
            return None;
        }
        let error = self.repository.verify(copy, name).await.err();
        found.read += size;
        self.pace.after(size).await;
        let error = error?;
        match &error {
            RepositoryError::Object(error) => match error.why {
                // The server has destroyed it meanwhile, or its key: whether it may, listings say.
                Why::Missing => return None,
                Why::Damaged | Why::Impossible | Why::Exists => {}
                Why::Refused | Why::Full | Why::Unavailable => {
                    silent.insert(copy);
                    found.unseen.push(error.to_string());
                    return None;
                }
            },
            RepositoryError::Seal { .. } | RepositoryError::Unusable(_) | RepositoryError::Source(_) => {}
        }
        let copy = self.repository.copies().get(copy)?.name.clone();
        Some(Damaged { copy, object: name.to_owned(), why: error.to_string() })
    }

    /// Whether all is there that manifests, and the numbers of pieces of a log, say is there.
    async fn reconcile(&self, catalog: &Catalog, objects: &Found, found: &mut Inspection) -> Result<(), DatabaseError> {
        let (repository, name) = (&self.repository, &*self.name);
        let is_promised = |set: &str| repository.is_promised(&format!("sets/{name}/{set}/"));
        for (set, why) in catalog.unreadable.iter().filter(|(set, _)| is_promised(set)) {
            found.lost.push(format!("the base {set} can't be read: {why}"));
        }
        for set in catalog.sets.iter().map(|entry| &entry.manifest).filter(|set| is_promised(&set.set)) {
            let parts = set.streams.iter().flat_map(|stream| (1..=stream.parts).map(|part| stream.part(part)));
            let missing = parts.map(|part| format!("sets/{name}/{}/{part}", set.set));
            found
                .lost
                .extend(missing.filter(|part| !objects.contains_key(part)).map(|part| format!("{part} is at no copy")));
        }
        let sealed = objects.keys().filter(|object| !object.starts_with("keys/"));
        let folders: BTreeSet<&str> = sealed.filter_map(|object| Some(object.rsplit_once('/')?.0)).collect();
        for folder in folders.into_iter().filter(|folder| repository.is_promised(&format!("{folder}/"))) {
            let key = key_name(folder);
            if !objects.contains_key(&key) {
                found.lost.push(format!("{key} is at no copy: what is in {folder} can't be read"));
            }
        }
        let reached = reach(repository, catalog).await?;
        for (set, why) in reached.unusable.iter().filter(|(set, _)| is_promised(set)) {
            found.lost.push(format!("the base {set} can't be restored: {why}"));
        }
        found.gaps.extend(missing_pieces(repository, name, objects));
        let open = open_gaps(repository, catalog).await?;
        found.gaps.extend(open.iter().filter_map(OpenGap::words));
        Ok(())
    }

    /// Whether all is there that the index and the trees say is there.
    async fn reconcile_files(&self, files: &Files, context: &Context, found: &mut Inspection) -> Result<(), String> {
        let reconciled = async || match files.reconcile(context, &self.repository, &self.pace).await {
            Ok(wrong) => Ok(wrong),
            // So damaged that nothing can be followed.
            Err(FilesError::Stored(_)) => Ok(vec!["index and trees can't be followed to their end".to_owned()]),
            Err(error) => Err(error.to_string()),
        };
        let mut wrong = reconciled().await?;
        if !wrong.is_empty() {
            // What a backup writes at the same time, or the server destroys, is not wrong: it is so for a moment only.
            let again = reconciled().await?;
            wrong.retain(|wrong| again.contains(wrong));
        }
        if !wrong.is_empty() && Lease::is_destroyed_in(&self.repository, &self.name).await {
            return Err(format!("the server destroys in restic/{} at the moment", self.name));
        }
        found.lost.extend(wrong);
        Ok(())
    }
}

/// Pieces of a log whose numbers show that they were there, and which no copy has.
fn missing_pieces(repository: &Repository, name: &str, objects: &Found) -> Vec<String> {
    let root = format!("logs/{name}/");
    let mut logs = BTreeMap::<&str, BTreeSet<u64>>::new();
    for object in objects.keys().filter(|object| repository.is_promised(object)) {
        let parts =
            object.strip_prefix(&root).and_then(|rest| Some((rest.split_once('/')?.0, object.rsplit_once('/')?.1)));
        if let Some((log, piece)) = parts
            && let Some(piece) = PieceName::parse(piece)
        {
            logs.entry(log).or_default().insert(piece.seq);
        }
    }
    let mut missing = Vec::new();
    for (log, numbers) in logs {
        for (before, next) in numbers.iter().zip(numbers.iter().skip(1)).filter(|(before, next)| **next > **before + 1)
        {
            let (first, last) = (before + 1, next - 1);
            let which =
                if first == last { format!("the piece {first}") } else { format!("the pieces {first} to {last}") };
            missing.push(format!("{which} of the log {log}: at no copy any more"));
        }
    }
    missing
}

/// Whether something is said that was not said before.
fn is_news(now: &[String], before: &[String]) -> bool {
    now.iter().any(|it| !before.contains(it))
}

/// The share that an object belongs to, by its name.
fn part_of(name: &str) -> u32 {
    let hash = Sha256::digest(name.as_bytes());
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % PARTS + 1
}

#[cfg(test)]
pub(crate) mod tests;
