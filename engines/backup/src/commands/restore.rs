//! `garant restore`: brings a backup back to an instant, into a folder of its own.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use engine::Failure;
use engine::command::{CommandContext, Style};
use engine::printable::text as printable;
use event::Time;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    UNREACHABLE, bytes, exactly, instant_of, json_flag, known, name, name_argument, policy_flags, reading_flag,
    settings, wants_json, with_repository,
};
use crate::checks::{self, Checked};
use crate::config::PlaceSettings;
use crate::database::DatabaseError;
use crate::files::{FilesError, Point, RestoreOptions};
use crate::sources;
use crate::work::empty;

/// The exit code of what is restored, but not known to be what was asked for, or not whole, or failed a check.
const IN_DOUBT: u8 = 3;

pub(super) fn arguments() -> clap::Command {
    reading_flag(policy_flags(
        clap::Command::new("restore")
            .about("Restore a backup to an instant, into an empty folder; needs no server and no agent"),
    ))
    .arg(name_argument())
    .arg(
        Arg::new("to")
            .long("to")
            .value_name("TIME")
            .required(true)
            .help("The instant, with its offset: 2026-11-29T14:32:07+01:00; or \"10 min ago\""),
    )
    .arg(
        Arg::new("into")
            .long("into")
            .value_name("DIRECTORY")
            .required(true)
            .value_parser(value_parser!(PathBuf))
            .help("Where to: a folder that is empty, or not there yet"),
    )
    .arg(
        Arg::new("work")
            .long("work")
            .value_name("DIRECTORY")
            .value_parser(value_parser!(PathBuf))
            .help("Where the log has room meanwhile; beside the folder unless said"),
    )
    .arg(
        Arg::new("check")
            .long("check")
            .action(ArgAction::SetTrue)
            .help("Ask the application's checks of what was restored; exits with 3 where one fails"),
    )
    .arg(json_flag())
}

pub(super) fn run(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let (Some(into), Some(to)) = (matches.get_one::<PathBuf>("into").cloned(), matches.get_one::<String>("to")) else {
        return Ok(2);
    };
    let resolved = |path: &Path| {
        super::resolved(path)
            .map_err(|error| Failure::new(format!("{} is no path", path.display())).because(&error).code(2))
    };
    let into = resolved(&into)?;
    is_free(&into)?;
    super::is_apart(&into)?;
    let settings_now = settings(matches)?;
    let copies = settings_now.copies.iter().filter_map(|copy| match &copy.place {
        PlaceSettings::Directory(path) => Some((&copy.name, path)),
        PlaceSettings::S3(_) => None,
    });
    let copies: Vec<_> = copies.into_iter().collect();
    let outside_of_copies = |folder: &Path| {
        let is_above =
            |path: &Path| folder.starts_with(path) || super::resolved(path).is_ok_and(|path| folder.starts_with(path));
        match copies.iter().find(|(_, path)| is_above(path)) {
            None => Ok(()),
            Some((copy, _)) => {
                let why = format!("{} is inside of the copy `{copy}`", folder.display());
                Err(Failure::new(why).remedy("name a folder elsewhere").code(2))
            }
        }
    };
    outside_of_copies(&into)?;
    let work = matches.get_one::<PathBuf>("work").cloned().unwrap_or_else(|| {
        let name = into.file_name().unwrap_or_default().to_string_lossy().replace(':', "-");
        into.with_file_name(format!("{name}.work"))
    });
    // Servers are started in it, from elsewhere.
    let work = resolved(&work)?;
    super::is_apart(&work)?;
    outside_of_copies(&work)?;
    let (wanted, checks) = (name(matches).to_owned(), matches.get_flag("check"));
    known(&settings_now, &wanted)?;
    let to = instant_of(&settings_now, &wanted, to, command.now())?;
    // MariaDB takes a path with a colon for several, and knows no way to write one.
    if settings_now.mariadb.iter().any(|database| database.name == wanted) && work.to_string_lossy().contains(':') {
        return Err(Failure::new(format!("{} has a colon, and MariaDB works in no such folder", work.display()))
            .remedy("name another one to work in with --work")
            .code(2));
    }
    if checks && !settings_now.has_checks(&wanted) {
        return Err(Failure::new(format!("the policy declares no check of {wanted}"))
            .remedy("declare a [[backup.….check]], or leave --check away")
            .code(2));
    }
    if settings_now.files.iter().any(|files| files.name == wanted) {
        return restore_files(matches, command, to, &into);
    }
    let is_named = matches.contains_id("work");
    let (into, work) = (Written::new(into), if is_named { Written::new(work) } else { Written::ours(work) });
    let watcher = command.watcher();
    let (restored, took, checked) = with_repository(matches, command, |context, settings, repository| {
        Box::pin(async move {
            let began = context.clock.monotonic();
            let restored = sources::restore(context, &repository, &wanted, to, &into.path, &work.path, &*watcher).await;
            let restored = restored.map_err(|error| {
                let failure = not_restored(&wanted, to, &error);
                work.remove();
                if !matches!(error, DatabaseError::Unreachable(_)) {
                    // What is left is of use to whoever looks for the cause.
                    return failure;
                }
                into.clear();
                failure.code(UNREACHABLE)
            })?;
            let took = context.clock.monotonic().since(began);
            let mut checked = Vec::new();
            if let Some(database) = settings.database(&wanted).filter(|_| checks) {
                let asked =
                    sources::check(context, &repository, (database, None), &restored, &work.path, &*watcher).await;
                let asked = asked.map_err(|error| {
                    Failure::new(format!("{wanted} is restored, and can't be asked whether all is there"))
                        .because(&error)
                        .code(IN_DOUBT)
                })?;
                checked = asked.checks;
            }
            work.remove();
            Ok((restored, took, checked))
        })
    })?;
    let code = if restored.doubts.is_empty() && checks::failure(&checked).is_none() { 0 } else { IN_DOUBT };
    if wants_json(matches) {
        let is_exact = restored.doubts.is_empty();
        // An instant that is reached exactly is reached without a loss.
        let summary = Summary {
            name: name(matches),
            asked: exactly(to),
            reached: exactly(restored.to),
            exact: is_exact,
            rpo_s: is_exact.then_some(0),
            rto_s: took.to_std().as_secs_f64(),
            checks: &checked,
        };
        command.json(&merged(&summary, json!(restored)));
        return Ok(code);
    }
    for passed in &restored.passed_over {
        let words = format!("the newer base {} is of no use: {}", passed.set, printable(&passed.why));
        command.line(&command.painted(Style::Bad, &words));
    }
    let is_at = |words: &str, commit: &Option<crate::database::Commit>| match commit {
        Some(commit) => format!("{words}: {} ({} by the log)", commit.id, commit.at),
        None => format!("{words}: none"),
    };
    let done = command.painted(Style::Good, &format!("restored to {}", exactly(restored.to)));
    command.line(&format!("{done} in {}", restored.folder.display()));
    command.line(&format!("  {}", is_at("last commit that is in it", &restored.last_commit)));
    command.line(&format!("  {}", is_at("first commit that is not", &restored.next_commit)));
    command.line(&format!("  from the base {}, {} read", restored.set, bytes(restored.bytes)));
    for doubt in &restored.doubts {
        command.line(&command.painted(Style::Bad, &format!("  it may not be exact: {doubt}")));
    }
    show_checks(command, &checked);
    Ok(code)
}

/// A line for each check.
pub(super) fn show_checks(command: &mut dyn CommandContext, checked: &[Checked]) {
    for check in checked {
        let name = printable(&check.name);
        let line = match &check.why {
            None if check.passed => command.painted(Style::Good, &format!("passed: {name}")),
            why => {
                let why = printable(why.as_deref().unwrap_or("it is not so")).into_owned();
                command.painted(Style::Bad, &format!("failed: {name}: {why}"))
            }
        };
        command.line(&format!("  {line}"));
    }
}

/// Restores the newest snapshot of files that was taken at or before the instant.
fn restore_files(matches: &ArgMatches, command: &mut dyn CommandContext, to: Time, into: &Path) -> Result<u8, Failure> {
    let (wanted, asks) = (name(matches).to_owned(), matches.get_flag("check"));
    let (watcher, folder) = (command.watcher(), into.to_owned());
    let (restored, took, checked) = with_repository(matches, command, |context, settings, repository| {
        Box::pin(async move {
            let declared = settings.files.iter().find(|files| files.name == wanted);
            let missing = || Failure::new(format!("the policy has no files of the name `{wanted}`"));
            let declared = declared.ok_or_else(missing)?;
            let files = sources::files(declared);
            let (point, options) = (Point::At(to), RestoreOptions::default());
            let began = context.clock.monotonic();
            let restored = files.restore(context, &repository, &point, &folder, options, &*watcher).await;
            let restored = restored.map_err(|error| {
                let failure = not_restored(&wanted, to, &error);
                if matches!(error, FilesError::NoSnapshot(_)) { failure.code(UNREACHABLE) } else { failure }
            })?;
            let took = context.clock.monotonic().since(began);
            let checks = declared.checks.as_slice();
            Ok((restored, took, checks::run(context, if asks { checks } else { &[] }, &folder).await))
        })
    })?;
    let is_whole = restored.snapshot.lacks.is_none() && restored.unwritten.is_empty() && restored.unset.is_empty();
    let code = if is_whole && checks::failure(&checked).is_none() { 0 } else { IN_DOUBT };
    if wants_json(matches) {
        let reached = restored.snapshot.at;
        let summary = Summary {
            name: name(matches),
            asked: exactly(to),
            reached: exactly(reached),
            exact: is_whole,
            rpo_s: Some(to.since(reached).secs()),
            rto_s: took.to_std().as_secs_f64(),
            checks: &checked,
        };
        let details = json!({
            "snapshot": restored.snapshot.id,
            "lacks": restored.snapshot.lacks,
            "folder": into,
            "files": restored.files,
            "bytes": restored.bytes,
            "unwritten": restored.unwritten.to_string(),
            "unset": restored.unset.to_string(),
        });
        command.json(&merged(&summary, details));
        return Ok(code);
    }
    let done = command.painted(Style::Good, &format!("restored as of {}", restored.snapshot.at));
    let (count, size) = (restored.files, bytes(restored.bytes));
    command.line(&format!(
        "{done} in {}: {count} {}, {size}, of the snapshot {}",
        into.display(),
        if count == 1 { "file" } else { "files" },
        restored.snapshot.id
    ));
    if let Some(lacks) = &restored.snapshot.lacks {
        command.line(&command.painted(Style::Bad, &format!("the snapshot lacks: {}", printable(lacks))));
    }
    for (problems, words) in
        [(&restored.unwritten, "not restored"), (&restored.unset, "restored without all attributes")]
    {
        if !problems.is_empty() {
            command.line(&command.painted(Style::Bad, &format!("{words}:")));
            for line in problems.to_string().lines() {
                command.line(&command.painted(Style::Bad, &format!("  {}", printable(line))));
            }
        }
    }
    show_checks(command, &checked);
    Ok(code)
}

/// What a restore of any kind says to scripts.
#[derive(Serialize)]
struct Summary<'a> {
    name: &'a str,
    /// RFC 3339, as all times of it.
    asked: String,
    /// The instant whose state it is: of files, that of the snapshot.
    reached: String,
    exact: bool,
    /// What was lost up to the instant that was asked for, in seconds; `None` where that is not known.
    rpo_s: Option<i64>,
    /// How long it took, without the checks.
    rto_s: f64,
    checks: &'a [Checked],
}

/// The summary with what only databases, or files, have beside.
fn merged(summary: &Summary<'_>, details: Value) -> Value {
    let mut all = json!(summary);
    if let (Some(all), Value::Object(details)) = (all.as_object_mut(), details) {
        all.extend(details);
    }
    all
}

/// Says that a backup was not restored, and why.
fn not_restored(wanted: &str, to: Time, error: &(dyn std::error::Error + 'static)) -> Failure {
    let failure = Failure::new(format!("{wanted} is not restored to {to}")).because(error);
    if matches!(error.downcast_ref::<DatabaseError>(), Some(DatabaseError::Files { .. })) {
        return failure.remedy("mend that, remove what is there of the restore, and restore it again");
    }
    failure
        .remedy(format!(
            "see what can be restored with `garant backup list {wanted}`; where somebody has deleted or replaced something in a bucket, add \
             --as-first-written to both"
        ))
}

/// A folder that a restore writes into, and whether it was there before.
struct Written {
    path: PathBuf,
    was_there: bool,
}

impl Written {
    fn new(path: PathBuf) -> Self {
        let was_there = path.exists();
        Self { path, was_there }
    }

    /// The folder beside what is restored, which nobody has named: it is ours, also where a killed restore has left it.
    const fn ours(path: PathBuf) -> Self {
        Self { path, was_there: false }
    }

    /// Takes the folder away if it was not there before and nothing is in it.
    fn remove(&self) {
        if !self.was_there {
            drop(std::fs::remove_dir(&self.path));
        }
    }

    /// Takes everything away that a restore has written into this folder, which was empty.
    fn clear(&self) {
        if !self.was_there {
            drop(std::fs::remove_dir_all(&self.path));
            return;
        }
        drop(empty(&self.path));
    }
}

/// Fails where the folder holds anything.
fn is_free(folder: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::new(format!("{} is not empty", folder.display()))
                .remedy("name a folder that is not there yet: a restore writes over nothing")
                .code(2)),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::new(format!("{} can't be read", folder.display())).because(&error).code(2)),
    }
}
