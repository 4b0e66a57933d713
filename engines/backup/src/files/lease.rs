//! Who may write to a repository of files: one process at a time, and nobody while something in it is destroyed.
//!
//! **Problem.** A backup refers to blobs that an earlier one has stored. Whoever destroys what no snapshot needs any more must not do
//! it between the moment a backup counts on a blob and the moment its snapshot says so: restic has locks for it, objects that a host
//! may delete, and that stay when it dies.
//! **Principle.** On its host, a writer holds a lock of the kernel on a file of the agent. In the storage it holds a lease: an object
//! whose name says until when, renewed by further ones, ended by another. Each side puts its own first and looks for those of the
//! other then, so of two that begin together one sees the other at least. A lease that nobody renews runs out by itself. Who destroys
//! needs every copy to answer, a writer one of them, so no two can miss each other at different copies.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use event::{Span, Time};
use futures_util::future::join_all;
use rustix::fs::{FlockOperation, flock};

use crate::objects::{LISTED_MAX, ObjectError};
use crate::sealed::{Repository, RepositoryError, hex};

/// How long a lease holds without being renewed.
const LEASE: Span = Span::from_secs(60 * 60);
/// How far the clocks of two machines may be apart.
const SKEW: Span = Span::from_secs(5 * 60);
/// Folder of the leases.
pub(crate) const FOLDER: &str = "leases";

/// What a lease is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// To add snapshots.
    Write,
    /// To destroy what no snapshot needs.
    Destroy,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Destroy => "destroy",
        }
    }
}

/// A lease was not given, or is lost.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process of this host writes to the repository.
    #[error("another process of this host is backing up `{0}`: wait for its end")]
    Busy(String),
    /// The file of the lock can't be used.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// Another lease holds.
    #[error("`{name}` is in use at {place} until {until} at most ({word}): wait for its end")]
    Held {
        /// The repository.
        name: String,
        /// The copy that says so.
        place: String,
        /// What the other does.
        word: &'static str,
        /// When its lease ends, unless it is renewed.
        until: Time,
    },
    /// The lease has run out: it could not be renewed in time.
    #[error(
        "the lease on `{0}` has run out, and nothing may be written any more: no copy could be reached to renew it in time"
    )]
    Lost(String),
    /// A copy can't be asked.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// Until when the lease held whose object has this name; `None` where it is none.
pub(crate) fn lease_ended(name: &str) -> Option<Time> {
    let object = name.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?.1;
    Some(Time::from_micros(object.split('-').nth(1)?.parse().ok()?))
}

/// The lock of this host on a repository; let go when it is dropped, or when the process dies.
#[derive(Debug)]
pub(super) struct HostLock {
    file: File,
}

impl Drop for HostLock {
    /// Unlocks, as closing would not where a program is just being started: until it is, it has the file open too.
    fn drop(&mut self) {
        _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl HostLock {
    /// Takes the lock, in the folder of the agent.
    pub(super) fn take(state: &Path, name: &str) -> Result<Self, LeaseError> {
        let path = state.join(format!("files-{name}.lock"));
        let shown = || path.display().to_string();
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| LeaseError::File(shown(), error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LeaseError::Busy(name.to_owned())),
            Err(error) => Err(LeaseError::File(shown(), error.into())),
        }
    }
}

/// A lease on a repository of files.
#[derive(Debug)]
pub struct Lease {
    repository: Arc<Repository>,
    name: String,
    role: Role,
    id: String,
    /// Until when it holds, in microseconds.
    until: AtomicI64,
}

impl Lease {
    /// Takes a lease.
    ///
    /// # Errors
    /// The other side has one, or not enough copies answer.
    pub async fn take(repository: &Arc<Repository>, name: &str, role: Role) -> Result<Self, LeaseError> {
        let mut id = [0; 8];
        repository.random().fill(&mut id);
        let (repository, name) = (Arc::clone(repository), name.to_owned());
        let lease = Self { repository, name, role, id: hex(&id), until: AtomicI64::default() };
        let found = match lease.renew().await {
            Ok(()) => lease.look().await,
            Err(error) => Err(error),
        };
        if found.is_err() {
            // The other may go on at once. Where it can't be said, the lease runs out by itself.
            drop(lease.end().await);
        }
        found?;
        Ok(lease)
    }

    /// Has it hold for an hour from now on.
    ///
    /// # Errors
    /// Not enough copies answer.
    pub async fn renew(&self) -> Result<(), LeaseError> {
        let until = self.repository.now() + LEASE;
        let done = self.repository.put(&self.object(self.role.word(), until), Bytes::new()).await?;
        self.until.store(until.micros(), Ordering::Relaxed);
        if self.role == Role::Destroy && done.len() < self.repository.copies().len() {
            let reason = "a copy does not answer: nothing is destroyed unless all of them do";
            return Err(RepositoryError::Unusable(reason.into()).into());
        }
        Ok(())
    }

    fn until(&self) -> Time {
        Time::from_micros(self.until.load(Ordering::Relaxed))
    }

    /// Whether it holds, with some time to spare.
    pub fn is_held(&self) -> bool {
        self.repository.now() + SKEW < self.until()
    }

    /// Ends it, so that the other side need not wait until it runs out.
    ///
    /// # Errors
    /// No copy answers.
    pub async fn end(&self) -> Result<(), LeaseError> {
        self.repository.put(&self.object("end", self.until()), Bytes::new()).await?;
        Ok(())
    }

    /// Does `work` while it is renewed, and ends it then.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let renewing = async {
            loop {
                tokio::time::sleep(Span::from_micros(LEASE.micros() / 4).to_std()).await;
                if let Err(error) = self.renew().await {
                    tracing::warn!(name = self.name, %error, "the lease on the repository could not be renewed");
                }
            }
        };
        let done = tokio::select! {
            done = work => done,
            never = renewing => never,
        };
        if let Err(error) = self.end().await {
            tracing::warn!(name = self.name, %error, "the lease on the repository could not be ended, and runs out within the hour");
        }
        done
    }

    /// Whether something in a repository is being destroyed, as far as the copies that answer say.
    pub async fn is_destroyed_in(repository: &Arc<Repository>, name: &str) -> bool {
        let (repository, name) = (Arc::clone(repository), name.to_owned());
        let looking = Self { repository, name, role: Role::Write, id: String::new(), until: AtomicI64::default() };
        matches!(looking.look().await, Err(LeaseError::Held { .. }))
    }

    /// Looks for leases of the others.
    async fn look(&self) -> Result<(), LeaseError> {
        let looks = self.repository.copies().iter().map(|copy| async move {
            let other = match self.role {
                Role::Write => &[Role::Destroy][..],
                // Two that destroy would each count on what the other removes.
                Role::Destroy => &[Role::Write, Role::Destroy],
            };
            for role in other {
                let ended = self.live(&*copy.objects, "end").await?;
                let live = self.live(&*copy.objects, role.word()).await?;
                // A lease that was renewed ends with the last of its objects.
                let held = live.into_iter().filter(|(_, id)| *id != self.id && ended.iter().all(|(_, end)| end != id));
                if let Some((until, _)) = held.max() {
                    return Ok(Some((copy.objects.place().to_owned(), role.word(), until)));
                }
            }
            Ok::<_, ObjectError>(None)
        });
        let (mut answers, mut first_error) = (0, None);
        for look in join_all(looks).await {
            match look {
                Ok(None) => answers += 1,
                Ok(Some((place, word, until))) => {
                    return Err(LeaseError::Held { name: self.name.clone(), place, word, until });
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if answers == 0 || self.role == Role::Destroy => Err(RepositoryError::from(error).into()),
            _ => Ok(()),
        }
    }

    /// The leases of a kind that have not run out: until when, and whose.
    async fn live(
        &self,
        objects: &dyn crate::objects::Objects,
        word: &str,
    ) -> Result<Vec<(Time, String)>, ObjectError> {
        let prefix = format!("{FOLDER}/{}/{word}-", self.name);
        let earliest = Time::from_micros(self.repository.now().micros().saturating_sub(SKEW.micros()));
        let mut after = self.object(word, earliest);
        let mut live = Vec::new();
        loop {
            let listed = objects.list(&prefix, Some(&after)).await?;
            let is_last = listed.len() < LISTED_MAX;
            let lease = |name: &str| {
                let (until, id) = name.strip_prefix(&prefix)?.split_once('-')?;
                Some((Time::from_micros(until.parse().ok()?), id.to_owned()))
            };
            live.extend(listed.iter().filter_map(|listed| lease(&listed.name)));
            match listed.into_iter().last() {
                Some(last) if !is_last => after = last.name,
                _ => return Ok(live),
            }
        }
    }

    fn object(&self, word: &str, until: Time) -> String {
        format!("{FOLDER}/{}/{word}-{:020}-{}", self.name, until.micros(), self.id)
    }
}
