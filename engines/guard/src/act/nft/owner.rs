//! The process that a table of ours is of: a second agent on one network would undo what the first one does, and both would say that
//! their bans are in force.
//!
//! A rule without effect names the process, by its number and its start. Only who may change the packet filter can write it; it is
//! changed in the transaction that makes the table, and a table of a process that has ended is anybody's.

use std::path::Path;

/// A process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    /// Its number.
    pub(super) pid: u32,
    /// When it started, in ticks of the kernel since the boot: a number is given again.
    start: u64,
}

impl Owner {
    /// A process that runs; `None` when it has ended, or is not seen.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
        // The name of the program is in parentheses, and may hold some.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let (state, start) = (fields.first()?, fields.get(19)?.parse().ok()?);
        (!["Z", "X", "x"].contains(state)).then_some(Self { pid, start })
    }

    /// This process.
    pub(super) fn this() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self { pid, start: 0 })
    }

    /// The comment of the rule that names it.
    pub(super) fn comment(&self) -> String {
        format!("agent {} {}", self.pid, self.start)
    }

    /// The process that a comment names.
    pub(super) fn of_comment(comment: &str) -> Option<Self> {
        let (pid, start) = comment.strip_prefix("agent ")?.split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, start: start.parse().ok()? })
    }

    /// Whether it still runs.
    pub(super) fn is_running(&self) -> bool {
        Self::of(self.pid).is_some_and(|running| running == *self)
    }
}
