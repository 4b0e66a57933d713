//! The commands: `garant guard …`. They ask the agent of this host, with a server or without; `test` asks nobody.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, value_parser};
use engine::command::{Answer, CommandContext, Question, Style, count, list, network_of, text};
use engine::printable::text as printable;
use engine::{Command, Failure};
use event::Span;
use serde_json::Value;

use crate::act::shown;
use crate::door::{API, BANS_SHOWN, BanOrder};

mod import;
mod trial;

/// How long a ban lasts that somebody orders without saying.
const BAN: &str = "1 h";

/// The status of an answer that a ban can't be ended.
const CONFLICT: u16 = 409;

/// The status of an answer that did not come in time.
const LATE: u16 = 504;

/// Why nobody is dropped by what was ordered.
const SIMULATED: &str = "`simulate = true` in [guard]; it is in force once that is gone";

/// All of them.
pub fn commands() -> Vec<Command> {
    let agent = Arg::new("agent")
        .long("agent")
        .value_name("SOCKET")
        .global(true)
        .value_parser(value_parser!(PathBuf))
        .help("The socket of the agent, where it is not the one of this host");
    let arguments = clap::Command::new("guard")
        .about("Log detection and bans on this host; works without a server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(agent)
        .subcommand(
            clap::Command::new("status").about("Show what is read, what is banned and what is wrong").arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("reload")
                .about("Read the configuration of fail2ban and the lists again")
                .arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("bans").about("List the bans, and which of them are not in force").arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("ban")
                .about("Ban an address or a network from all ports")
                .arg(address().required(true))
                .arg(
                    Arg::new("for")
                        .long("for")
                        .value_name("TIME")
                        .default_value(BAN)
                        .help("How long: `10 min`, `1 d`, or `ever`"),
                )
                .arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("unban")
                .about("End bans: of an address or a network, or all of them")
                .arg(address())
                .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).help("All bans"))
                .group(ArgGroup::new("whom").args(["address", "all"]).required(true))
                .arg(
                    Arg::new("forget")
                        .long("forget")
                        .action(ArgAction::SetTrue)
                        .help("Forget the history as well: the next ban is a first one"),
                )
                .arg(
                    Arg::new("yes")
                        .long("yes")
                        .action(ArgAction::SetTrue)
                        .help("End the bans of whole networks that the address is in as well"),
                )
                .arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("allow").about("Show who is never banned, and why").arg(json_flag()).subcommand(
                clap::Command::new("remove")
                    .about("Take off an address that was learned from a login: only later logins count")
                    .arg(Arg::new("address").value_name("ADDRESS").required(true).help("An address: 192.0.2.7"))
                    .arg(json_flag()),
            ),
        )
        .subcommand(import::arguments())
        .subcommand(trial::arguments());
    vec![Command { arguments, run }]
}

fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("status", matches)) => status(matches, context),
        Some(("bans", matches)) => bans(matches, context),
        Some(("reload", matches)) => reload(matches, context),
        Some(("ban", matches)) => ban(matches, context),
        Some(("unban", matches)) => unban(matches, context),
        Some(("allow", matches)) => allow(matches, context),
        Some(("import", matches)) => import::run(matches, context),
        Some(("test", matches)) => trial::run(matches, context),
        _ => Ok(2),
    }
}

fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Write JSON instead of text")
}

fn address() -> Arg {
    Arg::new("address").value_name("ADDRESS").help("An address, or a network: 192.0.2.7, 2001:db8::/48")
}

/// What to say where something may not have been done: of an answer that is late it is not known.
fn failed<'a>(answer: &Answer, not_done: &'a str) -> &'a str {
    match answer.status {
        LATE => {
            "it is not known whether that is done: see `garant guard status` and `garant guard bans` before doing it again"
        }
        _ => not_done,
    }
}

/// The socket that the user names.
fn agent(matches: &ArgMatches) -> Option<&Path> {
    matches.get_one::<PathBuf>("agent").map(PathBuf::as_path)
}

fn wants_json(matches: &ArgMatches) -> bool {
    matches.get_flag("json")
}

/// Whether what was done drops nobody, because of `simulate`.
fn is_simulated(done: &Value) -> bool {
    done.get("enforced").and_then(Value::as_bool) == Some(false)
}

fn status(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let answer = context.ask_agent(agent(matches), Question::get(API).segment("status"))?;
    let status: Value = answer.accepted("the guard does not say how it is doing")?.json()?;
    if wants_json(matches) {
        context.json(&status);
        return Ok(0);
    }
    let is_enforced = status.get("enforced").and_then(Value::as_bool).unwrap_or(false);
    let is_simulated = status.get("simulated").and_then(Value::as_bool).unwrap_or(false);
    let state = match (is_enforced, is_simulated) {
        (true, _) => context.painted(Style::Good, "bans are in force"),
        (false, true) => context.painted(Style::Doubtful, "simulation: nobody is dropped, bans are only recorded"),
        (false, false) => context.painted(Style::Bad, "bans are not in force"),
    };
    let bans = count(&status, "bans");
    let bans = if is_simulated {
        let (simulated, recorded) = (count(&status, "bans_simulated"), count(&status, "simulated_since_start"));
        let waiting = if bans == 1 { "1 ban waits".to_owned() } else { format!("{bans} bans wait") };
        format!("{waiting}, {simulated} simulated, {recorded} recorded")
    } else {
        format!("{bans} now, {} made", count(&status, "bans_since_start"))
    };
    context.line(&format!(
        "{state}: {bans} and {} lines read since {}",
        count(&status, "lines"),
        text(&status, "since")
    ));
    for impaired in list(&status, "impaired") {
        let what = context.painted(Style::Bad, &printable(text(impaired, "what")));
        context.line(&format!("  {what}: {}", printable(text(impaired, "reason"))));
    }
    on_ban(&status, context);
    let (listed, left_out) = (count(&status, "listed_networks"), count(&status, "listed_networks_left_out"));
    if listed > 0 || left_out > 0 {
        context.line(&format!("{listed} networks of lists are banned, {left_out} are left out"));
    }
    let rules = list(&status, "rules");
    let width = rules.iter().map(|rule| text(rule, "rule").len()).max().unwrap_or(0).max(4);
    if !rules.is_empty() {
        context.line(&format!("{:width$}  {:>9}  {:>9}  {:>7}", "rule", "failures", "offences", "banned"));
    }
    for rule in rules {
        context.line(&format!(
            "{:width$}  {:>9}  {:>9}  {:>7}",
            text(rule, "rule"),
            count(rule, "failures"),
            count(rule, "offences"),
            count(rule, "banned") + count(rule, "simulated")
        ));
    }
    for log in list(&status, "logs") {
        // Whoever may make a file in a directory of logs chooses its name.
        context.line(&format!("reads {}", printable(log.as_str().unwrap_or_default())));
    }
    Ok(0)
}

/// What the program of `on_ban` is still to be told, and what it did not do.
fn on_ban(status: &Value, context: &mut dyn CommandContext) {
    let Some(on_ban) = status.get("on_ban").filter(|on_ban| on_ban.is_object()) else { return };
    let (waiting, under_way, failing) =
        (count(on_ban, "waiting"), count(on_ban, "under_way"), count(on_ban, "failing"));
    if waiting + under_way + failing > 0 {
        context.line(&format!("on_ban: {waiting} wait, {under_way} under way, {failing} failed"));
    }
    for failed in list(on_ban, "failed") {
        let is_given_up = failed.get("given_up").and_then(Value::as_bool).unwrap_or(false);
        let next = if is_given_up { "not tried any more" } else { "tried again" };
        let what =
            format!("{} {} {}", text(failed, "action"), text(failed, "address"), printable(text(failed, "rule")));
        let what = context.painted(Style::Bad, &what);
        let tries = count(failed, "tries");
        context.line(&format!("  {what}: failed {tries} times, {next}: {}", printable(text(failed, "reason"))));
    }
    if let Some(reason) = on_ban.get("unwritten").and_then(Value::as_str) {
        context.line(&format!("  on_ban: what it was told is not written down yet: {}", printable(reason)));
    }
}

fn bans(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let mut bans: Vec<Value> = Vec::new();
    loop {
        let question = Question::get(API).segment("bans").parameter("offset", &bans.len().to_string());
        let answer = context.ask_agent(agent(matches), question)?;
        let more: Vec<Value> = answer.accepted("the guard does not say whom it has banned")?.json()?;
        let is_last = more.len() < BANS_SHOWN;
        bans.extend(more);
        if is_last {
            break;
        }
    }
    if wants_json(matches) {
        context.json(&Value::Array(bans));
        return Ok(0);
    }
    if bans.is_empty() {
        context.line("nobody is banned");
    }
    let width = bans.iter().map(|ban| text(ban, "address").len()).max().unwrap_or(0);
    for ban in &bans {
        let until = ban.get("until").and_then(Value::as_str);
        let until = until.map_or_else(|| "for ever".to_owned(), |until| format!("until {until}"));
        let again = match count(ban, "count") {
            0 => String::new(),
            times => format!(", banned {times} times before"),
        };
        let ports = match text(ban, "ports") {
            "all" => String::new(),
            ports => format!(", {ports}"),
        };
        let offenders: Vec<&str> = list(ban, "offenders").iter().filter_map(Value::as_str).collect();
        let offenders = match (offenders.len(), count(ban, "offenders_count")) {
            (0, _) => String::new(),
            (named, all) if u64::try_from(named).is_ok_and(|named| named < all) => {
                format!(", for {} and others, {all} in all", offenders.join(", "))
            }
            _ => format!(", for {}", offenders.join(", ")),
        };
        let in_force = ban.get("in_force").and_then(Value::as_bool).unwrap_or(true);
        let is_simulated = ban.get("simulated").and_then(Value::as_bool).unwrap_or(false);
        let force = match (in_force, is_simulated) {
            (true, _) => "",
            (false, true) => ", simulated",
            (false, false) => ", not in force",
        };
        context.line(&format!(
            "{:width$}  {}  since {}  {until}{again}{ports}{offenders}{force}",
            text(ban, "address"),
            text(ban, "rule"),
            text(ban, "since")
        ));
    }
    Ok(0)
}

fn reload(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let answer = context.ask_agent(agent(matches), Question::post(API).segment("reload").json(&())?)?;
    let failed = failed(&answer, "nothing was read again");
    let done: Value = answer.accepted(failed)?.json()?;
    if wants_json(matches) {
        context.json(&done);
    } else {
        list(&done, "notes").iter().filter_map(Value::as_str).for_each(|note| context.note(&printable(note)));
    }
    let mistakes: Vec<&str> = list(&done, "mistakes").iter().filter_map(Value::as_str).collect();
    if !mistakes.is_empty() {
        if wants_json(matches) {
            return Ok(1);
        }
        return Err(
            Failure::new("not all that the guard is to follow can be read").because(&Failure::new(mistakes.join("\n")))
        );
    }
    if !wants_json(matches) {
        context.line("the configuration is read again; `garant guard status` says what is followed");
    }
    Ok(0)
}

fn ban(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let written = matches.get_one::<String>("address").map_or("", String::as_str);
    let network = network_of(written).ok_or_else(|| no_address(written))?;
    let lasts = matches.get_one::<String>("for").map_or(BAN, String::as_str);
    let lasts: Option<Span> = match lasts {
        "ever" => None,
        text => Some(Span::parse(text).map_err(|_| {
            Failure::new(format!("`{text}` is no time")).remedy("write it like `10 min`, `1 d`, or `ever`").code(2)
        })?),
    };
    let question = Question::post(API).segment("bans").json(&BanOrder { network, lasts })?;
    let answer = context.ask_agent(agent(matches), question)?;
    let not_done = format!("{} was not banned", shown(network));
    let failed = failed(&answer, &not_done);
    let done: Value = answer.accepted(failed)?.json()?;
    if wants_json(matches) {
        context.json(&done);
    } else {
        let until = done.get("until").and_then(Value::as_str);
        let until = until.map_or_else(|| "for ever".to_owned(), |until| format!("until {until}"));
        let address = text(&done, "address");
        if is_simulated(&done) {
            context.line(&format!("{address} is recorded as banned {until}, and not dropped: {SIMULATED}"));
        } else {
            context.line(&format!("{address} is banned {until}"));
        }
    }
    Ok(0)
}

fn no_address(written: &str) -> Failure {
    Failure::new(format!("`{written}` is no address and no network"))
        .remedy("write it like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48")
        .code(2)
}

fn unban(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let question = Question::new(engine::door::Method::Delete, API).segment("bans");
    let written = matches.get_one::<String>("address");
    let question = match written {
        Some(written) => question.segment(&network_of(written).ok_or_else(|| no_address(written))?.to_string()),
        None => question,
    };
    let question = if matches.get_flag("forget") { question.parameter("forget", "true") } else { question };
    let question = if matches.get_flag("yes") { question.parameter("around", "true") } else { question };
    let answer = context.ask_agent(agent(matches), question)?;
    let failed = match written {
        Some(written) if answer.status == CONFLICT => format!("{written} is still banned"),
        _ => "it is not known who was unbanned: see `garant guard bans`".to_owned(),
    };
    let done: Value = answer.accepted(&failed)?.json()?;
    if wants_json(matches) {
        context.json(&done);
    } else {
        match count(&done, "unbanned") {
            0 => context.line("nobody was banned there"),
            1 => context.line("1 ban is over"),
            bans => context.line(&format!("{bans} bans are over")),
        }
    }
    for still in ["around", "listed"] {
        if let (Some(written), Some(why)) = (written, done.get(still).and_then(Value::as_str)) {
            context.note(&format!("{written} is still banned: {why}"));
        }
    }
    if let Some(reason) = done.get("unwritten").and_then(Value::as_str) {
        context.note(&format!(
            "that is not on the disk yet, and is written as soon as it can be; an agent that starts before bans again: {reason}"
        ));
    }
    Ok(0)
}

fn allow(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    if let Some(("remove", matches)) = matches.subcommand() {
        return disown(matches, context);
    }
    let answer = context.ask_agent(agent(matches), Question::get(API).segment("allow"))?;
    let allowed: Value = answer.accepted("the guard does not say who is never banned")?.json()?;
    if wants_json(matches) {
        context.json(&allowed);
        return Ok(0);
    }
    for network in allowed.as_array().into_iter().flatten() {
        context.line(&format!("{}  {}", text(network, "network"), text(network, "why")));
    }
    context.note("add more with `allow` in [guard]; every session and every login with a key is found by itself");
    Ok(0)
}

fn disown(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let written = matches.get_one::<String>("address").map_or("", String::as_str);
    let address = written.parse::<IpAddr>().map_err(|_| {
        Failure::new(format!("`{written}` is no address")).remedy("write one that `garant guard allow` shows").code(2)
    })?;
    let question = Question::new(engine::door::Method::Delete, API).segment("allow").segment(&address.to_string());
    let answer = context.ask_agent(agent(matches), question)?;
    let not_done = format!("{address} was not taken off");
    let failed = failed(&answer, &not_done);
    let done: Value = answer.accepted(failed)?.json()?;
    if wants_json(matches) {
        context.json(&done);
    } else if done.get("removed").and_then(Value::as_bool) == Some(true) {
        context.line(&format!("{address} is taken off; a login that comes later puts it on again"));
    } else {
        context.line(&format!("{address} was not learned from a login"));
    }
    if let Some(why) = done.get("allowed").and_then(Value::as_str) {
        context.note(&format!("{address} is still never banned: it is {why}"));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an answer that is late, nobody says that nothing was done.
    #[test]
    fn what_is_late_is_not_said_to_be_undone() {
        let answer = |status| Answer { status, body: br#"{"error":"x"}"#.to_vec().into() };
        for (status, is_known) in [(503, true), (409, true), (504, false)] {
            let answer = answer(status);
            assert_eq!(failed(&answer, "nobody was banned") == "nobody was banned", is_known, "{status}");
        }
    }
}
