//! `garant backup show`: one base, snapshot or log, with all that is known of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::{Arg, ArgMatches};
use engine::command::{CommandContext, Style};
use engine::printable::text as printable;
use engine::{Context, Failure};
use event::{Span, Time};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::list::{snapshots, unreadable};
use super::{bytes, json_flag, known, name, name_argument, policy_flags, wants_json, with_repository};
use crate::config::Settings;
use crate::database::PieceHead;
use crate::files::Snapshot;
use crate::restorable::{Restorable, restorable};
use crate::sealed::{Catalog, Repository, SetEntry};

/// How many bases or snapshots are asked at once for their locks.
const AT_ONCE: usize = 16;
/// The word for the log instead of a base.
const LOG: &str = "log";

/// What is shown of one base, snapshot or log.
#[derive(Clone, Serialize)]
struct Shown {
    id: String,
    name: String,
    kind: String,
    /// What made it, and its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// When it was begun; of a log, the first instant that can be restored.
    #[serde(serialize_with = "as_text")]
    from: Option<Time>,
    /// The instant that it shows; of a log, up to when everything is in it.
    #[serde(serialize_with = "as_text")]
    to: Option<Time>,
    /// Files of a snapshot, pieces of a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    size_bytes: Option<u64>,
    /// As it is stored at one copy; `None` where it is shared with others.
    stored_bytes: Option<u64>,
    copies: Vec<AtCopy>,
    /// Before this time nothing of it is destroyed.
    #[serde(serialize_with = "as_text")]
    kept_until: Option<Time>,
    /// What it can't be restored without: the bases below it, the nearest first.
    depends_on: Vec<String>,
    /// The bases that can't be restored without it.
    needed_by: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// What is wrong with it.
    wrong: Vec<String>,
}

/// How it is at one copy.
#[derive(Clone, Serialize)]
struct AtCopy {
    name: String,
    is_whole: bool,
    /// Until when nobody can delete it there; `None` where nothing is locked.
    #[serde(serialize_with = "as_text")]
    locked_until: Option<Time>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde calls it")]
fn as_text<S: serde::Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(Time::to_rfc3339).serialize(serializer)
}

/// What `list --json` has of one base, snapshot, or stretch of a log.
#[derive(Serialize, Debug)]
pub(super) struct Item {
    id: String,
    name: String,
    /// `full`, `incremental`, `snapshot`, `log`, or `unreadable`.
    kind: String,
    /// When a base was begun; the first instant of a log that can be restored; the instant of a snapshot.
    #[serde(serialize_with = "as_text")]
    from: Option<Time>,
    /// The instant that it shows; of a log, the last that can be restored.
    #[serde(serialize_with = "as_text")]
    to: Option<Time>,
    size_bytes: Option<u64>,
    stored_bytes: Option<u64>,
    /// The copies where it is whole.
    copies: Vec<String>,
    /// Until when nobody can delete it at one of them at least; `None` where nothing is locked, or a copy does not say.
    #[serde(serialize_with = "as_text")]
    locked_until: Option<Time>,
    /// What is wrong with it.
    wrong: Vec<String>,
}

impl From<Shown> for Item {
    fn from(shown: Shown) -> Self {
        let Shown { id, name, kind, from, to, size_bytes, stored_bytes, mut wrong, copies, .. } = shown;
        let locked_until = copies.iter().filter_map(|copy| copy.locked_until).max();
        let errors = copies.iter().filter_map(|copy| Some(format!("{}: {}", copy.name, copy.error.as_ref()?)));
        wrong.extend(errors);
        let copies = copies.into_iter().filter(|copy| copy.is_whole).map(|copy| copy.name).collect();
        Self { id, name, kind, from: from.or(to), to, size_bytes, stored_bytes, copies, locked_until, wrong }
    }
}

/// Everything that there is of a backup, for `list --json`: bases or snapshots, then the stretches of its logs, then what can't be read.
///
/// # Errors
/// The repository can't be read.
pub(super) async fn items(
    settings: &Settings,
    repository: &Arc<Repository>,
    catalog: &Catalog,
    stretches: &[Restorable],
    backup: &str,
    snapshots: Option<&[Snapshot]>,
) -> Result<Vec<Item>, Failure> {
    let kept = kept(settings, backup);
    if let Some(snapshots) = snapshots {
        let all: Vec<_> = snapshots.iter().map(|it| of_files(repository, backup, it.clone(), kept)).collect();
        return Ok(stream::iter(all).buffered(AT_ONCE).map(Item::from).collect().await);
    }
    let all: Vec<_> = catalog.sets.iter().map(|set| of_base(repository, catalog, set, kept)).collect();
    let mut items: Vec<Item> = stream::iter(all).buffered(AT_ONCE).map(Item::from).collect().await;
    let logs: BTreeSet<&String> = stretches.iter().filter_map(|stretch| stretch.log.as_ref()).collect();
    for log in logs {
        let shown = of_log(repository, catalog, stretches, (backup, log), kept).await?;
        for stretch in stretches.iter().filter(|stretch| stretch.log.as_ref() == Some(log)) {
            items.push(Shown { from: Some(stretch.from), to: Some(stretch.through), ..shown.clone() }.into());
        }
    }
    items.extend(catalog.unreadable.iter().map(|(set, why)| Item {
        id: set.clone(),
        name: backup.to_owned(),
        kind: "unreadable".to_owned(),
        from: None,
        to: None,
        size_bytes: None,
        stored_bytes: None,
        copies: Vec::new(),
        locked_until: None,
        wrong: vec![why.clone()],
    }));
    Ok(items)
}

/// For how long everything of a backup is kept behind its instant.
fn kept(settings: &Settings, backup: &str) -> Span {
    let of_files = settings.files.iter().find(|files| files.name == backup).map(|files| files.every);
    let of_database = || settings.databases().find(|(name, _)| *name == backup).map(|(_, every)| every);
    settings.keep + of_files.or_else(of_database).unwrap_or(Span::ZERO)
}

pub(super) fn arguments() -> clap::Command {
    let set = Arg::new("set").value_name("SET").help(
        "A base, or the first digits of a snapshot, as `list` shows them; `log` for the log. The newest unless said",
    );
    policy_flags(clap::Command::new("show").about("Show one base, snapshot or log: when, how large, where, until when"))
        .arg(name_argument())
        .arg(set)
        .arg(json_flag())
}

pub(super) fn run(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let wanted = name(matches).to_owned();
    let set = matches.get_one::<String>("set").cloned();
    let shown = with_repository(matches, command, |context, settings, repository| {
        Box::pin(async move {
            known(settings, &wanted)?;
            find(context, settings, &repository, &wanted, set.as_deref()).await
        })
    })?;
    let is_well = shown.wrong.is_empty() && shown.copies.iter().all(|copy| copy.is_whole);
    if wants_json(matches) {
        let value = serde_json::to_value(&shown).map_err(|error| Failure::new("no JSON").because(&error))?;
        command.json(&value);
    } else {
        write(&shown, command);
    }
    Ok(u8::from(!is_well))
}

fn write(shown: &Shown, command: &mut dyn CommandContext) {
    let title = command.painted(Style::Strong, &printable(&shown.id));
    command.line(&format!("{title}  {} of {}", shown.kind, shown.name));
    let mut line = |what: &str, text: String| command.line(&format!("  {what:12} {text}"));
    let is_log = shown.kind == LOG;
    if let Some(by) = &shown.by {
        line("by", printable(by).into_owned());
    }
    if let Some(from) = shown.from {
        line(if is_log { "from" } else { "begun" }, from.to_string());
    }
    if let Some(to) = shown.to {
        line(if is_log { "to" } else { "shows" }, to.to_string());
    }
    let count = shown.count.map(|count| format!(" in {count} {}", if is_log { "pieces" } else { "files" }));
    match (shown.size_bytes, shown.stored_bytes) {
        (Some(size), Some(stored)) => line("size", format!("{}, stored {}", bytes(size), bytes(stored))),
        (Some(size), None) => line("size", format!("{}{}", bytes(size), count.unwrap_or_default())),
        (None, Some(stored)) => line("size", format!("stored {}{}", bytes(stored), count.unwrap_or_default())),
        (None, None) => {}
    }
    for copy in &shown.copies {
        let state = match (copy.is_whole, copy.locked_until, &copy.error) {
            (_, _, Some(error)) => printable(error).into_owned(),
            (false, ..) => "not all there".to_owned(),
            (true, Some(until), _) => format!("all there, locked until {until}"),
            (true, None, _) => "all there, nothing is locked".to_owned(),
        };
        line(&format!("at {}", copy.name), state);
    }
    if let Some(until) = shown.kept_until {
        line("kept until", format!("{until} at least"));
    }
    for base in &shown.depends_on {
        line("depends on", base.clone());
    }
    for base in &shown.needed_by {
        line("needed by", base.clone());
    }
    if let Some(log) = &shown.log {
        line(LOG, format!("{log} goes on from it"));
    }
    for wrong in &shown.wrong {
        let wrong = command.painted(Style::Bad, &printable(wrong));
        command.line(&format!("  {:12} {wrong}", "wrong"));
    }
}

async fn find(
    context: &Context,
    settings: &Settings,
    repository: &Arc<Repository>,
    backup: &str,
    set: Option<&str>,
) -> Result<Shown, Failure> {
    let none =
        |what: String| Failure::new(what).remedy(format!("`garant backup list {backup}` shows what there is")).code(2);
    let kept = kept(settings, backup);
    if settings.files.iter().any(|files| files.name == backup) {
        let all = snapshots(context, settings, repository, backup).await?;
        let found: Vec<Snapshot> = match set {
            None => all.into_iter().next_back().into_iter().collect(),
            Some(set) => all.into_iter().filter(|snapshot| snapshot.id.starts_with(set)).collect(),
        };
        let mut found = found.into_iter();
        return match (found.next(), found.next()) {
            (Some(snapshot), None) => Ok(of_files(repository, backup, snapshot, kept).await),
            (Some(_), Some(_)) => Err(none("more than one snapshot begins like that".to_owned())),
            (None, _) => Err(none("there is no such snapshot".to_owned())),
        };
    }
    let catalog = Catalog::read(repository, backup).await.map_err(|error| unreadable(&error))?;
    if set == Some(LOG) {
        let log = catalog.sets.iter().rev().find_map(|set| set.manifest.log.clone());
        let log = log.ok_or_else(|| none("there is no base yet, and no log behind one".to_owned()))?;
        let stretches = restorable(repository, &catalog).await.map_err(|error| unreadable(&error))?;
        return of_log(repository, &catalog, &stretches, (backup, &log), kept).await;
    }
    let found = match set {
        None => catalog.sets.last(),
        Some(wanted) => catalog.sets.iter().find(|entry| entry.manifest.set == wanted),
    };
    if let Some((_, why)) = catalog.unreadable.iter().find(|(unreadable, _)| Some(unreadable.as_str()) == set) {
        return Err(Failure::new(format!("the manifest of this base can't be read: {why}")));
    }
    let found = found.ok_or_else(|| none("there is no such base".to_owned()))?;
    Ok(of_base(repository, &catalog, found, kept).await)
}

async fn of_base(repository: &Repository, catalog: &Catalog, entry: &SetEntry, kept: Span) -> Shown {
    let manifest = &entry.manifest;
    let parent_of = |set: &str| catalog.sets.iter().find(|it| it.manifest.set == set)?.manifest.parent.clone();
    let mut depends_on: Vec<String> = Vec::new();
    let mut next = manifest.parent.clone();
    while let Some(parent) = next.filter(|parent| !depends_on.contains(parent)) {
        next = parent_of(&parent);
        depends_on.push(parent);
    }
    let lacking = depends_on.iter().filter(|base| !catalog.sets.iter().any(|set| set.manifest.set == **base));
    let wrong = lacking.map(|base| format!("the base {base} below it is not there")).collect();
    let needed_by: BTreeSet<String> = catalog
        .sets
        .iter()
        .filter(|set| set.manifest.parent.as_ref() == Some(&manifest.set))
        .map(|set| set.manifest.set.clone())
        .collect();
    let folder = format!("sets/{}/{}", manifest.backup, manifest.set);
    let ends = [format!("keys/{folder}"), format!("{folder}/manifest")];
    Shown {
        id: manifest.set.clone(),
        name: manifest.backup.clone(),
        kind: manifest.kind.clone(),
        by: Some(format!("{} {}", manifest.engine, manifest.engine_version)),
        from: Some(manifest.began_at),
        to: Some(manifest.consistent_at),
        count: None,
        size_bytes: Some(manifest.size()),
        stored_bytes: Some(entry.stored),
        copies: at_copies(repository, &ends, |copy| entry.copies.contains(&copy)).await,
        kept_until: Some(manifest.began_at + kept),
        depends_on,
        needed_by: needed_by.into_iter().collect(),
        log: manifest.log.clone(),
        wrong,
    }
}

async fn of_log(
    repository: &Arc<Repository>,
    catalog: &Catalog,
    stretches: &[Restorable],
    (backup, log): (&str, &str),
    kept: Span,
) -> Result<Shown, Failure> {
    let pieces = catalog.all_pieces(log).await.map_err(|error| unreadable(&error))?;
    let (first, last) = (pieces.first(), pieces.last());
    let stretches: Vec<&Restorable> = stretches.iter().filter(|it| it.log.as_deref() == Some(log)).collect();
    let mut wrong = Vec::new();
    for gap in stretches.windows(2) {
        if let [before, after] = gap
            && before.has_gap_before(after)
        {
            wrong.push(format!("what lies between {} and {} can't be restored", before.through, after.from));
        }
    }
    let to = stretches.last().map(|stretch| stretch.through);
    if let Some(last) = last {
        let head = repository.fetch_head(&last.folder, &last.name.to_string()).await;
        let head = head.map_err(|error| unreadable(&error))?;
        let end = serde_json::from_slice::<PieceHead>(&head).ok().map(|head| head.through);
        if let Some((end, to)) = end.zip(to).filter(|(end, to)| end > to) {
            wrong.push(format!("it goes on to {end}, and what lies behind {to} can't be restored"));
        }
    }
    // The newest may be on its way to one of them.
    let settled = pieces.get(..pieces.len().saturating_sub(1)).unwrap_or_default();
    let lacks = |copy: usize| settled.iter().filter(|piece| !piece.copies.contains(&copy)).count();
    let ends: Vec<String> =
        [first, last].into_iter().flatten().map(|piece| format!("{}/{}", piece.folder, piece.name)).collect();
    for (at, copy) in repository.copies().iter().enumerate() {
        let lacking = lacks(at);
        if lacking > 0 {
            wrong.push(format!("{} lacks {lacking} of its {} pieces", copy.name, pieces.len()));
        }
    }
    Ok(Shown {
        id: log.to_owned(),
        name: backup.to_owned(),
        kind: LOG.to_owned(),
        by: None,
        from: stretches.first().map(|stretch| stretch.from),
        to,
        count: Some(pieces.len() as u64),
        size_bytes: None,
        stored_bytes: Some(pieces.iter().map(|piece| piece.stored).sum()),
        copies: at_copies(repository, &ends, |copy| lacks(copy) == 0).await,
        kept_until: to.map(|to| to + kept),
        depends_on: Vec::new(),
        needed_by: Vec::new(),
        log: None,
        wrong,
    })
}

async fn of_files(repository: &Repository, backup: &str, snapshot: Snapshot, kept: Span) -> Shown {
    let object = format!("restic/{backup}/snapshots/{}", snapshot.id);
    let mut holding = BTreeSet::new();
    for (at, copy) in repository.copies().iter().enumerate() {
        if matches!(copy.objects.size(&object).await, Ok(Some(_))) {
            holding.insert(at);
        }
    }
    let Snapshot { id, at, files, bytes, lacks, .. } = snapshot;
    Shown {
        id,
        name: backup.to_owned(),
        kind: "snapshot".to_owned(),
        by: None,
        from: None,
        to: Some(at),
        count: Some(files),
        size_bytes: Some(bytes),
        // What is the same in several snapshots is stored once.
        stored_bytes: None,
        copies: at_copies(repository, &[object], |copy| holding.contains(&copy)).await,
        kept_until: Some(at + kept),
        depends_on: Vec::new(),
        needed_by: Vec::new(),
        log: None,
        wrong: lacks.map(|lacks| format!("it lacks: {lacks}")).into_iter().collect(),
    }
}

/// How the object is at each copy: the first of these locks that ends.
async fn at_copies(repository: &Repository, objects: &[String], is_whole: impl Fn(usize) -> bool) -> Vec<AtCopy> {
    let mut copies = Vec::new();
    for (at, copy) in repository.copies().iter().enumerate() {
        let mut shown = AtCopy { name: copy.name.clone(), is_whole: is_whole(at), locked_until: None, error: None };
        let mut ends = Vec::new();
        for object in objects.iter().filter(|_| shown.is_whole) {
            match copy.objects.locked_until(object).await {
                Ok(until) => ends.push(until),
                Err(error) => shown.error = Some(error.to_string()),
            }
        }
        // One that is not locked leaves the whole unlocked; None is the least.
        shown.locked_until = ends.into_iter().min().flatten();
        copies.push(shown);
    }
    copies
}
