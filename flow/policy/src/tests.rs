//! The crate as its users see it: what is read from a sound policy, and what is shown for one with mistakes.

mod mistakes;
mod mutations;
mod sample;

use event::policy::{Agreement, Text};
use event::{Interval, Ppb, Span, Time};

use crate::{Channel, Document, Mistakes, SectionDoc, Shared, reference};
use sample::{Availability, Probe, Promise};

/// Everything in a policy.
type All = (Shared, Vec<Probe>, Vec<Promise>);

fn read(text: &str) -> Result<All, Mistakes> {
    read_document(Document::from_text("garant.toml", text))
}

fn read_document(mut document: Document) -> Result<All, Mistakes> {
    let shared = Shared::read(&mut document);
    let probes = document.tables::<Probe>("probe.http");
    let promises = document.tables::<Promise>("promise");
    document.finish()?;
    Ok((shared.expect("no mistake, so it was read"), probes, promises))
}

#[test]
fn every_key_of_a_sound_policy_is_read() {
    let (shared, probes, promises) = read(sample::POLICY).expect("a sound policy");
    assert!(shared.publication.publish);
    assert_eq!(shared.journal.name.as_str(), "shop.example");
    assert_eq!(shared.journal.remember, [std::path::PathBuf::from("/mnt/elsewhere/garant.head")]);
    assert_eq!(shared.journal.witnesses[0].name, "friend");
    assert_eq!(shared.journal.witnesses[0].url.to_string(), "https://witness.example/");
    assert_eq!(shared.journal.retention.of(event::Retention::Evidence), Some(Span::from_days(1100)));
    assert_eq!(shared.pages.listen.to_string(), "127.0.0.1:8480");
    assert_eq!(shared.pages.public.map(|public| public.port()), Some(8443));
    assert_eq!(shared.regions[0].provider, "ovh");
    assert_eq!(shared.hosts[0].region.as_ref().map(event::RegionId::as_str), Some("gravelines"));
    let [database, shop] = shared.services.as_slice() else { panic!("{:?}", shared.services) };
    assert_eq!(
        database.title,
        Text { fr: "database".into(), en: "database".into() },
        "the name when there is no title"
    );
    assert_eq!(shop.title.fr, "La boutique");
    assert_eq!(shop.depends_on[0].value, database.id);
    assert_eq!(shared.observers[0].id.as_str(), "gravelines");
    assert_eq!(shared.people[0].name.as_str(), "Léa");
    assert_eq!(shared.people[0].channels[1], Channel::Sms("+33600000000".into()));
    let [from, to] = ["2026-12-01T01:00:00Z", "2026-12-01T03:00:00Z"].map(|t| Time::parse_rfc3339(t).expect("a time"));
    assert_eq!(shared.maintenance[0].interval, Interval::new(from, to), "a TOML date and a text read alike");
    assert_eq!(shared.maintenance[0].services, std::slice::from_ref(&shop.id), "a single value needs no brackets");

    let probe = &probes[0];
    assert_eq!((probe.id.as_str(), probe.service.as_str()), ("shop-health", "shop"));
    assert_eq!(probe.url.target(), "/health?deep=1");
    assert_eq!((probe.every, &probe.statuses[..]), (Span::from_secs(10), &[200, 204][..]));
    assert_eq!((&probe.from[0], probe.agreement), (&shared.observers[0].id, Some(Agreement::Any)));
    let over = vec![Span::from_days(180), Span::from_days(365)];
    assert_eq!(promises[0].id.as_str(), "AV-1");
    assert_eq!(promises[0].text.en, "The service is available 99.99 % of the time.");
    let availability = Availability { service: shop.id.clone(), at_least: Ppb::new(999_900_000), over };
    assert_eq!(promises[0].availability, [availability]);
}

#[test]
fn defaults_make_most_keys_unnecessary() {
    let (shared, probes, promises) = read(
        "[journal]\nname = 'shop.example'\n[[service]]\nname = 'shop'\n\
         [[probe.http]]\nservice = 'shop'\nurl = 'http://shop.example'\nfrom = 'local'\n",
    )
    .expect("a sound policy");
    assert!(!shared.publication.publish, "nothing is published until the policy says so");
    assert_eq!(shared.pages, crate::Pages::default());
    assert_eq!(shared.journal.retention, crate::RetentionPeriods::default());
    assert_eq!(shared.observers[0].id.as_str(), "local", "there is always an observer");
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
    SectionDoc::check::<crate::Journal>("journal", false).expect("the example of the journal");
    SectionDoc::check::<crate::Pages>("pages", false).expect("the example of the pages");
    SectionDoc::check::<crate::Region>("region", true).expect("the example of a region");
    SectionDoc::check::<crate::Host>("host", true).expect("the example of a host");
    SectionDoc::check::<crate::Service>("service", true).expect("the example of a service");
    SectionDoc::check::<crate::Maintenance>("maintenance", true).expect("the example of a maintenance");
    SectionDoc::check::<crate::Observer>("observer", true).expect("the example of an observer");
    SectionDoc::check::<crate::Person>("person", true).expect("the example of a person");
    assert_eq!(Shared::reference().len(), 9, "a chapter for each of these and for the top of the file");
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
    drop(Shared::read(&mut document));
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
    drop(Shared::read(&mut document));
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
fn the_reference_of_a_section() {
    insta::assert_snapshot!(reference(&[
        SectionDoc::of::<Probe>("probe.http", true),
        SectionDoc::of::<Promise>("promise", true)
    ]));
}
