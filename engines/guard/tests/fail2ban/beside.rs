//! A filter of garant beside that of fail2ban.

use std::collections::BTreeMap;
use std::net::IpAddr;

use event::{Span, Time, Zone};
use garant_guard::fail2ban::filter::{Filter, FilterSettings, LineError, Match, Names, Value as Field};
use garant_guard::fail2ban::{FilterDefinition, UseDns};
use serde_json::{Value, json};

use crate::oracle::{Answer, Found, STARTED};

/// Names that both know.
pub(crate) struct Known(pub(crate) BTreeMap<String, Vec<IpAddr>>);

impl Names for Known {
    fn addresses(&mut self, name: &str) -> Vec<IpAddr> {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

/// The settings of the sample suite.
pub(crate) fn sample_settings() -> FilterSettings {
    FilterSettings {
        check_all_regex: true,
        raw_host: true,
        check_find_time: false,
        ..FilterSettings::new(zone(), Time::from_secs(STARTED))
    }
}

/// The same settings for fail2ban.
pub(crate) fn told(settings: &FilterSettings) -> Value {
    json!({
        "use_dns": match settings.use_dns { UseDns::Yes => "yes", UseDns::Warn => "warn", UseDns::No => "no", UseDns::Raw => "raw" },
        "check_all_regex": settings.check_all_regex,
        "raw_host": settings.raw_host,
        "check_find_time": settings.check_find_time,
        "find_time": settings.find_time.secs(),
        "in_operation": settings.in_operation,
        "ignore_pending": settings.ignore_pending,
        "zone": settings.zone.name(),
        "log_time_zone": settings.log_zone,
    })
}

/// The filter of a definition.
pub(crate) fn compile(definition: &FilterDefinition, settings: &FilterSettings) -> Filter {
    let filter = Filter::compile(definition, settings.clone()).unwrap_or_else(|error| panic!("{error}"));
    filter.check(&definition.name).unwrap_or_else(|error| panic!("{error}"));
    filter
}

/// A date of Python.
pub(crate) fn time(seconds: f64) -> Time {
    #[expect(clippy::cast_possible_truncation, reason = "dates are far from the ends")]
    Time::from_micros((seconds * 1e6).round() as i64)
}

/// The zone of the machine on which the samples are read.
pub(crate) fn zone() -> Zone {
    Zone::named("Europe/Zurich").expect("it is a zone")
}

/// A failure of ours, as fail2ban would tell it.
fn as_told(found: &Match) -> Value {
    let plain = |field: &Field| match field {
        Field::Text(text) => json!(text),
        Field::Tuple(of) => json!(of),
    };
    let mut fields: BTreeMap<String, Value> =
        found.failure.fields.iter().map(|(name, field)| (name.to_string(), plain(field))).collect();
    if !found.failure.users.is_empty() {
        fields.insert("users".to_owned(), found.failure.users.iter().map(plain).collect());
    }
    if let Some(ip) = &found.failure.ip {
        fields.insert("ip".to_owned(), json!(ip.text()));
    }
    let network = found.host.as_ref().and_then(garant_guard::fail2ban::filter::Host::network);
    json!({
        "regex": found.regex,
        "id": found.host.as_ref().map(garant_guard::fail2ban::filter::Host::text),
        "network": network.map(|(address, prefix)| (if address.is_ipv4() { 4 } else { 6 }, prefix)),
        "time": found.time.map(Time::micros),
        "attempts": found.attempts(),
        "fields": fields,
    })
}

fn as_found(found: &Found) -> Value {
    let mut fields = found.fields.clone();
    // The mark of a failure without an author is seen by there being none.
    fields.remove("mlfpending");
    let id = match &found.id {
        Value::Array(of) => json!(of.iter().map(|one| one.as_str().unwrap_or("")).collect::<Vec<_>>().join(" ")),
        id => id.clone(),
    };
    json!({
        "regex": found.regex,
        "id": id,
        "network": found.family.map(|family| (family, found.prefix)),
        "time": found.time.map(|at| time(at).micros()),
        "attempts": found.attempts,
        "fields": fields,
    })
}

/// What differs between both answers to one line.
pub(crate) fn difference(ours: &Result<Vec<Match>, LineError>, theirs: &Answer) -> Option<String> {
    let (ours, theirs) = match (ours, &theirs.error) {
        (Err(_), Some(_)) => return None,
        (Err(error), None) => return Some(format!("ours: {error}\ntheirs: {:?}", theirs.matches)),
        (Ok(ours), Some(error)) => return Some(format!("ours: {ours:?}\ntheirs: {error}")),
        (Ok(ours), None) => (ours, &theirs.matches),
    };
    let mut ours: Vec<_> = ours.iter().map(|found| as_told(found).to_string()).collect();
    let mut theirs: Vec<_> = theirs.iter().map(|found| as_found(found).to_string()).collect();
    // The addresses of a name come in no order.
    ours.sort();
    theirs.sort();
    (ours != theirs).then(|| format!("ours:   {}\ntheirs: {}", ours.join("\n        "), theirs.join("\n        ")))
}

/// Ten minutes.
pub(crate) const FIND_TIME: Span = Span::from_secs(600);
