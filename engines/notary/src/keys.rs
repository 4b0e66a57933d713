//! The signing keys of the log.
//!
//! `log.key` (0600) holds the key that signs, in the form of Go's signed notes. systemd may hand it over as a credential of
//! the same name instead, and then it never lies in the data directory. While a key is being rotated, `log.key.next` holds
//! the one that will remain, and both sign.
//!
//! A credential can't be replaced from here: systemd makes it anew at each start from whatever the unit names. A rotation
//! that wrote its key elsewhere would leave a retired key in the first place that is looked at. So whatever replaces the
//! key refuses before it does anything while there is a credential, and says how to go about it; and two different keys,
//! one in each place, are no key at all.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use engine::{Failure, Random};
use journal::note::SigningKey;
use store::sqlite::Sqlite;

use crate::files;
use crate::remembered::RememberedHeads;

/// File of the key that signs.
pub const KEY: &str = "log.key";
/// File of the key that will replace it, during a rotation.
pub const NEXT_KEY: &str = "log.key.next";

/// Reads the signing keys of the log in `data`: the one in use first. `None` when there is no key yet.
pub fn load(data: &Path) -> Result<Option<Vec<SigningKey>>, Failure> {
    let own = data.join(KEY);
    let key = match credential() {
        None => read(&own, OWN_RIGHTS)?,
        Some(credential) => {
            let key = read(&credential, CREDENTIAL_RIGHTS)?;
            let beside = read(&own, OWN_RIGHTS)?;
            if let (Some(key), Some(beside)) = (&key, &beside)
                && key.vkey() != beside.vkey()
            {
                return Err(Failure::new("there are two signing keys, and only one can be that of the log")
                    .because(&Failure::new(format!("{} is {}", credential.display(), key.vkey())))
                    .because(&Failure::new(format!("{} is {}", own.display(), beside.vkey())))
                    .remedy("remove the one that is not: `garant log head` shows by its hash which key signed last"));
            }
            key
        }
    };
    let Some(key) = key else { return Ok(None) };
    Ok(Some(std::iter::once(key).chain(read(&data.join(NEXT_KEY), OWN_RIGHTS)?).collect()))
}

/// The path of the key among systemd's credentials, if it is one of them.
fn credential() -> Option<PathBuf> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(KEY));
    credential.filter(|path| path.exists())
}

/// Refuses to replace the key while it is a credential. Called first by each command that replaces it.
pub fn refuse_credential(data: &Path, command: &str) -> Result<(), Failure> {
    let Some(credential) = credential() else { return Ok(()) };
    let own = data.join(KEY);
    Err(Failure::new(format!(
        "the signing key is a credential, {}, and `garant log {command}` can't replace it",
        credential.display()
    ))
    .remedy(format!(
        "nothing was changed. Take the key out of the credentials first:\n\
         \x20    1. stop garant; `install -m 600 {from} {own}`, as the user that garant runs as\n\
         \x20    2. remove LoadCredential= (or LoadCredentialEncrypted=) of {KEY} from the unit\n\
         \x20    3. run `garant log {command}` again, without CREDENTIALS_DIRECTORY in its environment, and start garant\n\
         \x20    4. once the new key signs alone, make the credential from {own}, put the line back into the unit,\n\
         \x20       `shred -u {own}`, and destroy the credential of before",
        from = credential.display(),
        own = own.display(),
    )))
}

/// Mode bits that a key in the data directory must not have: all of group and others.
const OWN_RIGHTS: u32 = 0o077;
/// Mode bits that a credential must not have. systemd lets the user of the unit read it through an access control list, whose mask
/// is shown in place of the rights of the group.
const CREDENTIAL_RIGHTS: u32 = 0o037;

/// Reads the signing keys of the log `name` in `data`, as [`load`] does; makes the first one if there is no log yet.
pub fn load_or_create(
    data: &Path,
    name: &str,
    heads: &RememberedHeads,
    random: &dyn Random,
) -> Result<Vec<SigningKey>, Failure> {
    if let Some(signers) = load(data)? {
        let origin = origin(&signers)?;
        if origin.rsplit_once('/').map(|(name, _)| name) != Some(name) {
            return Err(Failure::new(format!(
                "the log in {} is called {origin}, and the policy says `{name}`",
                data.display()
            ))
            .remedy("correct `name` in [journal], or name another data directory with --data"));
        }
        return Ok(signers);
    }
    // A key made beside a log that is there, or remembered, would sign a second history under the same name.
    if let Ok(store) = Sqlite::open_read_only(data) {
        return Err(missing(data, store.origin()));
    }
    if let Some(remembered) = heads.read()?.first() {
        let path = remembered.path.display();
        return Err(Failure::new(format!(
            "{} has no log, but {path} remembers one: {}",
            data.display(),
            remembered.checkpoint.origin
        ))
        .remedy(format!(
            "put its data back; if it is lost, open its continuation with `garant log continue --data {} --reason …`; \
             if nobody ever saw it, remove {path}",
            data.display(),
        )));
    }
    match create(&data.join(KEY), &format!("{name}/1"), random) {
        Ok(key) => Ok(vec![key]),
        // Another process has just made it; the lock of the directory decides which of the two goes on with it.
        Err(failure) => load(data)?.ok_or(failure),
    }
}

/// The message for a log `origin` whose signing key is missing.
pub fn missing(data: &Path, origin: &str) -> Failure {
    Failure::new(format!("{} holds the log {origin}, but not its signing key", data.display())).remedy(format!(
        "put the key back as {}, or hand it over as the credential {KEY}, as the unit of garant does. If it is lost, open \
         a continuation with `garant log continue`",
        data.join(KEY).display()
    ))
}

/// Makes a key called `name` and writes it to a new file; fails when the file exists.
pub fn create(path: &Path, name: &str, random: &dyn Random) -> Result<SigningKey, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(format!("a key can't be made in {}", path.display())).because(error)
    };
    let mut seed = [0; 32];
    random.fill(&mut seed);
    let key = SigningKey::generate(seed, name).map_err(|error| failed(&error))?;
    // Of two processes that start at once the second finds the file: each would sign with a key of its own otherwise, and one of
    // the keys would be lost.
    match files::write_new(path, format!("{}\n", key.to_text()).as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Failure::new(format!("{} is there already", path.display())));
        }
        written => written.map_err(|error| failed(&error))?,
    }
    Ok(key)
}

/// Reads a key; `None` when there is no file. Refuses a file with any mode bit of `forbidden`.
fn read(path: &Path, forbidden: u32) -> Result<Option<SigningKey>, Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |what: &str| Failure::new(format!("the key {} {what}", path.display()));
    let text = match files::read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "run garant as the user that owns it",
                _ => "put the right file back",
            };
            return Err(failed("can't be read").because(&error).remedy(remedy));
        }
    };
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode()).unwrap_or_default();
    if mode & forbidden != 0 {
        return Err(failed("can be read by others than its owner")
            .remedy(format!("rotate it if others may have read it; then `chmod 600 {}`", path.display())));
    }
    let key = SigningKey::from_text(text.trim_end()).map_err(|error| {
        failed("can't be used").because(&error).remedy(
            "put the right file back; if it is lost, `garant log continue --reason …` opens a new log that cites this one",
        )
    })?;
    Ok(Some(key))
}

/// The origin of the log that these keys sign: their name.
pub fn origin(signers: &[SigningKey]) -> Result<String, Failure> {
    signers.first().map(|key| key.name().to_owned()).ok_or_else(|| Failure::new("the log has no key"))
}

/// Ends a rotation: replaces `log.key` by `log.key.next`, then overwrites the bytes of the old key. In this order, so that a crash in
/// between leaves no log without a key.
pub fn promote_next(data: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new("the old key can't be replaced by the new one")
            .because(&error)
            .remedy(format!("move {NEXT_KEY} to {KEY} in {}, for the log is signed by the new key now", data.display()))
    };
    let place = data.join(KEY);
    let mut old = fs::OpenOptions::new().write(true).open(&place).map_err(failed)?;
    fs::rename(data.join(NEXT_KEY), &place).map_err(failed)?;
    fs::File::open(data).and_then(|directory| directory.sync_all()).map_err(failed)?;
    let mut overwrite = || {
        let length = usize::try_from(old.metadata()?.len()).unwrap_or_default();
        old.write_all(&vec![0; length])?;
        old.sync_all()
    };
    overwrite().map_err(|error: io::Error| {
        Failure::new("the new key signs alone, but the bytes of the old one could not be overwritten on the disk")
            .because(&error)
            .remedy("nothing in the log depends on it; if others may read this disk, wipe its free space")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Barrier;

    use engine::random::SystemRandom;

    use super::*;

    /// Two first starts at once: each must go on with the key that is in the file.
    #[test]
    fn of_two_that_make_the_first_key_both_go_on_with_one() {
        for round in 0..50 {
            let data = tempfile::tempdir().expect("a directory");
            let heads = RememberedHeads::at(vec![data.path().join("no head")]);
            let together = Barrier::new(4);
            let start = || {
                together.wait();
                let signers = load_or_create(data.path(), "shop.example", &heads, &SystemRandom).expect("a key");
                signers[0].vkey()
            };
            let vkeys = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                starts.into_iter().map(|start| start.join().expect("no panic")).collect::<Vec<_>>()
            });
            let in_the_file = load(data.path()).expect("readable").expect("there")[0].vkey();
            assert!(vkeys.iter().all(|vkey| *vkey == in_the_file), "round {round}: {vkeys:?}, but {in_the_file:?}");
            let files: Vec<_> = fs::read_dir(data.path()).expect("listed").collect();
            assert_eq!(files.len(), 1, "nothing else is left behind: {files:?}");
        }
    }

    #[test]
    fn a_key_that_is_there_is_not_replaced() {
        let data = tempfile::tempdir().expect("a directory");
        let path = data.path().join(KEY);
        let first = create(&path, "shop.example/1", &SystemRandom).expect("a key").vkey();
        let refused = create(&path, "shop.example/1", &SystemRandom).expect_err("refused");
        assert!(refused.to_string().contains("is there already"), "{refused}");
        assert_eq!(read(&path, OWN_RIGHTS).expect("readable").expect("there").vkey(), first);
    }

    #[test]
    fn a_replaced_key_is_overwritten() {
        let data = tempfile::tempdir().expect("a folder");
        let at = |name: &str| data.path().join(name);
        create(&at(KEY), "shop.example/1", &SystemRandom).expect("made");
        fs::hard_link(at(KEY), at("second name")).expect("linked");
        fs::write(at(NEXT_KEY), "the next").expect("written");
        promote_next(data.path()).expect("replaced");
        assert_eq!(fs::read_to_string(at(KEY)).expect("there"), "the next");
        assert!(!at(NEXT_KEY).exists());
        let old = fs::read(at("second name")).expect("there");
        assert!(!old.is_empty() && old.iter().all(|byte| *byte == 0), "the bytes themselves are gone: {old:?}");
    }

    #[test]
    fn what_has_no_end_is_no_key() {
        let data = tempfile::tempdir().expect("a folder");
        let path = data.path().join(KEY);
        std::os::unix::fs::symlink("/dev/zero", &path).expect("linked");
        let refused = read(&path, OWN_RIGHTS).expect_err("a device").to_string();
        assert!(refused.contains("is not a file"), "{refused}");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "x".repeat(1 << 20)).expect("written");
        let refused = read(&path, OWN_RIGHTS).expect_err("too long").to_string();
        assert!(refused.contains("longer than 64 KiB"), "{refused}");
    }

    /// A credential of systemd shows the mask of its access control list where the rights of a group are.
    #[test]
    fn rights_of_a_key() {
        let data = tempfile::tempdir().expect("a folder");
        let path = data.path().join(KEY);
        create(&path, "shop.example/1", &SystemRandom).expect("made");
        for (mode, own, credential) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o440, false, true),
            (0o460, false, false),
            (0o604, false, false),
            (0o644, false, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(read(&path, OWN_RIGHTS).is_ok(), own, "{mode:o}");
            assert_eq!(read(&path, CREDENTIAL_RIGHTS).is_ok(), credential, "{mode:o}");
        }
    }
}
