//! The user's own text, and places in it.

/// A place in one of the files of a [`crate::Document`]: small enough to keep beside every value that may have to be
/// pointed at later. The default one is the start of the first file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    pub(crate) file: u32,
    /// Bytes from the start of the file.
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Place {
    pub(crate) const fn file(file: u32) -> Self {
        Self { file, start: 0, end: 0 }
    }
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    name: String,
    /// `None` when it could not be read.
    text: Option<String>,
}

impl Source {
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
pub struct Sources(Vec<Source>);

impl Sources {
    /// The files.
    pub fn files(&self) -> &[Source] {
        &self.0
    }

    pub(crate) fn add(&mut self, name: String, text: Option<String>) -> u32 {
        let index = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push(Source { name, text });
        index
    }

    pub(crate) fn source(&self, place: Place) -> Option<&Source> {
        self.0.get(usize::try_from(place.file).ok()?)
    }

    /// The bytes of the place, moved to the nearest boundaries of characters inside the text.
    pub(crate) fn bytes(&self, place: Place) -> (usize, usize) {
        let text = self.source(place).map_or("", Source::text);
        let inside = |offset: u32| text.floor_char_boundary(usize::try_from(offset).unwrap_or(usize::MAX));
        let start = inside(place.start);
        (start, inside(place.end).max(start))
    }

    /// Where the place starts and where it ends.
    pub fn position(&self, place: Place) -> (Position, Position) {
        let text = self.source(place).map_or("", Source::text);
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
