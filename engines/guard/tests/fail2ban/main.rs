//! The decisions of garant beside those of the installed fail2ban: its sample suite, and lines mutated from it (NH-1).
//!
//! Needs Debian's package `fail2ban`, with its filters and its sample logs, and `/usr/bin/python3`. `FAIL2BAN_PACKAGE` names
//! another folder of Python packages, `FAIL2BAN_CONFIG` another configuration.

mod beside;
mod hosts;
mod mutated;
mod oracle;
mod patterns;
mod samples;
mod together;
mod trial;
