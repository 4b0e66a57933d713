//! The regular expressions of Python's `re`, read into a tree.
//!
//! The syntax is that of the Python 3.11 reference, *re — Regular expression operations*, for patterns and texts of type `str`.
//! Flags are resolved here, except for the case of letters, which is a property of a group.

use super::PatternError;

/// How deep groups may be nested.
const MAX_DEPTH: usize = 200;

/// One node of a pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Node {
    /// One character.
    Char(char),
    /// Any character: `.`, with or without the newline.
    Any { newline: bool },
    /// One character of a set.
    Class(Class),
    /// `^`: the start of the text, or of any line.
    Start { multi: bool },
    /// `$`: the end of the text or before its last newline, or the end of any line.
    End { multi: bool },
    /// `\Z`: the end of the text.
    TextEnd,
    /// `\b`, or `\B` when negated.
    Boundary { negated: bool },
    /// One after the other.
    Concat(Vec<Self>),
    /// The first that leads to a match.
    Alternate(Vec<Self>),
    /// Again and again.
    Repeat { node: Box<Self>, min: u32, max: Option<u32>, kind: RepeatKind },
    /// A group that is remembered, by its number from 1.
    Capture { index: usize, node: Box<Self> },
    /// A group in which the case of letters counts, or not.
    Case { ignored: bool, node: Box<Self> },
    /// `(?>…)`.
    Atomic(Box<Self>),
    /// `(?=…)`, `(?!…)`, `(?<=…)`, `(?<!…)`.
    Look { behind: bool, negated: bool, node: Box<Self> },
    /// What a group matched, again.
    Back(usize),
    /// `(?(group)yes|no)`.
    Condition { group: usize, yes: Box<Self>, no: Box<Self> },
}

/// How a repetition takes its turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RepeatKind {
    Greedy,
    Lazy,
    Possessive,
}

/// A set of characters.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Class {
    pub(super) negated: bool,
    pub(super) items: Vec<Item>,
}

/// A part of a set of characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Item {
    Range(char, char),
    Digit { negated: bool },
    Space { negated: bool },
    Word { negated: bool },
}

/// A pattern that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tree {
    pub(super) root: Node,
    /// The names of the groups, each with its number from 1.
    pub(super) names: Vec<(String, usize)>,
}

/// Reads a pattern; `multi_line` is Python's `re.MULTILINE`.
pub(super) fn read(pattern: &str, multi_line: bool) -> Result<Tree, PatternError> {
    let mut reader = Reader {
        text: pattern.chars().collect(),
        at: 0,
        groups: 0,
        open: Vec::new(),
        names: Vec::new(),
        flags: Flags { multi_line, ..Flags::default() },
        depth: 0,
    };
    reader.global_flags()?;
    let node = reader.alternatives(reader.flags)?;
    if reader.at < reader.text.len() {
        return Err(reader.bad("a parenthesis is closed that was not opened"));
    }
    let root = if reader.flags.ignore_case { Node::Case { ignored: true, node: Box::new(node) } } else { node };
    Ok(Tree { root, names: reader.names })
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are the flags of the syntax")]
struct Flags {
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
    verbose: bool,
}

impl Flags {
    fn set(&mut self, letter: char, on: bool) -> bool {
        match letter {
            'i' => self.ignore_case = on,
            'm' => self.multi_line = on,
            's' => self.dot_all = on,
            'x' => self.verbose = on,
            'u' => {}
            _ => return false,
        }
        true
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
    groups: usize,
    open: Vec<usize>,
    names: Vec<(String, usize)>,
    flags: Flags,
    depth: usize,
}

impl Reader {
    fn bad(&self, what: &str) -> PatternError {
        PatternError::Syntax { what: what.to_owned(), at: self.at }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn ahead(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(index, c)| self.text.get(self.at + index) == Some(&c))
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.ahead(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    /// The characters up to `end`, which is passed over.
    fn until(&mut self, end: char) -> Result<String, PatternError> {
        let start = self.at;
        while let Some(c) = self.peek() {
            self.at += 1;
            if c == end {
                return Ok(self.text[start..self.at - 1].iter().collect());
            }
        }
        Err(self.bad("a group is not closed"))
    }

    fn global_flags(&mut self) -> Result<(), PatternError> {
        loop {
            let start = self.at;
            if !self.eat("(?") {
                return Ok(());
            }
            let mut flags = self.flags;
            let mut letters = 0;
            while let Some(letter) = self.peek().filter(char::is_ascii_alphabetic) {
                if letter == 'P' {
                    break;
                }
                if !flags.set(letter, true) {
                    return Err(self.bad("a flag is unknown or not supported"));
                }
                letters += 1;
                self.at += 1;
            }
            if letters == 0 || !self.eat(")") {
                self.at = start;
                return Ok(());
            }
            self.flags = flags;
        }
    }

    fn alternatives(&mut self, flags: Flags) -> Result<Node, PatternError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.bad("groups are nested too deep"));
        }
        let mut of = vec![self.sequence(flags)?];
        while self.eat("|") {
            of.push(self.sequence(flags)?);
        }
        self.depth -= 1;
        Ok(if of.len() == 1 { of.remove(0) } else { Node::Alternate(of) })
    }

    fn sequence(&mut self, flags: Flags) -> Result<Node, PatternError> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            if flags.verbose {
                if c.is_whitespace() {
                    self.at += 1;
                    continue;
                }
                if c == '#' {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                    continue;
                }
            }
            if self.eat("(?#") {
                self.until(')')?;
                continue;
            }
            let Some(node) = self.atom(c, flags)? else { continue };
            nodes.push(self.repeated(node, flags)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Concat(nodes) })
    }

    fn repeated(&mut self, node: Node, flags: Flags) -> Result<Node, PatternError> {
        if flags.verbose {
            while self.peek().is_some_and(char::is_whitespace) {
                self.at += 1;
            }
        }
        let Some((min, max)) = self.quantifier()? else { return Ok(node) };
        if matches!(node, Node::Start { .. } | Node::End { .. } | Node::TextEnd | Node::Boundary { .. }) {
            return Err(self.bad("there is nothing to repeat"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.bad("the least number of repetitions is above the greatest"));
        }
        let kind = if self.eat("?") {
            RepeatKind::Lazy
        } else if self.eat("+") {
            RepeatKind::Possessive
        } else {
            RepeatKind::Greedy
        };
        let start = self.at;
        if self.quantifier()?.is_some() {
            self.at = start;
            return Err(self.bad("a repetition is repeated"));
        }
        Ok(Node::Repeat { node: Box::new(node), min, max, kind })
    }

    fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>)>, PatternError> {
        let start = self.at;
        match self.peek() {
            Some('*') => {
                self.at += 1;
                Ok(Some((0, None)))
            }
            Some('+') => {
                self.at += 1;
                Ok(Some((1, None)))
            }
            Some('?') => {
                self.at += 1;
                Ok(Some((0, Some(1))))
            }
            Some('{') => {
                self.at += 1;
                if self.peek() == Some('}') {
                    self.at = start;
                    return Ok(None);
                }
                let low = self.number()?;
                let high = if self.eat(",") { self.number()? } else { low };
                if !self.eat("}") {
                    self.at = start;
                    return Ok(None);
                }
                Ok(Some((low.unwrap_or(0), high)))
            }
            _ => Ok(None),
        }
    }

    fn number(&mut self) -> Result<Option<u32>, PatternError> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        if start == self.at {
            return Ok(None);
        }
        let digits: String = self.text[start..self.at].iter().collect();
        digits.parse().map(Some).map_err(|_| self.bad("a number of repetitions is too large"))
    }

    fn atom(&mut self, c: char, flags: Flags) -> Result<Option<Node>, PatternError> {
        self.at += 1;
        Ok(Some(match c {
            '.' => Node::Any { newline: flags.dot_all },
            '^' => Node::Start { multi: flags.multi_line },
            '$' => Node::End { multi: flags.multi_line },
            '[' => self.class()?,
            '(' => return self.group(flags),
            '\\' => self.escape()?,
            '*' | '+' | '?' => return Err(self.bad("there is nothing to repeat")),
            c => Node::Char(c),
        }))
    }

    fn group(&mut self, flags: Flags) -> Result<Option<Node>, PatternError> {
        let boxed = |reader: &mut Self, flags| -> Result<Box<Node>, PatternError> {
            let node = reader.alternatives(flags)?;
            if reader.eat(")") { Ok(Box::new(node)) } else { Err(reader.bad("a group is not closed")) }
        };
        if !self.eat("?") {
            return self.capture(None, flags).map(Some);
        }
        let look = |behind, negated, node| Some(Node::Look { behind, negated, node });
        if self.eat(":") {
            // A group that is repeated must stay one node.
            return Ok(Some(Node::Concat(vec![*boxed(self, flags)?])));
        }
        if self.eat("P<") {
            let name = self.until('>')?;
            if !name
                .chars()
                .enumerate()
                .all(|(at, c)| c == '_' || if at == 0 { c.is_alphabetic() } else { c.is_alphanumeric() })
                || name.is_empty()
            {
                return Err(self.bad("the name of a group has other than letters, digits and `_`"));
            }
            return self.capture(Some(name), flags).map(Some);
        }
        if self.eat("P=") {
            let name = self.until(')')?;
            let group = self.named(&name)?;
            return self.back(group).map(Some);
        }
        if self.eat("=") {
            return Ok(look(false, false, boxed(self, flags)?));
        }
        if self.eat("!") {
            return Ok(look(false, true, boxed(self, flags)?));
        }
        if self.eat("<=") {
            return Ok(look(true, false, boxed(self, flags)?));
        }
        if self.eat("<!") {
            return Ok(look(true, true, boxed(self, flags)?));
        }
        if self.eat(">") {
            return Ok(Some(Node::Atomic(boxed(self, flags)?)));
        }
        if self.eat("(") {
            let name = self.until(')')?;
            let group = match name.parse::<usize>() {
                Ok(group) if group > 0 && group <= 100 => group,
                Ok(_) => return Err(self.bad("a condition names a group that does not exist")),
                Err(_) => self.named(&name)?,
            };
            let yes = Box::new(self.sequence(flags)?);
            let no = Box::new(if self.eat("|") { self.sequence(flags)? } else { Node::Concat(Vec::new()) });
            if !self.eat(")") {
                return Err(self.bad("a condition has more than two branches, or is not closed"));
            }
            return Ok(Some(Node::Condition { group, yes, no }));
        }
        self.scoped(flags, boxed)
    }

    /// `(?i:…)`, `(?s-i:…)`.
    fn scoped(
        &mut self,
        flags: Flags,
        boxed: impl FnOnce(&mut Self, Flags) -> Result<Box<Node>, PatternError>,
    ) -> Result<Option<Node>, PatternError> {
        let mut inner = flags;
        let mut on = true;
        loop {
            match self.peek() {
                Some('-') if on => on = false,
                Some(':') => break,
                Some(')') => return Err(self.bad("flags for the whole pattern stand elsewhere than at its start")),
                Some(letter) if inner.set(letter, on) => {}
                _ => return Err(self.bad("a flag is unknown or not supported")),
            }
            self.at += 1;
        }
        self.at += 1;
        let node = boxed(self, inner)?;
        Ok(Some(Node::Case { ignored: inner.ignore_case, node }))
    }

    fn capture(&mut self, name: Option<String>, flags: Flags) -> Result<Node, PatternError> {
        self.groups += 1;
        let index = self.groups;
        if let Some(name) = name {
            if self.names.iter().any(|(known, _)| *known == name) {
                return Err(PatternError::Twice { name });
            }
            self.names.push((name, index));
        }
        self.open.push(index);
        let node = self.alternatives(flags)?;
        self.open.pop();
        if !self.eat(")") {
            return Err(self.bad("a group is not closed"));
        }
        Ok(Node::Capture { index, node: Box::new(node) })
    }

    fn named(&self, name: &str) -> Result<usize, PatternError> {
        match self.names.iter().find(|(known, _)| known == name) {
            Some((_, index)) => Ok(*index),
            None => Err(self.bad("a group is named that does not exist")),
        }
    }

    fn back(&self, group: usize) -> Result<Node, PatternError> {
        if group > self.groups || self.open.contains(&group) {
            return Err(self.bad("a reference to a group that does not exist, or is still open"));
        }
        Ok(Node::Back(group))
    }

    fn escape(&mut self) -> Result<Node, PatternError> {
        let Some(c) = self.peek() else { return Err(self.bad("a backslash ends the pattern")) };
        let one = |item| Node::Class(Class { negated: false, items: vec![item] });
        if c.is_ascii_digit() && c != '0' {
            return self.reference();
        }
        self.at += 1;
        Ok(match c {
            'A' => Node::Start { multi: false },
            'Z' => Node::TextEnd,
            'b' => Node::Boundary { negated: false },
            'B' => Node::Boundary { negated: true },
            _ => {
                self.at -= 1;
                if let Some(item) = self.category() { one(item) } else { Node::Char(self.escaped_char()?) }
            }
        })
    }

    fn reference(&mut self) -> Result<Node, PatternError> {
        let digit =
            |reader: &Self, ahead: usize, radix| reader.text.get(reader.at + ahead).and_then(|c| c.to_digit(radix));
        if let (Some(a), Some(b), Some(c)) = (digit(self, 0, 8), digit(self, 1, 8), digit(self, 2, 8)) {
            self.at += 3;
            return self.char_of(a * 64 + b * 8 + c).map(Node::Char);
        }
        let mut group = digit(self, 0, 10).unwrap_or(0);
        self.at += 1;
        if let Some(next) = digit(self, 0, 10) {
            group = group * 10 + next;
            self.at += 1;
        }
        self.back(usize::try_from(group).unwrap_or(usize::MAX))
    }

    /// `\d`, `\S` …, where one stands after the backslash.
    fn category(&mut self) -> Option<Item> {
        let item = match self.peek()? {
            'd' => Item::Digit { negated: false },
            'D' => Item::Digit { negated: true },
            's' => Item::Space { negated: false },
            'S' => Item::Space { negated: true },
            'w' => Item::Word { negated: false },
            'W' => Item::Word { negated: true },
            _ => return None,
        };
        self.at += 1;
        Some(item)
    }

    fn char_of(&self, code: u32) -> Result<char, PatternError> {
        char::from_u32(code).ok_or_else(|| self.bad("a number is not that of a character"))
    }

    /// The character after a backslash.
    fn escaped_char(&mut self) -> Result<char, PatternError> {
        let Some(c) = self.peek() else { return Err(self.bad("a backslash ends the pattern")) };
        self.at += 1;
        let hexadecimal = |reader: &mut Self, digits: usize| {
            let mut code = 0;
            for _ in 0..digits {
                let Some(digit) = reader.peek().and_then(|c| c.to_digit(16)) else {
                    return Err(reader.bad("an escape by number is cut short"));
                };
                code = code * 16 + digit;
                reader.at += 1;
            }
            reader.char_of(code)
        };
        Ok(match c {
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => hexadecimal(self, 2)?,
            'u' => hexadecimal(self, 4)?,
            'U' => hexadecimal(self, 8)?,
            '0' => {
                let mut code = 0;
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.at += 1;
                }
                self.char_of(code)?
            }
            c if c.is_ascii_alphanumeric() => return Err(self.bad("an escape is unknown")),
            c => c,
        })
    }

    fn class(&mut self) -> Result<Node, PatternError> {
        let mut class = Class { negated: self.eat("^"), items: Vec::new() };
        let start = self.at;
        loop {
            let Some(c) = self.peek() else { return Err(self.bad("a set of characters is not closed")) };
            if c == ']' && self.at > start {
                self.at += 1;
                return Ok(Node::Class(class));
            }
            let low = self.member(c)?;
            if self.peek() == Some('-') && self.text.get(self.at + 1).is_some_and(|c| *c != ']') {
                self.at += 1;
                let next = self.peek().unwrap_or('-');
                let (Member::Char(low), Member::Char(high)) = (low, self.member(next)?) else {
                    return Err(self.bad("a range of characters has a set at an end"));
                };
                if low > high {
                    return Err(self.bad("a range of characters ends before it starts"));
                }
                class.items.push(Item::Range(low, high));
            } else {
                class.items.push(match low {
                    Member::Char(c) => Item::Range(c, c),
                    Member::Set(item) => item,
                });
            }
        }
    }

    fn member(&mut self, c: char) -> Result<Member, PatternError> {
        self.at += 1;
        if c != '\\' {
            return Ok(Member::Char(c));
        }
        if let Some(item) = self.category() {
            return Ok(Member::Set(item));
        }
        if self.eat("b") {
            return Ok(Member::Char('\x08'));
        }
        if let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) {
            let mut code = digit;
            self.at += 1;
            for _ in 0..2 {
                let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                code = code * 8 + digit;
                self.at += 1;
            }
            return self.char_of(code).map(Member::Char);
        }
        self.escaped_char().map(Member::Char)
    }
}

enum Member {
    Char(char),
    Set(Item),
}
