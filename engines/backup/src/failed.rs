//! The instants that a restore test could not restore, until it can.
//!
//! A random instant that failed is not drawn again. Were it forgotten once another one passes, a hole in what can be restored would be
//! open for as long as the next draw takes. So each is written down before anything is said of it, is restored again with every
//! test, and leaves only when it was restored, or can't be any more, for it is kept no longer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use event::Time;
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::config::Kind;

/// Most instants that are remembered; of more the first ones are. The finding is open for each of them.
const INSTANTS_MAX: usize = 16;
/// Longest cause that is remembered, in characters.
const CAUSE_MAX: usize = 500;

/// What has failed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct FailedTest {
    /// The instant; `None` where no instant can be blamed: any test that passes settles it.
    to: Option<Time>,
    error: String,
}

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct FailedInstants {
    path: PathBuf,
    tests: Vec<FailedTest>,
}

impl FailedInstants {
    /// Those that are written down in the folder of a backup.
    pub(crate) fn read(work: &Path) -> Self {
        let path = work.join("failed");
        let read = fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
        let tests = match read {
            Ok(tests) => tests,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            // Which they were is lost, and not that there were some.
            Err(error) => {
                let error = format!("which instants could not be restored is not known: {}: {error}", path.display());
                vec![FailedTest { to: None, error }]
            }
        };
        Self { path, tests }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// The instants, the first that failed first.
    pub(crate) fn instants(&self) -> Vec<Time> {
        self.tests.iter().filter_map(|test| test.to).collect()
    }

    /// A test has failed.
    pub(crate) fn add(&mut self, to: Option<Time>, error: &str) {
        let error: String = error.chars().take(CAUSE_MAX).collect();
        let is_full = self.tests.len() >= INSTANTS_MAX;
        match self.tests.iter_mut().find(|test| test.to == to) {
            Some(known) => known.error = error,
            None if !is_full => self.tests.push(FailedTest { to, error }),
            None => tracing::error!(?to, error, "more instants than are remembered could not be restored"),
        }
        self.write();
    }

    /// An instant was restored; or any, for `None`.
    pub(crate) fn settle(&mut self, to: Option<Time>) {
        self.tests.retain(|test| test.to != to);
        self.write();
    }

    /// Forgets the instants before the first one that is kept, and says which they were.
    pub(crate) fn forget_before(&mut self, first: Time) -> Vec<Time> {
        let gone: Vec<Time> = self.instants().into_iter().filter(|to| *to < first).collect();
        if !gone.is_empty() {
            self.tests.retain(|test| test.to.is_none_or(|to| to >= first));
            self.write();
        }
        gone
    }

    /// Shows them on the board: while there are some, no test that passes says that all is well.
    pub(crate) fn show(&self, board: &Board, name: &str) {
        let words = |FailedTest { to, error }: &FailedTest| match to {
            Some(to) => format!("what was restored to {to} failed, and is restored again with each test: {error}"),
            None => error.clone(),
        };
        board.change(name, Kind::Restore, |line| line.wrong = self.tests.iter().map(words).collect());
    }

    fn write(&self) {
        let write = || {
            let beside = self.path.with_extension("new");
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&serde_json::to_vec(&self.tests).map_err(io::Error::other)?)?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        if let Err(error) = write() {
            tracing::error!(file = %self.path.display(), %error, "which instants could not be restored is not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time::from_secs(1_796_000_000 + second)
    }

    #[test]
    fn what_has_failed_is_there_after_a_restart_until_it_is_settled() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = || FailedInstants::read(folder.path());
        assert!(read().is_empty());
        let mut failed = read();
        failed.add(Some(at(1)), "a piece is missing");
        failed.add(None, "no copy answers");
        failed.add(Some(at(2)), &"x".repeat(10_000));
        assert_eq!(read().instants(), [at(1), at(2)]);
        assert!(fs::read(folder.path().join("failed")).expect("written").len() < 1000, "bounded");
        failed.settle(Some(at(1)));
        failed.settle(None);
        assert_eq!(read().forget_before(at(2)), []);
        assert_eq!(read().forget_before(at(3)), [at(2)]);
        assert!(read().is_empty());
        for second in 0..100 {
            failed.add(Some(at(second)), "a piece is missing");
        }
        assert_eq!(read().instants().len(), INSTANTS_MAX);
    }

    #[test]
    fn a_file_that_cant_be_read_counts_as_a_failure() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("failed"), "[{").expect("written");
        let failed = FailedInstants::read(folder.path());
        assert!(!failed.is_empty() && failed.instants().is_empty(), "{failed:?}");
    }
}
