//! The control plane: four engines over the journal.
//!
//! - [`publisher`] makes the newest checkpoint public, once it is remembered outside and witnesses have seen it;
//! - [`judge`] folds the journal and writes verdicts into it;
//! - [`retention`] destroys what has been kept for long enough;
//! - [`pages`] shows all of it.
//!
//! They share no state: each reads the journal from a cursor of its own and may be killed at any instant.

pub(crate) mod judge;
pub(crate) mod pages;
pub(crate) mod publisher;
pub(crate) mod retention;
