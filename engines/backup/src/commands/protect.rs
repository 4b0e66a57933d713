//! `garant protect`: from nothing to a first base. Looks at what is to be backed up, writes the policy, has it taken, and waits.
//!
//! The order is that of what can be undone: what is missing is found out first, then the change of the policy is shown and agreed to,
//! then the directories and the key are made, and the policy is replaced last, in one step. Whatever fails before that
//! leaves the policy as it was. A second call of the same name changes nothing.

pub(super) mod key;
mod place;
mod policy_file;
pub(super) mod server;
mod wait;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use engine::Failure;
use engine::command::{CommandContext, JudgedPolicy, Style};
use engine::printable::text as printable;
use policy::{Addition, BackupName, Document, Nouns, Part as _, with_additions};
use serde_json::{Value, json};
use similar::TextDiff;

use self::key::KeyFile;
use self::place::NewCopy;
use self::server::{Engine, Server};
use super::{POLICY, agent_flag, json_flag};
use crate::abilities;
use crate::config::{Config, Connection, PlaceSettings, Settings};
use crate::database::{Mend, Problem};

/// How often the rights of a user are given and looked at again: a user first, then what it may do.
const FIXES_MAX: usize = 3;
/// The service of the probes, where the policy has no `[backup]` yet.
const SERVICE: &str = "backup";
/// Lines around a change that are shown.
const CONTEXT_LINES: usize = 2;

/// Exit code of a protection that is written down and has no first base yet.
const NO_BASE_YET: u8 = 3;

pub(super) fn arguments() -> clap::Command {
    let socket =
        |help| Arg::new("socket").long("socket").value_name("PATH").value_parser(value_parser!(PathBuf)).help(help);
    let user = Arg::new("user")
        .long("user")
        .value_name("USER")
        .help("The user of the server, where it is not that of the agent");
    let many = |name, value, help| Arg::new(name).long(name).value_name(value).action(ArgAction::Append).help(help);
    let paths = Arg::new("path")
        .value_name("PATH")
        .num_args(0..)
        .value_parser(value_parser!(PathBuf))
        .help("Files and directories");
    clap::Command::new("protect")
        .about("Protect a database or files: from nothing to a first base, with the policy written for you")
        .after_help(
            "Exit codes: 0 the first base is there, or nothing was to be done; 1 failed, and the policy is as it was, unless it says \
             otherwise; 2 called wrongly, or mistakes in the policy; 3 the policy is written, and there is no base yet.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            common(clap::Command::new("mariadb").about("A server of MariaDB, to any second"))
                .arg(socket("Its socket, where it is not the only one"))
                .arg(user.clone())
                .arg(fix_flag()),
        )
        .subcommand(
            common(clap::Command::new("postgres").about("A cluster of PostgreSQL, to any second"))
                .arg(socket("The folder of its socket, where it is not the only one; the socket itself, where its port is not 5432"))
                .arg(user)
                .arg(fix_flag()),
        )
        .subcommand(
            common(clap::Command::new("files").about("Files, directories and volumes of Docker"))
                .arg(paths)
                .arg(many("volume", "VOLUME", "A volume of Docker"))
                .arg(many("exclude", "PATTERN", "What is left out, as in a .gitignore")),
        )
}

fn fix_flag() -> Arg {
    let help = "Make the user and give it its rights, as root by the socket of the server; nothing else of the server is changed";
    Arg::new("fix").long("fix").action(ArgAction::SetTrue).help(help)
}

fn common(command: clap::Command) -> clap::Command {
    let flag = |name, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let file =
        |name, help| Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help);
    let copies = "A place for the backups, best two: a directory, or https://ENDPOINT/BUCKET,region=…,provider=…,access_key=…,secret_key=FILE[,destroy_access_key=…,destroy_secret_key=FILE]";
    command
        .arg(Arg::new("name").value_name("NAME").required(true).help("What the backup is called from now on"))
        .arg(Arg::new("copy").long("copy").value_name("PLACE").action(ArgAction::Append).help(copies))
        .arg(file("policy", "The policy; it is made where there is none").default_value(POLICY).env("GARANT_POLICY"))
        .arg(file(
            "key",
            "The repository key, where there is one already, or where it is to be; beside the policy unless said",
        ))
        .arg(flag("dry-run", "Show what would be done, and do nothing"))
        .arg(flag("yes", "Do it without asking"))
        .arg(flag("no-wait", "Do not wait for the first base"))
        .arg(agent_flag())
        .arg(json_flag())
}

/// What is to be protected.
struct Wish<'a> {
    name: &'a str,
    what: What,
    policy: &'a Path,
    matches: &'a ArgMatches,
}

enum What {
    Server(Server),
    Files { paths: Vec<PathBuf>, volumes: Vec<String>, exclude: Vec<String> },
}

/// The policy as it is.
struct Before {
    /// Its text; `None` where there is no file.
    text: Option<String>,
    nouns: Nouns,
    settings: Option<Settings>,
}

/// The policy as it would be.
struct After {
    text: String,
    judged: JudgedPolicy,
    settings: Settings,
    /// What is still missing, in words.
    missing: Vec<String>,
}

pub(super) fn run(matches: &ArgMatches, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let Some((kind, matches)) = matches.subcommand() else { return Ok(2) };
    let flag = |name: &str| matches.get_flag(name);
    let wish = Wish::read(kind, matches)?;
    let before = Before::read(wish.policy)?;
    if let Some(settings) = before.settings.as_ref()
        && let Some(there) = wish.is_in(settings)
    {
        for text in matches.get_many::<String>("copy").into_iter().flatten() {
            if !NewCopy::parse(text)?.is_one_of(&settings.copies) {
                return Err(Failure::new(format!("{} is there already, and no copy of it is at {text}", wish.name))
                    .remedy(format!("add it to `copy` of [backup] in {}; nothing is changed", wish.policy.display()))
                    .code(2));
            }
        }
        return is_there(&wish, there, flag("json"), command);
    }
    // A server is looked for once it is known that there is something to do.
    let wish = wish.found()?;
    let (additions, directories) = wish.additions(&before, command)?;
    let old = before.text.clone().unwrap_or_else(policy_file::starting);
    let text = with_additions(&old, &additions).map_err(|error| {
        Failure::new(format!("nothing can be added to {} as it is written", wish.policy.display()))
            .because(&error)
            .remedy("write [backup], [[backup.copy]] and [[region]] with headers of their own")
            .code(2)
    })?;
    let after = After::judged(wish.policy, text, command)?;
    let problems = wish.problems(&after.judged, command)?;
    let mut report =
        Report { wish: &wish, problems: &problems, diff: String::new(), key: None, after: &after, lacking: Vec::new() };
    let is_ready = problems.iter().all(|problem| problem.is_warning);
    if !is_ready && !flag("dry-run") {
        report.show_problems(command);
        if flag("json") {
            report.json("not ready", &json!({}), command);
        }
        return Err(Failure::new(format!("{} can't be backed up as it is; the policy is as it was", wish.name))
            .remedy("mend what is said above, and run this again"));
    }
    let shown = wish.policy.display().to_string();
    let from = before.text.as_deref().unwrap_or_default();
    let diff = TextDiff::from_lines(from, &after.text);
    report.diff = diff.unified_diff().context_radius(CONTEXT_LINES).header(&shown, &shown).to_string();
    if !flag("json") {
        report.show_problems(command);
        command.raw(report.diff.as_bytes());
    }
    if flag("dry-run") {
        if flag("json") {
            report.json("would be written", &json!({}), command);
        } else {
            command.note("nothing is changed: that was a dry run");
        }
        return Ok(u8::from(!is_ready));
    }
    let asks = !flag("json");
    agreed(&wish, asks, command)?;
    report.lacking = after.tried(&before, command)?;
    let watched = wait::Watched::begin(&wish, &after, before.settings.is_some(), command);
    let shows = asks && command.prompts();
    if let Some(ids) = after.judged.agent_ids {
        for directory in &directories {
            place::make(directory, &after.judged.agent, ids)?;
        }
    }
    report.key = wish.key(&before, shows, command)?;
    policy_file::replace(wish.policy, before.text.as_deref(), &after.text)?;
    if !flag("json") {
        if let Some(KeyFile { path, is_new: true, .. }) = report.key.as_ref().filter(|_| !shows) {
            command.note(&format!(
                "The repository key is in {}: keep it somewhere else as well, for without it no backup can be read, by anybody. \
                 `garant backup key check` is the drill.",
                path.display()
            ));
        }
        command.note(&format!("{shown} is written"));
    }
    watched.end(&report, command)
}

/// Fails where nobody has agreed.
fn agreed(wish: &Wish<'_>, asks: bool, command: &dyn CommandContext) -> Result<(), Failure> {
    if wish.matches.get_flag("yes") {
        return Ok(());
    }
    let question = format!("Write this to {}? [y/N]", wish.policy.display());
    match command.prompt(&question).filter(|_| asks) {
        Some(answer) if matches!(answer.to_lowercase().as_str(), "y" | "yes") => Ok(()),
        Some(_) => Err(Failure::new("nobody has agreed, and the policy is as it was")),
        None => Err(Failure::new("nobody was there to agree; the policy is as it was")
            .remedy("add --yes, or --dry-run to see what would be done")
            .code(2)),
    }
}

fn is_there(wish: &Wish<'_>, kind: &str, json: bool, command: &mut dyn CommandContext) -> Result<u8, Failure> {
    let asked = wish.kind();
    if kind != asked {
        return Err(Failure::new(format!("{} is there already, and is of the kind {kind}", wish.name))
            .remedy("choose another name; nothing is changed")
            .code(2));
    }
    if json {
        command.json(&json!({ "name": wish.name, "kind": kind, "state": "there", "changed": false }));
    } else {
        command.line(&format!(
            "{} is protected already; nothing is changed. `garant backup status` shows how it stands",
            wish.name
        ));
    }
    Ok(0)
}

impl<'a> Wish<'a> {
    fn read(kind: &str, matches: &'a ArgMatches) -> Result<Self, Failure> {
        let name = super::name(matches);
        if name.parse::<BackupName>().is_err() {
            let failure = Failure::new(format!("`{}` is no name of a backup", printable(name)));
            return Err(failure.remedy("write a short one of the characters a-z 0-9 - such as shop-db").code(2));
        }
        let policy = matches.get_one::<PathBuf>("policy").map_or(Path::new(POLICY), PathBuf::as_path);
        let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
        let engine = match kind {
            "mariadb" => Some(Engine::MariaDb),
            "postgres" => Some(Engine::Postgres),
            _ => None,
        };
        let what = if let Some(engine) = engine {
            let user = matches.get_one::<String>("user").cloned();
            let connection = Connection { socket: path("socket").unwrap_or_default(), user, password: None };
            What::Server(Server { engine, connection })
        } else {
            Self::files(name, matches)?
        };
        Ok(Self { name, what, policy, matches })
    }

    fn files(name: &str, matches: &ArgMatches) -> Result<What, Failure> {
        let all = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect::<Vec<_>>();
        let paths: Vec<PathBuf> = matches.get_many("path").into_iter().flatten().cloned().collect();
        let volumes = all("volume");
        if paths.is_empty() && volumes.is_empty() {
            let failure = Failure::new("nothing is named that could be backed up");
            return Err(failure.remedy(format!("name it: garant protect files {name} /etc /srv/www")).code(2));
        }
        if let Some(path) = paths.iter().find(|path| !path.is_absolute() || !path.exists()) {
            let why = if path.is_absolute() { "is not there" } else { "is no absolute path" };
            return Err(Failure::new(format!("{} {why}", path.display()))
                .remedy("name what is to be backed up")
                .code(2));
        }
        Ok(What::Files { paths, volumes, exclude: all("exclude") })
    }

    const fn kind(&self) -> &'static str {
        match &self.what {
            What::Server(Server { engine: Engine::MariaDb, .. }) => "mariadb",
            What::Server(Server { engine: Engine::Postgres, .. }) => "postgres",
            What::Files { .. } => "files",
        }
    }

    /// The kind of the backup of this name in the policy.
    fn is_in(&self, settings: &Settings) -> Option<&'static str> {
        let of = |mut names: Box<dyn Iterator<Item = &String> + '_>| names.any(|name| name == self.name);
        let kinds: [(&str, Box<dyn Iterator<Item = &String> + '_>); 3] = [
            ("mariadb", Box::new(settings.mariadb.iter().map(|database| &database.name))),
            ("postgres", Box::new(settings.postgres.iter().map(|database| &database.name))),
            ("files", Box::new(settings.files.iter().map(|files| &files.name))),
        ];
        kinds.into_iter().find_map(|(kind, names)| of(names).then_some(kind))
    }

    /// The same, with the socket that was found where none was named.
    fn found(mut self) -> Result<Self, Failure> {
        if let What::Server(Server { engine, connection }) = &mut self.what
            && connection.socket.as_os_str().is_empty()
        {
            connection.socket = engine.find()?;
        }
        Ok(self)
    }

    /// What is added to the policy, and the directories that are to be there then.
    fn additions(
        &self,
        before: &Before,
        command: &dyn CommandContext,
    ) -> Result<(Vec<Addition>, Vec<PathBuf>), Failure> {
        let copies = self.matches.get_many::<String>("copy").into_iter().flatten();
        let copies = copies.map(|text| NewCopy::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let there = before.settings.as_ref().map_or(&[][..], |settings| &settings.copies);
        if there.is_empty() && copies.is_empty() {
            return Err(Failure::new("nobody knows where the backups are to be")
                .remedy(
                    "name a place with --copy, best two: --copy /mnt/backup --copy https://ENDPOINT/BUCKET,region=…",
                )
                .code(2));
        }
        let secrets = command.means()?.secrets;
        copies.iter().try_for_each(|copy| copy.check(&secrets))?;
        let mut additions = Vec::new();
        let mut regions = place::regions(&before.nouns);
        let mut taken: Vec<String> = there.iter().map(|copy| copy.name.clone()).collect();
        let mut of_copies = Vec::new();
        for copy in copies.iter().filter(|copy| !copy.is_one_of(there)) {
            of_copies.extend(copy.additions(&mut taken, &mut regions)?);
        }
        if before.settings.is_none() {
            if !before.nouns.services.iter().any(|service| service.id.to_string() == SERVICE) {
                let service = Addition::one_more(&["service"]).key("name", SERVICE);
                additions.push(service.key("title.fr", "Les sauvegardes").key("title.en", "The backups"));
            }
            let backup = Addition::table(&["backup"]).key("service", SERVICE);
            additions.push(backup.secret("key", &self.key_path()?));
        }
        additions.extend(of_copies);
        let mut directories: Vec<PathBuf> = copies.iter().filter_map(NewCopy::directory).map(Path::to_owned).collect();
        directories.retain(|directory| !there.iter().any(|copy| copy.directory() == Some(directory)));
        additions.push(self.addition(
            there.iter().filter_map(|copy| copy.directory()).chain(directories.iter().map(PathBuf::as_path)),
            command,
        ));
        Ok((additions, directories))
    }

    /// The table of the backup itself. `copies` are the directories of copies, which no backup holds.
    fn addition<'b>(&self, copies: impl Iterator<Item = &'b Path>, command: &dyn CommandContext) -> Addition {
        match &self.what {
            What::Server(Server { engine, connection: Connection { socket, user, .. } }) => {
                let path: &[&str] = match engine {
                    Engine::MariaDb => &["backup", "mariadb"],
                    Engine::Postgres => &["backup", "postgres"],
                };
                let socket = (*socket != engine.usual()).then(|| socket.display().to_string());
                Addition::one_more(path).key("name", self.name).maybe("socket", socket).maybe("user", user.as_ref())
            }
            What::Files { paths, volumes, exclude } => {
                let mut exclude = exclude.clone();
                for copy in copies.filter(|copy| paths.iter().any(|path| copy.starts_with(path))) {
                    command.note(&format!("the copy in {} is left out of what is backed up", copy.display()));
                    exclude.push(copy.display().to_string());
                }
                let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                Addition::one_more(&["backup", "files"])
                    .key("name", self.name)
                    .list("paths", &paths)
                    .list("volumes", volumes)
                    .list("exclude", &exclude)
            }
        }
    }

    /// Where the key is, or is to be.
    fn key_path(&self) -> Result<PathBuf, Failure> {
        let named = self.matches.get_one::<PathBuf>("key").cloned();
        let path = named.unwrap_or_else(|| self.policy.with_file_name("backup.key"));
        std::path::absolute(&path)
            .map_err(|error| Failure::new(format!("{} is nowhere", path.display())).because(&error).code(2))
    }

    /// The key of a policy that has none yet.
    fn key(&self, before: &Before, shows: bool, command: &mut dyn CommandContext) -> Result<Option<KeyFile>, Failure> {
        if before.settings.is_some() {
            return Ok(None);
        }
        key::take(&self.key_path()?, shows, command).map(Some)
    }

    /// What keeps it from being backed up; what may be mended here is, where that is wanted.
    fn problems(&self, agent: &JudgedPolicy, command: &dyn CommandContext) -> Result<Vec<Problem>, Failure> {
        let What::Server(server) = &self.what else { return Ok(Vec::new()) };
        let fixes = self.matches.get_flag("fix") && !self.matches.get_flag("dry-run");
        let mut problems = server.problems(agent, command)?;
        for _ in 0..FIXES_MAX {
            let rights = problems.iter().filter_map(|problem| match &problem.mend {
                Mend::Rights(statements) => Some(statements.as_str()),
                _ => None,
            });
            let rights: Vec<&str> = rights.collect();
            if !fixes || rights.is_empty() {
                break;
            }
            server.run(&rights.join("\n"), command)?;
            for statements in rights {
                command.note(&format!("done: {statements}"));
            }
            problems = server.problems(agent, command)?;
        }
        Ok(problems)
    }
}

impl Before {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                let failure = Failure::new(format!("the policy {} can't be read", path.display())).because(&error);
                return Err(failure.remedy("run this command as root, or name the policy with --policy FILE").code(2));
            }
        };
        let mut document = load(path, text.as_deref().unwrap_or_default())?;
        let nouns = Nouns::read(&mut document);
        let has_backup = document.has("backup");
        let settings = Config::read(&mut document, &nouns).settings().cloned();
        if has_backup && settings.is_none() {
            return Err(Failure::new(format!("{} has no sound [backup]", path.display()))
                .remedy(format!("see what is wrong with `garant check --policy {}`", path.display()))
                .code(2));
        }
        Ok(Self { text, nouns, settings })
    }
}

fn load(path: &Path, text: &str) -> Result<Document, Failure> {
    Document::load_as(path, Some(text)).map_err(|mistakes| {
        Failure::new(format!("the policy {} can't be read", path.display())).because(&mistakes).code(2)
    })
}

impl After {
    fn judged(path: &Path, text: String, command: &dyn CommandContext) -> Result<Self, Failure> {
        let judged = command.judge(path, &text)?;
        let mut document = load(path, &text)?;
        let nouns = Nouns::read(&mut document);
        let config = Config::read(&mut document, &nouns);
        let settings = config.settings().cloned().ok_or_else(|| Failure::new("the policy would have no [backup]"))?;
        Ok(Self { text, judged, settings, missing: config.warnings() })
    }

    /// Tries out the buckets that were not there before, and says what they lack.
    fn tried(&self, before: &Before, command: &dyn CommandContext) -> Result<Vec<String>, Failure> {
        let known = before.settings.as_ref().map_or(&[][..], |settings| &settings.copies);
        let context = command.means()?;
        let mut lacking = Vec::new();
        for copy in self.settings.copies.iter().filter(|copy| !known.contains(copy)) {
            let PlaceSettings::S3(bucket) = &copy.place else { continue };
            let mut found = None;
            command.wait(Box::pin(async { found = Some(abilities::lacking(bucket, &context).await) }))?;
            let found = found.ok_or_else(|| Failure::new("the bucket was not tried out"))?.map_err(|error| {
                Failure::new(format!("the bucket {} can't be used; nothing is changed", bucket.bucket))
                    .because(&error)
                    .remedy("make it, and let the identity add, read, list and lock")
            })?;
            lacking.extend(found.into_iter().map(|lacks| format!("the copy `{}`: {lacks}", copy.name)));
        }
        Ok(lacking)
    }
}

/// What is shown in the end.
struct Report<'a> {
    wish: &'a Wish<'a>,
    problems: &'a [Problem],
    diff: String,
    key: Option<KeyFile>,
    after: &'a After,
    /// What new buckets lack, as they were tried out.
    lacking: Vec<String>,
}

impl Report<'_> {
    /// Shows what is wrong with the server, and the script that mends it.
    fn show_problems(&self, command: &mut dyn CommandContext) {
        if self.wish.matches.get_flag("json") {
            return;
        }
        for problem in self.problems {
            let style = if problem.is_warning { Style::Doubtful } else { Style::Bad };
            let what = command.painted(style, &printable(&problem.what));
            command.line(&format!("{what}\n    {}", printable(&problem.remedy)));
        }
        let wrong: Vec<Problem> = self.problems.iter().filter(|problem| !problem.is_warning).cloned().collect();
        let What::Server(server) = &self.wish.what else { return };
        if let Some(script) = server.script(&wrong) {
            command.line(&format!("\nAs a script, for root on the host of the server:\n\n{script}"));
            if wrong.iter().any(|problem| matches!(problem.mend, Mend::Rights(_))) {
                command.line("With --fix, garant makes the user and gives it its rights itself.");
            }
        }
    }

    /// The result for programs. `more` is added to it.
    fn json(&self, state: &str, more: &Value, command: &mut dyn CommandContext) {
        let script = match &self.wish.what {
            What::Server(server) => server.script(self.problems),
            What::Files { .. } => None,
        };
        let key = self.key.as_ref();
        let mut result = json!({
            "name": self.wish.name,
            "kind": self.wish.kind(),
            "policy": self.wish.policy,
            "state": state,
            "changed": !matches!(state, "not ready" | "would be written"),
            "problems": self.problems,
            "script": script,
            "diff": self.diff,
            "key": key.map(|key| json!({ "file": key.path, "identity": key.identity, "is_new": key.is_new })),
            "copies": self.after.settings.copies.iter().map(|copy| &copy.name).collect::<Vec<_>>(),
            "missing": self.after.missing.iter().chain(&self.lacking).collect::<Vec<_>>(),
        });
        if let (Some(result), Some(more)) = (result.as_object_mut(), more.as_object()) {
            result.extend(more.clone());
        }
        command.json(&result);
    }
}
