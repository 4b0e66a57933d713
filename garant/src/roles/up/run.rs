//! The third step of `garant up`: runs the engines, handles signals and reloads, and stops in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{CancellationToken, Context};
use event::policy::Applied;
use event::{Span, Zone};
use journal::note::VerifierKey;
use notary::{log, witnessing};
use store::Consumers as _;
use store::sqlite::Sqlite;
use tokio::signal::unix::SignalKind;
use tokio::sync::watch;
use web::Identity;

use super::RELOAD;
use super::policy::{Followed, InForce, peers};
use super::wire::Wired;
use crate::changes::{self, Journaled, Trigger};
use crate::clock_set_back;
use crate::configuration::Configuration;
use crate::data::Running;
use crate::failure::Failure;
use crate::registry::Registry;
use crate::signals::{self, StopSignals};
use crate::terminal::counted;

/// Deadline at the stop for events that the store had refused.
const FLUSH: Span = Span::from_secs(3);
/// Longest wait for the first start of every engine; then the ready line is written without it.
const READY_WITHIN: Span = Span::from_secs(20);
/// Time after which `running.json` is written again when the disk was full.
const WRITTEN_AGAIN: Span = Span::from_secs(5);

/// Journals the policy, runs everything, and returns once everything has stopped after a signal.
pub(super) async fn run(
    wired: Wired,
    registry: &Registry,
    log_zone: &watch::Sender<Zone>,
    ready: impl FnOnce(&Running, &VerifierKey),
) -> Result<(), Failure> {
    let Wired { context, store, supervisor, data, mut running, last_run, keys, configuration, policy } = wired;
    let stop = CancellationToken::new();
    let signals = StopSignals::taken(Arc::clone(&context.clock))?;
    let (mut hang_up, mut asked) = (signals::taken(SignalKind::hangup())?, signals::taken(RELOAD)?);

    // On a full disk these wait in the recorder, in this order.
    clock_set_back::journal(&context.recorder, context.clock.as_ref(), store.as_ref(), &configuration.applied).await?;
    last_run.keep(&store, &context.recorder, context.clock.as_ref()).await;
    apply(&context, store.as_ref(), &configuration, None, Trigger::Start).await?;
    drop(configuration);
    propose(&policy.identity.borrow(), &data);
    // Listens until the very end: closing the store waits for the disk, and somebody may not want to.
    drop(tokio::spawn(stop_on_a_signal(stop.clone(), data.clone(), signals)));
    let mut engines = supervisor.board();
    let supervised = tokio::spawn(supervisor.run(stop.clone()));
    tokio::pin!(supervised);
    // The listeners are bound: whoever asks is answered, also while an engine fails to start.
    let mut is_written = write_running(&running, &data);
    drop(tokio::time::timeout(READY_WITHIN.to_std(), engines.wait_ready()).await);
    notify(&[sd_notify::NotifyState::Ready]);
    if let Some(key) = keys.first() {
        ready(&running, key);
    }

    // Ends with the process.
    drop(tokio::spawn(engine::memory::keep_giving_back()));
    let ended = loop {
        let trigger = tokio::select! {
            ended = &mut supervised => break ended,
            () = tokio::time::sleep(WRITTEN_AGAIN.to_std()), if !is_written => {
                is_written = write_running(&running, &data);
                continue;
            }
            _ = hang_up.recv() => Trigger::Signal,
            _ = asked.recv() => Trigger::Reload,
        };
        notify(&[sd_notify::NotifyState::Reloading]);
        let outcome =
            reload(&context, &store, &policy, &OpenLog { data: &data, keys: &keys }, &running, registry, trigger).await;
        running.reloads += 1;
        running.revision.clone_from(&policy.applied.borrow().revision);
        running.publish = policy.shown.borrow().publish;
        policy.shown.borrow().zone.name().clone_into(&mut running.time_zone);
        log_zone.send_replace(policy.shown.borrow().zone.clone());
        running.reload_error = outcome.err().map(|failure| failure.to_string());
        if let Some(error) = &running.reload_error {
            tracing::error!(%error, "the policy was not taken; the one from before stays in effect");
        }
        policy.shown.send_modify(|shown| Arc::make_mut(shown).reload_error.clone_from(&running.reload_error));
        is_written = write_running(&running, &data);
        notify(&[sd_notify::NotifyState::Ready]);
    };
    Running::remove(&data);
    let lost = context.recorder.flush(FLUSH).await;
    if lost > 0 {
        tracing::error!(events = lost, "the store took no more: these events are lost");
    }
    drop((context, policy, store));
    let ended = ended.map_err(|error| Failure::new("the supervisor failed").because(&error))?;
    for engine in &ended.missed {
        tracing::warn!(engine, "did not stop in time and was cut off");
    }
    match ended.failure {
        None => Ok(()),
        Some((engine, reason)) => Err(Failure::new(format!("{engine} failed, and nothing works without it: {reason}"))
            .remedy("look at what it says; the process manager will start garant again")),
    }
}

/// Stops everything in order at the first signal. At another the process ends at once, whatever it waits for; what was
/// acknowledged is on the disk, as after a crash.
async fn stop_on_a_signal(stop: CancellationToken, data: PathBuf, mut signals: StopSignals) {
    signals.next().await;
    notify(&[sd_notify::NotifyState::Stopping]);
    stop.cancel();
    let kind = signals.next().await;
    Running::remove(&data);
    tracing::warn!("a second signal: stopping at once");
    #[expect(clippy::exit, reason = "an orderly end would wait for what somebody has no patience for")]
    std::process::exit(128 + kind.as_raw_value());
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    // Fails without systemd.
    drop(sd_notify::notify(state));
}

/// Writes `running.json`; false, with a warning, when it can't be written.
fn write_running(running: &Running, data: &Path) -> bool {
    let written = running.write(data);
    if let Err(error) = &written {
        tracing::warn!(
            %error,
            "other commands do not find this process, for {} can't be written; trying again every {WRITTEN_AGAIN}",
            data.display()
        );
    }
    written.is_ok()
}

/// Writes the proposed trust policy into the data directory, for `garant log export`.
fn propose(identity: &Identity, data: &Path) {
    if let Err(error) = witnessing::write_proposed_policy(data, &identity.tlog_policy) {
        tracing::warn!(%error, "exports will propose no witnesses: the data directory takes no file");
    }
}

/// Journals the policy in effect where it differs from what the journal says: the public projection for everybody, the diff
/// of the files for the team.
async fn apply(
    context: &Context,
    store: &Sqlite,
    configuration: &Configuration,
    before: Option<&Applied>,
    trigger: Trigger,
) -> Result<(), Failure> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| Failure::new("the policy can't be journaled").because(error);
    let applied = &configuration.applied;
    let is_new = match before {
        Some(before) => before != applied.as_ref(),
        None => log::last_applied(store).await?.as_ref() != Some(applied.as_ref()),
    };
    let journaled = Journaled::load(store).await.map_err(|error| failed(&error))?;
    let diff = journaled.diff(configuration.sources());
    let now = context.clock.now();
    let mut events = Vec::new();
    if is_new {
        events.push(context.recorder.seal(applied.as_ref(), now).map_err(|error| failed(&error))?);
    }
    if let Some(diff) = diff {
        let changed = changes::changed(&applied.revision, diff, trigger);
        events.push(context.recorder.seal(&changed, now).map_err(|error| failed(&error))?);
        // Events that wait for space on the disk come first.
        if context.recorder.health().waiting == 0 {
            let step = journaled.step(events.clone(), configuration.sources(), context.random.as_ref());
            match store.step(step).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "the next change of the policy will be journaled together with this one");
                }
            }
        }
    }
    context.recorder.send(events).await.map_err(|error| failed(&error))?;
    Ok(())
}

/// Reloads the policy, whole or not at all. It is journaled before any of it is followed.
async fn reload(
    context: &Context,
    store: &Sqlite,
    policy: &InForce,
    log: &OpenLog<'_>,
    running: &Running,
    registry: &Registry,
    trigger: Trigger,
) -> Result<(), Failure> {
    let before = policy.applied.borrow().clone();
    let now =
        Configuration::load(&running.policy, registry).map_err(|mistakes| mistaken(&mistakes, &running.policy))?;
    if let Some(key) = now.needs_a_restart(&running.fixed) {
        return Err(
            Failure::new(format!("`{key}` can't change while garant runs")).remedy("restart garant to change it")
        );
    }
    for warning in now.exposed_files() {
        tracing::warn!("{warning}");
    }
    let listening = running.public.as_deref().unwrap_or(&running.team);
    let witnesses = peers(&now)?;
    let followed = Followed::of(now, witnesses, log.keys, log.data, listening)?;
    apply(context, store, &followed.configuration, Some(&before), trigger).await?;
    propose(&followed.identity, log.data);
    policy.replace(followed);
    Ok(())
}

/// The parts of the open log that a reload needs.
struct OpenLog<'a> {
    data: &'a Path,
    keys: &'a [VerifierKey],
}

/// The failure of a reload, without a line of the policy: it ends up in the log of the machine, and lines of a policy hold
/// names and numbers of people.
fn mistaken(mistakes: &policy::Mistakes, policy: &Path) -> Failure {
    let first = mistakes.list().first().map(policy::Mistake::place).unwrap_or_default();
    let file = mistakes.sources().files().get(first.file_index()).map_or("the policy", policy::SourceFile::name);
    let line = mistakes.sources().position(first).0.line;
    Failure::new(format!("the policy has {}, the first in line {line} of {file}", counted(mistakes.count(), "mistake")))
        .remedy(format!("`garant check --policy {}` shows them", policy.display()))
}
