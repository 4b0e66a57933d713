//! Object storage: a flat space of names, each with bytes that are written once.
//!
//! **Problem.** Whoever takes a host over has its credentials. A backup that they can overwrite or delete is gone when it is needed.
//! **Principle.** [`Objects`] adds and reads. It has no way to overwrite and none to delete: those are of [`Destroy`], which the
//! server holds with an identity of its own, and no engine of a host. Where the storage can lock objects, they are locked for as
//! long as they are promised to be kept.
//!
//! Two implementations, one conformance suite ([`conformance`]): a [`Directory`], and [`S3`].

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use engine::BoxFuture;
use event::Time;

#[cfg(test)]
pub(crate) mod conformance;
mod directory;
mod s3;

pub use directory::Directory;
pub use s3::{BucketAbilities, S3};

/// Largest object that is written, in bytes: it is held in memory once.
pub const OBJECT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest name of an object, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// Most names of one answer to a listing.
pub const LISTED_MAX: usize = 1000;

/// A place that objects are added to and read from.
///
/// # Contract
///
/// * A name is parts of ASCII letters, digits and `-_.:`, joined by `/`; no part is empty, `.` or `..`.
/// * [`put`](Self::put) returns when the bytes are durable there, whole, and found under their name. An object that is there already is
///   never changed: with the same bytes it is a success (the answer to an earlier attempt was lost), with others
///   [`Why::Exists`]. With `keep_until`, nobody can delete it before, where the place can lock objects.
/// * [`get`](Self::get) returns the whole object, or the part of it that lies in the range: shorter where the object ends before.
/// * [`list`](Self::list) returns names in the order of their bytes, [`LISTED_MAX`] at most, each one after `after`; what `put` has
///   returned for is in it.
/// * Each call is bounded in time, and may be made again after any error.
pub trait Objects: Send + Sync + fmt::Debug {
    /// Where it is, for messages: no secret.
    fn place(&self) -> &str;

    /// Adds an object.
    fn put<'a>(
        &'a self,
        name: &'a str,
        body: Bytes,
        keep_until: Option<Time>,
    ) -> BoxFuture<'a, Result<(), ObjectError>>;

    /// Reads an object, or a part of it.
    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Bytes, ObjectError>>;

    /// Size of an object in bytes; `None` where there is none of that name.
    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>, ObjectError>>;

    /// Until when nobody can delete an object; `None` where it is not locked, or the place locks nothing.
    fn locked_until<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Time>, ObjectError>>;

    /// Locks an object until `until`, where the place locks objects. A lock is never shortened.
    fn extend<'a>(&'a self, name: &'a str, until: Time) -> BoxFuture<'a, Result<(), ObjectError>>;

    /// Names that begin with `prefix`, after the name `after`.
    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Listed>, ObjectError>>;

    /// The folders directly below `folder` (which ends with `/`, or is empty): their names alone, in the order of their bytes, all of
    /// them.
    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>, ObjectError>>;
}

/// The right to destroy what may be destroyed: of the server, never of a host.
pub trait Destroy: Objects {
    /// Deletes an object with all its versions; one that is not there is no error.
    ///
    /// Locked until a later time, it stays: [`Why::Refused`].
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>>;

    /// Takes an object that is locked out of every listing, so that nobody builds on it any more; its bytes stay until it can be
    /// [deleted](Self::delete). Where nothing locks, it is deleted.
    fn hide<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>>;
}

/// An object of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Why a place did not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// No object has this name.
    Missing,
    /// An object of this name with other bytes is there.
    Exists,
    /// The place does not let us: credentials, rights, a lock.
    Refused,
    /// The place is full, for us at least.
    Full,
    /// The place does not answer, or says that it can't now: worth another try later.
    Unavailable,
    /// What came back is not what was stored.
    Damaged,
    /// The request is one that no place takes: a name or a size out of bounds.
    Impossible,
}

/// An operation on an object failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {name}: {reason}")]
pub struct ObjectError {
    /// What kind of failure.
    pub why: Why,
    /// Where.
    pub place: String,
    /// The object, or the prefix of a listing.
    pub name: String,
    /// The cause in words.
    pub reason: String,
}

/// All names that begin with `prefix`, answer after answer; at most `max`.
pub async fn list_all(objects: &dyn Objects, prefix: &str, max: usize) -> Result<Vec<Listed>, ObjectError> {
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let after = all.last().map(|listed| listed.name.clone());
        let listed = objects.list(prefix, after.as_deref()).await?;
        let is_last = listed.len() < LISTED_MAX;
        all.extend(listed);
        if all.len() > max {
            let reason = format!("more than {max} objects are there");
            return Err(ObjectError {
                why: Why::Impossible,
                place: objects.place().to_owned(),
                name: prefix.into(),
                reason,
            });
        }
        if is_last {
            return Ok(all);
        }
    }
}

/// Whether a name obeys the contract of [`Objects`].
pub fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    name.len() <= NAME_BYTES_MAX && name.split('/').all(is_part)
}
