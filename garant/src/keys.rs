//! The keys of the log, and what is remembered of it outside the data directory.
//!
//! `log.key` (0600) holds the key that signs, in the form of Go's signed notes. systemd may hand it over as a credential of
//! the same name instead, and then it never lies in the data directory. While a key is being rotated, `log.key.next` holds
//! the one that will remain, and both sign.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine::Random;
use event::policy::Applied;
use event::{Body, ObserverId, Time};
use journal::checkpoint::{self, Checkpoint};
use journal::leaf::Leaf;
use journal::note::{Note, SigningKey, VerifierKey};
use store::sqlite::Sqlite;
use store::{Journal as _, OpenError};

use crate::data;
use crate::failure::Failure;

/// The key that signs.
pub(crate) const KEY: &str = "log.key";
/// The key that will replace it.
pub(crate) const NEXT_KEY: &str = "log.key.next";

/// The signers of the log in this directory: the one in use first. `None` when there is no key yet.
pub(crate) fn load(data: &Path) -> Result<Option<Vec<SigningKey>>, Failure> {
    let Some(key) = read(&place(data))? else { return Ok(None) };
    Ok(Some(std::iter::once(key).chain(read(&data.join(NEXT_KEY))?).collect()))
}

/// Where the key is: among systemd's credentials, if it is there, else in the data directory.
fn place(data: &Path) -> PathBuf {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(KEY));
    credential.filter(|path| path.exists()).unwrap_or_else(|| data.join(KEY))
}

/// The same for a log called `name`; a first key is made if there is none.
pub(crate) fn load_or_create(
    data: &Path,
    name: &str,
    remembered: &[PathBuf],
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
    // A key made beside a remembered log would sign a second history under the same name.
    for path in remembered {
        if let Some(note) = read_note(path)? {
            let origin = note.text.lines().next().unwrap_or_default().to_owned();
            return Err(Failure::new(format!(
                "{} has no log, but {} remembers one: {origin}",
                data.display(),
                path.display()
            ))
            .remedy(format!(
                "put its data back; if it is lost, open its successor with `garant log succeed --data {} --reason …`; \
                     if nobody ever saw it, remove {}",
                data.display(),
                path.display()
            )));
        }
    }
    match create(&data.join(KEY), &format!("{name}/1"), random) {
        Ok(key) => Ok(vec![key]),
        // Another process has just made it; the lock of the directory decides which of the two goes on with it.
        Err(failure) => load(data)?.ok_or(failure),
    }
}

/// Makes a key called `name` and writes it to a file that must not be there.
pub(crate) fn create(path: &Path, name: &str, random: &dyn Random) -> Result<SigningKey, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(format!("a key can't be made in {}", path.display())).because(error)
    };
    let mut seed = [0; 32];
    random.fill(&mut seed);
    let key = SigningKey::generate(seed, name).map_err(|error| failed(&error))?;
    // Whoever comes second finds it there: two processes that start at once must not each sign with a key of its own, of which
    // one file remains.
    match data::write_new(path, format!("{}\n", key.to_text()).as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Failure::new(format!("{} is there already", path.display())));
        }
        written => written.map_err(|error| failed(&error))?,
    }
    Ok(key)
}

fn read(path: &Path) -> Result<Option<SigningKey>, Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |what: &str| Failure::new(format!("the key {} {what}", path.display()));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(failed("can't be read").because(&error).remedy("run garant as the user that owns it"));
        }
    };
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        return Err(failed("can be read by others than its owner")
            .remedy(format!("rotate it if others may have read it; then `chmod 600 {}`", path.display())));
    }
    let key = SigningKey::from_text(text.trim_end()).map_err(|error| {
        failed("can't be used").because(&error).remedy(
            "put the right file back; if it is lost, `garant log succeed --reason …` opens a new log that cites this one",
        )
    })?;
    Ok(Some(key))
}

/// The origin that the signers sign for.
pub(crate) fn origin(signers: &[SigningKey]) -> Result<String, Failure> {
    signers.first().map(|key| key.name().to_owned()).ok_or_else(|| Failure::new("the log has no key"))
}

/// A note in a file; `None` when there is no file.
pub(crate) fn read_note(path: &Path) -> Result<Option<Note>, Failure> {
    let failed = || {
        Failure::new(format!("the checkpoint remembered in {} can't be read", path.display()))
            .remedy("restore that file from a copy; without it, a log that was put back from an old copy can't be told")
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed().because(&error)),
    };
    Note::parse(&text).map(Some).map_err(|error| failed().because(&error))
}

/// The checkpoints remembered of the log that `keys` sign.
pub(crate) fn remembered(paths: &[PathBuf], keys: &[VerifierKey]) -> Result<Vec<Checkpoint>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        let Some(note) = read_note(path)? else { continue };
        let opened = checkpoint::open(&note.to_string(), keys).map_err(|error| {
            Failure::new(format!("the checkpoint remembered in {} is not one of this log", path.display()))
                .because(&error)
                .remedy("is this the right data directory? If the log was lost, open its successor with `garant log succeed`")
        })?;
        all.push(opened.checkpoint);
    }
    Ok(all)
}

/// Why a data directory is not opened, and the way out.
pub(crate) fn refused(data: &Path, error: &OpenError) -> Failure {
    let failure = Failure::new(format!("the data directory {} can't be used", data.display())).because(error);
    match error {
        OpenError::RolledBack { .. } => failure.remedy(
            "an older copy of the data was put back: recover the newer one. If it is lost, `garant log succeed --reason …` \
             opens a new log that cites what is known of this one",
        ),
        _ => failure,
    }
}

/// The policy that the log says is in effect.
pub(crate) async fn last_applied(store: &Sqlite) -> Result<Option<Applied>, Failure> {
    let failed = |error: store::StoreError| Failure::new("the journal can't be read").because(&error);
    let mut end = store.head().await.map_err(failed)?.size;
    while end > 0 {
        let start = end.saturating_sub(store::RANGE_MAX);
        let leaves = store.leaves(start..end).await.map_err(failed)?;
        let is_policy = |leaf: &Vec<u8>| Leaf::parse(leaf).is_ok_and(|leaf| leaf.coarse == Applied::KIND.name);
        if let Some(place) = leaves.iter().rposition(is_policy) {
            let sequence = start + u64::try_from(place).unwrap_or_default();
            let entries = store.entries(sequence..sequence + 1).await.map_err(failed)?;
            let payload = entries.into_iter().next().and_then(|entry| entry.payload);
            let envelope = payload.and_then(|payload| event::Envelope::decode(&payload.bytes).ok());
            return Ok(envelope.and_then(|envelope| envelope.body::<Applied>()?.ok()));
        }
        end = start;
    }
    Ok(None)
}

/// When the last entry was recorded; `None` when its payload is gone.
pub(crate) async fn last_recorded(store: &Sqlite) -> Result<Option<Time>, Failure> {
    let failed = |error: store::StoreError| Failure::new("the journal can't be read").because(&error);
    let Some(last) = store.head().await.map_err(failed)?.size.checked_sub(1) else { return Ok(None) };
    let entries = store.entries(last..last + 1).await.map_err(failed)?;
    let payload = entries.into_iter().next().and_then(|entry| entry.payload);
    let envelope = payload.and_then(|payload| event::Envelope::decode(&payload.bytes).ok());
    Ok(envelope.map(|envelope| envelope.recorded_at))
}

/// The name under which the control plane itself records.
pub(crate) fn server_observer() -> Result<ObserverId, Failure> {
    "server".parse().map_err(|error: event::BadName| Failure::new("the server has no name").because(&error))
}

/// Ends a rotation: the next key takes the place of the old one, which is overwritten before it goes.
pub(crate) fn promote_next(data: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new("the old key can't be replaced by the new one")
            .because(&error)
            .remedy(format!("move {NEXT_KEY} to {KEY} in {}, for the log is signed by the new key now", data.display()))
    };
    let old = data.join(KEY);
    if let Ok(metadata) = fs::metadata(&old) {
        let zeros = vec![0; usize::try_from(metadata.len()).unwrap_or_default()];
        fs::write(&old, zeros).and_then(|()| fs::File::open(&old)?.sync_all()).map_err(failed)?;
    }
    fs::rename(data.join(NEXT_KEY), &old).map_err(failed)?;
    fs::File::open(data).and_then(|directory| directory.sync_all()).map_err(failed)
}

/// Where `garant up` leaves the trust policy that it proposes, for exports.
const PROPOSED: &str = "tlog-policy";

/// Leaves the trust policy that this log proposes to its readers.
pub(crate) fn write_proposed_policy(data: &Path, policy: &str) -> io::Result<()> {
    data::write_whole(&data.join(PROPOSED), policy.as_bytes(), 0o644)
}

/// The trust policy that `garant up` proposed last.
pub(crate) fn proposed_policy(data: &Path) -> Option<String> {
    fs::read_to_string(data.join(PROPOSED)).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use engine::random::SystemRandom;

    use super::*;

    /// Two first starts at once: each must go on with the key that is in the file.
    #[test]
    fn of_two_that_make_the_first_key_both_go_on_with_one() {
        for round in 0..50 {
            let data = tempfile::tempdir().expect("a directory");
            let together = Barrier::new(4);
            let start = || {
                together.wait();
                let signers = load_or_create(data.path(), "shop.example", &[], &SystemRandom).expect("a key");
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
        assert_eq!(read(&path).expect("readable").expect("there").vkey(), first);
    }
}
