//! The tree of a pattern, written for the engines of Rust.
//!
//! What a class such as `\w` means is written out, because Python and Rust differ on it: `\w` is a letter or a number of any kind
//! or `_` (no marks), `\s` has the separators 0x1c to 0x1f, and `i` without regard to case is also the dotless and the dotted one.

use std::fmt;

use super::syntax::{Class, Item, Node, RepeatKind};

/// For which texts, and how exactly, a pattern is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Style {
    /// The text has only characters of ASCII.
    pub(super) ascii: bool,
    /// The text has its only newline at its end.
    pub(super) one_line: bool,
    /// Without what needs backtracking: the pattern finds a match wherever the exact one does, and perhaps elsewhere.
    pub(super) approximate: bool,
}

/// A pattern as it was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) text: String,
    /// Whether it has what only a backtracking engine knows.
    pub(super) backtracks: bool,
    /// The new number of each group that is remembered.
    pub(super) groups: Vec<(usize, usize)>,
}

/// Writes a pattern; the groups of `kept` are remembered, and those it refers to.
pub(super) fn write(root: &Node, kept: &[usize], style: Style) -> Written {
    let mut groups = Vec::new();
    if !style.approximate {
        let mut wanted = kept.to_vec();
        referred(root, &mut wanted);
        numbered(root, &wanted, &mut groups);
    }
    let mut writer = Writer { text: String::new(), backtracks: false, groups, style, ignore_case: false };
    writer.node(root);
    Written { text: writer.text, backtracks: writer.backtracks, groups: writer.groups }
}

pub(super) fn children(node: &Node) -> Vec<&Node> {
    match node {
        Node::Concat(of) | Node::Alternate(of) => of.iter().collect(),
        Node::Repeat { node, .. }
        | Node::Capture { node, .. }
        | Node::Case { node, .. }
        | Node::Atomic(node)
        | Node::Look { node, .. } => vec![node],
        Node::Condition { yes, no, .. } => vec![yes, no],
        _ => Vec::new(),
    }
}

fn referred(node: &Node, into: &mut Vec<usize>) {
    if let Node::Back(group) | Node::Condition { group, .. } = node {
        into.push(*group);
    }
    for child in children(node) {
        referred(child, into);
    }
}

fn numbered(node: &Node, wanted: &[usize], into: &mut Vec<(usize, usize)>) {
    if let Node::Capture { index, .. } = node
        && wanted.contains(index)
    {
        into.push((*index, into.len() + 1));
    }
    for child in children(node) {
        numbered(child, wanted, into);
    }
}

struct Writer {
    text: String,
    backtracks: bool,
    groups: Vec<(usize, usize)>,
    style: Style,
    ignore_case: bool,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn group_of(&self, index: usize) -> Option<usize> {
        self.groups.iter().find(|(old, _)| *old == index).map(|(_, new)| *new)
    }

    fn grouped(&mut self, open: &str, node: &Node) {
        self.push(open);
        self.node(node);
        self.push(")");
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Char(c) => self.char(*c),
            Node::Any { newline } => self.push(match (self.style.ascii, newline) {
                (true, true) => r"[\x00-\x7f]",
                (true, false) => r"[\x00-\x09\x0b-\x7f]",
                (false, true) => "(?s:.)",
                (false, false) => ".",
            }),
            Node::Class(class) => self.class(class),
            Node::Start { multi } => self.push(if *multi { "(?m:^)" } else { r"\A" }),
            Node::End { multi } => {
                if *multi || self.style.one_line || self.style.approximate {
                    self.push("(?m:$)");
                } else {
                    self.backtracks = true;
                    self.push(r"(?=\n?\z)");
                }
            }
            Node::TextEnd => self.push(r"\z"),
            Node::Boundary { negated } => self.boundary(*negated),
            Node::Concat(of) => {
                if of.is_empty() {
                    self.push("(?:)");
                }
                for one in of {
                    if matches!(one, Node::Alternate(_)) { self.grouped("(?:", one) } else { self.node(one) }
                }
            }
            Node::Alternate(of) => {
                for (index, one) in of.iter().enumerate() {
                    if index > 0 {
                        self.push("|");
                    }
                    self.node(one);
                }
            }
            Node::Repeat { node, min, max, kind } => self.repeat(node, *min, *max, *kind),
            Node::Capture { index, node } => {
                let open = if self.group_of(*index).is_some() { "(" } else { "(?:" };
                self.grouped(open, node);
            }
            Node::Case { ignored, node } => {
                let outer = std::mem::replace(&mut self.ignore_case, *ignored);
                self.grouped(if *ignored { "(?i:" } else { "(?-i:" }, node);
                self.ignore_case = outer;
            }
            Node::Atomic(node) => {
                if self.style.approximate {
                    self.grouped("(?:", node);
                } else {
                    self.backtracks = true;
                    self.grouped("(?>", node);
                }
            }
            Node::Look { behind, negated, node } => {
                if self.style.approximate {
                    return self.push("(?:)");
                }
                self.backtracks = true;
                self.grouped(
                    match (behind, negated) {
                        (false, false) => "(?=",
                        (false, true) => "(?!",
                        (true, false) => "(?<=",
                        (true, true) => "(?<!",
                    },
                    node,
                );
            }
            Node::Back(group) => self.back(*group),
            Node::Condition { group, yes, no } => self.condition(*group, yes, no),
        }
    }

    fn back(&mut self, group: usize) {
        if self.style.approximate {
            return self.push(if self.style.ascii { r"[\x00-\x7f]*" } else { "(?s:.)*" });
        }
        self.backtracks = true;
        if let Some(number) = self.group_of(group) {
            put(&mut self.text, format_args!(r"(?:\{number})"));
        }
    }

    fn condition(&mut self, group: usize, yes: &Node, no: &Node) {
        if self.style.approximate {
            self.grouped("(?:(?:", yes);
            self.grouped("|(?:", no);
            return self.push(")");
        }
        self.backtracks = true;
        let number = self.group_of(group).unwrap_or(0);
        put(&mut self.text, format_args!("(?({number})"));
        self.grouped("(?:", yes);
        self.grouped("|(?:", no);
        self.push(")");
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>, kind: RepeatKind) {
        if is_assertion(node) {
            // It holds or not, however often it is asked; the engines refuse to ask again.
            return match (min, kind) {
                (0, RepeatKind::Lazy) => self.push("(?:)"),
                (0, _) => {
                    self.grouped("(?:(?:", node);
                    self.push("|)");
                }
                _ => self.grouped("(?:", node),
            };
        }
        if kind == RepeatKind::Possessive && !self.style.approximate {
            self.backtracks = true;
            self.push("(?>");
        }
        self.grouped("(?:", node);
        match (min, max) {
            (0, None) => self.push("*"),
            (1, None) => self.push("+"),
            (0, Some(1)) => self.push("?"),
            (min, None) => put(&mut self.text, format_args!("{{{min},}}")),
            (min, Some(max)) if min == max => put(&mut self.text, format_args!("{{{min}}}")),
            (min, Some(max)) => put(&mut self.text, format_args!("{{{min},{max}}}")),
        }
        match kind {
            RepeatKind::Greedy => {}
            RepeatKind::Lazy => self.push("?"),
            RepeatKind::Possessive if self.style.approximate => {}
            RepeatKind::Possessive => self.push(")"),
        }
    }

    fn boundary(&mut self, negated: bool) {
        if self.style.ascii {
            return self.push(if negated { r"\B" } else { r"\b" });
        }
        if self.style.approximate {
            return self.push("(?:)");
        }
        self.backtracks = true;
        self.push(if negated {
            r"(?:(?<=[\p{L}\p{N}_])(?=[\p{L}\p{N}_])|(?<![\p{L}\p{N}_])(?![\p{L}\p{N}_]))"
        } else {
            r"(?:(?<=[\p{L}\p{N}_])(?![\p{L}\p{N}_])|(?<![\p{L}\p{N}_])(?=[\p{L}\p{N}_]))"
        });
    }

    fn char(&mut self, c: char) {
        if self.style.ascii && !c.is_ascii() || self.ignore_case && is_odd_case(c) {
            return self.class(&Class { negated: false, items: vec![Item::Range(c, c)] });
        }
        escaped(&mut self.text, c);
    }

    fn class(&mut self, class: &Class) {
        if self.style.ascii {
            return self.ascii_class(class);
        }
        self.push(if class.negated { "[^" } else { "[" });
        for item in &class.items {
            match *item {
                Item::Range(low, high) => {
                    escaped(&mut self.text, low);
                    if low != high {
                        self.push("-");
                        escaped(&mut self.text, high);
                    }
                    if self.ignore_case && ODD_CASES.iter().any(|odd| (low..=high).contains(odd)) {
                        self.push(r"iI\x{130}\x{131}");
                    }
                }
                Item::Digit { negated } => self.push(if negated { r"\P{Nd}" } else { r"\p{Nd}" }),
                Item::Space { negated } => self.push(if negated { r"[^\s\x1c-\x1f]" } else { r"\s\x1c-\x1f" }),
                Item::Word { negated } => self.push(if negated { r"[^\p{L}\p{N}_]" } else { r"\p{L}\p{N}_" }),
            }
        }
        self.push("]");
    }

    /// A class as the characters of ASCII that are in it.
    fn ascii_class(&mut self, class: &Class) {
        let within = ascii_members(class, self.ignore_case);
        self.push("[");
        let start = self.text.len();
        let mut c = 0;
        while c < 128 {
            let Some(low) = (c..128).find(|c| within[*c]) else { break };
            let high = (low..128).take_while(|c| within[*c]).last().unwrap_or(low);
            put(&mut self.text, format_args!(r"\x{low:02x}"));
            if high > low {
                put(&mut self.text, format_args!(r"-\x{high:02x}"));
            }
            c = high + 1;
        }
        if self.text.len() == start {
            self.push("a&&b"); // nothing
        }
        self.push("]");
    }
}

/// The characters of ASCII that are in a class.
pub(super) fn ascii_members(class: &Class, ignore_case: bool) -> [bool; 128] {
    let mut within = [false; 128];
    for c in 0..128_u8 {
        let here = char::from(c);
        let mut cases = vec![here];
        if ignore_case {
            cases.extend([here.to_ascii_lowercase(), here.to_ascii_uppercase()]);
            match here.to_ascii_lowercase() {
                'i' => cases.extend(ODD_CASES),
                'k' => cases.push('\u{212a}'),
                's' => cases.push('\u{17f}'),
                _ => {}
            }
        }
        let found = class.items.iter().any(|item| match *item {
            Item::Range(low, high) => cases.iter().any(|c| (low..=high).contains(c)),
            Item::Digit { negated } => here.is_ascii_digit() != negated,
            Item::Space { negated } => matches!(c, 9..=13 | 28..=32) != negated,
            Item::Word { negated } => (here.is_ascii_alphanumeric() || here == '_') != negated,
        });
        within[usize::from(c)] = found != class.negated;
    }
    within
}

/// Whether a node matches nothing but a place.
fn is_assertion(node: &Node) -> bool {
    match node {
        Node::Start { .. } | Node::End { .. } | Node::TextEnd | Node::Boundary { .. } | Node::Look { .. } => true,
        Node::Concat(of) => of.iter().all(is_assertion),
        Node::Case { node, .. } | Node::Atomic(node) => is_assertion(node),
        _ => false,
    }
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    let written = fmt::Write::write_fmt(text, what);
    debug_assert!(written.is_ok(), "a string takes all that is written");
}

/// The letters that are one for Python when the case is ignored, and not for Rust.
const ODD_CASES: [char; 4] = ['i', 'I', '\u{130}', '\u{131}'];

fn is_odd_case(c: char) -> bool {
    ODD_CASES.contains(&c)
}

fn escaped(text: &mut String, c: char) {
    if c.is_alphanumeric()
        || matches!(c, ' ' | '/' | ':' | '=' | '"' | '\'' | ',' | ';' | '<' | '>' | '_' | '!' | '@' | '%')
    {
        text.push(c);
    } else {
        put(text, format_args!(r"\x{{{:x}}}", u32::from(c)));
    }
}
