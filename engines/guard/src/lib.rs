//! Log detection and bans: what fail2ban decides, in milliseconds, with an entry for each ban.
//!
//! The engine runs in `garant agent`, where the logs are and where the right to change the packet filter is.

pub mod detect;
pub mod fail2ban;
