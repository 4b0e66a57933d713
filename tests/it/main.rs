//! Real servers, real processes: what a user of garant meets, end to end.
//!
//! Nearly every test starts the real binary; what has no process of its own yet is asked as a crate. Its counterparts are real too: nginx is stopped, slowed and given a bad
//! certificate; an export is checked by a Go program on Go's own transparency-log packages; the trust page is shown by Chromium; faults are signals, full
//! file systems and files put back. `scripts/test` installs what is needed.

mod agent;
mod backup;
mod browser;
mod command_line;
mod cosigning;
mod faults;
mod gate;
mod guard;
mod harness;
mod keys;
mod metrics;
mod observer;
mod proof;
mod respond;
mod respond_alertmanager;
mod respond_receipts;
mod retention;
mod samples;
mod schedules;
mod security;
mod shadow;
mod time_zone;
mod witness;
