//! How the allocator of glibc keeps what is freed. With another allocator, nothing here does anything.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long after a start all that depends on the policy has read it.
const SETTLED: Duration = Duration::from_secs(30);
/// How often what was freed is given back after that.
const GIVE_BACK_EVERY: Duration = Duration::from_mins(10);

/// How many [`Reusing`] there are; `None` in a process that has not [become frugal](be_frugal).
static REUSING: Mutex<Option<usize>> = Mutex::new(None);

/// Sets the allocator for a process that idles for months: one arena for all threads, and large blocks returned as they are freed. A
/// role calls it before there is a second thread. With 10,000 probes that halves resident memory: what one thread frees of an arena of
/// its own is used by no other.
///
/// glibc raises its mmap threshold each time a large block is freed, and keeps later blocks below it: after one scrape of
/// `/metrics`, 8 MB stayed resident. A fixed threshold returns them.
pub fn be_frugal() {
    let mut reusing = REUSING.lock().unwrap_or_else(PoisonError::into_inner);
    if reusing.is_none() {
        *reusing = Some(0);
        set(&[Parameter::Arenas(1), FRUGAL.0, FRUGAL.1]);
    }
}

/// Work that takes and frees large blocks by the thousand, such as a compressor of some megabytes for each small file: while there is
/// one of these, blocks up to that size are used again, in a process that is frugal otherwise. Mapping them anew each time took half of
/// the time of a first backup.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Reusing(());

impl Reusing {
    /// Such work begins.
    pub fn begin() -> Self {
        if let Some(reusing) = &mut *REUSING.lock().unwrap_or_else(PoisonError::into_inner) {
            *reusing += 1;
            if *reusing == 1 {
                set(&[REUSED.0, REUSED.1]);
            }
        }
        Self(())
    }
}

impl Drop for Reusing {
    fn drop(&mut self) {
        if let Some(reusing) = &mut *REUSING.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that began before the process was frugal was not counted.
            *reusing = reusing.saturating_sub(1);
            if *reusing == 0 {
                set(&[FRUGAL.0, FRUGAL.1]);
                give_back();
            }
        }
    }
}

/// Gives back what a start, a reload, an outage or a backup took, for ever: of ten thousand probes, a quarter of all memory, or nine
/// tenths.
pub async fn keep_giving_back() {
    tokio::time::sleep(SETTLED).await;
    loop {
        give_back();
        tokio::time::sleep(GIVE_BACK_EVERY).await;
    }
}

const MIB: i32 = 1024 * 1024;
const FRUGAL: (Parameter, Parameter) = (Parameter::MappedFrom(MIB / 4), Parameter::KeptAtTheEnd(MIB / 4));
const REUSED: (Parameter, Parameter) = (Parameter::MappedFrom(8 * MIB), Parameter::KeptAtTheEnd(16 * MIB));

/// A parameter of the allocator, with its value.
#[derive(Clone, Copy, Debug)]
enum Parameter {
    /// The most heaps that threads share.
    Arenas(i32),
    /// Blocks of so many bytes are mapped apart, and unmapped when they are freed.
    MappedFrom(i32),
    /// As many free bytes at the end of a heap are not returned.
    KeptAtTheEnd(i32),
}

#[cfg_attr(not(target_env = "gnu"), expect(unused_variables, reason = "only glibc has parameters"))]
fn set(parameters: &[Parameter]) {
    #[cfg(target_env = "gnu")]
    for parameter in parameters {
        let (parameter, value) = match *parameter {
            Parameter::Arenas(value) => (libc::M_ARENA_MAX, value),
            Parameter::MappedFrom(value) => (libc::M_MMAP_THRESHOLD, value),
            Parameter::KeptAtTheEnd(value) => (libc::M_TRIM_THRESHOLD, value),
        };
        #[expect(unsafe_code, reason = "mallopt(3) has no safe face; it is called with constants, under one lock")]
        // SAFETY: mallopt takes the lock of the main heap and sets a word. Another thread that allocates meanwhile reads the value of
        // before or after; both are sound, for a block carries in itself whether it was mapped.
        let accepted = unsafe { libc::mallopt(parameter, value) } == 1;
        debug_assert!(accepted, "mallopt knows these since glibc 2.10");
    }
}

/// Gives back to the system what was freed between blocks that live on; the allocator itself gives back its end only. Some
/// milliseconds, during which no other thread gets memory.
fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "malloc_trim(3) has no safe face")]
        // SAFETY: malloc_trim takes the locks of the allocator, and touches free memory only.
        let gave = unsafe { libc::malloc_trim(0) } == 1;
        tracing::debug!(gave, "memory was given back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reusing() -> Option<usize> {
        *REUSING.lock().expect("no thread has panicked")
    }

    /// A command, which ends soon, keeps the allocator as it is.
    #[test]
    fn only_a_frugal_process_counts_who_reuses() {
        let before = Reusing::begin();
        assert_eq!(reusing(), None, "not frugal");
        be_frugal();
        drop(before);
        assert_eq!(reusing(), Some(0), "what began before is not counted");
        let two = (Reusing::begin(), Reusing::begin());
        be_frugal();
        assert_eq!(reusing(), Some(2), "and it is not forgotten who does");
        drop(two);
        assert_eq!(reusing(), Some(0));
    }
}
