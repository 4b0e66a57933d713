//! Remembered heads: the highest checkpoint of the log, kept in files outside its data directory. They reveal an old copy of the
//! directory that is put back, and are what the next log cites when everything else is lost.
//!
//! A data directory that is set back to an older copy brings nothing along that says so, and the log in it would sign a
//! second history. So **nobody gets a checkpoint that is not first remembered here**: no witness, no reader of the log, and
//! nobody whom a command prints it for. Every command and engine that hands a checkpoint out calls this module first.
//!
//! One file always remembers: `<data>.head`, beside the data directory. `remember` in the policy names more, best on other
//! machines. **All of them count as one**: who opens the log asks every file and believes the highest, who moves the
//! head on writes every file. A command that knew only some would leave a stale head in the others, and the next start
//! would refuse a log that is in order.
//!
//! Which files there are is asked of the policy, by `garant up` and by `garant log rotate` and `continue` alike. A list kept
//! in the data directory would be found without `--policy`, but it is lost, or old, exactly when it is needed: when the
//! data directory is lost or old. The policy lies elsewhere, under version control if the team is wise. Commands that only
//! hand out what is there (`log head`, `proof`, `export`) ask for no policy. After a crash they may have to remember a
//! head first, and do so beside the directory alone: the other files then know a lower head of the same log, which is no
//! contradiction, and the next `garant up` writes them.
//!
//! A file may have missed a change: its disk was not mounted during a rotation, or a continuation. That is no dead end. A
//! note signed by a key that the log itself has announced is believed, whoever signs now. A note of the log before this one
//! is set aside if `journal.continued` cites a head of that log that is not below it: then it says nothing that is not said
//! already. Everything else is refused, with the name of the file.

use std::io;
use std::path::{Path, PathBuf};

use engine::Failure;
use event::Body;
use event::journal::{Continued, KeyAnnounced, KeyRetired, Opened};
use journal::checkpoint::{self, Checkpoint};
use journal::note::{Note, VerifierKey};
use store::sqlite::Sqlite;
use store::{Head, Publish, Read, Select};

use crate::files;

/// The files that remember the head of one log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RememberedHeads {
    paths: Vec<PathBuf>,
}

/// The file that always remembers: `<data>.head` beside the data directory, so that an old copy of the directory that is put back
/// does not bring an old head along.
pub fn remembered_beside(data: &Path) -> PathBuf {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let mut name = absolute.file_name().unwrap_or_default().to_owned();
    name.push(".head");
    absolute.with_file_name(name)
}

/// A checkpoint in one of these files, unverified.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The file.
    pub path: PathBuf,
    /// The signed note.
    pub note: String,
    /// The checkpoint in the note. Anybody who could write the file can have written it.
    pub checkpoint: Checkpoint,
}

impl RememberedHeads {
    /// The file beside `data`, and those that the policy names.
    pub fn of(data: &Path, journal: &policy::JournalSettings) -> Self {
        let named = journal.remember.iter().cloned();
        Self { paths: std::iter::once(remembered_beside(data)).chain(named).collect() }
    }

    /// The file beside `data` alone, for commands that read no policy.
    pub fn beside(data: &Path) -> Self {
        Self { paths: vec![remembered_beside(data)] }
    }

    /// These files.
    pub const fn at(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// The files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Reads the files that exist. No signature is verified.
    pub fn read(&self) -> Result<Vec<Remembered>, Failure> {
        let mut all = Vec::new();
        for path in &self.paths {
            let Some(note) = read_note(path)? else { continue };
            let checkpoint = Checkpoint::parse(&note.text).map_err(|error| unreadable(path).because(&error))?;
            all.push(Remembered { path: path.clone(), note: note.to_string(), checkpoint });
        }
        Ok(all)
    }

    /// The remembered checkpoints of the log in `data` that `keys` sign now. Refuses a checkpoint that is neither of this log nor of
    /// the one that it continues and cites.
    pub async fn of_log(&self, data: &Path, keys: &[VerifierKey]) -> Result<Vec<Checkpoint>, Failure> {
        let mut all = Vec::new();
        let mut history = None;
        for Remembered { path, note, checkpoint } in self.read()? {
            let refused = match checkpoint::open(&note, keys) {
                Ok(opened) => {
                    all.push(opened.checkpoint);
                    continue;
                }
                Err(error) => {
                    Failure::new(format!("the checkpoint remembered in {} is not one of this log", path.display()))
                        .because(&error)
                }
            };
            let known = match history.take() {
                Some(known) => known,
                // No log yet, or none that can be read: then it has announced nothing.
                None => match Sqlite::open_read_only(data) {
                    Ok(store) => KeyHistory::read(store.as_ref()).await?,
                    Err(_) => KeyHistory::default(),
                },
            };
            if let Ok(opened) = checkpoint::open(&note, &known.keys) {
                all.push(opened.checkpoint);
            } else if !known.cites(&checkpoint) {
                return Err(refused.remedy(remedy(&path, &checkpoint, keys)));
            }
            history = Some(known);
        }
        Ok(all)
    }

    /// Writes a checkpoint to every file; returns once all of them survive a power loss. All are tried, and the first failure is
    /// returned.
    pub async fn write(&self, note: String) -> Result<(), Failure> {
        let paths = self.paths.clone();
        let written = tokio::task::spawn_blocking(move || {
            let write = |path: &PathBuf| store::write_whole(path, note.as_bytes(), 0o644).err();
            let failed: Vec<_> = paths.iter().filter_map(|path| Some(cannot_remember(path, &write(path)?))).collect();
            failed.into_iter().next().map_or(Ok(()), Err)
        });
        written.await.map_err(|error| Failure::new("the checkpoint can't be remembered").because(&error))?
    }

    /// Remembers the head of a log that this process alone has open, and publishes it.
    pub async fn publish_head(&self, store: &dyn Publish) -> Result<Head, Failure> {
        let head = store.head().await.map_err(|error| unreadable_journal(&error))?;
        self.write(head.note.clone()).await?;
        let published = store.publish(head.note.clone(), head.size).await;
        published.map_err(|error| Failure::new("the journal can't be written").because(&error))?;
        Ok(head)
    }

    /// Fails if a file can't be written; touches none. For commands that must not stop half way.
    pub fn refuse_unwritable(&self) -> Result<(), Failure> {
        for path in &self.paths {
            files::try_write(path).map_err(|error| cannot_remember(path, &error))?;
        }
        Ok(())
    }
}

pub(crate) fn unreadable_journal(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new("the journal can't be read").because(error)
}

/// The message for a file that can't be written.
fn cannot_remember(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("the checkpoint can't be remembered in {}", path.display())).because(error).remedy(
        "nothing is published until it can: make that file writable, or name another in `remember` of [journal]. A command \
         that says so is to be run again",
    )
}

/// The remedy for a remembered checkpoint that is not of this log.
fn remedy(path: &Path, found: &Checkpoint, keys: &[VerifierKey]) -> String {
    let origin = keys.first().map_or("", VerifierKey::name);
    if found.origin == origin {
        return "none of the keys that this log knows signed it: is this an older copy of the data, from before a rotation? \
                Recover the newer one; if it is lost, open its continuation with `garant log continue`"
            .to_owned();
    }
    format!(
        "it is of the log {} and has {} entries, which nothing in {origin} cites. Is this the right data directory? If that log \
         was lost, open its continuation with `garant log continue`; if it has no part in this one, remove {}",
        found.origin,
        found.size,
        path.display()
    )
}

fn unreadable(path: &Path) -> Failure {
    Failure::new(format!("the checkpoint remembered in {} can't be read", path.display()))
        .remedy("restore that file from a copy; without it, a log that was put back from an old copy can't be told")
}

/// A note in a file; `None` when there is no file.
fn read_note(path: &Path) -> Result<Option<Note>, Failure> {
    let text = match files::read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path).because(&error)),
    };
    Note::parse(&text).map(Some).map_err(|error| unreadable(path).because(&error))
}

/// The keys of the log, and the log that it continues, as its entries say.
#[derive(Debug, Default)]
pub struct KeyHistory {
    /// Every key that ever signed, in order.
    pub keys: Vec<VerifierKey>,
    announced: Vec<String>,
    retired: Vec<String>,
    continued: Option<Checkpoint>,
}

impl KeyHistory {
    /// Reads the entries about keys. Goes through all leaves, some seconds for millions, so it is called only where a checkpoint is
    /// not signed by the key in use.
    pub async fn read(store: &dyn Read) -> Result<Self, Failure> {
        let failed = |error: store::StoreError| unreadable_journal(&error);
        let mut history = Self::default();
        let select = Select::Kinds(vec![Opened::KIND, Continued::KIND, KeyAnnounced::KIND, KeyRetired::KIND]);
        let size = store.head().await.map_err(failed)?.size;
        for entry in store.select_all(0..size, &select).await.map_err(failed)? {
            let envelope = entry.payload.and_then(|payload| event::Envelope::decode(&payload.bytes).ok());
            if let Some(envelope) = envelope {
                history.hear(entry.sequence, &envelope);
            }
        }
        Ok(history)
    }

    fn hear(&mut self, sequence: u64, envelope: &event::Envelope) {
        let mut key = |text: &str| self.keys.extend(text.parse::<VerifierKey>());
        if let Some(Ok(opened)) = envelope.body::<Opened>() {
            key(&opened.vkey);
        } else if let Some(Ok(announced)) = envelope.body::<KeyAnnounced>() {
            key(&announced.vkey);
            self.announced.push(announced.vkey);
        } else if let Some(Ok(retired)) = envelope.body::<KeyRetired>() {
            self.retired.push(retired.vkey);
        } else if let Some(Ok(continued)) = envelope.body::<Continued>()
            // Only there does it say what this log follows; see docs/log.md.
            && sequence == 1
        {
            self.continued = Checkpoint::of_note(&continued.old_checkpoint).ok();
        }
    }

    /// Whether an entry announces this very key.
    pub fn announces(&self, key: &VerifierKey) -> bool {
        self.announced.contains(&key.to_string())
    }

    /// Whether an entry retires this key.
    pub fn retires(&self, key: &VerifierKey) -> bool {
        self.retired.contains(&key.to_string())
    }

    /// The key in use by the entries: the first that is not retired.
    pub fn key_in_use(&self) -> Option<&VerifierKey> {
        self.keys.iter().find(|key| !self.retired.contains(&key.to_string()))
    }

    /// Whether this log continues the one of the checkpoint `old`, from at least that size.
    fn cites(&self, old: &Checkpoint) -> bool {
        self.continued.as_ref().is_some_and(|cited| {
            cited.origin == old.origin && (old.size < cited.size || old.size == cited.size && old.root == cited.root)
        })
    }
}

#[cfg(test)]
mod tests {
    use journal::Hash;
    use journal::note::SigningKey;

    use super::*;

    #[test]
    fn only_what_is_cited_is_set_aside() {
        let at = |origin: &str, size, root: &[u8]| Checkpoint { origin: origin.into(), size, root: Hash::of(&[root]) };
        let history = KeyHistory { continued: Some(at("a/1", 9, b"r")), ..KeyHistory::default() };
        for (old, cited) in [
            (at("a/1", 9, b"r"), true),
            (at("a/1", 8, b"x"), true),
            (at("a/1", 9, b"x"), false),
            (at("a/1", 10, b"r"), false),
            (at("b/1", 9, b"r"), false),
        ] {
            assert_eq!(history.cites(&old), cited, "{old:?}");
            assert!(!KeyHistory::default().cites(&old), "nothing is cited: {old:?}");
        }
    }

    #[test]
    fn only_the_very_key_is_announced() {
        let key = |seed| SigningKey::generate([seed; 32], "a/1").expect("a name").vkey();
        let history = KeyHistory { announced: vec![key(2).to_string()], keys: vec![key(1)], ..KeyHistory::default() };
        assert!(history.announces(&key(2)));
        assert!(!history.announces(&key(3)) && !history.announces(&key(1)));
    }
}
