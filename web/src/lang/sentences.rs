//! Sentences with figures in them: what an objective measures, what it promises, what was found, and why.

use event::promise::{Figure, Reason, Unit};
use event::{Ppb, Span};
use promise::objective::{Objective, Promised};

use super::figures::Rounding;
use super::{Language, NARROW, Precision};

const DAY: i64 = 86_400_000_000;

impl Language {
    /// What is measured of what, over which window. `subject` is what customers call it.
    pub(crate) fn objective(self, objective: &Objective, subject: &str) -> String {
        match self {
            Self::French => format!("{subject}\u{a0}: {}", self.measure(objective)),
            Self::English => format!("{subject}: {}", self.measure(objective)),
        }
    }

    /// What is measured, over which window.
    pub(crate) fn measure(self, objective: &Objective) -> String {
        let [french, english] = objective.measure();
        let over = self.window(objective.over());
        match self {
            Self::French => format!("{french} sur {over}"),
            Self::English => format!("{english} over {over}"),
        }
    }

    /// What is measured of what, over whichever window.
    pub(crate) fn any_window(self, objective: &Objective, subject: &str) -> String {
        let [french, english] = objective.measure();
        match self {
            Self::French => format!("{subject}\u{a0}: {french}"),
            Self::English => format!("{subject}: {english}"),
        }
    }

    /// How many services are up that are not listed.
    pub(crate) fn others_up(self, count: usize) -> String {
        match (self, count) {
            (Self::French, 1) => "et un autre en service".to_owned(),
            (Self::French, _) => format!("et {count} autres en service"),
            (Self::English, 1) => "and one other that is up".to_owned(),
            (Self::English, _) => format!("and {count} others that are up"),
        }
    }

    /// What figure is promised.
    pub(crate) fn promised(self, promised: Promised) -> String {
        let share = |share| self.percent(share, Precision::Exact);
        match (self, promised) {
            (Self::French, Promised::AtLeast(least)) => format!("au moins {}", share(least)),
            (Self::English, Promised::AtLeast(least)) => format!("at least {}", share(least)),
            (Self::French, Promised::AtMost(most)) => format!("au plus {}", self.span(most)),
            (Self::English, Promised::AtMost(most)) => format!("at most {}", self.span(most)),
            (Self::French, Promised::Always(observed)) => {
                format!("sans exception, avec au moins {} du temps observé", share(observed))
            }
            (Self::English, Promised::Always(observed)) => {
                format!("without exception, with at least {} of the time observed", share(observed))
            }
            (Self::French, Promised::Never(observed)) => {
                format!("jamais, avec au moins {} du temps observé", share(observed))
            }
            (Self::English, Promised::Never(observed)) => {
                format!("never, with at least {} of the time observed", share(observed))
            }
        }
    }

    /// What was measured: one figure when the truth is known, else the two that it lies between.
    pub fn figure(self, figure: &Figure) -> String {
        let (low, high) = match figure.unit {
            Unit::Ppb => {
                let target = Ppb::new(figure.target);
                (
                    self.percent(Ppb::new(figure.low), Precision::Down(target)),
                    self.percent(Ppb::new(figure.high), Precision::Up(target)),
                )
            }
            Unit::Micros => self.between(
                Span::from_micros(figure.low),
                Span::from_micros(figure.high),
                Span::from_micros(figure.target),
            ),
            Unit::Count if figure.low == figure.high => (self.times(figure.low), self.times(figure.high)),
            // "Between never and twice" is no way to count.
            Unit::Count => (self.count(figure.low.max(0).unsigned_abs()), self.times(figure.high)),
        };
        // Two lengths that differ by less than what is shown are shown as one.
        match self {
            _ if low == high => low,
            Self::French => format!("entre {low} et {high}"),
            Self::English => format!("between {low} and {high}"),
        }
    }

    /// A length of time that lies between two, compared with what is promised: two that differ by less than what is shown are
    /// shown as one.
    fn between(self, low: Span, high: Span, target: Span) -> (String, String) {
        let nearest = [low, high].map(|span| self.measured(span, target, Rounding::Nearest));
        match nearest {
            [low, high] if low == high => (low, high),
            _ => (self.measured(low, target, Rounding::Down), self.measured(high, target, Rounding::Up)),
        }
    }

    fn times(self, count: i64) -> String {
        let number = self.count(count.max(0).unsigned_abs());
        match (self, count) {
            (Self::French, ..=0) => "jamais".to_owned(),
            (Self::French, _) => format!("{number} fois"),
            (Self::English, ..=0) => "never".to_owned(),
            (Self::English, 1) => "once".to_owned(),
            (Self::English, _) => format!("{number} times"),
        }
    }

    /// Why, or what to know beside it. `objective` is the key of the objective, which says what it is that was down.
    pub fn reason(self, objective: &str, reason: &Reason) -> String {
        match (self, reason) {
            (_, Reason::Down { length, outages }) if objective == "absence" => {
                let count = self.times(i64::try_from(*outages).unwrap_or(i64::MAX));
                match self {
                    Self::French => format!("constaté pendant au moins {}, {count}", self.bound(*length)),
                    Self::English => format!("found for at least {}, {count}", self.bound(*length)),
                }
            }
            (_, Reason::Down { length, outages }) if objective == "configuration" => {
                let count = self.times(i64::try_from(*outages).unwrap_or(i64::MAX));
                match self {
                    Self::French => format!("non conforme pendant au moins {}, {count}", self.bound(*length)),
                    Self::English => format!("not as expected for at least {}, {count}", self.bound(*length)),
                }
            }
            (_, Reason::WindowFilling { elapsed, length }) => self.filling(*elapsed, *length),
            (_, Reason::Budget { used_at_least, used_at_most, of }) => self.budget(*used_at_least, *used_at_most, *of),
            (Self::French, Reason::Unobserved { length }) => {
                format!("sans observation pendant {}", self.about(*length))
            }
            (Self::English, Reason::Unobserved { length }) => format!("not observed for {}", self.about(*length)),
            (Self::French, Reason::Down { length, outages }) => {
                let outages_word = if *outages > 1 { "interruptions" } else { "interruption" };
                format!("en panne pendant au moins {}, en {} {outages_word}", self.bound(*length), self.count(*outages))
            }
            (Self::English, Reason::Down { length, outages }) => {
                let outages_word = if *outages == 1 { "outage" } else { "outages" };
                format!("down for at least {}, in {} {outages_word}", self.bound(*length), self.count(*outages))
            }
            (Self::French, Reason::Maintenance { length }) => {
                format!("{} de maintenance annoncée, non comptée", self.about(*length))
            }
            (Self::English, Reason::Maintenance { length }) => {
                format!("{} of announced maintenance, set apart", self.about(*length))
            }
            (Self::French, Reason::LoneObserver) => "observé depuis un seul point".to_owned(),
            (Self::English, Reason::LoneObserver) => "observed by one point only".to_owned(),
            (Self::French, Reason::NoEvidence) => "rien dans le journal n’en parle encore".to_owned(),
            (Self::English, Reason::NoEvidence) => "nothing in the log bears on it yet".to_owned(),
            (Self::French, Reason::AtRisk) => "menacée\u{a0}: plus de la moitié de la marge est consommée".to_owned(),
            (Self::English, Reason::AtRisk) => "at risk: more than half of what may go wrong has".to_owned(),
        }
    }

    /// "margin: 4 min of 43 min 12 s used": what may go wrong, and how much of it has, or lies between which two.
    fn budget(self, used_at_least: Span, used_at_most: Span, of: Span) -> String {
        let (least, most) = self.between(used_at_least, used_at_most, of);
        let of = self.measured(of, used_at_least, Rounding::Down);
        match self {
            Self::French if least == most => format!("marge\u{a0}: {least} sur {of} consommées"),
            Self::French => format!("marge\u{a0}: entre {least} et {most} sur {of} consommées"),
            Self::English if least == most => format!("margin: {least} of {of} used"),
            Self::English => format!("margin: between {least} and {most} of {of} used"),
        }
    }

    /// "window: 12 of 365 days": whole days elapsed of whole days, else both lengths in full.
    fn filling(self, elapsed: Span, length: Span) -> String {
        let whole_days = length.micros() % DAY == 0 && elapsed.micros() >= DAY;
        let (days_elapsed, days) = (elapsed.micros() / DAY, length.micros() / DAY);
        match (self, whole_days) {
            (Self::French, true) => {
                format!("fenêtre\u{a0}: {days_elapsed} {} sur {days}", self.word_days(days_elapsed))
            }
            (Self::English, true) => format!("window: {days_elapsed} of {}", self.days(days)),
            (Self::French, false) => {
                format!("fenêtre\u{a0}: {} sur {}", self.elapsed(elapsed), self.window(length))
            }
            (Self::English, false) => {
                format!("window: {} of {}", self.elapsed(elapsed), self.window(length))
            }
        }
    }

    /// What may pass unseen between two looks at each service that are this far apart.
    pub(crate) fn resolution(self, services: &[(String, Span)]) -> String {
        let (start, colon) = match self {
            Self::French => ("Une coupure plus brève que l’écart entre deux contrôles peut nous échapper", " : "),
            Self::English => ("An outage shorter than the time between two looks may pass unseen", ": "),
        };
        let each: Vec<String> =
            services.iter().map(|(service, every)| format!("{service}{colon}{}", self.span(*every))).collect();
        match services {
            [(_, every), others @ ..] if others.iter().all(|(_, other)| other == every) => {
                format!("{start} ({}).", self.span(*every))
            }
            _ => format!("{start} ({}).", each.join(", ")),
        }
    }

    /// How many promises are kept, broken and unproven.
    pub(crate) fn summary(self, kept: usize, broken: usize, unproven: usize) -> [String; 3] {
        let plural = |count: usize, one: &'static str, more: &'static str| if count > 1 { more } else { one };
        match self {
            Self::French => [
                format!("{kept} {}", plural(kept, "tenue", "tenues")),
                format!("{broken} {}", plural(broken, "rompue", "rompues")),
                format!("{unproven} {}", plural(unproven, "non prouvée", "non prouvées")),
            ],
            Self::English => [format!("{kept} kept"), format!("{broken} broken"), format!("{unproven} unproven")],
        }
    }

    /// How many findings are open beside those that are listed.
    pub(crate) fn other_findings(self, count: usize) -> String {
        match (self, count) {
            (Self::French, 1) => "et un autre".to_owned(),
            (Self::French, _) => format!("et {count} autres"),
            (Self::English, 1) => "and one more".to_owned(),
            (Self::English, _) => format!("and {count} more"),
        }
    }

    /// The text of a link to the proof of an entry.
    pub(crate) fn entry(self, sequence: u64) -> String {
        match self {
            Self::French => format!("entrée {sequence}"),
            Self::English => format!("entry {sequence}"),
        }
    }

    /// A text of the policy, as a printer would set it: what people type as a space before a sign is no place for a line to
    /// end. Nothing else of it is touched.
    pub(crate) fn set(text: &str) -> String {
        let mut set = text.replace(" :", "\u{a0}:");
        for sign in [";", "!", "?", "%"] {
            set = set.replace(&format!(" {sign}"), &format!("{NARROW}{sign}"));
        }
        set
    }
}

#[cfg(test)]
mod tests;
