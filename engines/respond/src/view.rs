//! Alerts as scripts see them: the JSON of `garant alerts`.

use event::Time;
use serde_json::{Value, json};

use crate::detect::alert::{Alert, Scope};
use crate::detect::desk::{Desk, Now, range_of};
use crate::detect::thread::Thread;

/// The wall clock's label of a steady instant.
fn label(at: Time, now: Now) -> Time {
    now.wall - now.steady.since(at)
}

/// The state of an alert, as one word.
pub(crate) fn state(desk: &Desk, alert: &Alert) -> &'static str {
    let group = alert.follows.unwrap_or(alert.id);
    let lead = desk.alerts.get(&group).and_then(|leader| leader.lead.as_ref());
    // An alert that leads others is over when all of them are.
    let over = match &alert.lead {
        Some(lead) => lead.over_at.is_some(),
        None => !alert.fires(),
    };
    match () {
        () if over => "resolved",
        () if lead.is_some_and(|lead| lead.acknowledged.is_some()) => "acknowledged",
        () => "firing",
    }
}

/// One alert.
pub(crate) fn alert(desk: &Desk, alert: &Alert, now: Now) -> Value {
    let alone = || {
        let mut scope = Scope::default();
        scope.add(&alert.opening);
        scope
    };
    let scope = match &alert.lead {
        Some(_) => desk.scope_now(alert.id),
        None => alone(),
    };
    let time = Time::to_rfc3339;
    let members = desk.members.get(&alert.id).map_or(&[][..], Vec::as_slice);
    let since = members.iter().filter_map(|id| desk.alerts.get(id)).map(|member| member.opening.since).min();
    let group = alert.follows.unwrap_or(alert.id);
    let acknowledged = desk.alerts.get(&group).and_then(|leader| leader.lead.as_ref()?.acknowledged.as_ref());
    let ended = match &alert.lead {
        Some(lead) => lead.over_at,
        None => alert.over_at,
    };
    let firing = members.iter().filter_map(|id| desk.alerts.get(id)).filter(|member| member.fires()).count();
    json!({
        "id": alert.id,
        "key": alert.key,
        "state": state(desk, alert),
        "severity": alert.lead.as_ref().map_or(alert.opening.severity, |lead| lead.severity),
        "source": alert.opening.source,
        "title": alert.opening.title,
        "detail": alert.opening.detail,
        "scope": {
            "region": scope.region().map(event::RegionId::as_str),
            "host": scope.host().map(event::HostId::as_str),
            "services": scope.services,
            "hosts": scope.hosts,
            "regions": scope.regions,
        },
        "alerts": members.len().max(1),
        "alerts_firing": if alert.lead.is_some() { firing } else { usize::from(alert.fires()) },
        "since": time(since.unwrap_or(alert.opening.since)),
        "until": ended.map(|ended| time(label(ended, now))),
        "flapping": alert.flapping,
        "inhibited_by": alert.follows,
        "silenced_by": desk.silenced_by(alert, now.wall),
        "maintenance": desk.in_maintenance(alert, now.wall),
        "acknowledged": acknowledged.map(|acknowledged| json!({
            "by": acknowledged.by,
            "at": time(acknowledged.at),
            "until": time(label(acknowledged.until, now)),
        })),
        "runbook": alert.opening.runbook,
        "notified": notified(desk, alert, now),
    })
}

/// Who was told of an alert, on which channel, and how far it came. Of one that follows another: by a message that spoke of as many as
/// had joined by then, itself among them.
fn notified(desk: &Desk, alert: &Alert, now: Now) -> Vec<Value> {
    let group = alert.follows.unwrap_or(alert.id);
    let place = desk.members.get(&group).and_then(|members| members.iter().position(|id| *id == alert.id)).unwrap_or(0);
    let told = |thread: &Thread| {
        let knows =
            thread.told.as_ref().is_some_and(|told| usize::try_from(told.joined).is_ok_and(|joined| joined > place));
        if place > 0 && !knows {
            return json!({
                "person": desk.name_of(&thread.key.person),
                "channel": thread.key.channel.split('-').next(),
                "state": "queued",
                "at": label(alert.opened_at, now).to_rfc3339(),
                "messages": 0,
                "failure": thread.failure,
            });
        }
        let at = match (&thread.acknowledged_at, &thread.told) {
            (Some(at), _) => *at,
            (None, Some(told)) => label(told.delivered_at.unwrap_or(told.at), now),
            (None, None) => label(thread.queued_at, now),
        };
        let kind = thread.key.channel.split('-').next().unwrap_or_default();
        json!({
            "person": desk.name_of(&thread.key.person),
            "channel": kind,
            "state": thread.state(),
            "at": at.to_rfc3339(),
            "messages": thread.count,
            "failure": thread.failure,
        })
    };
    desk.threads.range(range_of(group)).map(|(_, thread)| told(thread)).collect()
}
