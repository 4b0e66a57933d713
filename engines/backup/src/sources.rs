//! Which settings of the policy are which source.

use std::path::Path;
use std::sync::Arc;

use engine::{Context, Watcher};
use event::Time;

use crate::config::{DatabaseSettings, FilesSettings, Settings};
use crate::database::{Database, DatabaseError, Restored};
use crate::files::{Files, VOLUMES};
use crate::mariadb::MariaDb;
use crate::postgres::Postgres;
use crate::sealed::{Catalog, Manifest, Repository};

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
        return Err(DatabaseError::Unreachable("there is no base of it yet: nothing can be restored".to_owned()));
    };
    match &*newest.manifest.engine {
        "mariadb" => MariaDb::restore(context, repository, backup, to, into, work, watcher).await,
        "postgres" => Postgres::restore(context, repository, backup, to, into, work, watcher).await,
        other => Err(DatabaseError::Unreachable(format!("this release of garant can't restore a base of `{other}`"))),
    }
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
