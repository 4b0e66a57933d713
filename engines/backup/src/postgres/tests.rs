//! Against PostgreSQL itself: clusters of their own in temporary folders, without a network.

mod clocks;
mod cluster;
mod follow;
mod oracle;
mod problems;
mod records;
mod restore;
