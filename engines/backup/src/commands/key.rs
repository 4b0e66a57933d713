//! `garant backup key`: makes the repository key, and checks one that somebody has kept.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, value_parser};
use engine::Failure;
use engine::command::{CommandContext, Question};

use super::{agent_flag, name, name_argument, policy_flags, settings};
use crate::door::{API, Wish};
use crate::files::password;
use crate::sealed::RepositoryKey;

/// Longest text that is taken for a key.
const BYTES_MAX: u64 = 1024;

pub(super) fn arguments() -> clap::Command {
    clap::Command::new("key")
        .about("The repository key: without it no backup can be read")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            clap::Command::new("new").about("Make one, write it to a file and show it once").arg(
                Arg::new("file")
                    .value_name("FILE")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("The file, which must not be there yet"),
            ),
        )
        .subcommand(
            policy_flags(
                clap::Command::new("restic")
                    .about("Show the password with which stock restic reads the files of a backup"),
            )
            .arg(name_argument()),
        )
        .subcommand(
            policy_flags(
                clap::Command::new("check")
                    .about("Read a key from standard input, and say whether it opens this repository"),
            )
            .arg(agent_flag()),
        )
}

pub(super) fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("new", matches)) => new(matches, context),
        Some(("restic", matches)) => restic(matches, context),
        Some(("check", matches)) => check(matches, context),
        _ => Ok(2),
    }
}

fn new(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let Some(path) = matches.get_one::<PathBuf>("file") else { return Ok(2) };
    let key = RepositoryKey::random(&*context.means()?.random);
    super::protect::key::write(path, &key)?;
    context.line(&key.text());
    context.note(&format!(
        "It is in {}, and shown this once. Keep it somewhere else as well: on paper, in the safe of another place. Without it no \
         backup can be read, by anybody. Whoever has it can read them all.",
        path.display()
    ));
    Ok(0)
}

/// The repository key of the policy, or of `--key`.
fn kept(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<RepositoryKey, Failure> {
    let settings = settings(matches)?;
    let means = context.means()?;
    let mut found = None;
    context.wait(Box::pin(async { found = Some(crate::open::key(&settings, &means).await) }))?;
    let found = found.ok_or_else(|| Failure::new("the key of this host was not read"))?;
    found.map_err(|error| Failure::new("the repository key can't be read").because(&error))
}

fn restic(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let (settings, wanted) = (settings(matches)?, name(matches));
    if !settings.files.iter().any(|files| files.name == wanted) {
        return Err(Failure::new(format!("the policy has no files of the name `{wanted}`"))
            .remedy("name a [[backup.files]]: databases are not in the format of restic")
            .code(2));
    }
    let key = kept(matches, context)?;
    context.line(&password(&key, wanted));
    context.note(&format!(
        "Whoever has it can read the files of `{wanted}` at each copy, and nothing else. It is made of the repository key and can be shown \
         again, so keep it nowhere. Only read with restic: `restic --no-lock -r COPY/restic/{wanted} snapshots`; never forget, prune or \
         unlock. Give it through a pipe, not as an argument: `--password-command 'garant backup key restic {wanted}'`."
    ));
    Ok(0)
}

fn check(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let mut typed = zeroize::Zeroizing::new(String::new());
    let read = std::io::stdin().lock().take(BYTES_MAX).read_to_string(&mut typed);
    read.map_err(|error| Failure::new("no key comes from standard input").because(&error))?;
    let given = RepositoryKey::parse(&typed).map_err(|error| Failure::new("that is not the key").because(&error))?;
    let kept = kept(matches, context)?;
    if kept.identity() == given.identity() {
        context.line(&format!("it is the key of this repository, {}", given.identity()));
        let question = Question::post(API).segment("run").json(&Wish::KeyShown { identity: given.identity() })?;
        let told = context.ask_agent(matches.get_one::<PathBuf>("agent").map(PathBuf::as_path), question);
        if let Err(failure) = told.and_then(|answer| answer.accepted("the agent does not write it down")) {
            context.note(&format!("that it was shown is written down nowhere: {failure}"));
        }
        return Ok(0);
    }
    Err(Failure::new(format!(
        "it is a repository key, {}, and not the one of this repository, {}",
        given.identity(),
        kept.identity()
    )))
}
