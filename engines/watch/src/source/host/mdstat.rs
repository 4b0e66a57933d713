//! `/proc/mdstat`: the state of Linux software RAID, as `md_seq_show` of the kernel (drivers/md/md.c) writes it.

/// One array.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Array {
    /// `md0`.
    pub(super) name: String,
    /// Whether it is assembled and running.
    pub(super) active: bool,
    /// How many members it should have and how many work; only levels with redundancy say so.
    pub(super) members: Option<(u32, u32)>,
    /// What it is busy with: `recovery = 8.5%`.
    pub(super) activity: Option<String>,
}

impl Array {
    /// Why it is less safe than it should be, if it is. A failed member that a spare has replaced is none; a rebuild is
    /// one, until it is complete.
    pub(super) fn trouble(&self) -> Option<String> {
        let Self { name, active, members, activity } = self;
        let reason = match members {
            _ if !active => "inactive".to_owned(),
            Some((wanted, working)) if working < wanted => format!("{working} of {wanted} members work"),
            _ => return None,
        };
        let busy = activity.as_ref().map(|activity| format!(" ({activity})")).unwrap_or_default();
        Some(format!("RAID {name}: {reason}{busy}"))
    }
}

/// Reads it.
pub(super) fn parse(text: &str) -> Vec<Array> {
    let mut arrays: Vec<Array> = Vec::new();
    for line in text.lines() {
        if let Some((name, rest)) = line.split_once(" : ")
            && name.starts_with("md")
        {
            let active = rest.split_whitespace().next() == Some("active");
            arrays.push(Array { name: name.to_owned(), active, members: None, activity: None });
        } else if line.starts_with(char::is_whitespace)
            && let Some(array) = arrays.last_mut()
        {
            let words = || line.split_whitespace();
            array.members = words().find_map(members).or(array.members);
            if let Some(task) = words().find(|word| ["recovery", "resync", "reshape", "check", "repair"].contains(word))
            {
                let progress = words().find(|word| word.ends_with('%')).unwrap_or("started");
                array.activity = Some(format!("{task} {}", progress.trim_start_matches('=')));
            } else if let Some((task, state)) = line.trim().split_once('=')
                && ["PENDING", "DELAYED", "REMOTE"].contains(&state)
            {
                array.activity = Some(format!("{task} {}", state.to_ascii_lowercase()));
            }
        }
    }
    arrays
}

/// `[3/2]`.
fn members(word: &str) -> Option<(u32, u32)> {
    let (wanted, working) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('/')?;
    Some((wanted.parse().ok()?, working.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles(text: &str) -> Vec<String> {
        parse(text).iter().filter_map(Array::trouble).collect()
    }

    /// WA-2: RAID.
    #[test]
    fn only_what_is_less_safe_than_it_should_be_is_trouble() {
        let cases: [(&str, usize, &[&str]); 6] = [
            (include_str!("fixtures/mdstat-none"), 0, &[]),
            (include_str!("fixtures/mdstat-healthy"), 3, &[]),
            (include_str!("fixtures/mdstat-degraded"), 2, &["RAID md1: 1 of 2 members work"]),
            (include_str!("fixtures/mdstat-rebuilding"), 2, &["RAID md0: 2 of 3 members work (recovery 8.5%)"]),
            (include_str!("fixtures/mdstat-inactive"), 1, &["RAID md127: inactive"]),
            // A monthly check and a delayed resync of complete arrays; a failed member replaced by a spare.
            (include_str!("fixtures/mdstat-busy"), 3, &[]),
        ];
        for (text, arrays, expect) in cases {
            assert_eq!(parse(text).len(), arrays, "{text}");
            assert_eq!(troubles(text), expect, "{text}");
        }
    }

    #[test]
    fn activity_is_told() {
        let arrays = parse(include_str!("fixtures/mdstat-busy"));
        let activities: Vec<_> = arrays.iter().map(|array| array.activity.as_deref()).collect();
        assert_eq!(activities, [Some("check 41.2%"), Some("resync delayed"), None]);
    }

    #[test]
    fn nonsense_is_not_fatal() {
        for text in ["", "md", "md0 : ", "md0 : active\n [x/y] [2/", "\n\n  [2/1]", " : \u{0}"] {
            parse(text);
        }
    }
}
