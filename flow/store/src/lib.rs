//! Where things are kept: the journal, what is derived from it, and the time series. The only crate with SQL.
//!
//! **Problem.** Whoever recorded something needs to know when it can no longer be lost, and whoever is shown a proof
//! needs state and proof to agree after any crash. Both break when a caller assembles a transaction out of small calls:
//! a process dies between two of them.
//!
//! **Principle.** One trait per aggregate, and each method is one whole transaction: when it returns `Ok`, all of it is
//! durable (except [`Samples`], which says how much it may lose); when it returns `Err`, or the process dies, none of it is
//! there. No method hands out a transaction, a lock or a cursor.
//!
//! | trait | keeps | loses at `kill -9` |
//! |---|---|---|
//! | [`Append`], [`Read`], [`Proofs`], [`Publish`], [`Retain`] | the journal: entries, sealed payloads, tree, signed checkpoint | nothing that was acknowledged |
//! | [`Consumers`] | rows and cursor of each consumer, changed together with the journal | nothing that was acknowledged |
//! | [`Samples`] | time series and their rollups | at most the last fifth of a second |
//!
//! The journal has a trait for each right, so that who is given one can do no more: only retention can destroy.
//!
//! [`sqlite`] implements all of them in one directory. [`conformance`] holds the tests that any implementation must pass.
//!
//! What this crate does not know: what an event means, which promise it feeds, who may read it over the network.

mod consumers;
mod error;
mod files;
mod keys;
mod lock;
mod log;
mod numbers;
mod open_files;
mod random;
mod reserve;
mod samples;
mod sequence;
mod sink;
pub mod spool;
mod tiles;
mod words;

#[doc(hidden)]
pub mod conformance;
pub mod fail2ban;
pub mod sqlite;

pub use consumers::{Consumers, KEY_BYTES_MAX, LongValue, ROWS_MAX, Row, Rows, Step, VALUE_BYTES_MAX};
pub use error::{OpenError, StoreError};
pub use files::{sync_folder, write_whole};
pub use lock::{holder, refuse_of_another};
pub use log::{
    Append, AppendsRefused, EVENTS_MAX, Entry, Head, Payload, Proofs, Publish, RANGE_MAX, Read, Retain, Retained,
    Select, Selected, StorageHealth,
};
pub use numbers::{HOLES_MAX, Numbers};
pub use samples::{
    Bucket, Expired, HOURS_KEPT, Histogram, MINUTES_KEPT, RAW_INTERVAL_MAX, RAW_KEPT, Reading, Resolution, Sample,
    Samples, Tally,
};
pub use sink::{Sink, Taken};
