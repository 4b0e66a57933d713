//! The text as a tree whose every key and value knows its place.
//!
//! The parser of `toml` recovers from a syntax error and goes on, so one pass gives all syntax errors *and* a tree of
//! what could be read. What it could not read is [`Data::Broken`] here: a reader stays silent about it, because the
//! syntax error has been reported already.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use crate::mistake::{Mistake, MistakeKind};
use crate::place::Place;

/// Deepest nesting of brackets, and most dots in one key. The grammar allows any depth; a tree of half a million levels
/// would overflow the stack when it is dropped.
const DEPTH_MAX: usize = 16;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) data: Data,
}

impl Node {
    pub(crate) fn is_empty_list(&self) -> bool {
        matches!(&self.data, Data::List { items, .. } if items.is_empty())
    }
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Text(String),
    /// `None` when it does not fit 64 bits.
    Integer(Option<i64>),
    Float,
    Boolean(bool),
    /// As RFC 3339, as far as it is complete.
    Date(String),
    List {
        items: Vec<Node>,
        /// Made of `[[name]]` headers: a second file may add to it.
        of_headers: bool,
    },
    Table(Entries),
    /// A syntax error says more.
    Broken,
}

impl Data {
    /// In words, with the article.
    pub(crate) const fn describe(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float => "a number with decimals",
            Self::Boolean(_) => "a boolean",
            Self::Date(_) => "a date",
            Self::List { .. } => "a list",
            Self::Table(_) => "a table",
            Self::Broken => "unreadable",
        }
    }
}

/// What a table holds.
pub(crate) type Entries = BTreeMap<String, Entry>;

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Place,
    pub(crate) node: Node,
}

/// What a text holds.
pub(crate) struct Parsed {
    pub(crate) entries: Entries,
    /// All syntax errors.
    pub(crate) mistakes: Vec<Mistake>,
    /// Whether keys or tables may have been lost: what seems to be missing then proves nothing.
    pub(crate) lossy: bool,
}

/// Reads the tree of one file.
pub(crate) fn parse(file: u32, text: &str) -> Parsed {
    let brackets = Brackets::scan(text);
    if let Some(span) = brackets.too_deep {
        let mistake = Mistake::new(
            place(file, &span),
            format!("nested deeper than {DEPTH_MAX} levels"),
            "no table of the policy is nested deeper than three: look for a bracket that is never closed",
        );
        return Parsed { entries: Entries::new(), mistakes: vec![mistake.kind(MistakeKind::Syntax)], lossy: true };
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut mistakes: Vec<_> = errors.iter().map(|error| syntax(file, text, error, brackets.open.as_ref())).collect();
    let unclosed = mistakes.iter().filter(|m| m.is(&MistakeKind::Unclosed)).map(Mistake::place).min();
    if let Some(unclosed) = unclosed {
        mistakes.retain(|mistake| mistake.place() <= unclosed);
    }
    // Errors of a single value leave its key in place.
    let harmless = ["string values must be quoted", "duplicate key", "invalid date"];
    let lossy = errors.iter().any(|error| !harmless.iter().any(|start| error.message().starts_with(start)));
    Parsed { entries: Reader { file, text }.entries(table.into_inner()), mistakes, lossy }
}

/// What the brackets of a text say before it is parsed. Counted on the tokens of the very lexer that the parser uses, so
/// that the two can't disagree about what is inside a string.
#[derive(Default)]
struct Brackets {
    /// The first place that is nested too deep.
    too_deep: Option<Range<usize>>,
    /// The outermost bracket that is never closed.
    open: Option<Range<usize>>,
}

impl Brackets {
    fn scan(text: &str) -> Self {
        let mut open: Vec<Range<usize>> = Vec::new();
        let mut dots = 0_usize;
        for token in toml_parser::Source::new(text).lex() {
            let span = token.span().start()..token.span().end();
            match token.kind() {
                TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                    open.push(span.clone());
                    dots = 0;
                }
                TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                    open.pop();
                    dots = 0;
                }
                TokenKind::Dot => dots += 1,
                TokenKind::Equals | TokenKind::Comma | TokenKind::Newline => dots = 0,
                _ => {}
            }
            if open.len() > DEPTH_MAX || dots > DEPTH_MAX {
                return Self { too_deep: Some(span), open: None };
            }
        }
        Self { too_deep: None, open: open.into_iter().next() }
    }
}

/// A syntax error in the words of somebody who writes a policy; the parser's own where they say enough.
///
/// A bracket that is never closed swallows what follows: it is pointed at itself, and hides whatever comes after.
fn syntax(file: u32, text: &str, error: &toml::de::Error, open: Option<&Range<usize>>) -> Mistake {
    let span = error.span().unwrap_or(0..0);
    if error.message().starts_with("unclosed table") {
        let remedy = "close it: [name] or [[name]] on a line of its own";
        return Mistake::new(place(file, &span), "a header that is never closed", remedy).kind(MistakeKind::Unclosed);
    }
    if error.message().starts_with("unclosed array,") || error.message().starts_with("unclosed inline table") {
        let span = open.cloned().unwrap_or(span);
        let remedy = "add the closing bracket, and look for a missing comma or quote before it";
        return Mistake::new(place(file, &span), "a bracket that is never closed", remedy).kind(MistakeKind::Unclosed);
    }
    let (message, written) = (error.message(), text.get(span.clone()).unwrap_or_default());
    let (reason, remedy) = if message.starts_with("duplicate key") {
        let remedy = "remove one of the two; tables of which there may be several start with [[name]]";
        (format!("`{written}` is set twice"), remedy.to_owned())
    } else if message.starts_with("string values must be quoted") && written.is_empty() {
        ("a key without a value".to_owned(), "write a value after the `=`".to_owned())
    } else if message.starts_with("string values must be quoted") {
        ("a text without quotes".to_owned(), format!("write \"{written}\""))
    } else if message.starts_with("key with no value") {
        ("a key without a value".to_owned(), "write it like key = \"value\", or start a comment with `#`".to_owned())
    } else {
        let remedy =
            "texts stand in quotes, lists have commas, tables start with [name] or [[name]] on a line of their own";
        (message.to_owned(), remedy.to_owned())
    };
    Mistake::new(place(file, &span), reason, remedy).kind(MistakeKind::Syntax)
}

fn place(file: u32, span: &Range<usize>) -> Place {
    let offset = |n| u32::try_from(n).unwrap_or(u32::MAX);
    Place { file, start: offset(span.start), end: offset(span.end) }
}

struct Reader<'t> {
    file: u32,
    text: &'t str,
}

impl Reader<'_> {
    fn entries(&self, table: DeTable<'_>) -> Entries {
        let entry = |(key, value): (toml::Spanned<toml::de::DeString<'_>>, toml::Spanned<DeValue<'_>>)| {
            let span = key.span();
            (key.into_inner().into_owned(), Entry { key: place(self.file, &span), node: self.node(value) })
        };
        table.into_iter().map(entry).collect()
    }

    fn node(&self, value: toml::Spanned<DeValue<'_>>) -> Node {
        let span = value.span();
        let data = match value.into_inner() {
            // The parser's stand-in for a value that is not there.
            _ if span == (0..0) => Data::Broken,
            DeValue::String(text) => Data::Text(text.into_owned()),
            DeValue::Integer(number) => Data::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
            DeValue::Float(_) => Data::Float,
            DeValue::Boolean(truth) => Data::Boolean(truth),
            DeValue::Datetime(date) if date.date.is_none() && date.time.is_none() => Data::Broken,
            DeValue::Datetime(date) => Data::Date(date.to_string()),
            DeValue::Array(items) => {
                let header = |item: &toml::Spanned<DeValue<'_>>| {
                    item.get_ref().is_table() && self.text.get(item.span()).is_some_and(|text| text.starts_with("[["))
                };
                let of_headers = items.first().is_some_and(header);
                Data::List { items: items.into_iter().map(|item| self.node(item)).collect(), of_headers }
            }
            DeValue::Table(table) => Data::Table(self.entries(table)),
        };
        Node { place: place(self.file, &span), data }
    }
}
