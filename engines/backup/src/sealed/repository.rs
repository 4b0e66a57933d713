//! The copies of a repository: whatever is added goes to each of them, and whatever is read comes from the first that has it whole.
//!
//! A copy that fails is left alone for [`AWAY`], so that one provider that is down holds up no log. What it missed is brought to it by
//! [`Repository::level`], which compares listings and copies objects as they are, sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use engine::Clock;
use engine::random::Random;
use event::{Monotonic, Span, Time};
use futures_util::future::join_all;

use super::key::{DataKey, RepositoryKey};
use super::object::{FIRST_BYTES, head, open};
use super::{RepositoryError, SealError};
use crate::objects::{Listed, ObjectError, Objects, Why, list_all};

/// How long a copy that failed is not asked again, while another one answers.
const AWAY: Span = Span::from_secs(30);
/// Most data keys that are remembered.
const KEYS_MAX: usize = 1024;
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

/// A repository, with its key and all its copies.
pub struct Repository {
    copies: Vec<Copy>,
    key: RepositoryKey,
    /// For how long objects are locked where they are put.
    keep: Span,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    keys: Mutex<BTreeMap<String, DataKey>>,
    failed: Mutex<BTreeMap<usize, (ObjectError, Monotonic)>>,
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
        let (keys, failed) = (Mutex::default(), Mutex::default());
        Self { copies, key, keep, clock, random, keys, failed }
    }

    /// The copies.
    pub fn copies(&self) -> &[Copy] {
        &self.copies
    }

    /// One of its copies alone, as a repository.
    pub(crate) fn only(&self, copy: usize) -> Self {
        let copies = self.copies.get(copy).cloned().into_iter().collect();
        Self::new(copies, self.key.clone(), self.keep, Arc::clone(&self.clock), Arc::clone(&self.random))
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

    /// How each copy is doing.
    pub fn states(&self) -> Vec<CopyState> {
        let now = self.clock.monotonic();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let state = |(at, copy): (usize, &Copy)| {
            let failure = failed.get(&at);
            let is_away = failure.is_some_and(|(_, since)| now.since(*since) < AWAY);
            CopyState { name: copy.name.clone(), error: failure.map(|(error, _)| error.clone()), is_away }
        };
        self.copies.iter().enumerate().map(state).collect()
    }

    /// Adds an object to each copy that is not away, and says to which it was added.
    ///
    /// # Errors
    /// It is at no copy: the first cause.
    pub async fn put(&self, name: &str, body: Bytes) -> Result<BTreeSet<usize>, RepositoryError> {
        let keep_until = Time::from_micros(self.clock.now().micros().saturating_add(self.keep.micros()));
        let states = self.states();
        // Where all are away there is nothing to lose by asking.
        let all_away = states.iter().all(|state| state.is_away);
        let asked = self.copies.iter().enumerate().filter(|(at, _)| all_away || !states[*at].is_away);
        let puts = asked.map(|(at, copy)| {
            let body = body.clone();
            async move { (at, copy.objects.put(name, body, Some(keep_until)).await) }
        });
        let (mut done, mut first_error) = (BTreeSet::new(), None);
        for (at, result) in join_all(puts).await {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(()) => {
                    failed.remove(&at);
                    done.insert(at);
                }
                Err(error) => {
                    failed.insert(at, (error.clone(), self.clock.monotonic()));
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if done.is_empty() => Err(error.into()),
            _ if done.is_empty() => Err(RepositoryError::Unusable("the repository has no copy".into())),
            _ => Ok(done),
        }
    }

    /// The head and the payload of the sealed object `name` in `folder`: of the first copy at which it is whole.
    pub async fn fetch(&self, folder: &str, name: &str) -> Result<(Vec<u8>, Vec<u8>), RepositoryError> {
        let whole = format!("{folder}/{name}");
        let key = self.data_key(folder).await?;
        self.first_whole(&whole, None, |bytes| open(&key, &whole, bytes)).await
    }

    /// The head alone, which costs a megabyte at most.
    pub async fn fetch_head(&self, folder: &str, name: &str) -> Result<Vec<u8>, RepositoryError> {
        let whole = format!("{folder}/{name}");
        let key = self.data_key(folder).await?;
        self.first_whole(&whole, Some(FIRST_BYTES), |bytes| head(&key, &whole, bytes)).await
    }

    /// Reads the sealed object `name` at one copy, by its place in [`Repository::copies`], and throws it away.
    ///
    /// # Errors
    /// It is not there, or not whole.
    pub async fn verify(&self, copy: usize, name: &str) -> Result<(), RepositoryError> {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let key = self.data_key(folder).await?;
        let Some(copy) = self.copies.get(copy) else { return Ok(()) };
        let bytes = copy.objects.get(name, None).await?;
        let seal = |error| RepositoryError::Seal { name: format!("{}: {name}", copy.objects.place()), error };
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
        for copy in self.in_order() {
            let error = match copy.objects.get(name, range.clone()).await {
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
        for copy in self.in_order() {
            let error = match copy.objects.get(&name, None).await {
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
    fn in_order(&self) -> Vec<Copy> {
        let states = self.states();
        let mut order: Vec<usize> = (0..self.copies.len()).collect();
        order.sort_by_key(|at| states[*at].is_away);
        order.into_iter().map(|at| self.copies[at].clone()).collect()
    }

    async fn first_whole<T>(
        &self,
        name: &str,
        first_bytes: Option<u64>,
        open: impl Fn(&[u8]) -> Result<T, SealError>,
    ) -> Result<T, RepositoryError> {
        let mut first_error = None;
        for copy in self.in_order() {
            let error = match copy.objects.get(name, first_bytes.map(|bytes| 0..bytes)).await {
                Ok(bytes) => match open(&bytes) {
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
            match listing {
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
        for listing in join_all(listings).await {
            match listing {
                Ok(names) => all.extend(names),
                Err(error) => errors.push(error),
            }
        }
        if errors.len() == self.copies.len() {
            return Err(errors.swap_remove(0).into());
        }
        Ok(all)
    }

    /// Brings each object below `prefix` to every copy that lacks it.
    ///
    /// # Errors
    /// No copy can be listed.
    pub async fn level(&self, prefix: &str) -> Result<Levelled, RepositoryError> {
        let (all, errors) = self.list(prefix).await?;
        let unlisted: BTreeSet<&str> = errors.iter().map(|error| error.place.as_str()).collect();
        let keep_until = Time::from_micros(self.clock.now().micros().saturating_add(self.keep.micros()));
        let mut levelled = Levelled::default();
        for (name, at) in &all {
            if at.iter().any(|(_, size)| *size != at[0].1) {
                levelled.differing.push(name.clone());
                continue;
            }
            let lacking = self.copies.iter().enumerate().filter(|(index, copy)| {
                !unlisted.contains(copy.objects.place()) && at.iter().all(|(has, _)| has != index)
            });
            for (_, copy) in lacking {
                let from = &self.copies[at[0].0];
                let copied = async {
                    let body = from.objects.get(name, None).await?;
                    copy.objects.put(name, body, Some(keep_until)).await
                };
                match copied.await {
                    Ok(()) => levelled.copied += 1,
                    Err(error) => levelled.errors.push(error),
                }
            }
        }
        levelled.errors.extend(errors);
        Ok(levelled)
    }

    /// Says in words why a key of `folder` is not there, for a folder that was destroyed.
    pub fn is_destroyed(error: &RepositoryError) -> bool {
        matches!(error, RepositoryError::Object(error) if error.why == Why::Missing && error.name.starts_with("keys/"))
    }
}

/// The object that holds the wrapped data key of a folder.
pub(crate) fn key_name(folder: &str) -> String {
    format!("keys/{folder}")
}
