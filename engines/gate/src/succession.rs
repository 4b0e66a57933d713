//! What a gate hands to the one that takes its place: the sockets that it listens on, which upstreams are not used, and what people
//! have decided by commands.
//!
//! Both accept on the same sockets for a moment, and the kernel gives each connection to one of them. Which upstreams are down is told,
//! so that no request has to find it out again.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use engine::succession::Handover;
use engine::{BoxFuture, Secrets};
use event::Time;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::watch;

use crate::plan::{Closing, Plan};
use crate::settings::Site;
use crate::tls::Tls;
use crate::worker::Shared;

/// How a gate comes into the place of another one, and another one into its own.
#[derive(Default)]
pub(crate) struct Succession {
    /// What the gate shares, once it runs.
    pub(crate) shared: OnceLock<Arc<Shared>>,
    /// Its certificates, once it runs, and what opens their keys.
    pub(crate) certificates: OnceLock<(Arc<Mutex<Tls>>, Arc<Secrets>)>,
    /// Sockets that were given, and that no listener of the policy has claimed.
    given: Mutex<Vec<TcpListener>>,
    known: Mutex<Option<Known>>,
    /// Whether another gate has served before, and ends now.
    came_after: AtomicBool,
    /// Whether the gate accepts connections by its desired state.
    pub(crate) serves: watch::Sender<bool>,
    /// How often it was to say all that it has observed, and how often it has.
    pub(crate) is_to_say: watch::Sender<u64>,
    pub(crate) has_said: watch::Sender<u64>,
    /// Whether it is to accept no more.
    pub(crate) lets_go: watch::Sender<bool>,
    /// Whether its last connection has ended.
    pub(crate) is_over: watch::Sender<bool>,
}

/// What a gate tells the next one.
#[derive(Serialize, Deserialize, Default, Debug)]
pub(crate) struct Known {
    /// Upstreams that are not used.
    unused: Vec<Unused>,
    /// Sites that are closed.
    pub(crate) closed: BTreeMap<String, Closing>,
    /// Upstreams that are drained.
    pub(crate) drained: BTreeMap<SocketAddr, Time>,
}

/// An upstream that is not used.
#[derive(Serialize, Deserialize, Debug)]
struct Unused {
    site: String,
    path: String,
    upstream: SocketAddr,
    reason: String,
}

impl Known {
    /// What a plan knows.
    fn of(plan: &Plan, drained: BTreeMap<SocketAddr, Time>) -> Self {
        let mut known = Self { closed: plan.closed(), drained, ..Self::default() };
        for site in &plan.sites {
            for (path, group) in site.groups() {
                for upstream in group.upstreams.iter().filter(|upstream| !upstream.is_well()) {
                    let (site, path) = (site.settings.domain.clone(), path.to_owned());
                    let (upstream, reason) = (upstream.address, upstream.health().0.reason);
                    known.unused.push(Unused { site, path, upstream, reason });
                }
            }
        }
        known
    }

    /// Has the upstreams of a plan that were not used wait until checks pass.
    pub(crate) fn tell(&self, plan: &Plan, now: Time) {
        for unused in &self.unused {
            let groups = plan.site(&unused.site).into_iter().flat_map(|site| site.groups());
            let group = groups.filter(|(path, _)| *path == unused.path).map(|(_, group)| group);
            for upstream in group.flat_map(|group| &group.upstreams).filter(|it| it.address == unused.upstream) {
                upstream.change(now, |health| health.was_unused(&unused.reason));
            }
        }
    }
}

impl Succession {
    /// The socket for this address, if one was given.
    pub(crate) fn claim(&self, address: SocketAddr) -> Option<TcpListener> {
        let mut given = lock(&self.given);
        let index = given.iter().position(|listener| listener.local_addr().is_ok_and(|it| it == address))?;
        Some(given.swap_remove(index))
    }

    /// Addresses of sockets that nobody has claimed.
    pub(crate) fn unclaimed(&self) -> Vec<SocketAddr> {
        lock(&self.given).iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Whether it has taken the place of another gate, which may still answer requests.
    pub(crate) fn came_after(&self) -> bool {
        self.came_after.load(Ordering::Relaxed)
    }

    /// What the gate before has told, once.
    pub(crate) fn take_known(&self) -> Option<Known> {
        lock(&self.known).take()
    }
}

impl Handover for Succession {
    /// The process that takes its place has no certificates but those in the files as they are now.
    fn obstacle(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async move {
            let (shared, (tls, secrets)) = (self.shared.get()?, self.certificates.get()?);
            let sites: Vec<Site> = shared.plan.borrow().sites.iter().map(|site| site.settings.clone()).collect();
            let (tls, secrets, now) = (Arc::clone(tls), Arc::clone(secrets), shared.clock.now());
            let looked = tokio::task::spawn_blocking(move || {
                tls.lock().unwrap_or_else(PoisonError::into_inner).unreadable(&sites, &secrets, now)
            });
            let faults = looked.await.ok().filter(|faults| !faults.is_empty())?;
            Some(format!(
                "the new process could not serve over TLS what this one does: {}. Mend the files, then upgrade again",
                faults.join("; ")
            ))
        })
    }

    fn says_all(&self) -> BoxFuture<'_, ()> {
        self.is_to_say.send_modify(|times| *times += 1);
        let (times, mut said) = (*self.is_to_say.borrow(), self.has_said.subscribe());
        Box::pin(async move {
            // The engine lives as long as this.
            drop(said.wait_for(|said| *said >= times).await);
        })
    }

    fn give(&self) -> (Vec<OwnedFd>, Box<RawValue>) {
        let nothing = || RawValue::NULL.to_owned();
        let Some(shared) = self.shared.get() else { return (Vec::new(), nothing()) };
        let listeners = shared.listeners.borrow().clone();
        let own = listeners.iter().map(|listening| listening.listener.try_clone());
        // What nobody has claimed is kept for a policy that names it.
        let unclaimed = lock(&self.given);
        let sockets = own.chain(unclaimed.iter().map(TcpListener::try_clone));
        let sockets = sockets.filter_map(Result::ok).map(OwnedFd::from).collect();
        let known = Known::of(&shared.plan.borrow(), shared.drained().clone());
        (sockets, to_raw_value(&known).unwrap_or_else(|_| nothing()))
    }

    fn take(&self, sockets: Vec<OwnedFd>, known: Option<&RawValue>) {
        lock(&self.given).extend(sockets.into_iter().map(TcpListener::from));
        if let Some(known) = known {
            self.came_after.store(true, Ordering::Relaxed);
            // A gate of another release may know other things: then each finds out by itself.
            *lock(&self.known) = serde_json::from_str(known.get()).ok();
        }
    }

    fn serves(&self) -> BoxFuture<'_, ()> {
        Box::pin(becomes_true(self.serves.subscribe()))
    }

    fn let_go(&self) -> BoxFuture<'_, ()> {
        self.lets_go.send_replace(true);
        Box::pin(becomes_true(self.is_over.subscribe()))
    }
}

/// Waits for a flag. Its sender lives as long as the engine.
pub(crate) async fn becomes_true(mut flag: watch::Receiver<bool>) {
    if flag.wait_for(|is_set| *is_set).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
