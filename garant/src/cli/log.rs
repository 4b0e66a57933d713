//! `garant log`: the log as files, its key, and what to do when it can't be continued.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use engine::clock::SystemClock;
use engine::random::SystemRandom;
use engine::{Clock, Recorder};
use event::journal::{KeyAnnounced, KeyRetired, Succeeded};
use event::{BootId, Envelope};
use journal::audit::Directory;
use journal::disclosure::Disclosure;
use journal::export::{Extras, ListedVerdict, Writer};
use journal::leaf::Leaf;
use journal::listing::Listing;
use journal::note::{SigningKey, VerifierKey};
use journal::tlog_proof::TlogProof;
use store::Journal as _;
use store::sqlite::{Options, Sqlite};

use crate::cli::{DataArgument, runtime};
use crate::data::{self, Running};
use crate::failure::Failure;
use crate::keys;
use crate::remembering;
use crate::terminal::Terminal;
use crate::witnessing;

/// Entries are read in pieces of this many.
const PIECE: u64 = 1024;

#[derive(Subcommand, Debug)]
pub(crate) enum Log {
    /// Write the log as files: what any web server can serve and anybody can verify
    Export(Export),
    /// Show where the log stands
    Head(Head),
    /// Write the proof that one entry is in the log (c2sp.org/tlog-proof)
    Proof(Proof),
    /// Replace the key that signs, announced inside the log; stop `garant up` first
    Rotate(Rotate),
    /// Open a new log that follows one that can't be continued; stop `garant up` first
    Succeed(Succeed),
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    #[command(flatten)]
    data: DataArgument,

    /// Where to write; files of an earlier export of the same log are brought up to date
    directory: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Head {
    #[command(flatten)]
    data: DataArgument,

    /// Write it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Proof {
    #[command(flatten)]
    data: DataArgument,

    /// Which entry, counted from 0
    sequence: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Rotate {
    #[command(flatten)]
    data: DataArgument,

    /// End the rotation: the old key signs no more and is destroyed
    #[arg(long)]
    finish: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Succeed {
    #[command(flatten)]
    data: DataArgument,

    /// Why the old log can't be continued; everybody will read it
    #[arg(long)]
    reason: String,
}

impl Log {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        match self {
            Self::Export(command) => {
                let store = open_to_read(&command.data.data)?;
                runtime()?.block_on(export(&store, &command.data.data, &command.directory, terminal))?;
            }
            Self::Head(command) => head(&command, terminal)?,
            Self::Proof(command) => {
                let store = open_to_read(&command.data.data)?;
                let text = runtime()?.block_on(proof(&store, &command.data.data, command.sequence))?;
                terminal.raw(text.as_bytes());
            }
            Self::Rotate(command) => runtime()?.block_on(rotate(&command, terminal))?,
            Self::Succeed(command) => runtime()?.block_on(succeed(&command, terminal))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn open_to_read(data: &Path) -> Result<Arc<Sqlite>, Failure> {
    Sqlite::open_read_only(data).map_err(|error| keys::refused(data, &error))
}

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new("the journal can't be read").because(error)
}

fn head(command: &Head, terminal: &mut Terminal) -> Result<(), Failure> {
    let store = open_to_read(&command.data.data)?;
    let head = runtime()?.block_on(remembering::handed_out(&store, &command.data.data))?;
    if command.json {
        terminal.json(&serde_json::json!({
            "origin": store.origin(), "size": head.size, "root": head.root.to_string(), "checkpoint": head.note,
        }));
    } else {
        terminal.raw(head.note.as_bytes());
    }
    Ok(())
}

async fn proof(store: &Sqlite, data: &Path, sequence: u64) -> Result<String, Failure> {
    let head = remembering::handed_out(store, data).await?;
    if sequence >= head.size {
        return Err(Failure::new(format!("the log has no entry {sequence}: {} are published, from 0", head.size)));
    }
    tlog_proof(store, sequence, head.size, &head.note).await
}

async fn tlog_proof(store: &Sqlite, sequence: u64, size: u64, note: &str) -> Result<String, Failure> {
    let proof = store.inclusion(sequence, size).await.map_err(|error| unreadable(&error))?;
    let entries = store.entries(sequence..sequence + 1).await.map_err(|error| unreadable(&error))?;
    let entry = entries.into_iter().next().ok_or_else(|| Failure::new(format!("entry {sequence} can't be read")))?;
    let public = Leaf::parse(&entry.leaf).is_ok_and(|leaf| leaf.is_public());
    let payload = entry.payload.filter(|_| public);
    let disclosure =
        payload.as_ref().map(|payload| Disclosure { sequence, salt: payload.salt, payload: &payload.bytes });
    let proof = TlogProof { index: sequence, proof, checkpoint_note: note.to_owned(), extra: None };
    Ok(proof.with_evidence(&entry.leaf, disclosure.as_ref()).to_text())
}

async fn export(store: &Sqlite, data: &Path, directory: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(format!("the log can't be exported to {}", directory.display())).because(error)
    };
    let head = remembering::handed_out(store, data).await?;
    let note = head.note.clone();

    let mut sink = Directory::new(directory);
    let mut writer = Writer::new(&mut sink);
    let mut listing = Listing::new();
    let bar = terminal.progress("exporting", head.size);
    let mut next = 0;
    while next < head.size {
        let entries = store.entries(next..head.size.min(next + PIECE)).await.map_err(|error| unreadable(&error))?;
        if entries.is_empty() {
            return Err(Failure::new(format!("entry {next} of {} can't be read", head.size)));
        }
        for entry in entries {
            let leaf = Leaf::parse(&entry.leaf).ok().filter(Leaf::is_public);
            let payload = entry.payload.filter(|_| leaf.is_some());
            writer
                .push(&entry.leaf, payload.as_ref().map(|payload| (&payload.salt, payload.bytes.as_slice())))
                .map_err(|error| failed(&error))?;
            next = entry.sequence + 1;
            let Some(leaf) = leaf.filter(|leaf| Listing::concerns(&leaf.coarse)) else { continue };
            match payload.map(|payload| Envelope::decode(&payload.bytes)) {
                Some(Ok(envelope)) => listing.take(entry.sequence, &envelope),
                _ => listing.lose(&leaf.coarse),
            }
        }
        bar.set_position(next);
    }
    bar.finish_and_clear();

    let listed = listing.verdicts();
    let mut proofs = Vec::new();
    for ListedVerdict { sequence, .. } in &listed {
        proofs.push((*sequence, tlog_proof(store, *sequence, head.size, &note).await?));
    }
    let signers = keys::load(data)?.ok_or_else(|| Failure::new(format!("{} has no key", data.display())))?;
    let vkey = signers.first().map(SigningKey::vkey).ok_or_else(|| Failure::new("the log has no key"))?;
    let proposed = keys::proposed_policy(data).unwrap_or_else(|| witnessing::proposed_policy(&vkey, "", &[]));
    let extras = Extras {
        checkpoint_note: &note,
        vkey: &vkey,
        tlog_policy: &proposed,
        policy: listing.policy_body(),
        verdicts: &listed,
        rotations: &store.rotations(head.size).await.map_err(|error| unreadable(&error))?,
        proofs: &proofs,
    };
    let checkpoint = writer.finish(&extras).map_err(|error| failed(&error))?;
    terminal.note(format!(
        "{} entries of {} are in {dir}; verify them with\n\n    garant verify {dir} --vkey '{vkey}'\n",
        checkpoint.size,
        checkpoint.origin,
        dir = directory.display(),
    ));
    Ok(())
}

/// The store, for writing, with the keys of its directory.
pub(crate) fn open_log(data: &Path) -> Result<Arc<Sqlite>, Failure> {
    let signers = keys::load(data)?.ok_or_else(|| Failure::new(format!("{} has no key", data.display())))?;
    open(data, signers)
}

/// The store, for writing, with these signers.
fn open(data: &Path, signers: Vec<SigningKey>) -> Result<Arc<Sqlite>, Failure> {
    let verifiers: Vec<VerifierKey> = signers.iter().map(SigningKey::vkey).collect();
    let origin = keys::origin(&signers)?;
    let remembered = keys::remembered(&[data::remembered_beside(data)], &verifiers)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = Options {
        dir: data.to_owned(),
        origin,
        observer: keys::server_observer()?,
        signers,
        remembered,
        succeeds: None,
        clock,
    };
    Sqlite::open(options).map_err(|error| keys::refused(data, &error))
}

fn refuse_while_up(data: &Path) -> Result<(), Failure> {
    match Running::read(data) {
        Ok(running) => Err(Failure::new(format!("garant up runs on {}, as process {}", data.display(), running.pid))
            .remedy("stop it, run this command, and start it again")),
        Err(_) => Ok(()),
    }
}

fn recorder(store: &Arc<Sqlite>) -> Result<Recorder, Failure> {
    use engine::Random as _;
    let mut boot = [0; 16];
    SystemRandom.fill(&mut boot);
    let journal: Arc<dyn store::Journal> = Arc::clone(store) as _;
    Ok(Recorder::new(journal, keys::server_observer()?, BootId::from_bytes(boot), Arc::new(SystemClock)))
}

async fn rotate(command: &Rotate, terminal: &mut Terminal) -> Result<(), Failure> {
    let data = &command.data.data;
    refuse_while_up(data)?;
    let unwritten =
        |error: &(dyn std::error::Error + 'static)| Failure::new("the journal can't be written").because(error);
    let signers = keys::load(data)?.ok_or_else(|| Failure::new(format!("{} has no log", data.display())))?;
    let origin = keys::origin(&signers)?;
    let old = signers.first().map(SigningKey::vkey).ok_or_else(|| Failure::new("the log has no key"))?;
    if command.finish {
        let Some(next) = signers.get(1).map(SigningKey::vkey) else {
            return Err(Failure::new("no rotation is under way").remedy("start one with `garant log rotate`"));
        };
        let store = open(data, signers)?;
        let recorder = recorder(&store)?;
        recorder.record(&KeyRetired { vkey: old.to_string() }).await.map_err(|error| unwritten(&error))?;
        let next_key = keys::load(data)?
            .and_then(|mut signers| signers.pop())
            .ok_or_else(|| Failure::new("the new key is gone"))?;
        store.sign_with(vec![next_key]).await.map_err(|error| unwritten(&error))?;
        remembering::remember_head(&store, data).await?;
        keys::promote_next(data)?;
        terminal.line(format!("{old} signs no more and is destroyed; {next} signs alone"));
        return Ok(());
    }
    if signers.len() > 1 {
        return Err(Failure::new("a rotation is under way").remedy("end it with `garant log rotate --finish`"));
    }
    let store = open(data, signers)?;
    // On disk before it is announced: an announced key that is lost would be worth nothing.
    let next = keys::create(&data.join(keys::NEXT_KEY), &origin, &SystemRandom)?.vkey();
    let recorder = recorder(&store)?;
    let announced = KeyAnnounced { vkey: next.to_string(), replaces: old.to_string() };
    recorder.record(&announced).await.map_err(|error| unwritten(&error))?;
    let both = keys::load(data)?.ok_or_else(|| Failure::new("the keys are gone"))?;
    store.sign_with(both).await.map_err(|error| unwritten(&error))?;
    remembering::remember_head(&store, data).await?;
    terminal.line(format!("{next} is announced in the log and signs beside {old}"));
    terminal.note(
        "Publish for as long as your readers need to see it, tell them the new key, then end the rotation with\n\
         `garant log rotate --finish`.",
    );
    Ok(())
}

async fn succeed(command: &Succeed, terminal: &mut Terminal) -> Result<(), Failure> {
    let data = &command.data.data;
    refuse_while_up(data)?;
    let path = data::remembered_beside(data);
    let at_hand = match Sqlite::open_read_only(data) {
        Ok(store) => Some(store.head().await.map_err(|error| unreadable(&error))?),
        Err(_) => None,
    };
    let remembered = keys::read_note(&path)?.map(|note| note.to_string());
    let Some(old_checkpoint) = remembered.or_else(|| at_hand.as_ref().map(|head| head.note.clone())) else {
        return Err(Failure::new(format!(
            "there is no log in {} and none is remembered in {}",
            data.display(),
            path.display()
        ))
        .remedy("`garant up` opens a first log by itself"));
    };
    let old_origin = old_checkpoint.lines().next().unwrap_or_default().to_owned();
    let (name, number) = old_origin
        .rsplit_once('/')
        .and_then(|(name, number)| Some((name, number.parse::<u32>().ok()?)))
        .ok_or_else(|| Failure::new(format!("`{old_origin}` is not the origin of a log of ours")))?;
    let origin = format!("{name}/{}", number.saturating_add(1));

    // The old data stays, under the number of its log: it is evidence.
    let kept = data.with_file_name(format!("{}.log-{number}", data.file_name().unwrap_or_default().to_string_lossy()));
    if data.exists() {
        if kept.exists() {
            return Err(Failure::new(format!("{} is there already", kept.display())).remedy("move it elsewhere first"));
        }
        std::fs::rename(data, &kept).map_err(|error| {
            Failure::new(format!("{} can't be moved to {}", data.display(), kept.display())).because(&error)
        })?;
    }
    data::make_private(data)?;
    let key = keys::create(&data.join(keys::KEY), &origin, &SystemRandom)?;
    let vkey = key.vkey();
    let succeeds = Succeeded {
        old_origin: old_origin.clone(),
        old_checkpoint,
        old_size_at_hand: at_hand.map_or(0, |head| head.size),
        reason: command.reason.clone(),
    };
    let options = Options {
        dir: data.clone(),
        origin: origin.clone(),
        observer: keys::server_observer()?,
        signers: vec![key],
        remembered: Vec::new(),
        succeeds: Some(succeeds),
        clock: Arc::new(SystemClock),
    };
    let store = Sqlite::open(options).map_err(|error| keys::refused(data, &error))?;
    remembering::remember_head(&store, data).await?;
    terminal.line(format!("{origin} follows {old_origin}; its key is {vkey}"));
    if kept.exists() {
        terminal.note(format!("the data of {old_origin} is kept in {}", kept.display()));
    }
    Ok(())
}
