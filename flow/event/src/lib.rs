//! What can happen: the vocabulary of garant.
//!
//! Something **happens**, it is **journaled**, promises are **judged** from the journal alone, someone **acts**,
//! everyone **sees**. This crate names what can happen. Every floor above speaks in these words, so the crate is small
//! and changes rarely; it does no I/O and knows no clock but the trait [`Clock`].
//!
//! The main flow through it:
//!
//! 1. an engine makes a [`Body`], one of the structs of [`engine`], [`evidence`], [`journal`], [`policy`], [`promise`], or one of its own;
//! 2. an [`Envelope`] says who observed it and when;
//! 3. [`Envelope::encode`] gives the exact bytes that are committed to the log, once and for ever;
//! 4. a reader gets an [`Envelope`] back, and [`Envelope::body`] the typed body. An unknown type is kept, never fatal.
//!
//! No figure of a body is a float: durations are whole microseconds, shares are parts per billion ([`Ppb`]).

mod body;
mod envelope;
mod id;
mod interval;
mod time;
mod zone;

pub mod engine;
pub mod evidence;
pub mod journal;
pub mod policy;
pub mod promise;

pub use body::{Audience, Body, Family, Kind, Retention, kind_named, kinds};
pub use envelope::{Envelope, Observed, PAYLOAD_BYTES_MAX, Sent, Unreadable};
pub use id::{
    BadName, BootId, FindingId, HostId, InstallationId, ObserverId, ProbeId, PromiseId, RegionId, ServiceId, VantageId,
};
pub use interval::{Interval, Spans};
pub use time::{BadSpan, Clock, Day, Monotonic, Ppb, Span, Time};
pub use zone::{LocalTime, Zone};
