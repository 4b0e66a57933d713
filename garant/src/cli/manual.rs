//! `garant completions`, `garant man`, `garant policy reference`: documents generated from the code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use crate::cli;
use crate::configuration;
use crate::failure::Failure;
use crate::registry::Registry;
use crate::terminal::Terminal;

#[derive(Args, Debug)]
pub(crate) struct CompletionsCommand {
    /// For which shell
    shell: Shell,
}

impl CompletionsCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli::command_line(registry), "garant", &mut script);
        terminal.raw(&script);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args, Debug)]
pub(crate) struct ManCommand {
    /// The directory, made if it is missing
    directory: PathBuf,
}

impl ManCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(format!("the manual pages can't be written into {}", self.directory.display())).because(&error)
        };
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        clap_mangen::generate_to(cli::command_line(registry), &self.directory).map_err(failed)?;
        terminal.note(format!("manual pages are in {}; read one with `man -l FILE`", self.directory.display()));
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum PolicyCommand {
    /// Print the reference of every table and key, in Markdown (`docs/policy.md`)
    Reference,
}

impl PolicyCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        match self {
            Self::Reference => terminal.raw(configuration::reference(registry).as_bytes()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
