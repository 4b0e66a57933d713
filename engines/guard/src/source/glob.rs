//! Paths with wildcards, expanded as Python's `glob.glob` does: `*`, `?` and `[…]` within one component, and no hidden files unless
//! the pattern says so.

use std::io;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};

/// Most paths of one pattern.
const PATHS_MAX: usize = 4096;
/// Most entries looked at in one directory.
const ENTRIES_MAX: usize = 100_000;

/// What a pattern stands for.
#[derive(Default, Debug)]
pub(super) struct Expanded {
    /// The paths, sorted.
    pub(super) paths: Vec<String>,
    /// Directories whose contents decide about them.
    pub(super) directories: Vec<PathBuf>,
    /// Directories that the account may not read.
    pub(super) refused: Vec<PathBuf>,
    /// There were more than the bound.
    pub(super) too_many: bool,
}

/// Whether a log is there: a file at the path, or one that the pattern names.
pub(crate) fn has_file(pattern: &str) -> bool {
    if is_pattern(pattern) { !expand(pattern).paths.is_empty() } else { Path::new(pattern).exists() }
}

/// Whether it is the path, or one that the pattern stands for when there is a file.
pub(crate) fn names(pattern: &str, path: &str) -> bool {
    if !is_pattern(pattern) {
        return pattern == path;
    }
    let of = |text: &str| text.split('/').filter(|component| !component.is_empty()).map(str::to_owned).collect();
    let (patterns, components): (Vec<String>, Vec<String>) = (of(pattern), of(path));
    patterns.len() == components.len()
        && patterns.iter().zip(&components).all(|(of, is)| if is_pattern(of) { matches(of, is) } else { of == is })
}

/// Whether there is a wildcard in it.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The paths that exist and match.
pub(super) fn expand(pattern: &str) -> Expanded {
    let mut expanded = Expanded::default();
    let mut bases = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "." })];
    let components: Vec<&str> = pattern.split('/').filter(|component| !component.is_empty()).collect();
    for (at, component) in components.iter().enumerate() {
        let is_last = at + 1 == components.len();
        let mut next = Vec::new();
        for base in bases {
            if is_last {
                expanded.directories.push(base.clone());
            }
            if !is_pattern(component) {
                let path = base.join(component);
                if !is_last || path.symlink_metadata().is_ok() {
                    next.push(path);
                }
                continue;
            }
            if !is_last {
                expanded.directories.push(base.clone());
            }
            match entries(&base) {
                Ok(entries) => {
                    let names = entries.iter().map(|(name, _)| name).filter(|name| matches(component, name));
                    next.extend(names.map(|name| base.join(name)));
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => expanded.refused.push(base),
                Err(_) => {}
            }
        }
        expanded.too_many |= next.len() > PATHS_MAX;
        next.truncate(PATHS_MAX);
        bases = next;
    }
    expanded.paths = bases.into_iter().filter_map(|path| path.into_os_string().into_string().ok()).collect();
    expanded.paths.sort_unstable();
    expanded
}

/// Names in a directory that are text, with their inodes; at most so many as are looked at.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<(String, u64)>> {
    let entries = std::fs::read_dir(directory)?.take(ENTRIES_MAX).flatten();
    Ok(entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.ino()))).collect())
}

/// Python's `fnmatch`, with what `glob` adds: a wildcard at the start does not match a dot.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last star does not match: behind it, one character further.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, n));
            p += 1;
            continue;
        }
        if let Some(next) = one(&pattern, p, name[n]) {
            (p, n) = (next, n + 1);
        } else if let Some((after, from)) = retry {
            retry = Some((after, from + 1));
            (p, n) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on when its element at `p` matches `c`.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => {
            let negated = pattern.get(p + 1) == Some(&'!');
            let start = p + 1 + usize::from(negated);
            // A bracket right at the start is an element; without an end, `[` stands for itself.
            let Some(end) = (start + 1..pattern.len()).find(|at| pattern[*at] == ']') else {
                return (c == '[').then_some(p + 1);
            };
            let (set, mut at, mut found) = (&pattern[start..end], 0, false);
            while at < set.len() {
                if let (Some('-'), Some(last)) = (set.get(at + 1), set.get(at + 2)) {
                    found |= (set[at]..=*last).contains(&c);
                    at += 3;
                } else {
                    found |= set[at] == c;
                    at += 1;
                }
            }
            (found != negated).then_some(end + 1)
        }
        literal => (literal == c).then_some(p + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_python() {
        let cases = [
            ("*", "a.log", true),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("*.log", "a.log", true),
            ("*.log", "a.log.1", false),
            ("*log*", "catalogue", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[!a-c]x", "dx", true),
            ("[]]x", "]x", true),
            ("[ax", "[ax", true),
            ("[a-]", "-", true),
            ("a**b", "ab", true),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn wildcards_stand_in_any_component() {
        let dir = tempfile::tempdir().expect("a directory");
        for host in ["one", "two"] {
            std::fs::create_dir(dir.path().join(host)).expect("a directory");
            std::fs::write(dir.path().join(host).join("access.log"), "").expect("a file");
        }
        let pattern = format!("{}/*/*.log", dir.path().display());
        let expanded = expand(&pattern);
        assert_eq!(expanded.paths.len(), 2);
        assert!(expanded.paths[0].ends_with("one/access.log"));
        assert_eq!(expanded.directories.len(), 3);
        assert!(expand(&format!("{}/none/*.log", dir.path().display())).paths.is_empty());
    }
}
