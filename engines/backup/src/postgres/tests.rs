//! Against PostgreSQL itself: clusters of their own in temporary folders, without a network.

mod clocks;
pub(crate) mod cluster;
mod examining;
mod follow;
pub(crate) mod ledger;
mod oracle;
mod problems;
mod records;
mod restore;
mod slots;
