//! The crate as its users see it: what is read from a sound policy, and what is shown for one with mistakes.

mod mistakes;
mod mutations;
mod sample;

use event::policy::{Agreement, Text};
use event::{Interval, Ppb, Span, Time};

use crate::{Basics, Document, Mistakes, Nouns, SectionDoc, reference};
use sample::{Availability, Probe, Promise, Reached};

/// Everything in a policy.
type All = ((Nouns, Basics), Vec<Probe>, Vec<Promise>);

fn read(text: &str) -> Result<All, Mistakes> {
    read_document(Document::from_text("garant.toml", text))
}

fn read_document(mut document: Document) -> Result<All, Mistakes> {
    let (nouns, basics) = (Nouns::read(&mut document), Basics::read(&mut document));
    let probes = document.tables::<Probe>("probe.http");
    let promises = document.tables::<Promise>("promise");
    drop(document.tables::<Reached>("person"));
    document.finish()?;
    Ok(((nouns, basics.expect("no mistake, so it was read")), probes, promises))
}

#[test]
fn every_key_of_a_sound_policy_is_read() {
    let ((nouns, basics), probes, promises) = read(sample::POLICY).expect("a sound policy");
    assert!(basics.publication.publish);
    assert_eq!(basics.journal.name.as_str(), "shop.example");
    assert_eq!(basics.journal.remember, [std::path::PathBuf::from("/mnt/elsewhere/garant.head")]);
    assert_eq!(basics.journal.witnesses[0].name, "friend");
    assert_eq!(basics.journal.witnesses[0].url.to_string(), "https://witness.example/");
    assert_eq!(basics.journal.retention.of(event::Retention::Evidence), Some(Span::from_days(1100)));
    assert_eq!(basics.pages.listen.to_string(), "127.0.0.1:8480");
    assert_eq!(basics.pages.public.map(|public| public.port()), Some(8443));
    assert_eq!(nouns.regions[0].provider, "ovh");
    assert_eq!(nouns.hosts[0].region.as_ref().map(event::RegionId::as_str), Some("gravelines"));
    let [database, shop] = nouns.services.as_slice() else { panic!("{:?}", nouns.services) };
    assert_eq!(
        database.title,
        Text { fr: "database".into(), en: "database".into() },
        "the name when there is no title"
    );
    assert_eq!(database.hosts, [nouns.hosts[0].id.clone()]);
    assert_eq!(database.region, nouns.hosts[0].region);
    assert_eq!(nouns.hosts[0].groups.iter().map(crate::HostGroup::as_str).collect::<Vec<_>>(), ["web", "paris"]);
    assert_eq!(shop.title.fr, "La boutique");
    assert_eq!(shop.depends_on[0].value, database.id);
    assert_eq!(nouns.observers[0].id.as_str(), "gravelines");
    assert_eq!(nouns.people[0].name.as_str(), "Léa");
    let [from, to] = ["2026-12-01T01:00:00Z", "2026-12-01T03:00:00Z"].map(|t| Time::parse_rfc3339(t).expect("a time"));
    assert_eq!(nouns.maintenance[0].interval, Interval::new(from, to), "a TOML date and a text read alike");
    assert_eq!(nouns.maintenance[0].services, std::slice::from_ref(&shop.id), "a single value needs no brackets");

    let probe = &probes[0];
    assert_eq!((probe.id.as_str(), probe.service.as_str()), ("shop-health", "shop"));
    assert_eq!(probe.url.target(), "/health?deep=1");
    assert_eq!((probe.every, &probe.statuses[..]), (Span::from_secs(10), &[200, 204][..]));
    assert_eq!((&probe.from[0], probe.agreement), (&nouns.observers[0].id, Some(Agreement::Any)));
    let over = vec![Span::from_days(180), Span::from_days(365)];
    assert_eq!(promises[0].id.as_str(), "AV-1");
    assert_eq!(promises[0].text.en, "The service is available 99.99 % of the time.");
    let availability = Availability { service: shop.id.clone(), at_least: Ppb::new(999_900_000), over };
    assert_eq!(promises[0].availability, [availability]);
}

#[test]
fn defaults_make_most_keys_unnecessary() {
    let ((nouns, basics), probes, promises) = read(
        "[journal]\nname = 'shop.example'\n[[service]]\nname = 'shop'\n\
         [[probe.http]]\nservice = 'shop'\nurl = 'http://shop.example'\nfrom = 'local'\n",
    )
    .expect("a sound policy");
    assert!(!basics.publication.publish, "nothing is published until the policy says so");
    assert_eq!(basics.pages, crate::Pages::default());
    assert_eq!(basics.journal.retention, crate::RetentionPeriods::default());
    assert_eq!(nouns.observers[0].id.as_str(), "local", "there is always an observer");
    assert_eq!(probes[0].id.as_str(), "shop-http", "a name made from others");
    assert_eq!(probes[0].every, Span::from_secs(10));
    assert!(promises.is_empty());
}

#[test]
fn lines_that_move_change_nothing() {
    assert_eq!(read(sample::POLICY).ok(), read(&sample::POLICY.replace("\n[", "\n\n# moved\n[")).ok());
}

#[test]
fn examples_read_and_references_are_complete() {
    SectionDoc::check::<Probe>("probe.http", true).expect("the example of a probe");
    SectionDoc::check::<Promise>("promise", true).expect("the example of a promise");
    SectionDoc::check::<crate::JournalSettings>("journal", false).expect("the example of the journal");
    SectionDoc::check::<crate::Pages>("pages", false).expect("the example of the pages");
    SectionDoc::check::<crate::Region>("region", true).expect("the example of a region");
    SectionDoc::check::<crate::Host>("host", true).expect("the example of a host");
    SectionDoc::check::<crate::Service>("service", true).expect("the example of a service");
    SectionDoc::check::<crate::Maintenance>("maintenance", true).expect("the example of a maintenance");
    SectionDoc::check::<crate::Observer>("observer", true).expect("the example of an observer");
    SectionDoc::check::<crate::Person>("person", true).expect("the example of a person");
    assert_eq!(Nouns::reference().len() + Basics::reference().len(), 9, "a chapter for each of these and for the top");
}

/// JO-2: what is private is in no record, whatever way it was written, and a change of it can be told by who knows it.
#[test]
fn what_is_private_is_left_out() {
    let policy = r#"# Léa is away on Fridays: +33611111111
[journal]
name = 'shop.example' # lea@home.example
[[person]]
name = "Léa"
channel = [{ mail = 'lea@shop.example' }, { sms = """+33600000000""" }]
# [[person]]
# name = "Zoé"
[[host]]
name = "db-1"
[[region]]
name = "a#b"
provider = "ovh"
[pages]
url = "https://trust.shop.example/path?token=s3cret"
"#;
    let mut document = Document::from_text("garant.toml", policy);
    drop((Nouns::read(&mut document), Basics::read(&mut document), document.tables::<Reached>("person")));
    let mistakes = document.finish().expect_err("a name with `#`, on purpose: no comment");
    assert_eq!(mistakes.count(), 1, "{mistakes}");
    let mut told = Vec::new();
    let redacted = mistakes.sources().redacted(|secret| {
        told.push(secret.to_owned());
        format!("…{}", secret.len())
    });
    let expected = r#"# …
[journal]
name = 'shop.example' # …
[[person]]
name = "…6"
channel = [{ mail = "…18" }, { sms = "…18" }]
# …
# …
[[host]]
name = "db-1"
[[region]]
name = "a#b"
provider = "ovh"
[pages]
url = "https://trust.shop.example/path?…12"
"#;
    assert_eq!(redacted, [("garant.toml", expected.to_owned())]);
    assert!(told.contains(&"\"Léa\"".to_owned()) && told.contains(&"token=s3cret".to_owned()), "{told:?}");

    // An escape may hide where the public part ends, so nothing of such a value is public.
    let mut document = Document::from_text("garant.toml", r#"pages = { url = "https://x.example/\u003Ftoken" }"#);
    drop((Nouns::read(&mut document), Basics::read(&mut document)));
    let sources = document.finish().expect_err("no journal").sources().clone();
    assert_eq!(sources.redacted(|_| "…".into())[0].1, r#"pages = { url = "…" }"#);
}

#[test]
fn a_section_that_returns_early_is_found() {
    #[derive(Debug)]
    struct Hasty;
    impl crate::Section for Hasty {
        const ABOUT: &'static str = "";
        const EXAMPLE: &'static str = "[hasty]\na = 1\nb = 2";
        fn read(table: &mut crate::Table<'_>) -> Option<Self> {
            let _a: u16 = table.required("a", "first")?;
            table.required::<u16>("b", "never recorded").map(|_| Self)
        }
    }
    let mistakes = SectionDoc::check::<Hasty>("hasty", false).expect_err("`b` is missing from the reference");
    assert_eq!(mistakes.list()[0].remedy(), "ask for all keys first, use `?` after");
}

#[test]
fn a_key_with_two_meanings_is_found() {
    struct Torn;
    impl crate::Section for Torn {
        const ABOUT: &'static str = "";
        const EXAMPLE: &'static str = "[torn]\na = 1";
        fn read(table: &mut crate::Table<'_>) -> Option<Self> {
            let first: Option<u16> = table.required("a", "a port");
            let second: Option<u64> = table.required("a", "a number of bytes");
            first.and(second).map(|_| Self)
        }
    }
    let mistakes = SectionDoc::check::<Torn>("torn", false).expect_err("`a` is asked for twice");
    assert_eq!(mistakes.list()[0].reason(), "[torn] asks for `a` twice, perhaps with two meanings");
}

/// What another crate wants of each host.
#[derive(PartialEq, Debug)]
struct Shell {
    host: event::HostId,
    port: u16,
    group: Option<crate::HostGroup>,
    token: Option<crate::Secret>,
}

impl crate::Section for Shell {
    const ABOUT: &'static str = "";
    const EXAMPLE: &'static str = "[[host]]\nname = \"web-1\"\nport = 22\ntoken = { file = \"/etc/token\" }";

    fn read(table: &mut crate::Table<'_>) -> Option<Self> {
        let host = table.required("name", "which host");
        let port = table.required("port", "where its shell listens");
        let group = table.optional("beside", "a group whose hosts may use it");
        let token = table.optional("token", "what opens it");
        Some(Self { host: host?, port: port?, group, token })
    }
}

/// Reads the hosts twice, each reader for its own keys.
fn read_twice(text: &str) -> Result<(Vec<crate::Host>, Vec<Shell>), Mistakes> {
    let mut document = Document::from_text("garant.toml", text);
    let read = (document.tables("host"), document.tables("host"));
    document.finish()?;
    Ok(read)
}

#[test]
fn a_table_may_have_several_readers() {
    let sound =
        "[[host]]\nname = 'web-1'\ngroups = 'web'\nport = 22\nbeside = 'web'\ntoken = { credential = 'door' }\n";
    let (hosts, shells) = read_twice(sound).expect("every key has a reader");
    assert_eq!((&shells[0].host, shells[0].port), (&hosts[0].id, 22));
    assert_eq!(shells[0].group.as_ref(), hosts[0].groups.first());
    assert_eq!(shells[0].token, Some(crate::Secret::Credential("door".into())));
    SectionDoc::check::<Shell>("host", true).expect("an example needs the keys of its own reader only");

    for (line, with, expect) in [
        ("port = 22\n", "prt = 22\n", &["4:1 [[host]] has no key `prt` | did you mean `port`?"][..]),
        ("port = 22\n", "", &["1:1 [[host]] needs `port` | add port = 10: where its shell listens"]),
        ("name = 'web-1'\n", "", &["1:1 [[host]] needs `name` | add name = \"…\": what the team calls it"]),
        (
            "'web-1'",
            "7",
            &["2:8 `name` is a whole number, and should be the name of a host | write it like name = \"…\""],
        ),
        (
            "port",
            "colour = 1\nport",
            &["4:1 [[host]] has no key `colour` | it knows `name`, `region`, `groups`, `port`, `beside`, `token`"],
        ),
        (
            "beside = 'web'",
            "beside = 'wep'",
            &[
                "5:10 no host group is called `wep` | did you mean `web`? Otherwise declare it with `groups` in a [[host]]",
            ],
        ),
    ] {
        let mistakes = read_twice(&sound.replace(line, with)).expect_err(with);
        assert_eq!(mistakes::brief(&mistakes), expect, "{line} {with}");
    }
    let twice = format!("{sound}[[host]]\nname = 'web-1'\nport = 1\n");
    let mistakes = read_twice(&twice).expect_err("one name, two hosts");
    assert_eq!(mistakes::brief(&mistakes), ["8:8 two hosts are called `web-1` | call one of them something else"]);

    let chapter = reference(&[SectionDoc::of::<crate::Host>("host", true), SectionDoc::of::<Shell>("host", true)]);
    assert_eq!(chapter.matches("## `[[host]]`").count(), 1);
    assert_eq!(chapter.matches("| `name` |").count(), 1);
    assert!(chapter.contains("| `groups` |") && chapter.contains("| `token.credential` |"), "{chapter}");
}

#[test]
fn a_secret_is_kept_elsewhere() {
    let read = |token: &str| {
        let text = format!("[[host]]\nname = 'web-1'\nport = 22\ntoken = {token}\n");
        read_twice(&text).map(|(_, shells)| shells[0].token.clone().expect("given")).map_err(|m| mistakes::brief(&m))
    };
    assert_eq!(read("{ file = '/etc/token' }"), Ok(crate::Secret::File("/etc/token".into())));
    assert_eq!(read("{ credential = 'shop.token' }"), Ok(crate::Secret::Credential("shop.token".into())));
    for (wrong, expect) in [
        (
            "'s3cret'",
            "4:9 `token` is a secret, and the policy must hold none | write it into a file, and name it here: \
             { file = \"/etc/garant/token\" }, or { credential = \"token\" } for a credential of systemd",
        ),
        (
            "{}",
            "4:9 a secret that is kept nowhere | write { file = \"/etc/garant/token\" } or { credential = \"token\" }",
        ),
        ("{ file = '/a', credential = 'b' }", "4:37 one secret in two places | remove one of the two"),
        (
            "{ credential = '../log.key' }",
            "4:24 not the name of a credential | give the name that stands in LoadCredential= before the colon",
        ),
        ("{ file = 'token' }", "4:18 `token` is not an absolute path | start it with a `/`"),
        (
            "22",
            "4:9 `token` is a whole number, and should be where a secret is kept | write it like token = \
             { file = \"/etc/garant/token\" }",
        ),
    ] {
        assert_eq!(read(wrong), Err(vec![expect.to_owned()]), "{wrong}");
    }
}

#[test]
fn the_reference_of_a_section() {
    insta::assert_snapshot!(reference(&[
        SectionDoc::of::<Probe>("probe.http", true),
        SectionDoc::of::<Promise>("promise", true)
    ]));
}
