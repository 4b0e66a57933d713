//! Files and databases, brought back to a chosen second: copies at several providers, restored every day.
//!
//! The engine runs in `garant agent`, where the data is. It can add to a repository and read it, and holds no right to destroy.
//!
//! The main flow: a [`database`] gives a base now and then, and its log without pause;
//! [`sealed`] makes encrypted objects of both; [`objects`] keeps them, at each copy.
//! Back: [`sealed::Catalog`] says what there is, the source plays it to the second that was asked for.

mod abilities;
mod bases;
mod blank;
mod board;
#[cfg(test)]
mod campaign;
mod canary;
mod check;
mod checks;
mod commands;
mod config;
pub mod database;
mod dependents;
mod door;
mod elsewhere;
mod events;
mod expiry;
mod failed;
mod figures;
pub mod files;
mod files_job;
mod inspection;
mod job;
mod mariadb;
pub mod objects;
mod open;
mod owner;
mod pace;
mod postgres;
mod residency;
mod restorable;
mod restore_tests;
mod retention;
mod rewind;
mod room;
mod run;
pub mod sealed;
mod slots;
#[cfg(test)]
mod small_disk;
mod sources;
mod statement;
mod unpack;
mod versions;
mod work;

pub use canary::{CanaryTable, Row as CanaryRow};
pub use check::check;
pub use checks::{Checked, CommandCheck, SqlCheck};
pub use commands::commands;
pub use config::{
    BucketSettings, Config, Connection, CopySettings, DatabaseSettings, Desired, FilesSettings, Pace, PlaceSettings,
    SecretPlace, Settings,
};
pub use events::KINDS;
pub use expiry::{EXPIRY, expiry};
pub use figures::{FIGURES, Figures};
pub use mariadb::MariaDb;
pub use open::{Reading, open, open_as};
pub use postgres::Postgres;
pub use restorable::{Restorable, restorable};
pub use run::Backup;

/// Name of the engine.
pub const NAME: &str = "backup";
