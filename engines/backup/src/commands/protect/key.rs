//! The repository key of a first backup: made, shown once, and kept elsewhere by a person who shows that it is.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use engine::command::CommandContext;
use engine::{Failure, Random};

use crate::sealed::RepositoryKey;

/// Characters that are typed back.
const ASKED: usize = 6;
/// How often a person may mistype them.
const TRIES: usize = 3;

/// A key in its file.
#[derive(Debug)]
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    /// What tells it from others.
    pub(super) identity: String,
    /// Whether it was made now.
    pub(super) is_new: bool,
}

/// The key in this file; made, where there is none. `shows` says whether a person is at the terminal: the key is shown to nobody else.
pub(super) fn take(path: &Path, shows: bool, command: &mut dyn CommandContext) -> Result<KeyFile, Failure> {
    let means = command.means()?;
    if path.exists() {
        let secret = policy::Secret::File(path.to_owned());
        let unusable = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("the repository key in {} can't be used", path.display())).because(error)
        };
        let opened = means.secrets.open_now(&secret).map_err(|error| unusable(&error))?;
        let text = std::str::from_utf8(opened.bytes()).map_err(|error| unusable(&error))?;
        let key = RepositoryKey::parse(text).map_err(|error| unusable(&error))?;
        return Ok(KeyFile { path: path.to_owned(), identity: key.identity(), is_new: false });
    }
    let key = RepositoryKey::random(&*means.random);
    write(path, &key)?;
    let made = KeyFile { path: path.to_owned(), identity: key.identity(), is_new: true };
    if shows && let Err(failure) = drill(&key, &*means.random, command) {
        // Nothing was sealed under it.
        drop(std::fs::remove_file(path));
        return Err(failure);
    }
    Ok(made)
}

pub(in crate::commands) fn write(path: &Path, key: &RepositoryKey) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        writeln!(file, "{}", *key.text())?;
        file.sync_all()
    });
    written.map_err(|error| {
        Failure::new(format!("the key can't be written to {}", path.display()))
            .because(&error)
            .remedy("name a file that is not there yet, in a folder that you may write to")
    })
}

/// Shows the key, and has a few of its characters typed back.
fn drill(key: &RepositoryKey, random: &dyn Random, command: &mut dyn CommandContext) -> Result<(), Failure> {
    let text = key.text();
    command.note("This is the repository key. It is shown once:");
    command.note(&format!("\n    {}\n", *text));
    command.note(
        "Keep it somewhere else as well: on paper, in the safe of another place. Without it no backup can be read, by anybody. \
         Whoever has it can read them all.",
    );
    let last = text.len().saturating_sub(ASKED);
    let from = usize::try_from(random.number() % (last as u64 + 1)).unwrap_or(0);
    let wanted = text.get(from..from + ASKED).unwrap_or_default();
    let question = format!("From where you keep it: which are its characters {} to {}?", from + 1, from + ASKED);
    for _ in 0..TRIES {
        match command.prompt(&question) {
            Some(typed) if typed == wanted => return Ok(()),
            Some(_) => command.note("That is not what it says there."),
            None => break,
        }
    }
    Err(Failure::new(
        "the key is not kept anywhere else, as far as you have shown; the policy is as it was, and the key is removed",
    )
    .remedy(
        "run this again, and write the key down; or make it with `garant backup key new FILE`, and give --key FILE",
    ))
}
