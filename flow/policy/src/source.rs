//! The user's own text, and places in it.

use crate::place::Place;
use crate::redact::{self, Hidden};

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceFile {
    name: String,
    /// `None` when it could not be read.
    text: Option<String>,
}

impl SourceFile {
    /// Its path, as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is in it; nothing when it could not be read.
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    pub(crate) const fn is_readable(&self) -> bool {
        self.text.is_some()
    }
}

/// A line and a column, both counted from 1; the column in characters (Unicode scalar values), as compilers do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// The files of a policy, in the order in which they were read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
    /// What no record may hold.
    hidden: Vec<Hidden>,
}

impl Sources {
    /// The files.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    pub(crate) fn hide(&mut self, hidden: Vec<Hidden>) {
        self.hidden = hidden;
    }

    /// Names of the files in which a value stands that no record may hold: an address of a heartbeat, a header field, a
    /// person.
    pub fn private_files(&self) -> Vec<&str> {
        let is_private = |(index, file): &(usize, &SourceFile)| {
            let here = self.hidden.iter().filter(|hidden| usize::try_from(hidden.place.file) == Ok(*index));
            here.map(|hidden| hidden.within(file.text(), self.bytes(hidden.place))).any(|secret| secret.is_some())
        };
        self.files.iter().enumerate().filter(is_private).map(|(_, file)| file.name()).collect()
    }

    /// The text of each file, under its name, for a record that is kept: every value that is [`crate::Private`] is what
    /// `shown` makes of it, in quotes, and a comment is `# …`. What else stands there stands as it was written.
    ///
    /// Comments go because nobody can say what is in them: the person that was commented out has a name too.
    pub fn redacted(&self, mut shown: impl FnMut(&str) -> String) -> Vec<(&str, String)> {
        let redact = |(index, file): (usize, &SourceFile)| {
            let hidden: Vec<_> =
                self.hidden.iter().filter(|hidden| usize::try_from(hidden.place.file) == Ok(index)).collect();
            let spans = hidden.iter().filter_map(|hidden| hidden.within(file.text(), self.bytes(hidden.place)));
            redact::text(file.text(), spans.collect(), &mut shown)
        };
        let texts: Vec<String> = self.files.iter().enumerate().map(redact).collect();
        self.files.iter().map(SourceFile::name).zip(texts).collect()
    }

    pub(crate) fn add(&mut self, name: String, text: Option<String>) -> u32 {
        let index = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.files.push(SourceFile { name, text });
        index
    }

    pub(crate) fn source(&self, place: Place) -> Option<&SourceFile> {
        self.files.get(usize::try_from(place.file).ok()?)
    }

    /// The bytes of the place, moved to the nearest boundaries of characters inside the text.
    pub(crate) fn bytes(&self, place: Place) -> (usize, usize) {
        let text = self.source(place).map_or("", SourceFile::text);
        let inside = |offset: u32| text.floor_char_boundary(usize::try_from(offset).unwrap_or(usize::MAX));
        let start = inside(place.start);
        (start, inside(place.end).max(start))
    }

    /// Where the place starts and where it ends.
    pub fn position(&self, place: Place) -> (Position, Position) {
        let text = self.source(place).map_or("", SourceFile::text);
        let (start, end) = self.bytes(place);
        (position(text, start), position(text, end))
    }
}

fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.get(line_start..).map_or(0, |line| line.chars().count()) + 1;
    Position { line, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml".into(), Some("é = 1\r\nbé = 2\n".into()));
        for (start, line, column) in [(0, 1, 1), (2, 1, 2), (8, 2, 1), (11, 2, 3), (99, 3, 1)] {
            let (from, _) = sources.position(Place { file, start, end: start });
            assert_eq!((from.line, from.column), (line, column), "offset {start}");
        }
    }

    #[test]
    fn a_place_inside_a_character_is_moved() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml".into(), Some("é".into()));
        assert_eq!(sources.bytes(Place { file, start: 1, end: 1 }), (0, 0));
        assert_eq!(sources.bytes(Place { file: 7, start: 3, end: 9 }), (0, 0), "no such file");
    }
}
