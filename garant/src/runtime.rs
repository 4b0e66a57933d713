//! The threads of the process: the pages and each engine that asks for it have a thread of their own; the other engines and the
//! supervisor share two. So a trust page that is rendered for a thousand readers makes no probe late, and an engine that blocks its
//! thread is still noticed.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Handle, Runtime};

/// Longest wait at the end for work that can't be cancelled, such as a write to a hung disk.
const BLOCKING_MAX: Duration = Duration::from_secs(2);

/// Raises the limit of file descriptors as far as the system allows: the usual soft limit of 1,024 is for programs that use
/// `select`, and too low when every probe waits for an answer, or every client has a connection.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if raised.current != limit.current
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of file descriptors can't be raised; going on with {:?}", limit.current);
    }
}

/// The runtimes of `garant up`.
pub(crate) struct Runtimes {
    shared: Runtime,
    own: BTreeMap<&'static str, Runtime>,
}

/// Handles of the runtimes with one thread, by the name of the engine, or `pages`.
pub(crate) type Handles = BTreeMap<&'static str, Handle>;

impl Runtimes {
    /// Starts the shared threads, and one for each of `own`.
    pub(crate) fn start(own: impl IntoIterator<Item = &'static str>) -> io::Result<Self> {
        let with = |name: &str, threads| {
            Builder::new_multi_thread().thread_name(name).worker_threads(threads).enable_all().build()
        };
        let own = own.into_iter().map(|name| Ok((name, with(&format!("garant-{name}"), 1)?)));
        Ok(Self { shared: with("garant", 2)?, own: own.collect::<io::Result<_>>()? })
    }

    /// Handles of the runtimes with one thread.
    pub(crate) fn handles(&self) -> Handles {
        self.own.iter().map(|(name, runtime)| (*name, runtime.handle().clone())).collect()
    }

    /// Runs `work` to its end, then stops all threads. Waits at most [`BLOCKING_MAX`] for one that is blocked.
    pub(crate) fn run<T>(self, work: impl Future<Output = T>) -> T {
        let done = self.shared.block_on(work);
        for runtime in self.own.into_values().chain([self.shared]) {
            runtime.shutdown_timeout(BLOCKING_MAX);
        }
        done
    }
}
