//! An error is a message to the person at the terminal: what failed, why, and what to do.

use std::fmt;
use std::process::ExitCode;

/// What a command says when it can't do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: Vec<String>,
    remedy: Option<String>,
    code: u8,
}

/// Exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of a command that was called wrongly (as clap does), or whose policy has mistakes.
pub(crate) const USAGE: u8 = 2;

impl Failure {
    /// Says what failed.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: Vec::new(), remedy: None, code: FAILED }
    }

    /// Adds the cause and its causes in turn.
    pub(crate) fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            // Some errors repeat their source in their own text; a reader wants each fact once.
            if !self.why.last().is_some_and(|before| before.contains(&text)) {
                self.why.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Says what to do about it.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Ends the process with this code instead of [`FAILED`].
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn why(&self) -> &[String] {
        &self.why
    }

    pub(crate) fn what_to_do(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for cause in &self.why {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests;
