//! The work on the files of one backup: snapshots are taken, and one of those that are kept is restored and checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Context;
use event::{Span, Time};
use tokio::sync::Notify;

use crate::board::{Board, OnBoard};
use crate::checks;
use crate::config::{FilesSettings, Kind};
use crate::elsewhere::Elsewhere;
use crate::events::{Taken, Tested};
use crate::files::{Files, FilesError, Point, RestoreOptions};
use crate::job::{AGAIN_MIN, pause, remove_folder, twice, until};
use crate::restore_tests::{self, Outcome, RestoreTests, from_copy, in_turn, nothing_elsewhere};
use crate::sealed::Repository;

/// The work on the files of one backup.
pub(crate) struct FilesJob {
    pub(crate) settings: FilesSettings,
    pub(crate) files: Files,
    pub(crate) repository: Arc<Repository>,
    pub(crate) board: Arc<Board>,
    /// The copies that count for what would be left of it.
    pub(crate) elsewhere: Arc<Elsewhere>,
    pub(crate) restore_every: Span,
    /// The folder of the engine.
    pub(crate) state: PathBuf,
    /// Where restore tests have room.
    pub(crate) work: PathBuf,
    pub(crate) take_now: Arc<Notify>,
    pub(crate) test_now: Notify,
}

impl FilesJob {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// Takes snapshots until the engine stops.
    pub(crate) async fn take(self: Arc<Self>, context: Context) {
        let mut again = AGAIN_MIN;
        while !context.stop.is_cancelled() {
            let last = match self.files.snapshots(&context, &self.repository).await {
                Ok(snapshots) => snapshots.last().map(|snapshot| snapshot.at),
                Err(error) => {
                    self.board.failed(self.name(), Kind::Full, error.to_string());
                    pause(&context, again, &self.take_now).await;
                    again = twice(again);
                    continue;
                }
            };
            self.board.change(self.name(), Kind::Full, |line| line.succeeded = line.succeeded.max(last));
            let due = last.map_or_else(|| context.clock.now(), |last| last + self.settings.every);
            until(&context, &self.board, (self.name(), Kind::Full), due, &self.take_now).await;
            if context.stop.is_cancelled() {
                return;
            }
            again = match self.take_once(&context).await {
                Ok(()) => AGAIN_MIN,
                Err(error) => {
                    tracing::warn!(backup = self.name(), %error, "no snapshot could be taken");
                    self.board.failed(self.name(), Kind::Full, error.to_string());
                    pause(&context, again, &self.take_now).await;
                    twice(again)
                }
            };
        }
    }

    async fn take_once(&self, context: &Context) -> Result<(), FilesError> {
        let began = context.clock.monotonic();
        let watcher = OnBoard { board: &self.board, name: self.name(), kind: Kind::Full };
        let taken = self.files.take(context, &self.repository, &self.state, &watcher).await?;
        let event = Taken {
            backup: self.name().to_owned(),
            set: taken.snapshot.clone(),
            kind: Kind::Full.word().to_owned(),
            consistent_at: taken.at,
            bytes: taken.bytes,
            took_s: u64::try_from(context.clock.monotonic().since(began).secs()).unwrap_or(0),
        };
        if let Err(error) = context.recorder.record(&event).await {
            tracing::error!(%error, "a snapshot is not recorded");
        }
        let took = context.clock.monotonic().since(began);
        self.board.change(self.name(), Kind::Full, |line| {
            (line.last_bytes, line.last_took) = (Some(taken.bytes), Some(took));
        });
        if let Some(unlocked) = taken.unlocked.first() {
            let why = format!(
                "what the snapshot {} needs is not locked for as long as it is kept: {unlocked}",
                taken.snapshot
            );
            self.board.failed(self.name(), Kind::Full, why);
            return Ok(());
        }
        if taken.is_complete() {
            self.board.succeeded(self.name(), Kind::Full, taken.at);
            return Ok(());
        }
        // What could not be read is not safe: the snapshot is there, and the promise is not kept by it.
        let lacks = format!("the snapshot {} lacks what could not be read: {}", taken.snapshot, taken.unread);
        self.board.failed(self.name(), Kind::Full, lacks);
        Ok(())
    }

    /// Restores a snapshot each [`FilesJob::restore_every`], until the engine stops.
    pub(crate) async fn tests(self: Arc<Self>, context: Context) {
        restore_tests::run(&*self, &context).await;
    }

    /// When the snapshot was taken that is to be restored: every other time, by lot, the newest; else each of those that are kept is as
    /// likely as any other.
    async fn drawn(&self, context: &Context, repository: &Arc<Repository>) -> Result<Option<Time>, FilesError> {
        let snapshots = self.files.snapshots(context, repository).await?;
        let number = context.random.number();
        let drawn = usize::try_from(number / 2).unwrap_or(0).checked_rem(snapshots.len());
        let drawn = drawn.filter(|_| number % 2 == 1).and_then(|drawn| snapshots.get(drawn)).or(snapshots.last());
        Ok(drawn.map(|snapshot| snapshot.at))
    }

    /// How much would be lost if this host burnt now: how old the newest snapshot is that a copy elsewhere has.
    async fn lost(&self, context: &Context, now: Time) -> Result<Span, FilesError> {
        let mut newest = None;
        let mut unread = Vec::new();
        for copy in self.elsewhere.counting(&self.repository) {
            let alone = Arc::new(self.repository.only(copy));
            match self.files.snapshots(context, &alone).await {
                Ok(snapshots) => newest = newest.max(snapshots.iter().map(|snapshot| snapshot.at).max()),
                // It has nothing that anybody could read.
                Err(error) => unread.push(error.to_string()),
            }
        }
        let newest = newest.ok_or_else(|| FilesError::NoSnapshot(nothing_elsewhere(&self.elsewhere, &unread)))?;
        Ok(now.since(newest).max(Span::ZERO))
    }
}

impl RestoreTests for FilesJob {
    fn name(&self) -> &str {
        self.name()
    }

    fn board(&self) -> &Board {
        &self.board
    }

    fn work(&self) -> &Path {
        &self.work
    }

    fn every(&self) -> Span {
        self.restore_every
    }

    fn asked(&self) -> &Notify {
        &self.test_now
    }

    async fn first(&self, context: &Context) -> Option<Time> {
        let snapshots = self.files.snapshots(context, &self.repository).await.ok()?;
        snapshots.first().map(|snapshot| snapshot.at)
    }

    async fn test(&self, context: &Context, wanted: Option<Time>) -> Outcome {
        let began = context.clock.monotonic();
        let to = wanted.unwrap_or_else(|| context.clock.now());
        let mut is_of_instant = wanted.is_some();
        // From one copy alone: what another one has hides nothing of it.
        let (repository, copy) = in_turn(&self.repository, &self.work);
        let folder = self.work.join("restored");
        let watcher = OnBoard { board: &self.board, name: self.name(), kind: Kind::Restore };
        let mut tested = Tested {
            backup: self.name().to_owned(),
            to,
            copy: Some(copy.clone()),
            set: None,
            error: None,
            checks: Vec::new(),
            bytes: 0,
            took: Span::ZERO,
        };
        let lost = match self.lost(context, context.clock.now()).await {
            Ok(lost) => lost,
            Err(error) => return Outcome::unmeasured(tested, context.clock.monotonic().since(began), &error),
        };
        let restored = async {
            remove_folder(&folder).await.map_err(|error| error.to_string())?;
            let options = RestoreOptions { without_devices: true, ..RestoreOptions::default() };
            if wanted.is_none()
                && let Ok(Some(drawn)) = self.drawn(context, &repository).await
            {
                (tested.to, is_of_instant) = (drawn, true);
            }
            let point = Point::At(tested.to);
            let restored = self.files.restore(context, &repository, &point, &folder, options, &watcher).await;
            let checked = match &restored {
                Ok(_) => checks::run(context, &self.settings.checks, &folder).await,
                Err(_) => Vec::new(),
            };
            remove_folder(&folder).await.map_err(|error| error.to_string())?;
            let restored = restored.map_err(|error| error.to_string())?;
            if restored.unwritten.is_empty() {
                Ok((restored, checked))
            } else {
                Err(format!("{} could not be restored", restored.unwritten))
            }
        };
        match restored.await {
            Ok((restored, checked)) => {
                tested.to = wanted.unwrap_or(restored.snapshot.at);
                tested.set = Some(restored.snapshot.id);
                tested.bytes = restored.bytes;
                tested.error = checks::failure(&checked).map(|error| from_copy(&copy, &error));
                tested.checks = checked;
            }
            Err(error) => tested.error = Some(from_copy(&copy, &error)),
        }
        tested.took = context.clock.monotonic().since(began);
        Outcome { tested, lost, notes: Vec::new(), is_of_instant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspection::tests::Shelf;

    /// BK-5: a restore test is not always of the newest snapshot.
    #[tokio::test]
    async fn any_snapshot_may_be_drawn() {
        let shelf = Shelf::new();
        std::fs::write(shelf.folder.path().join("data/file"), "hello").expect("written");
        for _ in 0..4 {
            shelf.take().await;
        }
        let work = shelf.folder.path().join("state");
        let job = FilesJob {
            settings: FilesSettings {
                name: "shop-db".into(),
                service: None,
                paths: Vec::new(),
                volumes: Vec::new(),
                exclude: Vec::new(),
                one_file_system: false,
                may_be_empty: false,
                every: Span::from_days(1),
                checks: Vec::new(),
            },
            files: shelf.files(),
            repository: Arc::clone(&shelf.repository),
            board: Arc::default(),
            elsewhere: Arc::default(),
            restore_every: Span::from_days(1),
            state: work.clone(),
            work,
            take_now: Arc::default(),
            test_now: Notify::new(),
        };
        let mut drawn = std::collections::BTreeMap::<Time, u32>::new();
        for _ in 0..60 {
            let at = job.drawn(&shelf.context, &shelf.repository).await.expect("drawn").expect("there is one");
            *drawn.entry(at).or_default() += 1;
        }
        assert!(drawn.len() == 4 && drawn.values().next_back().is_some_and(|newest| *newest > 20), "{drawn:?}");
    }
}
