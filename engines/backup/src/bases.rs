//! Which base a restore is made from when the newest one is of no use: the next older one whose log reaches the instant.
//!
//! What a base lacks is made up for by a longer log, so the result is the same, and takes longer. A base is passed over where it is
//! damaged at every copy, and where a program of the database can't make anything of it. Nothing is passed over in silence: each is
//! in the log, and in what was restored ([`PassedOver`]).

use std::io;
use std::path::{Path, PathBuf};

use engine::ProgramError;
use event::Time;

use crate::database::{DatabaseError, PassedOver};
use crate::objects::Why;
use crate::room;
use crate::sealed::{Catalog, Manifest, RepositoryError};
use crate::work::empty;

/// At how many bases the programs of the database may fail, and the restore still tries the next one: then rather this host is to blame.
const PROGRAMS_FAIL_MAX: usize = 3;
/// A disk with less room than this is full.
const ROOM_MIN: u64 = 16 << 20;

/// Why an attempt to restore from a base has failed.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// That base is of no use.
    Base {
        /// Its set.
        set: String,
        /// What is wrong with it.
        error: DatabaseError,
    },
    /// No other base would do better.
    Final(DatabaseError),
}

impl<E: Into<DatabaseError>> From<E> for AttemptError {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

/// Blames a base for what has failed.
pub(crate) trait OfBase<T> {
    fn of_base(self, set: &str) -> Result<T, AttemptError>;
}

impl<T, E: Into<DatabaseError>> OfBase<T> for Result<T, E> {
    fn of_base(self, set: &str) -> Result<T, AttemptError> {
        self.map_err(|error| AttemptError::Base { set: set.to_owned(), error: error.into() })
    }
}

/// The bases that a restore into a folder goes without.
#[derive(Debug)]
pub(crate) struct Bases {
    into: PathBuf,
    passed_over: Vec<PassedOver>,
    programs_failed: usize,
}

impl Bases {
    /// A restore of what the catalog says to the instant `to`; bases with a manifest that can't be read are passed over already.
    pub(crate) fn of(catalog: &Catalog, to: Time, into: &Path) -> Self {
        let begun_before = to.to_rfc3339().replace(['-', ':'], "");
        let unreadable = catalog.unreadable.iter().filter(|(set, _)| *set < begun_before);
        let passed_over: Vec<PassedOver> =
            unreadable.map(|(set, why)| PassedOver { set: set.clone(), why: format!("its manifest: {why}") }).collect();
        for PassedOver { set, why } in &passed_over {
            tracing::warn!(base = set, why, "a base is of no use: the restore goes without it");
        }
        Self { into: into.to_owned(), passed_over, programs_failed: 0 }
    }

    /// Why a base that builds on these sets is passed over, if it is.
    pub(crate) fn against<'a>(&self, mut sets: impl Iterator<Item = &'a Manifest>) -> Option<String> {
        let of_it = |set: &Manifest| self.passed_over.iter().find(|passed| passed.set == set.set);
        Some(format!("the base {} is of no use", sets.find_map(of_it)?.set))
    }

    /// What is said beside where no base is left.
    pub(crate) fn words(&self) -> String {
        let words = |passed: &PassedOver| format!("; without the base {}: {}", passed.set, passed.why);
        self.passed_over.iter().map(words).collect::<Vec<_>>().concat()
    }

    /// Goes without the base that an attempt has failed with, and empties the folder for the next attempt.
    ///
    /// # Errors
    /// Another base would be of no more use: the error of the attempt.
    pub(crate) fn go_without(&mut self, attempt: AttemptError) -> Result<(), DatabaseError> {
        let (set, error) = match attempt {
            AttemptError::Base { set, error } => (set, error),
            AttemptError::Final(error) => return Err(error),
        };
        self.programs_failed += usize::from(!is_damage(&error));
        if !(is_damage(&error) || is_of_program(&error)) || self.programs_failed > PROGRAMS_FAIL_MAX || self.is_full() {
            return Err(error);
        }
        let why = error.to_string();
        tracing::error!(base = set, why, "a base is of no use: the restore goes on with an older one");
        self.passed_over.push(PassedOver { set, why });
        let failed = |error| DatabaseError::Files { path: self.into.clone(), error };
        empty(&self.into).map_err(failed)
    }

    fn is_full(&self) -> bool {
        room::free(&self.into).is_ok_and(|free| free < ROOM_MIN)
    }

    /// The bases that were passed over for `set`.
    pub(crate) fn newer_than(self, set: &str) -> Vec<PassedOver> {
        // Names begin with the second in which they were begun, and of those of one second the newer is tried first.
        let second = |set: &str| set.split('-').next().unwrap_or_default().to_owned();
        let of = second(set);
        self.passed_over.into_iter().filter(|passed| passed.set != set && second(&passed.set) >= of).collect()
    }
}

/// Whether what was put is not there any more as it was, whoever reads it.
fn is_damage(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Repository(RepositoryError::Seal { .. } | RepositoryError::Unusable(_)) => true,
        DatabaseError::Repository(RepositoryError::Object(error)) => matches!(error.why, Why::Missing | Why::Damaged),
        DatabaseError::Repository(RepositoryError::Source(error)) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// Whether a program of the database says so, which may have another reason.
fn is_of_program(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Database(_) => true,
        // One that somebody has killed says nothing of what it was reading.
        DatabaseError::Program(ProgramError::Failed { ended, .. }) => {
            !["SIGKILL", "SIGTERM"].iter().any(|signal| ended.contains(signal))
        }
        _ => false,
    }
}
