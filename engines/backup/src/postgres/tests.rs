//! Against PostgreSQL itself: clusters of their own in temporary folders, without a network.

mod cluster;
mod follow;
mod problems;
mod records;
