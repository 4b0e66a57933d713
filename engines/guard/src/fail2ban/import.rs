//! What becomes of a configuration of fail2ban: what is taken over as it is, what changes, and what is refused, each with its
//! place and the reason. `garant guard import` prints it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::actions::{Action, ActionKind, BanAction};
use super::jail::{Backend, BanTime, Ignored, Jail, Jails};
use super::options::short;
use super::problem::{Place, Problem};
use super::services::{Port, Services};

#[cfg(test)]
mod tests;

/// Most ignored names and most problems of one jail that are told one by one.
const TOLD_MAX: usize = 20;

/// What becomes of a configuration.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct ImportReport {
    /// Taken over: the same decisions.
    pub maps: Vec<ImportLine>,
    /// Taken over, with a difference.
    pub changes: Vec<ImportLine>,
    /// Not taken over.
    pub refused: Vec<ImportLine>,
    /// What fail2ban would have warned of.
    pub notes: Vec<Problem>,
    /// Names of the jails that are not enabled, and of which nothing is taken over.
    pub disabled: Vec<String>,
}

/// One thing that becomes of a configuration.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct ImportLine {
    /// Name of the jail.
    pub jail: String,
    /// File and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What becomes of what, and why.
    pub what: String,
}

/// Explains what becomes of the jails; names of ports are those of `services`.
pub fn import_report(jails: &Jails, services: &Services) -> ImportReport {
    let mut report = ImportReport {
        maps: Vec::new(),
        changes: Vec::new(),
        refused: Vec::new(),
        notes: jails.notes.clone(),
        disabled: jails.disabled.clone(),
    };
    for jail in &jails.jails {
        report.add(jail, services);
    }
    for broken in &jails.broken {
        for problem in broken.problems.iter().take(TOLD_MAX) {
            let what = format!("the jail is not read: {}", problem.message);
            report.refused.push(ImportLine { jail: broken.name.clone(), place: problem.place.clone(), what });
        }
    }
    report
}

impl ImportReport {
    fn add(&mut self, jail: &Jail, services: &Services) {
        let at = |option: &str, what: String| ImportLine {
            jail: jail.name.clone(),
            place: jail.places.get(option).or(jail.place.as_ref()).cloned(),
            what,
        };
        let line = |what: String| at("", what);
        self.maps.push(line(summary(jail)));
        if jail.filter.failregex.is_empty() {
            self.changes
                .push(line("no pattern of a failure is left: the jail finds nothing, as in fail2ban".to_owned()));
        }
        if let Some(command) = &jail.ignore_command {
            self.refused.push(at("ignorecommand", format!(
                "`ignorecommand`: no command is run on what stands in a log, so `{}` would not be asked: the jail is not followed \
                 until it is gone. Write the addresses that it would spare in `ignoreip`",
                short(command)
            )));
        }
        for name in jail.ignored.iter().filter_map(Ignored::unknown_name).take(TOLD_MAX) {
            self.refused.push(at(
                "ignoreip",
                format!(
                    "`ignoreip`: the name `{}` is not looked up, for who answers for it could change whom it spares: the jail is not \
                     followed until its addresses stand there instead",
                    short(name)
                ),
            ));
        }
        let mistaken = jail.ignored.iter().filter_map(|ignored| match ignored {
            Ignored::Mistaken(text, address) => Some((text, address.addr())),
            Ignored::Network(_) | Ignored::Name(_) => None,
        });
        for (text, address) in mistaken.take(TOLD_MAX) {
            let what = format!(
                "`ignoreip`: `{}` is no network: {address} alone is spared, as in fail2ban; correct it",
                short(text)
            );
            self.changes.push(at("ignoreip", what));
        }
        if jail.actions.is_empty() {
            self.changes
                .push(line("there is no action: offenders are told of and not banned, as in fail2ban".to_owned()));
        }
        for action in &jail.actions {
            self.add_action(jail, action, services);
        }
    }

    fn add_action(&mut self, jail: &Jail, action: &Action, services: &Services) {
        let line = |what: String| ImportLine { jail: jail.name.clone(), place: action.place.clone(), what };
        let name = &action.name;
        match &action.kind {
            ActionKind::Ban(ban) => {
                self.maps.push(line(format!("{name} becomes a ban in garant's own table of the packet filter, of {ban}")));
                self.changes.extend(ban.changes.iter().map(|change| line(format!("{name}: {change}"))));
                if let Err(unknown) = services.ranges(ban.ports.as_deref().unwrap_or_default()) {
                    self.changes.push(line(format!(
                        "{name}: the port `{}` is not in /etc/services: all ports are closed instead; write its number",
                        short(&unknown)
                    )));
                }
                let own: BTreeSet<_> =
                    action.files.iter().filter(|file| file.extension().is_some_and(|end| end == "local")).collect();
                for file in own {
                    self.changes.push(line(format!(
                        "{name}: {} changes the commands of this action, and none of them is run",
                        file.display()
                    )));
                }
            }
            ActionKind::Notify(notify) => self.changes.push(line(format!(
                "{name} becomes a message by garant's own notifications{}: say in the policy who is to be told; fail2ban wrote to {}",
                if notify.quotes { ", without lines of the log and without whois" } else { "" },
                short(&notify.dest)
            ))),
            ActionKind::Refused(refused) => {
                let why = refused.why.as_deref().unwrap_or("garant runs no command of others");
                let command: Vec<&str> = refused.command.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
                let would = if command.is_empty() {
                    String::new()
                } else {
                    format!("; it would run: {}", command.join("; "))
                };
                self.refused.push(line(format!("{name} is not taken over: {why}{would}")));
            }
        }
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        for (title, lines) in [
            ("Taken over as it is", &self.maps),
            ("Taken over with a change", &self.changes),
            ("Refused", &self.refused),
        ] {
            out.push(format!("{title}: {}", lines.len()));
            for line in lines {
                let place = line.place.as_ref().map(|place| format!("  ({place})")).unwrap_or_default();
                out.push(format!("  {}: {}{place}", line.jail, line.what));
            }
        }
        if !self.notes.is_empty() {
            out.push(format!("Notes: {}", self.notes.len()));
            out.extend(self.notes.iter().map(|note| format!("  {note}")));
        }
        out.push(format!("Not enabled, and left out: {} jails", self.disabled.len()));
        out.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect()
    }
}

impl BanAction {
    /// The ranges of ports that are closed; `None` is all: also where a name is not known, for a ban that closes too much is
    /// told of in the report, and one that closes nothing would look like one.
    pub fn ranges(&self, services: &Services) -> Option<Vec<(u16, u16)>> {
        services.ranges(self.ports.as_deref()?).ok()
    }
}

impl std::fmt::Display for BanAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(ports) = &self.ports else { return f.write_str("all ports") };
        let ports: Vec<String> = ports.iter().map(Port::to_string).collect();
        let protocol = match (self.tcp, self.udp) {
            (true, false) => "TCP",
            (false, true) => "UDP",
            _ => "TCP and UDP",
        };
        write!(f, "the {protocol} ports {}", ports.join(", "))
    }
}

/// What a jail does, in one line.
fn summary(jail: &Jail) -> String {
    let source = match &jail.backend {
        Backend::Journal(_) => "the journal".to_owned(),
        Backend::Files => match jail.log_paths.as_slice() {
            [] => "no file".to_owned(),
            [one] => one.pattern.clone(),
            [first, rest @ ..] => format!("{} and {} more", first.pattern, rest.len()),
        },
    };
    let length = match jail.ban_time {
        BanTime::Forever => "for ever".to_owned(),
        BanTime::For(span) if span.secs() <= 0 => format!("for {} s, which is nobody", span.secs()),
        BanTime::For(span) => format!("for {} s", span.secs()),
    };
    let bans = jail.actions.iter().any(|action| matches!(action.kind, ActionKind::Ban(_)));
    format!(
        "{} with the filter {} ({} patterns): {} at {} failures in {} s, {length}{}",
        short(&source),
        if jail.filter.name.is_empty() { "none" } else { &jail.filter.name },
        jail.filter.failregex.len(),
        if bans { "banned" } else { "told of, and not banned," },
        jail.max_retry,
        jail.find_time.secs(),
        if jail.increment.is_some() { ", longer each time" } else { "" }
    )
}
