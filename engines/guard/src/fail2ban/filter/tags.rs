//! The tags of patterns: `<HOST>`, `<F-USER>…</F-USER>`, `<SKIPLINES>` and their like, as groups of a regular expression.

use std::fmt::Write as _;

const IPV4: &str = r"(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})";
// fail2ban ends it with `(?:[0-9a-fA-F]{1,4}|(?<=:):)`: what stands before always ends with a colon, and the lookbehind is always true.
const IPV6: &str = r"(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|:))";
const DNS: &str = r"(?P<dns>[\w\-.^_]*\w)";
const CIDR: &str = r"(?P<cidr>\d+)";

/// A pattern with its tags replaced. With `only_addresses` (`usedns = no`), `<HOST>` is no name.
pub(super) fn expand(pattern: &str, only_addresses: bool) -> String {
    let mut expanded = String::with_capacity(pattern.len() * 2);
    let mut open: Vec<&str> = Vec::new();
    let mut skipped = 0;
    let mut rest = pattern;
    while let Some(start) = rest.find('<') {
        expanded.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some(length) = tag_length(rest) else {
            expanded.push('<');
            rest = &rest[1..];
            continue;
        };
        let (tag, after) = rest.split_at(length);
        rest = after;
        replace(&tag[1..length - 1], only_addresses, &mut open, &mut skipped, &mut expanded);
    }
    expanded.push_str(rest);
    expanded
}

/// The length of the tag that a text starts with: `</?[\w\-]+/?>`.
fn tag_length(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('<')?;
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let name = inner.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
    if name.len() == inner.len() {
        return None;
    }
    let name = name.strip_prefix('/').unwrap_or(name);
    name.strip_prefix('>').map(|rest| text.len() - rest.len())
}

fn replace<'p>(tag: &'p str, only_addresses: bool, open: &mut Vec<&'p str>, skipped: &mut usize, into: &mut String) {
    // Writing to a string does not fail.
    let written = match tag {
        "HOST" if only_addresses => write!(into, r"\[?(?:{IPV4}|{IPV6})\]?"),
        "HOST" => write!(into, r"(?:\[?(?:{IPV4}|{IPV6})\]?|{DNS})"),
        "SKIPLINES" => {
            *skipped += 1;
            write!(into, r"\n(?P<skiplines{}>(?:(?:.*\n)*?))", *skipped - 1)
        }
        "IP4" | "F-IP4/" => write!(into, "{IPV4}"),
        "IP6" | "F-IP6/" => write!(into, "{IPV6}"),
        "ADDR" | "F-ADDR/" => write!(into, r"\[?(?:{IPV4}|{IPV6})\]?"),
        "CIDR" | "F-CIDR/" => write!(into, "{CIDR}"),
        "SUBNET" | "F-SUBNET/" => write!(into, r"\[?(?:{IPV4}|{IPV6})(?:/{CIDR})?\]?"),
        "DNS" | "F-DNS/" => write!(into, "{DNS}"),
        "F-ID/" => write!(into, r"(?P<fid>\S+)"),
        "F-PORT/" => write!(into, r"(?P<fport>\w+)"),
        _ => {
            let closes = tag.starts_with('/');
            let name = tag.trim_start_matches('/').strip_prefix("F-").filter(|name| {
                !name.is_empty()
                    && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_' || c == '-')
            });
            match name {
                Some(name) if closes && open.contains(&name) => write!(into, ")"),
                Some(name) if !closes => {
                    open.push(name);
                    write!(into, "(?P<{}>", group(name))
                }
                _ => write!(into, "<{tag}>"),
            }
        }
    };
    debug_assert!(written.is_ok());
}

/// The name of the group of a tag.
pub(super) fn group(name: &str) -> String {
    match name.to_lowercase().as_str() {
        "id" => "fid".to_owned(),
        "port" => "fport".to_owned(),
        name => name.to_owned(),
    }
}

/// `((?i)…)` and `(?:(?i)…)` as `(?i:…)`.
pub(super) fn localize_flags(pattern: &str) -> String {
    let mut localized = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut escaped = false;
    while let Some(c) = rest.chars().next() {
        if c == '('
            && !escaped
            && let Some((flags, after)) = flags_in_group(rest)
        {
            localized.push_str(flags);
            localized.push(':');
            rest = after;
            escaped = false;
            continue;
        }
        localized.push(c);
        // What is looked at is the one character before: `\\(` is taken for an escaped parenthesis, there as here.
        escaped = c == '\\';
        rest = &rest[c.len_utf8()..];
    }
    localized
}

/// `(?i` out of `((?i)…` or `(?:(?i)…`, and what follows.
fn flags_in_group(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('(')?;
    let inner = inner.strip_prefix("?:").unwrap_or(inner);
    let letters = inner.strip_prefix("(?")?;
    let after = letters.trim_start_matches(|c: char| c.is_ascii_lowercase());
    if after.len() == letters.len() {
        return None;
    }
    let rest = after.strip_prefix(')')?;
    Some((&inner[..inner.len() - after.len()], rest))
}
