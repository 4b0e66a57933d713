//! An error as a message to a person: what failed, why, and what to do.

use std::fmt;

use crate::printable::in_words;

/// A failure for a person to read: what failed, its causes, and the remedy. Commands print it and end with its exit code; an
/// engine that fails with it has it in the journal, in one line.
#[derive(Debug)]
pub struct Failure {
    what: String,
    why: Vec<String>,
    remedy: Option<String>,
    exit_code: u8,
}

/// Exit code of a command that failed.
const FAILED: u8 = 1;

impl Failure {
    /// A failure of `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: Vec::new(), remedy: None, exit_code: FAILED }
    }

    /// Adds the cause and its causes in turn.
    #[must_use]
    pub fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = in_words(&error.to_string()).into_owned();
            // Some errors repeat their source in their own text; a reader wants each fact once.
            if !self.why.last().is_some_and(|before| before.contains(&text)) {
                self.why.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Sets the remedy: what the reader should do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Sets the exit code of the command, which is 1 otherwise.
    #[must_use]
    pub fn code(mut self, exit_code: u8) -> Self {
        self.exit_code = exit_code;
        self
    }

    /// Exit code of the command.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// What failed.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The causes, the nearest first.
    pub fn why(&self) -> &[String] {
        &self.why
    }

    /// The remedy, where there is one.
    pub fn what_to_do(&self) -> Option<&str> {
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
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_are_left_out() {
        let refused = std::io::Error::from_raw_os_error(13);
        let failure = Failure::new("garant.toml can't be read").because(&refused);
        assert_eq!(failure.to_string(), "garant.toml can't be read: Permission denied");
    }
}
