//! The threads and the allocator of the process.
//!
//! [`Runtimes`]: the pages and each engine that asks for it have a thread of their own; the other engines and the supervisor share
//! two. So a trust page that is rendered for a thousand readers makes no probe late, and an engine that blocks its thread is
//! still noticed.
//!
//! [`frugal_allocator`]: all threads share one arena. With one for each thread, memory that one frees is used by no other, and
//! twice as much is resident. [`give_back_memory`]: what reading a policy took is not kept for ever.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// Longest wait at the end for work that can't be cancelled, such as a write to a hung disk.
const BLOCKING_MAX: Duration = Duration::from_secs(2);

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

/// Makes the allocator of glibc keep one arena for all threads and return freed memory; with 10,000 probes that halves resident
/// memory. Called before there is a second thread; does nothing with another allocator.
///
/// glibc raises its mmap threshold each time a large block is freed, and keeps later blocks below it: after one scrape of
/// `/metrics`, 8 MB stayed resident. A fixed threshold returns them.
pub(crate) fn frugal_allocator() {
    /// Blocks of this size are mapped apart and unmapped when they are freed; as much free memory at the end of the heap is returned.
    #[cfg(target_env = "gnu")]
    const LARGE_BYTES: libc::c_int = 256 * 1024;
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE_BYTES), (libc::M_TRIM_THRESHOLD, LARGE_BYTES)]
    {
        #[expect(unsafe_code, reason = "mallopt(3) has no safe face; it is called with constants, before any thread")]
        // SAFETY: mallopt only reads its two integers, and no other thread runs yet.
        let accepted = unsafe { libc::mallopt(parameter, value) } == 1;
        debug_assert!(accepted, "mallopt knows these since glibc 2.10");
    }
}

/// Gives back to the system what was freed between blocks that live on; the allocator itself gives back its end only. Some
/// milliseconds, during which no other thread gets memory; does nothing with another allocator.
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "malloc_trim(3) has no safe face")]
        // SAFETY: malloc_trim takes the locks of the allocator, and touches free memory only.
        let gave = unsafe { libc::malloc_trim(0) } == 1;
        tracing::debug!(gave, "memory was given back");
    }
}
