//! Who is told, in which order: the steps of the escalation, the channels of a person, reminders and tests.

use super::{
    AFTER_HAND_OVER, Alert, AlertId, BTreeMap, BTreeSet, Desk, EscalationRule, FIRST_WAIT, HOLD_REMIND_EVERY, Lead,
    MEMORY, MIN_STEP, Note, Now, Severity, Source, Span, StepRule, Target, Thread, ThreadKey, Time, range_of,
};

impl Desk {
    pub(super) fn acknowledgement_expired(&mut self, id: AlertId, now: Now) {
        let Some(lead) = self.alerts.get_mut(&id).and_then(|alert| alert.lead.as_mut()) else { return };
        lead.acknowledged = None;
        lead.step = 0;
        lead.step_at = now.steady;
        self.notes.push(Note::Alert(id, "acknowledgement_expired"));
        self.mark(id);
        let told: Vec<ThreadKey> = self.threads.range(range_of(id)).map(|(key, _)| key.clone()).collect();
        for key in told {
            if let Some(thread) = self.threads.get_mut(&key) {
                thread.acknowledged_at = None;
                thread.remind_at = Some(now.steady);
                self.mark_thread(&key);
            }
        }
    }

    /// Queues messages to the people of the step in effect, and goes on to the next step when it is time.
    pub(super) fn escalate(&mut self, id: AlertId, now: Now) {
        let Some(alert) = self.alerts.get(&id) else { return };
        let Some(lead) = alert.lead.as_ref() else { return };
        if now.steady < lead.begun_at + FIRST_WAIT {
            let at = lead.begun_at + FIRST_WAIT;
            self.wake_at(at);
            return;
        }
        if lead.acknowledged.is_some() {
            return;
        }
        let severity = lead.severity;
        let rule = self.escalation(alert, lead);
        let Some(rule) = rule else { return };
        let steps = u32::try_from(rule.steps.len()).unwrap_or(u32::MAX).max(1);
        let mut step = lead.step;
        let mut step_at = lead.step_at;
        let last = steps.saturating_mul(rule.repeat.saturating_add(1)).saturating_sub(1);
        // What does not wake anybody up does not escalate either.
        if severity == Severity::Critical {
            while step < last {
                let next = (step + 1) % steps;
                let after =
                    rule.steps.get(usize::try_from(next).unwrap_or_default()).map_or(Span::ZERO, |next| next.after);
                let wait = (if next == 0 { after + rule.repeat_after } else { after }).max(MIN_STEP);
                if now.steady < step_at + wait {
                    self.wake_at(step_at + wait);
                    break;
                }
                step += 1;
                step_at = step_at + wait;
                self.tell_step(id, &rule, step % steps, step >= steps, now);
            }
        }
        let begun = self.alerts.get(&id).and_then(|alert| alert.lead.as_ref()).map(|lead| lead.step);
        if begun != Some(step)
            && let Some(lead) = self.alerts.get_mut(&id).and_then(|alert| alert.lead.as_mut())
        {
            (lead.step, lead.step_at) = (step, step_at);
            self.mark(id);
        }
        if self.threads.range(range_of(id)).next().is_none() {
            self.tell_somebody(id, &rule, step % steps, now);
        }
        self.tell_next_channels(id, severity, now);
        self.remind(id, severity, now);
    }

    pub(super) fn escalation(&self, alert: &Alert, lead: &Lead) -> Option<EscalationRule> {
        let named = alert.opening.services.iter().find_map(|service| self.rules.escalation_of.get(service));
        let name = named.map_or("", String::as_str);
        let rule = self.rules.escalations.get(name).or_else(|| self.rules.escalations.get("")).cloned();
        let known = |name: &&String| self.rules.people.iter().any(|person| person.name == **name);
        let Some(target) = lead.handed_to.as_ref().filter(known) else { return rule };
        // Whoever has it now comes first, and those of the policy after.
        let mut steps = vec![StepRule { targets: vec![Target::Person(target.clone())], after: Span::ZERO }];
        let (mut repeat, mut repeat_after) = (0, Span::ZERO);
        if let Some(rule) = rule {
            (repeat, repeat_after) = (rule.repeat, rule.repeat_after);
            steps.extend(rule.steps);
        }
        if let Some(second) = steps.get_mut(1) {
            second.after = second.after.max(AFTER_HAND_OVER);
        }
        Some(EscalationRule { steps, repeat, repeat_after })
    }

    /// Queues messages to those of a step, or of the next step that reaches anybody. What is critical is told to everybody where
    /// none does.
    pub(super) fn tell_somebody(&mut self, id: AlertId, rule: &EscalationRule, step: u32, now: Now) {
        let steps = u32::try_from(rule.steps.len()).unwrap_or(u32::MAX);
        for further in 0..steps {
            let step = (step + further) % steps;
            self.tell_step(id, rule, step, false, now);
            if self.threads.range(range_of(id)).next().is_some() {
                if further > 0
                    && let Some(lead) = self.alerts.get_mut(&id).and_then(|alert| alert.lead.as_mut())
                {
                    (lead.step, lead.step_at) = (step, now.steady);
                    self.mark(id);
                }
                self.unheard.remove(&id);
                return;
            }
        }
        if self.severity(id) == Severity::Critical {
            self.tell_everybody(id, now);
        }
        if self.threads.range(range_of(id)).next().is_none() && self.unheard.insert(id) {
            tracing::warn!(
                alert = id,
                "the policy names nobody who is told of this alert: see [[escalation]], [[person]]"
            );
        }
    }

    fn tell_everybody(&mut self, id: AlertId, now: Now) {
        let names: Vec<String> = self.rules.people.iter().map(|person| person.name.clone()).collect();
        for name in names {
            self.tell(id, &name, false, now);
        }
    }

    /// Queues messages to those of the first step who were not told: they have a channel for the severity of now.
    pub(super) fn tell_more(&mut self, id: AlertId, now: Now) {
        if self.threads.range(range_of(id)).next().is_none() {
            return;
        }
        let Some(alert) = self.alerts.get(&id) else { return };
        let Some(lead) = alert.lead.as_ref().filter(|lead| lead.acknowledged.is_none()) else { return };
        if let Some(rule) = self.escalation(alert, lead) {
            self.tell_step(id, &rule, 0, false, now);
        }
    }

    /// Queues the first messages about the group of an alert without waiting for others.
    pub(super) fn tell_at_once(&mut self, id: AlertId, now: Now) {
        let group = self.alerts.get(&id).and_then(|alert| alert.follows).unwrap_or(id);
        let Some(alert) = self.alerts.get(&group) else { return };
        let Some(lead) = alert.lead.as_ref() else { return };
        if self.threads.range(range_of(group)).next().is_some() {
            return;
        }
        if let Some(rule) = self.escalation(alert, lead) {
            self.tell_somebody(group, &rule, 0, now);
        }
    }

    /// Sees to it that the end is told: to somebody, if nobody was told of the beginning, and on another channel where one fails.
    pub(super) fn tell_the_end(&mut self, id: AlertId, over: Time, now: Now) {
        let Some(alert) = self.alerts.get(&id) else { return };
        let Some(lead) = alert.lead.as_ref() else { return };
        let lasted = over.since(lead.begun_at) >= FIRST_WAIT;
        if self.threads.range(range_of(id)).next().is_none() {
            let Some(rule) = self.escalation(alert, lead).filter(|_| lasted) else { return };
            self.tell_somebody(id, &rule, 0, now);
            return;
        }
        let severity = lead.severity;
        self.replace_failing(id, severity, false, now);
    }

    /// Queues the first channel of each person of a step.
    pub(super) fn tell_step(&mut self, id: AlertId, rule: &EscalationRule, step: u32, again: bool, now: Now) {
        let Some(step) = rule.steps.get(usize::try_from(step).unwrap_or_default()) else { return };
        let mut names: Vec<String> = Vec::new();
        for target in &step.targets {
            match target {
                Target::Person(name) => names.push(name.clone()),
                Target::Schedule(schedule) => names.extend((self.rules.on_call)(schedule, now.wall)),
            }
        }
        if names.is_empty() && !self.unheard.contains(&id) {
            tracing::warn!(alert = id, "nobody is on call for this step of the escalation: the next step is told");
        }
        for name in names {
            self.tell(id, &name, again, now);
        }
    }

    /// Queues the person's first channel for the severity of the group, unless there is a thread already.
    pub(super) fn tell(&mut self, id: AlertId, name: &str, again: bool, now: Now) {
        let severity = self.severity(id);
        let Some(channel) = self.channels(name, severity).into_iter().next() else {
            if !self.unheard.contains(&id) {
                let severity = severity.as_str();
                tracing::warn!(alert = id, severity, "a person of the escalation has no channel for this severity");
            }
            return;
        };
        let key = ThreadKey { alert: id, person: self.pseudonym(name), channel };
        match self.threads.get_mut(&key) {
            Some(thread) if again => {
                thread.remind_at = Some(now.steady);
                self.mark_thread(&key);
            }
            Some(_) => {}
            None => self.queue(key, now),
        }
    }

    pub(super) fn queue(&mut self, key: ThreadKey, now: Now) {
        self.notes.push(Note::Notified { thread: key.clone(), state: "queued" });
        self.mark_thread(&key);
        // What was said in an earlier outage is no part of this one, but for its numbers and what messages refer to.
        let past = self.past.remove(&key);
        let (count, link_used) = past.as_ref().map_or((0, None), |past| (past.count, past.link_used));
        let reference = past.as_ref().and_then(Thread::refers_to).map(str::to_owned);
        let thread = Thread { count, link_used, reference, ..Thread::new(key.clone(), now.steady) };
        self.threads.insert(key, thread);
    }

    pub(super) fn severity(&self, id: AlertId) -> Severity {
        let lead = self.alerts.get(&id).and_then(|alert| alert.lead.as_ref());
        lead.map_or(Severity::Info, |lead| lead.severity)
    }

    /// The channels of a person for a severity; where none is for it, none.
    pub(super) fn channels(&self, name: &str, severity: Severity) -> Vec<String> {
        let person = self.rules.people.iter().find(|person| person.name == name);
        let channels = person.into_iter().flat_map(|person| &person.channels);
        channels.filter(|channel| channel.severities.contains(&severity)).map(|channel| channel.id.clone()).collect()
    }

    /// Queues a person's next channel where the one before fails, or nobody acknowledges what was told there.
    pub(super) fn tell_next_channels(&mut self, id: AlertId, severity: Severity, now: Now) {
        self.replace_failing(id, severity, severity == Severity::Critical, now);
    }

    /// Queues a person's next channel where those before fail, or where nobody acknowledges in time, if that is `awaited`. Goes on
    /// to other people when nobody can be reached.
    fn replace_failing(&mut self, id: AlertId, severity: Severity, awaited: bool, now: Now) {
        let mut by_person: BTreeMap<String, Vec<Thread>> = BTreeMap::new();
        for thread in self.threads.range(range_of(id)).map(|(_, thread)| thread) {
            by_person.entry(thread.key.person.clone()).or_default().push(thread.clone());
        }
        for (pseudonym, threads) in by_person {
            let Some(name) = self.name_of(&pseudonym).map(str::to_owned) else { continue };
            let channels = self.channels(&name, severity);
            let Some(next) =
                channels.iter().find(|channel| threads.iter().all(|thread| thread.key.channel != **channel))
            else {
                continue;
            };
            let all_fail = threads.iter().all(|thread| thread.fails(now.steady));
            let told_at = threads.iter().filter_map(|thread| thread.told.as_ref()).map(|told| told.at).min();
            let unheard = awaited && told_at.is_some_and(|at| now.steady.since(at) >= self.rules.next_channel_after);
            if let (true, Some(at)) = (awaited, told_at) {
                let due = at + self.rules.next_channel_after;
                if due > now.steady {
                    self.wake_at(due);
                }
            }
            if all_fail || unheard {
                let key = ThreadKey { alert: id, person: pseudonym, channel: next.clone() };
                self.queue(key, now);
            }
        }
        self.next_person_when_all_fail(id, now);
    }

    /// Goes on to the next step at once when nobody was told and all channels fail: nobody waits for somebody who can't be reached.
    fn next_person_when_all_fail(&mut self, id: AlertId, now: Now) {
        let mut threads = self.threads.range(range_of(id)).map(|(_, thread)| thread);
        if !threads.all(|thread| thread.told.is_none() && thread.fails(now.steady)) {
            return;
        }
        let Some(alert) = self.alerts.get(&id) else { return };
        let Some(lead) = alert.lead.as_ref() else { return };
        let Some(rule) = self.escalation(alert, lead) else { return };
        let steps = u32::try_from(rule.steps.len()).unwrap_or(u32::MAX).max(1);
        let before = self.threads.range(range_of(id)).count();
        for step in lead.step % steps + 1..steps {
            self.tell_step(id, &rule, step, false, now);
            if self.threads.range(range_of(id)).count() > before {
                if let Some(lead) = self.alerts.get_mut(&id).and_then(|alert| alert.lead.as_mut()) {
                    (lead.step, lead.step_at) = (step, now.steady);
                }
                self.mark(id);
                return;
            }
        }
        if self.severity(id) == Severity::Critical {
            self.tell_everybody(id, now);
        }
    }

    /// Owes a reminder to those who were told of what nobody took on.
    pub(super) fn remind(&mut self, id: AlertId, severity: Severity, now: Now) {
        let is_hold = self.alerts.get(&id).is_some_and(|alert| alert.opening.source == Source::Hold);
        let every = if is_hold { Some(HOLD_REMIND_EVERY) } else { self.rules.remind_every.get(&severity).copied() };
        let Some(every) = every.filter(|every| *every > Span::ZERO) else { return };
        let told: Vec<(ThreadKey, Time)> = self
            .threads
            .range(range_of(id))
            .filter(|(_, thread)| thread.remind_at.is_none())
            .filter_map(|(key, thread)| Some((key.clone(), thread.told.as_ref()?.at)))
            .collect();
        for (key, at) in told {
            let due = at + every;
            if due > now.steady {
                self.wake_at(due);
            } else if let Some(thread) = self.threads.get_mut(&key) {
                thread.remind_at = Some(due);
                self.mark_thread(&key);
            }
        }
    }

    /// Queues the weekly test to whoever is on call, once it is due.
    pub(super) fn test(&mut self, now: Now) {
        let Some(due) = (self.rules.test_due)(now.wall) else { return };
        let Some(before) = self.memory.tested_at else {
            // A new installation: the first test is the next one.
            self.memory.tested_at = Some(due);
            self.dirty.insert(MEMORY.to_owned());
            return;
        };
        if before > now.wall {
            // The clock was wrong then: no test waits for that time to come round.
            self.memory.tested_at = Some(due);
            self.dirty.insert(MEMORY.to_owned());
            return;
        }
        if due <= before {
            return;
        }
        self.memory.tested_at = Some(due);
        self.dirty.insert(MEMORY.to_owned());
        let Some(rule) = self.rules.escalations.get("").cloned() else { return };
        let mut names: BTreeSet<String> = BTreeSet::new();
        for target in rule.steps.first().into_iter().flat_map(|step| &step.targets) {
            match target {
                Target::Person(name) => drop(names.insert(name.clone())),
                Target::Schedule(schedule) => names.extend((self.rules.on_call)(schedule, now.wall)),
            }
        }
        for name in names {
            if let Some(channel) = self.channels(&name, Severity::Critical).into_iter().next() {
                self.queue_test(&name, channel, now);
            }
        }
    }

    /// Queues a test message to a channel of a person.
    pub fn queue_test(&mut self, name: &str, channel: String, now: Now) {
        let key = ThreadKey { alert: 0, person: self.pseudonym(name), channel };
        let thread = self.threads.entry(key.clone()).or_insert_with(|| Thread::new(key.clone(), now.steady));
        // Of tests that are asked for faster than they are sent, one is sent.
        if thread.test_at.is_none() {
            *thread = Thread { test_at: Some(now.steady), count: thread.count, ..Thread::new(key.clone(), now.steady) };
            self.notes.push(Note::Notified { thread: key.clone(), state: "queued" });
            self.mark_thread(&key);
        }
    }
}
