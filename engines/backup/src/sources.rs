//! Which settings of the policy are which source.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Context, Watcher};
use event::Time;

use crate::canary::{self, Row};
use crate::checks::{self, Checked, Examined};
use crate::config::{DatabaseSettings, FilesSettings, Settings};
use crate::database::{Around, Database, DatabaseError, Restored};
use crate::files::{Files, VOLUMES};
use crate::mariadb::MariaDb;
use crate::postgres::Postgres;
use crate::rewind::Live;
use crate::sealed::{Catalog, Manifest, Repository, RepositoryError};

/// The databases of a policy, each with its settings. `state` is the folder of the engine.
pub(crate) fn databases(settings: &Settings, state: &Path) -> Vec<(DatabaseSettings, Arc<dyn Database>)> {
    let mariadb = settings.mariadb.iter().map(|database| {
        let made = MariaDb::new(&*database.name, database.connection.clone(), state.join(&database.name));
        (database.clone(), Arc::new(made) as Arc<dyn Database>)
    });
    let postgres = settings.postgres.iter().map(|database| {
        let made = Postgres::new(&*database.name, database.connection.clone());
        (database.clone(), Arc::new(made) as Arc<dyn Database>)
    });
    mariadb.chain(postgres).collect()
}

/// The files of one backup of a policy.
pub(crate) fn files(settings: &FilesSettings) -> Files {
    Files {
        name: settings.name.clone(),
        paths: settings.paths.clone(),
        volumes: settings.volumes.clone(),
        volumes_in: VOLUMES.into(),
        exclude: settings.exclude.clone(),
        one_file_system: settings.one_file_system,
        may_be_empty: settings.may_be_empty,
    }
}

/// Restores a database to an instant: what it is of is known by its bases.
///
/// # Errors
/// The instant can't be reached, or a program of the database failed.
pub(crate) async fn restore(
    context: &Context,
    repository: &Arc<Repository>,
    backup: &str,
    to: Time,
    into: &Path,
    work: &Path,
    watcher: &dyn Watcher,
) -> Result<Restored, DatabaseError> {
    let catalog = Catalog::read(repository, backup).await?;
    let Some(newest) = catalog.sets.last() else {
        return Err(match catalog.unreadable.first() {
            Some((set, why)) => RepositoryError::Unusable(format!("no base can be read; {set}: {why}")).into(),
            None => DatabaseError::Unreachable("there is no base of it: nothing can be restored".to_owned()),
        });
    };
    match &*newest.manifest.engine {
        "mariadb" => MariaDb::restore(context, repository, backup, to, into, work, watcher).await,
        "postgres" => Postgres::restore(context, repository, backup, to, into, work, watcher).await,
        other => Err(DatabaseError::Unreachable(format!("this release of garant can't restore a base of `{other}`"))),
    }
}

/// Bytes that the newest base before an instant takes, with those that it builds on; 0 where there is none.
///
/// # Errors
/// The repository fails.
pub(crate) async fn needs(repository: &Arc<Repository>, backup: &str, to: Time) -> Result<u64, DatabaseError> {
    let catalog = Catalog::read(repository, backup).await?;
    let sets = || catalog.sets.iter().map(|entry| &entry.manifest);
    let mut next = sets().filter(|set| set.consistent_at <= to).max_by_key(|set| set.consistent_at);
    let (mut bytes, mut left) = (0, catalog.sets.len());
    while let Some(set) = next.filter(|_| left > 0) {
        (bytes, left) = (set.size().saturating_add(bytes), left - 1);
        next = sets().find(|parent| Some(&parent.set) == set.parent.as_ref());
    }
    Ok(bytes)
}

/// Up to which instant a log goes on from a base without a gap, or why the base is of no use.
///
/// # Errors
/// The repository fails.
pub(crate) async fn through(
    repository: &Arc<Repository>,
    catalog: &Catalog,
    set: &Manifest,
) -> Result<Result<Time, String>, DatabaseError> {
    match &*set.engine {
        "mariadb" => MariaDb::through(repository, catalog, set).await,
        "postgres" => Postgres::through(repository, catalog, set).await,
        other => Ok(Err(format!("this release of garant can't restore a base of `{other}`"))),
    }
}

/// Starts a server on what was restored, which answers questions. What it writes beside goes into `work`.
async fn examined(
    context: &Context,
    repository: &Arc<Repository>,
    settings: &DatabaseSettings,
    restored: &Restored,
    work: &Path,
) -> Result<Box<dyn Examined>, DatabaseError> {
    let catalog = Catalog::read(repository, &settings.name).await?;
    let set = catalog.sets.iter().map(|entry| &entry.manifest).find(|manifest| manifest.set == restored.set);
    let gone = || DatabaseError::Unreachable(format!("the base {} is not there any more", restored.set));
    let set = set.ok_or_else(gone)?;
    let live: [PathBuf; 2] = [settings.connection.socket.clone(), settings.connection.socket.join(".s.PGSQL.5432")];
    match &*set.engine {
        "mariadb" => MariaDb::examine(context, set, &restored.folder, work, &live).await,
        _ => Postgres::examine(context, set, &restored.folder, work, &live).await,
    }
}

/// What was asked of what was restored, and what it has shown.
#[derive(Default, Debug)]
pub(crate) struct Asked {
    pub(crate) checks: Vec<Checked>,
    /// What could not be asked.
    pub(crate) notes: Vec<String>,
}

/// Asks the checks of a database of what was restored, and its canary where `remembered` is the file that knows its rows; nothing is
/// started where there is nothing to ask.
///
/// # Errors
/// No server starts on it, or none stops in good order.
pub(crate) async fn check(
    context: &Context,
    repository: &Arc<Repository>,
    (settings, remembered): (&DatabaseSettings, Option<&Path>),
    restored: &Restored,
    work: &Path,
    watcher: &dyn Watcher,
) -> Result<Asked, DatabaseError> {
    let canary = settings.canary.as_ref().zip(remembered);
    let mut asked = Asked::default();
    if settings.checks.is_empty() && canary.is_none() {
        return Ok(asked);
    }
    watcher.doing("checks", 0, None);
    let server = examined(context, repository, settings, restored, work).await?;
    for check in &settings.checks {
        asked.checks.push(checks::ask(&*server, check).await);
    }
    if let Some((canary, remembered)) = canary {
        let table = &canary.table;
        let is_mariadb = settings.is_mariadb();
        let statements = if is_mariadb { table.of_mariadb() } else { table.of_postgres() };
        let within = canary::READ_WITHIN;
        let rows = server.ask(&table.database, &statements.rows(), within, canary::ROWS_READ_MAX).await;
        let rows = rows.and_then(|rows| {
            let row = |row: &Vec<Option<String>>| {
                let [Some(n), Some(written)] = row.as_slice() else { return None };
                Some(Row { n: n.parse().ok()?, written: Time::from_micros(written.parse().ok()?) })
            };
            rows.iter().map(row).collect::<Option<Vec<Row>>>().ok_or_else(|| "a row has no number".to_owned())
        });
        match canary::judge(remembered, rows, restored.to) {
            Ok(true) => asked.checks.push(Checked::of(canary::NAME, Ok(()))),
            Ok(false) => asked.notes.push(format!("{}: none is remembered of that instant", canary::NAME)),
            Err(why) => asked.checks.push(Checked::of(canary::NAME, Err(why))),
        }
    }
    server.stop().await?;
    Ok(asked)
}

/// A database that is rewound.
pub(crate) fn live(settings: &DatabaseSettings, state: &Path) -> Box<dyn Live> {
    let (name, mut connection) = (&*settings.name, settings.connection.clone());
    if connection.password.is_none() {
        // The kernel says who asks: whoever runs the rewind, and not the agent.
        connection.user = None;
    }
    if settings.is_mariadb() {
        Box::new(MariaDb::new(name, connection, state))
    } else {
        Box::new(Postgres::new(name, connection))
    }
}

/// The transactions around an instant, `each` on either side at most.
///
/// # Errors
/// The instant can't be reached.
pub(crate) async fn around(
    context: &Context,
    repository: &Arc<Repository>,
    settings: &DatabaseSettings,
    (to, each): (Time, usize),
    work: &Path,
    watcher: &dyn Watcher,
) -> Result<Vec<Around>, DatabaseError> {
    let of = (&*settings.name, to, each);
    if settings.is_mariadb() {
        MariaDb::around(context, repository, of, work, watcher).await
    } else {
        Postgres::around(repository, of, watcher).await
    }
}

/// Names the tables that transactions have touched, as far as a server on what was restored knows them.
pub(crate) async fn name_tables(
    context: &Context,
    repository: &Arc<Repository>,
    settings: &DatabaseSettings,
    (restored, around): (&Restored, &mut [Around]),
    work: &Path,
) {
    // The log of MariaDB has the names.
    if settings.is_mariadb() || around.iter().all(|around| around.touched.is_empty()) {
        return;
    }
    let named = async {
        let server = examined(context, repository, settings, restored, work).await?;
        let named = Postgres::name_tables(&*server, around).await.map_err(DatabaseError::Database);
        server.stop().await?;
        named
    };
    if let Err(error) = named.await {
        tracing::warn!(backup = settings.name, %error, "tables are shown by the numbers of their files");
    }
}
