//! Mistakes as text and as JSON.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::Mistake;
use crate::place::Place;
use crate::source::{SourceFile, Sources};

/// Each mistake as a paragraph, then how many there are.
pub(super) fn report(sources: &Sources, mistakes: &[Mistake], left_out: usize, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let paragraphs = mistakes.iter().map(|mistake| renderer.render(&[group(sources, mistake)]) + "\n\n");
    let count = mistakes.len() + left_out;
    let plural = if count == 1 { "" } else { "s" };
    let shown = if left_out == 0 { String::new() } else { format!(", the first {} of them shown", mistakes.len()) };
    let sum = format!("{count} mistake{plural} in the policy{shown}: nothing of it is in effect\n");
    paragraphs.chain([sum]).collect()
}

fn group<'a>(sources: &'a Sources, mistake: &'a Mistake) -> Group<'a> {
    let title = Group::with_title(Level::ERROR.primary_title(mistake.reason()));
    let primary = mistake.place;
    let Some(source) = sources.source(primary).filter(|source| source.is_readable()) else {
        let name = sources.source(primary).map_or("", SourceFile::name);
        return title.element(Origin::path(name)).element(Level::HELP.message(mistake.remedy()));
    };
    let mut first = Window::new(sources, primary);
    let mut annotations = vec![(AnnotationKind::Primary, primary, None)];
    let mut second = None;
    if let Some((place, label)) = &mistake.also {
        if place.file == primary.file {
            first.widen(Window::new(sources, *place));
            annotations.push((AnnotationKind::Context, *place, Some(label.as_ref())));
        } else if let Some(other) = sources.source(*place) {
            let window = Window::new(sources, *place);
            let annotation = AnnotationKind::Context.span(window.span(sources, *place)).label(label.as_ref());
            second = Some(window.snippet(other).annotation(annotation));
        }
    }
    let annotations = annotations
        .into_iter()
        .map(|(kind, place, label)| kind.span(first.span(sources, place)).label(label.map(String::from)));
    let group = title.element(first.snippet(source).annotations(annotations));
    let group = match second {
        Some(second) => group.element(second),
        None => group,
    };
    group.element(Level::HELP.message(mistake.remedy()))
}

/// The lines of a file that hold a place: handing over a whole megabyte for each of a hundred mistakes is slow.
#[derive(Clone, Copy)]
struct Window {
    start: usize,
    end: usize,
    /// Number of its first line.
    line: usize,
}

impl Window {
    fn new(sources: &Sources, place: Place) -> Self {
        let text = sources.source(place).map_or("", SourceFile::text);
        let (start, end) = sources.bytes(place);
        let before = text.get(..start).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let after = text.get(end..).unwrap_or_default();
        let end = after.find('\n').map_or(text.len(), |newline| end + newline + 1);
        Self { start, end, line: sources.position(place).0.line }
    }

    fn widen(&mut self, other: Self) {
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.line = self.line.min(other.line);
    }

    /// The bytes of the place inside the window.
    fn span(self, sources: &Sources, place: Place) -> std::ops::Range<usize> {
        let (start, end) = sources.bytes(place);
        start.saturating_sub(self.start)..end.saturating_sub(self.start)
    }

    fn snippet(self, source: &SourceFile) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        let text = source.text().get(self.start..self.end).unwrap_or_default();
        Snippet::source(text).line_start(self.line).path(source.name())
    }
}

/// One mistake for an editor.
pub(super) fn json(sources: &Sources, mistake: &Mistake) -> Value {
    let mut value = located(sources, mistake.place);
    value["reason"] = mistake.reason().into();
    value["remedy"] = mistake.remedy().into();
    if let Some((place, label)) = &mistake.also {
        let mut also = located(sources, *place);
        also["label"] = label.as_ref().into();
        value["also"] = also;
    }
    value
}

fn located(sources: &Sources, place: Place) -> Value {
    let (start, end) = sources.position(place);
    json!({
        "file": sources.source(place).map_or("", SourceFile::name),
        "line": start.line,
        "column": start.column,
        "end_line": end.line,
        "end_column": end.column,
    })
}
