//! What was kept for long enough, of bases and logs: by the names of objects alone.
//!
//! **Problem.** A base is needed for longer than its own age says: the seconds behind it are restored from it until the next one is
//! whole, and that may come late. And whoever has a host can add names as he likes.
//! **Principle.** A base, all that builds on it and its log go once a later full base, from which a restore can start, is itself older
//! than what is kept. It is as old as its name says, and no older than the server has [seen](Retention::of) it. What is no base that a
//! restore can start from replaces none, and goes by its own age; nor does a name of the future. So the newest full base and its log
//! stay for as long as their backup is in the policy. Of one that has left it nothing is spared: its last base goes when its last day of
//! log was kept for long enough.

use std::collections::BTreeMap;

use event::{Span, Time};

use crate::sealed::{INCREMENTAL_STREAM, MANIFEST, day_end, set_time};

/// How far ahead of the clock a name may be; what is further ahead was put there by somebody else.
const AHEAD_MAX: Span = Span::from_days(2);
/// How long before a base the log may have been sealed that goes on from it.
const LOG_BEFORE: Span = Span::from_secs(3600);

/// The folders of bases and logs at a copy, or at all of them together.
#[derive(Clone, Default, Debug)]
pub(crate) struct Folders(BTreeMap<String, Folder>);

#[derive(Clone, Copy, Default, Debug)]
struct Folder {
    objects: u64,
    has_key: bool,
    has_manifest: bool,
    is_incremental: bool,
}

impl Folders {
    /// The folders of objects of these names, each of which comes once.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut folders = Self::default();
        for name in names {
            let Some((folder, object)) = folder_of(name) else { continue };
            if !folders.0.contains_key(folder) {
                folders.0.insert(folder.to_owned(), Folder::default());
            }
            let Some(folder) = folders.0.get_mut(folder) else { continue };
            match object {
                None => folder.has_key = true,
                Some(object) => {
                    folder.objects += 1;
                    folder.has_manifest |= object == MANIFEST;
                    folder.is_incremental |= object.split('.').next() == Some(INCREMENTAL_STREAM);
                }
            }
        }
        folders
    }

    /// Adds those of another copy.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, found) in &other.0 {
            let folder = self.0.entry(name.clone()).or_default();
            folder.objects = folder.objects.max(found.objects);
            folder.has_key |= found.has_key;
            folder.has_manifest |= found.has_manifest;
            folder.is_incremental |= found.is_incremental;
        }
    }

    /// Full bases, and folders of the future: what is to be [seen](Retention::of), each with the time of its name.
    pub(crate) fn to_be_seen(&self, now: Time) -> impl Iterator<Item = (&str, Time)> {
        self.0.iter().filter_map(move |(name, folder)| {
            let at = time_of(name)?;
            (is_future(at, now) || folder.is_full_base()).then_some((name.as_str(), at))
        })
    }
}

impl Folder {
    /// Whether a restore can start from it: it is a base, and builds on no other.
    const fn is_full_base(&self) -> bool {
        self.has_key && self.has_manifest && !self.is_incremental
    }
}

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention<'a> {
    /// How long everything is kept.
    pub(crate) keep: Span,
    /// The backups of the policy, and how long their full bases are apart.
    pub(crate) intervals: &'a BTreeMap<String, Span>,
}

impl Retention<'_> {
    /// Since when the folders at one copy, `here`, are due, as far as that is known; `all` are those of all copies. `seen` says when a
    /// base, or a folder of the future, was first seen; one that nobody has seen replaces nothing.
    pub(crate) fn of(
        &self,
        here: &Folders,
        all: &Folders,
        now: Time,
        seen: impl Fn(&str) -> Option<Time>,
    ) -> BTreeMap<String, Time> {
        let mut of_backups: BTreeMap<&str, Vec<(&str, Time)>> = BTreeMap::new();
        for folder in all.0.keys() {
            if let (Some(backup), Some(at)) = (backup_of(folder), time_of(folder)) {
                of_backups.entry(backup).or_default().push((folder, at));
            }
        }
        let mut since = BTreeMap::new();
        for (backup, folders) in of_backups {
            let interval = self.intervals.get(backup).copied();
            let own_age = self.keep + interval.unwrap_or(Span::ZERO);
            // Of a backup that has left the policy everything is due once its last base, or day of log, is.
            let of_the_past = folders.iter().map(|(_, at)| *at).filter(|at| !is_future(*at, now));
            let last = if interval.is_none() { of_the_past.max() } else { None };
            let bases = folders
                .iter()
                .filter(|(folder, at)| {
                    let (here, all) = (here.0.get(*folder), all.0.get(*folder));
                    let is_whole = here.zip(all).is_some_and(|(here, all)| {
                        here.is_full_base() && !all.is_incremental && here.objects == all.objects
                    });
                    folder.starts_with("sets/") && is_whole && !is_future(*at, now)
                })
                .filter_map(|(folder, at)| Some((*at, (*at).max(seen(folder)?))));
            let replaced = Replaced::by(bases);
            for (folder, at) in folders.iter().filter(|(folder, _)| here.0.contains_key(*folder)) {
                let due = if is_future(*at, now) {
                    seen(folder).map(|seen| seen + own_age)
                } else if folder.starts_with("logs/") {
                    replaced.at(*at + LOG_BEFORE).or(last).map(|at| at + self.keep)
                } else if all.0.get(*folder).is_some_and(|folder| folder.has_manifest) {
                    replaced.at(*at).or(last).map(|at| at + self.keep)
                } else {
                    Some(*at + own_age)
                };
                since.extend(due.map(|due| ((*folder).to_owned(), due)));
            }
        }
        since
    }
}

/// Bases in the order in which they were begun, each with the time at which the first of it and the later ones was whole.
struct Replaced(Vec<(Time, Time)>);

impl Replaced {
    fn by(bases: impl Iterator<Item = (Time, Time)>) -> Self {
        let mut bases: Vec<(Time, Time)> = bases.collect();
        bases.sort_unstable();
        let mut first = None::<Time>;
        for (_, whole) in bases.iter_mut().rev() {
            *whole = first.map_or(*whole, |first| first.min(*whole));
            first = Some(*whole);
        }
        Self(bases)
    }

    /// When a base was whole that replaces what there was at that time.
    fn at(&self, at: Time) -> Option<Time> {
        let later = self.0.partition_point(|(begun, _)| *begun <= at);
        self.0.get(later).map(|(_, whole)| *whole)
    }
}

/// Whether a time lies so far ahead that nothing of ours can be of it.
pub(crate) fn is_future(at: Time, now: Time) -> bool {
    at.since(now) > AHEAD_MAX
}

/// The folder that an object is in, and its name there; none of a data key.
pub(crate) fn folder_of(name: &str) -> Option<(&str, Option<&str>)> {
    let key_of = name.strip_prefix("keys/");
    let whole = key_of.unwrap_or(name);
    let depth = match whole.split('/').next()? {
        "sets" => 3,
        "logs" => 4,
        _ => return None,
    };
    let mut slashes = whole.match_indices('/').map(|(at, _)| at);
    match (key_of, slashes.nth(depth - 1)) {
        (Some(_), None) if whole.matches('/').count() == depth - 1 => Some((whole, None)),
        (None, Some(end)) => Some((&whole[..end], Some(&whole[end + 1..]))),
        _ => None,
    }
}

/// The backup of a folder.
pub(crate) fn backup_of(folder: &str) -> Option<&str> {
    folder.split('/').nth(1)
}

/// The time that the name of a folder says: when a base was begun, or the end of a day of log.
pub(crate) fn time_of(folder: &str) -> Option<Time> {
    let (kind, name) = (folder.split('/').next()?, folder.rsplit('/').next()?);
    if kind == "sets" { set_time(name) } else { day_end(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Span = Span::from_days(90);

    fn time(text: &str) -> Time {
        Time::parse_rfc3339(text).expect("a time")
    }

    fn set(backup: &str, set: &str, objects: &[&str]) -> Vec<String> {
        let objects = objects.iter().map(|object| format!("sets/{backup}/{set}/{object}"));
        objects.chain([format!("keys/sets/{backup}/{set}")]).collect()
    }

    fn day(backup: &str, day: &str) -> Vec<String> {
        let folder = format!("logs/{backup}/log1/{day}-00c0ffee");
        vec![format!("keys/{folder}"), format!("{folder}/0000000001-00000001.{:016x}-{:016x}", 0, 9)]
    }

    fn folders(names: &[Vec<String>]) -> Folders {
        Folders::of(names.iter().flatten().map(String::as_str))
    }

    const FULL: &[&str] = &["base.00001", "manifest"];
    const INCREMENTAL: &[&str] = &["incremental.00001", "manifest"];
    const A: &str = "20260801T000000Z-0000000a";
    const A1: &str = "20260801T010000Z-000000a1";
    const A2: &str = "20260801T070000Z-000000a2";
    const B: &str = "20260804T000000Z-0000000b";
    const C: &str = "20260804T060000Z-0000000c";

    /// What is due of one backup, by the names of its bases without their digits, and of its days.
    fn due(names: &[Vec<String>], now: &str) -> Vec<String> {
        let (folders, now) = (folders(names), time(now));
        let intervals = BTreeMap::from([("shop-db".to_owned(), Span::from_secs(6 * 3600))]);
        let retention = Retention { keep: KEEP, intervals: &intervals };
        let all = retention.of(&folders, &folders, now, |folder| time_of(folder).filter(|at| !is_future(*at, now)));
        let short = |folder: String| folder.rsplit('/').next().unwrap_or_default().to_owned();
        all.into_iter().filter(|(_, since)| *since < now).map(|(folder, _)| short(folder)).collect()
    }

    /// Promise BK-6: kept for 90 days, and destroyed once nothing that is kept builds on it.
    #[test]
    fn a_base_goes_with_all_that_builds_on_it_once_the_next_full_one_is_older_than_what_is_kept() {
        let names = [
            set("shop-db", A, FULL),
            set("shop-db", A1, INCREMENTAL),
            set("shop-db", A2, INCREMENTAL),
            set("shop-db", B, FULL),
            set("shop-db", C, FULL),
            day("shop-db", "2026-07-31"),
            day("shop-db", "2026-08-01"),
            day("shop-db", "2026-08-03"),
            day("shop-db", "2026-08-04"),
        ];
        assert_eq!(due(&names, "2026-11-01T23:59:00Z"), Vec::<String>::new(), "all came three days before B");
        let days = ["2026-07-31-00c0ffee", "2026-08-01-00c0ffee"];
        assert_eq!(due(&names, "2026-11-02T00:01:00Z"), [&days[..], &[A, A1, A2]].concat());
        let days = [&days[..], &["2026-08-03-00c0ffee"]].concat();
        assert_eq!(due(&names, "2026-11-02T06:01:00Z"), [&days[..], &[A, A1, A2, B]].concat());
        assert_eq!(
            due(&names, "2126-01-01T00:00:00Z").len(),
            7,
            "the newest base and its log stay whatever the clock says"
        );
    }

    #[test]
    fn what_no_restore_can_start_from_replaces_no_base() {
        let a = set("shop-db", A, FULL);
        let key_alone = vec![format!("keys/sets/shop-db/{B}")];
        let without_key = vec![format!("sets/shop-db/{B}/manifest"), format!("sets/shop-db/{B}/base.00001")];
        for other in [set("shop-db", B, &["base.00001"]), key_alone, without_key, set("shop-db", B, INCREMENTAL)] {
            let due = due(&[a.clone(), other.clone()], "2027-08-01T00:00:00Z");
            assert!(!due.contains(&A.to_owned()), "{other:?}");
        }
        // What was never finished goes by its own age, one interval later, as its locks.
        let names = [a, set("shop-db", B, &["base.00001"])];
        assert_eq!(due(&names, "2026-11-02T05:59:00Z"), Vec::<String>::new());
        assert_eq!(due(&names, "2026-11-02T06:01:00Z"), [B]);
    }

    #[test]
    fn a_copy_that_has_not_all_of_a_base_keeps_the_one_before() {
        let whole = folders(&[set("shop-db", A, FULL), set("shop-db", B, FULL)]);
        let half = folders(&[set("shop-db", A, FULL), set("shop-db", B, &["manifest"])]);
        let mut all = whole.clone();
        all.add(&half);
        let intervals = BTreeMap::from([("shop-db".to_owned(), Span::from_secs(6 * 3600))]);
        let retention = Retention { keep: KEEP, intervals: &intervals };
        let now = time("2026-12-01T00:00:00Z");
        let since = |here: &Folders| retention.of(here, &all, now, time_of).keys().cloned().collect::<Vec<_>>();
        assert_eq!(since(&whole), [format!("sets/shop-db/{A}")]);
        assert_eq!(since(&half), Vec::<String>::new());
    }

    /// Promise BK-6 of a backup that nobody makes any more: nothing of it is spared.
    #[test]
    fn a_backup_that_has_left_the_policy_goes_to_its_last_day() {
        let names = [
            set("other", A, FULL),
            set("other", A1, INCREMENTAL),
            set("other", B, FULL),
            set("other", C, &["base.00001"]),
            day("other", "2026-08-01"),
            day("other", "2026-08-07"),
            // By somebody's hand.
            set("other", "20991231T000000Z-00000001", FULL),
        ];
        assert_eq!(due(&names, "2026-11-02T00:01:00Z"), ["2026-08-01-00c0ffee", A, A1]);
        assert_eq!(due(&names, "2026-11-05T23:59:00Z"), ["2026-08-01-00c0ffee", A, A1, C]);
        assert_eq!(due(&names, "2026-11-06T00:01:00Z").len(), 6, "all but that of the future");
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(folder_of("sets/a/b/c"), Some(("sets/a/b", Some("c"))));
        assert_eq!(folder_of("sets/a/b/c/d"), Some(("sets/a/b", Some("c/d"))));
        assert_eq!(folder_of("keys/logs/a/b/c"), Some(("logs/a/b/c", None)));
        for name in ["sets/a/b", "keys/sets/a", "keys/sets/a/b/c", "logs/a/b/c", "restic/a/b/c", "stray", "keys"] {
            assert_eq!(folder_of(name), None, "{name}");
        }
    }
}
