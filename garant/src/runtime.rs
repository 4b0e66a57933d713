//! What the process takes of the machine: threads and memory.
//!
//! [`Runtimes`]: the watch has a thread of its own, the pages have one, and the other engines share two. The supervisor runs on
//! the shared ones, so an engine that blocks its thread is still noticed. On shared threads a trust page that is rendered for
//! a thousand readers would make probes late, and late probes prove nothing.
//!
//! [`frugal_allocator`]: all threads share one arena. With one for each thread, what one frees no other uses, and twice the
//! memory is resident.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// How long work that can't be cancelled, such as a write to a hung disk, is waited for at the end.
const BLOCKING_MAX: Duration = Duration::from_secs(2);

/// The runtimes of `garant up`.
pub(crate) struct Runtimes {
    shared: Runtime,
    watch: Runtime,
    pages: Runtime,
}

/// Where to start what.
#[derive(Clone)]
pub(crate) struct Handles {
    /// For the watch.
    pub(crate) watch: Handle,
    /// For listeners.
    pub(crate) pages: Handle,
}

impl Runtimes {
    /// Starts their threads.
    pub(crate) fn start() -> io::Result<Self> {
        let with = |name: &str, threads| {
            Builder::new_multi_thread().thread_name(name).worker_threads(threads).enable_all().build()
        };
        Ok(Self { shared: with("garant", 2)?, watch: with("garant-watch", 1)?, pages: with("garant-pages", 1)? })
    }

    /// Where to start what has a runtime of its own.
    pub(crate) fn handles(&self) -> Handles {
        Handles { watch: self.watch.handle().clone(), pages: self.pages.handle().clone() }
    }

    /// Runs `work` to its end, then stops all threads. What blocks one is waited for, but not for ever.
    pub(crate) fn run<T>(self, work: impl Future<Output = T>) -> T {
        let done = self.shared.block_on(work);
        for runtime in [self.pages, self.watch, self.shared] {
            runtime.shutdown_timeout(BLOCKING_MAX);
        }
        done
    }
}

/// Has the allocator of glibc keep one arena for all threads, and return what is freed; with 10,000 probes that halves what is
/// resident. To be called before there is a second thread; does nothing with another allocator.
///
/// glibc raises its mmap threshold each time a large block is freed, and keeps later blocks below it: after one scrape of
/// `/metrics`, 8 MB stayed resident. A fixed threshold returns them.
pub(crate) fn frugal_allocator() {
    /// A block of this size is mapped for itself and unmapped when it is freed; so much at the end of the heap is returned.
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
