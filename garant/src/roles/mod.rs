//! The roles: long-running processes, `up` and `agent`; the engines that belong to no other crate are here.

pub(crate) mod agent;
mod announcer;
mod pages;
pub(crate) mod up;
