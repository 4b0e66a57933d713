//! The parser of one INI file: lines to sections of options, each with the line it came from.
//!
//! The format is that of Python's `configparser` with the settings of fail2ban: `#` and `;` start a comment at the start of a
//! line and ` ;` within one, a deeper line continues a value, an empty line does not end it, and a section or an option that is
//! there twice is an error.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::ordered::Ordered;
use super::problem::{Place, Problem, ReadError};

/// Name of the section whose options all others have.
pub(crate) const DEFAULT: &str = "DEFAULT";
/// Most options that one file may hold.
const OPTIONS_MAX: usize = 20_000;
/// Most problems of one file that are told.
const PROBLEMS_MAX: usize = 20;

/// The text of an option, and where it stands.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) place: Option<Place>,
}

impl Value {
    pub(crate) fn new(text: impl Into<String>, place: Option<Place>) -> Self {
        Self { text: text.into(), place }
    }
}

/// Options of one section.
pub(crate) type Options = Ordered<Value>;

/// Sections of options, of one file or of several that were merged.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Sections {
    pub(crate) defaults: Options,
    pub(crate) sections: Ordered<Options>,
}

/// Whether Python takes the character for white space.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Parses a file.
pub(crate) fn parse(text: &str, file: &Arc<Path>) -> Result<Sections, ReadError> {
    let mut parser = Parser { file, found: Sections::default(), seen: BTreeSet::new(), problems: Vec::new() };
    parser.read(text);
    if parser.problems.is_empty() { Ok(parser.found) } else { Err(ReadError(parser.problems)) }
}

struct Parser<'a> {
    file: &'a Arc<Path>,
    found: Sections,
    /// Sections (with an empty option) and options that this file has already.
    seen: BTreeSet<(String, String)>,
    problems: Vec<Problem>,
}

impl Parser<'_> {
    fn problem(&mut self, line: usize, message: String) {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        self.problems.push(Problem::new(Some(Place { file: self.file.clone(), line }), message));
    }

    fn read(&mut self, text: &str) {
        let mut section: Option<String> = None;
        let mut option: Option<String> = None;
        // Lines of the option that is being read; joined when it ends.
        let mut value: Vec<&str> = Vec::new();
        let mut value_line = 0;
        let mut indent = 0;
        for (number, line) in lines(text).enumerate().map(|(at, line)| (at + 1, line)) {
            if self.problems.len() >= PROBLEMS_MAX || self.seen.len() > OPTIONS_MAX {
                break;
            }
            let comment = comment_start(line);
            let content = line[..comment.unwrap_or(line.len())].trim_matches(is_space);
            if content.is_empty() {
                if comment.is_none() && option.is_some() {
                    value.push("");
                }
                continue;
            }
            let depth = line.chars().take_while(|&c| is_space(c)).count();
            if section.is_some() && option.is_some() && depth > indent {
                value.push(content);
                continue;
            }
            indent = depth;
            if let Some(header) = header(content) {
                self.keep(section.as_deref(), option.take(), &mut value, value_line);
                if header != DEFAULT && !self.seen.insert((header.to_owned(), String::new())) {
                    self.problem(
                        number,
                        format!(
                            "the section [{header}] is there twice in this file: put its options under the first one"
                        ),
                    );
                }
                if header != DEFAULT {
                    self.found.sections.entry(header);
                }
                section = Some(header.to_owned());
                continue;
            }
            let Some(of) = section.as_deref() else {
                self.problem(
                    number,
                    "an option stands before any section: put a line such as [DEFAULT] or [Definition] above it"
                        .to_owned(),
                );
                return;
            };
            let parts =
                content.find(['=', ':']).map(|at| (content[..at].trim_end_matches(is_space), &content[at + 1..]));
            match parts {
                Some((name, text)) if !name.is_empty() => {
                    self.keep(section.as_deref(), option.take(), &mut value, value_line);
                    let name = name.to_lowercase();
                    if !self.seen.insert((of.to_owned(), name.clone())) {
                        self.problem(number, format!("`{name}` is there twice in the section [{of}]: remove one"));
                    }
                    value_line = number;
                    value.push(text.trim_matches(is_space));
                    option = Some(name);
                }
                _ => self.problem(
                    number,
                    "this is no `name = value`, no section and no comment: correct it, or indent it if it continues the line above"
                        .to_owned(),
                ),
            }
        }
        self.keep(section.as_deref(), option.take(), &mut value, value_line);
        if self.seen.len() > OPTIONS_MAX {
            self.problem(0, format!("there are more than {OPTIONS_MAX} options in this file: split it"));
        }
    }

    /// Keeps the option that has ended.
    fn keep(&mut self, section: Option<&str>, option: Option<String>, lines: &mut Vec<&str>, line: usize) {
        let (Some(section), Some(option)) = (section, option) else { return };
        let text = lines.join("\n");
        lines.clear();
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let value = Value::new(text.trim_end_matches(is_space), Some(Place { file: self.file.clone(), line }));
        let options = if section == DEFAULT { &mut self.found.defaults } else { self.found.sections.entry(section) };
        options.set(option, value);
    }
}

/// Lines as Python reads them: `\n`, `\r\n` and `\r` end one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let line = &rest[..end];
        let skip = if rest[end..].starts_with("\r\n") { 2 } else { usize::from(end < rest.len()) };
        rest = &rest[end + skip..];
        Some(line)
    })
}

/// Where the comment of a line starts.
fn comment_start(line: &str) -> Option<usize> {
    if line.trim_start_matches(is_space).starts_with(['#', ';']) {
        return Some(0);
    }
    line.match_indices(';').map(|(at, _)| at).find(|&at| line[..at].chars().next_back().is_none_or(is_space))
}

/// Name of the section that a line opens.
fn header(content: &str) -> Option<&str> {
    let rest = content.strip_prefix('[')?;
    let end = rest.rfind(']')?;
    (end > 0).then(|| &rest[..end])
}
