//! From figures to findings: hysteresis in time and in level.
//!
//! A disk at 80 % writes, cleans up, writes. With one threshold it would open and close a finding every minute, and
//! people would learn to look away. So a finding opens when the figure stayed at or over its threshold for as long as
//! the policy says, and ends when it stayed well under it (five points) for as long. In between, what was true remains
//! true.

use std::collections::BTreeSet;

use event::{Span, Time};

use crate::source::Level;

/// The shortest that a finding can be seen for.
const INSTANT: Span = Span::from_micros(1);

/// A change of a finding; see [`event::evidence::Found`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    pub(crate) open: bool,
    pub(crate) after: Time,
    pub(crate) by: Time,
}

/// The state of one finding, from the samples so far.
#[derive(Clone, Default, Debug)]
pub(crate) struct Hysteresis {
    /// Whether the finding is there; unknown until the first clear figure.
    open: Option<bool>,
    /// Start of the last sample.
    last: Option<Time>,
    /// Since when the figure says the opposite of `open`.
    contrary_since: Option<Time>,
    /// End of the sample that showed the last turn; none before the first.
    turned_by: Option<Time>,
    /// The figure in words, by the last look that could tell.
    text: String,
    /// When that look began, if looks since then could not tell.
    not_told_since: Option<Time>,
    /// The subjects that the team was notified of since the finding opened.
    told_of: BTreeSet<String>,
}

impl Hysteresis {
    /// Whether the finding is there; `None` until that is known.
    pub(crate) const fn open(&self) -> Option<bool> {
        self.open
    }

    /// Since when the finding has been there; `None` while it is not.
    pub(crate) fn open_since(&self) -> Option<Time> {
        self.turned_by.filter(|_| self.open == Some(true))
    }

    /// The figure in words, by the last look that could tell, and of when that is if it was not the last of all.
    pub(crate) fn text(&self) -> String {
        match self.not_told_since {
            None => self.text.clone(),
            Some(at) => format!("{}, as of {at}: looks since then could not tell", self.text),
        }
    }

    /// Takes the figure in words, unless it was not read.
    pub(crate) fn take_text(&mut self, level: Level, text: &str) {
        if level == Level::Unread {
            return self.not_told();
        }
        self.not_told_since = None;
        if self.text != text {
            text.clone_into(&mut self.text);
        }
    }

    /// Notes that a look could not tell the figure: what it showed so far does not count as lasting, and is shown as what it was.
    pub(crate) const fn not_told(&mut self) {
        self.interrupt();
        if self.not_told_since.is_none() {
            self.not_told_since = self.last;
        }
    }

    /// Notes that nobody looked for a while: what the figure showed so far does not count as lasting.
    pub(crate) const fn interrupt(&mut self) {
        self.contrary_since = None;
    }

    /// The same when the last figure is older than `than`.
    pub(crate) fn interrupt_if_older(&mut self, now: Time, than: Span) {
        if self.last.is_some_and(|last| now.since(last) > than) {
            self.interrupt();
        }
    }

    /// Takes the subjects over the threshold now; returns whether one of them is new to the team. Each is reported once
    /// until the finding is over, however often it comes and goes.
    pub(crate) fn take_subjects(&mut self, about: &[String]) -> bool {
        if self.open != Some(true) {
            self.told_of.clear();
            return false;
        }
        let before = self.told_of.len();
        self.told_of.extend(about.iter().cloned());
        self.told_of.len() > before
    }

    /// Takes the figure of the sample from `start` to `end`; returns a turn when the finding opened or ended, or when it was
    /// not known before. A figure that was always low is known to be so at once.
    pub(crate) fn take(&mut self, level: Level, lasting: Span, start: Time, end: Time) -> Option<Turn> {
        if level == Level::Unread {
            self.interrupt();
            return None;
        }
        let before = self.last.replace(start);
        let contrary = match (level, self.open) {
            (Level::Low, None) => {
                (self.open, self.contrary_since, self.turned_by) = (Some(false), None, Some(end));
                return Some(Turn { open: false, after: end, by: end });
            }
            (Level::High, None | Some(false)) | (Level::Low, Some(true)) => true,
            (Level::Unread | Level::Between, _) | (Level::High, Some(true)) | (Level::Low, Some(false)) => false,
        };
        if !contrary {
            self.contrary_since = None;
            return None;
        }
        let since = *self.contrary_since.get_or_insert(start);
        if start.since(since) < lasting {
            return None;
        }
        let open = level == Level::High;
        // What this turn ends was seen for an instant at least, also when it is a single sample.
        let seen = self.turned_by.map(|turned_by| turned_by + INSTANT);
        let after = seen.and_then(|seen| before.map(|before| before.max(seen))).unwrap_or(end);
        (self.open, self.contrary_since, self.turned_by) = (Some(open), None, Some(end));
        Some(Turn { open, after: after.min(end), by: end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter a minute: `h`igh, `b`etween, `l`ow; lasting three minutes.
    fn check(levels: &str, expect: &[(bool, i64, i64)]) {
        let mut hysteresis = Hysteresis::default();
        let turns: Vec<_> = (0..)
            .zip(levels.chars())
            .filter_map(|(minute, letter)| {
                let level = match letter {
                    'h' => Level::High,
                    'b' => Level::Between,
                    _ => Level::Low,
                };
                let start = Time::from_secs(minute * 60);
                hysteresis.take(level, Span::from_secs(180), start, start + Span::from_secs(1))
            })
            .map(|turn| (turn.open, turn.after.micros() / 1_000_000, turn.by.micros() / 1_000_000))
            .collect();
        assert_eq!(turns, expect, "{levels}");
    }

    /// A figure that was not read again is told as of when it was.
    #[test]
    fn an_old_figure_is_not_told_in_the_present() {
        let mut hysteresis = Hysteresis::default();
        let mut look = |minute: i64, level, text: &str| {
            let start = Time::from_secs(1_800_000_000 + minute * 60);
            hysteresis.take(level, Span::ZERO, start, start);
            hysteresis.take_text(level, text);
            hysteresis.text()
        };
        assert_eq!(look(0, Level::High, "94 % used"), "94 % used");
        let expected = "94 % used, as of 2027-01-15T08:00:00Z: looks since then could not tell";
        assert_eq!(look(1, Level::Unread, ""), expected);
        assert_eq!(look(2, Level::Unread, ""), expected);
        assert_eq!(look(3, Level::Between, "88 % used"), "88 % used");
    }

    #[test]
    fn what_joins_an_open_finding_is_told_once() {
        let mut hysteresis = Hysteresis::default();
        let mut joins = |open, about: &[&str]| {
            hysteresis.open = Some(open);
            hysteresis.take_subjects(&about.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert!(!joins(false, &["/"]), "nothing is found yet");
        assert!(joins(true, &["/"]));
        assert!(!joins(true, &["/"]));
        assert!(joins(true, &["/", "/srv"]));
        assert!(!joins(true, &["/srv"]) && !joins(true, &["/", "/srv"]), "they come and go");
        assert!(!joins(false, &[]));
        assert!(joins(true, &["/srv"]), "found anew");
    }

    /// A finding that is there in a single sample, such as an array that ran degraded for a moment, was there: its brackets
    /// leave it the instant at which it was seen.
    #[test]
    fn one_sample_is_an_instant() {
        let mut hysteresis = Hysteresis::default();
        let turns: Vec<_> = [Level::Low, Level::High, Level::Low]
            .into_iter()
            .zip([0, 60, 120])
            .filter_map(|(level, start)| {
                let start = Time::from_secs(start);
                hysteresis.take(level, Span::ZERO, start, start + Span::from_secs(1))
            })
            .collect();
        let [_, opened, closed] = turns[..] else { panic!("{turns:?}") };
        assert!(opened.open && opened.by == Time::from_secs(61));
        assert!(!closed.open && closed.after == opened.by + INSTANT && closed.by == Time::from_secs(121), "{closed:?}");
    }

    /// WA-2: what lasts is found, what flickers is not.
    #[test]
    fn a_finding_needs_time_to_open_and_to_end() {
        check("llll", &[(false, 1, 1)]);
        check("lhhh", &[(false, 1, 1)]);
        check("lhhhh", &[(false, 1, 1), (true, 180, 241)]);
        check("lhhlhhlhh", &[(false, 1, 1)]);
        check("lhhbhhh", &[(false, 1, 1)]);
        check("lhhhhlllbllll", &[(false, 1, 1), (true, 180, 241), (false, 660, 721)]);
        check("lhhhhbbbbbbbb", &[(false, 1, 1), (true, 180, 241)]);
        // High from the start: open once it lasted; not known before.
        check("hhh", &[]);
        check("hhhh", &[(true, 181, 181)]);
        // Between from the start says nothing.
        check("bbbb", &[]);
        check("bbl", &[(false, 121, 121)]);
    }
}
