//! The loops of a database, in simulated time.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use engine::BoxFuture;
use engine::Watcher;

use super::tests::settings;
use super::*;
use crate::canary::CanaryTable;
use crate::config::{SecretPlace, Settings};
use crate::inspection::tests::Shelf;
use crate::sealed::{LogWriter, SetWriter};

/// The work on this database.
fn job(database: Arc<dyn Database>, repository: &Arc<Repository>, work: &Path) -> Arc<Job> {
    let settings = settings("shop-db");
    let policy = Settings {
        service: "backup".parse().expect("a name"),
        key: SecretPlace::File("/nowhere".into()),
        keep: Span::from_days(90),
        restore_every: Span::from_days(1),
        copies: Vec::new(),
        mariadb: vec![settings.clone()],
        postgres: Vec::new(),
        files: Vec::new(),
    };
    let board = Arc::new(Board::default());
    board.configure(&policy);
    Arc::new(Job {
        settings,
        database,
        repository: Arc::clone(repository),
        board,
        elsewhere: Arc::default(),
        restore_every: policy.restore_every,
        work: work.to_owned(),
        base_now: Arc::default(),
        base_asked: Notify::new(),
        test_now: Notify::new(),
        log_of_base: Mutex::default(),
    })
}

/// A database that ships a piece of its log whenever it is told to.
#[derive(Default)]
struct Ships {
    next: Notify,
    is_new_log: AtomicBool,
    bases: AtomicU64,
    problems: Vec<Problem>,
}

impl Ships {
    fn log(&self) -> &'static str {
        if self.is_new_log.load(Relaxed) { "000002-second" } else { "000001-first" }
    }
}

impl Database for Ships {
    fn problems<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Vec<Problem>, DatabaseError>> {
        Box::pin(async { Ok(self.problems.clone()) })
    }

    fn take_base<'a>(
        &'a self,
        _: &'a Context,
        repository: &'a Arc<Repository>,
        _: bool,
        _: &'a dyn Watcher,
    ) -> BoxFuture<'a, Result<Manifest, DatabaseError>> {
        Box::pin(async {
            self.bases.fetch_add(1, Relaxed);
            let set = SetWriter::begin(Arc::clone(repository), "shop-db", "another").await?;
            Ok(set.finish(|manifest| manifest.log = Some(self.log().into())).await?)
        })
    }

    fn follow<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
        shipped: &'a mut (dyn FnMut(Shipped) + Send),
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    () = self.next.notified() => {}
                }
                let log = self.log();
                let (mut writer, last) = LogWriter::open(Arc::clone(repository), "shop-db", log).await?;
                let end = last.map_or(0, |last| last.name.end);
                writer.append(1, end, end + 1, &(), vec![1]).await?;
                let is_new_log = end == 0;
                let through = context.clock.now();
                shipped(Shipped { log: log.into(), through, bytes: 1, is_new_log, needs_base: false });
            }
        })
    }

    fn newest_canary<'a>(
        &'a self,
        _: &'a Context,
        _: &'a CanaryTable,
    ) -> BoxFuture<'a, Result<Option<u64>, DatabaseError>> {
        Box::pin(std::future::pending())
    }

    fn put_canary<'a>(
        &'a self,
        _: &'a Context,
        _: &'a CanaryTable,
        _: canary::Row,
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        Box::pin(std::future::pending())
    }
}

async fn hours(hours: u64) {
    tokio::time::sleep(Duration::from_hours(hours)).await;
}

/// BK-1, BK-5: bases and restore tests come without anybody asking, and a log that has ended has a new base taken at once.
#[tokio::test(start_paused = true)]
async fn a_log_that_broke_gets_a_base_and_tests_come_by_themselves() {
    let shelf = Shelf::new();
    let database = Arc::new(Ships::default());
    let job = job(Arc::clone(&database) as _, &shelf.repository, &shelf.folder.path().join("state"));
    let context = shelf.context.clone();
    let followed = tokio::spawn(Arc::clone(&job).follow(context.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let work = [
        followed,
        tokio::spawn(Arc::clone(&job).bases(context.clone())),
        tokio::spawn(Arc::clone(&job).tests(context.clone())),
    ];
    hours(1).await;
    database.next.notify_one();
    hours(49).await;
    assert_eq!(
        database.bases.load(Relaxed),
        3,
        "one a day, and none for a first piece that comes behind the first base"
    );
    assert!(job.board.broken().is_empty());
    let tests = shelf.world.journal.of::<Tested>();
    // Of a base that nothing here can restore: red, again and again, by itself.
    assert!(tests.len() > 10 && tests.iter().all(|test| test.error.is_some()), "{}", tests.len());

    database.is_new_log.store(true, Relaxed);
    database.next.notify_one();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(database.bases.load(Relaxed), 4, "at once");
    assert!(job.board.broken().is_empty(), "what comes now can be restored again");
    let newest = Catalog::read(&shelf.repository, "shop-db").await.expect("read").sets.pop().expect("a base");
    assert_eq!(newest.manifest.log.as_deref(), Some("000002-second"));
    shelf.world.stop.cancel();
    for work in work {
        work.await.expect("no panic");
    }
}

/// BK-1: a server that keeps less of its log than a base takes breaks the log with each base: they come ever more slowly, and at once
/// when somebody asks.
#[tokio::test(start_paused = true)]
async fn bases_that_break_the_log_do_not_come_without_end() {
    let shelf = Shelf::new();
    let database = Arc::new(Ships::default());
    let job = job(Arc::clone(&database) as _, &shelf.repository, &shelf.folder.path().join("state"));
    let work = tokio::spawn(Arc::clone(&job).bases(shelf.context.clone()));
    let taken = || database.bases.load(Relaxed);
    let breaks = async |minutes: u64| {
        for _ in 0..minutes {
            job.base_now.notify_one();
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    breaks(3).await;
    assert_eq!(taken(), 4, "the first one, and three at once");
    breaks(5 * 60).await;
    let in_hours = taken();
    assert!((9..=14).contains(&in_hours), "one an hour in the end: {in_hours}");
    job.base_asked.notify_one();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(taken(), in_hours + 1, "whoever asks does not wait");
    hours(30).await;
    let quiet = taken();
    breaks(1).await;
    assert_eq!(taken(), quiet + 1, "at once again after quiet hours");
    shelf.world.stop.cancel();
    work.await.expect("no panic");
}

/// BK-1: a log is as fresh as the copy that does not burn with this host.
#[tokio::test(start_paused = true)]
async fn a_log_that_leaves_the_host_for_no_copy_is_not_fresh() {
    let shelf = Shelf::new();
    let database = Arc::new(Ships::default());
    let job = job(Arc::clone(&database) as _, &shelf.repository, &shelf.folder.path().join("state"));
    let work = tokio::spawn(Arc::clone(&job).follow(shelf.context.clone()));
    let ship = async || {
        tokio::time::sleep(Duration::from_mins(10)).await;
        database.next.notify_one();
        tokio::time::sleep(Duration::from_mins(1)).await;
        job.board.lines()[&("shop-db".to_owned(), Kind::Log)].clone()
    };
    let (far, away) = (shelf.folder.path().join("far"), shelf.folder.path().join("away"));
    std::fs::rename(&far, &away).expect("moved");
    let all_burn = ship().await.succeeded.expect("where all copies burn, any of them counts");
    std::fs::rename(&away, &far).expect("moved");
    shelf.repository.level("", |_| false).await.expect("level");
    job.elsewhere.set([1].into());
    let fresh = ship().await.succeeded.expect("at both");
    assert!(fresh > all_burn);
    std::fs::rename(&far, &away).expect("moved");
    assert_eq!(ship().await.succeeded, Some(fresh), "the one that does not burn has it not");
    std::fs::rename(&away, &far).expect("moved back");
    assert_eq!(ship().await.succeeded, Some(fresh), "it still misses a piece");
    shelf.repository.level("", |_| false).await.expect("level");
    assert!(ship().await.succeeded > Some(fresh));
    shelf.world.stop.cancel();
    work.await.expect("no panic");
}

/// BX-3: what would be lost is measured at the copy that would be left.
#[tokio::test]
async fn what_would_be_lost_is_what_no_copy_elsewhere_has() {
    let shelf = Shelf::new();
    let job = job(Arc::new(Ships::default()), &shelf.repository, &shelf.folder.path().join("state"));
    shelf.base(4).await;
    shelf.log(0..2).await;
    let (far, away) = (shelf.folder.path().join("far"), shelf.folder.path().join("away"));
    std::fs::rename(&far, &away).expect("moved");
    shelf.log(2..62).await;
    std::fs::rename(&away, &far).expect("moved back");
    let lost = async || job.lost(shelf.world.now()).await.expect("known");
    assert!(lost().await < Span::from_secs(60), "one that burns has it");
    job.elsewhere.set([1].into());
    let hour = lost().await;
    assert!(hour >= Span::from_secs(3600) && hour < Span::from_secs(3700), "{hour:?}");
}

/// A copy that can't be read is no fault of the one that is restored from.
#[tokio::test]
async fn a_copy_that_is_away_is_not_blamed_on_the_one_that_is_tested() {
    let shelf = Shelf::new();
    let job = job(Arc::new(Ships::default()), &shelf.repository, &shelf.folder.path().join("state"));
    shelf.base(4).await;
    job.elsewhere.set([1].into());
    let far = shelf.folder.path().join("far");
    std::fs::rename(&far, shelf.folder.path().join("away")).expect("moved");
    std::fs::write(&far, "a file").expect("written");
    let outcome = RestoreTests::test(&*job, &shelf.context, None).await;
    let error = outcome.tested.error.expect("it is not known what would be lost");
    assert!(error.starts_with("no copy away from this host") && error.contains("far"), "{error}");
    assert!(outcome.tested.copy.is_none() && !outcome.is_of_instant, "{error}");
}

/// A release that is not ours to test is trusted once a restore test of it has passed, over restarts.
#[tokio::test(start_paused = true)]
async fn a_release_is_trusted_once_a_restore_test_has_passed() {
    let shelf = Shelf::new();
    let work = shelf.folder.path().join("state");
    let problem = |release: &str| Problem {
        what: format!("{release} is not tested here"),
        remedy: String::new(),
        is_warning: true,
        mend: Mend::RestoreTest(release.to_owned()),
    };
    let looked = async || {
        let database = Ships { problems: vec![problem("11.4"), problem("12.0")], ..Ships::default() };
        let job = job(Arc::new(database), &shelf.repository, &work);
        let looks = tokio::spawn(Arc::clone(&job).look(shelf.context.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        looks.abort();
        job.board.lines()[&("shop-db".to_owned(), Kind::Log)].notes.len()
    };
    assert_eq!(looked().await, 2);
    let set = SetWriter::begin(Arc::clone(&shelf.repository), "shop-db", "mariadb").await.expect("begun");
    let base = set.finish(|manifest| manifest.engine_version = "11.4.2-MariaDB-log".into()).await.expect("finished");
    job(Arc::new(Ships::default()), &shelf.repository, &work).trust_release(&base.set).await;
    assert_eq!(looked().await, 1, "what is known is kept");
}
