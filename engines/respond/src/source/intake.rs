//! Alerts of programs outside: what they say, within bounds, as signals.
//!
//! **Problem.** Whoever has the token of an intake may be careless, or somebody else by now. What they send becomes keys, rows and
//! messages to people at night. **Principle.** Everything has a bound, and is refused with a reason or cut. Places are taken only
//! when the policy declares them, so that nobody outside invents a region; text is one line of characters that are shown. The key
//! of an alert begins with the name of its intake: nobody touches the alerts of another one, or garant's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use engine::printable::is_shown;
use event::policy::Text;
use event::{HostId, RegionId, ServiceId, Span};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::act::Severity;
use crate::config::Alerting;
use crate::detect::alert::{Opening, Signal, SignalState, Source};
use crate::detect::desk::Now;
use crate::detect::places::Places;

/// Most alerts of one request.
pub const ALERTS_MAX: usize = 2000;
/// Most alerts of one intake that fire at once.
pub const OPEN_MAX: usize = 10_000;
/// Most alerts of all intakes that fire at once: room is left for what garant sees itself.
pub const OPEN_OF_ALL_MAX: usize = 15_000;
/// Most labels, or annotations, of one alert.
pub const LABELS_MAX: usize = 64;
/// Longest name of a label, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest value of a label, in bytes.
const VALUE_BYTES_MAX: usize = 1024;
/// Longest JSON of all labels of an alert, in bytes: a row of the store holds them, with what is below.
const LABELS_BYTES_MAX: usize = 8 * 1024;
/// Longest JSON of all annotations that are kept, in bytes. What is beyond is left out.
const ANNOTATIONS_BYTES_MAX: usize = 16 * 1024;
/// Longest annotation, in characters. A longer one is cut.
const ANNOTATION_MAX: usize = 2000;
/// Longest title, in characters. A longer one is cut.
const TITLE_MAX: usize = 200;
/// Longest detail, in characters. A longer one is cut.
const DETAIL_MAX: usize = 1000;
/// Longest address, in bytes. A longer one is left out.
const URL_BYTES_MAX: usize = 2048;
/// Longest key of a plain alert, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// How far ahead an alert may end.
pub const LASTS_MAX: Span = Span::from_days(31);

/// What all keys of alerts from outside begin with.
pub const PREFIX: &str = "outside/";

/// The first part of the keys of an intake.
pub fn prefix(intake: &str) -> String {
    format!("{PREFIX}{intake}/")
}

/// The intake that a key is of.
pub fn intake_of(key: &str) -> Option<&str> {
    key.strip_prefix(PREFIX)?.split_once('/').map(|(intake, _)| intake)
}

/// A list of at most `MAX` elements. A longer one is refused before it takes memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtMost<T, const MAX: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for AtMost<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
            type Value = AtMost<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() == MAX {
                        return Err(A::Error::custom(format!(
                            "the list has more than {MAX} elements: send it in parts"
                        )));
                    }
                    elements.push(element);
                }
                Ok(AtMost(elements))
            }
        }
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

/// Labels or annotations: at most [`LABELS_MAX`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Labels(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {LABELS_MAX} names with their texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    pairs.insert(name, value);
                    if pairs.len() > LABELS_MAX {
                        return Err(A::Error::custom(format!("more than {LABELS_MAX} labels or annotations")));
                    }
                }
                Ok(Labels(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl Labels {
    /// The labels as they tell an alert from others: without those that are empty, which are as good as missing.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn sound(mut self) -> Result<BTreeMap<String, String>, String> {
        self.0.retain(|_, value| !value.is_empty());
        if self.0.is_empty() {
            return Err("it has no labels: at least one must tell it from others".to_owned());
        }
        for (name, value) in &self.0 {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_shown) {
                return Err(format!(
                    "the name of a label is not 1 to {NAME_BYTES_MAX} bytes of characters that are shown"
                ));
            }
            if value.len() > VALUE_BYTES_MAX {
                return Err(format!("the label `{name}` is longer than {VALUE_BYTES_MAX} bytes"));
            }
        }
        if json_bytes(&self.0) > LABELS_BYTES_MAX {
            return Err(format!("its labels are longer than {LABELS_BYTES_MAX} bytes"));
        }
        Ok(self.0)
    }

    /// The annotations, cut to what is kept.
    pub fn cut(self) -> BTreeMap<String, String> {
        let mut kept = BTreeMap::new();
        let mut room = ANNOTATIONS_BYTES_MAX;
        for (name, value) in self.0 {
            let value: String = value.chars().filter(|c| is_shown(*c) || *c == '\n').take(ANNOTATION_MAX).collect();
            let one = BTreeMap::from([(name, value)]);
            let bytes = json_bytes(&one);
            let Some((name, value)) = one.into_iter().next() else { continue };
            if name.len() > NAME_BYTES_MAX || bytes > room {
                continue;
            }
            room -= bytes;
            kept.insert(name, value);
        }
        kept
    }
}

fn json_bytes(pairs: &BTreeMap<String, String>) -> usize {
    serde_json::to_vec(pairs).map_or(usize::MAX, |json| json.len())
}

/// One line of characters that are shown, cut to so many.
pub fn line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if count > 0 && count < most {
            line.push(' ');
            count += 1;
        }
        for c in word.chars().filter(|c| is_shown(*c)) {
            if count >= most {
                line.push('…');
                return line;
            }
            line.push(c);
            count += 1;
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// An address that may stand in a message.
pub fn address(text: &str) -> Option<String> {
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    let sound = text.len() <= URL_BYTES_MAX && text.chars().all(|c| is_shown(c) && !c.is_whitespace());
    (is_web && sound).then(|| text.to_owned())
}

/// The severity that a word of theirs stands for; `None` for one that is unknown.
pub fn severity(word: &str) -> Option<Severity> {
    match word.trim().to_ascii_lowercase().as_str() {
        "critical" | "crit" | "page" | "error" | "err" | "fatal" | "emergency" | "disaster" | "p1" => {
            Some(Severity::Critical)
        }
        "warning" | "warn" | "major" | "minor" | "average" | "p2" | "p3" => Some(Severity::Warning),
        "info" | "information" | "informational" | "notice" | "debug" | "none" | "ok" | "low" | "p4" | "p5" => {
            Some(Severity::Info)
        }
        _ => None,
    }
}

/// The places of an alert that the policy declares.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Placed {
    service: Option<ServiceId>,
    hosts: BTreeSet<HostId>,
    region: Option<RegionId>,
}

impl Placed {
    fn of(service: Option<&str>, host: Option<&str>, region: Option<&str>, places: &Places) -> Self {
        let service = service.and_then(|name| name.parse().ok()).filter(|service| places.knows_service(service));
        let host = host.and_then(|name| known_host(name, places));
        let region = region.and_then(|name| name.parse().ok()).filter(|region| places.knows_region(region));
        let of_host = host.as_ref().and_then(|host| places.region_of_host(host)).cloned();
        let hosts: BTreeSet<HostId> = match (host, &service) {
            (Some(host), _) => [host].into(),
            (None, Some(service)) => places.hosts(service, None),
            (None, None) => BTreeSet::new(),
        };
        let of_service = service.as_ref().and_then(|service| places.region(service, &hosts));
        Self { service, hosts, region: of_host.or(region).or(of_service) }
    }

    fn fill(self, opening: Opening) -> Opening {
        Opening { services: self.service.into_iter().collect(), hosts: self.hosts, region: self.region, ..opening }
    }
}

/// The host of the policy that a name means: as it is, without the port that a Prometheus adds, or its first label.
fn known_host(name: &str, places: &Places) -> Option<HostId> {
    let without_port = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let first = without_port.split('.').next().unwrap_or_default();
    let known = |name: &str| name.parse().ok().filter(|host| places.knows_host(host));
    [name, without_port, first].into_iter().find_map(known)
}

fn alike(text: String) -> Text {
    Text { fr: text.clone(), en: text }
}

/// What is open, from its labels and annotations. Its times and addresses are the caller's.
pub fn opening(labels: BTreeMap<String, String>, annotations: Labels, alerting: &Alerting, now: Now) -> Opening {
    let label = |name: &str| labels.get(name).map(String::as_str);
    let annotation = |names: &[&str]| {
        let texts = names.iter().filter_map(|name| annotations.0.get(*name)).map(String::as_str);
        texts.map(str::trim).find(|text| !text.is_empty())
    };
    let placed = Placed::of(
        label("service"),
        label("host").filter(|name| known_host(name, &alerting.places).is_some()).or_else(|| label("instance")),
        label("region"),
        &alerting.places,
    );
    let service = placed.service.as_ref();
    let said = label("severity").and_then(severity);
    let what = label("alertname");
    let all = || {
        let pairs = labels.iter().filter(|(name, _)| *name != "alertname");
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(", ")
    };
    let title = match (annotation(&["summary", "title"]), what) {
        (Some(summary), _) => line(summary, TITLE_MAX),
        (None, Some(what)) => {
            let place = label("service").or_else(|| label("host")).or_else(|| label("instance"));
            line(&place.map_or_else(|| what.to_owned(), |place| format!("{what} ({place})")), TITLE_MAX)
        }
        (None, None) => line(&all(), TITLE_MAX),
    };
    let detail = annotation(&["description", "message"]).map_or_else(all, str::to_owned);
    let runbook = annotation(&["runbook_url", "runbook"]).map(|text| line(text, DETAIL_MAX)).map(alike);
    let bare = Opening {
        severity: said.unwrap_or_else(|| alerting.severity(Source::Outside, service, None, None, None)),
        // A full stop is the message's.
        title: alike(title.trim_end_matches('.').to_owned()),
        detail: line(&detail, DETAIL_MAX),
        runbook: runbook.or_else(|| alerting.runbook(service, None, None, None)),
        ..Opening::bare(Source::Outside, now.wall)
    };
    let bare = placed.fill(bare);
    Opening { labels, annotations: annotations.cut(), ..bare }
}

/// A plain alert, as a script writes it.
#[derive(serde::Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    key: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    severity: Option<String>,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    runbook: Option<String>,
    #[serde(default)]
    state: PlainState,
    #[serde(default)]
    expires_in: Option<String>,
}

/// What a plain alert says of its condition.
#[derive(Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum PlainState {
    /// It is open.
    #[default]
    Firing,
    /// It is over.
    Resolved,
}

impl Plain {
    /// Its state.
    pub const fn state(&self) -> PlainState {
        self.state
    }

    /// The key as it was written.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The signal, and what the sender should know besides.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn signal(self, intake: &str, alerting: &Alerting, now: Now) -> Result<(Signal, Vec<String>), String> {
        if self.key.is_empty() || self.key.len() > KEY_BYTES_MAX || !self.key.chars().all(is_shown) {
            return Err(format!(
                "`key` must be 1 to {KEY_BYTES_MAX} bytes on one line: it tells the alert from others"
            ));
        }
        let key = format!("{}{}", prefix(intake), crate::short_digest(&[b"key", self.key.as_bytes()]));
        if self.state == PlainState::Resolved {
            return Ok((Signal { key, state: SignalState::Over(now.wall) }, Vec::new()));
        }
        let title = line(self.title.as_deref().unwrap_or_default(), TITLE_MAX);
        if title.is_empty() {
            return Err("`title` is missing: say in one sentence what is wrong".to_owned());
        }
        let severity = match &self.severity {
            Some(word) => Some(severity(word).ok_or("`severity` must be critical, warning or info")?),
            None => None,
        };
        let until = match &self.expires_in {
            None => None,
            Some(text) => {
                let span = Span::parse(text).ok().filter(|span| *span > Span::ZERO && *span <= LASTS_MAX);
                let span = span.ok_or("`expires_in` must be a length of time of at most 31 days, such as \"2 h\"")?;
                Some(now.steady + span)
            }
        };
        let placed =
            Placed::of(self.service.as_deref(), self.host.as_deref(), self.region.as_deref(), &alerting.places);
        let mut labels = BTreeMap::from([("alertname".to_owned(), self.key)]);
        let mut warnings = Vec::new();
        for (name, value, known) in [
            ("service", &self.service, placed.service.is_some()),
            ("host", &self.host, self.host.as_ref().is_some_and(|name| known_host(name, &alerting.places).is_some())),
            ("region", &self.region, {
                let region = self.region.as_ref().and_then(|name| name.parse().ok());
                region.is_some_and(|region| alerting.places.knows_region(&region))
            }),
        ] {
            let Some(value) = value else { continue };
            let value = line(value, VALUE_BYTES_MAX / 4);
            if !known {
                warnings.push(format!("the policy declares no {name} `{value}`: the alert is not grouped by it"));
            }
            if !value.is_empty() {
                labels.insert(name.to_owned(), value);
            }
        }
        let service = placed.service.as_ref();
        let runbook = self.runbook.as_deref().map(|text| line(text, DETAIL_MAX)).filter(|text| !text.is_empty());
        let opening = Opening {
            severity: severity.unwrap_or_else(|| alerting.severity(Source::Outside, service, None, None, None)),
            title: alike(title.trim_end_matches('.').to_owned()),
            detail: line(self.detail.as_deref().unwrap_or_default(), DETAIL_MAX),
            runbook: runbook.map(alike).or_else(|| alerting.runbook(service, None, None, None)),
            until,
            ..Opening::bare(Source::Outside, now.wall)
        };
        let opening = Opening { labels, ..placed.fill(opening) };
        Ok((Signal { key, state: SignalState::Open(Box::new(opening)) }, warnings))
    }
}

#[cfg(test)]
pub(super) mod tests;
