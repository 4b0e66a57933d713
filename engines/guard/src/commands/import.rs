//! `garant guard import`: explains what becomes of a configuration of fail2ban, and takes over its bans and their history.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use engine::Failure;
use engine::command::{CommandContext, Question, Style};
use event::Time;
use ipnet::IpNet;
use serde_json::{Value, json};
use store::fail2ban::{Fail2banBan, Fail2banBans, Fail2banError};

use super::{agent, count, json_flag, wants_json};
use crate::door::{API, IMPORTED_MAX, ImportedBan, network_of};
use crate::fail2ban::{ImportLine, ImportReport, Services, import_report, read_jails};
use crate::plan::Plan;

/// The beginning of the year 3000, in seconds since 1970.
const YEAR_3000_S: i64 = 32_503_680_000;

/// Bans that are handed to the agent at once; each is some hundred bytes, and a question has a bound.
const IMPORTED_AT_ONCE: usize = 20_000;

pub(super) fn arguments() -> clap::Command {
    clap::Command::new("import")
        .about("Explain what becomes of a configuration of fail2ban, and take over its bans")
        .long_about(
            "Reads a configuration of fail2ban as it is, and says what is taken over, what changes and what is refused, each with \
             its file and line. Then takes over the bans that are in force, and the history of addresses that were banned before, \
             from the database of fail2ban. Run as root, while fail2ban still runs or after it was stopped; nothing of it is changed.",
        )
        .arg(
            Arg::new("folder")
                .value_name("DIR")
                .default_value("/etc/fail2ban")
                .value_parser(value_parser!(PathBuf))
                .help("The configuration of fail2ban"),
        )
        .arg(
            Arg::new("database")
                .long("database")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help(format!("Its database; {} unless given", store::fail2ban::DEBIAN_PATH)),
        )
        .arg(Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help("Explain only: no ban is taken over"))
        .arg(json_flag())
}

pub(super) fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let folder = matches.get_one::<PathBuf>("folder").cloned().unwrap_or_default();
    let jails = read_jails(&folder).map_err(|error| {
        Failure::new(format!("the configuration of fail2ban in {} can't be read", folder.display())).because(&error)
    })?;
    let services = Services::parse(&std::fs::read_to_string("/etc/services").unwrap_or_default());
    let mut report = import_report(&jails, &services);
    for refused in Plan::refused(&jails, context.now()) {
        let name = refused.what.trim_start_matches("jail ").to_owned();
        report.maps.retain(|line| line.jail != name);
        report.changes.retain(|line| line.jail != name);
        report.refused.push(ImportLine {
            jail: name,
            place: None,
            what: format!("the jail is not followed: {}", refused.reason),
        });
    }
    let is_dry = matches.get_flag("dry-run");
    if !wants_json(matches) {
        explain(&report, context);
    }
    let named = matches.get_one::<PathBuf>("database");
    let database = named.map_or_else(|| Path::new(store::fail2ban::DEBIAN_PATH), PathBuf::as_path);
    let bans = match store::fail2ban::read(database) {
        Ok(bans) => Some(bans),
        // Somebody who never had a database is told so; one that is named must be there.
        Err(Fail2banError::Missing(path)) if named.is_none() => {
            context.note(&format!("there is no database of fail2ban at {}: no ban is taken over", path.display()));
            None
        }
        Err(error) => return Err(Failure::new("the bans of fail2ban can't be read").because(&error)),
    };
    let taken = bans.map(|bans| take(matches, context, &bans, is_dry)).transpose()?;
    if wants_json(matches) {
        let report = serde_json::to_value(&report)
            .map_err(|error| Failure::new("the report can't be written as JSON").because(&error))?;
        context.json(&json!({ "configuration": report, "bans": taken }));
    }
    Ok(0)
}

fn explain(report: &ImportReport, context: &mut dyn CommandContext) {
    for (title, style, lines) in [
        ("taken over as it is", Style::Good, &report.maps),
        ("taken over, and different", Style::Doubtful, &report.changes),
        ("not taken over", Style::Bad, &report.refused),
    ] {
        if lines.is_empty() {
            continue;
        }
        let title = context.painted(style, title);
        context.line(&format!("{title}:"));
        for line in lines {
            let place = line.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
            context.line(&format!("  {}: {}{place}", line.jail, line.what));
        }
    }
    for note in &report.notes {
        context.note(&note.to_string());
    }
    if report.maps.is_empty() {
        context.line("no jail is enabled: nothing would be read");
    }
}

/// Takes over the bans and their history; what became of them.
fn take(
    matches: &ArgMatches,
    context: &mut dyn CommandContext,
    bans: &Fail2banBans,
    is_dry: bool,
) -> Result<Value, Failure> {
    let now = context.now();
    let mut nameless = 0_u64;
    let mut imported: BTreeMap<(String, IpNet), ImportedBan> = BTreeMap::new();
    for ban in bans.last.iter().chain(&bans.history).take(IMPORTED_MAX) {
        let Some(network) = network_of(&ban.ip) else {
            nameless += 1;
            continue;
        };
        let taken = imported_ban(ban, network);
        // The newest comes first; its count has all the others.
        imported
            .entry((ban.jail.clone(), network))
            .and_modify(|known| known.count = known.count.max(taken.count))
            .or_insert(taken);
    }
    let in_force = imported.values().filter(|ban| ban.until.is_none_or(|until| until > now)).count();
    let say = |context: &mut dyn CommandContext, text: &str| {
        if !wants_json(matches) {
            context.line(text);
        }
    };
    if bans.passed_over > 0 || nameless > 0 {
        let rows = bans.passed_over + nameless;
        context.note(&format!("{rows} rows of the database name no address that can be banned, and are left out"));
    }
    if is_dry {
        say(
            context,
            &format!(
                "{in_force} bans are in force, of {} addresses that were banned; none is taken over",
                imported.len()
            ),
        );
        return Ok(json!({ "in_force": in_force, "known": imported.len(), "taken": 0 }));
    }
    let imported: Vec<ImportedBan> = imported.into_values().collect();
    let (mut taken, mut known, mut ended, mut spared) = (0, 0, 0, 0);
    for some in imported.chunks(IMPORTED_AT_ONCE) {
        let answer = context.ask_agent(agent(matches), Question::post(API).segment("import").json(&some)?)?;
        let done: Value = answer.accepted("the bans were not taken over, or not all of them: run it again")?.json()?;
        taken += count(&done, "taken");
        known += count(&done, "known");
        ended += count(&done, "ended");
        spared += count(&done, "spared");
    }
    say(
        context,
        &format!(
            "{taken} bans are taken over; {known} were in force already, {ended} were over, {spared} are of addresses that are never banned"
        ),
    );
    Ok(json!({ "taken": taken, "known": known, "ended": ended, "spared": spared }))
}

fn imported_ban(ban: &Fail2banBan, network: IpNet) -> ImportedBan {
    let since = Time::from_secs(ban.time_of_ban);
    // What ends after everybody is for ever.
    let end = ban.time_of_ban.saturating_add(ban.ban_time);
    let until = (ban.ban_time >= 0 && end < YEAR_3000_S).then(|| Time::from_secs(end));
    let rule = engine::printable::text(&ban.jail).into_owned();
    ImportedBan { network, rule, since, until, count: ban.ban_count }
}
