//! A packet filter in memory, for tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use engine::BoxFuture;
use event::Span;
use ipnet::IpNet;

use super::{Firewall, FirewallError, Held, Hold, Lasting, Missed, Wanted};

/// A packet filter in memory, that keeps the contract; what a test does to it, somebody else did.
#[derive(Default)]
pub(crate) struct Simulated {
    pub(crate) state: Mutex<Option<Wanted>>,
    pub(crate) fails: Mutex<bool>,
    /// Passes the time that each reading and each change takes; they take none without it.
    pub(crate) takes: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// How often it was looked at thoroughly.
    pub(crate) looks: Mutex<u32>,
    pub(crate) missed: Mutex<Missed>,
    pub(crate) scanned: Mutex<Vec<(IpNet, Span)>>,
}

impl Simulated {
    fn take_time(&self) {
        if let Some(takes) = &*self.takes.lock().expect("a lock") {
            takes();
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Wanted)) -> Result<(), FirewallError> {
        if *self.fails.lock().expect("a lock") {
            return Err(FirewallError::NoRight);
        }
        self.state.lock().expect("a lock").as_mut().map(change).ok_or(FirewallError::Gone)
    }

    /// Whether a packet of this sender to port 22 of TCP is dropped, as the rules of `nft` have it.
    pub(crate) fn drops(&self, sender: IpAddr) -> bool {
        let state = self.state.lock().expect("a lock");
        let Some(Wanted { allow, lists, bans, .. }) = &*state else { return false };
        let holds = |network: &IpNet| network.contains(&sender);
        !allow.iter().any(holds) && (lists.iter().any(holds) || bans.keys().any(|hold| holds(&hold.network)))
    }
}

impl Firewall for Simulated {
    fn replace<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(async {
            if *self.fails.lock().expect("a lock") {
                return Err(FirewallError::NoRight);
            }
            *self.state.lock().expect("a lock") = Some(wanted.clone());
            Ok(())
        })
    }

    fn ban<'a>(&'a self, holds: &'a BTreeMap<Hold, Lasting>) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(async {
            // What is put in lasts from when it is there, at the end.
            if !holds.is_empty() {
                self.take_time();
            }
            self.change(|state| state.bans.extend(holds.clone()))
        })
    }

    fn unban<'a>(&'a self, holds: &'a [Hold]) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(async { self.change(|state| state.bans.retain(|hold, _| !holds.contains(hold))) })
    }

    fn allow<'a>(&'a self, networks: &'a [IpNet]) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(async { self.change(|state| state.allow = networks.to_vec()) })
    }

    fn lists<'a>(&'a self, networks: &'a [IpNet]) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(async { self.change(|state| state.lists = networks.to_vec()) })
    }

    fn is_present(&self, thoroughly: bool) -> BoxFuture<'_, Result<bool, FirewallError>> {
        Box::pin(async move {
            if thoroughly {
                self.take_time();
                *self.looks.lock().expect("a lock") += 1;
            }
            Ok(self.state.lock().expect("a lock").is_some())
        })
    }

    fn read(&self) -> BoxFuture<'_, Result<Option<Held>, FirewallError>> {
        Box::pin(async {
            let held = |Wanted { allow, lists, bans, scans }| Held { allow, lists, bans, scans, intact: true };
            let read = self.state.lock().expect("a lock").clone().map(held);
            self.take_time();
            Ok(read)
        })
    }

    fn scanned(&self) -> BoxFuture<'_, Result<Vec<(IpNet, Span)>, FirewallError>> {
        Box::pin(async { Ok(self.scanned.lock().expect("a lock").clone()) })
    }

    fn missed(&self) -> BoxFuture<'_, Result<Missed, FirewallError>> {
        Box::pin(async { Ok(*self.missed.lock().expect("a lock")) })
    }

    fn has_scan_rules(&self) -> BoxFuture<'_, Result<bool, FirewallError>> {
        Box::pin(std::future::ready(Ok(true)))
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), FirewallError>> {
        Box::pin(async {
            *self.state.lock().expect("a lock") = None;
            Ok(())
        })
    }
}
