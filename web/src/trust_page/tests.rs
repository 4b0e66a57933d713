use axum::body::Body;
use axum::http::Method;
use event::policy::Text;
use journal::Hash;

use super::*;
use crate::fake::{Fixture, applied, ask, get, log_with};
use crate::lang::NARROW;

/// The page as text: no tags, entities read, ordinary spaces, one space between words.
fn text_of(html: &str) -> String {
    let (_, body) = html.split_once("<body>").expect("a body");
    let mut text = String::new();
    for part in body.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, after)| after));
        text.push(' ');
    }
    let text = text.replace([NARROW, '\u{a0}'], " ").replace("&#39;", "'").replace("&#38;", "&").replace("&#60;", "<");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// CO-7, BX-1, BX-5: what a reader finds on the page, in both languages.
#[tokio::test]
async fn what_the_page_says() {
    let fixture = Fixture::new();
    let vkey = fixture.log.keys[0].vkey();
    let french = get(fixture.public(), "/fr").await;
    let text = text_of(french.text());
    for expected in [
        "Nos promesses, preuves à l’appui",
        "0 tenue ✗ 1 rompue ? 1 non prouvée Dernière évaluation : 22 novembre 2026, 23 h 00. \
         Les heures sont en temps universel (UTC).",
        "La boutique est disponible 99,99 % du temps. AV-1 ✗ rompue au moins 99,99 %",
        "Promesse Promis Mesuré Verdict Pourquoi Preuve",
        "au moins 99,99 % La boutique : disponibilité entre 99,991 % et 99,995 % 180 jours, arrêté à 22:58:00 \
         ✓ tenue depuis 22 h 59 marge : entre 1 min et 1 min 30 s sur 52 min 33 s consommées observé depuis un seul point \
         entrée 301 entre 99,989 % et 99,9899999 % 365 jours, arrêté à 22:58:00 ✗ rompue depuis 22 h 59 \
         fenêtre : 12 jours sur 365 marge : entre 41 min et 46 min sur 52 min 33 s consommées \
         en panne pendant au moins 41 min, en 2 interruptions sans observation pendant 5 min entrée 302",
        "shop.example Nos promesses",
        "En ce moment ? indécis La boutique depuis 22 h 59",
        "au plus 15 min La boutique (nightly) : plus longue durée entre deux succès sur 30 jours rien encore arrêté à 22:58:00 ? non prouvée",
        "Une coupure plus brève que l’écart entre deux contrôles peut nous échapper (",
        "Maintenances annoncées La boutique La boutique sera en lecture seule. du 23 novembre 2026, 23 h 00 au \
         24 novembre 2026, 00 h 00",
        "Nom shop.example/1 Entrées 304 Point de contrôle du 22 novembre 2026, 23 h 00",
        "Cosigné par witness.example, le 22 novembre 2026, 23 h 00",
        "Ce que vous pouvez vérifier, et ce que vous ne pouvez pas",
    ] {
        assert!(text.contains(expected), "`{expected}` is missing in:\n{text}");
    }
    let english = get(fixture.public(), "/en").await;
    let text = text_of(english.text());
    for expected in [
        "What we promise, and the proof",
        "0 kept ✗ 1 broken ? 1 unproven Last evaluated: 22 November 2026, 23:00. All times are in UTC.",
        "The shop is available 99.99 % of the time. AV-1 ✗ broken at least 99.99 %",
        "at least 99.99 % The shop: availability between 99.991 % and 99.995 % 180 days, as of 22:58:00 ✓ kept since 22:59 \
         margin: between 1 min and 1 min 30 s of 52 min 33 s used observed by one point only entry 301 \
         between 99.989 % and 99.9899999 % 365 days, as of 22:58:00 ✗ broken since 22:59 window: 12 of 365 days \
         margin: between 41 min and 46 min of 52 min 33 s used down for at least 41 min, in 2 outages not observed for 5 min \
         entry 302",
        "At present ? undecided The shop since 22:59",
        "at most 15 min The shop (nightly): longest time between two successes over 30 days nothing yet as of 22:58:00 ? unproven",
        "nothing in the log bears on it yet",
        "An outage shorter than the time between two looks may pass unseen (",
        "Name shop.example/1 Entries 304 Checkpoint of 22 November 2026, 23:00",
        "Cosigned by witness.example, 22 November 2026, 23:00",
        &format!("garant verify https://trust.shop.example/log/ --vkey '{vkey}'"),
        &vkey.fingerprint().to_string(),
        "What you can check, and what you can’t",
    ] {
        assert!(text.contains(expected), "`{expected}` is missing in:\n{text}");
    }
}

#[tokio::test]
async fn the_reader_chooses_the_language() {
    let fixture = Fixture::new();
    for (path, accepted, language) in [
        ("/", "fr-FR,fr;q=0.9,en;q=0.8", "fr"),
        ("/", "en", "en"),
        ("/", "", "en"),
        ("/fr", "en", "fr"),
        ("/en", "fr", "en"),
    ] {
        let headers = [("accept-language", accepted)];
        let answer = ask(fixture.public(), Method::GET, path, &headers, Body::empty()).await;
        assert_eq!(answer.header("content-language"), language, "{path} {accepted}");
        assert!(answer.text().contains(&format!("<html lang=\"{language}\">")), "{path} {accepted}");
        for alternate in ["hreflang=\"fr\" href=\"/fr\"", "hreflang=\"en\" href=\"/en\""] {
            assert!(answer.text().contains(alternate), "{path}");
        }
        if path == "/" {
            assert_eq!(answer.header("vary"), "accept-language");
            assert_eq!(answer.header("content-location"), format!("/{language}"));
        }
    }
}

#[tokio::test]
async fn an_unchanged_page_is_not_sent_again() {
    let fixture = Fixture::new();
    let first = get(fixture.public(), "/en").await;
    assert_eq!(first.header("cache-control"), "public, max-age=15");
    let tag = first.header("etag").to_owned();
    let again = ask(fixture.public(), Method::GET, "/en", &[("if-none-match", &tag)], Body::empty()).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(again.header("etag"), tag);
    fixture.in_effect.send_modify(|in_effect| {
        let verdicts = crate::fake::verdicts(&applied());
        Arc::make_mut(in_effect).evaluate(crate::fake::NOW + event::Span::from_secs(60), verdicts);
    });
    let changed = ask(fixture.public(), Method::GET, "/en", &[("if-none-match", &tag)], Body::empty()).await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_ne!(changed.header("etag"), tag);
}

/// The page shows the last evaluation, and says which verdict of the log its proof is of.
#[tokio::test]
async fn the_figures_are_of_now_and_the_proof_of_the_log() {
    let fixture = Fixture::new();
    let mut verdicts = crate::fake::verdicts(&applied());
    for verdict in &mut verdicts {
        verdict.at = crate::fake::NOW;
        verdict.outcome = event::promise::Outcome::Unproven;
        verdict.window.end = crate::fake::NOW - event::Span::from_secs(5);
        verdict.figure = verdict.figure.map(|figure| event::promise::Figure { low: 500_000_000, ..figure });
    }
    fixture.in_effect.send_modify(|in_effect| Arc::make_mut(in_effect).evaluate(crate::fake::NOW, verdicts));
    for (path, expected) in [
        ("/fr", "entre 50 % et 99,995 % 180 jours, arrêté à 22:59:55"),
        ("/fr", "? non prouvée depuis 23 h 00"),
        ("/fr", "entrée 301 , 22 h 59 : tenue"),
        ("/en", "between 50 % and 99.995 % 180 days, as of 22:59:55"),
        ("/en", "? unproven since 23:00"),
        ("/en", "entry 302 , 22:59: broken"),
    ] {
        let text = text_of(get(fixture.public(), path).await.text());
        assert!(text.contains(expected), "`{expected}` is missing in:\n{text}");
    }
}

/// BX-3, BX-5: what restores took and would have lost stands beside what is promised, whether it is kept or not.
#[tokio::test]
async fn measured_recovery_stands_beside_what_is_promised() {
    use event::Span;
    use event::policy::Clause;
    use event::promise::{Figure, Outcome, Unit, Verdict};
    use promise::objective::{Limit, Objective, Restore};

    let minutes = |minutes: i64| Span::from_secs(60 * minutes);
    let limits = [(Limit::Every, 26 * 60, 24 * 60 + 5), (Limit::Within, 4 * 60, 42), (Limit::LosesAtMost, 15, 17)];
    let mut declared = applied();
    declared.promises[1].objectives = limits
        .map(|(limit, at_most, _)| {
            let (probe, over) = ("nightly".parse().expect("a name"), Span::from_days(30));
            Clause::from(&Objective::Restore(Restore { limit, probe, at_most: minutes(at_most), over }))
        })
        .to_vec();
    let fixture = Fixture::with(declared.clone(), log_with(10), &[]);
    let mut verdicts = crate::fake::verdicts(&declared);
    for (verdict, (_, at_most, measured)) in verdicts.iter_mut().skip(2).zip(limits) {
        let (at, target) = (minutes(measured).micros(), minutes(at_most).micros());
        let outcome = if at <= target { Outcome::Kept } else { Outcome::Broken };
        let figure = Some(Figure { unit: Unit::Micros, low: at, high: at, target });
        *verdict = Verdict { outcome, figure, reasons: Vec::new(), ..verdict.clone() };
    }
    fixture.in_effect.send_modify(|in_effect| Arc::make_mut(in_effect).evaluate(crate::fake::NOW, verdicts));
    for (path, expected) in [
        (
            "/fr",
            "au plus 1 j 2 h La boutique (nightly) : plus longue durée entre deux restaurations exactes sur 30 jours 1 j 5 min",
        ),
        ("/fr", "au plus 4 h La boutique (nightly) : plus longue restauration (RTO) sur 30 jours 42 min"),
        (
            "/fr",
            "au plus 15 min La boutique (nightly) : plus grande perte de données qu’une restauration aurait laissée (RPO) sur 30 jours \
             17 min",
        ),
        ("/en", "at most 1 d 2 h The shop (nightly): longest time between two exact restores over 30 days 1 d 5 min"),
        ("/en", "at most 4 h The shop (nightly): longest restore (RTO) over 30 days 42 min"),
        (
            "/en",
            "at most 15 min The shop (nightly): largest loss of data that a restore would have left (RPO) over 30 days 17 min",
        ),
    ] {
        let answer = get(fixture.public(), path).await;
        check_html(answer.text());
        let text = text_of(answer.text());
        assert!(text.contains(expected), "`{expected}` is missing in:\n{text}");
    }
}

/// The zone of the policy: said once, and every time follows it, with its day.
#[tokio::test]
async fn times_are_in_the_zone_of_the_policy() {
    let fixture = Fixture::new();
    fixture.policy.send_modify(|policy| {
        Arc::make_mut(policy).zone = event::Zone::named("Europe/Paris").expect("a zone");
    });
    for (path, expected) in [
        ("/en", "Last evaluated: 23 November 2026, 00:00. All times are in Europe/Paris, at present UTC+1."),
        ("/en", "as of 22 November 2026, 23:58:00"),
        ("/en", "24 November 2026, from 00:00 to 01:00"),
        ("/fr", "Les heures sont celles du fuseau Europe/Paris, en ce moment UTC+1."),
        ("/fr", "En ce moment ? indécis La boutique depuis le 22 novembre 2026, 23 h 59"),
        ("/fr", "le 24 novembre 2026, de 00 h 00 à 01 h 00"),
    ] {
        let text = text_of(get(fixture.public(), path).await.text());
        assert!(text.contains(expected), "`{expected}` is missing in:\n{text}");
    }
}

/// What is found is the team's business: which disk, the figure and the threshold, since when.
#[tokio::test]
async fn the_team_sees_what_is_found() {
    let mut fixture = Fixture::new();
    let mut row = (fixture.state.probes)().remove(0);
    let found = |number: i64| engine::standing::OpenFinding {
        finding: "disk-usage".parse().expect("a name"),
        text: format!("disk of /srv/{number} 97 % used, threshold 90 %, until 2026-11-22T22:00:00Z"),
        since: crate::fake::NOW - event::Span::from_secs(number),
    };
    row.findings = (0..60).map(found).collect();
    Arc::get_mut(&mut fixture.state).expect("no router yet").probes = Arc::new(move || vec![row.clone()]);
    fixture.policy.send_modify(|policy| {
        Arc::make_mut(policy).zone = event::Zone::named("Asia/Kathmandu").expect("a zone");
    });
    for (path, title, more) in
        [("/fr", "Constats ouverts, pour l’équipe seule", "et 10 autres"), ("/en", "Open findings", "and 10 more")]
    {
        let answer = get(fixture.team(), path).await;
        let text = text_of(answer.text());
        for expected in [
            title,
            "disk-usage (shop-answers, gravelines) disk of /srv/0 97 % used, threshold 90 %, until 2026-11-23T03:45:00+05:45",
            more,
        ] {
            assert!(text.contains(expected), "`{expected}` is missing in:\n{text}");
        }
        check_html(answer.text());
        let public = get(fixture.public(), path).await;
        assert!(!public.text().contains(title) && !public.text().contains("/srv"), "{path}");
    }
}

/// Only the team sees the page before `publish = true`, and is told so.
#[tokio::test]
async fn the_private_page_says_that_it_is() {
    let fixture = Fixture::new();
    for (path, words) in
        [("/fr", "Page non publiée : seule l’équipe la voit."), ("/en", "Not published: only the team")]
    {
        assert!(!text_of(get(fixture.team(), path).await.text()).contains(words));
    }
    fixture.set_publish(false);
    for (path, words) in
        [("/fr", "Page non publiée : seule l’équipe la voit."), ("/en", "Not published: only the team")]
    {
        let answer = get(fixture.team(), path).await;
        assert!(text_of(answer.text()).contains(words), "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache", "no other copy of a private page");
        assert_eq!(get(fixture.public(), path).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_verdict_without_checkpoint_has_no_link_yet() {
    let fixture = Fixture::new();
    fixture.publish_only(302);
    let answer = get(fixture.public(), "/en").await;
    assert!(answer.text().contains("/log/proof/301.tlog-proof"));
    assert!(!answer.text().contains("/log/proof/302.tlog-proof"), "it would be a 404");
    assert_eq!(text_of(answer.text()).matches("sealed shortly").count(), 2);
    fixture.published.send_replace(None);
    let text = text_of(get(fixture.public(), "/en").await.text());
    assert!(text.contains("No checkpoint is published yet."), "{text}");
}

/// A promise that was tightened is judged anew: the verdict on its older revision says nothing about it.
#[tokio::test]
async fn a_new_revision_starts_unproven() {
    let fixture = Fixture::new();
    fixture.policy.send_modify(|policy| {
        let policy = Arc::make_mut(policy);
        Arc::make_mut(policy.applied.as_mut().expect("a policy")).promises[0].revision = "1111111111111111".to_owned();
    });
    let text = text_of(get(fixture.public(), "/en").await.text());
    assert!(text.contains("0 kept 0 broken ? 2 unproven"), "{text}");
    let expected = "nothing yet 180 days ? unproven not judged yet – nothing yet 365 days ? unproven not judged yet –";
    assert!(text.contains(expected), "{text}");
}

#[tokio::test]
async fn before_a_policy_there_is_a_page() {
    let fixture = Fixture::new();
    fixture.policy.send_modify(|policy| Arc::make_mut(policy).applied = None);
    for (path, words) in [("/fr", "ne déclare encore aucune promesse"), ("/en", "declares no promise yet")] {
        let answer = get(fixture.team(), path).await;
        assert!(text_of(answer.text()).contains(words), "{path}");
        check_html(answer.text());
    }
}

/// What the policy says is text, whatever it looks like.
#[tokio::test]
async fn nothing_of_the_policy_becomes_markup() {
    let evil = "</title><script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;";
    let mut applied = applied();
    applied.services[0].title = Text { fr: evil.to_owned(), en: evil.to_owned() };
    applied.promises[0].text = Text { fr: evil.to_owned(), en: evil.to_owned() };
    applied.maintenance[0].text = Text { fr: evil.to_owned(), en: evil.to_owned() };
    let fixture = Fixture::with(applied, log_with(10), &[]);
    fixture.identity.send_modify(|identity| {
        let identity = Arc::make_mut(identity);
        (identity.name, identity.url) = (evil.to_owned(), evil.to_owned());
    });
    for path in ["/fr", "/en"] {
        let answer = get(fixture.public(), path).await;
        for markup in ["<script", "<img", "onerror=alert(1)>"] {
            assert!(!answer.text().contains(markup), "{markup} in {path}");
        }
        check_html(answer.text());
    }
}

/// A telephone on a bad line reads the page of a team that promises as much as all seeds together.
#[tokio::test]
async fn sixty_promises_fit_in_fifty_kilobytes() {
    let mut applied = applied();
    let models = applied.promises.clone();
    applied.promises = (0..60)
        .map(|number| {
            // Every fourth has two windows, as availability does.
            let mut promise = models[usize::from(number % 4 != 0)].clone();
            promise.id = format!("XX-{number}").parse().expect("a name");
            promise
        })
        .collect();
    let fixture = Fixture::with(applied, log_with(300), &[]);
    for path in ["/fr", "/en"] {
        let answer = get(fixture.public(), path).await;
        assert_eq!(answer.text().matches("<tbody ").count(), 60);
        assert!(answer.body.len() <= 50 * 1024, "{path}: {} bytes", answer.body.len());
        check_html(answer.text());
    }
}

/// The style is allowed by its hash, nothing else is loaded, and no script runs.
#[tokio::test]
async fn the_page_is_alone() {
    let answer = get(Fixture::new().public(), "/fr").await;
    let html = answer.text();
    let (_, rest) = html.split_once("<style>").expect("a style");
    let (style, _) = rest.split_once("</style>").expect("its end");
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(policy.contains(&format!("'sha256-{}'", Hash::of(&[style.as_bytes()]).to_base64())), "{policy}");
    for forbidden in ["<script", "<img", "<iframe", "src=", "@import", "url(", "style=", "javascript:", "onclick"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    for link in html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(link.starts_with('/') || link.starts_with('#'), "{link} leads elsewhere");
    }
    check_html(html);
}

/// Well-formed: every element is closed in order, attributes are quoted, ids are there once, and the outline has no gap.
fn check_html(html: &str) {
    const VOID: [&str; 4] = ["meta", "link", "br", "!doctype"];
    let (before, rest) = html.split_once("<style>").expect("a style");
    let (_, after) = rest.split_once("</style>").expect("its end");
    let (mut open, mut ids, mut level) = (Vec::new(), Vec::new(), 0);
    let markup = [before, "<style></style>", after].concat();
    for part in markup.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("`<{part}` has no end"));
        assert!(!text.contains('>'), "a bare > in {text}");
        let name = tag.split_whitespace().next().expect("a name");
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed out of order");
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        for attribute in tag.split('"').step_by(2).flat_map(str::split_whitespace).skip(1) {
            assert!(attribute.ends_with('=') || attribute == "html", "an attribute without quotes: {tag}");
        }
        if let Some(id) = tag.split(" id=\"").nth(1).and_then(|rest| rest.split('"').next()) {
            assert!(!ids.contains(&id), "{id} is there twice");
            ids.push(id);
        }
        if let Some(heading) = name.strip_prefix('h').and_then(|digit| digit.parse::<u32>().ok()) {
            assert!(heading <= level + 1, "h{heading} after h{level}");
            level = heading;
        }
        if !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

/// WCAG 2.2, success criterion 1.4.3: text has a contrast of 4.5 : 1 at least, in light and in dark.
#[test]
fn every_colour_can_be_read() {
    let style = crate::answer::STYLE;
    let themes: Vec<&str> = style.lines().filter(|line| line.contains("--paper")).collect();
    assert!(themes.len() >= 2, "light and dark");
    for theme in &themes[..2] {
        let colour = |name: &str| {
            let rest = theme.split(&format!("--{name}:#")).nth(1).unwrap_or_else(|| panic!("no {name} in {theme}"));
            luminance(&rest[..6])
        };
        for background in ["paper", "tint"] {
            for ink in ["ink", "quiet", "kept", "broken", "unproven", "link"] {
                let (a, b) = (colour(ink), colour(background));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 4.5, "{ink} on {background}: {contrast:.2}");
            }
        }
    }
}

fn luminance(hex: &str) -> f64 {
    let channel = |from: usize| {
        let value = f64::from(u8::from_str_radix(&hex[from..from + 2], 16).expect("hexadecimal")) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
}

/// On a telephone each cell says what it is, in the words of the head of the table that is not shown there.
#[test]
fn a_narrow_table_is_labelled() {
    for language in Language::ALL {
        let words = language.words();
        for (place, word) in (1..).zip([words.proof, words.why, words.outcome, words.measured, words.promised]) {
            let rule = format!("td:nth-last-of-type({place})::before{{content:\"{word}\"}}");
            let rules: Vec<&str> = crate::answer::STYLE.lines().filter(|line| line.ends_with(&rule)).collect();
            let of_it = format!(":lang({}) ", language.code());
            assert!(rules.iter().any(|line| *line == rule || line.starts_with(&of_it)), "{rule} in {language:?}");
        }
    }
}
