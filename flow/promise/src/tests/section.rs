use event::Span;
use event::policy::Clause;
use policy::{Document, SectionDoc};

use super::scene::{self, percent};
use crate::objective::{
    Absence, Answered, Availability, Configuration, Coverage, Freshness, Limit, Objective, Reaction, Restore,
};
use crate::{PromiseSection, revision};

#[test]
fn the_example_reads() {
    if let Err(mistakes) = SectionDoc::check::<PromiseSection>("promise", true) {
        panic!("{}", mistakes.render(false));
    }
    let mut document = Document::from_text("garant.toml", <PromiseSection as policy::Section>::EXAMPLE);
    let promise = document.tables::<PromiseSection>("promise").pop().expect("reads").promise;
    assert_eq!(promise.objectives.len(), 2, "one objective for each window");
    let expected = |days| {
        Objective::Availability(Availability {
            service: scene::name("shop"),
            at_least: percent("99.99 %"),
            over: Span::from_days(days),
        })
    };
    assert_eq!(promise.objectives, [180, 365].map(|days| Clause::from(&expected(days))));
    assert_eq!(promise.revision, revision::of_promise(&promise));
    assert_eq!(promise.revision.len(), 16);
}

/// Each kind becomes what it says. What it names is not declared here, which is a mistake of its own and changes nothing.
#[test]
fn every_kind_reads() {
    let (service, probe, finding) = (scene::name("shop"), scene::name("dump"), scene::name("disk"));
    let (at_least, over) = (percent("95 %"), Span::from_days(30));
    let cases = [
        (
            "availability = { service = \"shop\", at_least = \"95 %\", over = \"30 d\" }",
            Objective::Availability(Availability { service: scene::name("shop"), at_least, over }),
        ),
        (
            "coverage = { service = \"shop\", at_least = \"95 %\", over = \"30 d\" }",
            Objective::Coverage(Coverage { service, at_least, over }),
        ),
        (
            "freshness = { probe = \"dump\", at_most = \"26 h\", over = \"30 d\" }",
            Objective::Freshness(Freshness { probe: scene::name("dump"), at_most: Span::from_secs(26 * 3600), over }),
        ),
        (
            "freshness = { backup = \"shop-db\", kind = \"log\", at_most = \"15 min\", over = \"30 d\" }",
            Objective::Freshness(Freshness {
                probe: scene::name("shop-db-log"),
                at_most: Span::from_secs(15 * 60),
                over,
            }),
        ),
        (
            "configuration = { probe = \"dump\", over = \"30 d\" }",
            Objective::Configuration(Configuration { probe, observed: percent("99 %"), over }),
        ),
        (
            "absence = { finding = \"disk\", observed = \"95 %\", over = \"30 d\" }",
            Objective::Absence(Absence { finding, observed: percent("95 %"), over }),
        ),
        (
            "reaction = { service = \"shop\", within = \"3 min\", observed = \"95 %\", over = \"30 d\" }",
            Objective::Reaction(Reaction {
                to: Answered::Failures,
                service: Some(scene::name("shop")),
                within: Span::from_secs(180),
                observed: percent("95 %"),
                over,
            }),
        ),
        (
            "reaction = { service = \"shop\", to = \"offences\", within = \"2 s\", over = \"30 d\" }",
            Objective::Reaction(Reaction {
                to: Answered::Offences,
                service: Some(scene::name("shop")),
                within: Span::from_secs(2),
                observed: percent("99 %"),
                over,
            }),
        ),
        (
            "reaction = { to = \"failures\", within = \"3 min\", over = \"30 d\" }",
            Objective::Reaction(Reaction {
                to: Answered::Failures,
                service: None,
                within: Span::from_secs(180),
                observed: percent("99 %"),
                over,
            }),
        ),
        (
            "reaction = { within = \"3 min\", over = \"30 d\" }",
            Objective::Reaction(Reaction {
                to: Answered::Failures,
                service: None,
                within: Span::from_secs(180),
                observed: percent("99 %"),
                over,
            }),
        ),
    ];
    for (objective, expected) in cases {
        let text = format!("[[promise]]\nid = \"AV-1\"\ntext = {{ fr = \"oui\", en = \"yes\" }}\n{objective}\n");
        let mut document = Document::from_text("garant.toml", &text);
        let promises = document.tables::<PromiseSection>("promise");
        let read: Vec<_> = promises.into_iter().flat_map(|section| section.promise.objectives).collect();
        assert_eq!(read, [Clause::from(&expected)], "{objective}");
    }
}

/// Each limit of the restores of a backup is an objective of its own, for each of its windows.
#[test]
fn each_limit_of_restores_is_an_objective() {
    let read = |limits: &str| {
        let text = format!(
            "[[promise]]\nid = \"BK-5\"\ntext = {{ fr = \"oui\", en = \"yes\" }}\n\
             restore = {{ backup = \"shop-db\", {limits} }}\n"
        );
        let promises = Document::from_text("garant.toml", &text).tables::<PromiseSection>("promise");
        promises.into_iter().flat_map(|section| section.promise.objectives).collect::<Vec<_>>()
    };
    let objective = |limit, at_most: i64, over| {
        let at_most = Span::from_secs(at_most);
        let over = Span::from_days(over);
        Clause::from(&Objective::Restore(Restore { limit, probe: scene::name("shop-db-restore"), at_most, over }))
    };
    let (day, hour, minute) = (26 * 3600, 4 * 3600, 15 * 60);
    let all = read("every = \"26 h\", within = \"4 h\", loses_at_most = \"15 min\", over = [\"30 d\", \"365 d\"]");
    assert_eq!(
        all,
        [
            objective(Limit::Every, day, 30),
            objective(Limit::Every, day, 365),
            objective(Limit::Within, hour, 30),
            objective(Limit::Within, hour, 365),
            objective(Limit::LosesAtMost, minute, 30),
            objective(Limit::LosesAtMost, minute, 365),
        ]
    );
    assert_eq!(read("every = \"26 h\", over = \"30 d\""), [objective(Limit::Every, day, 30)]);
    assert_eq!(
        all[4].json(),
        r#"{"objective":"restore","limit":"loses_at_most","probe":"shop-db-restore","at_most":900000000,"over":2592000000000}"#
    );
    for (from, to) in [("\"loses_at_most\"", "\"costs\""), ("\"loses_at_most\"", "null"), ("\"probe\"", "\"backup\"")] {
        let later = all[4].json().replace(from, to);
        assert_eq!(Objective::of(&serde_json::from_str(&later).expect("JSON")), None, "{later}");
    }
}

/// Each mistake by itself: what is wrong in the objective, and a word of the reason given.
#[test]
fn mistakes_say_what_is_wrong() {
    let cases = [
        ("", "without an objective can't be proved"),
        ("availability = []", "`availability` is empty"),
        ("availability = { service = \"shop\", at_least = \"99 %\" }", "needs `over`"),
        ("availability = { service = \"shop\", at_least = \"101 %\", over = \"30 d\" }", "`101 %` is not a share"),
        ("availability = { service = \"shop\", at_least = \"99 %\", over = [\"30 d\", \"720 h\"] }", "30 d twice"),
        ("availability = { service = \"shop\", at_least = \"99 %\", over = \"1 s\" }", "`over` is 1 s, out of range"),
        ("availability = { service = \"shp\", at_least = \"99 %\", over = \"30 d\" }", "no service is called `shp`"),
        ("coverage = { service = \"shp\", at_least = \"99 %\", over = \"30 d\" }", "no service is called `shp`"),
        ("freshness = { probe = \"dump\", at_most = \"26 h\", over = \"30 d\" }", "no probe is called `dump`"),
        ("freshness = { probe = \"dump\", at_most = \"30 d\", over = \"1 d\" }", "can't be seen in a window of 1 d"),
        ("freshness = { probe = \"dump\", at_most = \"0 s\", over = \"1 d\" }", "nobody can keep this promise"),
        ("freshness = { at_most = \"26 h\", over = \"30 d\" }", "nothing says what must succeed"),
        ("freshness = { backup = \"shop-db\", at_most = \"26 h\", over = \"30 d\" }", "add kind = \"log\""),
        ("freshness = { kind = \"log\", at_most = \"26 h\", over = \"30 d\" }", "none is named"),
        (
            "freshness = { probe = \"dump\", backup = \"shop-db\", at_most = \"26 h\", over = \"30 d\" }",
            "remove `probe`, or `backup` and `kind`",
        ),
        (
            "freshness = { probe = \"dump\", kind = \"log\", at_most = \"26 h\", over = \"30 d\" }",
            "remove `probe`, or `backup` and `kind`",
        ),
        (
            "freshness = { backup = \"shop-db\", kind = \"logs\", at_most = \"26 h\", over = \"30 d\" }",
            "did you mean \"log\"?",
        ),
        (
            "freshness = { backup = \"Shop DB\", kind = \"log\", at_most = \"26 h\", over = \"30 d\" }",
            "write 1 to 40 of the characters",
        ),
        (
            "freshness = { backup = \"shop-db\", kind = \"log\", at_most = \"26 h\", over = \"30 d\" }",
            "no backup is declared: add [[backup.mariadb]]",
        ),
        ("availability = { service = \"shop\", at_least = \"0 %\", over = \"1 d\" }", "kept whatever happens"),
        ("coverage = { service = \"shop\", at_least = \"0.0 %\", over = \"1 d\" }", "kept whatever happens"),
        ("absence = { finding = \"disk\", observed = \"0 %\", over = \"1 d\" }", "what nobody observed is unproven"),
        ("configuration = { probe = \"tls\", observed = \"0 %\", over = \"1 d\" }", "what nobody observed is unproven"),
        ("reaction = { within = \"1 min\", observed = \"0 %\", over = \"1 d\" }", "what nobody observed is unproven"),
        ("reaction = { within = \"0 s\", over = \"1 d\" }", "nobody can keep this promise"),
        ("configuration = { probe = \"tls\", over = \"30 d\" }", "no probe is called `tls`"),
        ("absence = { finding = \"disk\", over = \"30 d\" }", "no finding is called `disk`"),
        ("reaction = { service = \"shp\", within = \"3 min\", over = \"30 d\" }", "no service is called `shp`"),
        ("reaction = { within = \"30 d\", over = \"1 d\" }", "can't be seen in a window of 1 d"),
        ("reaction = { to = \"offences\", within = \"2 s\", over = \"1 d\" }", "such as service = \"guard\""),
        ("reaction = { to = \"offenses\", within = \"2 s\", over = \"1 d\" }", "did you mean \"offences\"?"),
        (
            "reaction = { service = \"shop\", to = \"offences\", within = \"0 s\", over = \"1 d\" }",
            "nobody can be banned at the instant",
        ),
        (
            "reaction = { service = \"shp\", to = \"offences\", within = \"2 s\", over = \"1 d\" }",
            "no service is called `shp`",
        ),
        ("restore = { every = \"26 h\", over = \"30 d\" }", "needs `backup`"),
        ("restore = { backup = \"shop-db\", over = \"30 d\" }", "needs `every`"),
        ("restore = { backup = \"shop-db\", every = \"26 h\", over = \"30 d\" }", "no backup is declared"),
        ("restore = { backup = \"shop-db\", every = \"0 s\", over = \"1 d\" }", "nobody can keep this promise"),
        ("restore = { backup = \"b\", every = \"1 h\", within = \"0 s\", over = \"1 d\" }", "in no time"),
        ("restore = { backup = \"b\", every = \"1 h\", loses_at_most = \"0 s\", over = \"1 d\" }", "never yet in a"),
        ("restore = { backup = \"b\", every = \"1 h\", within = \"soon\", over = \"1 d\" }", "`soon` is"),
        ("restore = { backup = \"b\", every = \"26 h\", over = \"1 d\" }", "can't be seen in a window of 1 d"),
        ("requests = { at_least = \"99 %\", over = \"1 d\" }", "needs `probe`"),
        ("requests = { probe = \"front\", over = \"1 d\" }", "needs `at_least`"),
        ("requests = { probe = \"front\", at_least = \"0 %\", over = \"1 d\" }", "nothing is promised"),
        ("requests = { probe = \"gone\", at_least = \"99 %\", over = \"1 d\" }", "no probe is called `gone`"),
        ("availibility = { }", "no key `availibility`"),
    ];
    for (objective, reason) in cases {
        let text = format!("[[promise]]\nid = \"AV-1\"\ntext = {{ fr = \"oui\", en = \"yes\" }}\n{objective}\n");
        let mut document = Document::from_text("garant.toml", &text);
        drop(document.tables::<PromiseSection>("promise"));
        let mistakes = document.finish().expect_err(objective).render(false);
        assert!(mistakes.contains(reason), "{objective}:\n{mistakes}");
    }
}

/// What a later release may write of a kind that is known, and of one that is not.
#[test]
fn an_objective_of_a_later_release_is_not_read() {
    let coverage = r#"{"objective":"coverage","service":"shop","at_least":1000000000,"over":86400000000"#;
    let read = |text: &str| Objective::of(&serde_json::from_str(text).expect("JSON"));
    let over = Span::from_days(1);
    let known = Objective::Coverage(Coverage { service: scene::name("shop"), at_least: event::Ppb::ONE, over });
    assert_eq!(Clause::from(&known).json(), format!("{coverage}}}"), "its word first, its keys in order");
    assert_eq!(read(&format!("{coverage}}}")), Some(known.clone()));
    let reordered = r#"{"service":"shop","over":86400000000,"objective":"coverage","at_least":1000000000}"#;
    assert_eq!(read(reordered), Some(known));
    // The word that came later is left out where it says what was meant before there were two.
    let reaction = r#"{"objective":"reaction","service":"shop","within":1,"observed":1,"over":60000000}"#;
    let told = read(reaction).expect("known");
    assert_eq!(Clause::from(&told).json(), reaction);
    let with = |to: &str| reaction.replace(r#","service""#, &format!(r#","to":{to},"service""#));
    assert_eq!(read(&with("\"failures\"")), Some(told));
    let banned = read(&with("\"offences\"")).expect("known");
    assert_eq!(Clause::from(&banned).json(), with("\"offences\""));
    for to in ["\"drills\"", "null", "[]", "{}"] {
        assert_eq!(read(&with(to)), None, "{to}");
    }
    for later in [
        r#"{"objective":"restore","backup":"shop-db","at_most":1}"#.to_owned(),
        format!(r#"{coverage},"except":["night"]}}"#),
        format!(r#"{coverage},"service":"mail"}}"#),
        format!(r#"{coverage},"objective":"coverage"}}"#),
        coverage.replace("86400000000", "\"1 d\"}"),
        coverage.replace(r#""objective":"coverage","#, "") + "}",
        "7".to_owned(),
    ] {
        assert_eq!(read(&later), None, "{later}");
    }
}
