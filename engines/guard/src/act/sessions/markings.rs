//! How packets of connections are marked before a login, learned for each port, and what another marking says then.
//!
//! sshd marks the packets of a connection (`IPQoS` of `sshd_config`(5): the DSCP of its socket) by what it is used for. No peer
//! decides it, and it says who is logged in; but how depends on the release and the configuration:
//!
//! | OpenSSH | before the login | a terminal | a command, `scp`, `sftp` | no session (`ssh -N`) |
//! |---|---|---|---|---|
//! | to 10.0 | the listener's | `IPQoS`, first | `IPQoS`, second | as before |
//! | from 10.1, and 10.0 of Debian 13 | `IPQoS`, first | as before | `IPQoS`, second | as before |
//!
//! So no marking by itself says that somebody is logged in: from 10.1 on, that of a held connection is that of a terminal with an
//! older sshd. How a port marks *without* a login is learned from connections of which it is certain: those which can be served, by
//! their times, only by processes of sshd that are before the login, at two looks. A connection that is marked in another way is then
//! that of somebody who is logged in.
//!
//! A port at which connections without a login are marked in several ways never says anything again: it is one of another service, or
//! of an sshd that was replaced by a later release.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The markings without a login, of each port; `None` where there are several.
#[derive(Clone, Debug)]
pub(super) struct Markings(BTreeMap<u16, Option<u8>>);

impl Markings {
    /// Nothing learned yet.
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// A connection to this port was marked so, and nobody is logged in over it. `is_of_sshd` says that a process of sshd may serve it,
    /// and has had the time to mark it: otherwise nothing is learned, but that the port marks in several ways.
    pub(super) fn without_login(&mut self, port: u16, dscp: u8, is_of_sshd: bool) {
        match self.0.entry(port) {
            Entry::Occupied(mut learned) if *learned.get() != Some(dscp) => _ = learned.insert(None),
            Entry::Vacant(nothing) if is_of_sshd => _ = nothing.insert(Some(dscp)),
            _ => {}
        }
    }

    /// Whether a connection to this port that is marked so is that of somebody who is logged in.
    pub(super) fn tells_login(&self, port: u16, dscp: u8) -> bool {
        self.0.get(&port).copied().flatten().is_some_and(|without| without != dscp)
    }
}
