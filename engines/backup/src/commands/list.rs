//! `garant backup list`, `explain` and `check`: read the repository itself.

use clap::ArgMatches;
use engine::Failure;
use engine::command::{CommandContext, Style};
use engine::printable::text as printable;
use event::Span;
use serde_json::json;

use super::{bytes, json_flag, known, name, name_argument, policy_flags, wants_json, with_repository};
use crate::restorable::restorable;
use crate::sealed::Catalog;

pub(super) fn arguments() -> clap::Command {
    policy_flags(clap::Command::new("list").about("List the bases of a backup, and what can be restored"))
        .arg(name_argument())
        .arg(json_flag())
}

pub(super) fn explain_arguments() -> clap::Command {
    policy_flags(clap::Command::new("explain").about("Say what would be lost if this host burnt now"))
        .arg(name_argument())
        .arg(json_flag())
}

pub(super) fn check_arguments() -> clap::Command {
    policy_flags(
        clap::Command::new("check").about("Compare the copies, and read every base and the log of a backup again"),
    )
    .arg(name_argument())
    .arg(json_flag())
}

pub(super) fn list(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let wanted = name(matches).to_owned();
    let (catalog, stretches, copies) = with_repository(matches, command, |_, settings, repository| {
        Box::pin(async move {
            known(settings, &wanted)?;
            let catalog = Catalog::read(&repository, &wanted).await.map_err(|error| unreadable(&error))?;
            let stretches = restorable(&repository, &catalog).await.map_err(|error| unreadable(&error))?;
            let copies: Vec<String> = repository.copies().iter().map(|copy| copy.name.clone()).collect();
            Ok((catalog, stretches, copies))
        })
    })?;
    if wants_json(matches) {
        let sets = catalog.sets.iter().map(|set| {
            let at: Vec<&String> = set.copies.iter().filter_map(|copy| copies.get(*copy)).collect();
            json!({ "manifest": set.manifest, "copies": at, "stored_bytes": set.stored })
        });
        command.json(&json!({
            "sets": sets.collect::<Vec<_>>(),
            "restorable": stretches,
            "unfinished": catalog.unfinished,
            "unreadable": catalog.unreadable,
            "destroyed": catalog.destroyed,
        }));
        return Ok(0);
    }
    for set in &catalog.sets {
        let at: Vec<&str> = set.copies.iter().filter_map(|copy| copies.get(*copy)).map(String::as_str).collect();
        let size: u64 = set.manifest.streams.iter().map(|stream| stream.size).sum();
        let at = if at.is_empty() { command.painted(Style::Bad, "at no copy whole") } else { at.join(", ") };
        command.line(&format!(
            "{}  {:11}  {:>9} stored of {:>9}  {at}",
            set.manifest.set,
            set.manifest.kind,
            bytes(set.stored),
            bytes(size)
        ));
    }
    for (set, why) in &catalog.unreadable {
        let why = command.painted(Style::Bad, &printable(why));
        command.line(&format!("{}  {why}", printable(set)));
    }
    if stretches.is_empty() {
        command.line(&command.painted(Style::Doubtful, "nothing can be restored yet"));
    }
    for stretch in &stretches {
        command.line(&format!("every second from {} to {}", stretch.from, stretch.through));
    }
    Ok(0)
}

fn unreadable(error: &crate::sealed::RepositoryError) -> Failure {
    Failure::new("the repository can't be read").because(error)
}

pub(super) fn explain(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let wanted = name(matches).to_owned();
    let (stretches, copies) = with_repository(matches, command, |_, settings, repository| {
        Box::pin(async move {
            known(settings, &wanted)?;
            let catalog = Catalog::read(&repository, &wanted).await.map_err(|error| unreadable(&error))?;
            let stretches = restorable(&repository, &catalog).await.map_err(|error| unreadable(&error))?;
            let copies: Vec<String> =
                repository.copies().iter().map(|copy| format!("{} ({})", copy.name, copy.objects.place())).collect();
            Ok((stretches, copies))
        })
    })?;
    let now = command.now();
    let last = stretches.last();
    let lost = last.map(|last| now.since(last.through).max(Span::ZERO));
    if wants_json(matches) {
        let lost_s = lost.map(Span::secs);
        command.json(&json!({ "copies": copies, "restorable": stretches, "lost_s": lost_s, "now": now.to_rfc3339() }));
        return Ok(u8::from(last.is_none()));
    }
    let Some((last, lost)) = last.zip(lost) else {
        command.line(&command.painted(Style::Bad, "everything would be lost: there is no base yet"));
        return Ok(1);
    };
    command.line(&format!("If this host burnt now, {lost} would be lost: what was committed after {}.", last.through));
    command.line(&format!("What is left is at {}.", copies.join(", ")));
    command
        .line("A restore elsewhere needs the policy, the repository key, and the same major version of the database:");
    command.line(&format!(
        "  garant restore {} --to {} --into DIRECTORY --config garant.toml --key FILE",
        name(matches),
        last.through
    ));
    Ok(0)
}

pub(super) fn check(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let wanted = name(matches).to_owned();
    let watcher = command.watcher();
    let (read, wrong) = with_repository(matches, command, |_, settings, repository| {
        Box::pin(async move {
            known(settings, &wanted)?;
            let checked = crate::check::check(&repository, &wanted, &*watcher).await;
            checked.map_err(|error| unreadable(&error))
        })
    })?;
    if wants_json(matches) {
        command.json(&json!({ "bytes": read, "wrong": wrong }));
    } else {
        for wrong in &wrong {
            let wrong = command.painted(Style::Bad, &printable(wrong));
            command.line(&wrong);
        }
        let verdict = if wrong.is_empty() {
            command.painted(Style::Good, "all of it is whole at every copy")
        } else {
            command.painted(Style::Bad, &format!("{} things are wrong", wrong.len()))
        };
        command.line(&format!("{} were read: {verdict}", bytes(read)));
    }
    Ok(u8::from(!wrong.is_empty()))
}
