//! The commands: `alerts`, `alert`, `oncall`, `notify`, `hold`, `release`.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use engine::command::{Answer, CommandContext, Question, Style};
use engine::{Command, Failure};
use serde_json::{Value, json};

use crate::detect::silence::Matcher;
use crate::door::{ALERTS, HOLDS, NOTIFY, ON_CALL, SILENCES};

/// How long `garant notify test` waits for the channels, and how often it looks.
const TEST_LOOKS: u32 = 60;
const TEST_LOOK_EVERY: Duration = Duration::from_millis(500);

/// Exit code of `alerts --exit-code` when something fires: 1 is a failure of the command itself.
const FIRES: u8 = 3;

/// All of them.
pub fn commands() -> Vec<Command> {
    vec![
        Command { arguments: alerts_arguments(), run: alerts },
        Command { arguments: alert_arguments(), run: alert },
        Command { arguments: on_call_arguments(), run: on_call },
        Command { arguments: notify_arguments(), run: notify },
        Command { arguments: hold_arguments(), run: hold },
        Command { arguments: release_arguments(), run: release },
    ]
}

fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Write JSON instead of text")
}

fn by_flag() -> Arg {
    Arg::new("by")
        .long("by")
        .value_name("PERSON")
        .help("Who does so, as the policy names them; the user of this terminal if absent")
}

/// The person who gives the command: as said, else the name of the user.
fn by(matches: &ArgMatches) -> String {
    let said = matches.get_one::<String>("by").cloned();
    let user = || ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    said.or_else(user).filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "team".to_owned())
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(value, |value, key| value.get(key)).and_then(Value::as_str).unwrap_or_default()
}

fn required<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

/// Prints a line, with its times in the zone of the policy.
fn say(context: &mut dyn CommandContext, text: &str) {
    let zone = context.zone().unwrap_or_default();
    // Each is one line, whatever a title from outside holds.
    context.line(&zone.of_text(&text.replace(['\n', '\r'], " ")));
}

/// Asks, and prints the answer as JSON where that is wanted.
fn ask(
    context: &mut dyn CommandContext,
    question: Question,
    what: &str,
    matches: &ArgMatches,
) -> Result<Option<Value>, Failure> {
    let answer: Answer = context.ask(question)?.accepted(what)?;
    let value: Value = answer.json()?;
    if matches.get_flag("json") {
        context.json(&value);
        return Ok(None);
    }
    Ok(Some(value))
}

fn alerts_arguments() -> clap::Command {
    clap::Command::new("alerts")
        .about("List the alerts that fire, and who was told")
        .long_about(
            "List the alerts that fire, and who was told.\n\nAlerts with one cause are one line: the others follow it. `--all` lists these too, \
             and what was over in the last day.",
        )
        .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).help("Also those that follow others, and those that are over"))
        .arg(
            Arg::new("exit-code").long("exit-code").action(ArgAction::SetTrue).help("Exit with 3 when something fires"),
        )
        .arg(json_flag())
}

fn alerts(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let question = Question::get(ALERTS);
    let question = if matches.get_flag("all") { question.parameter("all", "true") } else { question };
    let answer = context.ask(question)?.accepted("the alerts can't be listed")?;
    let list: Vec<Value> = answer.json()?;
    let firing = matches.get_flag("exit-code") && list.iter().any(|alert| text(alert, &["state"]) != "resolved");
    if matches.get_flag("json") {
        context.json(&Value::Array(list));
        return Ok(if firing { FIRES } else { 0 });
    }
    if list.is_empty() {
        let line = context.painted(Style::Good, "no alert fires");
        say(context, &line);
    }
    for alert in &list {
        for line in summary(alert, &|style, text| context.painted(style, text)) {
            say(context, &line);
        }
    }
    Ok(if firing { FIRES } else { 0 })
}

/// The lines about one alert.
fn summary(alert: &Value, painted: &dyn Fn(Style, &str) -> String) -> Vec<String> {
    let state = text(alert, &["state"]);
    let severity = text(alert, &["severity"]);
    let style = match (state, severity) {
        ("resolved", _) => Style::Good,
        (_, "critical") => Style::Bad,
        _ => Style::Doubtful,
    };
    let number = alert.get("id").and_then(Value::as_u64).unwrap_or_default();
    let mut word = format!("{state:12} {severity:8}");
    if alert.get("flapping") == Some(&Value::Bool(true)) {
        word = format!("{word} flapping");
    }
    let services =
        alert.get("scope").and_then(|scope| scope.get("services")).and_then(Value::as_array).map_or(0, Vec::len);
    let mut place = Vec::new();
    for (key, word) in [("region", "region"), ("host", "host")] {
        let name = text(alert, &["scope", key]);
        if !name.is_empty() {
            place.push(format!("{word} {name}"));
        }
    }
    if services > 1 {
        place.push(format!("{services} services"));
    }
    let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
    let since = match text(alert, &["until"]) {
        until if state == "resolved" && !until.is_empty() => format!("from {} to {until}", text(alert, &["since"])),
        _ => format!("since {}", text(alert, &["since"])),
    };
    let mut lines =
        vec![format!("{number:5}  {}  {}{place}, {since}", painted(style, &word), text(alert, &["title", "en"]))];
    let detail = text(alert, &["detail"]);
    if !detail.is_empty() {
        lines.push(format!("       {}", painted(Style::Faint, detail)));
    }
    if let Some(leader) = alert.get("inhibited_by").and_then(Value::as_u64) {
        lines.push(format!("       follows {leader}"));
    }
    let by = text(alert, &["acknowledged", "by"]);
    if !by.is_empty() {
        lines.push(format!("       acknowledged by {by}, until {}", text(alert, &["acknowledged", "until"])));
    }
    if alert.get("silenced_by").and_then(Value::as_array).is_some_and(|silences| !silences.is_empty()) {
        lines.push("       silenced".to_owned());
    }
    if alert.get("maintenance") == Some(&Value::Bool(true)) {
        lines.push("       under announced maintenance".to_owned());
    }
    let told = alert.get("notified").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if told.is_empty() && state == "firing" && alert.get("inhibited_by").is_none_or(Value::is_null) {
        lines.push(format!("       {}", painted(Style::Doubtful, "nobody was told yet")));
    }
    for told in told {
        let failure = text(told, &["failure"]);
        let failure = if failure.is_empty() { String::new() } else { format!(": {failure}") };
        let (person, channel) = (text(told, &["person"]), text(told, &["channel"]));
        lines.push(format!(
            "       {person} by {channel}: {} at {}{failure}",
            text(told, &["state"]).replace('_', " "),
            text(told, &["at"])
        ));
    }
    lines
}

fn id_argument() -> Arg {
    Arg::new("id").required(true).value_name("ID").help("The number of the alert, as `garant alerts` shows it")
}

fn alert_arguments() -> clap::Command {
    let for_flag = |help: &'static str| Arg::new("for").long("for").value_name("TIME").help(help);
    clap::Command::new("alert")
        .about("Show an alert, take it on, hand it over; silence alerts")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(clap::Command::new("show").about("Show an alert with those that follow it").arg(id_argument()).arg(json_flag()))
        .subcommand(
            clap::Command::new("ack")
                .about("Take an alert on: nobody else is told of it, until the acknowledgement expires")
                .arg(id_argument())
                .arg(for_flag("How long, such as \"2 h\"; what the policy says if absent"))
                .arg(by_flag())
                .arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("hand-over")
                .about("Hand an alert over to a person of the policy, who is told at once")
                .arg(id_argument())
                .arg(Arg::new("to").required(true).value_name("PERSON").help("Who has it from now on"))
                .arg(by_flag())
                .arg(json_flag()),
        )
        .subcommand(
            clap::Command::new("silence")
                .about("Silence the alerts that match, until the silence ends by itself")
                .arg(
                    Arg::new("matcher")
                        .required(true)
                        .num_args(1..)
                        .value_name("MATCHER")
                        .help("Labels that must hold: service=shop, host!=web-1, region=~\"a|b\"; of source, severity, service, probe, host, region, alertname"),
                )
                .arg(for_flag("How long, such as \"2 h\"").required(true))
                .arg(Arg::new("comment").long("comment").value_name("TEXT").help("Why"))
                .arg(by_flag())
                .arg(json_flag()),
        )
        .subcommand(clap::Command::new("silences").about("List the silences").arg(json_flag()))
        .subcommand(
            clap::Command::new("unsilence")
                .about("End a silence now")
                .arg(Arg::new("id").required(true).value_name("ID").help("Its identifier, as `garant alert silences` shows it"))
                .arg(json_flag()),
        )
}

/// Reads `name=value`, `name!=value`, `name=~expression`, `name!~expression`; the value may be quoted.
fn matcher(text: &str) -> Result<Value, Failure> {
    let found = Matcher::parse(text).ok_or_else(|| {
        Failure::new(format!("`{}` is not a matcher", text.escape_debug()))
            .remedy("write one like service=shop or region=~\"a|b\"")
    })?;
    Ok(json!(found))
}

fn alert(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(2) };
    match name {
        "show" => {
            let question = Question::get(ALERTS).segment(required(matches, "id"));
            let Some(value) = ask(context, question, "the alert can't be shown", matches)? else { return Ok(0) };
            for line in summary(&value, &|style, text| context.painted(style, text)) {
                say(context, &line);
            }
            for (label, key) in [("services", "services"), ("hosts", "hosts"), ("regions", "regions")] {
                let names = value.get("scope").and_then(|scope| scope.get(key)).and_then(Value::as_array);
                let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
                if !names.is_empty() {
                    say(context, &format!("       {label}: {}", names.join(", ")));
                }
            }
            let runbook = text(&value, &["runbook", "en"]);
            if !runbook.is_empty() {
                say(context, &format!("       what to do: {runbook}"));
            }
            for follower in value.get("followers").and_then(Value::as_array).into_iter().flatten() {
                let number = follower.get("id").and_then(Value::as_u64).unwrap_or_default();
                say(
                    context,
                    &format!("       + {number} {}: {}", text(follower, &["state"]), text(follower, &["title", "en"])),
                );
            }
        }
        "ack" => {
            let body = json!({ "by": by(matches), "for": matches.get_one::<String>("for") });
            let question = Question::post(ALERTS).segment(required(matches, "id")).segment("ack").json(&body)?;
            let Some(value) = ask(context, question, "the alert can't be acknowledged", matches)? else { return Ok(0) };
            let until = text(&value, &["acknowledged", "until"]);
            let title = text(&value, &["title", "en"]);
            say(context, &format!("acknowledged by {} until {until}: {title}", text(&value, &["acknowledged", "by"])));
        }
        "hand-over" => {
            let body = json!({ "by": by(matches), "to": required(matches, "to") });
            let question = Question::post(ALERTS).segment(required(matches, "id")).segment("hand-over").json(&body)?;
            let Some(value) = ask(context, question, "the alert can't be handed over", matches)? else { return Ok(0) };
            say(context, &format!("handed over to {}: {}", required(matches, "to"), text(&value, &["title", "en"])));
        }
        "silence" => {
            let texts = matches.get_many::<String>("matcher").into_iter().flatten();
            let matchers: Vec<Value> = texts.map(|text| matcher(text)).collect::<Result<_, _>>()?;
            let body = json!({
                "matchers": matchers,
                "for": required(matches, "for"),
                "by": by(matches),
                "comment": matches.get_one::<String>("comment").cloned().unwrap_or_default(),
            });
            let question = Question::post(SILENCES).json(&body)?;
            let Some(value) = ask(context, question, "the alerts can't be silenced", matches)? else { return Ok(0) };
            say(context, &format!("silenced until {}: {}", text(&value, &["to"]), text(&value, &["id"])));
        }
        "silences" => {
            let Some(value) = ask(context, Question::get(SILENCES), "the silences can't be listed", matches)? else {
                return Ok(0);
            };
            for silence in value.as_array().into_iter().flatten() {
                let matchers = silence.get("matchers").and_then(Value::as_array);
                let matchers: Vec<&str> = matchers.into_iter().flatten().filter_map(Value::as_str).collect();
                let (id, state, to) = (text(silence, &["id"]), text(silence, &["state"]), text(silence, &["to"]));
                let (by, comment) = (text(silence, &["by"]), text(silence, &["comment"]));
                say(context, &format!("{id}  {state:8} until {to}, by {by}: {} {comment}", matchers.join(" ")));
            }
        }
        _ => {
            let question = Question::new(engine::door::Method::Delete, SILENCES).segment(required(matches, "id"));
            let Some(value) = ask(context, question, "the silence can't be ended", matches)? else { return Ok(0) };
            say(context, &format!("ended: {}", text(&value, &["id"])));
        }
    }
    Ok(0)
}

fn on_call_arguments() -> clap::Command {
    let schedule = || Arg::new("schedule").long("schedule").value_name("NAME").help("This schedule only");
    clap::Command::new("oncall")
        .about("Show who is on call now and next; put somebody else on call")
        .arg(schedule())
        .arg(
            Arg::new("person")
                .long("person")
                .value_name("PERSON")
                .requires("ics")
                .help("The shifts of this person only"),
        )
        .arg(
            Arg::new("ics")
                .long("ics")
                .action(ArgAction::SetTrue)
                .conflicts_with("json")
                .help("Write a calendar (iCalendar, RFC 5545) of the last week and the next 90 days"),
        )
        .arg(json_flag())
        .subcommand(
            clap::Command::new("override")
                .about("Put a person on call instead of whom a schedule names; a swap is two of them")
                .arg(Arg::new("schedule").required(true).value_name("SCHEDULE").help("The schedule"))
                .arg(Arg::new("person").required(true).value_name("PERSON").help("Who is on call"))
                .arg(
                    Arg::new("from")
                        .long("from")
                        .required(true)
                        .value_name("TIME")
                        .help("From when: \"2026-12-24 18:00\" by the clock of the schedule, or as in RFC 3339"),
                )
                .arg(Arg::new("to").long("to").required(true).value_name("TIME").help("Until when"))
                .arg(Arg::new("reason").long("reason").value_name("TEXT").help("Why"))
                .arg(by_flag())
                .arg(json_flag()),
        )
        .subcommand(clap::Command::new("overrides").about("List the overrides").arg(json_flag()))
        .subcommand(
            clap::Command::new("restore")
                .about("Take an override back")
                .arg(
                    Arg::new("id")
                        .required(true)
                        .value_name("ID")
                        .help("Its identifier, as `garant oncall overrides` shows it"),
                )
                .arg(by_flag())
                .arg(json_flag()),
        )
}

fn on_call(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    match matches.subcommand() {
        None => {
            let mut question = Question::get(ON_CALL);
            for name in ["schedule", "person"] {
                if let Some(value) = matches.get_one::<String>(name) {
                    question = question.parameter(name, value);
                }
            }
            if matches.get_flag("ics") {
                let answer =
                    context.ask(question.parameter("format", "ics"))?.accepted("the calendar can't be written")?;
                context.raw(&answer.body);
                return Ok(0);
            }
            let Some(value) = ask(context, question, "who is on call can't be shown", matches)? else { return Ok(0) };
            let schedules = value.as_array().map_or(&[][..], Vec::as_slice);
            if schedules.is_empty() {
                say(context, "the policy has no [[schedule]]: alerts are told to everybody");
            }
            for schedule in schedules {
                let name = context.painted(Style::Strong, text(schedule, &["schedule"]));
                let shift = |which: &str| match text(schedule, &[which, "person"]) {
                    "" => "nobody".to_owned(),
                    person => format!(
                        "{person} from {} to {}",
                        text(schedule, &[which, "from"]),
                        text(schedule, &[which, "to"])
                    ),
                };
                let (now, next) = (shift("now"), shift("next"));
                say(context, &format!("{name}: now {now}; next {next}"));
            }
        }
        Some(("override", matches)) => {
            let body = json!({
                "schedule": required(matches, "schedule"),
                "person": required(matches, "person"),
                "from": required(matches, "from"),
                "to": required(matches, "to"),
                "reason": matches.get_one::<String>("reason").cloned().unwrap_or_default(),
                "by": by(matches),
            });
            let question = Question::post(ON_CALL).segment("overrides").json(&body)?;
            let Some(value) = ask(context, question, "the override can't be made", matches)? else { return Ok(0) };
            let (person, schedule) = (required(matches, "person"), required(matches, "schedule"));
            say(context, &format!("{person} is on call for {schedule} then: override {}", text(&value, &["id"])));
        }
        Some(("overrides", matches)) => {
            let question = Question::get(ON_CALL).segment("overrides");
            let Some(value) = ask(context, question, "the overrides can't be listed", matches)? else { return Ok(0) };
            for made in value.as_array().into_iter().flatten() {
                let field = |name: &str| text(made, &[name]).to_owned();
                say(
                    context,
                    &format!(
                        "{}  {}: {} from {} to {}, by {} {}",
                        field("id"),
                        field("schedule"),
                        field("person"),
                        field("from"),
                        field("to"),
                        field("by"),
                        field("reason")
                    ),
                );
            }
        }
        Some((_, matches)) => {
            let question = Question::new(engine::door::Method::Delete, ON_CALL).segment("overrides");
            let question = question.segment(required(matches, "id")).parameter("by", &by(matches));
            let Some(value) = ask(context, question, "the override can't be taken back", matches)? else {
                return Ok(0);
            };
            say(context, &format!("taken back: {}", text(&value, &["id"])));
        }
    }
    Ok(0)
}

fn notify_arguments() -> clap::Command {
    clap::Command::new("notify")
        .about("Send a test message")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            clap::Command::new("test")
                .about("Send a test message to each channel of a person, and say what became of it")
                .arg(Arg::new("person").required(true).value_name("PERSON").help("Who, as in the policy"))
                .arg(
                    Arg::new("channel").long("channel").value_name("KIND").help("This kind of channel only: mail, sms"),
                )
                .arg(json_flag()),
        )
}

fn notify(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let Some((_, matches)) = matches.subcommand() else { return Ok(2) };
    let person = required(matches, "person");
    let channel = matches.get_one::<String>("channel");
    let question = Question::post(NOTIFY).segment(person).json(&json!({ "channel": channel }))?;
    let failed = "the test message can't be sent";
    let mut tests: Vec<Value> = context.ask(question)?.accepted(failed)?.json()?;
    let wanted = |test: &Value| channel.is_none_or(|channel| text(test, &["channel"]) == channel);
    tests.retain(wanted);
    for _ in 0..TEST_LOOKS {
        if tests.iter().all(|test| text(test, &["state"]) != "queued") {
            break;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a command waits for the running garant, in a process of its own"
        )]
        std::thread::sleep(TEST_LOOK_EVERY);
        tests = context.ask(Question::get(NOTIFY).segment(person))?.accepted(failed)?.json()?;
        tests.retain(wanted);
    }
    let good = tests.iter().all(|test| text(test, &["state"]) == "handed_over");
    if matches.get_flag("json") {
        context.json(&Value::Array(tests));
        return Ok(u8::from(!good));
    }
    for test in &tests {
        let (channel, state) = (text(test, &["channel"]), text(test, &["state"]));
        let style = if state == "handed_over" { Style::Good } else { Style::Bad };
        let state = context.painted(style, &state.replace('_', " "));
        let failure = text(test, &["failure"]);
        let failure = if failure.is_empty() { String::new() } else { format!(": {failure}") };
        say(context, &format!("{person} by {channel}: {state}{failure}"));
    }
    Ok(u8::from(!good))
}

fn hold_arguments() -> clap::Command {
    clap::Command::new("hold")
        .about("Stop what garant sends to customers, and show whether it is stopped; alerts to the team still go")
        .arg(
            Arg::new("reason")
                .long("reason")
                .value_name("TEXT")
                .help("Why: holds from now on. Without it, the state is shown"),
        )
        .arg(by_flag())
        .arg(json_flag())
}

fn hold(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let question = match matches.get_one::<String>("reason") {
        Some(reason) => Question::post(HOLDS).json(&json!({ "by": by(matches), "reason": reason }))?,
        None => Question::get(HOLDS),
    };
    let Some(value) = ask(context, question, "messages to customers can't be held", matches)? else { return Ok(0) };
    if value.get("hold") == Some(&Value::Bool(true)) {
        let held = context.painted(Style::Doubtful, "held");
        let (since, by, reason) = (text(&value, &["since"]), text(&value, &["by"]), text(&value, &["reason"]));
        say(context, &format!("messages to customers are {held} since {since}, by {by}: {reason}"));
    } else {
        say(context, "messages to customers are not held");
    }
    Ok(0)
}

fn release_arguments() -> clap::Command {
    clap::Command::new("release").about("Let garant send to customers again").arg(by_flag()).arg(json_flag())
}

fn release(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let question = Question::new(engine::door::Method::Delete, HOLDS).parameter("by", &by(matches));
    if ask(context, question, "messages to customers can't be released", matches)?.is_some() {
        say(context, "messages to customers go out again");
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_read_as_people_write_them() {
        for (text, expected) in [
            ("service=shop", ("service", "shop", false, true)),
            ("host!=\"web 1\"", ("host", "web 1", false, false)),
            ("region=~a|b", ("region", "a|b", true, true)),
            ("region!~\"a=b\"", ("region", "a=b", true, false)),
            ("probe=", ("probe", "", false, true)),
        ] {
            let (name, value, is_regex, is_equal) = expected;
            let expected = json!({ "name": name, "value": value, "isRegex": is_regex, "isEqual": is_equal });
            assert_eq!(matcher(text).expect("a matcher"), expected, "{text}");
        }
        for text in ["", "service", "=shop", "ser vice=shop", "service~shop"] {
            assert!(matcher(text).is_err(), "{text}");
        }
    }
}
