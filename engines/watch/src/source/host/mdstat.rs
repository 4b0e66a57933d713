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

/// Levels whose arrays say how many members they have.
const REDUNDANT: [&str; 5] = ["raid1", "raid4", "raid5", "raid6", "raid10"];

/// The arrays; `None` when the text is not as this kernel's source writes it, so that nobody knows what it would say of an
/// array that is broken.
pub(super) fn parse(text: &str) -> Option<Vec<Array>> {
    let mut arrays: Vec<Array> = Vec::new();
    let mut lines = text.lines();
    lines.next().filter(|line| line.starts_with("Personalities :"))?;
    let mut redundant = false;
    loop {
        let line = lines.next()?;
        let in_array = line.starts_with([' ', '\t']) && !arrays.is_empty();
        if !in_array && redundant && arrays.last()?.members.is_none() {
            return None;
        }
        if line.starts_with("unused devices:") {
            return lines.all(|line| line.trim().is_empty()).then_some(arrays);
        }
        if let Some((name, rest)) = line.split_once(" : ").filter(|(name, _)| name.starts_with("md")) {
            let mut words = rest.split_whitespace();
            let active = match words.next()? {
                "active" => true,
                "inactive" => false,
                _ => return None,
            };
            let level = words.find(|word| !word.starts_with('('));
            redundant = active && level.is_some_and(|level| REDUNDANT.contains(&level));
            arrays.push(Array { name: name.to_owned(), active, members: None, activity: None });
        } else if in_array {
            arrays.last_mut()?.read(line);
        } else if !line.trim().is_empty() {
            return None;
        }
        redundant &= arrays.last().is_some_and(|array| array.members.is_none());
    }
}

impl Array {
    /// One of the indented lines below its name.
    fn read(&mut self, line: &str) {
        let words = || line.split_whitespace();
        self.members = words().find_map(members).or(self.members);
        if let Some(task) = words().find(|word| ["recovery", "resync", "reshape", "check", "repair"].contains(word)) {
            let progress = words().find(|word| word.ends_with('%')).unwrap_or("started");
            self.activity = Some(format!("{task} {}", progress.trim_start_matches('=')));
        } else if let Some((task, state)) = line.trim().split_once('=')
            && ["PENDING", "DELAYED", "REMOTE"].contains(&state)
        {
            self.activity = Some(format!("{task} {}", state.to_ascii_lowercase()));
        }
    }
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
        parse(text).expect("as Linux writes it").iter().filter_map(Array::trouble).collect()
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
            assert_eq!(parse(text).map(|arrays| arrays.len()), Some(arrays), "{text}");
            assert_eq!(troubles(text), expect, "{text}");
        }
    }

    #[test]
    fn activity_is_told() {
        let arrays = parse(include_str!("fixtures/mdstat-busy")).expect("as Linux writes it");
        let activities: Vec<_> = arrays.iter().map(|array| array.activity.as_deref()).collect();
        assert_eq!(activities, [Some("check 41.2%"), Some("resync delayed"), None]);
    }

    /// What another kernel writes, or half of what this one does: nobody knows what it says.
    #[test]
    fn what_is_not_as_linux_writes_it_is_not_guessed_at() {
        let of = |arrays: &str| format!("Personalities : [raid1]\n{arrays}unused devices: <none>\n");
        assert_eq!(parse(&of("")), Some(Vec::new()));
        assert!(parse(&of("md0 : active raid1 sda1[0] sdb1[1]\n      8 blocks [2/2] [UU]\n      \n")).is_some());
        assert!(parse(&of("md0 : active (auto-read-only) raid1 sda1[0]\n      8 blocks [2/1] [U_]\n")).is_some());
        assert!(parse(&of("md0 : active raid0 sda1[0] sdb1[1]\n      8 blocks 512k chunks\n")).is_some());
        let truncated = include_str!("fixtures/mdstat-degraded");
        for text in [
            "",
            "md",
            "unused devices: <none>\n",
            "md0 : active\n [x/y] [2/",
            "\n\n  [2/1]",
            " : \u{0}",
            "read_ahead=1024\nmd0=active raid1 sda1[0] sdb1[1](F)\nblocks=8\n",
            &of("md0=active\n"),
            &of("md0 : broken raid1 sda1[0]\n      8 blocks [2/1] [U_]\n"),
            &of("md0 : active raid1 sda1[0]\n      8 blocks\n"),
            &of("md0 : active raid1 sda1[0]\n      8 blocks\nmd1 : active raid0 sdb1[0]\n      8 blocks\n"),
            &of("sda : active raid1 sda1[0]\n"),
            &truncated[..truncated.len() / 2],
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
