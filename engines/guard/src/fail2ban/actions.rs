//! What a jail does about an offence, sorted into what garant does itself and what it refuses: bans of the packet filter become
//! ours, mail becomes our notifications, and no other command is run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use super::ini::{Options, Value};
use super::library::Library;
use super::options::{extract, short, split, words};
use super::problem::{Place, Problem, ReadError};
use super::reader::{Definition, as_bool};
use super::services::Port;
use super::tags::substitute;

/// Options of an action that its reader hands on.
const ACTION_OPTIONS: [&str; 13] = [
    "actionstart",
    "actionstart_on_demand",
    "actionstop",
    "actionflush",
    "actionreload",
    "actioncheck",
    "actionrepair",
    "actionrepair_on_unban",
    "actionban",
    "actionprolong",
    "actionreban",
    "actionunban",
    "norestored",
];
/// Those of them that are true or false.
const SWITCHES: [&str; 3] = ["actionstart_on_demand", "actionrepair_on_unban", "norestored"];
/// Tags that only a ban fills.
const DYNAMIC: [&str; 3] = ["matches", "ipmatches", "ipjailmatches"];
/// Most actions of one jail.
const ACTIONS_MAX: usize = 50;

/// One action of a jail.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Action {
    /// Name of its file in `action.d`, without `.conf`.
    pub name: String,
    /// Where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Its files, in the order they were merged; the last ones are those of the operator.
    pub files: Vec<PathBuf>,
    /// What becomes of it.
    pub kind: ActionKind,
    /// All its options, as fail2ban's server gets them; secrets may be among them.
    #[cfg(test)]
    #[serde(skip)]
    pub(crate) options: Vec<(String, String)>,
}

/// What becomes of an action.
#[derive(Clone, PartialEq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// A ban by our own rules of the packet filter.
    Ban(BanAction),
    /// A message by our own notifications.
    Notify(NotifyAction),
    /// A command that garant does not run.
    Refused(RefusedAction),
}

/// A ban by the packet filter.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct BanAction {
    /// Ports that are closed; `None` is all, of any protocol.
    pub ports: Option<Vec<Port>>,
    /// Whether TCP is meant.
    pub tcp: bool,
    /// Whether UDP is meant.
    pub udp: bool,
    /// Whether the sender is told: `REJECT` and not `DROP`.
    pub reject: bool,
    /// What is different from the action it replaces.
    pub changes: Vec<String>,
}

/// A message.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct NotifyAction {
    /// To whom fail2ban writes.
    pub dest: String,
    /// Whether it quotes lines of the log, or asks whois; garant does neither.
    pub quotes: bool,
}

/// A command that is not run.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct RefusedAction {
    /// What fail2ban would have run for a ban, as its file says it: the values of its tags may be secrets. Empty when it is
    /// not in a file.
    pub command: String,
    /// Why it is not run, where it is not for being a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Reads the actions of a jail, from its option `action`.
pub(crate) fn read_actions(
    library: &mut Library,
    jail: &str,
    action: &Value,
    options: &Options,
) -> Result<Vec<Action>, ReadError> {
    let place = action.place.clone();
    let problem = |reason: String| Problem::new(place.clone(), format!("`action`: {reason}"));
    let mut actions = Vec::new();
    for one in split(&action.text).map_err(problem)? {
        let one = one.trim();
        if one.is_empty() {
            continue;
        }
        if actions.len() >= ACTIONS_MAX {
            return Err(problem(format!("there are more than {ACTIONS_MAX} actions: remove some")).into());
        }
        let (name, in_brackets) = extract(one).map_err(problem)?;
        actions.push(if let Some(stem) = name.strip_suffix(".py") {
            python(stem, &in_brackets, place.clone())
        } else {
            command(library, jail, &name, in_brackets, place.as_ref(), options)?
        });
    }
    Ok(actions)
}

/// An action that is a program in Python.
fn python(stem: &str, options: &[(String, String)], place: Option<Place>) -> Action {
    let option = |name: &str| options.iter().find(|(option, _)| option == name).map(|(_, value)| value.clone());
    let kind = if stem == "smtp" {
        let dest = option("dest").unwrap_or_else(|| "root".to_owned());
        ActionKind::Notify(NotifyAction { dest, quotes: option("matches").is_some() })
    } else {
        ActionKind::Refused(RefusedAction { command: format!("action.d/{stem}.py"), why: None })
    };
    Action {
        name: format!("{stem}.py"),
        place,
        files: Vec::new(),
        kind,
        #[cfg(test)]
        options: options.to_vec(),
    }
}

fn command(
    library: &mut Library,
    jail: &str,
    name: &str,
    mut in_brackets: Vec<(String, String)>,
    place: Option<&Place>,
    options: &Options,
) -> Result<Action, ReadError> {
    let config = library.config(&format!("action.d/{name}"))?.ok_or_else(|| {
        Problem::new(
            place.cloned(),
            format!(
                "there is no action `{}` in {}: correct the name, or add action.d/{}.conf",
                short(name),
                library.dir().display(),
                short(name)
            ),
        )
    })?;
    let option = |options: &[(String, String)], name: &str| {
        options.iter().find(|(option, _)| option == name).map(|(_, value)| value.clone())
    };
    let own_name = option(&in_brackets, "name").unwrap_or_else(|| {
        in_brackets.push(("name".to_owned(), jail.to_owned()));
        jail.to_owned()
    });
    if option(&in_brackets, "actname").is_none() {
        // Unique within the jail.
        let suffix = match own_name.strip_prefix(jail) {
            Some(suffix) => suffix.to_owned(),
            None => format!("-{own_name}"),
        };
        in_brackets.push(("actname".to_owned(), format!("{name}{suffix}")));
    }
    let mut definition = Definition::new(config, &ACTION_OPTIONS, in_brackets, place);
    definition.read_options(options, false)?;
    let ignored: BTreeSet<String> = DYNAMIC.iter().chain(&["timeout", "bantime"]).map(|&tag| tag.to_owned()).collect();
    let combined = definition.combined(&ignored)?;
    let mut all: Vec<(String, String)> = Vec::new();
    for (option, value) in combined.iter().filter(|(option, _)| ACTION_OPTIONS.contains(option)) {
        let text = if SWITCHES.contains(&option) { as_bool(&value.text).to_owned() } else { value.text.clone() };
        all.push((option.to_owned(), text));
    }
    for (option, value) in definition.init().iter() {
        if !ACTION_OPTIONS.contains(&option) && !option.starts_with("known/") {
            all.push((option.to_owned(), value.text.clone()));
        }
    }
    let files = definition.config().files.clone();
    let own = definition.config().sections.sections.get("Definition").and_then(|own| own.get("actionban"));
    let kind = classify(name, &combined, &all, own.map_or("", |value| &value.text))?;
    Ok(Action {
        name: name.to_owned(),
        place: place.cloned(),
        files,
        kind,
        #[cfg(test)]
        options: all,
    })
}

/// Sorts an action by the name of its file.
fn classify(name: &str, combined: &Options, all: &[(String, String)], command: &str) -> Result<ActionKind, Problem> {
    let mut properties = Options::default();
    for (option, value) in all {
        properties.set(option.as_str(), Value::new(value.as_str(), None));
    }
    let dynamic: BTreeSet<String> = DYNAMIC.iter().map(|&tag| tag.to_owned()).collect();
    let resolved = substitute(&properties, "family=inet4", &dynamic, &mut |_| Ok(None))?;
    let option = |name: &str| resolved.get(name).or_else(|| combined.get(name)).map_or("", |value| value.text.as_str());
    // `iptables` and `iptables-multiport`, and not `iptablesomething`.
    let is = |kind: &str| name.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    if ["iptables", "nftables", "firewallcmd", "ufw", "shorewall"].into_iter().any(is) {
        // A jail that lets in whom it finds, and keeps out all others.
        let inverse = ["return", "accept", "allow", "limit"].iter().any(|verdict| {
            let block = option("blocktype").trim().to_lowercase();
            block.starts_with(verdict)
        }) || !["", "return"].contains(&option("returntype").trim().to_lowercase().as_str());
        return Ok(if inverse {
            let why = "it lets in whom it finds, by its `blocktype` or `returntype`, and garant only bans".to_owned();
            ActionKind::Refused(RefusedAction { command: command.to_owned(), why: Some(why) })
        } else {
            ActionKind::Ban(ban(name, &option))
        });
    }
    if is("sendmail") || is("mail") {
        let quotes = ["lines", "matches", "whois", "geoip"].iter().any(|word| name.contains(word));
        let dest = if option("dest").is_empty() { "root" } else { option("dest") };
        return Ok(ActionKind::Notify(NotifyAction { dest: dest.to_owned(), quotes }));
    }
    Ok(ActionKind::Refused(RefusedAction { command: command.to_owned(), why: None }))
}

fn ban<'a>(name: &str, option: &impl Fn(&str) -> &'a str) -> BanAction {
    let mut changes = Vec::new();
    let kind = option("type");
    // firewallcmd-ipset says it in `actiontype`; ufw and shorewall have no ports.
    let all_ports = name.ends_with("allports")
        || kind == "allports"
        || option("actiontype") == option("allports") && !option("allports").is_empty()
        || name.starts_with("ufw")
        || name.starts_with("shorewall")
        || (name == "iptables-ipset-proto6-allports");
    if kind == "custom" || !option("application").is_empty() {
        changes.push("its own match of packets is not taken over: all ports are closed".to_owned());
    }
    let (mut ports, mut widened) = (Vec::new(), false);
    if !all_ports && kind != "custom" {
        for word in words(option("port")) {
            match Port::parse(word) {
                Ok(port) => ports.push(port),
                Err(reason) => {
                    widened = true;
                    changes.push(format!("{reason}; all ports are closed instead"));
                }
            }
        }
    }
    if !all_ports && kind != "custom" && ports.is_empty() && !widened {
        changes.push("`port` is empty, with which its command fails: all ports are closed".to_owned());
    }
    let (mut tcp, mut udp) = (false, false);
    for protocol in words(option("protocol")) {
        match protocol.to_lowercase().as_str() {
            "tcp" | "6" => tcp = true,
            "udp" | "17" => udp = true,
            "all" | "any" | "0" => (tcp, udp) = (true, true),
            other => {
                widened = true;
                changes.push(format!("the protocol `{}` has no ports: all ports are closed instead", short(other)));
            }
        }
    }
    let closes_all = ports.is_empty() || widened;
    if closes_all && all_ports && tcp != udp && !name.starts_with("ufw") && !name.starts_with("shorewall") {
        changes.push(format!("all protocols are closed, and not {} alone", if tcp { "TCP" } else { "UDP" }));
    }
    if name == "iptables-new" || option("pre-rule").contains("--state") {
        changes.push("established connections are closed too, and not new ones alone".to_owned());
    }
    if name.ends_with("-log") || name.contains("-logging") {
        changes.push("packets are not logged one by one".to_owned());
    }
    let block = option("blocktype").to_lowercase();
    let block = block.trim();
    let reject = !(block.starts_with("drop") || block.starts_with("deny"));
    if reject && !block.is_empty() && !block.starts_with("reject") {
        changes.push(format!("`blocktype = {}` is not taken over: packets are rejected", short(block)));
    }
    if tcp == udp {
        (tcp, udp) = (true, true);
    }
    BanAction { ports: (!closes_all).then_some(ports), tcp, udp, reject, changes }
}
