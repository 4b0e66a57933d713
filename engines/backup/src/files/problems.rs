//! Problems: what could not be read or written, counted all, and named as far as there is room.

use std::fmt;
use std::path::Path;

use engine::printable;

/// Most problems that are named.
pub(super) const NAMED_MAX: usize = 100;

/// Something that could not be read or written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Its path, fit to be shown.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Problems of one kind: how many, and the first of them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Problems {
    /// How many there are.
    pub count: u64,
    /// The first of them, 100 at most.
    pub named: Vec<Problem>,
}

impl Problems {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, path: &Path, reason: impl fmt::Display) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            let path = printable::text(&path.to_string_lossy()).into_owned();
            self.named.push(Problem { path, reason: printable::text(&reason.to_string()).into_owned() });
        }
    }
}

impl fmt::Display for Problems {
    /// One on each line; how many more there are, on the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { path, reason } in &self.named {
            writeln!(f, "{path}: {reason}")?;
        }
        match self.count - self.named.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}
