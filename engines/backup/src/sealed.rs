//! Sealed objects: what is kept of databases, encrypted where it is made. `docs/format.md` specifies every byte.
//!
//! **Problem.** A provider reads what it stores; a key that opens everything can't be destroyed for the data of one day; and an object
//! that is written over takes the past with it.
//! **Principle.** Each folder of objects, a base or a day of log, has a data key of its own, which lies beside it wrapped by the
//! repository key. Destroying that small object destroys the folder, at every copy, whatever is still stored. No name is used twice.
//! Everything that is needed to restore is in the repository but the repository key: a listing says what there is, the manifest of a
//! base and the head of a piece of log say the rest.

mod catalog;
mod key;
mod log;
mod object;
mod repository;
mod set;
#[cfg(test)]
mod tests;

pub use catalog::{Catalog, LogPiece, SetEntry};
pub(crate) use catalog::{Part, Parts, all_pieces};
pub use key::{DataKey, KeyError, RepositoryKey};
pub(crate) use key::{hex, unhex};
pub use log::{LastPiece, LogWriter, PieceName};
pub use object::{SealError, head, open, seal};
pub(crate) use repository::key_name;
pub use repository::{Copy, CopyState, Levelled, Repository};
pub(crate) use repository::{day_end, set_time};
pub(crate) use set::{INCREMENTAL_STREAM, MANIFEST};
pub use set::{Manifest, SetWriter, Stream};

use crate::objects::ObjectError;

/// An operation on a repository failed.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A place did not do what it was asked.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// An object is not what was sealed.
    #[error("{name}: {error}")]
    Seal {
        /// The object.
        name: String,
        /// What is wrong.
        error: SealError,
    },
    /// What gives the data failed.
    #[error("the data could not be read: {0}")]
    Source(#[from] std::io::Error),
    /// The repository is not one that this key, or this release, can use.
    #[error("{0}")]
    Unusable(String),
}
