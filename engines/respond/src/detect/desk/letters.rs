//! What is owed to whom, and what became of it.

use super::{
    AlertId, BTreeMap, Delivery, Desk, GIVE_UP_AFTER, Lead, Letter, LetterThread, MessageNumber, NEXT_TRY_MAX, Note,
    Now, ReactedTo, Sent, Severity, Span, Thread, ThreadKey, Time, Told, What, pause,
};

impl Desk {
    /// What a thread is owed now, if anything.
    pub(super) fn owed(&self, thread: &Thread, now: Now) -> Option<LetterThread> {
        let key = thread.key.clone();
        if thread.refused {
            return None;
        }
        if key.alert == 0 {
            let severity = Severity::Info;
            let letter =
                LetterThread { key, what: What::Test, worsened: 0, again: 0, severity, over: false, joined: 0 };
            return thread.test_at.map(|_| letter);
        }
        let alert = self.alerts.get(&key.alert)?;
        let lead = alert.lead.as_ref()?;
        // Over, and for long enough that it counts; in between nothing is told.
        let over = match lead.over_at {
            Some(over) if now.steady >= over + self.over_wait(key.alert) => true,
            Some(_) => return None,
            None => false,
        };
        if !over && self.quieted.contains(&key.alert) {
            return None;
        }
        let what = match &thread.told {
            // Who was never told of something that is over by now hears of both at once.
            None if over => What::Resolved,
            None => What::Firing,
            Some(told) => match (told.over, over) {
                (true, true) if told.again == lead.again => return None,
                // Over for the first time, or after it fired once more.
                (_, true) => What::Resolved,
                (true, false) => What::Firing,
                (false, false)
                    if told.joined < lead.update_joined
                        || told.worsened < lead.worsened
                        || told.severity < lead.severity =>
                {
                    What::Update
                }
                (false, false) => {
                    let is_due = thread.remind_at.is_some_and(|at| at <= now.steady);
                    if !is_due || lead.acknowledged.is_some() {
                        return None;
                    }
                    What::Reminder
                }
            },
        };
        let joined = self.joined(key.alert);
        let Lead { worsened, again, severity, .. } = *lead;
        Some(LetterThread { key, what, worsened, again, severity, over, joined })
    }

    /// The letters to be sent now, each under way until [`Self::sent`].
    pub fn letters(&mut self, now: Now) -> Vec<Letter> {
        // All that is owed to a person on a channel goes along once one of it is due: what waited for a dead receiver is one message.
        let mut due: BTreeMap<(String, String), (Time, Vec<LetterThread>)> = BTreeMap::new();
        let mut wakes: Vec<Time> = Vec::new();
        for thread in self.threads.values() {
            let place = (thread.key.person.clone(), thread.key.channel.clone());
            if self.in_flight.contains(&place) {
                continue;
            }
            let Some(letter) = self.owed(thread, now) else { continue };
            let (first, owed) = due.entry(place).or_insert((thread.next_try, Vec::new()));
            *first = thread.next_try.min(*first);
            owed.push(letter);
        }
        let mut letters = Vec::new();
        for ((pseudonym, channel), (first, mut threads)) in due {
            if first > now.steady {
                wakes.push(first);
                continue;
            }
            let Some(person) = self.name_of(&pseudonym).map(str::to_owned) else { continue };
            let Some(rule) = self.rules.people.iter().find(|rule| rule.name == person) else {
                // No longer in the policy: nobody to be told.
                self.forget_threads(&pseudonym, None);
                continue;
            };
            if rule.channels.iter().all(|rule| rule.id != channel) {
                self.move_threads(&pseudonym, &person, &channel, now);
                continue;
            }
            // A test says that there is nothing to do: it is a message of its own, and comes when nothing else goes now.
            let (tests, others): (Vec<_>, Vec<_>) = threads.into_iter().partition(|thread| thread.what == What::Test);
            threads = others;
            if let Some(until) = (rule.quiet_until)(now.wall) {
                let waits = |thread: &LetterThread| self.severity(thread.key.alert) < Severity::Critical;
                if threads.iter().any(waits) {
                    wakes.push(now.steady + until.since(now.wall));
                }
                threads.retain(|thread| !waits(thread));
            }
            let urgent = |thread: &LetterThread| {
                thread.what == What::Firing && self.severity(thread.key.alert) == Severity::Critical
            };
            let new_cause = threads.iter().any(urgent);
            let place = (pseudonym.clone(), channel.clone());
            let budget = self.budgets.entry(place.clone()).or_default();
            let next = budget.next(now.steady, new_cause);
            if next > now.steady && !threads.is_empty() {
                wakes.push(next);
                threads.clear();
            }
            if threads.is_empty() {
                threads = tests;
            }
            if threads.is_empty() {
                continue;
            }
            threads.sort_by_key(|thread| {
                let rank = match thread.what {
                    What::Firing => 0,
                    What::Update => 1,
                    What::Reminder => 2,
                    _ => 3,
                };
                (rank, std::cmp::Reverse(self.severity(thread.key.alert)), thread.key.alert)
            });
            let what = match threads.as_slice() {
                [only] => only.what,
                several if several.iter().all(|thread| thread.what == What::Test) => What::Test,
                _ => What::Digest,
            };
            self.in_flight.insert(place);
            for thread in &threads {
                let lead = self.alerts.get_mut(&thread.key.alert).and_then(|alert| alert.lead.as_mut());
                if let Some(lead) = lead.filter(|lead| lead.update_joined == 0) {
                    lead.update_joined = thread.joined;
                    self.mark(thread.key.alert);
                }
            }
            letters.push(Letter { person, channel, threads, what, at: now.steady });
        }
        for wake in wakes {
            self.wake_at(wake);
        }
        letters
    }

    /// A person has another address: what was still to be told there is told on the first channel that there is now.
    fn move_threads(&mut self, pseudonym: &str, person: &str, channel: &str, now: Now) {
        let of_channel = self.threads.keys().filter(|key| key.person == pseudonym && key.channel == channel);
        let alerts: Vec<_> = of_channel.map(|key| key.alert).collect();
        self.forget_threads(pseudonym, Some(channel));
        for id in alerts {
            let settled = self.alerts.get(&id).and_then(|alert| alert.lead.as_ref()).is_none_or(|lead| lead.settled);
            if !settled {
                self.tell(id, person, false, now);
            }
        }
        self.wake_at(now.steady);
    }

    pub(super) fn forget_threads(&mut self, person: &str, channel: Option<&str>) {
        let gone: Vec<ThreadKey> = self
            .threads
            .keys()
            .filter(|key| key.person == person && channel.is_none_or(|channel| key.channel == channel))
            .cloned()
            .collect();
        for key in gone {
            self.threads.remove(&key);
            self.mark_thread(&key);
        }
    }

    /// Takes the result of sending a letter. `random` draws the pause after a failure.
    pub fn sent(&mut self, letter: &Letter, sent: &Sent, random: u64, now: Now) {
        let pseudonym = self.pseudonym(&letter.person);
        let place = (pseudonym, letter.channel.clone());
        self.in_flight.remove(&place);
        let first = letter.threads.first();
        let count = |key: &ThreadKey| self.threads.get(key).map_or(0, |thread| thread.count);
        let message = first.map_or((0, 0), |thread| (thread.key.alert, count(&thread.key)));
        // Who is told of an end was told of a beginning: that one counts.
        if matches!(sent, Sent::Accepted { .. }) && !matches!(letter.what, What::Test | What::Resolved) {
            self.budgets.entry(place.clone()).or_default().take(letter.at);
            self.dirty.insert(format!("budget/{}/{}", place.0, place.1));
        }
        for told in &letter.threads {
            self.settle(told, message, sent, random, now);
        }
        if let Some((message, delivery)) = self.early.remove(&place) {
            self.take_receipt(&place, message, &delivery, now);
        }
    }

    /// Takes the receipt for a message that a channel accepted: it reached the person's device, or it never will. The first word
    /// counts, and one about a message that is forgotten changes nothing.
    pub fn receipt(&mut self, key: &ThreadKey, count: u32, delivery: Delivery, now: Now) {
        let place = (key.person.clone(), key.channel.clone());
        let message = (key.alert, count);
        if self.in_flight.contains(&place) && self.told_by(&place, message).is_empty() {
            self.early.insert(place, (message, delivery));
            return;
        }
        self.take_receipt(&place, message, &delivery, now);
    }

    /// The threads of a person's channel that this message told of last.
    fn told_by(&self, place: &(String, String), message: MessageNumber) -> Vec<ThreadKey> {
        let told = self.threads.values().filter(|thread| {
            let is_told = thread.told.as_ref().is_some_and(|told| told.message == Some(message));
            is_told && thread.key.person == place.0 && thread.key.channel == place.1
        });
        told.map(|thread| thread.key.clone()).collect()
    }

    fn take_receipt(&mut self, place: &(String, String), message: MessageNumber, delivery: &Delivery, now: Now) {
        for key in self.told_by(place, message) {
            let Some(thread) = self.threads.get_mut(&key) else { continue };
            let Some(told) = thread.told.as_mut().filter(|told| told.delivered_at.is_none()) else { continue };
            match delivery {
                Delivery::Delivered => {
                    told.delivered_at = Some(now.steady);
                    let (joined, told_at) = (told.joined, told.at);
                    self.notes.push(Note::Notified { thread: key.clone(), state: "delivered" });
                    self.delivered(key.alert, joined, told_at, now);
                }
                Delivery::Failed { reason } => {
                    // What it said is owed still, and this channel does not do its work.
                    if told.knew {
                        (told.over, told.joined, told.message) = (false, 0, None);
                    } else {
                        thread.reference = thread.refers_to().map(str::to_owned);
                        thread.told = None;
                    }
                    thread.refuse(reason, now.steady);
                    self.notes.push(Note::Notified { thread: key.clone(), state: "failed" });
                    if let Some(lead) = self.alerts.get_mut(&key.alert).and_then(|alert| alert.lead.as_mut()) {
                        lead.settled = false;
                        self.leads.insert(key.alert);
                        self.mark(key.alert);
                    }
                }
            }
            self.mark_thread(&key);
            self.wake_at(now.steady);
        }
    }

    pub(super) fn settle(&mut self, letter: &LetterThread, message: MessageNumber, sent: &Sent, random: u64, now: Now) {
        let Some(thread) = self.threads.get_mut(&letter.key) else { return };
        let key = letter.key.clone();
        match sent {
            Sent::Accepted { reference } => {
                let earlier = thread.refers_to().map(str::to_owned);
                let reference = earlier.or_else(|| reference.clone());
                let LetterThread { joined, worsened, again, severity, over, .. } = *letter;
                let knew = thread.told.is_some();
                let (message, delivered_at) = (Some(message), None);
                let at = now.steady;
                thread.told =
                    Some(Told { joined, worsened, again, severity, over, at, reference, message, delivered_at, knew });
                thread.count += 1;
                (thread.attempts, thread.failing_since, thread.failure, thread.remind_at) = (0, None, None, None);
                (thread.next_try, thread.refusals) = (now.steady, 0);
                let test_at = thread.test_at.take();
                self.notes.push(Note::Notified { thread: key.clone(), state: "handed_over" });
                if let Some(queued_at) = test_at {
                    self.notes.push(Note::Tested { queued_at, at: now.wall });
                }
                self.reacted(letter, now);
            }
            Sent::Again { reason, after } => {
                thread.attempts = thread.attempts.saturating_add(1);
                thread.failing_since.get_or_insert(now.steady);
                let first = thread.failure.is_none();
                thread.failure = Some(reason.clone());
                let wait = pause(thread.attempts, random).max(after.unwrap_or(Span::ZERO).min(NEXT_TRY_MAX));
                thread.next_try = now.steady + wait;
                // Counted from the first failure: how old the alert is does not matter. What fires is never given up.
                let fires = self.alerts.get(&key.alert).and_then(|alert| alert.lead.as_ref());
                let fires = fires.is_some_and(|lead| lead.over_at.is_none());
                let failing = thread.failing_since.map_or(Span::ZERO, |since| now.steady.since(since));
                if !fires && failing >= GIVE_UP_AFTER {
                    thread.refused = true;
                    thread.test_at = None;
                }
                if first || thread.refused {
                    self.notes.push(Note::Notified { thread: key.clone(), state: "failed" });
                }
            }
            Sent::Refused { reason } => {
                thread.refuse(reason, now.steady);
                self.notes.push(Note::Notified { thread: key.clone(), state: "failed" });
            }
        }
        self.mark_thread(&key);
    }

    /// Notes for the public that somebody was told of each alert that this message speaks of and none did before.
    pub(super) fn reacted(&mut self, letter: &LetterThread, now: Now) {
        if !matches!(letter.what, What::Firing | What::Update | What::Resolved | What::Reminder) {
            return;
        }
        let members = self.members.get(&letter.key.alert).cloned().unwrap_or_default();
        for member in members.into_iter().take(usize::try_from(letter.joined).unwrap_or(usize::MAX)) {
            let Some(alert) = self.alerts.get_mut(&member) else { continue };
            if alert.opening.shown_by.is_some() && !alert.reacted {
                alert.reacted = true;
                alert.answers.told_at = Some(now.steady);
                self.notes.push(Note::Reacted { to: ReactedTo::Failure, alert: member, at: now.wall });
                self.mark(member);
            }
        }
    }

    /// Notes for the public that a message reached somebody who was told by it of each of these alerts, where none did before:
    /// the first `joined` of a group, by a message that a channel accepted at `told_at`.
    fn delivered(&mut self, group: AlertId, joined: u32, told_at: Time, now: Now) {
        let members = self.members.get(&group).cloned().unwrap_or_default();
        for member in members.into_iter().take(usize::try_from(joined).unwrap_or(usize::MAX)) {
            let Some(alert) = self.alerts.get_mut(&member) else { continue };
            // A late receipt may be for a message about the failure before this one.
            let is_told = alert.reacted && alert.answers.told_at.is_none_or(|first| first <= told_at);
            if alert.opening.shown_by.is_some() && is_told && !alert.answers.delivered {
                alert.answers.delivered = true;
                self.notes.push(Note::Reacted { to: ReactedTo::Delivered, alert: member, at: now.wall });
                self.mark(member);
            }
        }
    }
}
