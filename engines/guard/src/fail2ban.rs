//! The rules of fail2ban, read from an installed `/etc/fail2ban` as they are.
//!
//! The behaviour followed is that of fail2ban 1.0.2 and later; its filters are read where they are installed, and none is part
//! of garant.

mod definition;
mod ini;
mod interpolation;
mod library;
mod options;
mod ordered;
mod problem;
mod reader;
mod tags;

pub use definition::{FilterDefinition, UseDns};
pub use problem::{Place, Problem, ReadError};
pub use reader::{JailOverrides, read_filter};
