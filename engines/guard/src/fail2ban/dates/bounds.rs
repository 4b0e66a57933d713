//! Where a date pattern may begin and end: the boundaries that are put around its expression, and the marks that ask for others.
//!
//! A pattern is bound by words unless it begins or ends with an anchor; `**` or `{UNB}` take the boundary away, and `{^LN-BEG}`
//! moves it to the start of the line. The rules work on the text of the expression, not on its meaning, and so it is here.

/// The expression matches only at the start of the line.
pub(super) const LINE_BEGIN: u8 = 8;
/// The expression matches only at the end of the line.
pub(super) const LINE_END: u8 = 4;

/// The mark of a pattern without boundaries.
pub(super) const UNBOUND: &str = "{UNB}";
/// The mark of a pattern at the start of the line, where two other characters may precede it.
pub(super) const AT_LINE_BEGIN: &str = "{^LN-BEG}";

const WORD_BEGIN_EXPRESSION: &str = r"(?=^|\b|\W)";
const WORD_END_EXPRESSION: &str = r"(?=\b|\W|$)";
const LINE_BEGIN_EXPRESSION: &str = r"^(?:\W{0,2})?";

/// What the beginning of a pattern is bound by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begin {
    Nothing,
    Word,
    Line,
}

/// An expression with its boundaries.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Bounded {
    pub(super) regex: String,
    pub(super) flags: u8,
    /// Whether it was bound to the start of the line here: then its name says so.
    pub(super) is_at_line_begin: bool,
}

/// `text` without what is at its front when that is a group of flags such as `(?iu)`.
fn without_flags(text: &str) -> Option<&str> {
    let (flags, rest) = text.strip_prefix("(?")?.split_once(')')?;
    (!flags.is_empty() && flags.chars().all(|flag| flag.is_alphanumeric() || flag == '_')).then_some(rest)
}

/// `text`, and what is left of it without flags at its front.
fn with_and_without_flags(text: &str) -> impl Iterator<Item = &str> {
    without_flags(text).into_iter().chain([text])
}

/// What is left of `text` without its first parentheses, for each number of them, longest first.
fn without_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let count = text.len() - text.trim_start_matches('(').len();
    (0..=count).rev().filter_map(|skipped| text.get(skipped..))
}

/// Whether `text` has `before` in front of `place`.
fn follows(text: &str, place: usize, before: char) -> bool {
    text.get(..place).is_some_and(|front| front.ends_with(before))
}

fn has_group(regex: &str) -> bool {
    regex.match_indices('(').any(|(place, _)| {
        let (front, behind) = regex.split_at(place);
        !front.ends_with("(?") && !front.ends_with('\\') && !behind.starts_with("(?")
    })
}

fn needs_no_word_begin(regex: &str) -> bool {
    without_parentheses(regex).flat_map(with_and_without_flags).any(|rest| {
        rest.starts_with('^')
            || rest.trim_start_matches('(').starts_with("**")
            || rest.starts_with("(^")
            || rest.starts_with("(?:^")
    })
}

fn needs_no_word_end(regex: &str) -> bool {
    [regex.strip_suffix("$)"), regex.strip_suffix('$'), regex.strip_suffix(r"\b"), regex.strip_suffix(r"\s")]
        .into_iter()
        .chain([regex.trim_end_matches(')').strip_suffix("**")])
        .flatten()
        .any(|front| !front.ends_with('\\'))
}

fn is_line_begin(regex: &str) -> bool {
    with_and_without_flags(regex).any(|rest| {
        rest.starts_with('^')
            || ["(^", "(?:^"].iter().any(|open| rest.strip_prefix(open).is_some_and(|behind| !behind.starts_with('|')))
    })
}

fn is_line_end(regex: &str) -> bool {
    let front = regex.strip_suffix("$)").or_else(|| regex.strip_suffix('$'));
    front.is_some_and(|front| !front.ends_with(['\\', '|']))
}

/// `regex` in a group, so that it has one; flags and anchors stay outside.
fn grouped(regex: &str) -> String {
    let body = without_flags(regex).unwrap_or(regex);
    let body = body.strip_prefix('^').unwrap_or(body);
    let body = without_flags(body).unwrap_or(body);
    let front = regex.get(..regex.len() - body.len()).unwrap_or_default();
    let (body, end) = body.strip_suffix('$').map_or((body, ""), |body| (body, "$"));
    format!("{front}({body}){end}")
}

/// `regex` without the marks `**` at its front and its end.
fn without_marks(regex: &str) -> String {
    let mut regex = regex.to_owned();
    let front = without_parentheses(&regex)
        .flat_map(with_and_without_flags)
        .find_map(|rest| rest.trim_start_matches('(').strip_prefix("**"))
        .map(|rest| regex.len() - rest.len());
    if let Some(end) = front {
        regex.replace_range(end - 2..end, "");
    }
    let trimmed = regex.trim_end_matches(')').len();
    let place = regex.get(..trimmed).filter(|front| front.ends_with("**")).map(|front| front.len() - 2);
    if let Some(place) = place.filter(|place| !follows(&regex, *place, '\\')) {
        regex.replace_range(place..place + 2, "");
    }
    regex
}

/// The first group of flags in `regex`, wherever it is, and the rest.
fn cut_flags(regex: &str) -> (String, String) {
    let found = regex.match_indices("(?").find_map(|(place, _)| {
        let flags = regex.get(place + 2..)?.split_once(')')?.0;
        (!flags.is_empty() && flags.bytes().all(|flag| flag.is_ascii_lowercase())).then_some((place, flags.len() + 3))
    });
    match found {
        Some((place, length)) => {
            let (front, behind) = regex.split_at(place);
            let (flags, behind) = behind.split_at(length);
            (flags.to_owned(), format!("{front}{behind}"))
        }
        None => (String::new(), regex.to_owned()),
    }
}

/// Puts boundaries around `regex`.
pub(super) fn bound(regex: &str, begin: Begin, is_end_bound: bool) -> Bounded {
    let (flags_in_front, mut regex) = cut_flags(regex.trim());
    let is_begin_bound = begin != Begin::Nothing && !needs_no_word_begin(&regex);
    let is_end_bound = is_end_bound && !needs_no_word_end(&regex);
    if !has_group(&regex) {
        regex = grouped(&regex);
    }
    let mut flags = 0;
    let is_at_line_begin = is_begin_bound && begin == Begin::Line;
    if is_at_line_begin {
        flags |= LINE_BEGIN;
        regex.insert_str(0, LINE_BEGIN_EXPRESSION);
    } else if is_begin_bound {
        regex.insert_str(0, WORD_BEGIN_EXPRESSION);
    }
    if is_end_bound {
        regex.push_str(WORD_END_EXPRESSION);
    }
    if is_line_begin(&regex) {
        flags |= LINE_BEGIN;
    }
    if is_line_end(&regex) {
        flags |= LINE_END;
    }
    regex = without_marks(&regex);
    regex.insert_str(0, &flags_in_front);
    Bounded { regex, flags, is_at_line_begin }
}

/// `pattern` without the boundaries and marks it has: what takes the place of `{DATE}` in another.
pub(super) fn unbound(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix(UNBOUND).unwrap_or(pattern);
    let pattern = pattern.strip_prefix(AT_LINE_BEGIN).unwrap_or(pattern);
    let pattern =
        pattern.strip_prefix(r"(^|\b|\W)").or_else(|| pattern.strip_prefix(r"(?:^|\b|\W)")).unwrap_or(pattern);
    pattern.strip_suffix(WORD_END_EXPRESSION).unwrap_or(pattern)
}

/// `pattern` with each `mark` (a word in braces, in any case, not after a backslash) replaced.
pub(super) fn replace_mark(pattern: &str, marks: &[&str], by: &str) -> Option<String> {
    let (mut replaced, mut done, mut place, mut found) = (String::new(), 0, 0, false);
    while let Some(rest) = pattern.get(place..).filter(|rest| !rest.is_empty()) {
        let mark = marks.iter().find(|mark| rest.get(..mark.len()).is_some_and(|text| text.eq_ignore_ascii_case(mark)));
        if let Some(mark) = mark.filter(|_| !follows(pattern, place, '\\')) {
            replaced.push_str(pattern.get(done..place).unwrap_or_default());
            replaced.push_str(by);
            place += mark.len();
            (done, found) = (place, true);
        } else {
            place += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    replaced.push_str(pattern.get(done..).unwrap_or_default());
    found.then_some(replaced)
}
