//! Separates the code of a Rust source from its comments and its strings.
//!
//! A rule that forbids a word must find it neither in a comment that explains the ban nor in the string that names it. What
//! is masked becomes spaces, so a line number in the masked text is the one in the file.

/// A source twice: its code alone, and its comments alone.
pub(crate) struct Masked {
    /// The code; comments, strings and character literals are spaces.
    pub(crate) code: String,
    /// The comments; everything else is spaces.
    pub(crate) comments: String,
}

/// What a character of a source belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Quoted,
}

/// Splits `text`. A comment or string that is still open at the end of the text reaches to that end.
pub(crate) fn mask(text: &str) -> Masked {
    let chars: Vec<char> = text.chars().collect();
    let mut masked = Masked { code: String::with_capacity(text.len()), comments: String::new() };
    let mut at = 0;
    while at < chars.len() {
        let (part, length) = next(&chars, at);
        for &found in &chars[at..at + length] {
            let keep = |wanted| if part == wanted || found == '\n' { found } else { ' ' };
            masked.code.push(keep(Part::Code));
            masked.comments.push(keep(Part::Comment));
        }
        at += length;
    }
    masked
}

/// The part that starts at `at`, and its length in characters.
fn next(chars: &[char], at: usize) -> (Part, usize) {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => (Part::Comment, rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => (Part::Comment, block_comment(rest)),
        ['"', ..] => (Part::Quoted, quoted(rest, '"')),
        ['\'', '\\', ..] => (Part::Quoted, quoted(rest, '\'')),
        ['\'', _, '\'', ..] => (Part::Quoted, 3),
        ['r', ..] => raw_string(chars, at).map_or((Part::Code, 1), |length| (Part::Quoted, length)),
        _ => (Part::Code, 1),
    }
}

/// Length of the block comment, with the comments nested in it, at the start of `rest`.
fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of the literal at the start of `rest` that ends with an unescaped `quote`.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            found if found == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of the raw string that starts at `at`: `r"…"`, `r#"…"#`, also after `b` or `c`; `None` for a word that merely
/// starts, or ends, with an r.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let prefix = usize::from(at > 0 && matches!(chars[at - 1], 'b' | 'c'));
    if at > prefix && word(chars[at - prefix - 1]) {
        return None;
    }
    let rest = &chars[at + 1..];
    let hashes = rest.iter().take_while(|&&c| c == '#').count();
    if rest.get(hashes) != Some(&'"') {
        return None;
    }
    let body = &rest[hashes + 1..];
    let closes = |from: usize| {
        body[from] == '"' && body[from + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    let end = (0..body.len()).find(|&from| closes(from)).unwrap_or(body.len());
    Some((1 + hashes + 1 + end + 1 + hashes).min(chars.len() - at))
}

/// Numbers (from 1) of the lines that hold `word`, and not only as a part of a longer word.
pub(crate) fn lines_with_word(text: &str, word: &str) -> Vec<usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let whole = |line: &str| {
        line.match_indices(word)
            .any(|(at, _)| !part(line[..at].chars().next_back()) && !part(line[at + word.len()..].chars().next()))
    };
    text.lines().enumerate().filter(|(_, line)| whole(line)).map(|(at, _)| at + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` with code marked `.`, comments `c`, quoted `q`.
    fn parts(text: &str) -> String {
        let masked = mask(text);
        assert_eq!(masked.code.chars().count(), text.chars().count(), "positions are kept");
        let marks = text.chars().zip(masked.code.chars()).zip(masked.comments.chars());
        marks
            .map(|((c, code), comment)| {
                if c == ' ' || code == c {
                    '.'
                } else if comment == c {
                    'c'
                } else {
                    'q'
                }
            })
            .collect()
    }

    #[test]
    fn code_comments_and_strings_are_told_apart() {
        for (text, expect) in [
            ("a//b", ".ccc"),
            ("a/*b/*c*/d*/e", ".ccccccccccc."),
            (r#"f("//x")"#, "..qqqqq."),
            (r#"f("\"")x"#, "..qqqq.."),
            ("r\"a\"b", "qqqq."),
            ("r#\"a\"b\"#c", "qqqqqqqq."),
            ("br#\"a\"#c", ".qqqqqq."),
            ("for\"a\"", "...qqq"),
            ("r#type", "......"),
            ("'a'b'\\n''\"'", "qqq.qqqqqqq"),
            ("<'a>'b", "......"),
            ("\"é\"x//é", "qqq.ccc"),
            ("\"open", "qqqqq"),
            ("r\"open", "qqqqqq"),
            ("/*open", "cccccc"),
        ] {
            assert_eq!(parts(text), expect, "{text}");
        }
    }

    #[test]
    fn a_word_is_not_a_part_of_a_longer_one() {
        assert_eq!(lines_with_word("page\nstatus_page\npages\n(page)", "page"), [1, 4]);
        assert_eq!(lines_with_word("épage page", "page"), [1]);
    }
}
