//! What the process takes of the machine: threads and memory.
//!
//! **Problem.** Engines that share threads share their troubles: a trust page that is being rendered for a thousand readers
//! makes probes late, and late probes prove nothing. And an allocator that keeps an arena for each thread keeps twice the
//! memory, because what one thread frees no other thread uses.
//!
//! **Principle.** [`Runtimes`]: the watch has a thread of its own, the pages have one, and what is left shares the rest.
//! The supervisor and its keepers are on the shared one, so whoever blocks a thread is still noticed.
//! [`frugal_allocator`]: all threads share one arena; nothing here allocates so often that they meet there. What is freed
//! goes back.

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

/// Has the allocator of glibc keep one arena for all threads, and give back what is freed; with 10,000 probes that halves what
/// is resident. Left alone, it takes each large piece that was freed for a reason to keep the next ones: after one scrape of
/// `/metrics`, eight megabytes. To be called before there is a second thread. Another allocator does as it likes.
pub(crate) fn frugal_allocator() {
    /// A piece of this size is the system's own, and goes back when it is freed; so does as much at the end of the heap.
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
