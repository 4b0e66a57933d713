//! The answers at the door: alerts, silences, who is on call, tests, the hold, one-time links.

use std::sync::Arc;

use engine::Context;
use engine::door::{Call, CallBody, DoorPage, Method, Reply, alike, both};
use event::{Interval, Span};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::detect::alert::AlertId;
use crate::detect::desk::{Hold, Now, Refusal};
use crate::detect::silence::{Matcher, Silence};
use crate::detect::thread::ThreadKey;
use crate::door::{ALERTMANAGER, ALERTS, HOLD, HOLDS, INTAKE, LINK, NOTIFY, ON_CALL, RECEIPT, SILENCES};
use crate::link::Use;
use crate::people::{Calendar, Override};
use crate::run::State;
use crate::view;

/// Longest span that somebody may ask for, of a silence or an acknowledgement.
const LONGEST: Span = Span::from_days(31);
/// Longest text that somebody may write.
const TEXT_BYTES_MAX: usize = 1024;
/// How far a calendar reaches.
const CALENDAR: Span = Span::from_days(90);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledge {
    by: String,
    #[serde(default, rename = "for")]
    time: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandOver {
    by: String,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSilence {
    matchers: Vec<Matcher>,
    #[serde(rename = "for")]
    time: String,
    by: String,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOverride {
    schedule: String,
    person: String,
    from: String,
    to: String,
    by: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewHold {
    by: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTest {
    #[serde(default)]
    channel: Option<String>,
}

fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::NotThere => Reply::error(404, "there is no alert of this number: see `garant alerts`"),
        Refusal::Over => Reply::error(409, "the alert is over"),
        Refusal::NotTold => Reply::error(409, "nobody was told of this alert yet: it may be a blip, or it is silenced"),
        Refusal::NoSuchPerson => Reply::error(422, "the policy names no such person"),
    }
}

fn sound(text: &str, what: &str) -> Result<(), Reply> {
    if text.trim().is_empty() {
        return Err(Reply::error(422, &format!("{what} is empty")));
    }
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Reply::error(422, &format!("{what} must be one line of at most {TEXT_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn span(text: &str) -> Result<Span, Reply> {
    let span =
        Span::parse(text).map_err(|_| Reply::error(422, "write a length of time, such as \"2 h\" or \"30 min\""))?;
    if span <= Span::ZERO || span > LONGEST {
        return Err(Reply::error(422, "write a length of time of at most 31 days"));
    }
    Ok(span)
}

fn number(text: &str) -> Result<AlertId, Reply> {
    text.parse().map_err(|_| refused(Refusal::NotThere))
}

impl State {
    /// Answers a call.
    pub(crate) fn answer(&mut self, call: &Call, now: Now, context: &Context) -> Reply {
        let answered = match call.mount {
            ALERTS => self.alerts(call, now),
            SILENCES => self.silences(call, now, context),
            ON_CALL => self.on_call(call, now, context),
            NOTIFY => self.notify(call, now),
            HOLDS | HOLD => self.hold(call, now),
            LINK => self.link(call, now),
            RECEIPT => self.receipt(call, now),
            INTAKE => self.intake(call, now),
            ALERTMANAGER => self.alertmanager(call, now, context),
            _ => Err(Reply::Refused(404)),
        };
        answered.unwrap_or_else(|refusal| refusal)
    }

    /// Whoever acts is one of the policy's, for the journal and the others ask who it was. Where the policy names nobody, anybody is.
    fn is_somebody(&self, by: &str, what: &str) -> Result<(), Reply> {
        sound(by, what)?;
        let known: Vec<&str> = self.config.names().collect();
        if known.is_empty() || known.contains(&by) {
            return Ok(());
        }
        let known = known.join(", ");
        Err(Reply::error(422, &format!("the policy names no person `{by}`: say with --by who does so, of {known}")))
    }

    fn alerts(&mut self, call: &Call, now: Now) -> Result<Reply, Reply> {
        match (call.method, call.segments().as_slice()) {
            (Method::Get, []) => {
                let all = call.parameter("all") == Some("true");
                let shown = self.desk.alerts.values().filter(|alert| {
                    let is_open = match &alert.lead {
                        Some(lead) => lead.over_at.is_none(),
                        None => alert.fires(),
                    };
                    all || is_open && alert.follows.is_none()
                });
                let shown: Vec<Value> = shown.map(|alert| view::alert(&self.desk, alert, now)).collect();
                Ok(Reply::json(&shown))
            }
            (Method::Get, [id]) => {
                let alert = self.desk.alerts.get(&number(id)?).ok_or_else(|| refused(Refusal::NotThere))?;
                let mut shown = view::alert(&self.desk, alert, now);
                let members = self.desk.members.get(&alert.id).map_or(&[][..], Vec::as_slice);
                let followers = members.iter().filter(|id| **id != alert.id).filter_map(|id| self.desk.alerts.get(id));
                let followers: Vec<Value> = followers
                    .take(1000)
                    .map(|it| json!({ "id": it.id, "key": it.key, "state": view::state(&self.desk, it), "title": it.opening.title }))
                    .collect();
                if let Some(shown) = shown.as_object_mut() {
                    shown.insert("followers".to_owned(), Value::Array(followers));
                }
                Ok(Reply::json(&shown))
            }
            (Method::Post, [id, "ack"]) => {
                let asked: Acknowledge = call.json()?;
                self.is_somebody(&asked.by, "who acknowledges")?;
                let time = asked.time.as_deref().map(span).transpose()?;
                self.desk.acknowledge(number(id)?, &asked.by, time, now).map_err(refused)?;
                Ok(self.shown(number(id)?, now))
            }
            (Method::Post, [id, "hand-over"]) => {
                let asked: HandOver = call.json()?;
                self.is_somebody(&asked.by, "who hands over")?;
                self.desk.hand_over(number(id)?, &asked.to, now).map_err(refused)?;
                Ok(self.shown(number(id)?, now))
            }
            _ => Err(Reply::error(404, "there is nothing at this address")),
        }
    }

    /// The alert that was acted on: the leader of its group.
    fn shown(&self, id: AlertId, now: Now) -> Reply {
        let group = self.desk.alerts.get(&id).and_then(|alert| alert.follows).unwrap_or(id);
        match self.desk.alerts.get(&group) {
            Some(alert) => Reply::json(&view::alert(&self.desk, alert, now)),
            None => refused(Refusal::NotThere),
        }
    }

    fn silences(&mut self, call: &Call, now: Now, context: &Context) -> Result<Reply, Reply> {
        let shown = |silence: &Silence| {
            let state = match () {
                () if now.wall < silence.starts_at => "pending",
                () if now.wall < silence.ends_at => "active",
                () => "expired",
            };
            json!({
                "id": silence.id,
                "state": state,
                "matchers": silence.matchers.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "from": silence.starts_at.to_rfc3339(),
                "to": silence.ends_at.to_rfc3339(),
                "by": silence.by,
                "comment": silence.comment,
            })
        };
        match (call.method, call.segments().as_slice()) {
            (Method::Get, []) => {
                let silences: Vec<Value> = self.desk.silences.values().map(|ready| shown(&ready.silence)).collect();
                Ok(Reply::json(&silences))
            }
            (Method::Post, []) => {
                let asked: NewSilence = call.json()?;
                self.is_somebody(&asked.by, "who silences")?;
                let silence = Silence {
                    id: identifier(context),
                    matchers: asked.matchers,
                    starts_at: now.wall,
                    ends_at: now.wall + span(&asked.time)?,
                    updated_at: now.wall,
                    by: asked.by,
                    comment: asked.comment,
                };
                let reply = Reply::json(&shown(&silence));
                self.desk.silence(silence, now).map_err(|why| Reply::error(422, &why))?;
                Ok(reply)
            }
            (Method::Delete, [id]) => {
                if self.desk.end_silence(id, now) {
                    return Ok(Reply::json(&json!({ "id": id, "state": "expired" })));
                }
                Err(Reply::error(404, "there is no such silence: see `garant alert silences`"))
            }
            _ => Err(Reply::error(404, "there is nothing at this address")),
        }
    }

    fn on_call(&mut self, call: &Call, now: Now, context: &Context) -> Result<Reply, Reply> {
        let overrides = self.overrides.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        match (call.method, call.segments().as_slice()) {
            (Method::Get, []) => {
                let wanted = call.parameter("schedule");
                let person = call.parameter("person");
                let people = Arc::clone(self.config.people());
                let overrides = people.in_effect(&overrides);
                let schedules = people.schedules.iter().filter(|it| wanted.is_none_or(|name| it.name.as_str() == name));
                if call.parameter("format") == Some("ics") {
                    let within = Interval::new(now.wall - Span::from_days(7), now.wall + CALENDAR);
                    let shifts: Vec<_> = schedules.map(|it| (it.name.clone(), it.shifts(within, &overrides))).collect();
                    let installation = self.desk.memory.name.as_str();
                    if let Some(person) = person {
                        let person = person.parse().map_err(|()| Reply::error(422, "this is no name of a person"))?;
                        let all =
                            shifts.iter().flat_map(|(name, shifts)| shifts.iter().map(move |shift| (name, shift)));
                        return Ok(Reply::Calendar(Calendar::of_person(&person, all, installation, now.wall)));
                    }
                    let mut calendar = Calendar::new(wanted.unwrap_or("garant"), installation, now.wall);
                    for (name, shifts) in &shifts {
                        for shift in shifts {
                            calendar.add(name, shift);
                        }
                    }
                    return Ok(Reply::Calendar(calendar.finish()));
                }
                let shown: Vec<Value> = schedules
                    .map(|schedule| {
                        let current = schedule.on_call(now.wall, &overrides);
                        let within = Interval::new(now.wall, now.wall + CALENDAR);
                        let next = schedule
                            .shifts(within, &overrides)
                            .into_iter()
                            .find(|shift| shift.interval.start > now.wall);
                        let shift = |shift: &crate::people::Shift| {
                            json!({
                                "person": shift.person.as_str(),
                                "from": shift.interval.start.to_rfc3339(),
                                "to": shift.interval.end.to_rfc3339(),
                                "override": matches!(shift.source, crate::people::ShiftSource::Override { .. }),
                            })
                        };
                        json!({
                            "schedule": schedule.name.as_str(),
                            "now": current.as_ref().map(shift),
                            "next": next.as_ref().map(shift),
                        })
                    })
                    .collect();
                Ok(Reply::json(&shown))
            }
            (Method::Get, ["overrides"]) => {
                let shown: Vec<Value> = overrides
                    .iter()
                    .map(|made| {
                        json!({
                            "id": made.id,
                            "schedule": made.schedule.as_str(),
                            "person": made.person.as_str(),
                            "from": made.interval.start.to_rfc3339(),
                            "to": made.interval.end.to_rfc3339(),
                            "by": made.by,
                            "reason": made.reason,
                        })
                    })
                    .collect();
                Ok(Reply::json(&shown))
            }
            (Method::Post, ["overrides"]) => {
                let asked: NewOverride = call.json()?;
                self.is_somebody(&asked.by, "who says so")?;
                let people = Arc::clone(self.config.people());
                let name = asked.schedule.parse().ok();
                let schedule = name.as_ref().and_then(|name| people.schedule(name));
                let schedule = schedule.ok_or_else(|| Reply::error(422, "the policy has no such [[schedule]]"))?;
                let time = |text: &str| {
                    let wrong =
                        "write times such as \"2026-12-24 18:00\", by the clock of the schedule, or as in RFC 3339";
                    schedule.time_of(text).ok_or_else(|| Reply::error(422, wrong))
                };
                let interval = Interval::new(time(&asked.from)?, time(&asked.to)?);
                let person = asked.person.parse().map_err(|()| refused(Refusal::NoSuchPerson))?;
                let made = Override {
                    id: identifier(context),
                    schedule: schedule.name.clone(),
                    person,
                    interval,
                    by: asked.by.clone(),
                    reason: asked.reason,
                    made_at: now.wall,
                };
                people
                    .check_override(&made, now.wall, &overrides)
                    .map_err(|why| Reply::error(422, &why.to_string()))?;
                let reply = Reply::json(&json!({ "id": made.id }));
                self.keep_override(made, false, &asked.by, context, now);
                Ok(reply)
            }
            (Method::Delete, ["overrides", id]) => {
                let made = overrides.into_iter().find(|made| made.id == *id);
                let made =
                    made.ok_or_else(|| Reply::error(404, "there is no such override: see `garant oncall overrides`"))?;
                let by = call.parameter("by").unwrap_or_default().to_owned();
                self.is_somebody(&by, "who says so")?;
                self.keep_override(made, true, &by, context, now);
                Ok(Reply::json(&json!({ "id": id })))
            }
            _ => Err(Reply::error(404, "there is nothing at this address")),
        }
    }

    fn notify(&mut self, call: &Call, now: Now) -> Result<Reply, Reply> {
        let segments = call.segments();
        let [person] = segments.as_slice() else {
            return Err(Reply::error(404, "there is nothing at this address"));
        };
        if self.config.names().all(|name| name != *person) {
            return Err(refused(Refusal::NoSuchPerson));
        }
        let channels = self.config.channels(person);
        match call.method {
            Method::Post => {
                let asked: NewTest = match &call.body {
                    CallBody::Empty => NewTest { channel: None },
                    _ => call.json()?,
                };
                let kind = |id: &str| id.split('-').next().unwrap_or_default().to_owned();
                let wanted = |id: &str| asked.channel.as_ref().is_none_or(|channel| *channel == kind(id));
                let chosen: Vec<String> = channels.iter().map(|(id, _)| id.clone()).filter(|id| wanted(id)).collect();
                if chosen.is_empty() {
                    return Err(Reply::error(422, "this person has no such channel"));
                }
                for channel in chosen {
                    self.desk.queue_test(person, channel, now);
                }
                Ok(Reply::json(&self.tests(person)))
            }
            Method::Get => Ok(Reply::json(&self.tests(person))),
            Method::Delete => Err(Reply::error(405, "a test can't be taken back")),
        }
    }

    /// How far the last test of each channel of a person came.
    fn tests(&mut self, person: &str) -> Vec<Value> {
        let pseudonym = self.desk.pseudonym(person);
        let channels = self.config.channels(person);
        let state = |(id, channel): &(String, Arc<dyn crate::act::Channel>)| {
            let key = ThreadKey { alert: 0, person: pseudonym.clone(), channel: id.clone() };
            let thread = self.desk.threads.get(&key);
            let state = match thread {
                None => "none",
                Some(thread) if thread.test_at.is_some() && thread.failing_since.is_none() => "queued",
                Some(thread) => thread.state(),
            };
            json!({
                "person": person,
                "channel": channel.kind(),
                "state": state,
                "failure": thread.and_then(|thread| thread.failure.clone()),
            })
        };
        channels.iter().map(state).collect()
    }

    fn hold(&mut self, call: &Call, now: Now) -> Result<Reply, Reply> {
        let changes = call.mount == HOLDS;
        match call.method {
            Method::Get => {}
            Method::Post if changes => {
                let asked: NewHold = call.json()?;
                self.is_somebody(&asked.by, "who holds")?;
                sound(&asked.reason, "the reason")?;
                let hold = Hold { by: asked.by.clone(), reason: asked.reason, since: now.wall };
                if !self.desk.set_hold(Some(hold), &asked.by, now) {
                    return Err(Reply::error(409, "messages to customers are held already"));
                }
            }
            Method::Delete if changes => {
                let by = call.parameter("by").unwrap_or_default().to_owned();
                self.is_somebody(&by, "who releases")?;
                if !self.desk.set_hold(None, &by, now) {
                    return Err(Reply::error(409, "messages to customers are not held"));
                }
            }
            _ => return Err(Reply::error(405, "this address can only be read")),
        }
        let hold = self.desk.hold.as_ref();
        // A program of the team learns whether, not who.
        let (by, reason) = if changes { (hold.map(|it| &it.by), hold.map(|it| &it.reason)) } else { (None, None) };
        Ok(Reply::json(&json!({
            "hold": hold.is_some(),
            "if_unreachable": if self.config.holds_if_unreachable() { "hold" } else { "send" },
            "since": hold.map(|it| it.since.to_rfc3339()),
            "by": by,
            "reason": reason,
        })))
    }

    /// Takes what a gateway says of a message. A word that is no last one, or says of a message what is known, changes nothing.
    fn receipt(&mut self, call: &Call, now: Now) -> Result<Reply, Reply> {
        let segments = call.segments();
        let [path] = segments.as_slice() else { return Err(Reply::Refused(404)) };
        let read = Use::Receipt.read(&self.desk.memory.link_key, path);
        let (key, count) = read.ok_or(Reply::Refused(404))?;
        let channels = self.desk.name_of(&key.person).map(|person| self.config.channels(person)).unwrap_or_default();
        let channel = channels.into_iter().find(|(id, _)| *id == key.channel);
        if let Some(delivery) = channel.and_then(|(_, channel)| channel.receipt(call)) {
            self.desk.receipt(&key, count, delivery, now);
        }
        Ok(Reply::Text(200, String::new()))
    }

    /// The answer of a one-time link. To open it changes nothing: programs that preview links do so as well.
    fn link(&mut self, call: &Call, now: Now) -> Result<Reply, Reply> {
        let segments = call.segments();
        let [path] = segments.as_slice() else { return Err(Reply::Refused(404)) };
        let read = Use::Acknowledge.read(&self.desk.memory.link_key, path);
        let (key, count) = read.ok_or(Reply::Refused(404))?;
        let thread = self.desk.threads.get(&key).cloned();
        let person = self.desk.name_of(&key.person).map(str::to_owned);
        // Whoever has left the team takes nothing on.
        let person = person.filter(|person| self.config.names().any(|name| name == person));
        let (Some(thread), Some(person)) = (thread, person) else { return Ok(gone()) };
        let Some(alert) = self.desk.alerts.get(&key.alert) else { return Ok(gone()) };
        let Some(lead) = alert.lead.clone() else { return Ok(gone()) };
        let title = alert.opening.title.clone();
        if lead.over_at.is_some() {
            let answered = DoorPage::titled("C’est terminé", "It is over");
            return Ok(answered.paragraph(title.fr, title.en).reply(200));
        }
        if let Some(acknowledged) = &lead.acknowledged {
            let by = &acknowledged.by;
            let answered = DoorPage::titled(format!("Pris en charge par {by}"), format!("Acknowledged by {by}"));
            return Ok(answered.paragraph(title.fr, title.en).reply(200));
        }
        // Each link is good for one acknowledgement: a later message has a later one.
        if thread.link_used.is_some_and(|used| count <= used) {
            return Ok(gone());
        }
        if call.method == Method::Post {
            self.desk.acknowledge(key.alert, &person, None, now).map_err(|_| Reply::Refused(404))?;
            self.desk.use_link(&key, count);
            let answered = DoorPage::titled("C’est noté : vous vous en chargez", "Noted: you have taken it on");
            return Ok(answered.paragraph(title.fr, title.en).reply(200));
        }
        let zone = self.config.people().zone_of(&person).clone();
        let answered = DoorPage::titled(title.fr, title.en)
            .row(both("Depuis", "Since"), alike(zone.rfc3339(alert.opening.since)))
            .row(both("Pour", "For"), alike(person))
            .button(both("Je m’en charge", "I take it on"), "action", "acknowledge");
        Ok(answered.reply(200))
    }
}

fn gone() -> Reply {
    let answered = DoorPage::titled("Ce lien ne sert plus", "This link is of no use any more");
    answered
        .paragraph(
            "Il a déjà servi, ou l’alerte est oubliée. Le message le plus récent en contient un autre.",
            "It was used already, or the alert is forgotten. The newest message holds another one.",
        )
        .reply(410)
}

/// A new identifier: a UUID (RFC 9562, version 4).
pub(crate) fn identifier(context: &Context) -> String {
    let mut bytes = [0; 16];
    context.random.fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = crate::hex(&bytes);
    let parts = [hex.get(..8), hex.get(8..12), hex.get(12..16), hex.get(16..20), hex.get(20..)];
    parts.map(Option::unwrap_or_default).join("-")
}
