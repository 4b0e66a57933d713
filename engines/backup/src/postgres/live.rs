//! A live cluster that is rewound: where its files are, and whether all that it has written is in the repository.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{BoxFuture, Context};
use event::Span;

use super::recovery::Server;
use super::restore::TABLESPACES;
use super::wire::{Connection, Mode, WireError};
use super::{Lsn, Postgres};
use crate::database::DatabaseError;
use crate::restorable::restorable;
use crate::rewind::{Hold, Layout, Live, SHIPPED_WITHIN};
use crate::sealed::{Catalog, Repository};

/// How often it is looked whether the log is in the repository.
const LOOKS_EVERY: Span = Span::from_secs(1);
/// How old the newest piece of a log is that is being followed.
const FOLLOWED_WITHIN: Span = Span::from_secs(120);
/// The SQLSTATE of a server that starts or stops.
const NOT_NOW: &str = "57P03";
/// Settings in the directory of data: those of now stay.
const SETTINGS: [&str; 4] = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "postgresql.auto.conf"];

impl Postgres {
    /// How far the newest log is in the repository: its timeline, and where it ends.
    async fn shipped(&self, repository: &Arc<Repository>) -> Result<Option<(u32, Lsn)>, DatabaseError> {
        let catalog = Catalog::read(repository, &self.name).await?;
        let newest = restorable(repository, &catalog).await?.into_iter().max_by_key(|stretch| stretch.through);
        let Some(log) = newest.and_then(|stretch| stretch.log) else { return Ok(None) };
        let last = catalog.last_piece(&log).await?;
        Ok(last.map(|last| (last.name.file, Lsn(last.name.end))))
    }
}

/// A tablespace or the log of a cluster that lies outside of its directory of data.
fn elsewhere(data: &Path) -> Option<PathBuf> {
    let tablespaces = fs::read_dir(data.join("pg_tblspc")).into_iter().flatten().flatten().map(|entry| entry.path());
    let places = tablespaces.chain([data.join("pg_wal")]).filter_map(|path| path.canonicalize().ok());
    places.into_iter().find(|place| !place.starts_with(data))
}

impl Live for Postgres {
    fn layout<'a>(
        &'a self,
        _context: &'a Context,
        data: Option<&'a Path>,
    ) -> BoxFuture<'a, Result<Layout, DatabaseError>> {
        Box::pin(async move {
            // The file beside its socket says which process listens there, and on which directory of data.
            let mut lock = self.socket().into_os_string();
            lock.push(".lock");
            let lock = PathBuf::from(lock);
            let data = match (fs::read_to_string(&lock), data) {
                (Ok(text), _) => PathBuf::from(text.lines().nth(1).unwrap_or_default()),
                (Err(_), Some(data)) => data.to_owned(),
                (Err(error), None) => return Err(DatabaseError::Files { path: lock, error }),
            };
            let data = data.canonicalize().map_err(|error| DatabaseError::Files { path: data.clone(), error })?;
            if let Some(elsewhere) = elsewhere(&data) {
                let why = format!(
                    "{} has data in {} too, and only clusters with all in one directory are rewound: restore with `garant restore`",
                    data.display(),
                    elsewhere.display()
                );
                return Err(DatabaseError::Database(why));
            }
            Ok(Layout { data, beside: Vec::new() })
        })
    }

    fn answers<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let user = self.user().unwrap_or_else(|_| "postgres".to_owned());
            let password = match &self.settings.password {
                Some(place) => context.secrets.open(&place.secret()).await.ok(),
                None => None,
            };
            match Connection::open(&self.socket(), &user, password.as_ref(), Mode::Sql).await {
                Err(error @ WireError::Refused(_)) => error.code() != Some(NOT_NOW),
                Ok(_) | Err(WireError::Unexpected(_)) => true,
                Err(_) => false,
            }
        })
    }

    /// A server that stops waits until whoever follows its log has all of it: so somebody must.
    fn ship<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
    ) -> BoxFuture<'a, Result<Hold, String>> {
        Box::pin(async move {
            let found = async {
                let catalog = Catalog::read(repository, &self.name).await?;
                restorable(repository, &catalog).await
            };
            let stretches = found.await.map_err(|error| error.to_string())?;
            let through = stretches.iter().map(|stretch| stretch.through).max();
            match through {
                Some(through) if context.clock.now().since(through) < FOLLOWED_WITHIN => Ok(Hold::default()),
                through => Err(format!(
                    "the write-ahead log is in the repository up to {}, and is not followed: see with `garant backup status` why",
                    through.map_or_else(|| "no instant".to_owned(), |through| through.to_string())
                )),
            }
        })
    }

    fn is_shipped<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
        layout: &'a Layout,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let version = fs::read_to_string(layout.data.join("PG_VERSION")).unwrap_or_default();
            let server = Server::find(context, version.trim()).await.map_err(|error| error.to_string())?;
            let control = server.control(context, &layout.data).await.map_err(|error| error.to_string())?;
            // The record of the checkpoint at the end: whatever was committed lies before it.
            let end = control.last_checkpoint().ok_or("the control file names no checkpoint")?;
            let begun = context.clock.monotonic();
            loop {
                let there = self.shipped(repository).await.map_err(|error| error.to_string())?;
                if there.is_some_and(|there| there >= end) {
                    return Ok(());
                }
                if context.clock.monotonic().since(begun) > SHIPPED_WITHIN {
                    let there = there.map_or_else(|| "nothing of it".to_owned(), |(_, at)| format!("it up to {at}"));
                    return Err(format!("the write-ahead log ends at {}, and the repository has {there}", end.1));
                }
                tokio::time::sleep(LOOKS_EVERY.to_std()).await;
            }
        })
    }

    fn fit(&self, aside: &Path, data: &Path) -> Result<(), DatabaseError> {
        let failed = |path: &Path, error| DatabaseError::Files { path: path.to_owned(), error };
        for name in SETTINGS {
            let (from, to) = (data.join(name), aside.join(name));
            if from.is_file() {
                let kept = fs::copy(&from, &to).and_then(|_| {
                    let of = fs::metadata(&from)?;
                    lchown(&to, Some(of.uid()), Some(of.gid()))
                });
                kept.map_err(|error| failed(&to, error))?;
            }
        }
        let folder = aside.join("pg_tblspc");
        for entry in fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
            let entry = entry.map_err(|error| failed(&folder, error))?;
            let link = entry.path();
            let is_ours = aside.join(TABLESPACES).join(entry.file_name()).is_dir();
            if is_ours {
                let mended = fs::symlink_metadata(&link).and_then(|of| {
                    fs::remove_file(&link)?;
                    symlink(data.join(TABLESPACES).join(entry.file_name()), &link)?;
                    lchown(&link, Some(of.uid()), Some(of.gid()))
                });
                mended.map_err(|error| failed(&link, error))?;
            }
        }
        Ok(())
    }
}
