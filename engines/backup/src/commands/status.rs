//! `garant backup status` and `run`: ask the agent.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches};
use engine::Failure;
use engine::command::{CommandContext, Question, Style, list, text};
use engine::printable::text as printable;
use event::Time;
use serde_json::Value;

use super::{agent_flag, bytes, json_flag, name, name_argument, wants_json};
use crate::door::{API, Wish};

pub(super) fn arguments() -> clap::Command {
    clap::Command::new("status")
        .about("Show how each backup stands, and what is being done")
        .arg(agent_flag())
        .arg(json_flag())
}

pub(super) fn run_arguments() -> clap::Command {
    clap::Command::new("run")
        .about("Take a full base, or make a restore test, now")
        .arg(name_argument())
        .arg(
            Arg::new("kind")
                .value_name("KIND")
                .value_parser(["full", "restore"])
                .default_value("full")
                .help("What to do"),
        )
        .arg(agent_flag())
        .arg(json_flag())
}

fn agent(matches: &ArgMatches) -> Option<&Path> {
    matches.get_one::<PathBuf>("agent").map(PathBuf::as_path)
}

pub(super) fn status(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let answer = context.ask_agent(agent(matches), Question::get(API).segment("status"))?;
    let status: Value = answer.accepted("the backup engine does not say how it is doing")?.json()?;
    let failing = list(&status, "backups").iter().flat_map(|backup| list(backup, "kinds"));
    let failing = failing.filter(|kind| kind.get("error").is_some_and(Value::is_string)).count();
    let is_whole = |backup: &Value| backup.get("check").is_none_or(|check| list(check, "wrong").is_empty());
    let is_well = failing == 0
        && list(&status, "backups").iter().all(is_whole)
        && ["copies_wrong", "copies_elsewhere", "slots_left"].iter().all(|key| list(&status, key).is_empty());
    if wants_json(matches) {
        context.json(&status);
        return Ok(u8::from(!is_well));
    }
    for backup in list(&status, "backups") {
        let name = context.painted(Style::Strong, text(backup, "name"));
        context.line(&name);
        for kind in list(backup, "kinds") {
            let state = match (kind.get("error").and_then(Value::as_str), text(kind, "succeeded")) {
                (Some(error), _) => context.painted(Style::Bad, &printable(error)),
                (None, "") => context.painted(Style::Doubtful, "not yet"),
                (None, at) => context.painted(Style::Good, &format!("up to {at}")),
            };
            let due = match text(kind, "due") {
                "" => String::new(),
                due if Time::parse_rfc3339(due).is_some_and(|due| due <= context.now()) => ", next one due".to_owned(),
                due => format!(", next at {due}"),
            };
            context.line(&format!("  {:12} {state}{due}", text(kind, "kind")));
            if let Some(doing) = kind.get("doing").filter(|doing| doing.is_object()) {
                let done = doing.get("done").and_then(Value::as_u64).unwrap_or(0);
                let of = doing.get("of").and_then(Value::as_u64).map(|of| format!(" of {}", bytes(of)));
                let step = printable(text(doing, "step"));
                context.line(&format!("  {:12} {step}: {}{}", "", bytes(done), of.unwrap_or_default()));
            }
            for note in list(kind, "notes") {
                context.line(&format!("  {:12} {}", "", printable(note.as_str().unwrap_or_default())));
            }
        }
        if let Some(check) = backup.get("check").filter(|check| check.is_object()) {
            checked(check, context);
        }
        if let Some(broken) = backup.get("log_broken").and_then(Value::as_str) {
            let broken = context.painted(Style::Bad, &printable(broken));
            context.line(&format!("  {broken}"));
        }
        if let Some(wrong) = backup.get("canary_wrong").and_then(Value::as_str) {
            let wrong = context.painted(Style::Bad, &printable(wrong));
            context.line(&format!("  no canary row is committed: {wrong}"));
        }
    }
    for left in list(&status, "slots_left") {
        let left = context.painted(Style::Bad, &printable(left.as_str().unwrap_or_default()));
        context.line(&left);
    }
    if let Some(warning) = status.get("key_warning").and_then(Value::as_str) {
        let warning = context.painted(Style::Doubtful, &printable(warning));
        context.line(&format!("key: {warning}"));
    }
    for (key, style) in [
        ("copies_wrong", Style::Bad),
        ("copies_elsewhere", Style::Bad),
        ("copies_together", Style::Doubtful),
        ("copies_unknown", Style::Doubtful),
        ("copies_lack", Style::Doubtful),
    ] {
        for wrong in list(&status, key) {
            let wrong = context.painted(style, &printable(wrong.as_str().unwrap_or_default()));
            context.line(&format!("copies: {wrong}"));
        }
    }
    Ok(u8::from(!is_well))
}

/// When the last check was made, and what it found.
fn checked(check: &Value, context: &mut dyn CommandContext) {
    let (wrong, unseen) = (list(check, "wrong"), list(check, "unseen"));
    let at = match text(check, "at") {
        "" => context.painted(Style::Doubtful, "not yet"),
        at if wrong.is_empty() => context.painted(Style::Good, &format!("whole at {at}")),
        at => context.painted(Style::Bad, &format!("not whole at {at}")),
    };
    let of = check.get("of").and_then(Value::as_u64).unwrap_or(0);
    let parts = check.get("parts").and_then(Value::as_object).into_iter().flatten();
    let parts: Vec<String> = parts.map(|(copy, part)| format!("{copy} {part}")).collect();
    let parts = if parts.is_empty() { String::new() } else { format!(", share of {of}: {}", parts.join(", ")) };
    context.line(&format!("  {:12} {at}{parts}", "check"));
    for wrong in wrong {
        let wrong = context.painted(Style::Bad, &printable(wrong.as_str().unwrap_or_default()));
        context.line(&format!("  {:12} {wrong}", ""));
    }
    for unseen in unseen {
        context.line(&format!("  {:12} not looked at: {}", "", printable(unseen.as_str().unwrap_or_default())));
    }
}

pub(super) fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let kind = matches.get_one::<String>("kind").map_or("full", String::as_str);
    let wish = Wish::Run { name: name(matches).to_owned(), kind: kind.to_owned() };
    let question = Question::post(API).segment("run").json(&wish)?;
    let answer: Value = context.ask_agent(agent(matches), question)?.accepted("it is not begun")?.json()?;
    if wants_json(matches) {
        context.json(&answer);
    } else {
        let what = if kind == "restore" { "a restore test" } else { "a full base" };
        context.line(&format!("{what} of {} is begun; `garant backup status` shows how far it is", name(matches)));
    }
    Ok(0)
}
