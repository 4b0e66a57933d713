//! Options in brackets and lists of words: `sshd[mode=aggressive, port="22,2222"]`, as fail2ban splits them.

use std::sync::LazyLock;

use regex::Regex;

use super::ini::is_space;

static NAME_AND_OPTIONS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?s)\A([^\[]+)(?:\[(.*)\])?\s*\z").ok());
static OPTION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?s)\s*([\w\-_\.]+)=(?:"([^"]*)"|'([^']*)'|([^,\]]*))(?:,|\]\s*\[|\z|(?P<after>.+))|,?\s*\z|(?P<other>.+)"#,
    )
    .ok()
});
static LIST: LazyLock<Option<fancy_regex::Regex>> = LazyLock::new(|| {
    fancy_regex::RegexBuilder::new(
        r#"(?s)(?:[^\[\s]+(?:\s*\[\s*(?:[\w\-_\.]+=(?:"[^"]*"|'[^']*'|[^,\]]*)\s*(?:,|\]\s*\[)?\s*)*\])?\s*|\S+)(?=\n\s*|\s+|\z)"#,
    )
    .backtrack_limit(200_000)
    .build()
    .ok()
});

/// Splits `name[option=value, …]`; the error says what is wrong with it.
pub(crate) fn extract(text: &str) -> Result<(String, Vec<(String, String)>), String> {
    let (Some(whole), Some(each)) = (NAME_AND_OPTIONS.as_ref(), OPTION.as_ref()) else {
        return Err("the patterns of options do not compile".to_owned());
    };
    if text.starts_with('[') {
        return Err(
            "nothing stands before the bracket of `[…]`: write a name there, that of an action perhaps in `banaction`"
                .to_owned(),
        );
    }
    let Some(found) = whole.captures(text) else {
        let name = short(text.split('[').next().unwrap_or_default());
        return Err(format!("`{name}[…` is no `name[option=value, …]`: close its bracket"));
    };
    let mut options: Vec<(String, String)> = Vec::new();
    let inside = found.get(2).map_or("", |inside| inside.as_str());
    for option in each.captures_iter(inside.strip_suffix('\n').unwrap_or(inside)) {
        if let Some(after) = option.name("after") {
            return Err(format!(
                "`{}` follows the option `{}` without a comma: separate options with `,`, and quote values that hold one",
                without_value(after.as_str()),
                &option[1]
            ));
        }
        if let Some(other) = option.name("other") {
            return Err(format!("`{}` is no `option=value`: write it so", without_value(other.as_str())));
        }
        let Some(name) = option.get(1) else { continue };
        let value = (2..=4).find_map(|group| option.get(group)).map_or("", |value| value.as_str());
        let value = value.trim_matches(is_space).to_owned();
        match options.iter_mut().find(|(known, _)| known == name.as_str()) {
            Some(known) => known.1 = value,
            None => options.push((name.as_str().to_owned(), value)),
        }
    }
    Ok((found[1].to_owned(), options))
}

/// Splits a list of `name[…]`, separated by white space that is not within brackets.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let Some(list) = LIST.as_ref() else { return Err("the pattern of lists does not compile".to_owned()) };
    list.find_iter(text)
        .map(|found| {
            found
                .map(|found| found.as_str().to_owned())
                .map_err(|_| format!("`{}` is too involved to be split: write one action a line", short(text)))
        })
        .collect()
}

/// Splits words at spaces, commas and ends of lines.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\n']).map(|word| word.trim_matches(is_space)).filter(|word| !word.is_empty())
}

/// Splits words as a shell does, with quotes and backslashes and nothing else of it.
pub(crate) fn shell_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(format!("a quotation is not closed in `{}`: close it", short(text))),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => match chars.next() {
                            Some(escaped @ ('"' | '\\')) => word.push(escaped),
                            Some(other) => word.extend(['\\', other]),
                            None => return Err(format!("a quotation is not closed in `{}`: close it", short(text))),
                        },
                        Some(other) => word.push(other),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err(format!("`{}` ends with a backslash: remove it", short(text))),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The start of an option, for a message, without its value: that may be a secret.
fn without_value(text: &str) -> String {
    match text.split_once('=') {
        Some((name, _)) => format!("{}=…", short(name)),
        None => short(text),
    }
}

/// The start of a text, for a message.
pub(crate) fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN { text.to_owned() } else { text.chars().take(SHOWN).chain(['…']).collect() }
}
