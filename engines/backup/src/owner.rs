//! Whom restored files belong to.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, lchown};
use std::path::{Path, PathBuf};

use engine::{Context, Program, ProgramError};

use crate::database::DatabaseError;

/// Whom the programs that read restored files run as: the user of the database where this process is root, else whoever it runs as.
/// Nothing that is restored may act with the rights of root, and the programs of PostgreSQL refuse them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    name: &'static str,
    /// User and group, where they are not those of this process.
    numbers: Option<(u32, u32)>,
}

impl Owner {
    /// The user `name`; `package` is what brings it along.
    pub(crate) fn find(name: &'static str, package: &str) -> Result<Self, DatabaseError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { name, numbers: None });
        }
        let path = PathBuf::from("/etc/passwd");
        let passwd = fs::read_to_string(&path).map_err(|error| DatabaseError::Files { path, error })?;
        let numbers = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [found, _, user, group, ..] = fields.as_slice() else { return None };
            (*found == name).then_some((user.parse().ok()?, group.parse().ok()?))
        });
        let missing = || DatabaseError::Database(format!("there is no user `{name}` here: install {package}"));
        Ok(Self { name, numbers: Some(numbers.ok_or_else(missing)?) })
    }

    /// User and group, where they are not those of this process.
    pub(crate) const fn numbers(self) -> Option<(u32, u32)> {
        self.numbers
    }

    /// The program, run as this user.
    pub(crate) fn run(self, program: Program) -> Program {
        match self.numbers {
            Some((user, group)) => program.owner(user, group),
            None => program,
        }
    }

    /// Gives it a file or a folder; of a link, the link.
    pub(crate) fn give(self, path: &Path) -> Result<(), DatabaseError> {
        let given = match self.numbers {
            Some((user, group)) => lchown(path, Some(user), Some(group)),
            None => Ok(()),
        };
        given.map_err(|error| DatabaseError::Files { path: path.to_owned(), error })
    }

    /// Makes a folder for it alone, if it is not there.
    pub(crate) fn make(self, path: &Path) -> Result<(), DatabaseError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| DatabaseError::Files { path: path.to_owned(), error })?;
        self.give(path)
    }

    /// Fails unless it can write into a folder of its own: folders above may be closed to it.
    pub(crate) async fn can_reach(self, context: &Context, folder: &Path) -> Result<(), DatabaseError> {
        let test = Program::new("test").arg("-w").arg(folder);
        match context.programs.run(&self.run(test)).await {
            Err(ProgramError::Failed { .. }) => {
                let name = self.name;
                let why =
                    format!("the user {name} can't write there: open the folders above it, or choose another place");
                Err(DatabaseError::Files { path: folder.to_owned(), error: io::Error::other(why) })
            }
            tested => Ok(tested.map(|_| ())?),
        }
    }
}
