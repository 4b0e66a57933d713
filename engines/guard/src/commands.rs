//! The commands: `garant guard …`.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches};
use engine::command::{CommandContext, Question};
use engine::{Command, Failure};
use serde_json::Value;

use crate::door::API;

/// All of them.
pub fn commands() -> Vec<Command> {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Write JSON instead of text");
    let status = clap::Command::new("status").about("Show what is read, what is banned and what is wrong").arg(json());
    let agent =
        Arg::new("agent").long("agent").value_name("SOCKET").global(true).value_parser(clap::value_parser!(PathBuf));
    let arguments = clap::Command::new("guard")
        .about("Log detection and bans on this host; works without a server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(agent.help("The socket of the agent, where it is not that of this host"))
        .subcommand(status);
    vec![Command { arguments, run }]
}

fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("status", matches)) => status(matches, context),
        _ => Ok(2),
    }
}

/// The socket that the user names.
fn agent(matches: &ArgMatches) -> Option<&Path> {
    matches.get_one::<PathBuf>("agent").map(PathBuf::as_path)
}

fn status(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let answer = context.ask_agent(agent(matches), Question::get(API).segment("status"))?;
    let status: Value = answer.accepted("the guard does not say how it is doing")?.json()?;
    context.json(&status);
    Ok(0)
}
