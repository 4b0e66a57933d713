//! What can go wrong, in words for the person who has to act.

use std::io;
use std::path::PathBuf;

use event::{Day, Retention, Time};

use crate::words;

/// Why a transaction was refused. In every case nothing of it was kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The storage has no room left. The writer has used its reserve to say so in the journal and takes nothing more
    /// until there is room; an observer keeps what it has and hands it over again later.
    #[error(
        "the storage has been full since {since}, nothing is recorded: free some space where the data directory is; \
         recording resumes by itself ({reason})"
    )]
    Full {
        /// Since when.
        since: Time,
        /// What the storage said.
        reason: String,
    },
    /// The storage fails for another reason than want of room.
    #[error(
        "the storage has failed since {since}, nothing is recorded: look at the disk and the file system of the data \
         directory; recording resumes by itself ({reason})"
    )]
    Unavailable {
        /// Since when.
        since: Time,
        /// What the storage said.
        reason: String,
    },
    /// The files of the store are not in the data directory any more.
    #[error("nothing is recorded since {since}: {reason}")]
    Displaced {
        /// Since when.
        since: Time,
        /// What happened to which file, and what to do.
        reason: String,
    },
    /// A read failed.
    #[error("{what} can't be read from the storage: {reason}")]
    Read {
        /// What was asked for.
        what: &'static str,
        /// What the storage said.
        reason: String,
    },
    /// What is stored contradicts itself: somebody or something else than this program has written to it.
    #[error(
        "the stored {what} is damaged: {reason}. Stop garant and restore the data directory from a copy, then see \
         `garant verify`"
    )]
    Damaged {
        /// Which part.
        what: &'static str,
        /// How it shows.
        reason: String,
    },
    /// One call carries more than the store takes at once.
    #[error("{what} of {size} is more than the {max} that one call may carry: split it")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size, in bytes or in items.
        size: u64,
        /// The most that is taken.
        max: u64,
    },
    /// An event can't be written as a leaf.
    #[error("an event can't be journaled: its {what} {reason}")]
    Malformed {
        /// Which part of it.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The call asks for something beyond what is recorded.
    #[error("{what} {asked} is past the end: the log has {size} entries")]
    OutOfRange {
        /// Index, size or range end.
        what: &'static str,
        /// What was asked for.
        asked: u64,
        /// Entries of the log.
        size: u64,
    },
    /// The cursor of the consumer is not where the step starts.
    #[error(
        "the cursor of the consumer `{name}` is {found:?}, not {expected:?}: something else has moved it; read its rows again"
    )]
    Conflict {
        /// Name of the consumer.
        name: String,
        /// The cursor that the caller believed in.
        expected: Option<u64>,
        /// The cursor that is stored.
        found: Option<u64>,
    },
    /// The keys given can't follow those in use.
    #[error("the log keys were not changed: {reason}")]
    Keys {
        /// What is wrong with them.
        reason: String,
    },
    /// The day is not over: its key is still in use.
    #[error("the {} payloads of {day} can't be destroyed yet: the day is not over", class.as_str())]
    DayNotOver {
        /// Retention class.
        class: Retention,
        /// The day.
        day: Day,
    },
    /// No published checkpoint announces the destruction yet: a reader of the log would take the missing payloads for
    /// hidden.
    #[error(
        "the {} payloads of {day} can't be destroyed yet: no published checkpoint holds an entry that says they will be",
        class.as_str()
    )]
    NotAnnounced {
        /// Retention class.
        class: Retention,
        /// The day.
        day: Day,
    },
    /// The class is kept as long as the log.
    #[error("the {} payloads of {day} are kept as long as the log: they are never destroyed", class.as_str())]
    KeptForEver {
        /// Retention class.
        class: Retention,
        /// The day.
        day: Day,
    },
    /// The store is shutting down.
    #[error("the store is closed, nothing more is recorded")]
    Closed,
}

/// Why a data directory was not opened. Nothing was signed or changed in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {dir} is in use by another garant ({holder}): stop that one first, or use another directory"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Process id and start time as the holder wrote them.
        holder: String,
    },
    /// The data directory belongs to another user.
    #[error(
        "the data directory {dir} belongs to user {owner}, and this process runs as user {us}: run garant as that user, or \
         give the directory to this one with `chown -R {us} {dir}`"
    )]
    OtherOwner {
        /// The directory.
        dir: PathBuf,
        /// User id that owns it.
        owner: u32,
        /// User id of this process.
        us: u32,
    },
    /// Others than its owner can write to the directory.
    #[error(
        "others than its owner can write to the data directory {dir} (mode {mode:04o}), and could put files and links of their \
         own in it: close it with `chmod 700 {dir}`, and look for what does not belong there"
    )]
    OthersWrite {
        /// The directory.
        dir: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A link stands in the place of a file of the store.
    #[error(
        "{link} is a link, and no link is followed in a data directory: put what it leads to in its place. What is to lie on \
         another disk is mounted there"
    )]
    Link {
        /// The link.
        link: PathBuf,
    },
    /// Keys are missing under which payloads of the log are sealed.
    #[error(
        "{first} is missing{}, and entries of the log are sealed under it: put it back; the keys are outside the database, and a \
         copy of the one is no copy of the other. Nothing was recorded. If it is lost, so is what it seals: `garant log \
         continue --reason …` then opens a new log that cites this one, and keeps this one as it is",
        match more { 0 => String::new(), more => format!(", and {more} more of {}", dir.join("keys").display()) }
    )]
    KeyMissing {
        /// The directory.
        dir: PathBuf,
        /// The first missing file.
        first: PathBuf,
        /// How many others are missing.
        more: usize,
    },
    /// The log is older than a checkpoint of it that is remembered elsewhere: an older copy was put back.
    #[error(
        "the log in {dir} has {own} entries, but {remembered} are remembered outside of it: an older copy was put back. \
         Nothing is signed. Recover the missing entries, or open a new log that cites the old one with `garant log continue`"
    )]
    RolledBack {
        /// The directory.
        dir: PathBuf,
        /// Size of the checkpoint remembered outside.
        remembered: u64,
        /// Size of the log found.
        own: u64,
    },
    /// The log does not continue a checkpoint of it that is remembered elsewhere.
    #[error(
        "the first {size} entries of the log in {dir} are not those that are remembered outside of it: the history was \
         rewritten. Nothing is signed. Put the true copy back, or open a new log with `garant log continue`"
    )]
    Forked {
        /// The directory.
        dir: PathBuf,
        /// Size of the checkpoint remembered outside.
        size: u64,
    },
    /// The directory holds a log of another origin.
    #[error(
        "the data directory {dir} holds the log `{found}`, but the log `{expected}` was asked for: check `[journal] name` and the path"
    )]
    OtherLog {
        /// The directory.
        dir: PathBuf,
        /// Origin found.
        found: String,
        /// Origin asked for.
        expected: String,
    },
    /// There is no log to read.
    #[error("there is no log in {dir}: start `garant up` with this data directory first, or correct the path")]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// None of the keys given has signed the last checkpoint.
    #[error(
        "none of the keys given ({given}) has signed the last checkpoint of `{origin}`: put the log key back, or announce the \
         new one with `garant log rotate` while the old one is there"
    )]
    StrangeKey {
        /// Origin of the log.
        origin: String,
        /// Verifier keys of the signers given.
        given: String,
    },
    /// No key to sign with, or a key whose name is not the origin.
    #[error("the log `{origin}` can't be signed: {reason}")]
    NoKey {
        /// Origin of the log.
        origin: String,
        /// What is wrong with the keys.
        reason: String,
    },
    /// The directory was written by a newer release.
    #[error(
        "the data directory {dir} was written by a newer garant (schema {found}, this release knows {known}): install that release"
    )]
    NewerSchema {
        /// The directory.
        dir: PathBuf,
        /// Schema version found.
        found: u32,
        /// Schema version of this release.
        known: u32,
    },
    /// The stored log contradicts itself.
    #[error("the log in {dir} is damaged: {reason}. `garant log continue` opens a new log that cites it")]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// The file system refused.
    #[error("{what} {path} failed: {}", words::io(source))]
    Io {
        /// What was tried, as the start of a sentence.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database refused.
    #[error("the database in {dir} can't be opened: {reason}")]
    Database {
        /// The directory.
        dir: PathBuf,
        /// What it said.
        reason: String,
    },
}

impl OpenError {
    /// For `map_err`: the database of the directory refused.
    pub(crate) fn database(dir: &std::path::Path, error: &rusqlite::Error) -> Self {
        Self::Database { dir: dir.to_owned(), reason: words::sqlite(error).to_owned() }
    }

    /// For `map_err`: what was tried, and on which file.
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
