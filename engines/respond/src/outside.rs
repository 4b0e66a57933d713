//! The answers to programs outside: garant as an Alertmanager, and the intakes.

use engine::Context;
use engine::door::{Call, CallBody, Credential, Method, Reply};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::answer::identifier;
use crate::detect::alert::{Signal, SignalState};
use crate::detect::desk::Now;
use crate::run::State;
use crate::source::alertmanager::{
    AlertQuery, PostableAlert, PostableSilence, RECEIVER, Webhook, filter, groups, is_about, silence, status,
};
use crate::source::intake::{self, ALERTS_MAX, AtMost, OPEN_MAX, OPEN_OF_ALL_MAX, Plain, PlainState};

/// Most faults that one answer names.
const FAULTS_MAX: usize = 5;

/// A refusal as Alertmanager's clients read it: a JSON text.
fn refusal(status: u16, why: &str) -> Reply {
    Reply::json_with(status, &why)
}

/// What was wrong with an alert of a request, and whether it was only one too many.
struct Fault {
    place: usize,
    why: String,
    status: u16,
}

impl Fault {
    /// All of them as the status and the text of an answer; `None` when there are none.
    fn told(faults: &[Self], of: usize) -> Option<(u16, String)> {
        let status = faults.iter().map(|fault| fault.status).min()?;
        let mut told: Vec<String> =
            faults.iter().take(FAULTS_MAX).map(|fault| format!("alert {}: {}", fault.place, fault.why)).collect();
        if let Some(more) = faults.len().checked_sub(FAULTS_MAX).filter(|more| *more > 0) {
            told.push(format!("and {more} more"));
        }
        let told = told.join("; ");
        Some((
            status,
            match faults.len() {
                refused if refused == of => format!("refused: {told}"),
                refused => format!("{refused} of {of} alerts were refused, the others were taken: {told}"),
            },
        ))
    }
}

fn body<T: DeserializeOwned>(call: &Call) -> Result<T, (u16, String)> {
    let CallBody::Json(bytes) = &call.body else {
        return Err((415, "the body must be JSON: send it with Content-Type: application/json".to_owned()));
    };
    serde_json::from_slice(bytes).map_err(|error| (400, format!("the body can't be read: {error}")))
}

impl State {
    /// The name of the intake that calls.
    fn caller(&self, call: &Call) -> Option<String> {
        let secret = call.credential.as_ref().map(Credential::secret)?;
        self.admitted.intake(secret).map(str::to_owned)
    }

    /// Answers a program that tells alerts.
    pub(crate) fn intake(&mut self, call: &Call, now: Now) -> Result<Reply, Reply> {
        let caller = self.caller(call).ok_or_else(|| Reply::error(401, "this token is of no [[intake]] any more"))?;
        let refused = |(status, why): (u16, String)| Reply::error(status, &why);
        match (call.method, call.segments().as_slice()) {
            (Method::Post, ["alerts"]) => {
                let plain: Plain = body(call).map_err(refused)?;
                let (asked, state) = (plain.key().to_owned(), plain.state());
                let read = plain.signal(&caller, &self.alerting, now);
                let (signal, warnings) = read.map_err(|why| Reply::error(422, &why))?;
                let key = signal.key.clone();
                self.tell(&caller, vec![Ok(signal)], now).map_err(refused)?;
                let alert = self.desk.find(&key);
                let id = alert.filter(|alert| state == PlainState::Firing || !alert.fires()).map(|alert| alert.id);
                Ok(Reply::json(&json!({ "id": id, "key": asked, "state": state, "warnings": warnings })))
            }
            (Method::Post, ["alertmanager"]) => {
                let webhook: Webhook<ALERTS_MAX> = body(call).map_err(refused)?;
                webhook.check().map_err(|why| Reply::error(422, &why))?;
                let alerts = webhook.alerts.0;
                let signals = alerts.into_iter().map(|alert| alert.signal(&caller, &self.alerting, now)).collect();
                let alerts = self.tell(&caller, signals, now).map_err(refused)?;
                Ok(Reply::json(&json!({ "alerts": alerts })))
            }
            (_, ["alerts" | "alertmanager"]) => Err(Reply::error(405, "alerts are sent here by POST")),
            _ => Err(Reply::error(404, "there is nothing at this address")),
        }
    }

    /// Takes signals of an intake; those that are refused are told with their reasons, the others are taken.
    fn tell(&mut self, intake: &str, signals: Vec<Result<Signal, String>>, now: Now) -> Result<usize, (u16, String)> {
        let of = signals.len();
        let mine = intake::prefix(intake);
        let fire = |prefix: &str| {
            self.desk.alerts.values().filter(|alert| alert.fires() && alert.key.starts_with(prefix)).count()
        };
        let (mut open, mut open_of_all) = (fire(&mine), fire(intake::PREFIX));
        let mut faults = Vec::new();
        for (place, signal) in signals.into_iter().enumerate() {
            let signal = match signal {
                Ok(signal) => signal,
                Err(why) => {
                    faults.push(Fault { place, why, status: 400 });
                    continue;
                }
            };
            if matches!(signal.state, SignalState::Open(_)) && !self.desk.fires(&signal.key) {
                if open >= OPEN_MAX || open_of_all >= OPEN_OF_ALL_MAX {
                    let why = "too many alerts of programs outside fire at once".to_owned();
                    faults.push(Fault { place, why, status: 429 });
                    continue;
                }
                (open, open_of_all) = (open + 1, open_of_all + 1);
            }
            self.desk.signal(signal, now);
        }
        match Fault::told(&faults, of) {
            None => Ok(of),
            Some((status, why)) => {
                tracing::warn!(intake, %why, "a program tells alerts that can't be taken");
                Err((status, why))
            }
        }
    }

    /// Ends the alerts of intakes that the policy has no longer: nobody else could.
    pub(crate) fn end_of_intakes(&mut self, now: Now) {
        for key in self.desk.firing_keys(intake::PREFIX) {
            let known = intake::intake_of(&key);
            if self.config.intakes.iter().all(|intake| Some(intake.name.as_str()) != known) {
                self.desk.signal(Signal { key, state: SignalState::Over(now.wall) }, now);
            }
        }
    }

    /// Answers a client of Alertmanager.
    pub(crate) fn alertmanager(&mut self, call: &Call, now: Now, context: &Context) -> Result<Reply, Reply> {
        let caller = self.caller(call).ok_or_else(|| refusal(401, "this token is of no [[intake]] any more"))?;
        let refused = |(status, why): (u16, String)| refusal(status, &why);
        let bad = |why: String| refusal(400, &why);
        match (call.method, call.segments().as_slice()) {
            (Method::Post, ["alerts"]) => {
                let alerts: AtMost<PostableAlert, ALERTS_MAX> = body(call).map_err(refused)?;
                let signals = alerts.0.into_iter().map(|alert| alert.signal(&caller, &self.alerting, now)).collect();
                self.tell(&caller, signals, now).map_err(refused)?;
                Ok(Reply::Text(200, String::new()))
            }
            (Method::Get, ["alerts"]) => {
                let alerts = AlertQuery::read(&call.query).map_err(bad)?.alerts(&self.desk, now);
                let alerts: Vec<_> = alerts.into_iter().map(|(_, alert)| alert).collect();
                Ok(Reply::json(&alerts))
            }
            (Method::Get, ["alerts", "groups"]) => {
                Ok(Reply::json(&groups(AlertQuery::read(&call.query).map_err(bad)?.alerts(&self.desk, now))))
            }
            (Method::Get, ["silences"]) => {
                let wanted = filter(&call.query).map_err(bad)?;
                let silences = self.desk.silences.values().map(|ready| &ready.silence);
                let silences: Vec<_> = silences.filter(|it| is_about(it, &wanted)).map(|it| silence(it, now)).collect();
                Ok(Reply::json(&silences))
            }
            (Method::Post, ["silences"]) | (Method::Delete, ["silence", _]) if !self.may_silence(&caller) => {
                let why = "this token may tell alerts and not silence them: write `silences = true` in its [[intake]]";
                Err(refusal(403, why))
            }
            (Method::Post, ["silences"]) => self.put_silence(body(call).map_err(refused)?, &caller, now, context),
            (Method::Get, ["silence", id]) => {
                let found = self.desk.silences.get(*id).ok_or_else(|| refusal(404, "there is no such silence"))?;
                Ok(Reply::json(&silence(&found.silence, now)))
            }
            (Method::Delete, ["silence", id]) => {
                if self.desk.end_silence(id, now) {
                    return Ok(Reply::Text(200, String::new()));
                }
                Err(refusal(404, "there is no such silence"))
            }
            (Method::Get, ["status"]) => Ok(Reply::json(&status(self.started_at()))),
            (Method::Get, ["receivers"]) => Ok(Reply::json(&[json!({ "name": RECEIVER })])),
            (_, ["alerts" | "silences" | "status" | "receivers"] | ["alerts", "groups"] | ["silence", _]) => {
                Err(refusal(405, "this address does not take this method"))
            }
            _ => Err(refusal(404, "there is nothing at this address")),
        }
    }

    fn may_silence(&self, intake: &str) -> bool {
        self.config.intakes.iter().any(|known| known.name == intake && known.silences)
    }

    /// Makes a silence, or changes one: one that is over, or that is about other alerts from now on, is another one.
    fn put_silence(
        &mut self,
        posted: PostableSilence,
        caller: &str,
        now: Now,
        context: &Context,
    ) -> Result<Reply, Reply> {
        let before = match posted.replaces() {
            None => None,
            Some(id) => {
                let found = self.desk.silences.get(id).map(|ready| ready.silence.clone());
                Some(found.ok_or_else(|| refusal(404, "there is no such silence"))?)
            }
        };
        let mut made = posted.silence(identifier(context), caller, now).map_err(|why| refusal(400, &why))?;
        let lasts = before.as_ref().filter(|before| before.ends_at > now.wall && before.matchers == made.matchers);
        if let Some(before) = lasts {
            made.id.clone_from(&before.id);
            // It has begun already: that does not change.
            made.starts_at = if before.starts_at <= now.wall { before.starts_at } else { made.starts_at };
        }
        let id = made.id.clone();
        self.desk.silence(made, now).map_err(|why| refusal(400, &why))?;
        if let Some(before) = before.filter(|before| before.id != id) {
            self.desk.end_silence(&before.id, now);
        }
        Ok(Reply::json(&json!({ "silenceID": id })))
    }
}
