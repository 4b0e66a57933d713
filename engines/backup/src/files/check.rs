//! Checking a repository of files, at each copy by itself: a copy that is whole hides nothing of one that is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::{Context, Watcher};
use rustic_core::{CheckOptions, FileType, ReadSubsetOption};

use super::backend::Backend;
use super::open::open;
use super::thread::{Thread, on_thread};
use super::words::failed;
use super::{Files, FilesError};
use crate::pace::Pace;
use crate::sealed::Repository;

/// Most findings that are named.
const NAMED_MAX: usize = 100;

/// How much of the data is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// None: names, sizes, index and trees are compared.
    None,
    /// One of `of` parts, which are numbered from 1: who has every part read has read everything.
    Part {
        /// Which.
        number: u32,
        /// How many there are.
        of: u32,
    },
    /// All of it.
    All,
}

/// Something that is wrong at a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The copy, by its name.
    pub copy: String,
    /// What is wrong.
    pub what: String,
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FilesChecked {
    /// Number of snapshots, at all copies together.
    pub snapshots: u64,
    /// How many things are wrong.
    pub wrong: u64,
    /// The first of them, 100 at most.
    pub findings: Vec<Finding>,
    /// Packs that no index names, at all copies together: what a backup that did not end has left.
    pub unused: u64,
}

impl FilesChecked {
    fn add(&mut self, copy: &str, what: impl Into<String>) {
        self.wrong += 1;
        if self.findings.len() < NAMED_MAX {
            let what = engine::printable::text(&what.into()).into_owned();
            self.findings.push(Finding { copy: copy.to_owned(), what });
        }
    }
}

impl Files {
    /// Checks each copy: that it has all that the snapshots need, and reads a share of it.
    ///
    /// # Errors
    /// There is no repository, or it was told to stop. What is wrong at a copy, or that it does not answer, is a finding.
    pub async fn check(
        &self,
        context: &Context,
        repository: &Arc<Repository>,
        share: Share,
        watcher: &dyn Watcher,
    ) -> Result<FilesChecked, FilesError> {
        self.check_name()?;
        let (name, all) = (self.name.clone(), self.backend(repository));
        let single =
            (0..repository.copies().len()).map(|copy| self.backend(&Arc::new(repository.only(copy)))).collect();
        on_thread(context, watcher, move |thread| run(thread, &name, &all, single, share)).await
    }
}

impl Files {
    /// Whether all copies together have what the index and the snapshots say is there; says what they lack, in words.
    ///
    /// # Errors
    /// No copy can be listed, or it was told to stop.
    pub(crate) async fn reconcile(
        &self,
        context: &Context,
        repository: &Arc<Repository>,
        pace: &Arc<Pace>,
    ) -> Result<Vec<String>, FilesError> {
        self.check_name()?;
        let runtime = tokio::runtime::Handle::current();
        let backend = Arc::new(Backend::new(runtime, Arc::clone(repository), &self.name).paced(Arc::clone(pace)));
        let name = self.name.clone();
        let checked = on_thread(context, &(), move |thread| {
            let snapshots: BTreeSet<_> = backend.listed(FileType::Snapshot)?.into_keys().collect();
            let mut checked = FilesChecked::default();
            of_copy(thread, &name, &backend, &snapshots, Share::None, "", &mut checked)?;
            Ok(checked)
        });
        Ok(checked.await?.findings.into_iter().map(|finding| finding.what).collect())
    }
}

fn run(
    thread: &Thread,
    name: &str,
    all: &Backend,
    single: Vec<Arc<Backend>>,
    share: Share,
) -> Result<FilesChecked, FilesError> {
    let snapshots: BTreeSet<_> = all.listed(FileType::Snapshot)?.into_keys().collect();
    let mut checked = FilesChecked { snapshots: snapshots.len() as u64, ..FilesChecked::default() };
    for backend in single {
        if thread.stop.is_cancelled() {
            return Err(FilesError::Stopped);
        }
        let copy = backend.repository().copies().first().map(|copy| copy.name.clone()).unwrap_or_default();
        thread.telling.step("checking a copy");
        if let Err(error) = of_copy(thread, name, &backend, &snapshots, share, &copy, &mut checked) {
            checked.add(&copy, error.to_string());
        }
    }
    Ok(checked)
}

fn of_copy(
    thread: &Thread,
    name: &str,
    backend: &Arc<Backend>,
    snapshots: &BTreeSet<rustic_core::Id>,
    share: Share,
    copy: &str,
    checked: &mut FilesChecked,
) -> Result<(), FilesError> {
    let Some(repository) = open(backend, name, &thread.telling)? else {
        if !snapshots.is_empty() {
            checked.add(copy, "it has nothing of the repository");
        }
        return Ok(());
    };
    if backend.listed(FileType::Key)?.is_empty() {
        checked.add(copy, "it has no key file: stock restic can't open it");
    }
    let here = backend.listed(FileType::Snapshot)?;
    for missing in snapshots.iter().filter(|id| !here.contains_key(id)) {
        checked.add(copy, format!("the snapshot {} is missing", &*missing.to_hex()));
    }
    let mut options = CheckOptions::default();
    options.read_data = share != Share::None;
    options.read_data_subset = match share {
        Share::Part { number, of } => ReadSubsetOption::IdSubSet((number, of.max(1))),
        Share::None | Share::All => ReadSubsetOption::All,
    };
    for (level, error) in repository.check(options).map_err(failed)?.0 {
        // Of the two levels the library names neither; the lower one is that of packs which nothing needs.
        if format!("{level:?}") == "Warn" {
            checked.unused += 1;
        } else {
            checked.add(copy, error.to_string());
        }
    }
    Ok(())
}
