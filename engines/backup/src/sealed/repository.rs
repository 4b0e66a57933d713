//! The copies of a repository: whatever is added goes to each of them, and whatever is read comes from the first that has it whole.
//!
//! A copy that fails is left alone for [`AWAY`], so that one provider that is down holds up no log; nor does one that does not answer: the
//! others are waited for as long as [`GRACE`] once one has an object. What it missed is brought to it by
//! [`Repository::level`], which compares listings and copies objects as they are, sealed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use engine::Clock;
use engine::random::Random;
use event::{Monotonic, Span, Time};
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::key::{DataKey, RepositoryKey, hex};
use super::object::{FIRST_BYTES, Memory, head, open, open_into};
use super::set::Manifest;
use super::{RepositoryError, SealError};
use crate::files::LEASES;
use crate::objects::{Listed, ObjectError, Objects, Why, list_all};
use crate::retention::{Folders, Retention, folder_of, is_future, time_of};

/// How long a copy that failed is not asked again, while another one answers.
const AWAY: Span = Span::from_secs(30);
/// How long the others are waited for once a copy has an object.
const GRACE: Duration = Duration::from_secs(5);
/// The same, for each millisecond that a large object may take: 64 KiB a second.
const GRACE_BYTES_PER_MS: u64 = 64;
/// Most data keys, and manifests, that are remembered.
const KEYS_MAX: usize = 1024;
/// Most locks that are remembered.
const LOCKS_MAX: usize = 500_000;
/// How many locks are extended at once.
const LOCKS_AT_ONCE: usize = 8;
/// A copy that has fewer than one in so many of the objects that it had at the last look was emptied.
const EMPTIED_BELOW: u64 = 10;
/// How much longer than needed a lock is made that is extended.
const LOCK_AHEAD: Span = Span::from_days(1);
/// How long before it is due an object is not brought to a copy any more: the clock of the server may be ahead.
const DUE_SOON: Span = Span::from_secs(3600);
/// Most objects of one listing.
pub(super) const OBJECTS_MAX: usize = 2_000_000;

/// One copy: its name in the policy, and where it is.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Its name.
    pub name: String,
    /// Its objects.
    pub objects: Arc<dyn Objects>,
}

/// How a copy is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyState {
    /// Its name.
    pub name: String,
    /// Why the last object was not added; `None` while all is well.
    pub error: Option<ObjectError>,
    /// Whether it is left alone for now.
    pub is_away: bool,
}

/// Which copies have failed last, with the cause, and when.
type Failures = Arc<Mutex<BTreeMap<usize, (ObjectError, Monotonic)>>>;
/// When copies have last missed something.
type Behind = Arc<Mutex<BTreeMap<usize, Monotonic>>>;
/// Until when objects are locked, by the copy and the name.
type Locks = Arc<Mutex<BTreeMap<(usize, String), Time>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember_lock(locks: &Locks, copy: usize, name: String, until: Time) {
    let mut locks = lock(locks);
    if locks.len() >= LOCKS_MAX {
        locks.clear();
    }
    locks.insert((copy, name), until);
}

/// A repository, with its key and all its copies.
pub struct Repository {
    copies: Vec<Copy>,
    key: RepositoryKey,
    /// For how long everything can be restored.
    keep: Span,
    /// For how much longer what is stored of a backup is needed: later bases, logs and snapshots build on it for that long.
    intervals: BTreeMap<String, Span>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    keys: Mutex<BTreeMap<String, DataKey>>,
    failed: Failures,
    /// How long a copy that fails is left alone.
    away: Span,
    /// When each copy has last missed something, that was not brought to it since.
    behind: Behind,
    /// Objects of each backup that are damaged at every copy: nothing new is to build on them.
    distrusted: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// How many objects each copy had when they were compared last.
    had: Mutex<BTreeMap<usize, u64>>,
    /// Until when an object is locked at a copy, as far as it is remembered.
    locks: Locks,
    /// Manifests that were read: they never change.
    manifests: Mutex<BTreeMap<String, Manifest>>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("copies", &self.copies).field("key", &self.key).finish_non_exhaustive()
    }
}

/// What [`Repository::level`] did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Levelled {
    /// How many objects were brought to a copy that lacked them.
    pub copied: u64,
    /// Objects of one name and different sizes: one of them is not what was put.
    pub differing: Vec<String>,
    /// Copies that have lost nearly all since they were compared last, each in words: nobody destroys so much at once.
    pub emptied: Vec<String>,
    /// Why a copy could not be listed, read or written to.
    pub errors: Vec<ObjectError>,
}

impl Repository {
    /// The repository of this key with these copies; objects are locked for `keep`.
    pub fn new(
        copies: Vec<Copy>,
        key: RepositoryKey,
        keep: Span,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            copies,
            key,
            keep,
            intervals: BTreeMap::new(),
            clock,
            random,
            keys: Mutex::default(),
            failed: Arc::default(),
            away: AWAY,
            behind: Arc::default(),
            distrusted: Mutex::default(),
            had: Mutex::default(),
            locks: Arc::default(),
            manifests: Mutex::default(),
        }
    }

    /// The same, for backups whose bases, or snapshots, are these times apart: what is stored of one is locked for so much longer.
    #[must_use]
    pub fn bases_apart(self, intervals: BTreeMap<String, Span>) -> Self {
        Self { intervals, ..self }
    }

    /// The same, which leaves a copy that fails alone for so long.
    #[must_use]
    pub(crate) fn leaving_alone_for(self, away: Span) -> Self {
        Self { away, ..self }
    }

    /// Until when an object has to be locked that is needed by something of this instant.
    pub(crate) fn keep_until(&self, name: &str, at: Time) -> Time {
        let interval = backup_of(name).map_or(Span::ZERO, |backup| self.interval(backup));
        let kept = self.keep.micros().saturating_add(interval.micros());
        Time::from_micros(at.micros().saturating_add(kept))
    }

    /// Whether an object is still to be kept, by what its name says of its time; one whose name says none is.
    pub(crate) fn is_promised(&self, name: &str) -> bool {
        let at = folder_of(name).and_then(|(folder, _)| time_of(folder));
        at.is_none_or(|at| at + self.keep > self.clock.now())
    }

    /// How long the bases, or snapshots, of a backup are apart.
    pub(crate) fn interval(&self, backup: &str) -> Span {
        self.intervals.get(backup).copied().unwrap_or(Span::ZERO)
    }

    /// Locks objects that something of the instant `at` depends on for as long as that is kept, at each copy that locks. Says at which copies that
    /// failed, with the first cause. A lock is extended by a day more than is needed, so that each is extended once a day at most.
    pub(crate) async fn keep_locked(&self, names: &BTreeSet<String>, at: Time) -> BTreeMap<usize, ObjectError> {
        let all = |index: usize| names.iter().map(move |name| (index, name.clone()));
        let all: Vec<(usize, String)> = (0..self.copies.len()).flat_map(all).collect();
        let each = all.into_iter().map(|(index, name)| self.extend_one(index, name, at));
        let failed: Vec<Option<(usize, ObjectError)>> =
            stream::iter(each).buffer_unordered(LOCKS_AT_ONCE).collect().await;
        let mut first = BTreeMap::new();
        for (at, error) in failed.into_iter().flatten() {
            first.entry(at).or_insert(error);
        }
        first
    }

    async fn extend_one(&self, index: usize, name: String, at: Time) -> Option<(usize, ObjectError)> {
        let until = self.keep_until(&name, at);
        let known = self.remembered_lock(index, &name);
        if known.is_some_and(|known| known >= until) {
            return None;
        }
        let wanted = if known.is_some() { until + LOCK_AHEAD } else { until };
        match self.copies.get(index)?.objects.extend(&name, wanted).await {
            Ok(()) => {
                remember_lock(&self.locks, index, name, wanted);
                None
            }
            Err(error) => Some((index, error)),
        }
    }

    fn remembered_lock(&self, copy: usize, name: &str) -> Option<Time> {
        lock(&self.locks).get(&(copy, name.to_owned())).copied()
    }

    /// A manifest that was read before.
    pub(super) fn manifest(&self, folder: &str) -> Option<Manifest> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).get(folder).cloned()
    }

    /// Remembers a manifest.
    pub(super) fn remember_manifest(&self, folder: &str, manifest: &Manifest) {
        let mut manifests = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        if manifests.len() >= KEYS_MAX {
            manifests.clear();
        }
        manifests.insert(folder.to_owned(), manifest.clone());
    }

    /// The copies.
    pub fn copies(&self) -> &[Copy] {
        &self.copies
    }

    /// One of its copies alone, as a repository.
    pub(crate) fn only(&self, copy: usize) -> Self {
        let copies = self.copies.get(copy).cloned().into_iter().collect();
        Self::new(copies, self.key.clone(), self.keep, Arc::clone(&self.clock), Arc::clone(&self.random))
            .bases_apart(self.intervals.clone())
    }

    /// Its key.
    pub(crate) fn key(&self) -> &RepositoryKey {
        &self.key
    }

    /// The randomness of this process.
    pub fn random(&self) -> &dyn Random {
        &*self.random
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Whether a copy has missed nothing that was put since the start, or it was brought to it; the rest it had at the start.
    pub(crate) fn has_all(&self, copy: usize) -> bool {
        !lock(&self.behind).contains_key(&copy)
    }

    /// Takes it that each copy misses something, until they are level: of what was put before the start nothing is known.
    pub(crate) fn all_behind(&self) {
        let now = self.clock.monotonic();
        lock(&self.behind).extend((0..self.copies.len()).map(|copy| (copy, now)));
    }

    /// Has nothing new of a backup build on these objects, and on its others again: they are damaged at every copy.
    pub(crate) fn distrust(&self, backup: &str, names: BTreeSet<String>) {
        lock(&self.distrusted).insert(backup.to_owned(), names);
    }

    /// Whether nothing new is to build on an object.
    pub(crate) fn is_distrusted(&self, name: &str) -> bool {
        let of = backup_of(name).unwrap_or_default();
        lock(&self.distrusted).get(of).is_some_and(|names| names.contains(name))
    }

    /// How each copy is doing.
    pub fn states(&self) -> Vec<CopyState> {
        let now = self.clock.monotonic();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let state = |(at, copy): (usize, &Copy)| {
            let failure = failed.get(&at);
            let is_away = failure.is_some_and(|(_, since)| now.since(*since) < self.away);
            CopyState { name: copy.name.clone(), error: failure.map(|(error, _)| error.clone()), is_away }
        };
        self.copies.iter().enumerate().map(state).collect()
    }

    /// Adds an object to each copy that is not away, and says to which it was added; one that does not answer goes on by itself.
    ///
    /// # Errors
    /// It is at no copy: the first cause.
    pub async fn put(&self, name: &str, body: Bytes) -> Result<BTreeSet<usize>, RepositoryError> {
        // A lease is nothing that is kept.
        let keep_until = (!is_lease(name)).then(|| self.keep_until(name, self.clock.now()));
        let states = self.states();
        // Where all are away there is nothing to lose by asking.
        let all_away = states.iter().all(|state| state.is_away);
        let (mut puts, mut waited_for) = (FuturesUnordered::new(), BTreeSet::new());
        let left_alone = (0..self.copies.len()).filter(|at| !all_away && states[*at].is_away);
        lock(&self.behind).extend(left_alone.map(|at| (at, self.clock.monotonic())));
        for (at, copy) in self.copies.iter().enumerate().filter(|(at, _)| all_away || !states[*at].is_away) {
            waited_for.insert(at);
            puts.push(tokio::spawn(self.put_at(at, copy, name, body.clone(), keep_until)));
        }
        let grace = GRACE + Duration::from_millis(u64::try_from(body.len()).unwrap_or(u64::MAX) / GRACE_BYTES_PER_MS);
        let (mut done, mut first_error, mut deadline) = (BTreeSet::new(), None, None::<Pin<Box<tokio::time::Sleep>>>);
        while done.is_empty() || !waited_for.is_empty() {
            let patience = async {
                match &mut deadline {
                    Some(deadline) => deadline.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                put = puts.next() => match put {
                    None => break,
                    Some(Ok((at, result))) => {
                        waited_for.remove(&at);
                        match result {
                            Ok(()) => {
                                done.insert(at);
                                deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(grace)));
                            }
                            Err(error) => drop(first_error.get_or_insert(error)),
                        }
                    }
                    // The process is stopping.
                    Some(Err(_)) => {}
                },
                () = patience => break,
            }
        }
        // Whatever has not answered goes on by itself, and is left alone for a while.
        for at in waited_for.into_iter().filter(|_| !done.is_empty()) {
            let (place, name) = (self.copies[at].objects.place().to_owned(), name.to_owned());
            let reason =
                "it has not answered yet, and the other copies have it; what it misses is brought to it".to_owned();
            let error = ObjectError { why: Why::Unavailable, place, name, reason };
            lock(&self.behind).insert(at, self.clock.monotonic());
            lock(&self.failed).entry(at).or_insert((error, self.clock.monotonic()));
        }
        match first_error {
            Some(error) if done.is_empty() => Err(error.into()),
            _ if done.is_empty() => Err(RepositoryError::Unusable("the repository has no copy".into())),
            _ => Ok(done),
        }
    }

    /// Adds an object to one copy, and remembers how that went.
    fn put_at(
        &self,
        at: usize,
        copy: &Copy,
        name: &str,
        body: Bytes,
        keep_until: Option<Time>,
    ) -> impl Future<Output = (usize, Result<(), ObjectError>)> + Send + 'static {
        let (objects, name) = (Arc::clone(&copy.objects), name.to_owned());
        let (failed, locks, clock) = (Arc::clone(&self.failed), Arc::clone(&self.locks), Arc::clone(&self.clock));
        let behind = Arc::clone(&self.behind);
        async move {
            let result = objects.put(&name, body, keep_until).await;
            match &result {
                Ok(()) => {
                    lock(&failed).remove(&at);
                    // Packs are needed by later snapshots; what the others are needed by is known by their names.
                    if let Some(until) = keep_until.filter(|_| name.starts_with("restic/")) {
                        remember_lock(&locks, at, name, until);
                    }
                }
                Err(error) => {
                    lock(&behind).insert(at, clock.monotonic());
                    lock(&failed).insert(at, (error.clone(), clock.monotonic()));
                }
            }
            (at, result)
        }
    }

    /// The head and the payload of the sealed object `name` in `folder`: of the first copy at which it is whole.
    pub async fn fetch(&self, folder: &str, name: &str) -> Result<(Vec<u8>, Vec<u8>), RepositoryError> {
        let whole = format!("{folder}/{name}");
        let (key, name) = (self.data_key(folder).await?, whole.clone());
        self.first_whole(&whole, None, move |bytes| open(&key, &name, bytes)).await
    }

    /// The same, opened in this memory, in which its payload is then.
    pub(super) async fn fetch_into(&self, folder: &str, name: &str, memory: Memory) -> Result<Memory, RepositoryError> {
        let whole = format!("{folder}/{name}");
        let (key, name, memory) = (self.data_key(folder).await?, whole.clone(), Arc::new(Mutex::new(memory)));
        let opened = move |bytes: &[u8]| {
            let mut memory = std::mem::take(&mut *lock(&memory));
            open_into(&key, &name, bytes, &mut memory).map(|_head| memory)
        };
        self.first_whole(&whole, None, opened).await
    }

    /// The head alone, which costs a megabyte at most.
    pub async fn fetch_head(&self, folder: &str, name: &str) -> Result<Vec<u8>, RepositoryError> {
        let whole = format!("{folder}/{name}");
        let (key, name) = (self.data_key(folder).await?, whole.clone());
        self.first_whole(&whole, Some(FIRST_BYTES), move |bytes| head(&key, &name, bytes)).await
    }

    /// Reads the object `name` at one copy, by its place in [`Repository::copies`], and throws it away: what is sealed has to open, a data
    /// key to be of this repository, and of a repository of files an object is called as its hash.
    ///
    /// # Errors
    /// It is not there, or not whole.
    pub async fn verify(&self, copy: usize, name: &str) -> Result<(), RepositoryError> {
        let Some(copy) = self.copies.get(copy) else { return Ok(()) };
        let place = copy.objects.place();
        if let Some(folder) = name.strip_prefix("keys/") {
            let wrapped = copy.objects.get(name, None).await?;
            let unusable = |error| RepositoryError::Unusable(format!("{place}: {name}: {error}"));
            return self.key.unwrap(&wrapped, folder).map(drop).map_err(unusable);
        }
        if name.starts_with("restic/") {
            let bytes = copy.objects.get(name, None).await?;
            let wanted = name.rsplit('/').next().filter(|hash| hash.len() == 64);
            let hash = tokio::task::spawn_blocking(move || hex(&Sha256::digest(&bytes))).await;
            return match wanted {
                Some(wanted) if hash.is_ok_and(|hash| hash != wanted) => Err(RepositoryError::Unusable(format!(
                    "{place}: {name}: it is not what was stored: its hash is another one"
                ))),
                _ => Ok(()),
            };
        }
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let key = self.data_key(folder).await?;
        let bytes = copy.objects.get(name, None).await?;
        let seal = |error| RepositoryError::Seal { name: format!("{place}: {name}"), error };
        open(&key, name, &bytes).map(|_| ()).map_err(seal)
    }

    /// An object that is not sealed by us, or a part of it: of the first copy at which it is as `check` wants it.
    ///
    /// # Errors
    /// It is so at no copy: a damaged one is named before one that is missing.
    pub(crate) async fn get(
        &self,
        name: &str,
        range: Option<std::ops::Range<u64>>,
        check: impl Fn(&Bytes) -> bool,
    ) -> Result<Bytes, RepositoryError> {
        let mut first_error: Option<ObjectError> = None;
        for (at, copy) in self.in_order() {
            let error = match self.noted(at, copy.objects.get(name, range.clone()).await) {
                Ok(bytes) if check(&bytes) => return Ok(bytes),
                Ok(_) => ObjectError {
                    why: Why::Damaged,
                    place: copy.objects.place().to_owned(),
                    name: name.to_owned(),
                    reason: "it is damaged".into(),
                },
                Err(error) => error,
            };
            if first_error.as_ref().is_none_or(|first| first.why != Why::Damaged && error.why == Why::Damaged) {
                first_error = Some(error);
            }
        }
        let error = first_error.map(RepositoryError::from);
        Err(error.unwrap_or_else(|| RepositoryError::Unusable("the repository has no copy".into())))
    }

    /// The data key of a folder.
    ///
    /// # Errors
    /// No copy has it, or it was wrapped by another repository key.
    pub async fn data_key(&self, folder: &str) -> Result<DataKey, RepositoryError> {
        if let Some(key) = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(folder) {
            return Ok(key.clone());
        }
        let name = key_name(folder);
        let mut first_error = None;
        for (at, copy) in self.in_order() {
            let error = match self.noted(at, copy.objects.get(&name, None).await) {
                Ok(object) => match self.key.unwrap(&object, folder) {
                    Ok(key) => {
                        self.remember(folder, &key);
                        return Ok(key);
                    }
                    Err(error) => RepositoryError::Unusable(format!("{}: {name}: {error}", copy.objects.place())),
                },
                Err(error) => error.into(),
            };
            first_error.get_or_insert(error);
        }
        Err(first_error.unwrap_or_else(|| RepositoryError::Unusable("the repository has no copy".into())))
    }

    /// Whether the data key of a folder is lost: at no copy, though all of them answer. Then it is forgotten here too: what was sealed
    /// with it could be opened by this process alone.
    pub(super) async fn has_lost_key(&self, folder: &str) -> bool {
        let name = key_name(folder);
        for (at, copy) in self.in_order() {
            let found = self.noted(at, copy.objects.get(&name, None).await);
            if !matches!(&found, Err(error) if error.why == Why::Missing) {
                return false;
            }
        }
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(folder);
        true
    }

    /// Makes the data key of a new folder, and adds it to the copies.
    pub(super) async fn make_key(&self, folder: &str) -> Result<DataKey, RepositoryError> {
        let key = DataKey::random(&*self.random);
        let wrapped = self.key.wrap(&key, folder, &*self.random);
        let wrapped = wrapped.map_err(|error| RepositoryError::Unusable(error.to_string()))?;
        self.put(&key_name(folder), wrapped.into()).await?;
        self.remember(folder, &key);
        Ok(key)
    }

    fn remember(&self, folder: &str, key: &DataKey) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(folder.to_owned(), key.clone());
    }

    /// The copies in the order in which they are read: those that answered last first.
    fn in_order(&self) -> Vec<(usize, Copy)> {
        let states = self.states();
        let mut order: Vec<usize> = (0..self.copies.len()).collect();
        order.sort_by_key(|at| states[*at].is_away);
        order.into_iter().map(|at| (at, self.copies[at].clone())).collect()
    }

    /// What a copy has answered; one that does not answer is away, whatever it was asked.
    fn noted<T>(&self, at: usize, answer: Result<T, ObjectError>) -> Result<T, ObjectError> {
        answer.inspect_err(|error| {
            if error.why == Why::Unavailable {
                lock(&self.failed).insert(at, (error.clone(), self.clock.monotonic()));
            }
        })
    }

    /// What is opened of the first copy at which that works; on a thread of its own, for decompression takes long.
    async fn first_whole<T: Send + 'static>(
        &self,
        name: &str,
        first_bytes: Option<u64>,
        open: impl Fn(&[u8]) -> Result<T, SealError> + Clone + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let mut first_error = None;
        for (at, copy) in self.in_order() {
            let got = copy.objects.get(name, first_bytes.map(|bytes| 0..bytes)).await;
            let error = match self.noted(at, got) {
                Ok(bytes) => match opened_apart(open.clone(), bytes).await {
                    Ok(opened) => return Ok(opened),
                    Err(error) => RepositoryError::Seal { name: format!("{}: {name}", copy.objects.place()), error },
                },
                Err(error) => error.into(),
            };
            // That one is damaged says more than that another has none.
            match &first_error {
                Some(RepositoryError::Seal { .. }) => {}
                Some(_) if !matches!(error, RepositoryError::Seal { .. }) => {}
                _ => first_error = Some(error),
            }
        }
        Err(first_error.unwrap_or_else(|| RepositoryError::Unusable("the repository has no copy".into())))
    }

    /// Every object below `prefix`, with its size and the copies that have it.
    ///
    /// # Errors
    /// No copy can be listed. One that can't while another can is left out; it is in the second part.
    pub async fn list(
        &self,
        prefix: &str,
    ) -> Result<(BTreeMap<String, Vec<(usize, u64)>>, Vec<ObjectError>), RepositoryError> {
        let listings = self.copies.iter().map(|copy| list_all(&*copy.objects, prefix, OBJECTS_MAX));
        let (mut all, mut errors) = (BTreeMap::<String, Vec<(usize, u64)>>::new(), Vec::new());
        for (at, listing) in join_all(listings).await.into_iter().enumerate() {
            match self.noted(at, listing) {
                Ok(listing) => {
                    for Listed { name, size } in listing {
                        all.entry(name).or_default().push((at, size));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.len() == self.copies.len() {
            return Err(errors.swap_remove(0).into());
        }
        Ok((all, errors))
    }

    /// The folders directly below `folder` at any copy.
    ///
    /// # Errors
    /// No copy can be listed.
    pub async fn folders(&self, folder: &str) -> Result<BTreeSet<String>, RepositoryError> {
        let listings = self.copies.iter().map(|copy| copy.objects.folders(folder));
        let (mut all, mut errors) = (BTreeSet::new(), Vec::new());
        for (at, listing) in join_all(listings).await.into_iter().enumerate() {
            match self.noted(at, listing) {
                Ok(names) => all.extend(names),
                Err(error) => errors.push(error),
            }
        }
        if errors.len() == self.copies.len() {
            return Err(errors.swap_remove(0).into());
        }
        Ok(all)
    }

    /// Brings each object below `prefix` to every copy that lacks it: what is needed to restore the newest state of each database first,
    /// then files, then what is older, the newest first (BK-8). What is due to be destroyed is brought nowhere; what `skip` says is left for
    /// another time.
    ///
    /// # Errors
    /// No copy can be listed.
    pub async fn level(&self, prefix: &str, skip: impl Fn(&str) -> bool) -> Result<Levelled, RepositoryError> {
        let began = self.clock.monotonic();
        // Copies that could not be given a piece of log, or its key.
        let mut lacking_log = BTreeSet::new();
        let (all, errors) = self.list(prefix).await?;
        let due = self.due(&all);
        let is_due = |name: &str| folder_of(name).is_some_and(|(folder, _)| due.contains(folder));
        let unlisted: BTreeSet<&str> = errors.iter().map(|error| error.place.as_str()).collect();
        let mut levelled = Levelled::default();
        let newest = newest_bases(all.keys(), self.clock.now());
        if prefix.is_empty() {
            levelled.emptied = self.emptied(&all, &unlisted);
        }
        let mut in_order: Vec<(&String, &Vec<(usize, u64)>)> =
            all.iter().filter(|(name, _)| !skip(name) && !is_due(name) && !is_lease(name)).collect();
        in_order.sort_by_cached_key(|(name, _)| self.urgency(name, &newest));
        for (name, at) in in_order {
            if at.iter().any(|(_, size)| *size != at[0].1) {
                levelled.differing.push(name.clone());
                continue;
            }
            let lacking = self.copies.iter().enumerate().filter(|(index, copy)| {
                !unlisted.contains(copy.objects.place()) && at.iter().all(|(has, _)| has != index)
            });
            for (index, copy) in lacking {
                let from = &self.copies[at[0].0];
                let copied = async {
                    let keep_until = self.keep_brought(name, from.objects.locked_until(name).await?);
                    let body = from.objects.get(name, None).await?;
                    copy.objects.put(name, body, Some(keep_until)).await
                };
                match copied.await {
                    Ok(()) => levelled.copied += 1,
                    Err(error) => {
                        if name.strip_prefix("keys/").unwrap_or(name).starts_with("logs/") {
                            lacking_log.insert(index);
                        }
                        levelled.errors.push(error);
                    }
                }
            }
        }
        let is_listed =
            |index: usize| self.copies.get(index).is_some_and(|copy| !unlisted.contains(copy.objects.place()));
        if prefix.is_empty() {
            lock(&self.behind)
                .retain(|index, since| *since > began || !is_listed(*index) || lacking_log.contains(index));
        }
        levelled.errors.extend(errors);
        Ok(levelled)
    }

    /// The copies that have lost nearly all since the last look: a directory that was replaced, a bucket that was emptied.
    fn emptied(&self, all: &BTreeMap<String, Vec<(usize, u64)>>, unlisted: &BTreeSet<&str>) -> Vec<String> {
        let (mut emptied, mut had) = (Vec::new(), lock(&self.had));
        for (index, copy) in self.copies.iter().enumerate().filter(|(_, copy)| !unlisted.contains(copy.objects.place()))
        {
            let is_there =
                |(name, at): &(&String, &Vec<(usize, u64)>)| !is_lease(name) && at.iter().any(|(has, _)| *has == index);
            let has = all.iter().filter(is_there).count() as u64;
            let before = had.insert(index, has).unwrap_or(0);
            if has.saturating_mul(EMPTIED_BELOW) < before {
                emptied.push(format!(
                    "{}: {has} are left of the {before} objects that were at {}: it was emptied, or replaced by another one",
                    copy.name,
                    copy.objects.place()
                ));
            }
        }
        emptied
    }

    /// What is due by its name, or nearly: the server destroys it, at one copy before another. Nor is anything brought that has a name
    /// of the future.
    fn due(&self, all: &BTreeMap<String, Vec<(usize, u64)>>) -> BTreeSet<String> {
        let (folders, now) = (Folders::of(all.keys().map(String::as_str)), self.clock.now());
        let retention = Retention { keep: self.keep, intervals: &self.intervals };
        let since = retention.of(&folders, &folders, now, |_| Some(Time::from_micros(0)));
        since.into_iter().filter(|(_, since)| *since < now + DUE_SOON).map(|(folder, _)| folder).collect()
    }

    /// Until when an object is locked at a copy that it is brought to: for as long as where it comes from, or as if it had been put
    /// there in its time. Locked anew, it would outlive what it is kept for.
    fn keep_brought(&self, name: &str, locked: Option<Time>) -> Time {
        let now = self.clock.now();
        let of_name =
            || folder_of(name).and_then(|(folder, _)| time_of(folder)).map(|at| self.keep_until(name, at.min(now)));
        // What is there still although its time is over is needed anew.
        locked.or_else(of_name).filter(|until| *until > now).unwrap_or_else(|| self.keep_until(name, now))
    }

    /// When an object is brought to a copy that lacks it: what sorts first comes first.
    fn urgency(&self, name: &str, newest: &BTreeMap<&str, Time>) -> (u8, Reverse<Option<Time>>) {
        let (backup, at) = (backup_of(name), folder_of(name).and_then(|(folder, _)| time_of(folder)));
        // A base that the newest one builds on is older by the interval of full bases at most.
        let from = backup.and_then(|backup| Some(*newest.get(backup)? - self.interval(backup)));
        match (at, from) {
            (Some(at), Some(from)) if at >= from => (0, Reverse(Some(at))),
            (None, _) => (1, Reverse(None)),
            _ => (2, Reverse(at)),
        }
    }

    /// Says in words why a key of `folder` is not there, for a folder that was destroyed.
    pub fn is_destroyed(error: &RepositoryError) -> bool {
        matches!(error, RepositoryError::Object(error) if error.why == Why::Missing && error.name.starts_with("keys/"))
    }
}

/// Opens on a thread of its own.
async fn opened_apart<T: Send + 'static>(
    open: impl Fn(&[u8]) -> Result<T, SealError> + Send + 'static,
    bytes: Bytes,
) -> Result<T, SealError> {
    let opened = tokio::task::spawn_blocking(move || open(&bytes)).await;
    opened.unwrap_or(Err(SealError::Malformed))
}

/// The object that holds the wrapped data key of a folder.
pub(crate) fn key_name(folder: &str) -> String {
    format!("keys/{folder}")
}

/// Whether an object is a lease, which holds for an hour, at the copy where it was taken.
fn is_lease(name: &str) -> bool {
    name.strip_prefix(LEASES).is_some_and(|rest| rest.starts_with('/'))
}

/// The backup that an object is of, by its name.
pub(crate) fn backup_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix("keys/").unwrap_or(name);
    let (kind, rest) = name.split_once('/')?;
    matches!(kind, "sets" | "logs" | "restic").then(|| rest.split('/').next())?
}

/// When the newest base of each backup was begun.
fn newest_bases<'a>(names: impl Iterator<Item = &'a String>, now: Time) -> BTreeMap<&'a str, Time> {
    let mut newest = BTreeMap::new();
    for name in names.filter(|name| name.starts_with("sets/")) {
        let at = folder_of(name).and_then(|(folder, _)| time_of(folder)).filter(|at| !is_future(*at, now));
        if let (Some(backup), Some(at)) = (backup_of(name), at) {
            let found = newest.entry(backup).or_insert(at);
            *found = at.max(*found);
        }
    }
    newest
}

/// When a set was begun, by its name.
pub(crate) fn set_time(set: &str) -> Option<Time> {
    let (second, random) = set.split_once('-')?;
    let digits =
        |from: usize, to: usize| second.get(from..to).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if second.len() != 16 || random.len() != 8 {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?);
    let (hour, minute, second) = (digits(9, 11)?, digits(11, 13)?, digits(13, 15)?);
    Time::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

/// The end of the day of a folder of logs, by its name.
pub(crate) fn day_end(folder: &str) -> Option<Time> {
    let day = Time::parse_rfc3339(&format!("{}T00:00:00Z", folder.get(..10)?))?;
    Some(day + Span::from_days(1))
}
