//! The rules of fail2ban, read from an installed `/etc/fail2ban` as they are.
//!
//! The behaviour followed is that of fail2ban 1.0.2 and later; its filters are read where they are installed, and none is part
//! of garant.

mod definition;

pub use definition::{FilterDefinition, UseDns};
