//! What every channel is asked for, over real servers on this machine.
//!
//! A channel that is added has its [`Subject`] here, and every test below is about it too. Serves RE-1: a message is sent, or it is
//! known that it was not.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::clock::SimClock;
use engine::net::{Net, NetOptions};
use engine::random::SeededRandom;
use engine::{Clock as _, Secrets};
use event::{Span, Time};
use policy::{Document, Section, Table};
use serde_json::json;

use super::{CHANNEL_KINDS, Channel, ChannelSettings, Language, Means, Message, Providers, Sent, Severity, What};
use server::{Behaviour, Recorded, Speaks, TestServer};
use subjects::{SUBJECTS, Subject};

mod server;
mod subjects;

/// 2026-11-22T23:00:00Z, the time in these tests.
const NOW: Time = Time::from_secs(1_795_388_400);

/// In every secret file, in every URL that is one, and in every address of a person.
const SECRETS: [&str; 4] = ["s3cret", "hook-path", "lea@", "33612345678"];

/// A message that fires, in French.
pub(super) fn sample() -> Message {
    message("m-1", Language::Fr)
}

/// A message of the shape that the desk composes.
fn message(id: &str, language: Language) -> Message {
    let (subject, text) = match language {
        Language::Fr => ("shop est en panne", "Le service shop ne répond plus.\nDepuis 23:00, vu de Gravelines."),
        Language::En => ("shop is down", "The service shop no longer answers.\nSince 23:00, seen from Gravelines."),
    };
    Message {
        id: id.to_owned(),
        thread: "thread-1".to_owned(),
        what: What::Firing,
        severity: Severity::Critical,
        language,
        subject: subject.to_owned(),
        short: subject.to_owned(),
        text: text.to_owned(),
        link: Some("https://trust.shop.example/a/abc123".to_owned()),
        runbook: Some("https://wiki.shop.example/shop".to_owned()),
        fields: json!({ "alert": "a-1", "key": "probe/shop", "state": "firing" }),
        receipt: "1.p-0a1b2c3d.sms-1.0.abc".to_owned(),
    }
}

/// A person with one channel, and what it is made of.
struct Person {
    settings: ChannelSettings,
    providers: Providers,
}

/// `channel` of a `[[person]]`, as the part of the policy reads it.
struct Channels(Vec<ChannelSettings>);

impl Section for Channels {
    const ABOUT: &'static str = "";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        table.required_list("channel", "how they are reached").map(Self)
    }
}

fn read(text: &str) -> Result<(Vec<ChannelSettings>, Providers), String> {
    let mut document = Document::from_text("test", text);
    let people: Vec<Channels> = document.tables("person");
    let providers = Providers::read(&mut document);
    document.finish().map_err(|mistakes| mistakes.render(false))?;
    Ok((people.into_iter().flat_map(|person| person.0).collect(), providers))
}

/// The world of one test.
struct World {
    folder: tempfile::TempDir,
    clock: Arc<SimClock>,
    net: Net,
    secrets: Secrets,
    random: SeededRandom,
}

impl World {
    fn new() -> Self {
        Self::reaching(&["127.0.0.0/8"])
    }

    /// A world in which notifications may go to these addresses.
    fn reaching(ranges: &[&str]) -> Self {
        let clock = Arc::new(SimClock::starting_at(NOW));
        let notifications_may_reach = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        let options = NetOptions { notifications_may_reach, ..NetOptions::default() };
        let net = Net::new(&options, clock.clone()).expect("a network");
        let folder = tempfile::tempdir().expect("a folder");
        let random = SeededRandom::new(1);
        Self { folder, clock, net, secrets: Secrets::default(), random }
    }

    fn means(&self) -> Means<'_> {
        Means { net: &self.net, secrets: &self.secrets, clock: &*self.clock, random: &self.random }
    }

    /// `{ file = "…" }` of a new secret.
    fn keep(&self, name: &str, secret: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path().join(name);
        std::fs::write(&path, secret).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        format!("{{ file = \"{}\" }}", path.display())
    }

    fn person(&self, subject: &Subject, server: &TestServer) -> Person {
        let text = (subject.policy)(self, &server.address.to_string());
        let (settings, providers) = read(&text).unwrap_or_else(|mistakes| panic!("{}: {mistakes}", subject.name));
        let [settings] = &settings[..] else { panic!("one channel") };
        Person { settings: settings.clone(), providers }
    }

    fn channel(&self, subject: &Subject, server: &TestServer) -> Arc<dyn Channel> {
        let Person { settings, providers } = self.person(subject, server);
        settings.open(&providers).expect("has its provider")
    }

    /// Sends one message to a server that behaves so.
    async fn sent(&self, subject: &Subject, behaviour: Behaviour) -> (Sent, Vec<Recorded>) {
        let server = TestServer::start(subject.speaks, behaviour).await;
        let channel = self.channel(subject, &server);
        let sent = channel.send(&message("m-1", Language::Fr), None, self.means()).await;
        (sent, server.recorded())
    }
}

fn reason(sent: &Sent) -> &str {
    match sent {
        Sent::Accepted { .. } => "",
        Sent::Again { reason, .. } | Sent::Refused { reason } => reason,
    }
}

#[test]
fn every_kind_has_its_subject() {
    let subjects: BTreeSet<&str> = SUBJECTS.iter().map(|subject| subject.kind).collect();
    assert_eq!(subjects, CHANNEL_KINDS.iter().copied().collect());
}

/// Accepted is said when the server has taken it over, and what it got is what was to be said.
#[tokio::test]
async fn a_message_arrives_in_both_languages() {
    let world = World::new();
    for subject in SUBJECTS {
        let server = TestServer::start(subject.speaks, Behaviour::Accept).await;
        let channel = world.channel(subject, &server);
        assert_eq!(channel.kind(), subject.kind);
        for (language, words) in [
            (Language::Fr, ["shop est en panne", "Prendre en charge :", "https://trust.shop.example/a/abc123"]),
            (Language::En, ["shop is down", "Acknowledge:", "https://trust.shop.example/a/abc123"]),
        ] {
            let sent = channel.send(&message("m-1", language), None, world.means()).await;
            assert!(matches!(sent, Sent::Accepted { .. }), "{}: {sent:?}", subject.name);
            let recorded = server.recorded();
            let [recorded] = &recorded[..] else { panic!("{}: one message, not {}", subject.name, recorded.len()) };
            let text = (subject.text)(recorded);
            for word in words.iter().filter(|word| subject.labels || !word.ends_with(':')) {
                assert!(text.contains(word), "{}: no {word:?} in {text}", subject.name);
            }
        }
    }
}

/// What is wrong with the message or its address is refused, with what to do; what may pass is tried again.
#[tokio::test]
async fn refused_and_not_now_are_told_apart() {
    let world = World::new();
    for subject in SUBJECTS {
        let (sent, _) = world.sent(subject, Behaviour::Refuse).await;
        assert!(matches!(&sent, Sent::Refused { reason } if reason.contains(": ")), "{}: {sent:?}", subject.name);
        let (sent, _) = world.sent(subject, Behaviour::Busy).await;
        let Sent::Again { after, .. } = sent else { panic!("{}: {sent:?}", subject.name) };
        let expected = (subject.speaks == Speaks::Http).then_some(Span::from_secs(30));
        assert_eq!(after, expected, "{}", subject.name);
        let (sent, _) = world.sent(subject, Behaviour::Broken).await;
        assert!(matches!(sent, Sent::Again { after: None, .. }), "{}: {sent:?}", subject.name);
    }
}

/// A server that takes the request and never answers, one that breaks off, and one that is not there.
#[tokio::test]
async fn a_server_that_hangs_or_breaks_off_is_tried_again() {
    for subject in SUBJECTS {
        let world = World::new();
        for cut in [Behaviour::Cut, Behaviour::Nonsense] {
            let (sent, _) = world.sent(subject, cut).await;
            assert!(matches!(sent, Sent::Again { .. }), "{} {cut:?}: {sent:?}", subject.name);
        }
        let server = TestServer::gone().await;
        let sent = world.channel(subject, &server).send(&message("m-1", Language::Fr), None, world.means()).await;
        assert!(matches!(&sent, Sent::Again { reason, .. } if reason.contains("nobody listens")), "{sent:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_within_thirty_seconds() {
    for subject in SUBJECTS {
        for behaviour in [Behaviour::Hang, Behaviour::HangAtOnce] {
            let world = World::new();
            let server = TestServer::start(subject.speaks, behaviour).await;
            let channel = world.channel(subject, &server);
            let message = message("m-1", Language::Fr);
            let (sent, waited) = tokio::join!(channel.send(&message, None, world.means()), async {
                server.is_hanging().await;
                // From here on the time passes by itself, to the next timer.
                tokio::time::pause();
                world.clock.now()
            });
            let took = world.clock.now().since(waited);
            tokio::time::resume();
            assert!(
                matches!(&sent, Sent::Again { reason, .. } if reason.contains("not done")),
                "{}: {sent:?}",
                subject.name
            );
            assert!(took <= Span::from_secs(30), "{}: {took}", subject.name);
        }
    }
}

/// Another attempt, a minute later, is the same message to who looks at its identifier; another message is not.
#[tokio::test]
async fn an_attempt_is_known_again_and_a_thread_hangs_together() {
    for subject in SUBJECTS {
        let world = World::new();
        let server = TestServer::start(subject.speaks, Behaviour::Accept).await;
        let channel = world.channel(subject, &server);
        let first = message("m-1", Language::Fr);
        let mut identities = Vec::new();
        let mut references = Vec::new();
        for _ in 0..2 {
            let sent = channel.send(&first, None, world.means()).await;
            let Sent::Accepted { reference } = sent else { panic!("{}: {sent:?}", subject.name) };
            references.push(reference);
            identities.extend(server.recorded().iter().map(|recorded| (subject.identity)(recorded)));
            world.clock.step(Span::from_secs(60));
        }
        assert_eq!(identities[0], identities[1], "{}", subject.name);
        assert!(!identities[0].is_empty(), "{}", subject.name);
        let reference = references[0].as_deref();
        let later = Message { what: What::Resolved, ..message("m-2", Language::Fr) };
        let sent = channel.send(&later, reference, world.means()).await;
        let Sent::Accepted { reference: of_later } = sent else { panic!("{}: {sent:?}", subject.name) };
        let recorded = server.recorded();
        assert_ne!((subject.identity)(&recorded[0]), identities[0], "{}", subject.name);
        if let Some(thread) = subject.thread {
            let expected = reference.unwrap_or("thread-1");
            assert_eq!(thread(&recorded[0]).as_deref(), Some(expected), "{}", subject.name);
            assert_eq!(of_later.as_deref(), reference, "{}: the thread keeps its reference", subject.name);
        }
        // A reference that can't be one of ours is not believed.
        let forged = "<a@b>\r\nBcc: evil@x.example";
        let sent = channel.send(&later, Some(forged), world.means()).await;
        assert!(matches!(sent, Sent::Accepted { .. }), "{}: {sent:?}", subject.name);
        assert!(!server.recorded()[0].head.contains("evil@"), "{}", subject.name);
    }
}

/// Whatever goes wrong: no secret, no address of a person, and nothing that the server has said.
#[tokio::test]
async fn no_text_holds_a_secret() {
    let world = World::reaching(&["127.0.0.0/8"]);
    for subject in SUBJECTS {
        let mut texts = Vec::new();
        for behaviour in [Behaviour::Refuse, Behaviour::Busy, Behaviour::Broken, Behaviour::Cut, Behaviour::Nonsense] {
            let (sent, _) = world.sent(subject, behaviour).await;
            texts.push(format!("{sent:?}"));
        }
        let server = TestServer::gone().await;
        let person = world.person(subject, &server);
        let channel = person.settings.open(&person.providers).expect("has its provider");
        texts.push(format!("{:?}", channel.send(&message("m-1", Language::Fr), None, world.means()).await));
        texts.push(format!("{channel:?} {:?} {:?}", person.settings, person.providers));
        texts.push(person.settings.key());
        texts.extend(person.settings.warnings(&world.secrets));
        texts.extend(person.providers.warnings(&world.secrets));
        for text in &texts {
            for secret in SECRETS {
                // The names of the files are none.
                let told = text.replace(&world.folder.path().display().to_string(), "");
                assert!(!told.contains(secret), "{}: {secret:?} in {text}", subject.name);
            }
            assert!(!text.contains("said by the server"), "{}: {text}", subject.name);
        }
    }
}

/// A secret that can't be opened holds the message back; it says which, and what to do.
#[tokio::test]
async fn a_secret_that_can_not_be_opened_holds_the_message_back() {
    for subject in SUBJECTS.iter().filter(|subject| subject.has_secret) {
        let world = World::new();
        let server = TestServer::start(subject.speaks, Behaviour::Accept).await;
        let person = world.person(subject, &server);
        for entry in std::fs::read_dir(world.folder.path()).expect("a folder") {
            std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
        }
        let channel = person.settings.open(&person.providers).expect("has its provider");
        let sent = channel.send(&message("m-1", Language::Fr), None, world.means()).await;
        assert!(matches!(&sent, Sent::Again { .. }), "{}: {sent:?}", subject.name);
        assert!(reason(&sent).contains("it is not there; write it"), "{}: {sent:?}", subject.name);
        assert!(server.recorded().is_empty(), "{}", subject.name);
        let warnings = [person.settings.warnings(&world.secrets), person.providers.warnings(&world.secrets)].concat();
        assert!(warnings.iter().any(|warning| warning.contains("it is not there")), "{}: {warnings:?}", subject.name);
    }
}

/// Control characters begin no field and no second message, and a long text is bounded.
#[tokio::test]
async fn hostile_texts_are_harmless() {
    let world = World::new();
    let evil = "x\r\n.\r\nBcc: evil@x.example\r\n\r\n\0\u{1b}[31m\u{202e}<!channel> @all {to} \"}";
    for subject in SUBJECTS {
        for text in [evil.to_owned(), evil.repeat(100_000 / evil.len()), "é’œ ".repeat(30_000), "=".repeat(100_000)]
        {
            let hostile = Message {
                subject: text.clone(),
                short: text.clone(),
                runbook: Some(text.clone()),
                fields: json!({ "text": text }),
                text,
                ..message("m-1", Language::Fr)
            };
            let server = TestServer::start(subject.speaks, Behaviour::Accept).await;
            let sent = world.channel(subject, &server).send(&hostile, None, world.means()).await;
            assert!(matches!(sent, Sent::Accepted { .. }), "{}: {sent:?}", subject.name);
            let recorded = server.recorded();
            let [recorded] = &recorded[..] else { panic!("{}: {} messages", subject.name, recorded.len()) };
            let head = recorded.head.to_ascii_lowercase();
            assert!(!head.lines().any(|line| line.starts_with("bcc:")), "{}: {head}", subject.name);
            assert!(recorded.body.len() <= 400 * 1024, "{}: {} bytes", subject.name, recorded.body.len());
            let text = (subject.text)(recorded);
            let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(harmful), "{}: {text:?}", subject.name);
            assert!(text.contains("https://trust.shop.example/a/abc123"), "{}: the link is lost", subject.name);
        }
    }
}

/// Nothing is sent to where a redirect leads.
#[tokio::test]
async fn redirects_are_not_followed() {
    let world = World::new();
    for subject in SUBJECTS.iter().filter(|subject| subject.speaks == Speaks::Http) {
        let elsewhere = TestServer::start(Speaks::Http, Behaviour::Accept).await;
        let (sent, _) = world.sent(subject, Behaviour::Redirect(elsewhere.address)).await;
        assert!(reason(&sent).contains("redirects are not followed"), "{}: {sent:?}", subject.name);
        assert!(elsewhere.recorded().is_empty(), "{}", subject.name);
    }
}

/// Addresses inside are reached only if the policy says so; a mail server on this machine is.
#[tokio::test]
async fn addresses_inside_are_not_reached() {
    let world = World::reaching(&["127.9.0.0/16"]);
    for subject in SUBJECTS {
        let (sent, recorded) = world.sent(subject, Behaviour::Accept).await;
        if subject.speaks == Speaks::Smtp {
            assert!(matches!(sent, Sent::Accepted { .. }), "{}: {sent:?}", subject.name);
            continue;
        }
        assert!(matches!(sent, Sent::Refused { .. }), "{}: {sent:?}", subject.name);
        assert!(reason(&sent).contains("`notifications_may_reach` in [network]"), "{}: {sent:?}", subject.name);
        assert!(recorded.is_empty(), "{}", subject.name);
    }
}

/// Another place is another channel, whatever else stands in the policy; and the key tells nobody where it leads.
#[test]
fn keys_stay_with_their_address() {
    let (settings, _) = read(
        r#"
[[person]]
channel = [
  { mail = "lea@shop.example" },
  { mail = "lea@shop.example", severity = ["critical"] },
  { mail = "tom@shop.example" },
  { webhook = "https://hooks.shop.example/a" },
]
"#,
    )
    .expect("sound");
    let keys: Vec<String> = settings.iter().map(ChannelSettings::key).collect();
    assert_eq!(keys[0], keys[1]);
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(keys[0].starts_with("mail-") && keys[3].starts_with("webhook-"));
    assert!(settings[0].takes(Severity::Info) && settings[1].takes(Severity::Critical));
    assert!(!settings[1].takes(Severity::Warning));
    assert_eq!((settings[0].provider(), settings[3].provider()), (Some("mail"), None));
    assert!(settings[0].open(&Providers::default()).is_none());
}

/// Mistakes are shown where they are, with what to write.
#[test]
fn mistakes_say_what_to_write() {
    for (channel, said) in [
        ("{ }", "a channel without an address"),
        ("{ mail = \"lea@shop.example\", webhook = \"https://x.example\" }", "one channel with two addresses"),
        ("{ mail = \"lea\" }", "write it like \"lea@shop.example\""),
        ("{ mail = \"lea@shop.example\", secret = { file = \"/s\" } }", "`secret` is for a webhook"),
        ("{ webhook = \"ftp://x.example\" }", "is not an HTTP URL"),
        ("{ webhook = \"https://x.example\", secret = \"s3cret\" }", "the policy must hold none"),
        ("{ mail = \"lea@shop.example\", severity = \"urgent\" }", "\"critical\""),
        ("{ mial = \"lea@shop.example\" }", "did you mean `mail`?"),
    ] {
        let mistakes = read(&format!("[[person]]\nchannel = [{channel}]\n")).map(drop).expect_err(channel);
        assert!(mistakes.contains(said), "{channel}: {mistakes}");
    }
    for (mail, said) in [
        ("server = \"localhost:25\"\n", "add from = "),
        (
            "server = \"mx.x.fr:25\"\ntls = \"none\"\nfrom = \"a@x.fr\"\nuser = \"a\"\npassword = { file = \"/p\" }",
            "in clear",
        ),
        ("server = \"mx.x.fr:25\"\nfrom = \"a@x.fr\"\nuser = \"a\"", "add `password`"),
        ("server = \"mx.x.fr:25\"\nfrom = \"a@x.fr\"\ntls = \"ssl\"", "\"starttls\""),
        ("server = \"mx.x.fr:25\"\nfrom = \"a@x.fr\"\ntimeout = \"1 min\"", "out of range"),
        (
            "server = \"mx.x.fr:25\"\nfrom = \"a@x.fr\"\ndkim = { domain = \"y.fr\", selector = \"s\", key = { file = \"/k\" } }",
            "not the domain of the sender",
        ),
    ] {
        let mistakes = read(&format!("[mail]\n{mail}\n")).map(drop).expect_err(mail);
        assert!(mistakes.contains(said), "{mail}: {mistakes}");
    }
}
