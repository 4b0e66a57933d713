//! `garant guard import`: explains what becomes of a configuration of fail2ban, and takes over its bans and their history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use engine::Failure;
use engine::command::{CommandContext, Question, Style, count, network_of};
use event::{Span, Time};
use ipnet::IpNet;
use serde_json::{Value, json};
use store::fail2ban::{Fail2banBan, Fail2banBans, Fail2banError};

use super::{LATE, SIMULATED, agent, is_simulated, json_flag, wants_json};
use crate::door::{API, IMPORTED_MAX, ImportedBan};
use crate::fail2ban::{
    BanTime, Database, ImportLine, ImportReport, Jail, Jails, Services, import_report, read_as_enabled, read_database,
    read_jails,
};
use crate::plan::{Plan, ports_of};

/// How long a ban of unknown length lasts by a jail that there is not, as with fail2ban.
const BAN_TIME: BanTime = BanTime::For(Span::from_secs(600));

/// The beginning of the year 3000, in seconds since 1970.
const YEAR_3000_S: i64 = 32_503_680_000;

/// Bans that are handed to the agent at once: few, so that a slow machine answers in time, and goes on banning between.
const IMPORTED_AT_ONCE: usize = 1000;
/// How often the agent is asked again for some bans when it did not answer in time: it may have taken them, which is no harm.
const TRIES_MAX: u32 = 30;

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
                .help(format!("Its database; `dbfile` of DIR unless given, or {}", store::fail2ban::DEBIAN_PATH)),
        )
        .arg(
            Arg::new("jail")
                .long("jail")
                .value_name("JAIL")
                .action(ArgAction::Append)
                .help("Take over the bans of this jail too, which is not enabled or not there"),
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
    let follows_none = report.maps.is_empty();
    if !wants_json(matches) {
        explain(&report, context);
    }
    let bans = database(matches, &folder, context)?;
    let of_jails = OfJails { folder: &folder, jails: &jails, services: &services, asked: asked(matches) };
    of_jails.check_asked(bans.as_ref())?;
    let taken = bans.map(|bans| take(matches, context, &bans, &of_jails, is_dry)).transpose()?;
    let unfollowed = if is_dry { None } else { unfollowed(matches, &folder, context) };
    if wants_json(matches) {
        let report = serde_json::to_value(&report)
            .map_err(|error| Failure::new("the report can't be written as JSON").because(&error))?;
        let is_followed = (!is_dry).then_some(unfollowed.is_none());
        context.json(&json!({ "configuration": report, "bans": taken, "followed": is_followed }));
    }
    if let Some(why) = &unfollowed {
        context.note(&format!(
            "nobody follows this configuration now: {why}. Start `garant up` as root with `fail2ban = \"{}\"` in [guard]",
            folder.display()
        ));
    }
    Ok(u8::from(follows_none || unfollowed.is_some()))
}

/// Why no guard follows the configuration in this folder; `None` where one does.
fn unfollowed(matches: &ArgMatches, folder: &Path, context: &mut dyn CommandContext) -> Option<String> {
    let asked = || -> Result<Value, Failure> {
        let answer = context.ask_agent(agent(matches), Question::get(API).segment("status"))?;
        answer.accepted("the guard does not say what it follows")?.json()
    };
    let status = match asked() {
        Ok(status) => status,
        Err(failure) => return Some(failure.to_string()),
    };
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match status.get("follows").and_then(Value::as_str) {
        Some(other) if whole(Path::new(other)) == whole(folder) => None,
        Some(other) => Some(format!("the guard of this host follows {}", engine::printable::text(other))),
        None => Some("the [guard] of this host names no `fail2ban`".to_owned()),
    }
}

/// The names of jails whose bans are asked for.
fn asked(matches: &ArgMatches) -> BTreeSet<String> {
    matches.get_many::<String>("jail").into_iter().flatten().cloned().collect()
}

/// The bans of the database that is named, or that the configuration names; `None` where there is none.
fn database(
    matches: &ArgMatches,
    folder: &Path,
    context: &mut dyn CommandContext,
) -> Result<Option<Fail2banBans>, Failure> {
    let named = matches.get_one::<PathBuf>("database").cloned();
    let unread =
        |error: &(dyn std::error::Error + 'static)| Failure::new("the bans of fail2ban can't be read").because(error);
    let (path, place) = match named.clone() {
        Some(path) => (path, None),
        None => match read_database(folder).map_err(|error| unread(&error))? {
            Some(Database::File(path, place)) => (path, place),
            Some(Database::Nowhere(text, place)) => {
                let place = place.map_or_else(String::new, |place| format!(" ({place})"));
                context.note(&format!(
                    "`dbfile = {text}`{place}: fail2ban keeps no database, so no ban is taken over; those in force end with it"
                ));
                return Ok(None);
            }
            None => (PathBuf::from(store::fail2ban::DEBIAN_PATH), None),
        },
    };
    match store::fail2ban::read(&path) {
        Ok(bans) => Ok(Some(bans)),
        // Somebody who never had a database is told so; one that is named must be there.
        Err(Fail2banError::Missing(path)) if named.is_none() => {
            let place = place.map_or_else(String::new, |place| format!(", which `dbfile` names ({place})"));
            context.note(&format!(
                "there is no database of fail2ban at {}{place}: no ban is taken over; `--database` names another",
                path.display()
            ));
            Ok(None)
        }
        Err(error) => Err(unread(&error)),
    }
}

/// What is known of a jail.
struct OfJail {
    ports: Option<String>,
    ban_time: BanTime,
}

/// The jails that bans are of.
struct OfJails<'a> {
    folder: &'a Path,
    jails: &'a Jails,
    services: &'a Services,
    /// Jails whose bans are taken over whatever they are.
    asked: BTreeSet<String>,
}

impl OfJails<'_> {
    /// Refuses a jail that is asked for, and that neither the configuration nor the database knows.
    fn check_asked(&self, bans: Option<&Fail2banBans>) -> Result<(), Failure> {
        let Jails { jails, broken, disabled, .. } = self.jails;
        let configured = jails.iter().map(|jail| &jail.name).chain(broken.iter().map(|jail| &jail.name));
        let banning = bans.into_iter().flat_map(|bans| bans.last.iter().chain(&bans.history)).map(|ban| &ban.jail);
        let known: BTreeSet<&str> = configured.chain(disabled).chain(banning).map(String::as_str).collect();
        let Some(unknown) = self.asked.iter().find(|name| !known.contains(name.as_str())) else { return Ok(()) };
        let known: Vec<_> = known.into_iter().map(engine::printable::text).collect();
        Err(Failure::new(format!(
            "there is no jail `{unknown}` in {}, and the database has no ban of one",
            self.folder.display()
        ))
        .remedy(format!("write one of {}", known.join(", ")))
        .code(2))
    }

    /// A jail whose bans are taken over, or why they are not.
    fn jail(&self, name: &str) -> Result<OfJail, &'static str> {
        let known = |jail: &Jail| OfJail {
            ports: ports_of(jail, self.services).ok().flatten().map(|ports| ports.to_string()),
            ban_time: jail.ban_time,
        };
        if let Some(jail) = self.jails.jails.iter().find(|jail| jail.name == name) {
            return Ok(known(jail));
        }
        let (is_broken, is_disabled) = (
            self.jails.broken.iter().any(|jail| jail.name == name),
            self.jails.disabled.iter().any(|jail| jail == name),
        );
        if self.asked.contains(name) {
            let jail = read_as_enabled(self.folder, name).ok().flatten();
            return Ok(jail.as_ref().map_or(OfJail { ports: None, ban_time: BAN_TIME }, known));
        }
        Err(if is_broken {
            "it can't be read"
        } else if is_disabled {
            "it is not enabled"
        } else {
            "there is no such jail"
        })
    }
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
        context.line(if report.refused.is_empty() {
            "no jail is enabled: nothing would be read"
        } else {
            "no jail can be followed: nothing would be read"
        });
    }
}

/// Takes over the bans and their history; what became of them.
fn take(
    matches: &ArgMatches,
    context: &mut dyn CommandContext,
    bans: &Fail2banBans,
    of_jails: &OfJails<'_>,
    is_dry: bool,
) -> Result<Value, Failure> {
    let now = context.now();
    let mut nameless = 0_u64;
    let mut imported: BTreeMap<(String, IpNet), ImportedBan> = BTreeMap::new();
    let mut known_jails: BTreeMap<&str, Result<OfJail, &'static str>> = BTreeMap::new();
    let mut left: BTreeMap<&str, (&'static str, BTreeSet<IpNet>)> = BTreeMap::new();
    for ban in bans.last.iter().chain(&bans.history).take(IMPORTED_MAX) {
        let Some(network) = network_of(&ban.ip) else {
            nameless += 1;
            continue;
        };
        let jail = known_jails.entry(&ban.jail).or_insert_with(|| of_jails.jail(&ban.jail));
        let mut taken = imported_ban(ban, network, jail.as_ref().map_or(BAN_TIME, |jail| jail.ban_time));
        match jail {
            Ok(jail) => taken.ports.clone_from(&jail.ports),
            Err(reason) => {
                if taken.until.is_none_or(|until| until > now) {
                    left.entry(&ban.jail).or_insert_with(|| (reason, BTreeSet::new())).1.insert(network);
                }
                continue;
            }
        }
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
    let mut left_out = Vec::new();
    for (jail, (reason, networks)) in &left {
        let jail = engine::printable::text(jail);
        say(
            context,
            &format!(
                "not taken over: {} bans of the jail {jail}: {reason}; `--jail {jail}` takes them over{}",
                networks.len(),
                if *reason == "it is not enabled" { ", on its ports" } else { ", on all ports" }
            ),
        );
        left_out.push(json!({ "jail": jail, "bans": networks.len(), "reason": reason }));
    }
    let left_rows = bans.passed_over.iter().map(|(column, rows)| (*rows, format!("with an impossible `{column}`")));
    let nameless = (nameless > 0).then(|| (nameless, "without an address that can be banned".to_owned()));
    for (rows, what) in left_rows.chain(nameless) {
        let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
        context.note(&format!("left out of the database: {rows} {what}"));
    }
    if bans.last.iter().chain(&bans.history).any(|ban| ban.ban_time.is_none()) {
        context.note("the database is of an older fail2ban, which did not keep how long each ban lasts: `bantime` of its jail counts");
    }
    if is_dry {
        say(
            context,
            &format!(
                "{in_force} bans are in force, of {} addresses that were banned; none is taken over",
                imported.len()
            ),
        );
        return Ok(json!({ "in_force": in_force, "known": imported.len(), "taken": 0, "left_out": left_out }));
    }
    let imported: Vec<ImportedBan> = imported.into_values().collect();
    let (mut taken, mut known, mut ended, mut spared) = (0, 0, 0, 0);
    let mut simulated = false;
    let (all, counter) = (imported.len(), context.counter());
    for (number, some) in imported.chunks(IMPORTED_AT_ONCE).enumerate() {
        let before = number * IMPORTED_AT_ONCE;
        counter.doing("bans", before as u64, Some(all as u64));
        let stopped = format!("{before} of {all} bans and their history are taken over");
        let unfinished = |failure: Failure, first: Option<&str>| {
            let first = first.map_or_else(String::new, |first| format!("{first}; then "));
            failure.remedy(format!("{first}run it again: what is taken over already stays as it is"))
        };
        let question = Question::post(API).segment("import").json(&some)?;
        let mut tries = 1;
        let answer = loop {
            let answer = context.ask_agent(agent(matches), question.clone());
            let answer = answer
                .map_err(|error| unfinished(Failure::new(stopped.clone()).because(&error), error.what_to_do()))?;
            if answer.status != LATE || tries == TRIES_MAX {
                break answer;
            }
            tries += 1;
        };
        let done: Value = answer.accepted(&stopped).map_err(|failure| unfinished(failure, None))?.json()?;
        taken += count(&done, "taken");
        known += count(&done, "known");
        ended += count(&done, "ended");
        spared += count(&done, "spared");
        simulated |= is_simulated(&done);
    }
    say(
        context,
        &format!(
            "{taken} bans are taken over; {known} were in force already, {ended} were over, {spared} are of addresses that are never banned"
        ),
    );
    if simulated {
        say(context, &format!("none of them is dropped: {SIMULATED}"));
    }
    Ok(json!({
        "taken": taken, "known": known, "ended": ended, "spared": spared, "left_out": left_out, "enforced": !simulated,
    }))
}

fn imported_ban(ban: &Fail2banBan, network: IpNet, of_jail: BanTime) -> ImportedBan {
    let since = Time::from_secs(ban.time_of_ban);
    let ban_time = ban.ban_time.unwrap_or(match of_jail {
        BanTime::Forever => -1,
        BanTime::For(span) => span.secs(),
    });
    // What ends after everybody is for ever.
    let end = ban.time_of_ban.saturating_add(ban_time);
    let until = (ban_time != -1 && end < YEAR_3000_S).then(|| Time::from_secs(end));
    let rule = engine::printable::text(&ban.jail).into_owned();
    ImportedBan { network, rule, since, until, count: ban.ban_count, ports: None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::sim::AtDoor;

    use super::*;

    /// A configuration with these jails and this `fail2ban.local`, and a database beside it.
    fn configuration(jails: &str, local: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text.replace('@', folder.path().to_str().expect("UTF-8"))).expect("written");
        };
        write(
            "jail.conf",
            &format!(
                "[DEFAULT]\naction = nftables[port=\"%(port)s\"]\nport = 22\nlogpath = @/log\nfilter = web\n{jails}"
            ),
        );
        write("fail2ban.conf", "[Definition]\ndbfile = /nonexistent/of-the-package\n");
        write("fail2ban.local", local);
        write("filter.d/web.conf", "[Definition]\nfailregex = ^from <HOST>$\n");
        write("action.d/nftables.conf", "[Definition]\nactionban = nft <ip>\n[Init]\nport = ssh\nprotocol = tcp\n");
        folder
    }

    /// The guard, which takes what it is given, and follows a configuration; the 1500th ban takes it longer than a command waits.
    struct Taking(std::sync::Mutex<Vec<Value>>, PathBuf);

    impl engine::door::Door for Taking {
        fn mounts(&self) -> &'static [engine::door::Mount] {
            &[engine::door::Mount {
                prefix: API,
                listeners: engine::door::Listeners::Team,
                access: engine::door::Access::TeamToken,
                methods: &[engine::door::Method::Get, engine::door::Method::Post],
                body_bytes_max: 1 << 20,
            }]
        }

        fn call(&self, call: engine::door::Call) -> engine::BoxFuture<'_, engine::door::Reply> {
            Box::pin(async move {
                if call.segments()[..] == ["status"] {
                    return engine::door::Reply::json(&json!({ "follows": self.1 }));
                }
                let bans: Vec<Value> = call.json().expect("bans");
                let mut all = self.0.lock().expect("a lock");
                let (known, new): (Vec<_>, Vec<_>) = bans.into_iter().partition(|ban| all.contains(ban));
                let is_late = all.len() < 1500 && all.len() + new.len() >= 1500;
                all.extend(new.iter().cloned());
                if is_late {
                    return engine::door::Reply::error(504, "the engine did not answer in time");
                }
                engine::door::Reply::json(&json!({ "taken": new.len(), "known": known.len(), "enforced": true }))
            })
        }
    }

    /// Runs `import` of the folder; the code, what was said, and the bans that were handed on.
    fn import(folder: &Path, more: &[&str]) -> (u8, String, Vec<Value>) {
        let door = Arc::new(Taking(std::sync::Mutex::default(), folder.to_owned()));
        let (code, said) = import_at(Some(door.clone()), folder, more).expect("it runs");
        let bans = door.0.lock().expect("a lock").clone();
        (code, said, bans)
    }

    /// The same beside this guard, or none.
    fn import_at(door: Option<Arc<Taking>>, folder: &Path, more: &[&str]) -> Result<(u8, String), Failure> {
        let nobody = Arc::new(Taking(std::sync::Mutex::default(), PathBuf::new()));
        let mut at = AtDoor::new(nobody, Time::from_secs(1_800_000_000));
        at.door = door.map(|door| door as _);
        let command = crate::commands().pop().expect("a command");
        let arguments = [&["guard", "import", folder.to_str().expect("UTF-8")], more].concat();
        let code = at.run(command, &arguments)?;
        Ok((code, at.lines.iter().cloned().chain(at.notes()).collect::<Vec<_>>().join("\n")))
    }

    const DATABASE: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript('''CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(4);
CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON);
CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail));''')
for n, jail in enumerate(['on', 'off', 'nosuchjail']):
    row = (jail, '192.0.2.%d' % n, 1799999990, 600, 1, '{}')
    db.execute('INSERT INTO bans VALUES(?,?,?,?,?,?)', row)
    db.execute('INSERT INTO bips(jail,ip,timeofban,bantime,bancount,data) VALUES(?,?,?,?,?,?)', row)
db.commit()
";

    #[expect(clippy::disallowed_methods, reason = "tests start programs of the system")]
    fn make_database(path: &Path) {
        let made = std::process::Command::new("/usr/bin/python3").args(["-c", DATABASE]).arg(path).status();
        assert!(made.expect("install python3").success());
    }

    #[expect(clippy::disallowed_methods, reason = "tests start programs of the system")]
    fn change_database(path: &Path, sql: &str) {
        let program =
            "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\ndb.executescript(sys.argv[2])\ndb.commit()";
        let changed = std::process::Command::new("/usr/bin/python3").args(["-c", program]).arg(path).arg(sql).status();
        assert!(changed.expect("install python3").success());
    }

    /// What was handed on: the jail, and the ports.
    fn handed_on(bans: &[Value]) -> Vec<String> {
        let text = |ban: &Value, key: &str| ban[key].as_str().unwrap_or("none").to_owned();
        bans.iter().map(|ban| format!("{} {}", text(ban, "rule"), text(ban, "ports"))).collect()
    }

    const JAILS: &str = "[on]\nenabled = true\n[off]\nport = 80,443\n";

    #[test]
    fn the_database_is_that_of_the_configuration_and_bans_of_other_jails_are_left_out_unless_asked_for() {
        let folder = configuration(JAILS, "[Definition]\ndbfile = @/f2b.sqlite3\n");
        make_database(&folder.path().join("f2b.sqlite3"));
        let (code, said, bans) = import(folder.path(), &[]);
        assert_eq!((code, handed_on(&bans)), (0, vec!["on tcp_22".to_owned()]), "{said}");
        for part in [
            "1 bans of the jail off: it is not enabled; `--jail off` takes them over, on its ports",
            "1 bans of the jail nosuchjail: there is no such jail; `--jail nosuchjail` takes them over, on all ports",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        let (_, _, bans) = import(folder.path(), &["--jail", "off", "--jail", "nosuchjail"]);
        let mut all = handed_on(&bans);
        all.sort();
        assert_eq!(all, ["nosuchjail none", "off tcp_80_443", "on tcp_22"]);
        // Another one may be named.
        std::fs::rename(folder.path().join("f2b.sqlite3"), folder.path().join("other")).expect("renamed");
        let (_, said, bans) = import(folder.path(), &[]);
        assert!(bans.is_empty() && said.contains("fail2ban.local:2"), "{said}");
        let other = folder.path().join("other").display().to_string();
        let (_, _, bans) = import(folder.path(), &["--database", &other]);
        assert_eq!(bans.len(), 1);
    }

    /// A jail that is asked for and that nobody knows is a mistake, and names those that there are.
    #[test]
    fn a_jail_that_nobody_knows_is_refused() {
        let folder = configuration(JAILS, "[Definition]\ndbfile = @/f2b.sqlite3\n");
        let door = Arc::new(Taking(std::sync::Mutex::default(), folder.path().to_owned()));
        for database in [false, true] {
            if database {
                make_database(&folder.path().join("f2b.sqlite3"));
            }
            for more in [&["--jail", "nojail"][..], &["--jail", "on", "--jail", "nojail", "--dry-run"]] {
                let failure = import_at(Some(door.clone()), folder.path(), more).expect_err("refused");
                let said = failure.to_string();
                assert!(failure.exit_code() == 2 && said.contains("`nojail`"), "{said}");
                let shown = format!("{failure:?}");
                assert!(shown.contains("off") && shown.contains("on"), "{shown}");
                assert_eq!(shown.contains("nosuchjail"), database, "{shown}");
            }
        }
        assert!(door.0.lock().expect("a lock").is_empty(), "nothing is taken over");
    }

    /// What is said to be taken over is followed by somebody, or it is said that it is not.
    #[test]
    fn that_nobody_follows_the_configuration_is_said() {
        let folder = configuration(JAILS, "");
        let of = |followed: &Path| Some(Arc::new(Taking(std::sync::Mutex::default(), followed.to_owned())));
        for (door, why) in [(None, "no garant runs"), (of(Path::new("/etc/other")), "/etc/other")] {
            let (code, said) = import_at(door.clone(), folder.path(), &[]).expect("it runs");
            assert!(code == 1 && said.contains("nobody follows") && said.contains(why), "{said}");
            let (code, said) = import_at(door, folder.path(), &["--dry-run"]).expect("it runs");
            assert!(code == 0 && !said.contains("nobody follows"), "{said}");
        }
        let (code, said) = import_at(of(folder.path()), folder.path(), &[]).expect("it runs");
        assert!(code == 0 && !said.contains("nobody follows"), "{said}");
    }

    /// However slow the machine is, all bans are taken over, and once more is no harm.
    #[test]
    fn many_bans_are_taken_over_however_long_that_takes() {
        let folder = configuration(JAILS, "[Definition]\ndbfile = @/f2b.sqlite3\n");
        let database = folder.path().join("f2b.sqlite3");
        make_database(&database);
        let many = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2999)
            INSERT INTO bips(jail, ip, timeofban, bantime, bancount, data)
            SELECT 'on', '10.0.' || (i / 250) || '.' || (i % 250), 1799999990, 600, 1, '{}' FROM n";
        change_database(&database, many);
        let door = Arc::new(Taking(std::sync::Mutex::default(), folder.path().to_owned()));
        let (code, said) = import_at(Some(door.clone()), folder.path(), &[]).expect("it goes on");
        assert_eq!((code, door.0.lock().expect("a lock").len()), (0, 3001), "{said}");
        let (_, said) = import_at(Some(door.clone()), folder.path(), &[]).expect("it runs");
        assert!(said.contains("0 bans are taken over; 3001 were in force already"), "{said}");
    }

    /// Where no agent takes the bans, it is said what to do, and that nothing is lost by running it again.
    #[test]
    fn without_an_agent_no_ban_is_taken_over_and_what_to_do_is_said() {
        let folder = configuration(JAILS, "[Definition]\ndbfile = @/f2b.sqlite3\n");
        make_database(&folder.path().join("f2b.sqlite3"));
        let failure = import_at(None, folder.path(), &[]).expect_err("nobody takes them");
        let (said, to_do) = (failure.to_string(), failure.what_to_do().unwrap_or_default());
        assert!(failure.exit_code() == 1 && said.contains("0 of 1 bans and their history are taken over"), "{said}");
        assert!(to_do.contains("run it again"), "{to_do}");
    }

    /// What is left out is said by the column that is impossible, and what an old database does not know is that of the jail.
    #[test]
    fn rows_that_are_left_out_are_told_by_their_column_and_lengths_that_are_unknown_are_those_of_the_jail() {
        let folder = configuration("[on]\nenabled = true\nbantime = 120\n", "[Definition]\ndbfile = @/f2b.sqlite3\n");
        make_database(&folder.path().join("f2b.sqlite3"));
        change_database(
            &folder.path().join("f2b.sqlite3"),
            "UPDATE bips SET bancount = -1 WHERE jail = 'off';
            UPDATE bans SET bancount = -1 WHERE jail = 'off'; UPDATE bips SET bantime = -2; DELETE FROM bans WHERE jail = 'on';
            INSERT INTO bans VALUES('on', 'somebody', 1799999990, 600, 1, '{}');",
        );
        let (_, said, bans) = import(folder.path(), &[]);
        assert!(said.contains("left out of the database: 2 rows with an impossible `bancount`"), "{said}");
        assert!(said.contains("left out of the database: 1 row without an address that can be banned"), "{said}");
        assert_eq!((bans.len(), &bans[0]["until"]), (1, &json!(Time::from_secs(1_799_999_990 + 120))), "{bans:?}");
    }

    #[test]
    fn without_a_database_no_ban_is_taken_over_and_why_is_said() {
        for none in [":memory:", "None"] {
            let folder = configuration(JAILS, &format!("[Definition]\ndbfile = {none}\n"));
            let (code, said, _) = import(folder.path(), &[]);
            assert!(
                code == 0 && said.contains(&format!("`dbfile = {none}`")) && said.contains("fail2ban.local:2"),
                "{said}"
            );
        }
        let (_, said, _) = import(configuration(JAILS, "").path(), &[]);
        assert!(said.contains("/nonexistent/of-the-package") && said.contains("fail2ban.conf:2"), "{said}");
    }

    #[test]
    fn that_nothing_can_be_followed_is_the_exit_code() {
        let spared = "[on]\nenabled = true\nignoreip = 192.0.2.0/24 office.example\n";
        for jails in [
            "[on]\n",
            spared,
            "[on]\nenabled = true\nignorecommand = /bin/true\n",
            "[on]\nenabled = true\nfilter = no\n",
        ] {
            let (code, said, _) = import(configuration(jails, "").path(), &["--dry-run"]);
            assert_eq!(code, 1, "{said}");
        }
        let (_, said, _) = import(configuration(spared, "").path(), &["--dry-run"]);
        assert!(said.contains("the jail is not followed") && said.contains("`office.example`"), "{said}");
        let (code, said, _) = import(configuration(JAILS, "").path(), &["--dry-run"]);
        assert_eq!(code, 0, "{said}");
    }
}
