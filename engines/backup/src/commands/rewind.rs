//! `garant rewind`: brings a live database back to an instant, in its own place, when somebody says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, value_parser};
use engine::command::{CommandContext, Question, Style};
use engine::printable::text as printable;
use engine::{Context, Failure, Watcher};
use event::Time;
use serde_json::{Value, json};

use super::restore::show_checks;
use super::{
    UNREACHABLE, agent_flag, exactly, instant_of, json_flag, known, name, name_argument, policy_flags, settings,
    wants_json, with_repository,
};
use crate::checks;
use crate::config::DatabaseSettings;
use crate::database::{Around, Commit, DatabaseError};
use crate::door::{API, Wish};
use crate::events::{RewindState, Rewound};
use crate::rewind::{JOURNAL, Journal, Layout, NotPromoted, Rewind, Step, can_be_replaced, lock};
use crate::room;
use crate::sealed::Repository;
use crate::sources;

/// Exit codes: a check failed; it waits for somebody to say so.
const CHECK_FAILED: u8 = 3;
const WAITS: u8 = 5;
/// How many transactions are shown on either side of the instant, unless said.
const EACH: u16 = 5;
/// Where systemd runs.
const SYSTEMD: &str = "/run/systemd/system";
/// Longest cause in an entry of the journal, in characters.
const CAUSE_MAX: usize = 2000;

pub(super) fn arguments() -> clap::Command {
    policy_flags(clap::Command::new("rewind").about(
        "Bring a live database back to an instant: restored beside it, checked, and put into its place once you say so",
    ))
    .arg(name_argument())
    .arg(
        Arg::new("to")
            .long("to")
            .value_name("TIME")
            .help("The instant, with its offset: 2026-11-29T14:32:07+01:00; or \"10 min ago\""),
    )
    .arg(
        Arg::new("resume")
            .long("resume")
            .action(ArgAction::SetTrue)
            .help("Go on with the rewind that is under way: it waits to be confirmed, or was interrupted"),
    )
    .arg(
        Arg::new("undo")
            .long("undo")
            .action(ArgAction::SetTrue)
            .help("Leave everything as it was before the rewind that is under way"),
    )
    .group(ArgGroup::new("what").args(["to", "resume", "undo"]).required(true))
    .arg(Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Promote without asking, for scripts"))
    .arg(
        Arg::new("unshipped").long("unshipped").action(ArgAction::SetTrue).help(
            "Promote though what was committed last is not in the repository: it is in the old directory alone then",
        ),
    )
    .arg(
        Arg::new("show")
            .long("show")
            .value_name("NUMBER")
            .value_parser(value_parser!(u16).range(0..=1000))
            .help("How many transactions are shown before and behind the instant; 5 unless said"),
    )
    .arg(Arg::new("server-data").long("server-data").value_name("DIRECTORY").value_parser(value_parser!(PathBuf)).help(
        "The directory of data of a server that does not answer, where neither the policy nor its usual place says it",
    ))
    .arg(agent_flag())
    .arg(json_flag())
}

/// What a rewind has come to.
struct Outcome {
    journal: Journal,
    around: Vec<Around>,
    /// Why it is not promoted: nobody has said so, or what was committed last is not in the repository.
    waits: Option<String>,
}

pub(super) fn run(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let wanted = name(matches).to_owned();
    let policy = settings(matches)?;
    known(&policy, &wanted)?;
    let Some(mut database) = policy.database(&wanted).cloned() else {
        return Err(Failure::new(format!("{wanted} are files, and only databases are rewound"))
            .remedy(format!("restore them with `garant restore {wanted} --to TIME --into DIRECTORY`, and copy"))
            .code(2));
    };
    if let Some(data) = matches.get_one::<PathBuf>("server-data") {
        database.data = Some(data.clone());
    }
    if matches.get_flag("undo") {
        return undo(matches, command, &database);
    }
    let to = matches.get_one::<String>("to");
    let to = to.map(|to| instant_of(&policy, &wanted, to, command.now())).transpose()?;
    let found = prepare(matches, command, &database, to)?;
    show(matches, command, &found);
    let is_told = matches.get_flag("yes");
    let is_begun = !matches!(found.journal.step, Step::Restoring | Step::Restored);
    let doubts = found.journal.restored.as_ref().is_some_and(|restored| !restored.doubts.is_empty());
    let failed = checks::failure(&found.journal.checks).is_some() || doubts;
    // Who has seen what has failed may go on with it: not whoever said so before.
    if failed && !is_begun && !matches.get_flag("resume") && is_told {
        let why = if doubts { "it may not be exact" } else { "a check failed" }.to_owned();
        return Ok(waiting(matches, command, &Outcome { waits: Some(why), ..found }, (CHECK_FAILED, "")));
    }
    if !is_told && !is_begun {
        let question = format!(
            "Stop the server, move {} to {}, and start it on what was restored? Write yes:",
            found.journal.data.display(),
            found.journal.old.display()
        );
        if command.prompt(&question).as_deref() != Some("yes") {
            let why = "nobody has confirmed it".to_owned();
            let code = if failed { CHECK_FAILED } else { WAITS };
            return Ok(waiting(matches, command, &Outcome { waits: Some(why), ..found }, (code, "")));
        }
    }
    let mut unshipped = matches.get_flag("unshipped");
    let mut found = found;
    loop {
        found = promote_journaled(matches, command, &database, found, unshipped)?;
        let Some(why) = found.waits.clone() else { break };
        command.note(&why);
        let question = "Promote all the same? What is missing there stays in the old directory. Write yes:";
        if is_told || unshipped || command.prompt(question).as_deref() != Some("yes") {
            return Ok(waiting(matches, command, &found, (WAITS, " --unshipped")));
        }
        unshipped = true;
    }
    let base = base_now(matches, command, &wanted);
    let journal = &found.journal;
    if wants_json(matches) {
        command.json(&json_of(&found, "rewound"));
    } else {
        let done = command.painted(Style::Good, &format!("{wanted} is rewound to {}", journal.to));
        command.line(&format!("{done}, and the server answers"));
        command.line(&format!("  the data of before is in {}", journal.old.display()));
        if let Some(left) = &journal.left {
            command.line(&format!("  what was committed last is there alone: {left}"));
        }
        for (_, away) in &journal.beside {
            command.line(&format!("  and of its log {}", away.display()));
        }
    }
    if let Err(why) = base {
        command.note(&format!(
            "A new base can't be asked for ({why}): take one with `garant backup run {wanted}`, once an agent runs. Until then \
             nothing behind this instant can be restored."
        ));
    }
    Ok(0)
}

/// Says what it waits for, and which command goes on: with `flag` behind it.
fn waiting(matches: &ArgMatches, command: &mut dyn CommandContext, outcome: &Outcome, (code, flag): (u8, &str)) -> u8 {
    let (wanted, why) = (&outcome.journal.backup, outcome.waits.as_deref().unwrap_or_default());
    if wants_json(matches) {
        command.json(&json_of(outcome, "waiting"));
    }
    command.note(&format!(
        "Not promoted: {why}. It waits in {}. `garant rewind {wanted} --resume --yes{flag}` goes on, `garant rewind {wanted} \
         --undo` removes it.",
        outcome.journal.aside.display()
    ));
    code
}

fn json_of(outcome: &Outcome, state: &str) -> Value {
    let journal = &outcome.journal;
    let restored = journal.restored.as_ref();
    json!({
        "name": journal.backup,
        "asked": exactly(journal.to),
        "reached": restored.map(|restored| exactly(restored.to)),
        "state": state,
        "waits_for": outcome.waits,
        "around": outcome.around,
        "restored": restored,
        "checks": journal.checks,
        "data": journal.data,
        "aside": journal.aside,
        "old": journal.old,
        "left": journal.left,
    })
}

/// Finds a rewind that is under way, or restores what is to be promoted.
fn prepare(
    matches: &ArgMatches,
    command: &mut dyn CommandContext,
    database: &DatabaseSettings,
    to: Option<Time>,
) -> Result<Outcome, Failure> {
    let (context, watcher) = (command.means()?, command.watcher());
    let each = matches.get_one::<u16>("show").copied().unwrap_or(EACH);
    let (layout, under_way) = located(command, database, &context)?;
    let _lock = lock(&layout.data).map_err(|why| Failure::new(why).code(2))?;
    let journal = match (under_way, to) {
        (Some(journal), Some(_)) => {
            let wanted = &journal.backup;
            return Err(Failure::new(format!("a rewind of {wanted} to {} is under way already", journal.to))
                .remedy(format!("go on with `garant rewind {wanted} --resume`, or back with `--undo`"))
                .code(2));
        }
        (None, None) => return Err(no_rewind(&database.name)),
        (Some(journal), None) if journal.step == Step::Undoing => {
            return Err(Failure::new("it is being undone")
                .remedy(format!("go on with `garant rewind {} --undo`", journal.backup))
                .code(2));
        }
        (Some(journal), None) if journal.step != Step::Restoring => {
            return Ok(Outcome { journal, around: Vec::new(), waits: None });
        }
        (Some(journal), None) => journal,
        (None, Some(to)) => {
            can_be_replaced(&layout.data).map_err(|why| Failure::new(why).code(2))?;
            Journal::new(&database.name, to, &layout, commands(database, &layout)?)
        }
    };
    let to = journal.to;
    let (settings, name) = (database.clone(), database.name.clone());
    let restoring = with_repository(matches, command, |context, _, repository| {
        Box::pin(async move {
            restore(context, &repository, &settings, journal, usize::from(each), &*watcher).await.map_err(|error| {
                let code = if matches!(error, DatabaseError::Unreachable(_)) { UNREACHABLE } else { 1 };
                Failure::new(format!("{name} is not rewound to {to}: nothing has changed"))
                    .because(&error)
                    .remedy(format!("see what can be restored with `garant backup list {name}`"))
                    .code(code)
            })
        })
    });
    // What is of no use and was not promoted has no business beside the data.
    if restoring.as_ref().is_err_and(|failure| failure.exit_code() != 130 && failure.exit_code() != 143)
        && let Ok(Some(journal)) = Journal::find(&layout.data)
        && journal.step == Step::Restoring
    {
        journal.discard().map_err(|error| Failure::new("what was begun can't be removed").because(&error))?;
    }
    restoring
}

/// Restores what is to be promoted, beside the data.
async fn restore(
    context: &Context,
    repository: &Arc<Repository>,
    settings: &DatabaseSettings,
    mut journal: Journal,
    each: usize,
    watcher: &dyn Watcher,
) -> Result<Outcome, DatabaseError> {
    // What an interrupted one has left.
    journal.remove_restored(watcher)?;
    let (disk, to) = (journal.data.parent().unwrap_or(Path::new("/")).to_owned(), journal.to);
    let held_back = room::held_back(&disk)?;
    room::has(&disk, sources::needs(repository, &settings.name, to).await?, held_back)?;
    journal.write(Step::Restoring)?;
    let (work, name, aside) = (journal.work(), &settings.name, journal.aside.clone());
    let restoring = async {
        let mut around = sources::around(context, repository, settings, (to, each), &work, watcher).await?;
        let restored = sources::restore(context, repository, name, to, &aside, &work, watcher).await?;
        let asked = sources::check(context, repository, (settings, None), &restored, &work, watcher).await?;
        sources::name_tables(context, repository, settings, (&restored, &mut around), &work).await;
        Ok::<_, DatabaseError>((around, restored, asked))
    };
    // The server runs on that disk, and nobody has said yet that it may be stopped.
    let (around, restored, asked) = tokio::select! {
        restored = restoring => restored?,
        short = room::is_short(&disk, held_back) => return Err(short),
    };
    journal.checks = asked.checks;
    journal.restored = Some(restored);
    match std::fs::remove_dir_all(&work) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(DatabaseError::Files { path: work, error });
        }
        _ => {}
    }
    journal.write(Step::Restored)?;
    Ok(Outcome { journal, around, waits: None })
}

/// Where the files of the server are, and the rewind of them that is under way.
fn located(
    command: &dyn CommandContext,
    database: &DatabaseSettings,
    context: &Context,
) -> Result<(Layout, Option<Journal>), Failure> {
    let failed = |error: &DatabaseError| {
        Failure::new(format!("where the data of {} is can't be told", database.name))
            .because(error)
            .remedy("run it as root on the host of the server; where the server does not answer, as after a rewind that was interrupted, name the directory of its data with `--server-data DIRECTORY`, though nothing may be there at the moment")
            .code(2)
    };
    let mut layout = None;
    command.wait(Box::pin(async {
        let live = sources::live(database, Path::new("/"));
        layout = Some(live.layout(context, database.data.as_deref()).await);
    }))?;
    let layout = layout.unwrap_or_else(|| Err(DatabaseError::Database("nobody was asked".to_owned())));
    let layout = match layout {
        Ok(layout) => layout,
        // Between stop and start nobody can be asked, and no data may be in its place.
        Err(error) => {
            let journal = usual_places(database).iter().find_map(|place| Journal::find(place).ok().flatten());
            let journal = journal.filter(|journal| journal.backup == database.name).ok_or_else(|| failed(&error))?;
            let beside = journal.beside.iter().map(|(file, _)| file.clone()).collect();
            Layout { data: journal.data, beside }
        }
    };
    let journal = Journal::find(&layout.data).map_err(|error| failed(&error))?;
    Ok((layout, journal.filter(|journal| journal.backup == database.name)))
}

/// Where the data of a server may be: where the policy says, else where Debian has it.
fn usual_places(database: &DatabaseSettings) -> Vec<PathBuf> {
    if let Some(data) = &database.data {
        return vec![data.clone()];
    }
    if database.is_mariadb() {
        return vec![PathBuf::from("/var/lib/mysql")];
    }
    let below = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<PathBuf>>()
    };
    let journals = below(Path::new("/var/lib/postgresql")).into_iter().flat_map(|version| below(&version));
    journals
        .filter(|path| path.extension().is_some_and(|what| what == JOURNAL))
        .map(|path| path.with_extension(""))
        .collect()
}

fn no_rewind(name: &str) -> Failure {
    Failure::new(format!("no rewind of {name} is under way"))
        .remedy(format!("begin one with `garant rewind {name} --to TIME`"))
        .code(2)
}

/// What stops the server, and starts it: as the policy says, else the unit of Debian.
fn commands(database: &DatabaseSettings, layout: &Layout) -> Result<(Vec<String>, Vec<String>), Failure> {
    if !database.stop.is_empty() {
        return Ok((database.stop.clone(), database.start.clone()));
    }
    let parts: Vec<&str> = layout.data.to_str().unwrap_or_default().split('/').collect();
    let unit = match parts.as_slice() {
        _ if !Path::new(SYSTEMD).is_dir() => None,
        _ if database.is_mariadb() => Some("mariadb".to_owned()),
        ["", "var", "lib", "postgresql", version, cluster] => Some(format!("postgresql@{version}-{cluster}")),
        _ => None,
    };
    let Some(unit) = unit else {
        return Err(Failure::new(format!("how the server of {} is stopped and started is not known", database.name))
            .remedy("write `stop = [\"systemctl\", \"stop\", \"UNIT\"]` and `start = [\"systemctl\", \"start\", \"UNIT\"]` beside its name in the policy")
            .code(2));
    };
    let of = |verb: &str| ["systemctl", verb, &unit].map(str::to_owned).to_vec();
    Ok((of("stop"), of("start")))
}

/// Shows what is about to be promoted.
fn show(matches: &ArgMatches, command: &mut dyn CommandContext, found: &Outcome) {
    if wants_json(matches) {
        return;
    }
    let Outcome { journal, around, .. } = found;
    if !around.is_empty() {
        command.line("transactions around the instant, by the log:");
        let first = around.iter().position(|around| !around.is_in).unwrap_or(around.len());
        for (place, transaction) in around.iter().enumerate() {
            if place == first {
                rule(command, journal.to);
            }
            let xid = transaction.transaction.map(|number| format!(", transaction {number}")).unwrap_or_default();
            let touched = match transaction.touched.as_slice() {
                [] => format!("{} bytes", transaction.bytes),
                touched => printable(&touched.join("; ")).into_owned(),
            };
            let Commit { id, at } = &transaction.commit;
            command.line(&format!("  {at}  {id}{xid}  {touched}"));
        }
        if first == around.len() {
            rule(command, journal.to);
        }
    }
    if let Some(restored) = &journal.restored {
        let is_at = |commit: &Option<Commit>| match commit {
            Some(commit) => format!("{} at {}", commit.id, commit.at),
            None => "none".to_owned(),
        };
        command.line(&format!("restored to {} in {}", restored.to, journal.aside.display()));
        command.line(&format!("  last commit that is in it: {}", is_at(&restored.last_commit)));
        command.line(&format!("  first commit that is not: {}", is_at(&restored.next_commit)));
        for doubt in &restored.doubts {
            command.line(&command.painted(Style::Bad, &format!("  it may not be exact: {doubt}")));
        }
    }
    show_checks(command, &journal.checks);
}

fn rule(command: &mut dyn CommandContext, to: Time) {
    let rule = command.painted(Style::Strong, &format!("  ──────── {to} ────────"));
    command.line(&rule);
}

/// Promotes what was restored, with an entry of the journal before and behind it. Where no agent takes the first one, nothing ships the
/// log either: it goes on for `unshipped` alone.
fn promote_journaled(
    matches: &ArgMatches,
    command: &mut dyn CommandContext,
    database: &DatabaseSettings,
    outcome: Outcome,
    unshipped: bool,
) -> Result<Outcome, Failure> {
    let of = (outcome.journal.backup.clone(), outcome.journal.to, unshipped);
    let is_begun = !matches!(outcome.journal.step, Step::Restoring | Step::Restored);
    if !is_begun && let Err(why) = entry(matches, command, &of, RewindState::Intended, None) {
        if !unshipped {
            let why = format!("No agent journals what is done, and ships the log: {why}");
            return Ok(Outcome { waits: Some(why), ..outcome });
        }
        command.note(&format!("The rewind is not in the journal: {why}"));
    }
    let promoted = promote(matches, command, database, outcome, unshipped);
    let (state, error) = match &promoted {
        Ok(Outcome { waits: None, .. }) => (RewindState::Done, None),
        Ok(Outcome { waits, .. }) => (RewindState::Failed, waits.clone()),
        Err(failure) => (RewindState::Failed, Some(failure.to_string())),
    };
    if let Err(why) = entry(matches, command, &of, state, error) {
        command.note(&format!("How the rewind has ended is not in the journal: {why}"));
    }
    promoted
}

/// Has the agent of this host write an entry of the journal.
fn entry(
    matches: &ArgMatches,
    command: &dyn CommandContext,
    (backup, to, unshipped): &(String, Time, bool),
    state: RewindState,
    error: Option<String>,
) -> Result<(), Failure> {
    let error = error.map(|error| error.chars().take(CAUSE_MAX).collect());
    let rewound = Rewound { backup: backup.clone(), to: *to, state, unshipped: *unshipped, error };
    let question = Question::post(API).segment("rewound").json(&Wish::Journal(rewound))?;
    let agent = matches.get_one::<PathBuf>("agent").map(PathBuf::as_path);
    command.ask_agent(agent, question)?.accepted("it does not take the entry").map(drop)
}

fn promote(
    matches: &ArgMatches,
    command: &mut dyn CommandContext,
    database: &DatabaseSettings,
    outcome: Outcome,
    unshipped: bool,
) -> Result<Outcome, Failure> {
    let (database, watcher) = (database.clone(), command.watcher());
    let _lock = lock(&outcome.journal.data).map_err(|why| Failure::new(why).code(2))?;
    let (name, data) = (outcome.journal.backup.clone(), outcome.journal.data.clone());
    let promoted = with_repository(matches, command, |context, _, repository| {
        Box::pin(async move {
            let live = sources::live(&database, Path::new("/"));
            let Outcome { journal, around, .. } = outcome;
            let mut rewind = Rewind { context, repository: &repository, live: &*live, watcher: &*watcher, journal };
            match rewind.promote(unshipped).await {
                Ok(()) => Ok(Outcome { journal: rewind.journal, around, waits: None }),
                Err(NotPromoted::Unshipped(why)) => {
                    let why = format!(
                        "Not everything that was committed is in the repository: {why}: see with `garant backup status` why"
                    );
                    Ok(Outcome { journal: rewind.journal, around, waits: Some(why) })
                }
                Err(NotPromoted::Failed(error)) => Err(interrupted(&rewind.journal, &error)),
            }
        })
    });
    // A signal ends the work wherever it is: the server may be stopped.
    promoted.map_err(|failure| match failure.exit_code() {
        code @ (130 | 143) => Failure::new(format!("the rewind of {name} is interrupted: its server may be stopped"))
            .remedy(goes_on_with(&name, &data))
            .code(code),
        _ => failure,
    })
}

/// How a rewind that is not at its end goes on, or back. The server may not answer any more, and then nobody else knows where its data is.
fn goes_on_with(name: &str, data: &Path) -> String {
    let data = data.display();
    format!(
        "go on with `garant rewind {name} --resume --server-data {data}`, or back with `garant rewind {name} --undo --server-data {data}`"
    )
}

fn interrupted(journal: &Journal, error: &DatabaseError) -> Failure {
    let name = &journal.backup;
    Failure::new(format!("the rewind of {name} is not at its end"))
        .because(error)
        .remedy(format!("mend that, then {}", goes_on_with(name, &journal.data)))
}

fn undo(matches: &ArgMatches, command: &mut dyn CommandContext, database: &DatabaseSettings) -> Result<u8, Failure> {
    let (context, watcher) = (command.means()?, command.watcher());
    let (layout, journal) = located(command, database, &context)?;
    let journal = journal.ok_or_else(|| no_rewind(&database.name))?;
    let _lock = lock(&layout.data).map_err(|why| Failure::new(why).code(2))?;
    let settings = database.clone();
    let of = (journal.backup.clone(), journal.to, false);
    let has_changed = !matches!(journal.step, Step::Restoring | Step::Restored);
    let undone = with_repository(matches, command, |context, _, repository| {
        Box::pin(async move {
            let live = sources::live(&settings, Path::new("/"));
            let mut rewind = Rewind { context, repository: &repository, live: &*live, watcher: &*watcher, journal };
            rewind.undo().await.map_err(|error| interrupted(&rewind.journal, &error))?;
            Ok(rewind.journal)
        })
    });
    if has_changed {
        let error = undone.as_ref().err().map(ToString::to_string);
        let state = if error.is_some() { RewindState::Failed } else { RewindState::Undone };
        if let Err(why) = entry(matches, command, &of, state, error) {
            command.note(&format!("That it is undone is not in the journal: {why}"));
        }
    }
    let journal = undone?;
    let is_left = journal.aside.exists();
    if wants_json(matches) {
        command.json(&json_of(&Outcome { journal, around: Vec::new(), waits: None }, "undone"));
        return Ok(0);
    }
    command.line(&format!("{} is as it was before", journal.backup));
    if is_left {
        command.line(&format!("  what a server ran on meanwhile is in {}", journal.aside.display()));
    }
    Ok(0)
}

/// Asks the agent for a new base.
fn base_now(matches: &ArgMatches, command: &mut dyn CommandContext, name: &str) -> Result<(), Failure> {
    let wish = Wish::Run { name: name.to_owned(), kind: "full".to_owned() };
    let question = Question::post(API).segment("run").json(&wish)?;
    let agent = matches.get_one::<PathBuf>("agent").map(PathBuf::as_path);
    command.ask_agent(agent, question)?.accepted("it is not begun").map(drop)
}
