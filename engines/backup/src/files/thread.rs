//! Work that waits: on a thread of its own, told to stop, and watched from outside.

use engine::memory::Reusing;
use engine::{CancellationToken, Context};
use rustic_core::{HiddenProgress, Progress, ProgressBars, ProgressType, RusticProgress};
use tokio::sync::watch;

use super::FilesError;
use engine::Watcher;

/// What the work has of the world outside of its thread.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    /// Whether it is to stop.
    pub(super) stop: CancellationToken,
    /// Whom it tells how far it is.
    pub(super) telling: Telling,
    /// Called before a file is opened, and before each time it is read, with the bytes that were read of it.
    #[cfg(test)]
    pub(super) hook: Hook,
}

/// What a test does to a file at a certain moment.
#[cfg(test)]
#[derive(Clone, Default)]
pub(super) struct Hook(pub(super) Option<std::sync::Arc<HookFn>>);

#[cfg(test)]
pub(super) type HookFn = dyn Fn(&std::path::Path, Option<u64>) + Send + Sync;

#[cfg(test)]
impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

#[cfg(test)]
impl Thread {
    pub(super) fn hook(&self, path: &std::path::Path, read: Option<u64>) {
        if let Some(hook) = &self.hook.0 {
            hook(path, read);
        }
    }
}

/// How far the work is.
#[derive(Clone, Default, Debug)]
struct Doing {
    step: &'static str,
    done: u64,
    of: Option<u64>,
}

/// Tells how far the work is; nobody waits for anybody.
#[derive(Clone, Debug)]
pub(super) struct Telling(watch::Sender<Doing>);

/// Telling nobody.
#[cfg(test)]
impl Default for Telling {
    fn default() -> Self {
        Self(watch::Sender::default())
    }
}

impl Telling {
    /// A step begins.
    pub(super) fn step(&self, step: &'static str) {
        self.0.send_replace(Doing { step, done: 0, of: None });
    }

    /// So many bytes of the step are known.
    pub(super) fn of(&self, bytes: u64) {
        self.0.send_modify(|doing| doing.of = Some(bytes));
    }

    /// So many bytes more are done.
    pub(super) fn more(&self, bytes: u64) {
        self.0.send_modify(|doing| doing.done += bytes);
    }
}

/// Runs `work` on a thread that may wait, until it ends; `watcher` is told how far it is. Dropped, it tells the work to stop.
pub(super) async fn on_thread<T: Send + 'static>(
    context: &Context,
    watcher: &dyn Watcher,
    work: impl FnOnce(&Thread) -> Result<T, FilesError> + Send + 'static,
) -> Result<T, FilesError> {
    let stop = context.stop.child_token();
    let _stops_when_dropped = stop.clone().drop_guard();
    let (sender, mut doing) = watch::channel(Doing::default());
    let telling = Telling(sender);
    #[cfg(not(test))]
    let thread = Thread { stop, telling };
    #[cfg(test)]
    let thread = Thread { stop, telling, hook: Hook::default() };
    let mut work = tokio::task::spawn_blocking(move || {
        // The library takes a compressor of some megabytes for each chunk.
        let _reusing = Reusing::begin();
        work(&thread)
    });
    loop {
        tokio::select! {
            biased;
            Ok(()) = doing.changed() => {
                let Doing { step, done, of } = doing.borrow_and_update().clone();
                watcher.doing(step, done, of);
            }
            ended = &mut work => {
                return ended.unwrap_or_else(|_| Err(FilesError::Stored("the work on the repository has panicked".into())));
            }
        }
    }
}

/// The steps that the library counts in bytes, told on; the others it keeps to itself.
impl ProgressBars for Telling {
    fn progress(&self, kind: ProgressType, _prefix: &str) -> Progress {
        match kind {
            ProgressType::Bytes => Progress::new(Bytes(self.clone())),
            _ => Progress::new(HiddenProgress),
        }
    }
}

/// A step that the library counts in bytes.
#[derive(Debug)]
struct Bytes(Telling);

impl RusticProgress for Bytes {
    fn is_hidden(&self) -> bool {
        false
    }

    fn set_length(&self, bytes: u64) {
        self.0.of(bytes);
    }

    fn set_title(&self, _title: &str) {}

    fn inc(&self, bytes: u64) {
        self.0.more(bytes);
    }

    fn finish(&self) {}
}
