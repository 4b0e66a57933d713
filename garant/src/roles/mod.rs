//! What runs for long.

mod pages;
pub(crate) mod up;
