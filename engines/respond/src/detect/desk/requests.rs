//! What people ask for: to acknowledge, to hand over, to silence, to hold.

use super::{
    Acknowledgement, AlertId, Desk, HOLD, Hold, Note, Now, ReactedTo, ReadySilence, Refusal, SILENCES_MAX, Signal,
    SignalState, Silence, Span, ThreadKey, held, range_of,
};

impl Desk {
    /// Somebody takes an alert on, until the acknowledgement expires.
    ///
    /// # Errors
    /// There is no such alert, or it is over.
    pub fn acknowledge(&mut self, id: AlertId, by: &str, time: Option<Span>, now: Now) -> Result<(), Refusal> {
        let group = self.group(id)?;
        let until = now.steady + time.unwrap_or(self.rules.acknowledged_for);
        let acknowledgement = Acknowledgement { by: by.to_owned(), at: now.wall, until };
        let lead = self.alerts.get_mut(&group).and_then(|alert| alert.lead.as_mut()).ok_or(Refusal::NotThere)?;
        if lead.over_at.is_some() {
            return Err(Refusal::Over);
        }
        lead.acknowledged = Some(acknowledgement);
        self.mark(group);
        self.notes.push(Note::Alert(group, "acknowledged"));
        let pseudonym = self.pseudonyms.get(by).cloned();
        let keys: Vec<ThreadKey> = self.threads.range(range_of(group)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let is_theirs = pseudonym.as_ref() == Some(&key.person);
            if let Some(thread) = self.threads.get_mut(&key) {
                thread.remind_at = None;
                if is_theirs && thread.told.is_some() {
                    thread.acknowledged_at = Some(now.wall);
                    self.notes.push(Note::Notified { thread: key.clone(), state: "acknowledged" });
                }
                self.mark_thread(&key);
            }
        }
        self.taken_on(group, now);
        self.wake_at(now.steady);
        Ok(())
    }

    /// Notes for the public that somebody took on each failure of a group that nobody took on before. What is over by now needs nobody.
    fn taken_on(&mut self, group: AlertId, now: Now) {
        for member in self.members.get(&group).cloned().unwrap_or_default() {
            let Some(alert) = self.alerts.get_mut(&member).filter(|alert| alert.fires()) else { continue };
            if alert.opening.shown_by.is_some() && !alert.answers.acknowledged {
                alert.answers.acknowledged = true;
                self.notes.push(Note::Reacted { to: ReactedTo::Acknowledged, alert: member, at: now.wall });
                self.mark(member);
            }
        }
    }

    /// Marks the link of that message as used.
    pub fn use_link(&mut self, key: &ThreadKey, count: u32) {
        if let Some(thread) = self.threads.get_mut(key) {
            thread.link_used = Some(count);
            self.mark_thread(key);
        }
    }

    /// The alert is handed over to another person, who is told at once.
    ///
    /// # Errors
    /// There is no such alert or person, or the alert is over.
    pub fn hand_over(&mut self, id: AlertId, to: &str, now: Now) -> Result<(), Refusal> {
        let group = self.group(id)?;
        if self.rules.people.iter().all(|person| person.name != to) {
            return Err(Refusal::NoSuchPerson);
        }
        let lead = self.alerts.get_mut(&group).and_then(|alert| alert.lead.as_mut()).ok_or(Refusal::NotThere)?;
        if lead.over_at.is_some() {
            return Err(Refusal::Over);
        }
        lead.handed_to = Some(to.to_owned());
        lead.acknowledged = None;
        (lead.step, lead.step_at) = (0, now.steady);
        self.notes.push(Note::Alert(group, "handed_over"));
        self.mark(group);
        self.tell(group, to, true, now);
        self.wake_at(now.steady);
        Ok(())
    }

    /// The group that an alert belongs to.
    pub(super) fn group(&self, id: AlertId) -> Result<AlertId, Refusal> {
        let alert = self.alerts.get(&id).ok_or(Refusal::NotThere)?;
        match (&alert.lead, alert.follows) {
            (Some(_), _) => Ok(id),
            (None, Some(group)) => Ok(group),
            (None, None) if alert.fires() => Err(Refusal::NotTold),
            (None, None) => Err(Refusal::Over),
        }
    }

    /// Makes a silence, or replaces the one of that identifier.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn silence(&mut self, silence: Silence, now: Now) -> Result<(), String> {
        if self.silences.len() >= SILENCES_MAX && !self.silences.contains_key(&silence.id) {
            return Err(format!("there are {SILENCES_MAX} silences: end one first"));
        }
        let ready = ReadySilence::new(silence)?;
        self.dirty.insert(format!("silence/{}", ready.silence.id));
        self.notes.push(Note::Silenced(Box::new(ready.silence.clone())));
        let id = ready.silence.id.clone();
        self.silences.insert(id.clone(), ready);
        self.match_silence(&id);
        self.wake_at(now.steady);
        Ok(())
    }

    /// Ends a silence now; false when there is none.
    pub fn end_silence(&mut self, id: &str, now: Now) -> bool {
        let Some(ready) = self.silences.get_mut(id) else { return false };
        if ready.silence.ends_at > now.wall {
            ready.silence.ends_at = now.wall;
            ready.silence.updated_at = now.wall;
            let silence = ready.silence.clone();
            self.notes.push(Note::Silenced(Box::new(silence)));
            self.dirty.insert(format!("silence/{id}"));
            self.wake_at(now.steady);
        }
        true
    }

    /// Holds what garant sends to customers, or releases it; false when that is so already.
    pub fn set_hold(&mut self, hold: Option<Hold>, by: &str, now: Now) -> bool {
        if hold.is_some() == self.hold.is_some() {
            return false;
        }
        let reason = hold.as_ref().map(|hold| hold.reason.clone()).unwrap_or_default();
        self.notes.push(Note::Held(hold.is_some(), by.to_owned(), reason.clone()));
        self.dirty.insert(HOLD.to_owned());
        let state = match &hold {
            Some(hold) => SignalState::Open(Box::new(held(hold))),
            None => SignalState::Over(now.wall),
        };
        self.hold = hold;
        self.signal(Signal { key: HOLD.to_owned(), state }, now);
        self.wake_at(now.steady);
        true
    }
}
