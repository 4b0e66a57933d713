//! The threads and the allocator of the process.
//!
//! [`Runtimes`]: the pages and each engine that asks for it have a thread of their own; the other engines and the supervisor share
//! two. So a trust page that is rendered for a thousand readers makes no probe late, and an engine that blocks its thread is
//! still noticed.
//!
//! [`Memory`]: in `garant up`, all threads share one arena. With one for each thread, memory that one frees is used by no other, and
//! twice as much is resident. [`keep_giving_back_memory`]: what reading a policy took is not kept for ever.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// Longest wait at the end for work that can't be cancelled, such as a write to a hung disk.
const BLOCKING_MAX: Duration = Duration::from_secs(2);
/// How long after a start all that depends on the policy has read it.
const SETTLED: Duration = Duration::from_secs(30);
/// How often what was freed is given back after that.
const GIVE_BACK_EVERY: Duration = Duration::from_mins(10);

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

/// How the allocator of glibc is to keep what is freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Memory {
    /// For a process that idles for months: one arena for all threads, and large blocks returned as they are freed. With 10,000 probes
    /// that halves resident memory.
    ///
    /// glibc raises its mmap threshold each time a large block is freed, and keeps later blocks below it: after one scrape of
    /// `/metrics`, 8 MB stayed resident. A fixed threshold returns them.
    Frugal,
    /// For the agent, whose work takes a compressor of a few megabytes for each of many small files: blocks up to that size are used
    /// again, for what was mapped anew each time took a third of all its time. What is left of it is given back now and then.
    Reusing,
    /// As the allocator likes it: for commands, which end.
    Plain,
}

impl Memory {
    /// Sets the allocator. Called before there is a second thread; does nothing with another allocator.
    pub(crate) fn set(self) {
        #[cfg(target_env = "gnu")]
        {
            const MIB: libc::c_int = 1024 * 1024;
            // Blocks of a size are mapped apart and unmapped when they are freed; as much free memory at the end of a heap is returned.
            let (arenas, large_bytes) = match self {
                Self::Frugal => (1, MIB / 4),
                Self::Reusing => (2, 8 * MIB),
                Self::Plain => return,
            };
            for (parameter, value) in [
                (libc::M_ARENA_MAX, arenas),
                (libc::M_MMAP_THRESHOLD, large_bytes),
                (libc::M_TRIM_THRESHOLD, large_bytes),
            ] {
                #[expect(
                    unsafe_code,
                    reason = "mallopt(3) has no safe face; it is called with constants, before any thread"
                )]
                // SAFETY: mallopt only reads its two integers, and no other thread runs yet.
                let accepted = unsafe { libc::mallopt(parameter, value) } == 1;
                debug_assert!(accepted, "mallopt knows these since glibc 2.10");
            }
        }
    }
}

/// Gives back what a start, a reload, an outage or a backup took: of ten thousand probes, a quarter of all memory, or nine tenths.
pub(crate) async fn keep_giving_back_memory() {
    tokio::time::sleep(SETTLED).await;
    loop {
        give_back_memory();
        tokio::time::sleep(GIVE_BACK_EVERY).await;
    }
}

/// Gives back to the system what was freed between blocks that live on; the allocator itself gives back its end only. Some
/// milliseconds, during which no other thread gets memory; does nothing with another allocator.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "malloc_trim(3) has no safe face")]
        // SAFETY: malloc_trim takes the locks of the allocator, and touches free memory only.
        let gave = unsafe { libc::malloc_trim(0) } == 1;
        tracing::debug!(gave, "memory was given back");
    }
}
