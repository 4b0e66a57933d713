//! The commands: `garant gate …`. They ask the gate of this host, with a server or without; `check` asks it only where it
//! listens, and `selftest` asks nobody.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use engine::command::{CommandContext, Question, Style, count, is_set, list, network_of, text};
use engine::door::Method;
use engine::{Command, Failure, succession};
use ipnet::IpNet;
use serde_json::Value;

use crate::door::{API, CloseOrder};

mod check;
mod selftest;

/// The status of an answer before it is known whether another process takes the place of the gate.
const STARTS_STILL: u16 = 504;

/// All of them.
pub fn commands() -> Vec<Command> {
    let socket = Arg::new("gate")
        .long("gate")
        .value_name("SOCKET")
        .global(true)
        .value_parser(value_parser!(PathBuf))
        .help("The socket of the gate, where it is not the one of this host");
    let site = || Arg::new("site").value_name("SITE").required(true).help("The domain of the site: shop.example");
    let upstream = || {
        Arg::new("upstream")
            .value_name("UPSTREAM")
            .required(true)
            .value_parser(value_parser!(SocketAddr))
            .help("Its address and port: 10.1.0.10:8080")
    };
    let arguments = clap::Command::new("gate")
        .about("Run the gate in front of the sites, told what to do by a server; or ask the one that runs")
        .arg(socket)
        .subcommand(check::arguments())
        .subcommand(
            clap::Command::new("status")
                .about("Show each upstream: its state, why, and what it was sent; exit code 1 while one is not used")
                .arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("close")
                .about("Let nobody into a site, and nobody stay, at once and until it is opened")
                .arg(site())
                .arg(
                    Arg::new("except")
                        .long("except")
                        .value_name("RANGE")
                        .action(ArgAction::Append)
                        .help("But an address or a network: 203.0.113.0/24; may be given more than once"),
                )
                .arg(json_flag()),
        )
        .subcommand(clap::Command::new("open").about("Take back that a site was closed").arg(site()).arg(json_flag()))
        .subcommand(
            clap::Command::new("drain")
                .about("Give an upstream no new requests, and let those under way end; until `resume`, over reloads and restarts")
                .arg(upstream())
                .arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("resume")
                .about("Give an upstream that was drained requests again")
                .arg(upstream())
                .arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("upgrade")
                .about("Have the gate start the program that lies on its disk now, which takes its place without losing a request")
                .arg(json_flag()),
        )
        .subcommand(selftest::arguments());
    vec![Command { arguments, run }]
}

fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("check", matches)) => check::run(matches, context),
        Some(("status", matches)) => status(matches, context),
        Some(("close", matches)) => close(matches, context),
        Some(("open", matches)) => open(matches, context),
        Some(("drain", matches)) => drain(matches, context, Method::Post),
        Some(("resume", matches)) => drain(matches, context, Method::Delete),
        Some(("upgrade", matches)) => upgrade(matches, context),
        Some(("selftest", matches)) => selftest::run(matches, context),
        _ => Ok(2),
    }
}

fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Write JSON instead of text")
}

fn socket(matches: &ArgMatches) -> Option<&Path> {
    matches.get_one::<PathBuf>("gate").map(PathBuf::as_path)
}

fn site(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("site").map_or("", String::as_str)
}

fn status(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let answer = context.ask_gate(socket(matches), Question::get(API).segment("status"))?;
    let status: Value = answer.accepted("the gate does not say how it is")?.json()?;
    let upstreams = || list(&status, "sites").iter().flat_map(|site| list(site, "upstreams"));
    let is_well = list(&status, "problems").is_empty() && upstreams().all(|upstream| text(upstream, "state") == "up");
    if matches.get_flag("json") {
        context.json(&status);
        return Ok(u8::from(!is_well));
    }
    if !is_set(&status, "desired") {
        context.line("The gate has no site: it waits for a server to say what it is to do.");
        return Ok(0);
    }
    for listener in list(&status, "listeners") {
        let what = if is_set(listener, "tls") { "https" } else { "http" };
        context.line(&format!("{what} at {}", text(listener, "address")));
    }
    for site in list(&status, "sites") {
        let closed = closed(site).map(|closed| format!(", {}", context.painted(Style::Doubtful, &closed)));
        let closed = closed.unwrap_or_default();
        let name = context.painted(Style::Strong, text(site, "site"));
        let (requests, failed) = (count(site, "requests"), count(site, "failed"));
        context.line(&format!("{name}{closed}: {requests} requests, {failed} failed"));
        for line in site.get("served").map(served).unwrap_or_default() {
            context.line(&format!("  {line}"));
        }
        for upstream in list(site, "upstreams") {
            let state = text(upstream, "state");
            let style = match state {
                "up" => Style::Good,
                "returning" | "drained" => Style::Doubtful,
                _ => Style::Bad,
            };
            let region = upstream.get("region").and_then(Value::as_str).map(|region| format!(" in {region}"));
            let state = context.painted(style, state);
            context.line(&format!(
                "  {} {}{} {state}: {}; {} requests, {} failed, {} retried elsewhere",
                text(upstream, "path"),
                text(upstream, "upstream"),
                region.unwrap_or_default(),
                text(upstream, "reason"),
                count(upstream, "requests"),
                count(upstream, "failed"),
                count(upstream, "retried"),
            ));
        }
    }
    for problem in list(&status, "problems").iter().filter_map(Value::as_str) {
        context.note(problem);
    }
    Ok(u8::from(!is_well))
}

/// How a site was really served, in lines.
fn served(served: &Value) -> Vec<String> {
    let part = |key: &str| served.get(key).filter(|part| !part.is_null());
    let mut lines = Vec::new();
    if let Some(tls) = part("tls") {
        let requests = tls.get("requests").and_then(Value::as_object).into_iter().flatten();
        let requests =
            requests.filter_map(|(version, count)| Some((version, count.as_u64().filter(|count| *count > 0)?)));
        let requests: Vec<_> = requests.map(|(version, count)| format!("{count} over {version}")).collect();
        let seen = if requests.is_empty() { "no request yet".to_owned() } else { requests.join(", ") };
        lines.push(format!("TLS {} or newer: {seen}", text(tls, "lowest_allowed")));
    }
    if let Some(certificate) = part("certificate") {
        let problem = text(certificate, "problem");
        let ends = match certificate.get("days_left").and_then(Value::as_i64) {
            None => problem.to_owned(),
            Some(-1) => "less than a day over".to_owned(),
            Some(days @ ..=-2) => format!("{} over", in_days(-days - 1)),
            Some(days) => format!("{} left", in_days(days)),
        };
        let wrong = if problem.is_empty() || ends == problem {
            String::new()
        } else {
            format!("; no browser takes it: {problem}")
        };
        lines.push(format!("certificate: {ends}{wrong}"));
    }
    if let Some(clear) = part("clear") {
        let sent = match (is_set(clear, "redirects_to_https"), count(clear, "redirected")) {
            (true, sent) => format!("{sent} sent to https, "),
            (false, _) => String::new(),
        };
        lines.push(format!("in clear: {sent}{} requests", count(clear, "requests")));
    }
    if let Some(headers) = part("headers") {
        let hsts = headers.get("hsts").and_then(Value::as_str).unwrap_or("not said by the gate");
        let (all, lacking) = (count(headers, "all"), count(headers, "lacking"));
        lines.push(format!("fields for browsers: all on {all} of {} replies; HSTS {hsts}", all + lacking));
    }
    lines
}

fn in_days(days: i64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

/// That a site is closed, by what, and whom it lets in all the same.
fn closed(site: &Value) -> Option<String> {
    let strings = |key| list(site, key).iter().filter_map(Value::as_str).collect::<Vec<_>>();
    let (by, except) = (strings("closed_by"), strings("closed_except"));
    let command = match &except[..] {
        [] => "by `garant gate close`".to_owned(),
        except => format!("by `garant gate close` but for {}", except.join(", ")),
    };
    match &by[..] {
        [] => None,
        ["policy"] => Some("closed to visitors by the policy".to_owned()),
        ["command"] => Some(format!("closed to visitors {command}")),
        _ => Some(format!("closed to visitors by the policy, and {command}")),
    }
}

fn close(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let ranges = matches.get_many::<String>("except").into_iter().flatten();
    let except = ranges.map(|text| range(text)).collect::<Result<Vec<_>, _>>()?;
    let question = Question::post(API).segment("closed").segment(site(matches)).json(&CloseOrder { except })?;
    told(matches, context, question, "the site is not closed")
}

fn open(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let question = Question::new(Method::Delete, API).segment("closed").segment(site(matches));
    told(matches, context, question, "the site is not opened")
}

fn drain(matches: &ArgMatches, context: &mut dyn CommandContext, method: Method) -> Result<u8, Failure> {
    let upstream = matches.get_one::<SocketAddr>("upstream").map(ToString::to_string).unwrap_or_default();
    let question = Question::new(method, API).segment("drained").segment(&upstream);
    let answer = context.ask_gate(socket(matches), question)?;
    let done: Value = answer.accepted("the upstream is used as before")?.json()?;
    let code = warn_unless_kept(&done, context);
    if matches.get_flag("json") {
        context.json(&done);
        return Ok(code);
    }
    context.line(&match (is_set(&done, "drained"), count(&done, "in_flight")) {
        (false, _) => format!("{upstream} gets requests again."),
        (true, 0) if is_set(&done, "came_after") => {
            format!("{upstream} gets no requests any more, and none is under way from this process.")
        }
        (true, 0) => format!("{upstream} gets no requests any more, and none is under way."),
        (true, under_way) => {
            format!("{upstream} gets no requests any more; {under_way} under way go on: see `garant gate status`.")
        }
    });
    say_of_the_one_before(&done, context);
    Ok(code)
}

fn upgrade(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let answer = context.ask_gate(socket(matches), Question::post(succession::API))?;
    // The new process starts still, and may serve, or fail, after this.
    let is_open = answer.status == STARTS_STILL;
    let outcome =
        if is_open { "it is not known yet which process the gate will be" } else { "the gate is the one of before" };
    let done: Value = answer.accepted(outcome)?.json()?;
    if matches.get_flag("json") {
        context.json(&done);
        return Ok(0);
    }
    context.line(&format!(
        "Process {} has taken the place of the gate; the one before ends with its last connection.",
        count(&done, "pid")
    ));
    Ok(0)
}

/// Says that what was done is not on the disk, where it is not; the exit code.
fn warn_unless_kept(done: &Value, context: &mut dyn CommandContext) -> u8 {
    if is_set(done, "kept") {
        return 0;
    }
    let beside = if is_set(done, "came_after") {
        "; nor does a process whose place this one has taken, if one still runs, hear of it before"
    } else {
        ""
    };
    context.note(&format!(
        "it can't be written to the disk of the gate: until it is, which `garant gate status` shows and which is tried again, a \
         restart of the gate forgets it{beside}"
    ));
    1
}

/// How soon it holds at a process that ends still what it had begun.
fn say_of_the_one_before(done: &Value, context: &mut dyn CommandContext) {
    if is_set(done, "came_after") && is_set(done, "kept") {
        context.line("A process whose place this one has taken, if one still runs, follows within two seconds.");
    }
}

fn told(
    matches: &ArgMatches,
    context: &mut dyn CommandContext,
    question: Question,
    otherwise: &str,
) -> Result<u8, Failure> {
    let done: Value = context.ask_gate(socket(matches), question)?.accepted(otherwise)?.json()?;
    let code = warn_unless_kept(&done, context);
    if matches.get_flag("json") {
        context.json(&done);
        return Ok(code);
    }
    let name = text(&done, "site");
    let except: Vec<&str> = list(&done, "except").iter().filter_map(Value::as_str).collect();
    context.line(&match (is_set(&done, "closed"), is_set(&done, "closed_by_policy"), &except[..]) {
        (false, false, _) => format!("{name} is open."),
        (false, true, _) => {
            format!("No command closes {name} any more; the policy still does: remove `closed = true` from its [[site]], and reload.")
        }
        (true, _, []) => format!("{name} is closed: everybody is answered 403, and who is connected is cut off."),
        (true, false, except) => {
            format!("{name} is closed: all are answered 403 but {}, and who is connected is cut off.", except.join(", "))
        }
        (true, true, except) => format!(
            "{name} is closed by the policy, which lets nobody in; once it does not, all are answered 403 but {}.",
            except.join(", ")
        ),
    });
    say_of_the_one_before(&done, context);
    Ok(code)
}

fn range(text: &str) -> Result<IpNet, Failure> {
    network_of(text).ok_or_else(|| {
        Failure::new(format!("`{text}` is no address and no network")).remedy("write it like 203.0.113.0/24").code(2)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_a_site_was_served_is_said_in_lines() {
        let clear = json!({ "redirects_to_https": false, "redirected": 0, "requests": 3 });
        let of_clear = json!({ "tls": null, "certificate": null, "clear": clear, "headers": null });
        assert_eq!(served(&of_clear), ["in clear: 3 requests"]);
        let expired = json!({
            "tls": { "lowest_allowed": "1.2", "lowest_seen": null, "requests": { "below 1.2": 0, "1.2": 0, "1.3": 0 } },
            "certificate": { "until": 0, "days_left": -2, "problem": "it has expired" },
            "clear": { "redirects_to_https": true, "redirected": 1, "requests": 2 },
            "headers": { "all": 1, "lacking": 2, "hsts": null },
        });
        let expected = [
            "TLS 1.2 or newer: no request yet",
            "certificate: 1 day over; no browser takes it: it has expired",
            "in clear: 1 sent to https, 2 requests",
            "fields for browsers: all on 1 of 3 replies; HSTS not said by the gate",
        ];
        assert_eq!(served(&expired), expected);
        for (left, said) in [(14, "14 days left"), (1, "1 day left"), (0, "0 days left"), (-1, "less than a day over")]
        {
            let good = json!({ "certificate": { "until": 0, "days_left": left, "problem": null } });
            assert_eq!(served(&good), [format!("certificate: {said}")]);
        }
        let none = json!({ "certificate": { "until": null, "days_left": null, "problem": "there is none" } });
        assert_eq!(served(&none), ["certificate: there is none"]);
    }
}
