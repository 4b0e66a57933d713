//! Times as people read them: in one language, in the zone of the policy, seen from one instant.
//!
//! The page says its zone once. A time has its day when that is not today, its seconds when they matter, and how far its clock
//! is ahead of UTC when that clock shows the same hour twice.

use event::{Interval, LocalTime, Span, Time, Zone};

use super::{Language, NARROW};

const FRENCH_MONTHS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];
const ENGLISH_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Writes times for one reader.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    /// The language of the reader.
    pub language: Language,
    /// The zone of the policy.
    pub zone: &'a Zone,
    /// When this is read.
    pub now: Time,
}

impl Times<'_> {
    /// `22 November 2026, 23:00`, `22 novembre 2026, 23 h 00`.
    pub(crate) fn instant(&self, time: Time) -> String {
        self.shown(time, false, true)
    }

    /// The same without the day when that is today, with the seconds where they are wanted; and whether there is a day.
    fn unless_today(&self, time: Time, seconds: bool) -> (String, bool) {
        let has_day = !self.is_same_day(time, self.now);
        (self.shown(time, seconds, has_day), has_day)
    }

    fn is_same_day(&self, one: Time, other: Time) -> bool {
        let day = |time| self.zone.at(time).map(LocalTime::date);
        day(one) == day(other)
    }

    fn shown(&self, time: Time, seconds: bool, day: bool) -> String {
        let Some(local) = self.zone.at(time).filter(|local| local.year > 0) else { return time.to_rfc3339() };
        let LocalTime { hour, minute, second, .. } = local;
        let clock = match (self.language, seconds) {
            (Language::French, false) => format!("{hour:02}{NARROW}h{NARROW}{minute:02}"),
            (Language::English, false) => format!("{hour:02}:{minute:02}"),
            // In French too: "22 h 58 min 07 s" would be a length.
            (_, true) => format!("{hour:02}:{minute:02}:{second:02}"),
        };
        let day = if day { format!("{}, ", self.day(local)) } else { String::new() };
        let ahead = if local.is_repeated { format!(" {}", local.ahead()) } else { String::new() };
        format!("{day}{clock}{ahead}")
    }

    fn day(&self, local: LocalTime) -> String {
        let LocalTime { year, month, day, .. } = local;
        let place = usize::from(month).saturating_sub(1).min(11);
        match (self.language, day) {
            (Language::French, 1) => format!("1er {} {year}", FRENCH_MONTHS[place]),
            (Language::French, _) => format!("{day} {} {year}", FRENCH_MONTHS[place]),
            (Language::English, _) => format!("{day} {} {year}", ENGLISH_MONTHS[place]),
        }
    }

    /// In which zone all times of a page are.
    pub(crate) fn zone(&self) -> String {
        let ahead = self.zone.at(self.now).map(LocalTime::ahead).unwrap_or_default();
        match (self.language, *self.zone == Zone::UTC) {
            (Language::French, true) => "Les heures sont en temps universel (UTC).".to_owned(),
            (Language::French, false) => {
                format!("Les heures sont celles du fuseau {}, en ce moment {ahead}.", self.zone)
            }
            (Language::English, true) => "All times are in UTC.".to_owned(),
            (Language::English, false) => format!("All times are in {}, at present {ahead}.", self.zone),
        }
    }

    /// Up to when a verdict speaks: to the second, for it moves with every one.
    pub fn as_of(&self, time: Time) -> String {
        match (self.language, self.unless_today(time, true)) {
            (Language::French, (when, false)) => format!("arrêté à {when}"),
            (Language::French, (when, true)) => format!("arrêté au {when}"),
            (Language::English, (when, _)) => format!("as of {when}"),
        }
    }

    /// Since when something holds.
    pub(crate) fn since(&self, time: Time) -> String {
        self.beside(time, None)
    }

    /// Since when something holds that began at some time from `after` to `by`, when nobody looked.
    pub(crate) fn since_between(&self, after: Option<Time>, by: Time) -> String {
        let Some(after) = after else { return self.since(by) };
        let seconds = is_within_its_minute(after, by);
        let is_today = self.is_same_day(after, self.now) && self.is_same_day(by, self.now);
        let [from, to] = [after, by].map(|time| self.shown(time, seconds, !is_today));
        match (self.language, is_today) {
            (Language::French, true) => format!("depuis un moment entre {from} et {to}"),
            (Language::French, false) => format!("depuis un moment entre le {from} et le {to}"),
            (Language::English, _) => format!("since some time between {from} and {to}"),
        }
    }

    /// Of the time since which something holds, what was not watched: `length` altogether, `last` of it.
    pub(crate) fn unwatched(&self, length: Span, last: Interval) -> String {
        let between = self.between_unless_today(last);
        match (self.language, length == last.length()) {
            (Language::French, true) => format!("sans observation {between}"),
            (Language::English, true) => format!("not watched {between}"),
            (Language::French, false) => {
                format!("sans observation pendant {}, la dernière fois {between}", self.language.about(length))
            }
            (Language::English, false) => format!("not watched for {}, last {between}", self.language.about(length)),
        }
    }

    /// From when to when, to the minute where that tells the two apart; without the day when that is today.
    fn between_unless_today(&self, interval: Interval) -> String {
        let Interval { start, end } = interval;
        let seconds = is_within_its_minute(start, end);
        let is_today = self.is_same_day(start, self.now) && self.is_same_day(end, self.now);
        self.range(start, end, seconds, is_today)
    }

    /// Since when something holds, told apart from another time that is shown beside it.
    pub(crate) fn beside(&self, time: Time, other: Option<Time>) -> String {
        let seconds = other.is_some_and(|other| is_within_its_minute(time, other));
        match (self.language, self.unless_today(time, seconds)) {
            (Language::French, (when, false)) => format!("depuis {when}"),
            (Language::French, (when, true)) => format!("depuis le {when}"),
            (Language::English, (when, _)) => format!("since {when}"),
        }
    }

    /// When an entry of the log was judged, told apart from `other`, and the outcome of which it speaks if that is no longer so.
    pub(crate) fn recorded(&self, time: Time, other: Time, other_outcome: Option<&str>) -> String {
        let (when, _) = self.unless_today(time, is_within_its_minute(time, other));
        match (self.language, other_outcome) {
            (_, None) => when,
            (Language::French, Some(outcome)) => format!("{when}\u{a0}: {outcome}"),
            (Language::English, Some(outcome)) => format!("{when}: {outcome}"),
        }
    }

    /// When everything was last evaluated.
    pub(crate) fn evaluated(&self, time: Time) -> String {
        match self.language {
            Language::French => format!("Dernière évaluation\u{a0}: {}.", self.instant(time)),
            Language::English => format!("Last evaluated: {}.", self.instant(time)),
        }
    }

    /// Until when an announced maintenance under way lasts.
    pub(crate) fn maintained(&self, until: Time) -> String {
        match (self.language, self.unless_today(until, has_seconds(until))) {
            (Language::French, (when, false)) => format!("maintenance annoncée jusqu’à {when}"),
            (Language::French, (when, true)) => format!("maintenance annoncée jusqu’au {when}"),
            (Language::English, (when, _)) => format!("announced maintenance until {when}"),
        }
    }

    /// When a maintenance window begins and ends.
    pub(crate) fn between(&self, from: Time, to: Time) -> String {
        self.range(from, to, has_seconds(from) || has_seconds(to), false)
    }

    /// From when to when: the day once when it is the same, and not at all `without_day`.
    fn range(&self, from: Time, to: Time, seconds: bool, without_day: bool) -> String {
        let is_one_day = self.is_same_day(from, to);
        let (start, end) = (self.shown(from, seconds, !is_one_day), self.shown(to, seconds, !is_one_day));
        let day = self.zone.at(from).filter(|_| is_one_day && !without_day).map(|local| self.day(local));
        match (self.language, day) {
            (Language::French, Some(day)) => format!("le {day}, de {start} à {end}"),
            (Language::French, None) if is_one_day => format!("de {start} à {end}"),
            (Language::French, None) => format!("du {start} au {end}"),
            (Language::English, Some(day)) => format!("{day}, from {start} to {end}"),
            (Language::English, None) => format!("from {start} to {end}"),
        }
    }

    /// Who cosigned, and when.
    pub(crate) fn cosigned(&self, witness: &str, at: Time) -> String {
        match self.language {
            Language::French => format!("{witness}, le {}", self.instant(at)),
            Language::English => format!("{witness}, {}", self.instant(at)),
        }
    }
}

/// Whether two times differ by their seconds only.
fn is_within_its_minute(one: Time, other: Time) -> bool {
    one != other && one.minute_start() == other.minute_start()
}

/// Whether a time is no whole minute.
fn has_seconds(time: Time) -> bool {
    time.since(time.minute_start()).secs() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        text.replace([NARROW, '\u{a0}'], " ")
    }

    fn time(text: &str) -> Time {
        Time::parse_rfc3339(text).expect("RFC 3339")
    }

    fn with<T>(zone: &str, now: &str, look: impl Fn(&Times<'_>, &Times<'_>) -> T) -> T {
        let (zone, now) = (Zone::named(zone).expect("a zone"), time(now));
        let of = |language| Times { language, zone: &zone, now };
        look(&of(Language::French), &of(Language::English))
    }

    #[test]
    fn dates_in_both_languages() {
        with("UTC", "2026-11-22T23:00:00Z", |french, english| {
            let august = time("2026-08-01T05:07:09Z");
            assert_eq!(english.instant(august), "1 August 2026, 05:07");
            assert_eq!(plain(&french.instant(august)), "1er août 2026, 05 h 07");
            // A clock that is wrong by any amount must not make a page fail.
            assert!(!french.instant(Time::from_micros(i64::MIN)).is_empty());
            assert!(!english.since(Time::from_micros(i64::MAX)).is_empty());
        });
    }

    /// The day is that of the zone, not that of Greenwich.
    #[test]
    fn the_day_is_said_unless_it_is_today() {
        with("Asia/Kathmandu", "2026-11-22T23:00:00Z", |french, english| {
            let (today, yesterday) = (time("2026-11-22T18:15:00Z"), time("2026-11-22T18:14:59Z"));
            assert_eq!(english.since(today), "since 00:00");
            assert_eq!(english.since(yesterday), "since 22 November 2026, 23:59");
            assert_eq!(plain(&french.since(yesterday)), "depuis le 22 novembre 2026, 23 h 59");
            assert_eq!(plain(&french.as_of(today)), "arrêté à 00:00:00");
            assert_eq!(english.zone(), "All times are in Asia/Kathmandu, at present UTC+5:45.");
        });
    }

    #[test]
    fn the_night_on_which_the_clock_changes() {
        with("Europe/Paris", "2026-10-25T04:00:00Z", |french, english| {
            for (at, shown) in [
                ("2026-10-24T23:30:00Z", "since 01:30"),
                ("2026-10-25T00:30:00Z", "since 02:30 UTC+2"),
                ("2026-10-25T01:30:00Z", "since 02:30 UTC+1"),
                ("2026-10-25T02:30:00Z", "since 03:30"),
            ] {
                assert_eq!(english.since(time(at)), shown);
            }
            let hour = french.between(time("2026-10-25T00:30:00Z"), time("2026-10-25T01:30:00Z"));
            assert_eq!(plain(&hour), "le 25 octobre 2026, de 02 h 30 UTC+2 à 02 h 30 UTC+1");
            assert_eq!(plain(&french.zone()), "Les heures sont celles du fuseau Europe/Paris, en ce moment UTC+1.");
        });
        with("Europe/Paris", "2026-03-29T04:00:00Z", |_, english| {
            assert_eq!(english.since(time("2026-03-29T00:59:00Z")), "since 01:59");
            assert_eq!(english.since(time("2026-03-29T01:01:00Z")), "since 03:01");
            assert_eq!(english.zone(), "All times are in Europe/Paris, at present UTC+2.");
        });
    }

    /// What began while nobody looked has no beginning.
    #[test]
    fn what_began_unwatched_began_at_some_time() {
        with("Europe/Paris", "2026-11-22T23:30:00Z", |french, english| {
            let (after, by) = (time("2026-11-22T23:04:36Z"), time("2026-11-22T23:05:45Z"));
            assert_eq!(english.since_between(None, by), "since 00:05");
            assert_eq!(english.since_between(Some(after), by), "since some time between 00:04 and 00:05");
            assert_eq!(plain(&french.since_between(Some(after), by)), "depuis un moment entre 00 h 04 et 00 h 05");
            let within = time("2026-11-22T23:04:58Z");
            assert_eq!(english.since_between(Some(after), within), "since some time between 00:04:36 and 00:04:58");
            let evening = time("2026-11-22T19:00:00Z");
            assert_eq!(
                english.since_between(Some(evening), by),
                "since some time between 22 November 2026, 20:00 and 23 November 2026, 00:05"
            );
            assert_eq!(
                plain(&french.since_between(Some(evening), by)),
                "depuis un moment entre le 22 novembre 2026, 20 h 00 et le 23 novembre 2026, 00 h 05"
            );
        });
    }

    /// A state that is older than a break says so.
    #[test]
    fn what_nobody_watched_is_said() {
        with("Europe/Paris", "2026-11-22T23:30:00Z", |french, english| {
            let today = Interval::new(time("2026-11-22T23:00:10Z"), time("2026-11-22T23:20:00Z"));
            let over_midnight = Interval::new(time("2026-11-22T22:50:00Z"), time("2026-11-22T23:20:00Z"));
            let ten_min = Span::from_secs(600);
            assert_eq!(english.unwatched(today.length(), today), "not watched from 00:00 to 00:20");
            assert_eq!(plain(&french.unwatched(today.length(), today)), "sans observation de 00 h 00 à 00 h 20");
            assert_eq!(
                plain(&english.unwatched(over_midnight.length() + ten_min, over_midnight)),
                "not watched for 40 min, last from 22 November 2026, 23:50 to 23 November 2026, 00:20"
            );
            assert_eq!(
                plain(&french.unwatched(over_midnight.length(), over_midnight)),
                "sans observation du 22 novembre 2026, 23 h 50 au 23 novembre 2026, 00 h 20"
            );
        });
    }

    /// Seconds are shown where two times would look alike without.
    #[test]
    fn what_differs_looks_different() {
        with("UTC", "2026-11-22T23:00:00Z", |french, english| {
            let (from, to) = (time("2026-11-22T01:10:02Z"), time("2026-11-22T01:10:11Z"));
            assert_eq!(english.between(from, to), "22 November 2026, from 01:10:02 to 01:10:11");
            assert_eq!(plain(&french.between(from, to)), "le 22 novembre 2026, de 01:10:02 à 01:10:11");
            let over_midnight = english.between(time("2026-11-22T23:30:00Z"), time("2026-11-23T00:30:00Z"));
            assert_eq!(over_midnight, "from 22 November 2026, 23:30 to 23 November 2026, 00:30");
            assert_eq!(english.beside(to, Some(from)), "since 01:10:11");
            assert_eq!(english.recorded(from, to, Some("kept")), "01:10:02: kept");
            assert_eq!(english.beside(to, Some(time("2026-11-22T01:09:11Z"))), "since 01:10");
            assert_eq!(english.maintained(to), "announced maintenance until 01:10:11");
            assert_eq!(
                plain(&french.maintained(time("2026-11-23T01:00:00Z"))),
                "maintenance annoncée jusqu’au 23 novembre 2026, 01 h 00"
            );
        });
    }
}
