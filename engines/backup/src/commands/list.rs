//! `garant backup list`, `explain` and `check`: read the repository itself.

use std::sync::Arc;

use clap::ArgMatches;
use engine::command::{CommandContext, Style};
use engine::printable::text as printable;
use engine::{Context, Failure};
use event::{Span, Time};
use serde_json::json;

use super::show::{self, Item};
use super::{bytes, json_flag, known, name, name_argument, policy_flags, reading_flag, wants_json, with_repository};
use crate::config::{PlaceSettings, SAME_HOST, Settings};
use crate::elsewhere::is_of_this_host;
use crate::files::{Share, Snapshot};
use crate::restorable::{Restorable, restorable};
use crate::sealed::{Catalog, Repository};
use crate::sources;

pub(super) fn arguments() -> clap::Command {
    reading_flag(policy_flags(
        clap::Command::new("list").about("List bases, snapshots and logs, and what can be restored"),
    ))
    .arg(name_argument().required(false).help("The backup, as the policy calls it; all of them unless said"))
    .arg(json_flag())
}

pub(super) fn explain_arguments() -> clap::Command {
    policy_flags(clap::Command::new("explain").about("Say what would be lost if this host burnt now"))
        .arg(name_argument())
        .arg(json_flag())
}

pub(super) fn check_arguments() -> clap::Command {
    reading_flag(policy_flags(
        clap::Command::new("check").about("Compare the copies, and read every base and the log of a backup again"),
    ))
    .arg(name_argument())
    .arg(json_flag())
}

/// What is listed of one backup.
struct Listed {
    backup: String,
    catalog: Catalog,
    stretches: Vec<Restorable>,
    snapshots: Option<Vec<Snapshot>>,
    /// For `--json`.
    items: Vec<Item>,
}

pub(super) fn list(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let (wanted, is_json) = (matches.get_one::<String>("name").cloned(), wants_json(matches));
    let is_named = wanted.is_some();
    let (listed, copies) = with_repository(matches, command, |context, settings, repository| {
        Box::pin(async move {
            let names: Vec<String> = match wanted {
                Some(name) => known(settings, &name).map(|()| vec![name])?,
                None => settings.backups().map(|(name, ..)| name.to_owned()).collect(),
            };
            let mut listed = Vec::new();
            for backup in names {
                let catalog = Catalog::read(&repository, &backup).await.map_err(|error| unreadable(&error))?;
                let stretches = restorable(&repository, &catalog).await.map_err(|error| unreadable(&error))?;
                let is_of_files = settings.files.iter().any(|files| files.name == backup);
                let snapshots = snapshots(context, settings, &repository, &backup).await?;
                let snapshots = is_of_files.then_some(snapshots);
                let items = if is_json {
                    show::items(settings, &repository, &catalog, &stretches, &backup, snapshots.as_deref()).await?
                } else {
                    Vec::new()
                };
                listed.push(Listed { backup, catalog, stretches, snapshots, items });
            }
            let copies: Vec<String> = repository.copies().iter().map(|copy| copy.name.clone()).collect();
            Ok((listed, copies))
        })
    })?;
    if is_json {
        let items: Vec<&Item> = listed.iter().flat_map(|listed| &listed.items).collect();
        command.json(&json!(items));
        return Ok(0);
    }
    for listed in &listed {
        if !is_named {
            command.line(&command.painted(Style::Strong, &listed.backup));
        }
        match &listed.snapshots {
            Some(snapshots) => write_snapshots(snapshots, command),
            None => write_bases(&listed.catalog, &copies, command),
        }
        if listed.stretches.is_empty() && listed.snapshots.as_ref().is_none_or(Vec::is_empty) {
            let none = if listed.catalog.unreadable.is_empty() {
                "nothing can be restored yet"
            } else {
                "nothing can be restored"
            };
            command.line(&command.painted(Style::Doubtful, none));
        }
        for stretch in &listed.stretches {
            command.line(&match stretch.to_come() {
                Some(first) => format!("every second from {first} on, once the log has come as far"),
                None => format!("every second from {} to {}", stretch.from, stretch.through),
            });
        }
    }
    let is_unreadable = |listed: &Listed| listed.catalog.sets.is_empty() && !listed.catalog.unreadable.is_empty();
    Ok(u8::from(listed.iter().any(is_unreadable)))
}

fn write_bases(catalog: &Catalog, copies: &[String], command: &mut dyn CommandContext) {
    for set in &catalog.sets {
        let at: Vec<&str> = set.copies.iter().filter_map(|copy| copies.get(*copy)).map(String::as_str).collect();
        let size = set.manifest.size();
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
}

fn write_snapshots(snapshots: &[Snapshot], command: &mut dyn CommandContext) {
    for snapshot in snapshots {
        let short = snapshot.id.get(..8).unwrap_or(&snapshot.id);
        let lacks = snapshot.lacks.as_ref().map(|_| command.painted(Style::Bad, "  incomplete")).unwrap_or_default();
        let size = bytes(snapshot.bytes);
        command.line(&format!("{short}  {}  {:>9} files  {size:>9}{lacks}", snapshot.at, snapshot.files));
    }
}

/// The snapshots of files, the oldest first; those of a database are none.
pub(super) async fn snapshots(
    context: &Context,
    settings: &Settings,
    repository: &Arc<Repository>,
    wanted: &str,
) -> Result<Vec<Snapshot>, Failure> {
    let Some(files) = settings.files.iter().find(|files| files.name == wanted) else { return Ok(Vec::new()) };
    let snapshots = sources::files(files).snapshots(context, repository).await;
    snapshots.map_err(|error| unreadable(&error))
}

pub(super) fn unreadable(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new("the repository can't be read").because(error)
}

/// What can be restored of a backup, of a database or of files, the oldest first.
async fn stretches(
    context: &Context,
    settings: &Settings,
    repository: &Arc<Repository>,
    wanted: &str,
) -> Result<Vec<Restorable>, Failure> {
    let catalog = Catalog::read(repository, wanted).await.map_err(|error| unreadable(&error))?;
    let mut stretches = restorable(repository, &catalog).await.map_err(|error| unreadable(&error))?;
    let snapshots = snapshots(context, settings, repository, wanted).await?;
    stretches.extend(snapshots.into_iter().map(|it| Restorable::instant(it.at)));
    Ok(stretches)
}

/// What would be left at one copy.
struct Left {
    name: String,
    place: String,
    /// Whether it is on a disk of this host.
    burns: bool,
    has: Result<Vec<Restorable>, Failure>,
}

impl Left {
    /// The newest instant that this copy alone can be restored to.
    fn through(&self) -> Result<Option<Time>, &Failure> {
        self.has.as_ref().map(|stretches| stretches.iter().map(|stretch| stretch.through).max())
    }

    /// Whether it alone can be restored to every instant that all copies together can be restored to.
    fn has_all(&self, together: &[Restorable]) -> bool {
        let is_in =
            |it: &Restorable, own: &Restorable| own.log == it.log && own.from <= it.from && own.through >= it.through;
        self.has.as_ref().is_ok_and(|own| together.iter().all(|it| own.iter().any(|own| is_in(it, own))))
    }

    fn json(&self, together: &[Restorable]) -> serde_json::Value {
        let (through, error) = match self.through() {
            Ok(through) => (through, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let through = through.map(Time::to_rfc3339);
        let all = self.has_all(together);
        let (name, place, burns) = (&self.name, &self.place, self.burns);
        json!({ "name": name, "place": place, "burns": burns, "through": through, "all": all, "error": error })
    }
}

pub(super) fn explain(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let wanted = name(matches).to_owned();
    let (stretches, copies) = with_repository(matches, command, |context, settings, repository| {
        Box::pin(async move {
            known(settings, &wanted)?;
            // Together they may have more than any of them; where none can be read, the first cause says why. Before each of them: what an
            // agent brings meanwhile is no lack.
            let together = stretches(context, settings, &repository, &wanted).await?;
            let mut copies = Vec::new();
            for (at, copy) in repository.copies().iter().enumerate() {
                let has = stretches(context, settings, &Arc::new(repository.only(at)), &wanted).await;
                let directory = settings.copies.iter().find(|it| it.name == copy.name).and_then(|it| match &it.place {
                    PlaceSettings::Directory(path) => Some(path),
                    PlaceSettings::S3(_) => None,
                });
                let burns = match directory {
                    Some(path) => is_of_this_host(path).await,
                    None => false,
                };
                copies.push(Left { name: copy.name.clone(), place: copy.objects.place().to_owned(), burns, has });
            }
            Ok((together, copies))
        })
    })?;
    let now = command.now();
    // What counts is what is elsewhere.
    let left = copies.iter().filter(|copy| !copy.burns).filter_map(|copy| copy.through().ok().flatten()).max();
    let lost = left.map(|left| now.since(left).max(Span::ZERO).coarse());
    if wants_json(matches) {
        let lost_s = lost.map(Span::secs);
        let copies: Vec<serde_json::Value> = copies.iter().map(|copy| copy.json(&stretches)).collect();
        let unproven = json!([{ "promise": "BK-9", "reason": "same host" }]);
        command.json(&json!({
            "copies": copies, "restorable": stretches, "lost_s": lost_s, "now": now.to_rfc3339(), "unproven": unproven
        }));
        return Ok(u8::from(lost.is_none()));
    }
    let Some(last) = stretches.last() else {
        command.line(&command.painted(Style::Bad, "everything would be lost: there is no backup yet"));
        return Ok(1);
    };
    if let Some((left, lost)) = left.zip(lost) {
        command.line(&format!("If this host burnt now, {lost} would be lost: what came after {left}."));
    } else {
        let words = "If this host burnt now, everything would be lost: what there is is on its own disks.";
        command.line(&command.painted(Style::Bad, words));
    }
    for copy in &copies {
        let has = match copy.through() {
            Ok(Some(_)) if copy.has_all(&stretches) => command.painted(Style::Good, "has all that there is"),
            Ok(Some(through)) if through >= last.through => {
                let wanted = name(matches);
                let words = format!(
                    "reaches {through}, and lacks what others have of before: see `garant backup check {wanted}`"
                );
                command.painted(Style::Doubtful, &words)
            }
            Ok(Some(through)) => command.painted(Style::Doubtful, &format!("alone reaches {through}")),
            Ok(None) => command.painted(Style::Bad, "has nothing that can be restored"),
            Err(error) => command.painted(Style::Bad, &printable(&format!("can't be read: {error}"))),
        };
        let burns = if copy.burns { ", on a disk of this host," } else { "" };
        command.line(&format!("  {} ({}){burns} {has}", copy.name, copy.place));
    }
    command
        .line("A restore elsewhere needs the policy and the repository key, and of a database the same major version:");
    command.line(&format!(
        "  garant restore {} --to {} --into DIRECTORY --policy garant.toml --key FILE",
        name(matches),
        last.through
    ));
    command.line(&format!("Beside this, {SAME_HOST}."));
    Ok(u8::from(lost.is_none()))
}

pub(super) fn check(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let wanted = name(matches).to_owned();
    let watcher = command.watcher();
    let (read, wrong) = with_repository(matches, command, |context, settings, repository| {
        Box::pin(async move {
            known(settings, &wanted)?;
            if let Some(files) = settings.files.iter().find(|files| files.name == wanted) {
                let checked = sources::files(files).check(context, &repository, Share::All, &*watcher).await;
                let checked = checked.map_err(|error| unreadable(&error))?;
                let mut wrong: Vec<String> =
                    checked.findings.iter().map(|finding| format!("{}: {}", finding.copy, finding.what)).collect();
                let more = checked.wrong.saturating_sub(checked.findings.len() as u64);
                wrong.extend((more > 0).then(|| format!("and {more} more")));
                return Ok((format!("{} snapshots, at all copies together,", checked.snapshots), wrong));
            }
            let checked = crate::check::check(&repository, &wanted, settings.keep, &*watcher).await;
            let (read, wrong) = checked.map_err(|error| unreadable(&error))?;
            Ok((bytes(read), wrong))
        })
    })?;
    if wants_json(matches) {
        command.json(&json!({ "read": read, "wrong": wrong }));
    } else {
        for wrong in &wrong {
            let wrong = command.painted(Style::Bad, &printable(wrong));
            command.line(&wrong);
        }
        let verdict = match wrong.len() {
            0 => command.painted(Style::Good, "all of it is whole at every copy"),
            1 => command.painted(Style::Bad, "one thing is wrong"),
            count => command.painted(Style::Bad, &format!("{count} things are wrong")),
        };
        command.line(&format!("{read} were read: {verdict}"));
    }
    Ok(u8::from(!wrong.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BK-8: a copy that reaches the end has not all where a piece of its log is missing before that.
    #[test]
    fn a_copy_with_a_gap_has_not_all() {
        let stretch = |from: i64, through: i64| {
            let (from, through) = (Time::from_secs(from), Time::from_secs(through));
            Restorable { log: Some("shop".to_owned()), from, through, log_through: through }
        };
        let has_all = |own: Vec<Restorable>| {
            Left { name: "near".to_owned(), place: "/near".to_owned(), burns: false, has: Ok(own) }
                .has_all(&[stretch(10, 90)])
        };
        assert!(has_all(vec![stretch(10, 90)]) && has_all(vec![stretch(5, 95)]));
        assert!(!has_all(vec![stretch(10, 40), stretch(60, 90)]), "there is a gap");
        assert!(!has_all(vec![stretch(20, 90)]), "the oldest base is missing");
        assert!(!has_all(vec![Restorable { log: Some("another".to_owned()), ..stretch(10, 90) }]));
        assert!(!has_all(Vec::new()));
    }
}
