//! Log detection and bans: what fail2ban decides, in milliseconds, with an entry for each ban.
//!
//! The engine runs in `garant agent`, where the logs are and where the right to change the packet filter is. It follows a
//! desired state ([`Desired`]), and goes on with it while no server is there.
//!
//! The main flow: [`source`] gives lines, [`fail2ban`] says which of them are failures of whom, [`detect`] counts them into
//! offences, [`act`] bans. [`run`] carries between them.

pub mod act;
mod banned;
mod checked_line;
mod commands;
mod config;
pub mod detect;
mod door;
mod events;
pub mod fail2ban;
mod figures;
mod kept;
mod lists;
mod login;
mod on_ban;
mod plan;
mod run;
mod scenarios;
mod simulation;
pub mod source;
mod stream;
mod totals;

pub use banned::{BANNED, BansTold, Networks, banned};
pub use commands::commands;
pub use config::{Config, Desired, Settings};
pub use events::KINDS;
pub use figures::{FIGURES, Figures};
pub use run::Guard;

/// Name of the engine.
pub const NAME: &str = "guard";
