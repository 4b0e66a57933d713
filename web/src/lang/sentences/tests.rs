use super::*;
use crate::lang::NARROW;

fn plain(text: &str) -> String {
    text.replace([NARROW, '\u{a0}'], " ")
}

#[test]
fn reasons_are_said_in_both_languages() {
    let minutes = |m: i64| Span::from_secs(60 * m);
    for (reason, french, english) in [
        (
            Reason::WindowFilling { elapsed: Span::from_secs(12 * 86_400 + 3600), length: Span::from_days(365) },
            "fenêtre : 12 jours sur 365",
            "window: 12 of 365 days",
        ),
        (
            Reason::WindowFilling { elapsed: Span::from_days(1), length: Span::from_days(180) },
            "fenêtre : 1 jour sur 180",
            "window: 1 of 180 days",
        ),
        (
            Reason::WindowFilling { elapsed: minutes(41), length: Span::from_days(180) },
            "fenêtre : 41 min sur 180 jours",
            "window: 41 min of 180 days",
        ),
        (Reason::Unobserved { length: minutes(5) }, "sans observation pendant 5 min", "not observed for 5 min"),
        (
            Reason::Down { length: minutes(41), outages: 2 },
            "en panne pendant au moins 41 min, en 2 interruptions",
            "down for at least 41 min, in 2 outages",
        ),
        (
            Reason::Down { length: Span::from_secs(30), outages: 1 },
            "en panne pendant au moins 30 s, en 1 interruption",
            "down for at least 30 s, in 1 outage",
        ),
        (
            Reason::Maintenance { length: minutes(90) },
            "1 h 30 min de maintenance annoncée, non comptée",
            "1 h 30 min of announced maintenance, set apart",
        ),
        (Reason::LoneObserver, "observé depuis un seul point", "observed by one point only"),
        (Reason::NoEvidence, "rien dans le journal n’en parle encore", "nothing in the log bears on it yet"),
        (
            Reason::AtRisk,
            "menacée : plus de la moitié de la marge est consommée",
            "at risk: more than half of what may go wrong has",
        ),
    ] {
        assert_eq!(plain(&Language::French.reason("availability", &reason)), french);
        assert_eq!(plain(&Language::English.reason("availability", &reason)), english);
    }
    // What is found, or not as it should be, is no outage.
    let down = |outages| Reason::Down { length: Span::from_secs(3), outages };
    for (objective, outages, french, english) in [
        ("absence", 1, "constaté pendant au moins 3 s, 1 fois", "found for at least 3 s, once"),
        ("configuration", 2, "non conforme pendant au moins 3 s, 2 fois", "not as expected for at least 3 s, 2 times"),
    ] {
        assert_eq!(plain(&Language::French.reason(objective, &down(outages))), french);
        assert_eq!(plain(&Language::English.reason(objective, &down(outages))), english);
    }
}

#[test]
fn what_the_policy_says_is_set() {
    assert_eq!(
        Language::set("Prêt ? À 99,9 % : oui ; 50 %!"),
        "Prêt\u{202f}? À 99,9\u{202f}%\u{a0}: oui\u{202f}; 50\u{202f}%!"
    );
}

#[test]
fn figures_are_in_the_customers_terms() {
    let figure = |unit, low, high, target| Figure { unit, low, high, target };
    for (figure, french, english) in [
        (
            figure(Unit::Ppb, 999_910_000, 999_950_000, 999_900_000),
            "entre 99,991 % et 99,995 %",
            "between 99.991 % and 99.995 %",
        ),
        (figure(Unit::Ppb, 1_000_000_000, 1_000_000_000, 999_900_000), "100 %", "100 %"),
        (
            figure(Unit::Micros, 900_000_000, 903_000_000, 900_000_000),
            "entre 15 min et 15 min 3 s",
            "between 15 min and 15 min 3 s",
        ),
        (figure(Unit::Count, 0, 0, 0), "jamais", "never"),
        (figure(Unit::Count, 1, 1, 0), "1 fois", "once"),
        (figure(Unit::Count, 0, 2, 0), "entre 0 et 2 fois", "between 0 and 2 times"),
    ] {
        assert_eq!(plain(&Language::French.figure(&figure)), french);
        assert_eq!(plain(&Language::English.figure(&figure)), english);
    }
}

/// French wants a no-break space before `: ; ! ? %` and inside guillemets; English wants none.
#[test]
fn typography() {
    let french = format!("{:?}", Language::French.words());
    let french = french.replace("\\u{a0}", "\u{a0}").replace("\\u{202f}", "\u{202f}");
    let values: Vec<&str> = french.split('"').skip(1).step_by(2).collect();
    assert!(values.len() > 40, "{}", values.len());
    for value in values {
        let mut before = ' ';
        for character in value.chars() {
            if matches!(character, ';' | '!' | '?' | '%') {
                assert_eq!(before, NARROW, "before {character} in {value}");
            }
            if character == ':' {
                assert_eq!(before, '\u{a0}', "before {character} in {value}");
            }
            assert_ne!(character, '\'', "a typewriter apostrophe in {value}");
            before = character;
        }
        assert!(!value.contains("  "), "two spaces in {value}");
    }
    let english = format!("{:?}", Language::English.words());
    assert!(!english.contains("\\u{202f}") && !english.contains("  "), "{english}");
}

/// NH-1. A reaction to offences is called what it is, and that to failures what it was.
#[test]
fn each_reaction_has_its_words() {
    use event::Ppb;
    use promise::objective::{Answered, Reaction};
    let (within, over) = (Span::from_secs(2), Span::from_days(30));
    for (to, french, english) in [
        (
            Answered::Failures,
            "plus longue attente avant que quelqu’un soit prévenu sur 30 jours",
            "longest time until somebody was told over 30 days",
        ),
        (
            Answered::Offences,
            "plus longue attente avant un bannissement sur 30 jours",
            "longest time until an offender was banned over 30 days",
        ),
    ] {
        let objective = Objective::Reaction(Reaction { to, service: None, within, observed: Ppb::ONE, over });
        let said = |language: Language| plain(&language.measure(&objective));
        assert_eq!((said(Language::French).as_str(), said(Language::English).as_str()), (french, english));
        assert_eq!(plain(&Language::English.promised(objective.promised())), "at most 2 s");
    }
}
