//! The regular expressions of Python, run by the engines of Rust with the same results.
//!
//! A pattern is read into a tree and written again for the text at hand: most lines of logs are ASCII and end with their only
//! newline, and for those the classes of characters are small and `$` is the end of a line. Each form is compiled when a text
//! first needs it. Most patterns run in linear time; those with lookaround, conditions or references to a group backtrack, behind
//! a linear approximation that rejects most lines, and within a limit of steps.

mod emit;
mod first;
mod literals;
mod syntax;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use emit::Style;
pub use literals::Literals;
use syntax::Tree;

/// How many steps back a search may take before it is given up.
const STEP_LIMIT: usize = 200_000;
/// The size a compiled pattern may have, in bytes.
const SIZE_LIMIT: usize = 16 << 20;
/// The size of the tables that a search in linear time keeps, in bytes.
const TABLE_LIMIT: usize = 256 << 10;

/// Why a pattern is not taken.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub enum PatternError {
    /// It is no regular expression of Python, or has what garant does not know.
    #[error("at character {at}: {what}")]
    Syntax {
        /// What is wrong.
        what: String,
        /// Where, in characters.
        at: usize,
    },
    /// Two groups have one name.
    #[error("two groups have the name `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// There is nothing in it.
    #[error("the pattern is empty")]
    Empty,
    /// The engine refuses it: it is too large, most of all.
    #[error("the pattern can't be compiled: {0}")]
    Engine(String),
}

/// A search was given up, because it took more steps than it may.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
#[error("a search was given up at the limit of steps")]
pub struct StepLimit;

/// A regular expression of Python.
#[derive(Debug)]
pub struct Pattern {
    tree: Tree,
    names: Vec<Arc<str>>,
    numbers: Vec<usize>,
    forms: [OnceLock<Result<Form, PatternError>>; 4],
}

/// Of what kind a text is: which of the forms of a pattern is for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    is_ascii: bool,
    /// Whether its only newline, if any, is at its end.
    is_one_line: bool,
}

impl Shape {
    /// The kind of a text.
    pub fn of(text: &str) -> Self {
        let newline = memchr::memchr(b'\n', text.as_bytes());
        Self { is_ascii: text.is_ascii(), is_one_line: newline.is_none_or(|at| at + 1 == text.len()) }
    }

    /// Whether all characters are of ASCII.
    pub fn is_ascii(self) -> bool {
        self.is_ascii
    }
}

/// Where a pattern was found: offsets in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The whole match.
    pub span: Range<usize>,
    /// What each named group matched, in the order of [`Pattern::names`].
    pub groups: Vec<Option<Range<usize>>>,
}

#[derive(Debug)]
struct Form {
    engine: Engine,
    /// The group of the engine for each name.
    groups: Vec<usize>,
}

#[derive(Debug)]
enum Engine {
    Linear(regex::Regex),
    Backtracking { exact: Box<fancy_regex::Regex>, approximate: Option<regex::Regex> },
}

impl Pattern {
    /// The pattern of a text; with `multi_line`, `^` and `$` are the ends of any line (`re.MULTILINE`).
    pub fn new(text: &str, multi_line: bool) -> Result<Self, PatternError> {
        let tree = syntax::read(text, multi_line)?;
        let names = tree.names.iter().map(|(name, _)| Arc::from(name.as_str())).collect();
        let numbers = tree.names.iter().map(|(_, index)| *index).collect();
        Ok(Self { tree, names, numbers, forms: [const { OnceLock::new() }; 4] })
    }

    /// The names of the groups, in the order in which they open.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Compiles the form for the usual lines, so that a pattern that can't be compiled is known before there is a line.
    pub fn check(&self) -> Result<(), PatternError> {
        self.form(Shape { is_ascii: true, is_one_line: true }).map(|_| ()).map_err(Clone::clone)
    }

    /// The texts of which one is in all that the pattern matches, when there are such.
    pub fn literals(&self) -> Option<Literals> {
        literals::of(&self.tree.root)
    }

    /// Whether the pattern may match a text: `false` is certain, and `true` takes [`Pattern::search`] to be known.
    pub fn may_match(&self, text: &str, shape: Shape) -> bool {
        match self.form(shape).map(|form| &form.engine) {
            Ok(Engine::Linear(engine) | Engine::Backtracking { approximate: Some(engine), .. }) => {
                engine.is_match(text)
            }
            Ok(Engine::Backtracking { .. }) | Err(_) => true,
        }
    }

    /// The first match in a text of a kind.
    pub fn search(&self, text: &str, shape: Shape) -> Result<Option<Found>, StepLimit> {
        // A form that the engine refuses is as good as a search that is given up: it is counted, and nothing hangs.
        let form = self.form(shape).map_err(|_| StepLimit)?;
        match &form.engine {
            Engine::Linear(engine) => Ok(engine.captures(text).and_then(|found| {
                Some(Found {
                    span: found.get(0)?.range(),
                    groups: form.groups.iter().map(|group| found.get(*group).map(|group| group.range())).collect(),
                })
            })),
            Engine::Backtracking { exact, approximate } => {
                if approximate.as_ref().is_some_and(|approximate| !approximate.is_match(text)) {
                    return Ok(None);
                }
                let Some(found) = exact.captures(text).map_err(|_| StepLimit)? else { return Ok(None) };
                Ok(found.get(0).map(|whole| Found {
                    span: whole.start()..whole.end(),
                    groups: form
                        .groups
                        .iter()
                        .map(|group| found.get(*group).map(|group| group.start()..group.end()))
                        .collect(),
                }))
            }
        }
    }

    /// The characters with which a text of ASCII begins in which one of the patterns is found; nothing when it may begin with any.
    pub(super) fn beginnings<'p>(patterns: impl IntoIterator<Item = &'p Self>) -> Option<[bool; 128]> {
        let mut of_all = patterns.into_iter().map(|pattern| first::of(&pattern.tree.root));
        of_all.try_fold([false; 128], |all, next| Some(first::both(&all, &next?)))
    }

    /// An expression that finds something in every text of one line of ASCII in which one of the patterns does, and in few others.
    /// It says nothing of places.
    pub(super) fn approximation<'p>(patterns: impl IntoIterator<Item = &'p Self>) -> Option<regex::Regex> {
        let style = Style { ascii: true, one_line: true, approximate: true };
        let written: Vec<_> = patterns
            .into_iter()
            .map(|pattern| format!("(?:{})", emit::write(&pattern.tree.root, &[], style).text))
            .collect();
        linear(&written.join("|"), true).ok()
    }

    fn form(&self, shape: Shape) -> Result<&Form, &PatternError> {
        let index = usize::from(shape.is_ascii) | usize::from(shape.is_one_line) << 1;
        self.forms[index].get_or_init(|| self.compile(shape)).as_ref()
    }

    fn compile(&self, shape: Shape) -> Result<Form, PatternError> {
        let ascii = shape.is_ascii;
        let style = Style { ascii, one_line: shape.is_one_line, approximate: false };
        let written = emit::write(&self.tree.root, &self.numbers, style);
        let group = |old: &usize| written.groups.iter().find(|(number, _)| number == old).map_or(0, |(_, new)| *new);
        let groups = self.numbers.iter().map(group).collect();
        let engine = if written.backtracks {
            let exact = fancy_regex::RegexBuilder::new(&written.text)
                .backtrack_limit(STEP_LIMIT)
                .delegate_size_limit(SIZE_LIMIT)
                .delegate_dfa_size_limit(TABLE_LIMIT)
                .build()
                .map_err(|error| PatternError::Engine(error.to_string()))?;
            let loose = emit::write(&self.tree.root, &[], Style { approximate: true, ..style });
            Engine::Backtracking { exact: Box::new(exact), approximate: linear(&loose.text, ascii).ok() }
        } else {
            Engine::Linear(linear(&written.text, ascii)?)
        };
        Ok(Form { engine, groups })
    }
}

fn linear(text: &str, ascii: bool) -> Result<regex::Regex, PatternError> {
    regex::RegexBuilder::new(text)
        .unicode(!ascii)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(TABLE_LIMIT)
        .build()
        .map_err(|error| PatternError::Engine(error.to_string()))
}
