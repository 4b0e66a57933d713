//! Users of the system, and what they may read.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Groups of the system that may read its logs: an agent is in them.
pub(crate) const LOG_GROUPS: [&str; 2] = ["adm", "systemd-journal"];

/// Root.
pub(crate) const ROOT: Account = Account { uid: 0, gid: 0 };

/// A user of the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// The user of this name in `/etc/passwd` (passwd(5)).
    pub(crate) fn named(name: &str) -> io::Result<Option<Self>> {
        let text = std::fs::read_to_string("/etc/passwd")?;
        Ok(text.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [found, _, uid, gid, ..] = fields[..] else { return None };
            (found == name).then_some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        }))
    }

    /// Whether the modes of a file and of the folders above it let a process of this user, which is in these groups too, read it.
    /// Root is no exception: an agent has no capability for that.
    fn may_read(self, groups: &[u32], path: &Path) -> io::Result<bool> {
        let may = |metadata: &Metadata, right: u32| {
            let class = match () {
                () if metadata.uid() == self.uid => 6,
                () if metadata.gid() == self.gid || groups.contains(&metadata.gid()) => 3,
                () => 0,
            };
            metadata.mode() >> class & right != 0
        };
        let path = path.canonicalize()?;
        for folder in path.ancestors().skip(1) {
            if !may(&folder.metadata()?, 0o1) {
                return Ok(false);
            }
        }
        Ok(may(&path.metadata()?, 0o4))
    }
}

/// Whether an agent that runs as the user of this name may read a file: where there is no such user, one that `garant up` starts
/// runs as root. `None` where this process can't tell.
pub(crate) fn agent_may_read(user: &str, is_unit: bool, path: &Path) -> Option<bool> {
    let account = Account::named(user).ok()?.or((!is_unit).then_some(ROOT))?;
    account.may_read(&group_numbers(&LOG_GROUPS).ok()?, path).ok()
}

/// The numbers of those of these groups that there are (group(5)).
pub(crate) fn group_numbers(names: &[&str]) -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string("/etc/group")?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            names.contains(&name).then(|| fields.nth(1)?.parse().ok())?
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What the rights of a file say counts, for root too, and those of the folders above it.
    #[test]
    fn what_an_agent_may_read_is_what_modes_say() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("list");
        std::fs::write(&file, "").expect("written");
        let own = file.metadata().expect("there");
        let (owner, member) = (Account { uid: own.uid(), gid: 60_001 }, Account { uid: 60_001, gid: own.gid() });
        let stranger = Account { uid: 60_001, gid: 60_001 };
        let read = |folder_mode: u32, mode: u32| {
            set_permissions(folder.path(), Permissions::from_mode(folder_mode)).expect("set");
            set_permissions(&file, Permissions::from_mode(mode)).expect("set");
            let may = |account: Account, groups: &[u32]| account.may_read(groups, &file).expect("it is there");
            [may(owner, &[]), may(member, &[]), may(stranger, &[]), may(stranger, &[own.gid()])]
        };
        assert_eq!(read(0o755, 0o644), [true; 4]);
        assert_eq!(read(0o755, 0o640), [true, true, false, true]);
        assert_eq!(read(0o755, 0o600), [true, false, false, false]);
        assert_eq!(read(0o755, 0o044), [false, true, true, true], "the first class counts");
        assert_eq!(read(0o700, 0o644), [true, false, false, false]);
        assert_eq!(agent_may_read("no-such-user", true, &file), None);
        assert_eq!(agent_may_read("nobody", true, &file), Some(false));
    }
}
