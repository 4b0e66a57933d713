//! The rules of fail2ban, read from an installed `/etc/fail2ban` as they are.
//!
//! The behaviour followed is that of fail2ban 1.0.2 and later; its filters are read where they are installed, and none is part
//! of garant.

mod actions;
pub mod dates;
mod definition;
mod duration;
pub mod filter;
mod import;
mod ini;
mod interpolation;
mod jail;
mod jails;
mod library;
mod options;
mod ordered;
pub mod pattern;
mod problem;
mod reader;
mod services;
mod tags;

pub use actions::{Action, ActionKind, BanAction, NotifyAction, RefusedAction};
pub use definition::{FilterDefinition, UseDns};
pub use import::{ImportLine, ImportReport, import_report};
pub use jail::{Backend, BanTime, BrokenJail, Ignored, Increment, Jail, Jails, LogPath};
pub use jails::{Database, read_as_enabled, read_database, read_jails};
pub(crate) use options::{extract as extract_options, shell_words as words_of, short as short_text};
pub use problem::{Place, Problem, ReadError};
pub use reader::{JailOverrides, read_filter};
pub use services::{Port, Services};
