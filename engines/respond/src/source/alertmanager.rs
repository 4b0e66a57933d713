//! Alertmanager's words: what a Prometheus posts to it, what it posts to a webhook, and what its clients read.
//!
//! Shapes and names are those of its `OpenAPI` description, version 2 (`api/v2/openapi.yaml` of prometheus/alertmanager), and of
//! version 4 of its webhook.

use std::collections::BTreeMap;

use event::{Span, Time};
use serde::Deserialize;
use serde_json::{Value, json};

use super::intake::{AtMost, LASTS_MAX, Labels, address, line, opening, prefix};
use crate::config::Alerting;
use crate::detect::alert::{Alert, Opening, Signal, SignalState, Source};
use crate::detect::desk::{Desk, Now};
use crate::detect::silence::{Filter, MATCHERS_MAX, Matcher, Silence};

/// How long an alert without an end lasts when it is not told again: `resolve_timeout` of Alertmanager.
const RESOLVE_TIMEOUT: Span = Span::from_secs(300);
/// How long an alert of a webhook lasts when it is not told again: after so long an Alertmanager has forgotten that it told of it,
/// and does so again (`--data.retention`).
const WEBHOOK_LASTS: Span = Span::from_days(5);
/// The only receiver: whom garant tells is in its policy.
pub const RECEIVER: &str = "garant";
/// Longest text of a silence that is kept, in characters.
const COMMENT_MAX: usize = 250;

/// An alert as a Prometheus posts it (`postableAlert`).
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct PostableAlert {
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<Labels>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

/// A time, where there is one: Go writes the year 1 for none.
fn time(text: Option<&str>, name: &str) -> Result<Option<Time>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let at = Time::parse_rfc3339(text).ok_or_else(|| format!("`{name}` is no time as in RFC 3339"))?;
    Ok((at > Time::from_secs(0)).then_some(at))
}

/// The key of an alert: a digest of its labels, sorted, under the name of the intake.
fn key(intake: &str, labels: &BTreeMap<String, String>) -> String {
    let pieces: Vec<&[u8]> = labels.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
    format!("{}{}", prefix(intake), crate::short_digest(&pieces))
}

impl PostableAlert {
    /// The signal: open until its end, or over when that has passed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn signal(self, intake: &str, alerting: &Alerting, now: Now) -> Result<Signal, String> {
        let labels = self.labels.unwrap_or_default().sound()?;
        let key = key(intake, &labels);
        let starts = time(self.starts_at.as_deref(), "startsAt")?;
        let ends = time(self.ends_at.as_deref(), "endsAt")?;
        if let (Some(starts), Some(ends)) = (starts, ends)
            && ends < starts
        {
            return Err("`endsAt` is before `startsAt`".to_owned());
        }
        if let Some(ends) = ends.filter(|ends| *ends <= now.wall) {
            return Ok(Signal { key, state: SignalState::Over(ends) });
        }
        let lasts = ends.map_or(RESOLVE_TIMEOUT, |ends| ends.since(now.wall)).min(LASTS_MAX);
        let opening = Opening {
            since: starts.unwrap_or(now.wall).min(now.wall),
            until: Some(now.steady + lasts),
            url: self.generator_url.as_deref().and_then(address),
            ..opening(labels, self.annotations.unwrap_or_default(), alerting, now)
        };
        Ok(Signal { key, state: SignalState::Open(Box::new(opening)) })
    }
}

/// What an Alertmanager posts to a webhook. It says all of a group, of which this is read.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Webhook<const MAX: usize> {
    version: String,
    #[serde(default)]
    group_key: String,
    /// The alerts of the group that are new or changed.
    pub alerts: AtMost<WebhookAlert, MAX>,
    #[serde(default)]
    truncated_alerts: u64,
}

impl<const MAX: usize> Webhook<MAX> {
    /// Checks its version.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if self.version != "4" {
            return Err("this is not version 4 of Alertmanager's webhook".to_owned());
        }
        if self.truncated_alerts > 0 {
            let (group, left_out) = (line(&self.group_key, 200), self.truncated_alerts);
            tracing::warn!(group, left_out, "an Alertmanager leaves alerts out: remove max_alerts of its webhook");
        }
        Ok(())
    }
}

/// An alert of a webhook.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct WebhookAlert {
    status: WebhookStatus,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<Labels>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
    #[serde(default)]
    fingerprint: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum WebhookStatus {
    Firing,
    Resolved,
}

impl WebhookAlert {
    /// The signal.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn signal(self, intake: &str, alerting: &Alerting, now: Now) -> Result<Signal, String> {
        let labels = self.labels.unwrap_or_default().sound()?;
        let key = match self.fingerprint.as_deref() {
            None | Some("") => key(intake, &labels),
            Some(print) if print.len() <= 64 && print.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                format!("{}{}", prefix(intake), print.to_ascii_lowercase())
            }
            Some(_) => return Err("`fingerprint` is not hexadecimal".to_owned()),
        };
        if self.status == WebhookStatus::Resolved {
            return Ok(Signal { key, state: SignalState::Over(now.wall) });
        }
        let starts = time(self.starts_at.as_deref(), "startsAt")?;
        let opening = Opening {
            since: starts.unwrap_or(now.wall).min(now.wall),
            until: Some(now.steady + WEBHOOK_LASTS),
            url: self.generator_url.as_deref().and_then(address),
            ..opening(labels, self.annotations.unwrap_or_default(), alerting, now)
        };
        Ok(Signal { key, state: SignalState::Open(Box::new(opening)) })
    }
}

/// What a client wants to see of the alerts.
#[derive(Debug)]
pub struct AlertQuery {
    filter: Filter,
    receiver: bool,
    /// States of which alerts are left out.
    hidden: Vec<&'static str>,
}

impl AlertQuery {
    /// Reads it out of the parameters.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(parameters: &[(String, String)]) -> Result<Self, String> {
        let value = |name: &str| parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let flag = |name: &str| match value(name) {
            None | Some("" | "true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(format!("the parameter `{name}` is neither true nor false")),
        };
        let receiver = match value("receiver").filter(|expression| !expression.is_empty()) {
            None => true,
            Some(expression) => {
                let wanted = Matcher { is_regex: true, ..Matcher::equals("receiver", expression) };
                let here = BTreeMap::from([("receiver".to_owned(), RECEIVER.to_owned())]);
                Filter::new(vec![wanted])?.matches(&here)
            }
        };
        let mut hidden = Vec::new();
        for state in ["active", "silenced", "inhibited", "muted"] {
            if !flag(state)? {
                hidden.push(state);
            }
        }
        Ok(Self { filter: filter(parameters)?, receiver, hidden })
    }

    /// The alerts that fire and are wanted, with the number of the group of each.
    pub fn alerts(&self, desk: &Desk, now: Now) -> Vec<(u64, Value)> {
        if !self.receiver {
            return Vec::new();
        }
        let firing = desk.alerts.values().filter(|alert| alert.fires());
        firing.filter_map(|alert| Some((alert.follows.unwrap_or(alert.id), self.alert(desk, alert, now)?))).collect()
    }

    fn alert(&self, desk: &Desk, alert: &Alert, now: Now) -> Option<Value> {
        let all_labels = desk.labels(alert);
        if !self.filter.matches(&all_labels) {
            return None;
        }
        let opening = &alert.opening;
        let silenced = desk.silenced_by(alert, now.wall);
        // An alert that merely came at the same time is told with others, and has a cause of its own.
        let is_somewhere = !opening.services.is_empty() || !opening.hosts.is_empty() || opening.region.is_some();
        let cause = alert.follows.filter(|_| is_somewhere).and_then(|id| desk.alerts.get(&id));
        let inhibited: Vec<String> = cause.iter().map(|cause| fingerprint(cause)).collect();
        let muted: &[&str] = if desk.in_maintenance(alert, now.wall) { &["maintenance"] } else { &[] };
        let is_active = silenced.is_empty() && inhibited.is_empty() && muted.is_empty();
        let states = [
            ("active", is_active),
            ("silenced", !silenced.is_empty()),
            ("inhibited", !inhibited.is_empty()),
            ("muted", !muted.is_empty()),
        ];
        if states.iter().any(|(state, is_so)| *is_so && self.hidden.contains(state)) {
            return None;
        }
        let is_outside = opening.source == Source::Outside;
        let mut annotations = opening.annotations.clone();
        let mut set = |name: &str, value: &str| {
            if !value.is_empty() {
                annotations.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        };
        set("summary", &opening.title.en);
        set("description", &opening.detail);
        if let Some(runbook) = &opening.runbook {
            set(if address(&runbook.en).is_some() { "runbook_url" } else { "runbook" }, &runbook.en);
        }
        Some(json!({
            "labels": if is_outside { &opening.labels } else { &all_labels },
            "annotations": annotations,
            "startsAt": opening.since.to_rfc3339(),
            "updatedAt": (now.wall - now.steady.since(alert.opened_at)).to_rfc3339(),
            "endsAt": (now.wall + opening.until.map_or(RESOLVE_TIMEOUT, |until| until.since(now.steady))).to_rfc3339(),
            "generatorURL": opening.url.as_deref().unwrap_or_default(),
            "fingerprint": fingerprint(alert),
            "receivers": [{ "name": RECEIVER }],
            "status": {
                "state": if is_active { "active" } else { "suppressed" },
                "silencedBy": silenced,
                "inhibitedBy": inhibited,
                "mutedBy": muted,
            },
        }))
    }
}

/// Sixteen hexadecimal digits that tell an alert from others.
fn fingerprint(alert: &Alert) -> String {
    crate::hex(&crate::digest(&[alert.key.as_bytes()])[..8])
}

/// The matchers of the parameters `filter`: all of them must hold.
///
/// # Errors
/// What is wrong with one.
pub fn filter(parameters: &[(String, String)]) -> Result<Filter, String> {
    let texts = parameters.iter().filter(|(name, _)| name == "filter");
    let matchers =
        texts.map(|(_, text)| Matcher::parse(text).ok_or_else(|| format!("bad matcher format: {}", line(text, 100))));
    let matchers: Vec<Matcher> = matchers.collect::<Result<_, _>>()?;
    if matchers.len() > MATCHERS_MAX {
        return Err(format!("more than {MATCHERS_MAX} filters"));
    }
    Filter::new(matchers)
}

/// The alerts by the group that they are told in (`alertGroups`).
pub fn groups(alerts: Vec<(u64, Value)>) -> Vec<Value> {
    let mut groups: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for (group, alert) in alerts {
        groups.entry(group).or_default().push(alert);
    }
    groups
        .into_values()
        .map(|alerts| {
            let labels = |alert: &Value| alert.get("labels").and_then(Value::as_object).cloned().unwrap_or_default();
            let mut common = alerts.first().map(labels).unwrap_or_default();
            for alert in &alerts {
                common.retain(|name, value| alert.get("labels").and_then(|labels| labels.get(name)) == Some(value));
            }
            json!({ "labels": common, "receiver": { "name": RECEIVER }, "alerts": alerts })
        })
        .collect()
}

/// A silence as a client posts it (`postableSilence`).
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct PostableSilence {
    #[serde(default)]
    id: Option<String>,
    matchers: AtMost<Matcher, MATCHERS_MAX>,
    starts_at: String,
    ends_at: String,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
}

impl PostableSilence {
    /// The identifier of the silence that it replaces.
    pub fn replaces(&self) -> Option<&str> {
        self.id.as_deref().filter(|id| !id.is_empty())
    }

    /// The silence, under this identifier.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn silence(self, id: String, intake: &str, now: Now) -> Result<Silence, String> {
        let starts = time(Some(&self.starts_at), "startsAt")?.ok_or("`startsAt` is missing")?;
        let ends = time(Some(&self.ends_at), "endsAt")?.ok_or("`endsAt` is missing")?;
        if ends <= now.wall {
            return Err("`endsAt` is in the past".to_owned());
        }
        let starts_at = starts.max(now.wall);
        if ends.since(starts_at) > LASTS_MAX || starts_at.since(now.wall) > Span::from_days(366) {
            return Err("a silence lasts 31 days at most, and begins within a year".to_owned());
        }
        let by = line(&self.created_by, COMMENT_MAX);
        Ok(Silence {
            id,
            matchers: self.matchers.0,
            starts_at,
            ends_at: ends,
            updated_at: now.wall,
            by: if by.is_empty() { intake.to_owned() } else { by },
            comment: line(&self.comment, COMMENT_MAX),
        })
    }
}

/// A silence as clients read it (`gettableSilence`).
pub fn silence(silence: &Silence, now: Now) -> Value {
    let state = match () {
        () if now.wall >= silence.ends_at => "expired",
        () if now.wall < silence.starts_at => "pending",
        () => "active",
    };
    json!({
        "id": silence.id,
        "status": { "state": state },
        "updatedAt": silence.updated_at.to_rfc3339(),
        "startsAt": silence.starts_at.to_rfc3339(),
        "endsAt": silence.ends_at.to_rfc3339(),
        "createdBy": silence.by,
        "comment": silence.comment,
        "matchers": silence.matchers,
    })
}

/// Whether a silence is about what a filter asks for: its matchers are taken for labels.
pub fn is_about(silence: &Silence, filter: &Filter) -> bool {
    let named = silence.matchers.iter().map(|matcher| (matcher.name.clone(), matcher.value.clone()));
    filter.matches(&named.collect())
}

/// What garant says of itself as an Alertmanager (`alertmanagerStatus`).
pub fn status(started_at: Time) -> Value {
    json!({
        "cluster": { "status": "disabled", "peers": [] },
        "versionInfo": {
            "version": env!("CARGO_PKG_VERSION"),
            "revision": "",
            "branch": "garant",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        },
        "config": { "original": format!("route:\n  receiver: {RECEIVER}\nreceivers:\n- name: {RECEIVER}\n") },
        "uptime": started_at.to_rfc3339(),
    })
}

#[cfg(test)]
mod tests;
