//! The roles: long-running processes. In this release there is one, `up`; the engines that belong to no other crate are here.

mod announcer;
mod pages;
pub(crate) mod up;
