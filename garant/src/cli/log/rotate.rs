//! `garant log rotate`: replaces the signing key by one that is announced inside the log, so that readers who trust the old one can
//! follow.
//!
//! Begun, both keys sign; finished, the new one alone. Each half may be cut off at any instant and is simply run again:
//! the new key is on the disk before it is announced, and the old one goes last. So a key on the disk is not an announced
//! one: **what counts is what the log says**. A log whose old key is retired before the new one is announced can't be
//! followed by any reader.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use engine::clock::SystemClock;
use engine::random::SystemRandom;
use engine::{Random as _, Recorder};
use event::engine::ClockStepped;
use event::journal::{KeyAnnounced, KeyRetired};
use event::{Body, BootId};
use journal::checkpoint::Checkpoint;
use journal::note::{SigningKey, VerifierKey};
use notary::remembered::{KeyHistory, RememberedHeads};
use notary::{keys, log};
use store::sqlite::Sqlite;
use store::{Proofs as _, Read as _};

use super::{AppendArguments, open_to_read, unreadable};
use crate::clock_set_back;
use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::place::LastRun;
use crate::registry::Registry;
use crate::terminal::Terminal;

#[derive(Args, Debug)]
pub(crate) struct RotateCommand {
    #[command(flatten)]
    arguments: AppendArguments,

    /// End the rotation: the old key signs no more and is destroyed
    #[arg(long)]
    finish: bool,
}

impl RotateCommand {
    pub(super) async fn run(&self, registry: &Registry, terminal: &mut Terminal) -> Result<(), Failure> {
        let data = self.arguments.data()?;
        keys::refuse_credential(data, if self.finish { "rotate --finish" } else { "rotate" })?;
        let (configuration, heads) = self.arguments.configuration(registry)?;
        let Some(signers) = keys::load(data)? else {
            return Err(keys::missing(data, open_to_read(data)?.origin()));
        };
        let keys: Vec<VerifierKey> = signers.iter().map(SigningKey::vkey).collect();
        let old = keys.first().ok_or_else(|| Failure::new("the log has no key"))?.clone();
        let next = keys.get(1).cloned();
        let history = KeyHistory::read(open_to_read(data)?.as_ref()).await?;
        match (self.finish, &next) {
            (true, None) => {
                return Err(Failure::new("no rotation is under way").remedy("start one with `garant log rotate`"));
            }
            (true, Some(next)) if !history.announces(next) => {
                return Err(Failure::new(format!(
                    "{next} lies in {}, but the log does not announce it",
                    keys::NEXT_KEY
                ))
                .remedy("run `garant log rotate` again: it was cut off, and announces that key now"));
            }
            (false, Some(next)) if history.announces(next) => {
                return Err(Failure::new("a rotation is under way").remedy("end it with `garant log rotate --finish`"));
            }
            _ => {}
        }
        let remembered = heads.of_log(data, &keys).await?;
        heads.refuse_unwritable()?;
        if self.arguments.dry_run {
            refuse_rolled_back(data, &remembered).await?;
            self.print_plan(&old, next.as_ref(), &heads, terminal);
            return Ok(());
        }
        if let (true, Some(next)) = (self.finish, &next) {
            let store = self.opened(signers, remembered, &configuration, terminal).await?;
            if !history.retires(&old) {
                record(&recorder(&store)?, &KeyRetired { vkey: old.to_string() }).await?;
            }
            return self.finish(&store, &heads, &old, next, terminal).await;
        }
        // A key that a rotation left behind when it was cut off signs nothing before it is announced.
        let store = self.opened(signers.into_iter().take(1).collect(), remembered, &configuration, terminal).await?;
        self.begin(&store, &heads, &old, next, terminal).await
    }

    /// The log, open for writing. What must be journaled or said before anything else is.
    async fn opened(
        &self,
        signers: Vec<SigningKey>,
        remembered: Vec<Checkpoint>,
        configuration: &Configuration,
        terminal: &mut Terminal,
    ) -> Result<Arc<Sqlite>, Failure> {
        let data = &self.arguments.data.data;
        let store = log::open(data, signers, remembered)?;
        if let Some(warning) = LastRun::look(&store, data).await?.warning() {
            terminal.note(warning);
        }
        journal_clock_set_back(&store, configuration).await?;
        Ok(store)
    }

    async fn begin(
        &self,
        store: &Arc<Sqlite>,
        heads: &RememberedHeads,
        old: &VerifierKey,
        left_behind: Option<VerifierKey>,
        terminal: &mut Terminal,
    ) -> Result<(), Failure> {
        let data = &self.arguments.data.data;
        // On disk before it is announced: an announced key that is lost would be worth nothing.
        let next = match left_behind {
            Some(next) => next,
            None => keys::create(&data.join(keys::NEXT_KEY), old.name(), &SystemRandom)?.vkey(),
        };
        record(&recorder(store)?, &KeyAnnounced { vkey: next.to_string(), replaces: old.to_string() }).await?;
        let both = keys::load(data)?.ok_or_else(|| Failure::new("the keys are gone"))?;
        store.sign_with(both).await.map_err(|error| unwritten(&error))?;
        heads.publish_head(store.as_ref()).await?;
        if self.arguments.json {
            terminal.json(&serde_json::json!({ "announced": next.to_string(), "replaces": old.to_string() }));
            return Ok(());
        }
        terminal.line(format!("{next} is announced in the log and signs beside {old}"));
        terminal.note(
            "Publish for as long as your readers need to see it, tell them the new key, then end the rotation with\n\
             `garant log rotate --finish`.",
        );
        Ok(())
    }

    async fn finish(
        &self,
        store: &Arc<Sqlite>,
        heads: &RememberedHeads,
        old: &VerifierKey,
        next: &VerifierKey,
        terminal: &mut Terminal,
    ) -> Result<(), Failure> {
        let data = &self.arguments.data.data;
        let next_key = keys::load(data)?
            .and_then(|mut signers| signers.pop())
            .ok_or_else(|| Failure::new("the new key is gone"))?;
        store.sign_with(vec![next_key]).await.map_err(|error| unwritten(&error))?;
        heads.publish_head(store.as_ref()).await?;
        keys::promote_next(data)?;
        if self.arguments.json {
            terminal.json(&serde_json::json!({ "retired": old.to_string(), "signs": next.to_string() }));
            return Ok(());
        }
        terminal.line(format!("{old} signs no more and is destroyed; {next} signs alone"));
        Ok(())
    }

    fn print_plan(
        &self,
        old: &VerifierKey,
        next: Option<&VerifierKey>,
        heads: &RememberedHeads,
        terminal: &mut Terminal,
    ) {
        if self.arguments.json {
            terminal.json(&serde_json::json!({
                "dry_run": true,
                "would": if self.finish { "finish" } else { "begin" },
                "signs_now": old.to_string(),
                "would_sign": next.map(ToString::to_string),
                "remembered_in": heads.paths(),
            }));
            return;
        }
        match next {
            Some(next) if self.finish => {
                terminal.line(format!("would retire {old}, destroy it, and sign with {next} alone"));
            }
            Some(next) => terminal.line(format!(
                "would announce {next} in the log, which a rotation that was cut off left behind, and sign with it beside {old}"
            )),
            None => terminal.line(format!("would make a key, announce it in the log, and sign with it beside {old}")),
        }
        for path in heads.paths() {
            terminal.line(format!("would remember the new head in {}", path.display()));
        }
        terminal.note("nothing was changed");
    }
}

/// Fails if opening the store for writing would.
async fn refuse_rolled_back(data: &Path, remembered: &[Checkpoint]) -> Result<(), Failure> {
    let store = open_to_read(data)?;
    let own = store.head().await.map_err(|error| unreadable(&error))?.size;
    for checkpoint in remembered {
        let dir = data.to_owned();
        if checkpoint.size > own {
            let error = store::OpenError::RolledBack { dir, remembered: checkpoint.size, own };
            return Err(log::refused(data, &error));
        }
        if store.root_at(checkpoint.size).await.map_err(|error| unreadable(&error))? != checkpoint.root {
            return Err(log::refused(data, &store::OpenError::Forked { dir, size: checkpoint.size }));
        }
    }
    Ok(())
}

fn recorder(store: &Arc<Sqlite>) -> Result<Recorder, Failure> {
    let mut boot = [0; 16];
    SystemRandom.fill(&mut boot);
    Ok(Recorder::new(
        Arc::clone(store) as _,
        log::server_observer("notary")?,
        BootId::from_bytes(boot),
        Arc::new(SystemClock),
    ))
}

/// Journals that the clock was set back, before anything else is recorded: afterwards the last entry is the one of this
/// command, and says nothing of the clock.
async fn journal_clock_set_back(store: &Arc<Sqlite>, configuration: &Configuration) -> Result<(), Failure> {
    if clock_set_back::journal(&recorder(store)?, &SystemClock, store.as_ref(), &configuration.applied).await? {
        return Ok(());
    }
    Err(waits(ClockStepped::KIND.name))
}

/// Records `body` durably, or fails: an event that waits in memory for space on the disk is lost when this command ends.
async fn record<B: Body>(recorder: &Recorder, body: &B) -> Result<(), Failure> {
    let recorded = recorder.record(body).await.map_err(|error| unwritten(&error))?;
    if recorded.is_durable() { Ok(()) } else { Err(waits(B::KIND.name)) }
}

fn waits(kind: &str) -> Failure {
    Failure::new(format!("the journal takes no `{kind}` at the moment"))
        .remedy("make room on the disk of the data directory, then run this command again: it goes on where it stopped")
}

fn unwritten(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new("the journal can't be written").because(error)
}
