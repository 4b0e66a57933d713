//! Whom restored files belong to.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use engine::{Context, Program, ProgramError};

use crate::database::DatabaseError;

/// What root needs to give files to another user and to become one: `CAP_CHOWN`, `CAP_SETGID`, `CAP_SETUID`, by their numbers in
/// capabilities(7).
const TO_BECOME_OTHERS: u64 = 1 | 1 << 6 | 1 << 7;

/// Whether this process, which is root, may become `user`. An agent without a user of its own is root by its number alone.
///
/// # Errors
/// It may not: why, and what to do.
pub(crate) fn may_become_others(user: &str) -> Result<(), String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if lacks_nothing(&status) {
        return Ok(());
    }
    Err(format!(
        "this process is root without the right to become another user (CAP_SETUID), and what is restored may only be read by `{user}`: \
         give the agent a user of its own, with `adduser --system --group garant-agent`, give it the directories of the copies (`chown -R \
         garant-agent: DIRECTORY`), make it known to the database (`garant protect` with `--fix`), and restart garant"
    ))
}

/// Whether a process has what root needs, by its status of proc(5). One that does not say is believed.
fn lacks_nothing(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|number| u64::from_str_radix(number.trim(), 16).ok());
    effective.is_none_or(|effective| effective & TO_BECOME_OTHERS == TO_BECOME_OTHERS)
}

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
        may_become_others(name).map_err(DatabaseError::Database)?;
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

    /// Whoever this process runs as.
    #[cfg(test)]
    pub(crate) const fn of_process() -> Self {
        Self { name: "nobody else", numbers: None }
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

    /// Makes a folder for it alone, if it is not there. Folders above that are missing are made as any others, for it has to pass them.
    pub(crate) fn make(self, path: &Path) -> Result<(), DatabaseError> {
        let above = path.parent().map_or(Ok(()), fs::create_dir_all);
        let made = above.and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(path));
        // One that was there may be open to others, which PostgreSQL refuses, and nobody else is to read what is restored.
        let closed = made.and_then(|()| close(path));
        closed.map_err(|error| DatabaseError::Files { path: path.to_owned(), error })?;
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

/// Closes a folder to everybody but its owner.
fn close(folder: &Path) -> io::Result<()> {
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o777 == 0o700 { Ok(()) } else { fs::set_permissions(folder, fs::Permissions::from_mode(0o700)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another user passes the folders above its own, though nobody had made them.
    #[test]
    fn folders_above_are_not_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/below/own");
        Owner::of_process().make(&path).expect("made");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o711;
        assert_eq!(mode(&path), 0o700);
        for above in path.ancestors().skip(1).take(2) {
            assert_eq!(mode(above), 0o711, "{}", above.display());
        }
    }

    /// What was there and open to others is closed: PostgreSQL starts on no other folder.
    #[test]
    fn a_folder_that_was_there_is_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("own");
        DirBuilder::new().mode(0o755).create(&path).expect("made");
        Owner::of_process().make(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn root_without_its_rights_is_told_so() {
        assert!(lacks_nothing("Name:\tgarant\nCapEff:\t000001ffffffffff\n"));
        assert!(!lacks_nothing("Name:\tgarant\nCapEff:\t0000000000000004\n"), "CAP_DAC_READ_SEARCH alone");
        assert!(lacks_nothing(""));
    }
}
