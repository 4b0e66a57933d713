//! The commands: `garant backup …`, `garant restore`, `garant rewind`. What asks the engine asks the agent of this host; what reads the repository reads it
//! itself, with the policy and the key alone, for a restore is needed most where nothing else is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use engine::command::CommandContext;
use engine::printable::text as printable;
use engine::{BoxFuture, Command, Context, Failure};
use event::{Span, Time};
use policy::{Document, Nouns, Part as _};

use crate::config::{Config, SecretPlace, Settings};
use crate::open::{Reading, open_as};
use crate::sealed::{CopyState, Repository};

mod key;
mod list;
mod protect;
mod restore;
mod rewind;
mod show;
mod status;

/// The exit code of a restore or rewind to an instant that can't be reached.
const UNREACHABLE: u8 = 4;
/// The policy that is read unless another is named.
const POLICY: &str = "garant.toml";

/// All of them.
pub fn commands() -> Vec<Command> {
    let backup = clap::Command::new("backup")
        .about("Backups: how they stand, what there is, and their key")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(status::arguments())
        .subcommand(status::run_arguments())
        .subcommand(list::arguments())
        .subcommand(show::arguments())
        .subcommand(list::explain_arguments())
        .subcommand(list::check_arguments())
        .subcommand(key::arguments())
        .subcommand(
            clap::Command::new("problems")
                .about(
                    "Say what keeps this user from backing up a server that standard input names; for `garant protect`",
                )
                .hide(true),
        );
    vec![
        Command { arguments: backup, run },
        Command { arguments: protect::arguments(), run: protect::run },
        Command { arguments: restore::arguments(), run: restore::run },
        Command { arguments: rewind::arguments(), run: rewind::run },
    ]
}

fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("status", matches)) => status::status(matches, context),
        Some(("run", matches)) => status::run(matches, context),
        Some(("list", matches)) => list::list(matches, context),
        Some(("show", matches)) => show::run(matches, context),
        Some(("explain", matches)) => list::explain(matches, context),
        Some(("check", matches)) => list::check(matches, context),
        Some(("key", matches)) => key::run(matches, context),
        Some(("problems", matches)) => protect::server::questioned(matches, context),
        _ => Ok(2),
    }
}

fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Write JSON instead of text")
}

fn agent_flag() -> Arg {
    Arg::new("agent")
        .long("agent")
        .value_name("SOCKET")
        .value_parser(value_parser!(PathBuf))
        .help("The socket of the agent, where it is not the one of this host")
}

fn policy_flags(command: clap::Command) -> clap::Command {
    let policy = Arg::new("policy")
        .long("policy")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .default_value(POLICY)
        .env("GARANT_POLICY")
        .help("The policy that says where the copies are");
    let key = Arg::new("key")
        .long("key")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The repository key, where it is not where the policy says");
    command.arg(policy).arg(key)
}

/// How the copies are read, for commands that read them.
fn reading_flag(command: clap::Command) -> clap::Command {
    let first = Arg::new("as-first-written")
        .long("as-first-written")
        .value_name("TIME")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("")
        .help("Read buckets as they were first written, whatever was put over it or deleted since; with TIME, without what came after it");
    command.arg(first)
}

/// Where a path leads, through every link on the way: what of it is not there yet stays as it is.
fn resolved(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, real)) = there else { return Ok(path) };
    let missing = path.strip_prefix(above).unwrap_or(Path::new(""));
    if missing.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(std::io::Error::other("it goes up from a folder that is not there"));
    }
    Ok(if missing == Path::new("") { real } else { real.join(missing) })
}

/// Fails where a folder is, or would be, among the data of a server of MariaDB or PostgreSQL, which takes each folder there for its own.
fn is_apart(folder: &Path) -> Result<(), Failure> {
    let is_of_server = |above: &&Path| ["ibdata1", "PG_VERSION"].iter().any(|file| above.join(file).exists());
    match folder.ancestors().find(is_of_server) {
        None => Ok(()),
        Some(server) => {
            let why = format!("{} is inside of {}, where a server has its data", folder.display(), server.display());
            Err(Failure::new(why).remedy("name a folder elsewhere").code(2))
        }
    }
}

fn reading(matches: &ArgMatches, now: Time) -> Result<Reading, Failure> {
    // Commands that write do not have it.
    match matches.try_get_one::<String>("as-first-written").ok().flatten().map(String::as_str) {
        None => Ok(Reading::AsItIs),
        Some("") => Ok(Reading::AsFirstWritten(None)),
        Some(before) => Ok(Reading::AsFirstWritten(Some(instant(before, now)?))),
    }
}

fn wants_json(matches: &ArgMatches) -> bool {
    matches.get_flag("json")
}

/// `[backup]` of the policy that the arguments name.
fn settings(matches: &ArgMatches) -> Result<Settings, Failure> {
    let path = matches.get_one::<PathBuf>("policy").map_or(Path::new(POLICY), PathBuf::as_path);
    let mut document = Document::load(path).map_err(|mistakes| {
        Failure::new(format!("the policy {} can't be read", path.display()))
            .because(&mistakes)
            .remedy("name the policy with --policy FILE")
            .code(2)
    })?;
    let nouns = Nouns::read(&mut document);
    let config = Config::read(&mut document, &nouns);
    let Some(mut settings) = config.settings().cloned() else {
        return Err(Failure::new(format!("{} has no sound [backup]", path.display()))
            .remedy(format!("see what is wrong with `garant check --policy {}`", path.display()))
            .code(2));
    };
    if let Some(key) = matches.get_one::<PathBuf>("key") {
        settings.key = SecretPlace::File(key.clone());
    }
    Ok(settings)
}

/// Does `work` with the repository of the policy.
fn with_repository<T: Send>(
    matches: &ArgMatches,
    command: &dyn CommandContext,
    work: impl for<'a> FnOnce(&'a Context, &'a Settings, Arc<Repository>) -> BoxFuture<'a, Result<T, Failure>> + Send,
) -> Result<T, Failure> {
    let (settings, context) = (settings(matches)?, command.means()?);
    let reading = reading(matches, command.now())?;
    let (mut done, mut away): (_, Vec<CopyState>) = (None, Vec::new());
    command.wait(Box::pin(async {
        let worked = async {
            let repository = open_as(&settings, &context, reading).await.map_err(|error| {
                Failure::new("the repository can't be opened").because(&error).remedy(
                    "give the key that was shown when it was made with --key FILE, readable for you alone (chmod 600)",
                )
            })?;
            let worked = work(&context, &settings, Arc::clone(&repository)).await;
            away = repository.states().into_iter().filter(|copy| copy.is_away).collect();
            worked
        };
        done = Some(worked.await);
    }))?;
    for copy in away {
        let why = copy.error.map_or_else(String::new, |error| error.to_string());
        command.note(&format!("warning: the copy {} does not answer, and is left out: {why}", copy.name));
    }
    done.unwrap_or_else(|| Err(Failure::new("the work has not begun")))
}

/// The backup that the arguments name.
fn name(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("name").map_or("", String::as_str)
}

fn name_argument() -> Arg {
    Arg::new("name").value_name("NAME").required(true).help("The backup, as the policy calls it")
}

/// Fails where the policy has no backup of that name.
fn known(settings: &Settings, name: &str) -> Result<(), Failure> {
    let names: Vec<&str> = settings.backups().map(|(name, ..)| name).collect();
    if names.contains(&name) {
        return Ok(());
    }
    Err(Failure::new(format!("the policy has no backup of the name `{name}`"))
        .remedy(format!("name one of {}", names.join(", ")))
        .code(2))
}

/// Bytes for people: `1.4 GB`.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut amount, mut unit) = (count as f64, 0);
    while amount >= 1000.0 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

/// An instant that a person writes: RFC 3339 with its offset, or how long ago.
fn instant(words: &str, now: Time) -> Result<Time, Failure> {
    if let Some(ago) = words.trim().strip_suffix("ago")
        && let Ok(ago) = Span::parse(ago.trim())
    {
        return Ok(now - ago);
    }
    Time::parse_rfc3339(words.trim()).filter(|_| !is_taken_for_another(words.trim())).ok_or_else(|| {
        Failure::new(format!("`{}` is no instant", printable(words)))
            .remedy(format!(
                "write it with its offset from UTC, {} or 2026-11-29T14:32:07+01:00, or how long ago: \"10 min ago\"",
                now.to_rfc3339()
            ))
            .code(2)
    })
}

/// Whether words would be read as another instant: a second 60, for no clock here counts leap seconds, or an offset of a day and more
/// (RFC 3339, section 5.6).
fn is_taken_for_another(words: &str) -> bool {
    let time = words.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    let (clock, offset) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    let hours = offset.get(1..3).and_then(|hours| hours.parse::<u8>().ok());
    clock.get(6..8) == Some("60") || hours.is_some_and(|hours| hours > 23)
}

/// An instant in RFC 3339, to the microsecond where it is not a whole second.
fn exactly(at: Time) -> String {
    let (second, micros) = (at.to_rfc3339(), at.micros().rem_euclid(1_000_000));
    match second.strip_suffix('Z') {
        Some(second) if micros != 0 => format!("{second}.{micros:06}Z"),
        _ => second,
    }
}

/// The instant of the backup `name` that a person writes. The log of MariaDB dates commits to the second: an instant within one can't be
/// told from another, and how long ago something was is never meant so exactly.
fn instant_of(settings: &Settings, name: &str, words: &str, now: Time) -> Result<Time, Failure> {
    let to = instant(words, now)?;
    if to > now {
        return Err(Failure::new(format!("{to} has not come yet")).remedy("name an instant that is over").code(2));
    }
    let before = Time::from_secs(to.micros().div_euclid(1_000_000));
    if to == before || !settings.mariadb.iter().any(|database| database.name == name) {
        return Ok(to);
    }
    if words.trim().ends_with("ago") {
        return Ok(before);
    }
    let after = before + Span::from_secs(1);
    Err(Failure::new(format!(
        "{} lies within a second, and the log of MariaDB dates commits to whole ones",
        exactly(to)
    ))
    .remedy(format!("name {before} or {after}"))
    .code(UNREACHABLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BK-3: what names no instant is not taken for the one beside it.
    #[test]
    fn an_instant_is_taken_for_no_other() {
        let now = Time::parse_rfc3339("2026-11-30T14:00:00Z").expect("a time");
        for words in
            ["2026-11-30T12:51:60Z", "2026-11-30T12:51:60.5Z", "2026-11-30 12:51:60+01:00", "2026-11-30T12:51:59+25:00"]
        {
            assert!(instant(words, now).is_err(), "{words}");
        }
        for words in ["2026-11-30T12:51:59Z", "2026-11-30T12:51:59.5-01:00", "2026-11-30T12:51:06+14:00", "10 min ago"]
        {
            assert!(instant(words, now).is_ok(), "{words}");
        }
    }

    /// A link into the data of a server, or a folder that is not there yet behind one, is known for what it is.
    #[test]
    fn a_folder_is_where_its_path_leads() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("data/empty")).expect("made");
        std::fs::write(at("data/ibdata1"), "").expect("written");
        std::os::unix::fs::symlink(at("data"), at("link")).expect("linked");
        std::os::unix::fs::symlink(at("data/empty"), at("other")).expect("linked");
        for name in ["link/new", "link/new/below", "other", "link/empty/../new"] {
            let path = resolved(&at(name)).expect("a path");
            assert!(is_apart(&path).is_err(), "{name}: {}", path.display());
        }
        is_apart(&resolved(&at("elsewhere/new")).expect("a path")).expect("it is apart");
        resolved(&at("elsewhere/../data/new")).expect_err("nobody knows where that is");
    }

    #[test]
    fn bytes_are_rounded_for_people() {
        for (count, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_449_999, "1.4 MB"),
            (36_000_000_000, "36.0 GB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }

    #[test]
    fn how_copies_are_read_is_said_with_or_without_a_time() {
        let now = Time::parse_rfc3339("2026-11-29T14:00:00Z").expect("a time");
        let read = |arguments: &[&str]| {
            let command = list::arguments();
            let matches = command.try_get_matches_from([&["list"], arguments].concat()).expect("known");
            assert_eq!(name(&matches), "www");
            reading(&matches, now)
        };
        assert_eq!(read(&["www"]).expect("one"), Reading::AsItIs);
        assert_eq!(read(&["--as-first-written", "www"]).expect("one"), Reading::AsFirstWritten(None));
        let before = Reading::AsFirstWritten(Some(now - Span::from_secs(3600)));
        assert_eq!(read(&["www", "--as-first-written=1 h ago"]).expect("one"), before);
        assert_eq!(read(&["www", "--as-first-written=yesterday"]).expect_err("no time").exit_code(), 2);
    }

    /// BK-2: no other instant than the one that was asked for.
    #[test]
    fn an_instant_within_a_second_is_none_of_mariadb() {
        let backups = "mariadb = [{ name = \"shop-db\" }]\npostgres = [{ name = \"crm-db\" }]";
        let settings = Config::sample(backups);
        let now = Time::parse_rfc3339("2026-11-29T14:00:00.7Z").expect("an instant");
        let of = |name: &str, words: &str| instant_of(&settings, name, words, now).map(exactly);
        let refused = of("shop-db", "2026-11-29T13:00:10.999Z").expect_err("within a second");
        assert_eq!(refused.exit_code(), UNREACHABLE);
        assert_eq!(of("shop-db", "2026-11-29T13:00:10.000Z").expect("a second"), "2026-11-29T13:00:10Z");
        assert_eq!(of("shop-db", "10 min ago").expect("about then"), "2026-11-29T13:50:00Z");
        assert_eq!(of("crm-db", "2026-11-29T13:00:10.999Z").expect("exactly"), "2026-11-29T13:00:10.999000Z");
        assert_eq!(of("shop-db", "2026-11-29T15:00:00Z").expect_err("it has not come").exit_code(), 2);
    }

    #[test]
    fn an_instant_has_an_offset_or_is_some_time_ago() {
        let now = Time::parse_rfc3339("2026-11-29T14:00:00Z").expect("a time");
        let at = |words| instant(words, now).map(exactly);
        assert_eq!(at("2026-11-29T14:32:07+01:00").expect("one"), "2026-11-29T13:32:07Z");
        assert_eq!(at("10 min ago").expect("one"), "2026-11-29T13:50:00Z");
        for words in ["", "14:32", "2026-11-29 14:32:07", "2026-11-29T14:32:07", "ago", "soon"] {
            assert_eq!(at(words).expect_err(words).exit_code(), 2);
        }
    }
}
