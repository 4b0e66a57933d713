//! The desk in simulated time: a team with receivers that a test breaks and mends, and an inbox of what was accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use event::{ProbeId, ServiceId, Span, Time};
use policy::{Document, Nouns, Part as _};

use super::alert::{Opening, Signal, SignalState, Source};
use super::desk::{Desk, Note, Now, Rules};
use crate::act::{Delivery, Language, Sent, Severity, What};
use crate::compose::Composer;
use crate::config::Config;
use crate::link::Use;

mod causes;
mod failing;
mod outside;
mod people;
mod receipts;
mod restart;
mod storm;

/// A Tuesday, noon in Paris.
const START: Time = Time::from_secs(1_796_727_600);

/// Two people, of whom the first has a second channel, and a region with two hosts.
const POLICY: &str = r#"
time_zone = "Europe/Paris"
[respond]
weekly_test = "never"
[[person]]
name = "Léa"
language = "en"
quiet = ["22:00-07:00"]
channel = [{ mail = "lea@shop.example" }, { sms = "+33600000000", severity = ["critical"] }]
[[person]]
name = "Max"
language = "en"
channel = [{ mail = "max@shop.example" }]
[[escalation]]
name = "default"
step = [{ person = "Léa" }, { person = "Max", after = "15 min" }]
[mail]
from = "garant@shop.example"
server = "127.0.0.1"
security = "none"
[sms]
gateway = "kannel"
url = "http://127.0.0.1:13013/cgi-bin/sendsms"
username = "u"
password = "p"
[[region]]
name = "strasbourg"
provider = "ovh"
[[region]]
name = "gravelines"
provider = "ovh"
[[host]]
name = "web-1"
region = "strasbourg"
[[host]]
name = "web-2"
region = "strasbourg"
[[service]]
name = "shop"
host = ["web-1"]
depends_on = ["database"]
[[service]]
name = "blog"
host = ["web-1"]
[[service]]
name = "wiki"
host = ["web-2"]
[[service]]
name = "database"
host = ["web-2"]
[[service]]
name = "mail"
region = "gravelines"
"#;

/// What a receiver does with messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receiver {
    Well,
    Dead,
    Refusing,
}

/// A message that arrived.
#[derive(Clone, Debug)]
struct Arrived {
    at: Time,
    to: String,
    what: What,
    subject: String,
    text: String,
    id: String,
    link: bool,
    receipt: String,
}

struct Team {
    desk: Desk,
    rules: Arc<Rules>,
    now: Now,
    receivers: BTreeMap<String, Receiver>,
    inbox: Vec<Arrived>,
    notes: Vec<Note>,
    rows: BTreeMap<String, Vec<u8>>,
    random: u64,
}

fn rules(text: &str) -> Arc<Rules> {
    let mut document = Document::from_text("garant.toml", text);
    let nouns = Nouns::read(&mut document);
    let config = Config::read(&mut document, &nouns);
    Arc::new(config.rules(Arc::new(Vec::new)))
}

impl Team {
    fn new() -> Self {
        Self::with(POLICY)
    }

    fn with(policy: &str) -> Self {
        let rules = rules(policy);
        let now = Now { steady: START, wall: START };
        Self {
            desk: Desk::new(Arc::clone(&rules), "0123456789abcdef".to_owned(), "key".to_owned()),
            rules,
            now,
            receivers: BTreeMap::new(),
            inbox: Vec::new(),
            notes: Vec::new(),
            rows: BTreeMap::new(),
            random: 0,
        }
    }

    fn follow(&mut self, policy: &str) {
        self.rules = rules(policy);
        self.desk.follow(Arc::clone(&self.rules));
    }

    /// Sets what the channel of a person, such as `Léa mail`, does from now on.
    fn receiver(&mut self, of: &str, does: Receiver) {
        self.receivers.insert(of.to_owned(), does);
    }

    fn opening(&self, service: &str, severity: Severity) -> Opening {
        let service: ServiceId = service.parse().expect("a name");
        let places = &self.rules.places;
        let hosts = places.hosts(&service, None);
        let title = event::policy::Text { fr: format!("{service} : en panne"), en: format!("{service} is down") };
        Opening {
            severity,
            title,
            probe: Some(format!("{service}-answers").parse::<ProbeId>().expect("a name")),
            region: places.region(&service, &hosts),
            hosts,
            services: BTreeSet::from([service]),
            shown_by: Some(self.now.wall),
            ..Opening::bare(Source::Probe, self.now.wall)
        }
    }

    fn down(&mut self, service: &str) {
        self.fails(service, Severity::Critical);
    }

    fn fails(&mut self, service: &str, severity: Severity) {
        let state = SignalState::Open(Box::new(self.opening(service, severity)));
        self.desk.signal(Signal { key: format!("probe/{service}-answers"), state }, self.now);
    }

    fn up(&mut self, service: &str) {
        let state = SignalState::Over(self.now.wall);
        self.desk.signal(Signal { key: format!("probe/{service}-answers"), state }, self.now);
    }

    /// Turns, as the engine does, until nothing is to be sent.
    fn turn(&mut self) {
        for _ in 0..20 {
            if !self.step() {
                return;
            }
        }
        panic!("it sends without end: {:?}", self.inbox.last());
    }

    /// A turn: decide, write, send, mark. Whether anything was sent.
    fn step(&mut self) -> bool {
        self.desk.turn(self.now);
        let letters = self.desk.letters(self.now);
        self.write();
        let some = !letters.is_empty();
        for letter in letters {
            let kind = letter.channel.split('-').next().unwrap_or_default();
            let to = format!("{} {kind}", letter.person);
            let sent = match self.receivers.get(&to).copied().unwrap_or(Receiver::Well) {
                Receiver::Well => {
                    let composer = Composer {
                        desk: &self.desk,
                        zone: &event::Zone::default(),
                        links: Some("https://shop.example"),
                        now: self.now,
                    };
                    let message = composer.message(&letter, Language::En).expect("there is something to say");
                    self.inbox.push(Arrived {
                        at: self.now.steady,
                        to,
                        what: message.what,
                        subject: message.subject,
                        text: message.text,
                        id: message.id,
                        link: message.link.is_some(),
                        receipt: message.receipt,
                    });
                    Sent::Accepted { reference: None }
                }
                Receiver::Dead => Sent::Again { reason: "no answer".to_owned(), after: None },
                Receiver::Refusing => Sent::Refused { reason: "550".to_owned() },
            };
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.desk.sent(&letter, &sent, self.random, self.now);
        }
        self.write();
        some
    }

    fn write(&mut self) {
        self.notes.extend(self.desk.take_notes());
        for row in self.desk.take_rows() {
            match row {
                store::Row::Put { key, value } => drop(self.rows.insert(key, value)),
                store::Row::Delete { key } => drop(self.rows.remove(&key)),
            }
        }
    }

    /// Lets that much time pass.
    fn pass(&mut self, span: Span) {
        let end = self.now.steady + span;
        self.turn();
        while self.now.steady < end {
            let next = self.desk.wakes().unwrap_or(end).min(self.now.steady + Span::from_secs(5)).min(end);
            let by = next.since(self.now.steady).max(Span::from_millis(10));
            self.now = Now { steady: self.now.steady + by, wall: self.now.wall + by };
            self.turn();
        }
    }

    fn seconds(&mut self, seconds: i64) {
        self.pass(Span::from_secs(seconds));
    }

    /// The process ends, wherever it is, and starts again after that time; the wall clock is put `step` away.
    fn restart(&mut self, down: Span, step: Span) {
        let wall = self.now.wall + down + step;
        self.now = Now { steady: wall, wall };
        let rows = std::mem::take(&mut self.rows);
        self.desk = Desk::restore(Arc::clone(&self.rules), rows.clone(), self.now).expect("there was a desk");
        self.rows = rows;
    }

    /// What arrived since the last call, as `receiver: occasion`.
    fn arrived(&mut self) -> Vec<String> {
        let words = |arrived: Arrived| format!("{}: {:?}", arrived.to, arrived.what);
        std::mem::take(&mut self.inbox).into_iter().map(words).collect()
    }

    /// The number of the alert of a service.
    fn number(&self, service: &str) -> u64 {
        self.desk.find(&format!("probe/{service}-answers")).expect("it was opened").id
    }

    /// A gateway says what became of a message that arrived.
    fn receipt(&mut self, arrived: &Arrived, delivery: Delivery) {
        let (key, count) = Use::Receipt.read("key", &arrived.receipt).expect("made by the composer");
        self.desk.receipt(&key, count, delivery, self.now);
        self.write();
    }

    /// The states of the messages about a service, as `alerts --json` shows them.
    fn states(&self, service: &str) -> Vec<String> {
        let alert = self.desk.find(&format!("probe/{service}-answers")).expect("it was opened");
        let shown = crate::view::alert(&self.desk, alert, self.now);
        let word = |told: &serde_json::Value, key: &str| told[key].as_str().unwrap_or_default().to_owned();
        let told = shown["notified"].as_array().into_iter().flatten();
        told.map(|told| format!("{} {}: {}", word(told, "person"), word(told, "channel"), word(told, "state")))
            .collect()
    }

    fn acknowledge(&mut self, service: &str, by: &str) {
        self.desk.acknowledge(self.number(service), by, None, self.now).expect("it fires");
    }
}
