//! The part of the policy that respond reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::Secrets;
use event::policy::{Applied, Text};
use event::{FindingId, HostId, ProbeId, PromiseId, ServiceId, Span, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use policy::{
    Document, EscalationName, Mistake, Nouns, Part, PersonName, Secret, Section, SectionDoc, Slot, Table, Url, Value,
};

use crate::act::{Channel, ChannelSettings, Language, Providers, Severity};
use crate::detect::alert::Source;
use crate::detect::desk::{ChannelRule, EscalationRule, PersonRule, Rules, StepRule, Target};
use crate::detect::places::Places;
use crate::people::{Escalation, Override, People};
use crate::source::journal::default_severity;

impl Value for Language {
    const SHAPE: &'static str = "a language: \"fr\" or \"en\"";
    const EXAMPLE: &'static str = "\"fr\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("fr", Self::Fr), ("en", Self::En)])
    }
}

/// A length of time for each severity.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct BySeverity {
    critical: Option<Span>,
    warning: Option<Span>,
    info: Option<Span>,
}

impl Section for BySeverity {
    const ABOUT: &'static str = "A length of time for each severity.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let critical = table.optional("critical", "for critical alerts");
        let warning = table.optional("warning", "for warnings");
        let info = table.optional("info", "for the rest");
        Some(Self { critical, warning, info })
    }
}

impl BySeverity {
    fn or(self, critical: Span, warning: Span, info: Span) -> BTreeMap<Severity, Span> {
        [
            (Severity::Critical, self.critical.unwrap_or(critical)),
            (Severity::Warning, self.warning.unwrap_or(warning)),
            (Severity::Info, self.info.unwrap_or(info)),
        ]
        .into()
    }
}

/// `[respond]`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Options {
    after: BySeverity,
    remind_every: BySeverity,
    acknowledged_for: Span,
    next_channel_after: Span,
    escalation: Option<EscalationName>,
    links: Option<Url>,
    weekly_test: Option<WeeklyTest>,
    heartbeat: Option<Secret>,
    hold_if_unreachable: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            after: BySeverity::default(),
            remind_every: BySeverity::default(),
            acknowledged_for: ACKNOWLEDGED_FOR,
            next_channel_after: NEXT_CHANNEL_AFTER,
            escalation: None,
            links: None,
            weekly_test: Some(WeeklyTest::default()),
            heartbeat: None,
            hold_if_unreachable: false,
        }
    }
}

const ACKNOWLEDGED_FOR: Span = Span::from_secs(4 * 3600);
const NEXT_CHANNEL_AFTER: Span = Span::from_secs(300);

impl Section for Options {
    const ABOUT: &'static str = "How alerts are told. By default a critical one is told at once, a warning when it has lasted a minute; what \
        nobody acknowledges is told on the person's next channel after five minutes, then to the next step of the escalation.";
    const EXAMPLE: &'static str = r#"
[respond]
after = { critical = "0 s", warning = "2 min", info = "10 min" }
remind_every = { critical = "1 h", warning = "24 h" }
links = "https://status.shop.example"
weekly_test = "Mon 10:00"
heartbeat = { file = "/etc/garant/heartbeat.url" }
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let after = table.optional(
            "after",
            "how long an alert lasts before anybody is told of it, so that a blip alerts nobody: `0 s` when critical, `1 min` for a \
             warning and `5 min` for the rest, if not said otherwise",
        );
        let remind_every = table.optional(
            "remind_every",
            "how often those who were told are reminded of what nobody has acknowledged: `1 h` when critical, `24 h` for a warning and \
             never for the rest; `0 s` is never",
        );
        let range = Span::from_secs(60)..=Span::from_days(7);
        let about = "how long an acknowledgement lasts: then the alert, if it still fires, is told again";
        let acknowledged_for = table.or_in("acknowledged_for", ACKNOWLEDGED_FOR, &range, about);
        let about = "how long nobody acknowledges before the person's next channel is tried";
        let next_channel_after = table.or_in("next_channel_after", NEXT_CHANNEL_AFTER, &range, about);
        let escalation = table.optional(
            "escalation",
            "the escalation of alerts whose service names none; the one called `default`, or everybody at once, when it is absent",
        );
        let links = table.optional(
            "links",
            "the address before `/a/…` of the links by which an alert is acknowledged, as telephones reach it: `url` of [pages] when \
             absent, and no links when that is absent too",
        );
        let weekly_test = table.or(
            "weekly_test",
            WeeklyTest::default(),
            "when whoever is on call gets a test message each week, which shows that the way to them works: a day and a time, or \
             \"never\"",
        );
        let heartbeat = table.optional(
            "heartbeat",
            "a secret URL that is asked for each minute while journal, judge and notifications work: a heartbeat of another garant, \
             or of Healthchecks, which alerts when this one is dead",
        );
        let hold_if_unreachable = table.or(
            "hold_if_unreachable",
            false,
            "what programs of the team are to do about messages to customers while they can't ask garant whether these are held: \
             `true` is to hold them. They learn it with each answer, and keep it",
        );
        Some(Self {
            after: after.unwrap_or_default(),
            remind_every: remind_every.unwrap_or_default(),
            acknowledged_for,
            next_channel_after,
            escalation,
            links,
            weekly_test: (!weekly_test.is_never()).then_some(weekly_test),
            heartbeat,
            hold_if_unreachable,
        })
    }
}

/// A day of the week and a time, in the zone at the top of the policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct WeeklyTest {
    /// 0 is Monday; 7 is never.
    day: u8,
    minute: u16,
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Default for WeeklyTest {
    fn default() -> Self {
        Self { day: 0, minute: 600 }
    }
}

impl WeeklyTest {
    const fn is_never(self) -> bool {
        self.day == 7
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "never" {
            return Some(Self { day: 7, minute: 0 });
        }
        let (day, time) = text.split_once(' ')?;
        let day = DAYS.iter().position(|name| *name == day)?;
        let (hours, minutes) = time.split_once(':')?;
        let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(hours) || !digits(minutes) {
            return None;
        }
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some(Self { day: u8::try_from(day).ok()?, minute: hours * 60 + minutes })
    }

    /// The last time at which a test was due before `at`, or then.
    fn last_before(self, at: Time, zone: &TimeZone) -> Option<Time> {
        let today = jiff::Timestamp::from_microsecond(at.micros()).ok()?.to_zoned(zone.clone()).date();
        let (hour, minute) = (i8::try_from(self.minute / 60).ok()?, i8::try_from(self.minute % 60).ok()?);
        (0..8)
            .filter_map(|days| today.checked_sub(jiff::Span::new().days(days)).ok())
            .filter(|date| u8::try_from(date.weekday().to_monday_zero_offset()) == Ok(self.day))
            .filter_map(|date| date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok())
            .map(|due| Time::from_micros(due.timestamp().as_microsecond()))
            .find(|due| *due <= at)
    }
}

impl std::str::FromStr for WeeklyTest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::parse(text).ok_or(())
    }
}

impl std::fmt::Display for WeeklyTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match DAYS.get(usize::from(self.day)) {
            Some(day) => write!(f, "{day} {:02}:{:02}", self.minute / 60, self.minute % 60),
            None => f.write_str("never"),
        }
    }
}

impl Value for WeeklyTest {
    const SHAPE: &'static str = "a day of the week and a time, or \"never\"";
    const EXAMPLE: &'static str = "\"Mon 10:00\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}

/// The keys of `[[person]]` that say how they are told.
#[derive(Debug)]
struct Receiver {
    name: PersonName,
    language: Language,
    channels: Vec<ChannelSettings>,
}

impl Section for Receiver {
    const ABOUT: &'static str = "How somebody of the team is told of alerts. Never public.";
    const EXAMPLE: &'static str = r#"
[[person]]
name = "Léa"
language = "fr"
channel = [{ mail = "lea@shop.example" }, { sms = "+33600000000", severity = ["critical"] }]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.required("name", "who");
        let language = table.or("language", Language::Fr, "the language of what they are sent");
        let channels = table.required_list("channel", "how they are reached, the first one first");
        Some(Self { name: name?, language, channels: channels? })
    }
}

impl std::fmt::Display for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fr => "fr",
            Self::En => "en",
        })
    }
}

/// The keys of a table that say how much its alerts matter, and what to do.
macro_rules! matters {
    ($($section:ident, $name:ty, $table:literal, $about:literal, $example:literal;)*) => {$(
        #[derive(Debug)]
        struct $section {
            name: $name,
            severity: Option<Severity>,
            runbook: Option<Text>,
        }

        impl Section for $section {
            const ABOUT: &'static str = $about;
            const EXAMPLE: &'static str = $example;

            fn read(table: &mut Table<'_>) -> Option<Self> {
                let name = table.required($table, "which");
                let severity = table.optional("severity", "how much its alerts matter");
                let runbook = table.optional("runbook", "what to do, in two languages, or a URL: stands in the message");
                Some(Self { name: name?, severity, runbook: runbook.map(|Runbook(text)| text) })
            }
        }
    )*};
}

matters! {
    ProbeMatters, ProbeId, "name", "What an alert of a probe says, in any table of probes.", "";
    FindingMatters, FindingId, "name", "What an alert of a finding says.",
        "[[finding]]\nname = \"disk-usage\"\nseverity = \"critical\"\nrunbook = \"https://wiki.shop.example/disk\"\n";
    PromiseMatters, PromiseId, "id", "What an alert of a promise says.", "";
}

/// Whether a promise says how soon somebody is told.
#[derive(Debug)]
struct Reaction(bool);

impl Section for Reaction {
    const ABOUT: &'static str = "";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let reactions: Vec<Telling> = table.list("reaction", "whether somebody is told");
        Some(Self(reactions.iter().any(|it| it.0)))
    }
}

/// Whether a reaction is that somebody is told, rather than that an offender is banned. What is wrong with it is for the promise
/// to say.
#[derive(Debug)]
struct Telling(bool);

impl Value for Telling {
    const SHAPE: &'static str = "a table";
    const EXAMPLE: &'static str = "{ }";

    fn read(slot: Slot<'_>) -> Option<Self> {
        let Answered(to) = if slot.is_table() { slot.table()? } else { return Some(Self(false)) };
        Some(Self(to.is_none_or(|word| word.0 != "offences")))
    }
}

/// What a reaction answers.
struct Answered(Option<Word>);

impl Section for Answered {
    const ABOUT: &'static str = "";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        Some(Self(table.optional("to", "what is answered")))
    }
}

/// A text, or nothing where there is something else.
struct Word(String);

impl Value for Word {
    const SHAPE: &'static str = "a text";
    const EXAMPLE: &'static str = "\"offences\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        if slot.is_text() { slot.text::<Self>().map(|text| Self(text.to_owned())) } else { None }
    }
}

/// The keys of `[[service]]` that say how its alerts are told.
#[derive(Debug)]
struct ServiceMatters {
    name: ServiceId,
    severity: Option<Severity>,
    runbook: Option<Text>,
    escalation: Option<EscalationName>,
}

impl Section for ServiceMatters {
    const ABOUT: &'static str = "How alerts of a service are told.";
    const EXAMPLE: &'static str = r#"
[[service]]
name = "shop"
severity = "critical"
escalation = "default"
runbook = { fr = "Redémarrer nginx : voir le wiki", en = "Restart nginx: see the wiki" }
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.required("name", "which");
        let severity = table.optional("severity", "how much it matters when it is down");
        let runbook = table.optional("runbook", "what to do, in two languages, or a URL: stands in the message");
        let escalation = table.optional("escalation", "who is told, and who else when nobody acknowledges");
        Some(Self { name: name?, severity, runbook: runbook.map(|Runbook(text)| text), escalation })
    }
}

/// A text in two languages, or one for both.
struct Runbook(Text);

impl Value for Runbook {
    const SHAPE: &'static str = "a text or a URL, or a table with `fr` and `en`";
    const EXAMPLE: &'static str = "\"https://wiki.shop.example/shop\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        if slot.is_table() {
            return slot.table::<Text>().map(Self);
        }
        String::read(slot).map(|text| Self(Text { fr: text.clone(), en: text }))
    }
}

/// The key `host` of any table of probes.
#[derive(Debug)]
struct ProbeHost {
    name: ProbeId,
    host: Option<HostId>,
}

impl Section for ProbeHost {
    const ABOUT: &'static str = "";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.required("name", "which");
        let host = table.optional("host", "the host that it is about");
        Some(Self { name: name?, host })
    }
}

/// `url` of `[pages]`.
#[derive(Debug)]
struct PagesUrl(Option<Url>);

impl Section for PagesUrl {
    const ABOUT: &'static str = "";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        Some(Self(table.optional("url", "where everybody finds the pages")))
    }
}

/// The names in `witness` of `[journal]`.
#[derive(Debug)]
struct Witnesses(Vec<WitnessName>);

impl Section for Witnesses {
    const ABOUT: &'static str = "";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        Some(Self(table.list("witness", "who cosigns the log")))
    }
}

/// The name in the key of one.
#[derive(Debug)]
struct WitnessName(String);

impl Section for WitnessName {
    const ABOUT: &'static str = "";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        // The name in its key is the one of its cosignatures.
        let vkey: Option<String> = table.required("vkey", "its key");
        vkey.map(|vkey| Self(vkey.split('+').next().unwrap_or_default().to_owned()))
    }
}

/// A program outside that may tell alerts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intake {
    /// Its name, which stands in keys of its alerts.
    pub name: String,
    /// Its token.
    pub token: Secret,
    /// Whether it may silence alerts.
    pub silences: bool,
}

impl Section for Intake {
    const ABOUT: &'static str = "A program that may tell alerts: a Prometheus, for which garant is an Alertmanager (`/api/v2/`), an \
        Alertmanager by its webhook (`/api/v1/intake/alertmanager`), or any other (`/api/v1/intake/alerts`). It sends the token, as a \
        bearer or as the password of basic authentication.";
    const EXAMPLE: &'static str = r#"
[[intake]]
name = "prometheus"
token = { file = "/etc/garant/prometheus.token" }
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name: Option<String> = table.required("name", "what its alerts are called after");
        let token = table.required("token", "the token that it sends");
        let silences = table.or(
            "silences",
            false,
            "whether it may silence alerts, all of them and not its own alone: for `amtool`, and not for a Prometheus",
        );
        let name = name?;
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            table.mistake("name", "not a name", "use 1 to 64 of the characters a-z A-Z 0-9 - _ .");
            return None;
        }
        Some(Self { name, token: token?, silences })
    }
}

/// What alerts are made of: places, severities, runbooks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Alerting {
    /// Where services run.
    pub places: Arc<Places>,
    severities: BTreeMap<String, Severity>,
    runbooks: BTreeMap<String, Text>,
    services_of: BTreeMap<PromiseId, BTreeSet<ServiceId>>,
}

impl Alerting {
    fn names<'a>(
        service: Option<&'a ServiceId>,
        probe: Option<&'a ProbeId>,
        finding: Option<&'a FindingId>,
        promise: Option<&'a PromiseId>,
    ) -> impl Iterator<Item = String> {
        // The most particular one first. A service that matters makes its probes matter, but not what is found beside.
        let is_finding = finding.is_some();
        let finding = finding.map(|finding| format!("finding/{finding}"));
        let probe = probe.filter(|_| !is_finding).map(|probe| format!("probe/{probe}"));
        let service = service.filter(|_| !is_finding).map(|service| format!("service/{service}"));
        let promise = promise.map(|promise| format!("promise/{promise}"));
        finding.into_iter().chain(probe).chain(service).chain(promise)
    }

    /// The severity of a condition.
    pub fn severity(
        &self,
        source: Source,
        service: Option<&ServiceId>,
        probe: Option<&ProbeId>,
        finding: Option<&FindingId>,
        promise: Option<&PromiseId>,
    ) -> Severity {
        // What the policy says of a probe, it says of its failure; what is merely slow or uncertain is a warning at most.
        let said = Self::names(service, probe, finding, promise).find_map(|name| self.severities.get(&name)).copied();
        let default = default_severity(source);
        match source {
            Source::Degraded | Source::Undecided => said.unwrap_or(default).min(default),
            _ => said.unwrap_or(default),
        }
    }

    /// What to do about a condition.
    pub fn runbook(
        &self,
        service: Option<&ServiceId>,
        probe: Option<&ProbeId>,
        finding: Option<&FindingId>,
        promise: Option<&PromiseId>,
    ) -> Option<Text> {
        Self::names(service, probe, finding, promise).find_map(|name| self.runbooks.get(&name)).cloned()
    }

    /// The services that a promise is about.
    pub fn services_of(&self, promise: &PromiseId) -> BTreeSet<ServiceId> {
        self.services_of.get(promise).cloned().unwrap_or_default()
    }

    /// Adds what the public form of the policy says: which promise is about which services.
    #[must_use]
    pub fn with(mut self, applied: &Applied) -> Self {
        let of_probe: BTreeMap<&str, &ServiceId> =
            applied.probes.iter().map(|probe| (probe.id.as_str(), &probe.service)).collect();
        for promise in &applied.promises {
            let mut services = BTreeSet::new();
            for clause in &promise.objectives {
                let Ok(clause) = serde_json::from_str::<serde_json::Value>(clause.json()) else { continue };
                let service = clause.get("service").and_then(|name| name.as_str()).and_then(|name| name.parse().ok());
                let probe = clause.get("probe").and_then(|name| name.as_str()).and_then(|name| of_probe.get(name));
                services.extend(service);
                services.extend(probe.map(|service| (*service).clone()));
            }
            self.services_of.insert(promise.id.clone(), services);
        }
        self
    }
}

/// The part of the policy for respond.
#[derive(Clone, Debug, Default)]
pub struct Config {
    options: Options,
    /// Places, severities, runbooks.
    pub alerting: Alerting,
    maintenance: Vec<(Vec<ServiceId>, event::Interval)>,
    receivers: Vec<Arc<Receiver>>,
    people: Arc<People>,
    escalation_of: BTreeMap<ServiceId, EscalationName>,
    providers: Arc<Providers>,
    /// Programs that may tell alerts.
    pub intakes: Vec<Intake>,
    zone: event::Zone,
    url: Option<Url>,
    witnesses: Vec<String>,
    promises_a_reaction: bool,
    /// Channels without a network, for tests.
    #[cfg(test)]
    pub(crate) fake: Option<FakeChannels>,
}

#[cfg(test)]
type MakeChannel = dyn Fn(&str, &'static str) -> Arc<dyn Channel> + Send + Sync;

/// Makes the channel of a person, by its kind.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct FakeChannels(pub(crate) Arc<MakeChannel>);

#[cfg(test)]
impl std::fmt::Debug for FakeChannels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeChannels")
    }
}

impl Part for Config {
    fn read(document: &mut Document, nouns: &Nouns) -> Self {
        let options: Options = document.table("respond").unwrap_or_default();
        let people = People::read(document);
        let receivers: Vec<Receiver> = document.tables("person");
        let services: Vec<ServiceMatters> = document.tables("service");
        let probes: Vec<ProbeMatters> = document.tables_under("probe");
        let hosts: Vec<ProbeHost> = document.tables_under("probe");
        let findings: Vec<FindingMatters> = document.tables("finding");
        let promises: Vec<PromiseMatters> = document.tables("promise");
        let promises_a_reaction = document.tables::<Reaction>("promise").iter().any(|it| it.0);
        let providers = Providers::read(document);
        let needed: BTreeSet<&str> =
            receivers.iter().flat_map(|receiver| &receiver.channels).filter_map(ChannelSettings::provider).collect();
        let missing: Vec<&str> =
            needed.into_iter().filter(|table| !document.has(table) && !document.is_broken()).collect();
        for table in missing {
            let remedy = format!("add a table [{table}]: it says through whom garant sends");
            let reason = format!("somebody is to be told by {table}, and there is no [{table}]");
            document.mistake(Mistake::new(document.place_of("person"), reason, remedy));
        }
        let intakes: Vec<Intake> = document.tables("intake");
        let mut names = BTreeSet::new();
        for intake in &intakes {
            if !names.insert(intake.name.as_str()) {
                let reason = format!("two [[intake]] are called `{}`", intake.name);
                let remedy = "give one of them another name: it stands in the keys of its alerts";
                document.mistake(Mistake::new(document.place_of("intake"), reason, remedy));
            }
        }
        let witnesses = document.table::<Witnesses>("journal").map(|it| it.0).unwrap_or_default();
        let url = document.table::<PagesUrl>("pages").and_then(|pages| pages.0);
        let probe_hosts = hosts.into_iter().filter_map(|probe| Some((probe.name, probe.host?))).collect();
        let mut alerting = Alerting { places: Arc::new(Places::new(nouns, probe_hosts)), ..Alerting::default() };
        let mut escalation_of = BTreeMap::new();
        let mut matters: Vec<(String, Option<Severity>, Option<Text>)> = Vec::new();
        for service in services {
            if let Some(escalation) = service.escalation {
                escalation_of.insert(service.name.clone(), escalation);
            }
            matters.push((format!("service/{}", service.name), service.severity, service.runbook));
        }
        matters
            .extend(probes.into_iter().map(|probe| (format!("probe/{}", probe.name), probe.severity, probe.runbook)));
        matters.extend(findings.into_iter().map(|it| (format!("finding/{}", it.name), it.severity, it.runbook)));
        matters.extend(promises.into_iter().map(|it| (format!("promise/{}", it.name), it.severity, it.runbook)));
        for (name, severity, runbook) in matters {
            alerting.severities.extend(severity.map(|severity| (name.clone(), severity)));
            alerting.runbooks.extend(runbook.map(|runbook| (name, runbook)));
        }
        Self {
            options,
            alerting,
            maintenance: nouns.maintenance.iter().map(|window| (window.services.clone(), window.interval)).collect(),
            receivers: receivers.into_iter().map(Arc::new).collect(),
            zone: people.zone.clone(),
            people: Arc::new(people),
            escalation_of,
            providers: Arc::new(providers),
            intakes,
            url,
            witnesses: witnesses.into_iter().map(|it| it.0).collect(),
            promises_a_reaction,
            #[cfg(test)]
            fake: None,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let secrets = Secrets::of_system();
        let channels = self.receivers.iter().flat_map(|receiver| &receiver.channels);
        let mut warnings: Vec<String> = channels.flat_map(|channel| channel.warnings(&secrets)).collect();
        warnings.extend(self.providers.warnings(&secrets));
        warnings.extend(self.people.warnings());
        let mut channels = self.receivers.iter().flat_map(|receiver| &receiver.channels).peekable();
        if channels.peek().is_some() {
            let channels: Vec<&ChannelSettings> = channels.collect();
            for severity in Severity::ALL {
                if channels.iter().all(|channel| !channel.takes(severity)) {
                    let word = severity.as_str();
                    warnings.push(format!(
                        "no channel of a [[person]] takes the severity \"{word}\": nobody is told of such alerts"
                    ));
                }
            }
        }
        let kept = self.intakes.iter().map(|intake| &intake.token).chain(self.options.heartbeat.as_ref());
        let here = kept.filter(|secret| matches!(secret, Secret::File(_)) || secrets.has_credentials());
        warnings.extend(here.filter_map(|secret| secrets.open_now(secret).err()).map(|error| error.to_string()));
        if self.receivers.is_empty() && self.promises_a_reaction {
            let why = "a promise says how soon somebody is told, and the policy has no [[person]] to tell";
            warnings.push(why.to_owned());
        }
        warnings
    }

    fn reference() -> Vec<SectionDoc> {
        let mut chapters =
            vec![SectionDoc::of::<Options>("respond", false), SectionDoc::of::<Receiver>("person", true)];
        chapters.extend(People::reference());
        chapters.extend(Providers::reference());
        chapters.push(SectionDoc::of::<ServiceMatters>("service", true));
        chapters.push(SectionDoc::of::<FindingMatters>("finding", true));
        chapters.push(SectionDoc::of::<Intake>("intake", true));
        chapters
    }
}

impl Config {
    /// Whether anybody is told of anything.
    pub fn tells_somebody(&self) -> bool {
        !self.receivers.is_empty()
    }

    /// The names of the witnesses that cosign the log.
    pub fn witnesses(&self) -> impl Iterator<Item = &str> {
        self.witnesses.iter().map(String::as_str)
    }

    /// The zone of all times that people read.
    pub fn zone(&self) -> &event::Zone {
        &self.zone
    }

    /// Who is on call, and how alerts escalate.
    pub fn people(&self) -> &Arc<People> {
        &self.people
    }

    /// The address before `/a/` of links, without its final `/`.
    pub fn links(&self) -> Option<String> {
        let url = self.options.links.as_ref().or(self.url.as_ref())?;
        Some(url.to_string().trim_end_matches('/').to_owned())
    }

    /// The secret URL that is asked for while everything works.
    pub fn heartbeat(&self) -> Option<&Secret> {
        self.options.heartbeat.as_ref()
    }

    /// Whether programs of the team are to hold messages to customers while they can't ask.
    pub fn holds_if_unreachable(&self) -> bool {
        self.options.hold_if_unreachable
    }

    /// The names of the people.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.receivers.iter().map(|receiver| receiver.name.as_str())
    }

    /// The channels of a person, by the identifiers of their rules.
    pub fn channels(&self, person: &str) -> Vec<(String, Arc<dyn Channel>)> {
        let receiver = self.receivers.iter().find(|receiver| receiver.name.as_str() == person);
        let Some(receiver) = receiver else { return Vec::new() };
        let channels = receiver.channels.iter();
        #[cfg(test)]
        if let Some(fake) = &self.fake {
            return channels.map(|settings| (settings.key(), (fake.0)(person, settings.kind()))).collect();
        }
        channels.filter_map(|settings| Some((settings.key(), settings.open(&self.providers)?))).collect()
    }

    /// What the desk needs to know. `overrides` gives those of the schedules that are in effect.
    pub fn rules(&self, overrides: Arc<dyn Fn() -> Vec<Override> + Send + Sync>) -> Rules {
        let everybody = || self.receivers.iter().map(|receiver| Target::Person(receiver.name.to_string())).collect();
        let mut escalations: BTreeMap<String, EscalationRule> =
            self.people.escalations.iter().map(|escalation| (escalation.name.to_string(), rule(escalation))).collect();
        let default = self.options.escalation.as_ref().map_or("default", EscalationName::as_str);
        let implied = || {
            let schedules: Vec<Target> =
                self.people.schedules.iter().map(|schedule| Target::Schedule(schedule.name.to_string())).collect();
            let everybody = StepRule { targets: everybody(), after: IMPLIED_ESCALATION_AFTER };
            let steps = match schedules.as_slice() {
                [] => vec![StepRule { after: Span::ZERO, ..everybody }],
                _ => vec![StepRule { targets: schedules, after: Span::ZERO }, everybody],
            };
            EscalationRule { steps, repeat: 0, repeat_after: Span::ZERO }
        };
        let of_all = escalations.get(default).cloned().unwrap_or_else(implied);
        escalations.insert(String::new(), of_all);
        let people = Arc::clone(&self.people);
        let on_call = move |schedule: &str, at: Time| {
            let Ok(name) = schedule.parse() else { return Vec::new() };
            let overrides = people.in_effect(&overrides());
            let shift = people.schedule(&name).and_then(|schedule| schedule.on_call(at, &overrides));
            shift.map(|shift| shift.person.to_string()).into_iter().collect()
        };
        let zone = TimeZoneDatabase::bundled().get(self.zone.name()).unwrap_or(TimeZone::UTC);
        let weekly = self.options.weekly_test;
        let weekly = weekly.filter(|_| self.tells_somebody());
        Rules {
            places: Arc::clone(&self.alerting.places),
            people: self.receivers.iter().map(|receiver| self.person(receiver)).collect(),
            escalations,
            escalation_of: self
                .escalation_of
                .iter()
                .map(|(service, name)| (service.clone(), name.to_string()))
                .collect(),
            after: self.options.after.or(Span::ZERO, Span::from_secs(60), Span::from_secs(300)),
            remind_every: self.options.remind_every.or(Span::from_secs(3600), Span::from_days(1), Span::ZERO),
            next_channel_after: self.options.next_channel_after,
            acknowledged_for: self.options.acknowledged_for,
            maintenance: self.maintenance.clone(),
            on_call: Arc::new(on_call),
            test_due: Arc::new(move |at| weekly?.last_before(at, &zone)),
        }
    }

    fn person(&self, receiver: &Receiver) -> PersonRule {
        let channels = receiver.channels.iter().map(|settings| {
            let severities = Severity::ALL.into_iter().filter(|severity| settings.takes(*severity)).collect();
            ChannelRule { id: settings.key(), kind: settings.kind().to_owned(), severities }
        });
        let (people, name) = (Arc::clone(&self.people), receiver.name.clone());
        PersonRule {
            name: receiver.name.to_string(),
            language: receiver.language,
            channels: channels.collect(),
            quiet_until: Arc::new(move |at| people.quiet_until(&name, at)),
        }
    }
}

/// Time after which everybody is told when whoever is on call does not acknowledge and the policy says nothing.
const IMPLIED_ESCALATION_AFTER: Span = Span::from_secs(900);

/// The steps with the time since the step before each, for the desk counts from there.
fn rule(escalation: &Escalation) -> EscalationRule {
    let mut before = Span::ZERO;
    let mut steps: Vec<StepRule> = Vec::new();
    for step in &escalation.steps {
        let schedules = step.schedules.iter().map(|name| Target::Schedule(name.to_string()));
        let people = step.people.iter().map(|name| Target::Person(name.to_string()));
        steps.push(StepRule { targets: schedules.chain(people).collect(), after: step.after - before });
        before = step.after;
    }
    EscalationRule { steps, repeat: escalation.repeat, repeat_after: escalation.repeat_after }
}

#[cfg(test)]
mod tests;
