//! The restore tests of one backup: what has failed before is restored again, then what is drawn anew. Only when all of it passes is
//! it said that what is backed up can be restored.

use std::path::Path;
use std::sync::Arc;

use engine::Context;
use event::evidence::Restored;
use event::{Span, Time};
use tokio::sync::Notify;

use crate::board::Board;
use crate::config::{BACKUP_FAILING, Kind};
use crate::elsewhere::Elsewhere;
use crate::events::{Detail, Tested};
use crate::failed::FailedInstants;
use crate::job::{AGAIN_MIN, FIRST_TEST_AFTER, read_time, twice, until};
use crate::sealed::Repository;

/// What a test has shown.
pub(crate) struct Outcome {
    pub(crate) tested: Tested,
    /// How old the newest instant was that could be restored when it began.
    pub(crate) lost: Span,
    /// What could not be asked.
    pub(crate) notes: Vec<String>,
    /// Whether its failure is one of the instant alone: no other one that passes says anything of it.
    pub(crate) is_of_instant: bool,
}

impl Outcome {
    /// Nothing was restored, for what would be lost with this host can't be told: no copy is to blame, nor an instant.
    pub(crate) fn unmeasured(tested: Tested, took: Span, error: &impl std::fmt::Display) -> Self {
        let tested = Tested { copy: None, error: Some(error.to_string()), took, ..tested };
        Self { tested, lost: Span::ZERO, notes: Vec::new(), is_of_instant: false }
    }
}

/// Why nothing would be left if this host burnt, with what could not be read.
pub(crate) fn nothing_elsewhere(elsewhere: &Elsewhere, unread: &[String]) -> String {
    let which = if elsewhere.is_none() { "no copy" } else { "no copy away from this host" };
    let nothing = format!("{which} has anything that can be restored");
    match unread.first() {
        Some(error) => format!("{nothing}, as far as they can be read: {error}"),
        None => nothing,
    }
}

/// What is tested.
pub(crate) trait RestoreTests: Send + Sync {
    /// The name of the backup.
    fn name(&self) -> &str;
    /// Where it is shown.
    fn board(&self) -> &Board;
    /// The folder of the backup.
    fn work(&self) -> &Path;
    /// How often a test is made.
    fn every(&self) -> Span;
    /// Wakes whoever waits for the next test.
    fn asked(&self) -> &Notify;
    /// The first instant that is kept; `None` where that can't be told.
    fn first(&self, context: &Context) -> impl Future<Output = Option<Time>> + Send;
    /// Restores to this instant, or to one that is drawn.
    fn test(&self, context: &Context, to: Option<Time>) -> impl Future<Output = Outcome> + Send;
}

/// Makes the tests until the engine stops.
pub(crate) async fn run(of: &impl RestoreTests, context: &Context) {
    let mut failed = FailedInstants::read(of.work());
    let (mut again, mut drawn_at) = (AGAIN_MIN, None::<Time>);
    let mut retry_at = (!failed.is_empty()).then(|| context.clock.now() + FIRST_TEST_AFTER);
    while !context.stop.is_cancelled() {
        let now = context.clock.now();
        let regular = || read_time(&of.work().join(TESTED)).map_or(now + FIRST_TEST_AFTER, |last| last + of.every());
        let due = retry_at.unwrap_or_else(regular);
        until(context, of.board(), (of.name(), Kind::Restore), due, of.asked()).await;
        // While instants stay out of reach, others are drawn once a day: whatever keeps all of them from being restored is one fault.
        let now = context.clock.now();
        let draws = drawn_at.is_none_or(|at| now.since(at) >= of.every());
        let Some(is_well) = round(of, context, &mut failed, draws).await else { return };
        drawn_at = if draws { Some(now) } else { drawn_at };
        retry_at = (!is_well).then(|| context.clock.now() + again);
        again = if is_well {
            AGAIN_MIN
        } else if failed.instants().is_empty() {
            twice(again)
        } else {
            // An instant that stays out of reach is tried with the daily test.
            Span::from_micros(again.micros().saturating_mul(2)).min(of.every())
        };
    }
}

/// The file that names the copy from which all was restored last, in the folder of the backup.
const LAST_COPY: &str = "tested-copy";

/// The copy whose turn it is to be restored from, alone, and its name: the one behind that from which all was restored last. One that
/// misses something has no turn, while there are others: that it does is said elsewhere.
pub(crate) fn in_turn(repository: &Repository, work: &Path) -> (Arc<Repository>, String) {
    let states = repository.states();
    let last = std::fs::read_to_string(work.join(LAST_COPY)).unwrap_or_default();
    let last = states.iter().position(|state| state.name == last.trim());
    let next = last.map_or(0, |last| last + 1);
    let order = (0..states.len()).map(|step| (next + step) % states.len());
    let is_whole = |at: &usize| states[*at].error.is_none() && repository.has_all(*at);
    let turn = order.clone().find(is_whole).or_else(|| order.clone().next()).unwrap_or(0);
    let name = states.get(turn).map(|state| state.name.clone()).unwrap_or_default();
    (Arc::new(repository.only(turn)), name)
}

/// What failed, with the copy that it was restored from.
pub(crate) fn from_copy(copy: &str, error: &impl std::fmt::Display) -> String {
    format!("from the copy `{copy}`: {error}")
}

/// The file that says when all was restored last, in the folder of the backup.
const TESTED: &str = "tested";

/// Restores once what has failed before, then, where all of that passed or `draws` says so, what is drawn; whether all of it passed.
/// `None` where the engine stops meanwhile: then nothing can be said of what was under way.
async fn round(of: &impl RestoreTests, context: &Context, failed: &mut FailedInstants, draws: bool) -> Option<bool> {
    if !failed.is_empty()
        && let Some(first) = of.first(context).await
    {
        for gone in failed.forget_before(first) {
            let text = format!("{gone} could never be restored, and is kept no longer: the first instant is {first}");
            tracing::warn!(backup = of.name(), text);
            let detail = Kind::Restore.probe(of.name()).map(|probe| Detail {
                probe,
                finding: BACKUP_FAILING.parse().ok(),
                text,
            });
            if let Some(detail) = detail
                && let Err(error) = context.recorder.record(&detail).await
            {
                tracing::error!(%error, "what is said of a restore test is not recorded");
            }
        }
    }
    for to in failed.instants() {
        if context.stop.is_cancelled() {
            return None;
        }
        one(of, context, failed, Some(to)).await?;
    }
    if context.stop.is_cancelled() {
        return None;
    }
    if !draws && !failed.instants().is_empty() {
        return Some(false);
    }
    let drawn = one(of, context, failed, None).await?;
    let passed = drawn.tested.error.is_none();
    let copy = drawn.tested.copy.clone().unwrap_or_default();
    let note = format!("{} was restored from `{copy}` in {}", drawn.tested.to, drawn.tested.took.coarse());
    of.board().change(of.name(), Kind::Restore, |line| {
        line.doing = None;
        if passed {
            line.notes = vec![note];
            line.notes.extend(drawn.notes);
            (line.last_bytes, line.last_took) = (Some(drawn.tested.bytes), Some(drawn.tested.took));
            line.lost = Some(drawn.lost);
        }
    });
    if !failed.is_empty() {
        return Some(false);
    }
    let now = context.clock.now();
    if let Err(error) = std::fs::write(of.work().join(TESTED), now.to_rfc3339()) {
        tracing::warn!(%error, "when a restore test was made can't be written down");
    }
    if let Err(error) = std::fs::write(of.work().join(LAST_COPY), copy) {
        tracing::warn!(%error, "from which copy a restore test was made can't be written down");
    }
    of.board().succeeded(of.name(), Kind::Restore, now);
    if let Some(probe) = Kind::Restore.probe(of.name()) {
        let restored = Restored { probe, at: now, took: drawn.tested.took, lost: drawn.lost };
        if let Err(error) = context.recorder.record(&restored).await {
            tracing::error!(%error, "a restore is not recorded");
        }
    }
    Some(true)
}

/// Makes one test, and remembers what it has shown.
async fn one(
    of: &impl RestoreTests,
    context: &Context,
    failed: &mut FailedInstants,
    to: Option<Time>,
) -> Option<Outcome> {
    let outcome = of.test(context, to).await;
    if context.stop.is_cancelled() {
        return None;
    }
    if let Some(error) = &outcome.tested.error {
        tracing::error!(backup = of.name(), to = %outcome.tested.to, error, "a restore test failed");
        failed.add(to.or_else(|| outcome.is_of_instant.then_some(outcome.tested.to)), error);
        of.board().change(of.name(), Kind::Restore, |line| line.failures += 1);
    } else {
        if to.is_some() {
            failed.settle(to);
        }
        failed.settle(None);
    }
    failed.show(of.board(), of.name());
    if let Err(error) = context.recorder.record(&outcome.tested).await {
        tracing::error!(%error, "a restore test is not recorded");
    }
    Some(outcome)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};
    use std::sync::Mutex;

    use engine::sim::World;

    use super::*;
    use crate::config::{SecretPlace, Settings};
    use crate::inspection::tests::Shelf;
    use crate::job::tests::settings;

    fn at(second: i64) -> Time {
        Time::from_secs(1_796_000_000 + second)
    }

    /// A backup some instants of which can't be restored.
    struct Holed {
        folder: tempfile::TempDir,
        board: Board,
        asked: Notify,
        first: Mutex<Time>,
        holes: Mutex<BTreeSet<Time>>,
        /// The instants that are drawn next.
        draws: Mutex<VecDeque<Time>>,
    }

    impl RestoreTests for Holed {
        fn name(&self) -> &'static str {
            "shop"
        }
        fn board(&self) -> &Board {
            &self.board
        }
        fn work(&self) -> &Path {
            self.folder.path()
        }
        fn every(&self) -> Span {
            Span::from_days(1)
        }
        fn asked(&self) -> &Notify {
            &self.asked
        }
        async fn first(&self, _: &Context) -> Option<Time> {
            Some(*self.first.lock().expect("no panic"))
        }
        async fn test(&self, _: &Context, to: Option<Time>) -> Outcome {
            let to = to.unwrap_or_else(|| self.draws.lock().expect("no panic").pop_front().expect("a draw"));
            let is_hole = self.holes.lock().expect("no panic").contains(&to);
            let error = is_hole.then(|| "a piece is missing".to_owned());
            let (checks, bytes, took) = (Vec::new(), 1, Span::from_secs(1));
            let tested = Tested { backup: "shop".into(), to, copy: None, set: None, error, checks, bytes, took };
            Outcome { tested, lost: Span::ZERO, notes: Vec::new(), is_of_instant: true }
        }
    }

    impl Holed {
        fn new(draws: &[i64]) -> Self {
            Self {
                folder: tempfile::tempdir().expect("a folder"),
                board: board(),
                asked: Notify::new(),
                first: Mutex::new(at(0)),
                holes: Mutex::new([at(7)].into()),
                draws: Mutex::new(draws.iter().map(|second| at(*second)).collect()),
            }
        }

        /// A round of a process that has just begun, and what is wrong behind it.
        async fn round(&self, context: &Context, draws: bool) -> (Option<bool>, Option<String>) {
            let mut failed = FailedInstants::read(self.work());
            let is_well = round(self, context, &mut failed, draws).await;
            let line = self.board.lines().remove(&("shop".to_owned(), Kind::Restore)).expect("a line");
            (is_well, line.failing())
        }
    }

    fn board() -> Board {
        let board = Board::default();
        let (day, key) = (Span::from_days(1), SecretPlace::File("/nowhere".into()));
        let (copies, postgres, files) = (Vec::new(), Vec::new(), Vec::new());
        let service = "backup".parse().expect("a name");
        let mariadb = vec![settings("shop")];
        board.configure(&Settings { service, key, keep: day, restore_every: day, copies, mariadb, postgres, files });
        board
    }

    /// BK-5: an instant that failed is open until it is restored itself, whatever else passes, and over every restart.
    #[tokio::test]
    async fn an_instant_that_failed_is_open_until_it_is_restored() {
        let world = World::at(at(100));
        let context = world.context("host".parse().expect("an observer")).expect("a context");
        let holed = Holed::new(&[7, 8, 9, 10]);
        let (is_well, wrong) = holed.round(&context, true).await;
        assert_eq!(is_well, Some(false));
        assert!(wrong.as_ref().is_some_and(|wrong| wrong.contains(&at(7).to_string())), "{wrong:?}");
        assert_eq!(holed.round(&context, false).await.0, Some(false), "and no other one is drawn");
        // Another one passes, in another process.
        let (is_well, wrong) = holed.round(&context, true).await;
        assert!(is_well == Some(false) && wrong.is_some(), "{wrong:?}");
        assert_eq!(holed.board.take_unsaid(), [], "nothing is said to be restored");
        assert_eq!(world.journal.of::<Restored>(), []);
        let shown = board();
        FailedInstants::read(holed.work()).show(&shown, "shop");
        assert!(shown.lines()[&("shop".to_owned(), Kind::Restore)].failing().is_some(), "at a start, before any test");

        holed.holes.lock().expect("no panic").clear();
        assert_eq!(holed.round(&context, true).await, (Some(true), None));
        assert_eq!(world.journal.of::<Restored>().len(), 1);
        let tested: Vec<(Time, bool)> =
            world.journal.of::<Tested>().into_iter().map(|tested| (tested.to, tested.error.is_none())).collect();
        let expected = [(7, false), (7, false), (7, false), (8, true), (7, true), (9, true)];
        assert_eq!(tested, expected.map(|(second, passed)| (at(second), passed)));
    }

    /// BK-6: what is destroyed can't be asked for any more, and that is said.
    #[tokio::test]
    async fn an_instant_that_is_kept_no_longer_is_open_no_longer() {
        let world = World::at(at(100));
        let context = world.context("host".parse().expect("an observer")).expect("a context");
        let holed = Holed::new(&[7, 8, 9]);
        assert_eq!(holed.round(&context, true).await.0, Some(false));
        *holed.first.lock().expect("no panic") = at(8);
        assert_eq!(holed.round(&context, true).await, (Some(true), None));
        let said = world.journal.of::<Detail>();
        assert!(said.len() == 1 && said[0].text.contains("kept no longer"), "{said:?}");
    }

    /// A test that is broken off has shown nothing.
    #[tokio::test]
    async fn a_stop_is_no_failure() {
        let world = World::at(at(100));
        let context = world.context("host".parse().expect("an observer")).expect("a context");
        let holed = Holed::new(&[7]);
        context.stop.cancel();
        assert_eq!(holed.round(&context, true).await, (None, None));
        assert!(FailedInstants::read(holed.work()).is_empty());
    }

    /// BK-5: each copy has its turn, and one that misses something has none while there is another.
    #[tokio::test]
    async fn copies_are_restored_from_in_turn() {
        let shelf = Shelf::new();
        let work = shelf.folder.path().join("state");
        let turn = || in_turn(&shelf.repository, &work).1;
        assert_eq!([turn(), turn()], ["near", "near"], "until it has passed");
        std::fs::write(work.join(LAST_COPY), "near").expect("written");
        assert_eq!(turn(), "far");
        assert_eq!(in_turn(&shelf.repository, &work).0.copies()[0].name, "far", "and alone");
        std::fs::rename(shelf.folder.path().join("far"), shelf.folder.path().join("away")).expect("moved");
        shelf.base(4).await;
        assert_eq!(turn(), "near", "that the other misses something is said elsewhere");
        std::fs::write(work.join(LAST_COPY), "far").expect("written");
        assert_eq!(turn(), "near");
    }
}
