//! The roles: what runs until it is told to stop. In this release there is one, `up`.

mod announcer;
mod pages;
pub(crate) mod up;
