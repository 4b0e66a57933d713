//! Has the policy taken, and waits for the first base.

use std::path::PathBuf;
use std::time::Duration;

use engine::Failure;
use engine::command::{CommandContext, Question, Style, list, text};
use engine::printable::text as printable;
use event::Span;
use serde_json::{Value, json};

use super::{After, NO_BASE_YET, Report, Wish};
use crate::commands::bytes;
use crate::door::API;
use crate::files::Snapshot;
use crate::open::open;
use crate::restorable::{Restorable, restorable};
use crate::sealed::Catalog;
use crate::sources;

/// How often the agent is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long nothing but an error may come before it is given up to wait.
const FAILING_MAX: Span = Span::from_secs(45);
/// How long nothing may happen before that: a base waits for its log to be followed.
const WAITING_MAX: Span = Span::from_secs(180);

/// The agent, that is to take a first base.
pub(super) struct Watched {
    name: String,
    socket: Option<PathBuf>,
    has_log: bool,
    /// Whether an agent was there before anything was to be backed up: it has not the capability for it.
    lacks_capability: bool,
}

impl Watched {
    /// Looks at the agent before the policy is changed.
    pub(super) fn begin(wish: &Wish<'_>, after: &After, had_backups: bool, command: &dyn CommandContext) -> Self {
        let socket = wish.matches.get_one::<PathBuf>("agent").cloned().or_else(|| after.judged.agent_socket.clone());
        let mut watched =
            Self { name: wish.name.to_owned(), has_log: wish.kind() != "files", lacks_capability: false, socket };
        let starts_it = after.judged.agent_socket.is_none();
        watched.lacks_capability = !had_backups && starts_it && watched.status(command).is_ok();
        watched
    }

    fn status(&self, command: &dyn CommandContext) -> Result<Value, Failure> {
        let question = Question::get(API).segment("status");
        let answer = command.ask_agent(self.socket.as_deref(), question)?;
        // Without a policy with [backup] it says so, and is there.
        if answer.status == 409 {
            return Ok(Value::Null);
        }
        answer.accepted("the backup engine does not say how it is doing")?.json()
    }

    /// Has the policy taken, waits, and shows the end.
    pub(super) fn end(self, report: &Report<'_>, command: &mut dyn CommandContext) -> Result<u8, Failure> {
        let wish = report.wish;
        let wants_json = wish.matches.get_flag("json");
        let policy = wish.policy.display();
        let start = format!("garant up --policy {policy}");
        let runs = command.reload(wish.policy).map_err(|failure| {
            let failure = Failure::new(format!("{policy} is written, and not in effect")).because(&failure);
            failure.remedy("`garant reload` says why, once it is mended").code(NO_BASE_YET)
        })?;
        let next = match (runs, self.lacks_capability) {
            (false, _) => Some(format!("no garant runs here: start it as root, `{start}`, and the first base is taken at once")),
            (true, true) => {
                Some("the agent that runs has no right to read what is backed up: restart garant, and the first base is taken at once".to_owned())
            }
            (true, false) => None,
        };
        if next.is_some() || wish.matches.get_flag("no-wait") {
            if wants_json {
                report.json("written", &json!({ "next": next }), command);
            } else if let Some(next) = &next {
                let next = command.painted(Style::Doubtful, next);
                command.line(&next);
            }
            return Ok(if next.is_some() { NO_BASE_YET } else { 0 });
        }
        self.wait(command)?;
        let (restorable, size) = self.restorable(report, command)?;
        if wants_json {
            report.json("protected", &json!({ "restorable": restorable, "bytes": size }), command);
            return Ok(0);
        }
        let done = command.painted(Style::Good, &format!("{} is protected", wish.name));
        command.line(&format!("{done}: its first base is taken, {}", bytes(size)));
        if let Some(last) = restorable.last() {
            let (stretch, to) = match (last.to_come(), &last.log) {
                (Some(first), _) => (format!("every second from {first} on, once the log has come as far"), first),
                (None, Some(_)) => {
                    (format!("every second from {} to {}, and on as it goes", last.from, last.through), last.through)
                }
                (None, None) => (format!("what was there at {}", last.from), last.through),
            };
            command.line(&format!("what can be restored now: {stretch}"));
            command.line(&format!("    garant restore {} --to {to} --into DIRECTORY --policy {policy}", wish.name));
        }
        for missing in report.after.missing.iter().chain(&report.lacking) {
            let missing = command.painted(Style::Doubtful, &printable(missing));
            command.line(&format!("still missing: {missing}"));
        }
        command.line(
            "still missing: a [[promise]] that speaks of it, so that the pages prove it (docs/backup.md, Promises)",
        );
        Ok(0)
    }

    /// Waits until the first base is there, and of a database the log behind it.
    fn wait(&self, command: &dyn CommandContext) -> Result<(), Failure> {
        let watcher = command.watcher();
        let mut moved_at = command.now();
        loop {
            let now = command.now();
            let wrong = match self.look(&*watcher, command) {
                Ok(Look::Done) => return Ok(()),
                Ok(Look::NotWhole(why)) => {
                    return Err(Failure::new(format!(
                        "the policy is in effect, and the first base of {} is not whole",
                        self.name
                    ))
                    .because(&Failure::new(why))
                    .remedy(format!("mend that, and have another one taken with `garant backup run {}`", self.name))
                    .code(NO_BASE_YET));
                }
                Ok(Look::Working) => {
                    moved_at = now;
                    None
                }
                Ok(Look::Waiting) => None,
                Ok(Look::Failing(why)) => Some(Failure::new(why)),
                Err(failure) => Some(failure),
            };
            let patience = if wrong.is_some() { FAILING_MAX } else { WAITING_MAX };
            if now.since(moved_at) > patience {
                let failure =
                    Failure::new(format!("the policy is in effect, and there is no first base of {} yet", self.name));
                let failure = match &wrong {
                    Some(wrong) => failure.because(wrong),
                    None => failure,
                };
                return Err(failure
                    .remedy("it is tried again without end; `garant backup status` shows it")
                    .code(NO_BASE_YET));
            }
            command.wait(Box::pin(async { tokio::time::sleep(ASK_EVERY).await }))?;
        }
    }

    fn look(&self, watcher: &dyn engine::Watcher, command: &dyn CommandContext) -> Result<Look, Failure> {
        let status = self.status(command)?;
        let backup = list(&status, "backups").iter().find(|backup| text(backup, "name") == self.name);
        let Some(backup) = backup else {
            return Ok(Look::Failing("the agent does not know of it yet".to_owned()));
        };
        let kind = |word: &str| list(backup, "kinds").iter().find(|kind| text(kind, "kind") == word);
        let (Some(full), log) = (kind("full"), kind("log")) else { return Ok(Look::Waiting) };
        let is_there = |kind: &Value| !text(kind, "succeeded").is_empty();
        if is_there(full) && (!self.has_log || log.is_some_and(is_there)) {
            // A snapshot may be there, and lack what could not be read.
            return Ok(match text(full, "error") {
                "" => Look::Done,
                error => Look::NotWhole(error.to_owned()),
            });
        }
        if let Some(doing) = full.get("doing").filter(|doing| doing.is_object()) {
            let of = doing.get("of").and_then(Value::as_u64);
            watcher.doing(text(doing, "step"), doing.get("done").and_then(Value::as_u64).unwrap_or(0), of);
            return Ok(Look::Working);
        }
        let error =
            [Some(full), log].into_iter().flatten().map(|kind| text(kind, "error")).find(|error| !error.is_empty());
        Ok(error.map_or(Look::Waiting, |error| Look::Failing(error.to_owned())))
    }

    /// What can be restored, as the repository itself says, and the bytes of the newest base.
    fn restorable(&self, report: &Report<'_>, command: &dyn CommandContext) -> Result<(Vec<Restorable>, u64), Failure> {
        let (settings, context) = (&report.after.settings, command.means()?);
        let mut read = None;
        command.wait(Box::pin(async {
            let work = async {
                let unreadable = |error: &(dyn std::error::Error + 'static)| {
                    Failure::new("the first base is there, and can't be read from here").because(error)
                };
                let repository = open(settings, &context).await.map_err(|error| unreadable(&error))?;
                if let Some(files) = settings.files.iter().find(|files| files.name == self.name) {
                    let snapshots = sources::files(files).snapshots(&context, &repository).await;
                    let snapshots: Vec<Snapshot> = snapshots.map_err(|error| unreadable(&error))?;
                    let size = snapshots.last().map_or(0, |snapshot| snapshot.bytes);
                    let stretches = snapshots.into_iter().map(|it| Restorable::instant(it.at));
                    return Ok((stretches.collect(), size));
                }
                let catalog = Catalog::read(&repository, &self.name).await.map_err(|error| unreadable(&error))?;
                let stretches = restorable(&repository, &catalog).await.map_err(|error| unreadable(&error))?;
                let newest = catalog.sets.last().map(|set| set.manifest.size());
                Ok((stretches, newest.unwrap_or(0)))
            };
            read = Some(work.await);
        }))?;
        read.unwrap_or_else(|| Err(Failure::new("the repository was not read")))
    }
}

/// How far the first base is.
enum Look {
    Done,
    /// Something is there, and not what is promised.
    NotWhole(String),
    Working,
    /// Nothing is wrong, and nothing is done.
    Waiting,
    Failing(String),
}
