//! Mistakes, and how they are shown: in the user's own file, all at once.

mod render;

use std::borrow::Cow;
use std::fmt;

use crate::place::Place;
use crate::source::Sources;

/// Most mistakes kept of one reading; those beyond are counted. A file of the wrong kind gives one per line, and nobody
/// reads a thousand.
pub(crate) const MISTAKES_MAX: usize = 100;

/// A mistake: what is wrong, where, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    place: Place,
    reason: Cow<'static, str>,
    remedy: Cow<'static, str>,
    /// A second place that belongs to it, and why.
    also: Option<(Place, Cow<'static, str>)>,
    kind: MistakeKind,
}

/// The kind of a mistake, where it changes how others are reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum MistakeKind {
    /// A mistake of the grammar: other mistakes on the same line follow from it.
    Syntax,
    /// A mistake of the grammar that swallowed the rest of the file.
    Unclosed,
    /// A key that no reader asked for.
    UnknownKey(String),
    Other,
}

impl Mistake {
    /// At `place`, `reason` is wrong; `remedy` says what to write instead. Both are one line, without a full stop.
    pub fn new(place: Place, reason: impl Into<Cow<'static, str>>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { place, reason: reason.into(), remedy: remedy.into(), also: None, kind: MistakeKind::Other }
    }

    /// Points at a second place, and says what it has to do with the mistake.
    #[must_use]
    pub fn also(mut self, place: Place, label: impl Into<Cow<'static, str>>) -> Self {
        self.also = Some((place, label.into()));
        self
    }

    pub(crate) fn kind(mut self, kind: MistakeKind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn is(&self, kind: &MistakeKind) -> bool {
        self.kind == *kind
    }

    /// The place of the mistake.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// What is wrong.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What to write instead.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

/// The mistakes of one reading, up to a bound; the rest is counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Found {
    kept: Vec<Mistake>,
    left_out: usize,
}

impl Found {
    pub(crate) fn push(&mut self, mistake: Mistake) {
        if self.kept.len() < MISTAKES_MAX { self.kept.push(mistake) } else { self.left_out += 1 }
    }

    pub(crate) const fn count(&self) -> usize {
        self.kept.len() + self.left_out
    }

    /// Gives a better remedy to mistakes about unknown keys.
    pub(crate) fn explain_unknown(&mut self, better: impl Fn(&str) -> Option<String>) {
        for mistake in &mut self.kept {
            if let MistakeKind::UnknownKey(key) = &mistake.kind
                && let Some(remedy) = better(key)
            {
                mistake.remedy = remedy.into();
            }
        }
    }

    /// The sources, if there is no mistake; else all of them.
    pub(crate) fn finish(self, sources: Sources) -> Result<Sources, Mistakes> {
        let tidied = self.tidied(&sources);
        if tidied.count() == 0 { Ok(sources) } else { Err(Mistakes { sources, found: tidied }) }
    }

    /// All mistakes of a policy that can't be used. If none was found, that is one.
    pub(crate) fn refuse(self, sources: Sources) -> Mistakes {
        let mut tidied = self.tidied(&sources);
        if tidied.count() == 0 {
            let remedy = "report this as a fault of garant";
            tidied.push(Mistake::new(Place::default(), "the policy can't be used", remedy));
        }
        Mistakes { sources, found: tidied }
    }

    /// In the order of the files, without those that only follow from a syntax error: on the same line, or after a bracket
    /// that is never closed.
    fn tidied(mut self, sources: &Sources) -> Self {
        let line = |place: Place| (place.file, sources.position(place).0.line);
        let places = |kind: MistakeKind| self.kept.iter().filter(move |m| m.kind == kind).map(|m| m.place);
        let broken_lines: Vec<_> = places(MistakeKind::Syntax).chain(places(MistakeKind::Unclosed)).map(line).collect();
        let unclosed: Vec<Place> = places(MistakeKind::Unclosed).collect();
        self.kept.retain(|mistake| {
            let swallowed =
                unclosed.iter().any(|open| open.file == mistake.place.file && open.start < mistake.place.start);
            let grammar = matches!(mistake.kind, MistakeKind::Syntax | MistakeKind::Unclosed);
            !swallowed && (grammar || !broken_lines.contains(&line(mistake.place)))
        });
        self.kept.sort_by_key(|mistake| mistake.place);
        self.kept.dedup();
        self
    }
}

/// All mistakes of a policy: at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct Mistakes {
    sources: Sources,
    found: Found,
}

impl Mistakes {
    /// The one mistake `reason` about a file that could not be read.
    pub(crate) fn unreadable(name: String, reason: String, remedy: String) -> Self {
        let mut sources = Sources::default();
        let file = sources.add(name, None);
        let kept = vec![Mistake::new(Place::file(file), reason, remedy)];
        Self { sources, found: Found { kept, left_out: 0 } }
    }

    /// The mistakes, in the order of the files.
    pub fn list(&self) -> &[Mistake] {
        &self.found.kept
    }

    /// How many there are, those left out of [`Self::list`] included.
    pub const fn count(&self) -> usize {
        self.found.count()
    }

    /// The files they are in.
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// For people: each mistake under the line it is in, with its remedy, as a compiler shows them.
    pub fn render(&self, colour: bool) -> String {
        render::report(&self.sources, &self.found.kept, self.found.left_out, colour)
    }

    /// For editors: `{"mistakes": [{file, line, column, end_line, end_column, reason, remedy, also?}], "left_out": 0}`,
    /// lines and columns as in [`crate::Position`]; `also` is `{file, line, column, end_line, end_column, label}`.
    pub fn to_json(&self) -> serde_json::Value {
        let mistakes: Vec<_> = self.found.kept.iter().map(|mistake| render::json(&self.sources, mistake)).collect();
        serde_json::json!({ "mistakes": mistakes, "left_out": self.found.left_out })
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Mistakes {
    /// As [`Self::render`] shows them: a test that fails on them says why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Mistakes {}
