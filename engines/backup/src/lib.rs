//! Files and databases, brought back to a chosen second: copies at several providers, restored every day.
//!
//! The engine runs in `garant agent`, where the data is. It can add to a repository and read it, and holds no right to destroy.
//!
//! The main flow: a [`database`] gives a base now and then, and its log without pause;
//! [`sealed`] makes encrypted objects of both; [`objects`] keeps them, at each copy.
//! Back: [`sealed::Catalog`] says what there is, the source plays it to the second that was asked for.

mod config;
pub mod database;
pub mod files;
mod mariadb;
pub mod objects;
mod owner;
mod postgres;
pub mod sealed;

pub use config::{
    BucketSettings, Config, Connection, CopySettings, DatabaseSettings, Desired, FilesSettings, PlaceSettings,
    SecretPlace, Settings,
};
pub use mariadb::MariaDb;
pub use postgres::Postgres;

/// Name of the engine.
pub const NAME: &str = "backup";
