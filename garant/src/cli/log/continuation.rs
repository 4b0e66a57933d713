//! `garant log continue`: opens a new log in place of one that can't be written to again; its second entry cites the old one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use engine::clock::SystemClock;
use engine::random::SystemRandom;
use event::journal::Continued;
use journal::checkpoint::Checkpoint;
use journal::note::SigningKey;
use notary::remembered::RememberedHeads;
use notary::{keys, log};
use store::sqlite::{Sqlite, SqliteOptions};
use store::{OpenError, Read as _};

use super::{AppendArguments, unreadable};
use crate::failure::Failure;
use crate::registry::Registry;
use crate::terminal::Terminal;

#[derive(Args, Debug)]
pub(crate) struct ContinueCommand {
    #[command(flatten)]
    arguments: AppendArguments,

    /// Why the old log can't be written to again, in a sentence; everybody will read it, for ever
    #[arg(long, value_parser = sentence)]
    reason: String,
}

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 500;

/// Parses the reason: one line, not empty, of at most [`REASON_CHARS_MAX`] characters.
fn sentence(text: &str) -> Result<String, String> {
    let text = text.trim();
    match () {
        () if text.is_empty() => Err("say why".to_owned()),
        () if text.chars().count() > REASON_CHARS_MAX => Err(format!("longer than {REASON_CHARS_MAX} characters")),
        () if text.chars().any(char::is_control) => Err("it holds control characters".to_owned()),
        () => Ok(text.to_owned()),
    }
}

/// The old log, as it was found in a data directory.
enum OldLog {
    /// A log, with its newest checkpoint.
    Log { note: String, checkpoint: Checkpoint },
    /// Something that can't be read, which may be a log.
    Unreadable,
    /// No log.
    Nothing,
}

/// The plan of a continuation, made before anything is changed.
struct Plan {
    old_checkpoint: String,
    old: Checkpoint,
    /// Entries of the old log that are still there.
    at_hand: u64,
    origin: String,
    /// Where the old data goes; `None` when there is none to keep.
    kept: Option<PathBuf>,
}

impl ContinueCommand {
    pub(super) async fn run(&self, registry: &Registry, terminal: &mut Terminal) -> Result<(), Failure> {
        let data = self.arguments.data()?;
        keys::refuse_credential(data, "continue --reason …")?;
        let (configuration, heads) = self.arguments.configuration(registry)?;
        let plan = plan(data, configuration.basics.journal.name.as_str(), &heads).await?;
        heads.refuse_unwritable()?;
        if self.arguments.dry_run {
            self.print(&plan, None, &heads, terminal);
            return Ok(());
        }
        if let Some(kept) = &plan.kept {
            std::fs::rename(data, kept).map_err(|error| {
                Failure::new(format!("{} can't be moved to {}", data.display(), kept.display())).because(&error)
            })?;
        }
        log::make_private(data)?;
        // A continuation that was cut off left its key; nothing was signed with it but what is written anew now.
        let key = match keys::load(data)?.unwrap_or_default().into_iter().next() {
            Some(key) if key.name() == plan.origin => key,
            _ => keys::create(&data.join(keys::KEY), &plan.origin, &SystemRandom)?,
        };
        self.open(data, &plan, &heads, key, terminal).await
    }

    async fn open(
        &self,
        data: &Path,
        plan: &Plan,
        heads: &RememberedHeads,
        key: SigningKey,
        terminal: &mut Terminal,
    ) -> Result<(), Failure> {
        let vkey = key.vkey().to_string();
        let continues = Continued {
            old_origin: plan.old.origin.clone(),
            old_checkpoint: plan.old_checkpoint.clone(),
            old_size_at_hand: plan.at_hand,
            reason: self.reason.clone(),
        };
        let options = SqliteOptions {
            dir: data.to_owned(),
            origin: plan.origin.clone(),
            observer: log::server_observer("store")?,
            signers: vec![key],
            remembered: Vec::new(),
            continues: Some(continues),
            clock: Arc::new(SystemClock),
        };
        let store = Sqlite::open(options).map_err(|error| log::refused(data, &error))?;
        heads.publish_head(store.as_ref()).await?;
        self.print(plan, Some(&vkey), heads, terminal);
        Ok(())
    }

    /// Prints what was done, under the key `vkey`; without one, what would be done.
    fn print(&self, plan: &Plan, vkey: Option<&str>, heads: &RememberedHeads, terminal: &mut Terminal) {
        let Plan { old, at_hand, origin, kept, .. } = plan;
        if self.arguments.json {
            terminal.json(&serde_json::json!({
                "dry_run": vkey.is_none(),
                "origin": origin,
                "vkey": vkey,
                "continues": old.origin,
                "cites": { "size": old.size, "root": old.root.to_string() },
                "entries_at_hand": at_hand,
                "kept": kept,
                "remembered_in": heads.paths(),
            }));
            return;
        }
        let cited = format!("{}, of which {} entries are remembered and {at_hand} at hand", old.origin, old.size);
        let Some(vkey) = vkey else {
            terminal.line(format!("would open {origin}, with a new key, to follow {cited}"));
            if let Some(kept) = kept {
                terminal.line(format!("would keep the old data as {}", kept.display()));
            }
            for path in heads.paths() {
                terminal.line(format!("would remember the new head in {}", path.display()));
            }
            terminal.note("nothing was changed");
            return;
        };
        terminal.line(format!("{origin} follows {cited}; its key is {vkey}"));
        if let Some(kept) = kept {
            terminal.note(format!("the data of {} is kept in {}", old.origin, kept.display()));
        }
    }
}

/// Finds the old log: the newest of this name, at its highest known head, wherever that is known.
async fn plan(data: &Path, name: &str, heads: &RememberedHeads) -> Result<Plan, Failure> {
    let found = look(data).await?;
    let mut known: Vec<(String, Checkpoint)> =
        heads.read()?.into_iter().map(|remembered| (remembered.note, remembered.checkpoint)).collect();
    // What is remembered was shown to others. What only the directory says counts where nothing is remembered of its log.
    if let OldLog::Log { note, checkpoint } = &found
        && !known.iter().any(|(_, known)| known.origin == checkpoint.origin)
    {
        known.push((note.clone(), checkpoint.clone()));
    }
    let mut candidates = Vec::new();
    for (note, checkpoint) in known {
        let (its_name, number) = checkpoint
            .origin
            .rsplit_once('/')
            .and_then(|(name, number)| Some((name, number.parse::<u32>().ok()?)))
            .ok_or_else(|| Failure::new(format!("`{}` is not the origin of a log of ours", checkpoint.origin)))?;
        if its_name != name {
            return Err(Failure::new(format!(
                "the log that is there, or remembered, is called {}, and the policy says `{name}`",
                checkpoint.origin
            ))
            .remedy("correct `name` in [journal], or name another policy or data directory with --policy or --data"));
        }
        candidates.push(((number, checkpoint.size), note, checkpoint));
    }
    let Some(((number, _), old_checkpoint, old)) = candidates.into_iter().max_by_key(|(rank, ..)| *rank) else {
        let paths: Vec<String> = heads.paths().iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(format!(
            "there is no log in {} and none is remembered in {}",
            data.display(),
            paths.join(" or ")
        ))
        .remedy("`garant up` opens a first log by itself"));
    };

    // The old data stays, under the number of its log: it is evidence.
    let kept = data.with_file_name(format!("{}.log-{number}", data.file_name().unwrap_or_default().to_string_lossy()));
    let of_old = |found: &OldLog| match found {
        OldLog::Log { checkpoint, .. } if checkpoint.origin == old.origin => checkpoint.size,
        _ => 0,
    };
    // A continuation that was cut off has moved the data already, and put nothing in its place yet.
    let moved = kept.exists() && matches!(found, OldLog::Nothing);
    let at_hand = if moved { of_old(&look(&kept).await?) } else { of_old(&found) };
    if kept.exists() && !moved {
        return Err(Failure::new(format!("{} is there already", kept.display())).remedy("move it elsewhere first"));
    }
    let kept = (data.exists() && !moved).then_some(kept);
    let origin = format!("{name}/{}", number.saturating_add(1));
    Ok(Plan { old_checkpoint, old, at_hand, origin, kept })
}

async fn look(data: &Path) -> Result<OldLog, Failure> {
    let store = match Sqlite::open_read_only(data) {
        Ok(store) => store,
        Err(OpenError::Missing { .. }) => return Ok(OldLog::Nothing),
        Err(_) => return Ok(OldLog::Unreadable),
    };
    let note = store.head().await.map_err(|error| unreadable(&error))?.note;
    let checkpoint = Checkpoint::of_note(&note);
    Ok(checkpoint.map_or(OldLog::Unreadable, |checkpoint| OldLog::Log { note, checkpoint }))
}
