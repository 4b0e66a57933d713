//! The command line: one file for each command.

mod agent;
mod ask;
mod check;
mod gate;
mod init;
mod log;
mod manual;
mod reload;
mod status;
mod up;
mod verify;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use event::Zone;
use hosts::Role;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::cli::ask::Asking;
use crate::failure::Failure;
use crate::registry::Registry;
use crate::terminal::{Colour, LogLines, Terminal};

/// Longest wait at the end of a command for a thread that is blocked.
const BLOCKING_MAX: Duration = Duration::from_millis(500);

/// Keeps the promises of a security page, and proves that it does.
#[derive(Parser, Debug)]
#[command(
    name = "garant",
    version,
    about,
    max_term_width = 100,
    after_help = "Start with `garant init https://your.site`, then `garant up`.\nExit codes: 0 done, 1 failed, 2 called wrongly or mistakes in the policy; `garant verify --help` lists its own."
)]
pub(crate) struct Arguments {
    /// When to colour what is written
    #[arg(long, alias = "color", global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) colour: Colour,

    #[command(subcommand)]
    command: OwnCommand,
}

#[derive(Subcommand, Debug)]
enum OwnCommand {
    /// Write a commented starting policy for a site
    Init(init::InitCommand),
    /// Check a policy and show every mistake, without running anything
    Check(check::CheckCommand),
    /// Run everything in one process: watch, judge, publish
    Up(up::UpCommand),
    /// Run the engines that change this host, told what to do by a server
    Agent(agent::AgentCommand),
    /// Have the running `garant up` take its policy again, whole or not at all
    Reload(reload::ReloadCommand),
    /// Show what is up, which promises are kept, and how garant itself is doing
    Status(status::StatusCommand),
    /// Verify a log offline, from a URL or a directory: signatures, tree, evidence, every verdict
    Verify(verify::VerifyCommand),
    /// Work with the log: export, prove, rotate its key, or open the next one after a loss
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Be a witness for other people's logs
    #[command(subcommand)]
    Witness(witness::WitnessCommand),
    /// Reference of the policy file
    #[command(subcommand)]
    Policy(manual::PolicyCommand),
    /// Print the completion script of a shell
    Completions(manual::CompletionsCommand),
    /// Write the manual pages into a directory
    Man(manual::ManCommand),
}

/// Which policy file.
#[derive(Args, Clone, Debug)]
pub(crate) struct PolicyArgument {
    /// The policy file; `conf.d/*.toml` beside it is read as well
    #[arg(long, value_name = "FILE", default_value = "garant.toml", env = "GARANT_POLICY")]
    pub(crate) policy: PathBuf,
}

/// Which data directory.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataArgument {
    /// Where the journal, samples and keys are kept
    #[arg(long, value_name = "DIR", default_value = "garant-data", env = "GARANT_DATA")]
    pub(crate) data: PathBuf,
}

/// The whole command line: garant's own commands, and those of its engines.
pub(crate) fn command_line(registry: &Registry) -> clap::Command {
    let of_engine = |command: engine::Command| with_data(with_role(command.arguments));
    Arguments::command().subcommands(registry.commands().map(of_engine))
}

/// The command of the gate with the arguments of its role: without a subcommand it runs the gate.
fn with_role(command: clap::Command) -> clap::Command {
    if command.get_name() == Role::GATE.noun { gate::GateCommand::augment_args(command) } else { command }
}

/// The command of an engine with `--data`, before or after its subcommands.
fn with_data(command: clap::Command) -> clap::Command {
    let data = DataArgument::augment_args(clap::Command::new(""));
    let data: Vec<clap::Arg> = data.get_arguments().cloned().collect();
    command.args(data.into_iter().map(|argument| argument.global(true)))
}

/// The command that the arguments of the process name.
pub(crate) enum Invocation {
    /// A command of garant.
    Own(Box<Arguments>),
    /// The role `gate`.
    Gate { colour: Colour, command: gate::GateCommand },
    /// A command of an engine.
    Engine { colour: Colour, command: Box<engine::Command>, arguments: ArgMatches },
}

impl Invocation {
    /// Reads the arguments of the process; ends it, with a message, when they are wrong.
    pub(crate) fn parse(registry: &Registry) -> Self {
        let mut matches = command_line(registry).get_matches();
        let colour = matches.get_one("colour").copied().unwrap_or_default();
        let named = |command: &engine::Command| matches.subcommand_name() == Some(command.arguments.get_name());
        if let Some(command) = registry.commands().find(named)
            && let Some((name, arguments)) = matches.remove_subcommand()
        {
            if name == Role::GATE.noun && arguments.subcommand_name().is_none() {
                let command = gate::GateCommand::from_arg_matches(&arguments).unwrap_or_else(|error| error.exit());
                return Self::Gate { colour, command };
            }
            return Self::Engine { colour, command: Box::new(command), arguments };
        }
        Self::Own(Box::new(Arguments::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())))
    }

    pub(crate) const fn colour(&self) -> Colour {
        match self {
            Self::Own(arguments) => arguments.colour,
            Self::Gate { colour, .. } | Self::Engine { colour, .. } => *colour,
        }
    }

    /// Whether it may run for months: what it frees is given back then. Not the gate, whose threads take memory at once, each from an arena of its own.
    pub(crate) const fn is_frugal(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Runs the command.
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let arguments = match self {
            Self::Own(arguments) => arguments,
            Self::Gate { command, .. } => return command.run(registry, terminal),
            Self::Engine { command, arguments, .. } => {
                let data = DataArgument::from_arg_matches(&arguments).unwrap_or_else(|error| error.exit());
                let runtime = runtime()?;
                let mut asking = Asking::new(data.data, &runtime, registry, terminal);
                let ended = (command.run)(&arguments, &mut asking);
                let ended = asking.ended(ended);
                // A thread that is blocked, by a file system that hangs say, holds up no end.
                runtime.shutdown_timeout(BLOCKING_MAX);
                return ended.map(ExitCode::from);
            }
        };
        match arguments.command {
            OwnCommand::Init(command) => command.run(registry, terminal),
            OwnCommand::Check(command) => command.run(registry, terminal),
            OwnCommand::Up(command) => command.run(registry, terminal),
            OwnCommand::Agent(command) => command.run(registry, terminal),
            OwnCommand::Reload(command) => command.run(registry, terminal),
            OwnCommand::Status(command) => command.run(terminal),
            OwnCommand::Verify(command) => command.run(registry, terminal),
            OwnCommand::Log(command) => command.run(registry, terminal),
            OwnCommand::Witness(command) => command.run(terminal),
            OwnCommand::Policy(command) => command.run(registry, terminal),
            OwnCommand::Completions(command) => command.run(registry, terminal),
            OwnCommand::Man(command) => command.run(registry, terminal),
        }
    }
}

/// A runtime for commands that speak to the network.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("the asynchronous runtime can't be started").because(&error))
}

/// Sends the log of the process to standard error, where systemd picks it up. `RUST_LOG` sets the level.
pub(crate) fn log_to_stderr(terminal: &Terminal, zone: watch::Receiver<Zone>) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,hickory_proto=off,hickory_resolver=off"));
    let coloured = terminal.err_coloured();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || LogLines { coloured, zone: zone.clone() })
        .with_ansi(coloured)
        .with_target(false)
        // Otherwise the subscriber reports its own errors on the stream that failed, and panics when that fails too. A full
        // disk under the log of the service costs lines, and nothing else.
        .log_internal_errors(false);
    // A second call in one process would only find the first one's subscriber in place.
    drop(subscriber.try_init());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--data` belongs to every command of an engine, wherever it stands among its subcommands; the help is the engine's.
    #[test]
    fn commands_of_engines_have_a_data_directory() {
        let command = clap::Command::new("notify").about("Tell somebody").subcommand(clap::Command::new("test"));
        let command = with_data(command);
        command.clone().debug_assert();
        assert_eq!(command.get_about().map(ToString::to_string).as_deref(), Some("Tell somebody"));
        for (arguments, expected) in [
            (&["notify", "test", "--data", "there"][..], "there"),
            (&["notify", "--data", "there", "test"], "there"),
            (&["notify", "--data=there"], "there"),
        ] {
            let matches = command.clone().try_get_matches_from(arguments).expect("good");
            let data = DataArgument::from_arg_matches(&matches).expect("it is there").data;
            assert_eq!(data, PathBuf::from(expected), "{arguments:?}");
        }
    }

    /// Two commands of one name, two arguments of one flag: clap says so in debug builds.
    #[test]
    fn the_command_line_is_consistent() {
        command_line(&Registry::garant()).debug_assert();
    }
}
