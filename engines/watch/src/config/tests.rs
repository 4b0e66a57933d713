use event::Span;
use policy::SectionDoc;

use super::*;
use crate::source::{dns, heartbeat, host, http, tcp, tls};

fn read(text: &str) -> (Config, Result<(), String>) {
    let text = format!(
        "[journal]\nname = \"shop.example\"\n[[service]]\nname = \"shop\"\ntitle.fr = \"La boutique\"\ntitle.en = \"The shop\"\n{text}"
    );
    let mut document = Document::from_text("garant.toml", &text);
    drop(policy::Basics::read(&mut document));
    let nouns = Nouns::read(&mut document);
    let config = Config::read(&mut document, &nouns);
    (config, document.finish().map(drop).map_err(|mistakes| mistakes.render(false)))
}

const TWO_OBSERVERS: &str = "[[observer]]\nname = \"gravelines\"\n[[observer]]\nname = \"strasbourg\"\n";

/// The examples of the reference are read without a mistake, and every key is documented.
/// What is no UUID is called so, and what is nothing at all.
#[test]
fn a_uuid_that_is_none_is_called_so() {
    for (uuid, told) in [("", "`uuid` is empty"), ("9f8a1b3c", "`9f8a1b3c` is not a UUID")] {
        let text = format!("[[probe.heartbeat]]\nname = \"ran\"\nservice = \"shop\"\nuuid = \"{uuid}\"\n");
        let mut document = Document::from_text("test", &text);
        drop(Config::of_observers(&mut document, &[]));
        let mistakes = document.finish().expect_err("no UUID").render(false);
        assert!(mistakes.contains(told) && mistakes.contains("which was drawn just now"), "{mistakes}");
    }
}

#[test]
fn examples_are_sound() {
    for checked in [
        SectionDoc::check::<http::Http>("probe.http", true),
        SectionDoc::check::<tcp::Tcp>("probe.tcp", true),
        SectionDoc::check::<tls::Tls>("probe.tls", true),
        SectionDoc::check::<dns::Dns>("probe.dns", true),
        SectionDoc::check::<heartbeat::Expected>("probe.heartbeat", true),
        SectionDoc::check::<host::Host>("probe.host", true),
        SectionDoc::check::<WatchOptions>("watch", false),
    ] {
        assert!(checked.is_ok(), "{}", checked.err().map(|mistakes| mistakes.render(false)).unwrap_or_default());
    }
    assert_eq!(Config::reference().len(), PROBE_KINDS.len() + 1);
}

#[test]
fn defaults_make_most_keys_unnecessary() {
    let (config, mistakes) = read(
        "[[probe.http]]\nname = \"front\"\nservice = \"shop\"\nurl = \"https://shop.example/\"\n\
         [[probe.host]]\nname = \"machine\"\nservice = \"shop\"\n",
    );
    assert_eq!(mistakes, Ok(()));
    let [front, machine] = &config.probes[..] else { panic!("{config:?}") };
    assert_eq!((front.every, front.timeout), (Span::from_secs(60), Span::from_secs(10)));
    assert_eq!(front.observers.iter().map(ObserverId::as_str).collect::<Vec<_>>(), ["local.watch"]);
    assert_eq!(front.probe.target(), Some("shop.example:443"));
    assert_eq!(machine.every, Span::from_secs(10));
    let detectors = config.detectors();
    assert!(detectors.iter().all(|detector| !detector.title.fr.is_empty() && !detector.title.en.is_empty()));
    assert_eq!(detectors.len(), 5);
    assert!(detectors.iter().all(|detector| detector.probes == [machine.id.clone()]));
    let (config, mistakes) = read(
        "[[probe.http]]\nname = \"front\"\nservice = \"shop\"\nurl = \"https://shop.example/\"\ncertificate_days = 14\n\
         [[probe.tls]]\nname = \"mail\"\nservice = \"shop\"\naddress = \"mx.shop.example:465\"\n",
    );
    assert_eq!(mistakes, Ok(()));
    let [expiring] = &config.detectors()[..] else { panic!("{:?}", config.detectors()) };
    assert_eq!((expiring.finding.as_str(), expiring.probes.len()), ("certificate-expiring", 2));
    let public = config.public_probes();
    assert_eq!((&*public[0].kind, public[0].service.as_str()), ("http", "shop"));
}

#[test]
fn everybody_asks_and_one_listens() {
    let (config, mistakes) = read(&format!(
        "{TWO_OBSERVERS}[[probe.tcp]]\nname = \"db\"\nservice = \"shop\"\naddress = \"db.shop.example:3306\"\n\
         [[probe.heartbeat]]\nname = \"job\"\nservice = \"shop\"\nuuid = \"0B1C7A52-6f6c-4e0e-9d57-1c3c1a6f2f10\"\n"
    ));
    assert_eq!(mistakes, Ok(()));
    assert_eq!(config.probes.iter().map(|probe| probe.observers.len()).collect::<Vec<_>>(), [2, 1]);
    let heartbeats = config.heartbeats();
    assert_eq!(heartbeats["0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10"].as_str(), "job");
    assert_eq!(config.probes[1].asked_every, Span::from_secs(30), "silence is told within half a minute");
}

/// Whatever can't work is told in the user's file.
#[test]
fn contradictions_are_mistakes() {
    let http =
        |keys: &str| format!("[[probe.http]]\nname = \"p\"\nservice = \"shop\"\nurl = \"http://a.example/\"\n{keys}\n");
    let heartbeat = |name: &str| {
        format!(
            "[[probe.heartbeat]]\nname = \"{name}\"\nservice = \"shop\"\nuuid = \"0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10\"\n"
        )
    };
    let many_fields: Vec<String> = (0..33).map(|n| format!("X-{n} = \"a\"")).collect();
    let cases = [
        (
            heartbeat("job").replace("0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
            "`uuid` is an address that others know",
        ),
        (http("every = \"10 s\"\ntimeout = \"10 s\""), "`timeout` is 10 s, not shorter than `every`, 10 s"),
        (http("slower_than = \"10 s\""), "`slower_than` is 10 s, not shorter than the timeout"),
        (http("every = \"10 ms\""), "out of range"),
        (http("from = \"mars\""), "mars"),
        (http("from = [\"local\", \"local\"]"), "an observer is named twice"),
        (http("agreement = \"most\""), "agreement"),
        (http("status = [\"900\"]"), "`900` is not a status of HTTP"),
        (http("headers = [\"Accept: text/html\"]"), "`headers` is a list, and should be a table of header fields"),
        (http("headers = { Accept = \"\" }"), "the value of `Accept` is empty"),
        (http("headers = { X-Trace = \"a\\nb\" }"), "the value of `X-Trace` holds a line break"),
        (http("headers = { X-Trace = \"a\\u0000b\" }"), "the value of `X-Trace` holds a line break"),
        (http("headers = { X-Trace = \"café\" }"), "another character that a header field can't"),
        (http("headers = { X-Trace = \" a\" }"), "starts or ends with a blank"),
        (http(&format!("headers = {{ X-Trace = \"{}\" }}", "x".repeat(8193))), "longer than 8 KiB"),
        (http("headers = { \"X Trace\" = \"a\" }"), "`X Trace` is not the name of a header field"),
        (http("headers = { X-Trace = \"a\", x-trace = \"b\" }"), "`x-trace` is there twice"),
        (http(&format!("headers = {{ {} }}", many_fields.join(", "))), "more than 32 header fields"),
        (http("headers = { X-Trace = 7 }"), "`X-Trace` is a whole number, and should be where a secret is kept"),
        (http("headers = { Authorization = { file = \"token\" } }"), "not an absolute path"),
        (http("method = \"HEAD\"\ncontains = \"a\""), "an answer to HEAD has no body"),
        (http("method = \"HEAD\"\ncontains_not = \"a\""), "an answer to HEAD has no body"),
        (http("status = [\"204\", \"304\"]\ncontains = \"a\""), "an answer of this `status` has no body"),
        (http("body_bytes_max = 3\ncontains = \"four\""), "a text of 4 bytes, and the body may have 3"),
        (http("contains = \"in stock\"\ncontains_not = \"stock\""), "is in a text of `contains`"),
        (http("address = \"192.0.2.1:80\"\nfamily = \"ipv6\""), "192.0.2.1 is no address of IPv6"),
        (http("family = \"ipv5\""), "`family` can't be \"ipv5\""),
        (http("evry = \"10 s\""), "did you mean `every`?"),
        (format!("{}{}", http(""), http("")), "p"),
        (format!("{}{}", heartbeat("a"), heartbeat("b")), "0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10"),
        (
            format!("{TWO_OBSERVERS}{}from = [\"gravelines\", \"strasbourg\"]\n", heartbeat("a")),
            "only be seen by one observer",
        ),
        (
            "[[probe.dns]]\nname = \"d\"\nservice = \"shop\"\ndomain = \"192.0.2.1\"\n".to_owned(),
            "an address has no records",
        ),
        (
            "[[probe.dns]]\nname = \"d\"\nservice = \"shop\"\ndomain = \"a.example\"\nexpect = \"192.0.2.\"\n"
                .to_owned(),
            "`192.0.2.` can't be the value of a record of type A",
        ),
        ("[watch]\nin_flight_max = 0\n".to_owned(), "out of range"),
    ];
    for (text, expect) in cases {
        let (_, mistakes) = read(&text);
        let told = mistakes.expect_err(&text);
        assert!(told.contains(expect), "`{expect}` in:\n{told}");
    }
}

/// What can't be opened on the machine that checks is said before the first question; a credential only where systemd has
/// handed over any.
#[test]
fn secrets_that_are_not_there_are_warned_of() {
    let text = "[[probe.http]]\nname = \"front\"\nservice = \"shop\"\nurl = \"http://shop.example/\"\n\
        headers = { X-Api-Key = { file = \"/nowhere/token\" }, Cookie = { credential = \"door\" } }\n";
    let mut document = Document::from_text("test", text);
    let config = Config::of_observers(&mut document, &[policy::Observer::named("local".parse().expect("a name"))]);
    let warnings = config.warnings();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(
        warning.starts_with(
            "probe `front`, on this machine: it can't ask, for the secret in /nowhere/token can't be used"
        ),
        "{warning}"
    );
}

/// A reload keeps the state of what says the same.
#[test]
fn the_same_words_are_the_same_probe() {
    let text = |every: &str| {
        format!("[[probe.http]]\nname = \"p\"\nservice = \"shop\"\nurl = \"http://a.example/\"\nevery = \"{every}\"\n")
    };
    let probe = |text: &str| Arc::clone(&read(text).0.probes[0]);
    let before = probe(&text("10 s"));
    assert!(probe(&text("10 s")).says_the_same(&before));
    assert!(!probe(&text("20 s")).says_the_same(&before));
    let tcp = "[[probe.tcp]]\nname = \"p\"\nservice = \"shop\"\naddress = \"a.example:80\"\nevery = \"10 s\"\n";
    assert!(!probe(tcp).says_the_same(&before), "another kind");
}

/// What is asked seldom makes verdicts lag, and is said.
#[test]
fn services_that_lag_are_warned_of() {
    let probe = |name: &str, service: &str, every: &str| {
        format!(
            "[[probe.tcp]]\nname = \"{name}\"\nservice = \"{service}\"\naddress = \"shop.example:1\"\nevery = \"{every}\"\n"
        )
    };
    let text = [
        probe("front", "shop", "1 min"),
        probe("deep", "shop", "1 h"),
        probe("deeper", "shop", "2 h"),
        probe("mail", "mail", "10 min"),
    ];
    let mut document = Document::from_text("test", &text.concat());
    let config = Config::of_observers(&mut document, &[policy::Observer::named("local".parse().expect("a name"))]);
    let warnings = config.warnings();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.starts_with("service `shop`: its probe `deeper` is asked every 2 h"), "{warning}");

    let text = "[[probe.host]]\nname = \"machine\"\nservice = \"shop\"\ndisks = [\"/proc\", \"/\"]\n";
    let mut document = Document::from_text("test", text);
    let config = Config::of_observers(&mut document, &[policy::Observer::named("local".parse().expect("a name"))]);
    let warnings = config.warnings();
    let of_disks: Vec<_> = warnings.iter().filter(|warning| warning.contains("disk of")).collect();
    assert!(matches!(of_disks[..], [warning] if warning.contains("/proc can't be looked at")), "{warnings:?}");
}
