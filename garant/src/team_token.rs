//! The team token, `team.token` in the data directory: what the commands show at the doors of engines.
//!
//! **Problem.** The team's listener is on loopback and asks for no password, so every user of the machine reaches it. Reading
//! figures there harms nobody; acknowledging an alert does. **Principle.** Whoever may read the data directory may act:
//! `garant up` makes a token there that its owner alone can read, keeps it over restarts, and knows its hash from then on.
//! To replace it, remove the file and restart.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::Random;
use journal::Hash;
use rustix::fs::OFlags;
use store::write_whole;
use zeroize::Zeroizing;

use crate::failure::Failure;

const FILE: &str = "team.token";
/// Random bytes of a token.
const BYTES: usize = 32;
/// Characters of a token.
const LENGTH: usize = (BYTES * 8).div_ceil(6);
/// Mode bits that the file must not have: all of group and others.
const RIGHTS_FORBIDDEN: u32 = 0o077;

/// The token of the team. Wiped when it is dropped.
pub(crate) struct TeamToken(Zeroizing<String>);

impl TeamToken {
    /// Reads the token of this data directory, whose lock is held, or makes one. On a full disk nobody can read the one
    /// that was made, which is warned of: garant must start there.
    pub(crate) fn read_or_make(data: &Path, random: &dyn Random) -> Result<Self, Failure> {
        match read(data) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(data, random),
            Err(error) => Err(unreadable(data, &error)),
        }
    }

    /// Reads the token of this data directory, for a command.
    pub(crate) fn read(data: &Path) -> Result<Self, Failure> {
        read(data).unwrap_or_else(|error| Err(unreadable(data, &error)))
    }

    fn make(data: &Path, random: &dyn Random) -> Result<Self, Failure> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        random.fill(bytes.as_mut());
        let token = Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)));
        let path = data.join(FILE);
        let line = Zeroizing::new(format!("{}\n", *token.0));
        match write_whole(&path, line.as_bytes(), 0o600) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                tracing::warn!(
                    "the disk is full, and {} can't be written: commands that ask an engine are refused until garant is \
                     started anew",
                    path.display()
                );
            }
            Err(error) => {
                return Err(Failure::new(format!("{} can't be written", path.display())).because(&error));
            }
        }
        Ok(token)
    }

    /// Its hash, against which callers are judged.
    pub(crate) fn hash(&self) -> Hash {
        Hash::of(&[self.0.as_bytes()])
    }

    /// The field value `Authorization` of a command.
    pub(crate) fn authorization(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", *self.0))
    }
}

/// The token in the file. The outer error is of the system, the inner one of what was found.
fn read(data: &Path) -> io::Result<Result<TeamToken, Failure>> {
    let path = data.join(FILE);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
    let metadata = file.metadata()?;
    let refused = |why: &str, remedy: &str| {
        Ok(Err(Failure::new(format!("{} {why}", path.display()))
            .remedy(format!("remove it and start garant anew: it makes another one{remedy}"))))
    };
    if !metadata.is_file() {
        return refused("is no regular file", "");
    }
    if metadata.mode() & RIGHTS_FORBIDDEN != 0 {
        return refused(
            "may be read or changed by others than its owner",
            ". Whoever read this one can act as the team",
        );
    }
    let mut text = Zeroizing::new(String::with_capacity(LENGTH + 2));
    file.take(LENGTH as u64 + 2).read_to_string(&mut text)?;
    let token = text.strip_suffix('\n').unwrap_or(&text);
    let is_token = token.len() == LENGTH && URL_SAFE_NO_PAD.decode(token).is_ok_and(|bytes| bytes.len() == BYTES);
    if !is_token {
        return refused("holds no token", "");
    }
    Ok(Ok(TeamToken(Zeroizing::new(token.to_owned()))))
}

fn unreadable(data: &Path, error: &io::Error) -> Failure {
    let path = data.join(FILE);
    let failure = Failure::new(format!("{} can't be read", path.display())).because(error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => failure.remedy("run this command as the user that runs garant"),
        io::ErrorKind::NotFound => failure.remedy("start `garant up` anew: it makes the file"),
        _ => failure.remedy("remove it and start garant anew: it makes another one"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use engine::random::SeededRandom;

    use super::*;

    fn made(data: &Path, seed: u64) -> Result<String, Failure> {
        TeamToken::read_or_make(data, &SeededRandom::new(seed)).map(|token| token.authorization().to_string())
    }

    #[test]
    fn a_token_is_made_once_and_kept() {
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path();
        let Err(failure) = TeamToken::read(data) else { panic!("there is none") };
        assert_eq!(failure.what_to_do(), Some("start `garant up` anew: it makes the file"));
        let first = made(data, 1).expect("made");
        assert_eq!(first.len(), "Bearer ".len() + LENGTH);
        assert_eq!(made(data, 2).expect("read"), first, "kept over restarts");
        assert_eq!(TeamToken::read(data).map(|token| token.authorization().to_string()).expect("read"), first);
        assert_eq!(fs::metadata(data.join(FILE)).expect("there").mode() & 0o777, 0o600);
        fs::remove_file(data.join(FILE)).expect("removed");
        assert_ne!(made(data, 2).expect("made"), first, "and replaced when it is removed");
    }

    /// A token that others may know is none, and no link leads out of the data directory.
    #[test]
    fn a_token_of_others_is_refused() {
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path();
        let path = data.join(FILE);
        let token = made(data, 1).expect("made");
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            let failure = made(data, 2).expect_err("refused");
            assert!(failure.what().contains("read or changed by others") && !failure.to_string().contains(&token));
        }
        let other = data.join("other");
        fs::rename(&path, &other).expect("moved");
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).expect("set");
        symlink(&other, &path).expect("a link");
        assert!(made(data, 2).expect_err("refused").what().contains("can't be read"));
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("a folder");
        assert!(made(data, 2).expect_err("refused").what().contains("no regular file"));
        fs::remove_dir(&path).expect("removed");
        for text in ["", "\n", "short\n", &"x".repeat(LENGTH + 1), &"x".repeat(100_000), &"!".repeat(LENGTH)] {
            write_whole(&path, text.as_bytes(), 0o600).expect("written");
            assert!(made(data, 2).expect_err("refused").what().ends_with("holds no token"), "{text:.60}");
        }
    }
}
