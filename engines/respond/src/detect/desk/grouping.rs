//! Which alerts have one cause: groups, their updates and their end.

use super::{
    Alert, AlertId, Desk, FIRST_WAIT, FLAP_QUIET, GATHER, GATHER_ANYWHERE, GATHER_MANY_MAX, GATHER_MAX, GIVE_UP_AFTER,
    GatheredBy, KEPT, Lead, MANY, Note, Now, OVER_WAIT, Opening, Scope, ServiceId, Silence, Source, Span, ThreadKey,
    Time, UPDATE_EVERY, UPDATE_EVERY_MAX, range_of,
};

impl Desk {
    /// Ends what ends by itself.
    pub(super) fn expire(&mut self, now: Now) {
        let ended: Vec<(String, Time)> = self
            .alerts
            .values()
            .filter_map(|alert| Some((alert.key.clone(), alert.opening.until.filter(|_| alert.fires())?)))
            .filter(|(_, until)| *until <= now.steady)
            .map(|(key, until)| (key, now.wall - now.steady.since(until)))
            .collect();
        for (key, until) in ended {
            self.over(&key, until, now);
        }
        if let Some(next) =
            self.alerts.values().filter(|alert| alert.fires()).filter_map(|alert| alert.opening.until).min()
        {
            self.wake_at(next);
        }
        let kept = |silence: &Silence| now.wall.since(silence.ends_at) < KEPT;
        let old: Vec<String> = self
            .silences
            .values()
            .filter(|ready| !kept(&ready.silence))
            .map(|ready| ready.silence.id.clone())
            .collect();
        for id in old {
            self.silences.remove(&id);
            self.match_silence(&id);
            self.dirty.insert(format!("silence/{id}"));
        }
        let old: Vec<AlertId> = self
            .alerts
            .values()
            .filter(|alert| {
                let over = alert.over_at.map_or(Span::ZERO, |over| now.steady.since(over));
                // What a channel refuses to take waits for somebody to mend the policy.
                let refused = || self.threads.range(range_of(alert.id)).any(|(_, thread)| thread.refused);
                let long_over = over >= KEPT && (over >= GIVE_UP_AFTER || !refused());
                long_over && !self.leads.contains(&alert.id) && alert.follows.is_none()
            })
            .map(|alert| alert.id)
            .collect();
        for id in old {
            self.remove(id);
        }
    }

    /// Forgets a group that is settled, or an alert without one.
    pub(super) fn remove(&mut self, id: AlertId) {
        self.gathers_no_more(id);
        let members = self.members.remove(&id).unwrap_or_else(|| vec![id]);
        for member in members {
            if let Some(alert) = self.alerts.remove(&member)
                && self.by_key.get(&alert.key) == Some(&member)
            {
                self.by_key.remove(&alert.key);
            }
            self.pending.remove(&member);
            self.matching.remove(&member);
            self.mark(member);
        }
        self.leads.remove(&id);
        self.quieted.remove(&id);
        self.scopes.remove(&id);
        self.firing.remove(&id);
        self.unheard.remove(&id);
        let threads: Vec<ThreadKey> = self.threads.range(range_of(id)).map(|(key, _)| key.clone()).collect();
        let past: Vec<ThreadKey> = self.past.range(range_of(id)).map(|(key, _)| key.clone()).collect();
        for key in threads.into_iter().chain(past) {
            self.threads.remove(&key);
            self.past.remove(&key);
            self.mark_thread(&key);
        }
    }

    /// The region of a group gathers into it no longer.
    fn gathers_no_more(&mut self, id: AlertId) {
        let Some(by) = self.alerts.get(&id).map(Alert::gathered_by) else { return };
        if self.gathering.get(&by) == Some(&id) {
            self.gathering.remove(&by);
        }
    }

    /// Whether an alert that nobody was told of yet, and that is over since `at`, was to be told of by then.
    pub(super) fn lasted(&self, id: AlertId, at: Time, now: Now) -> bool {
        let Some(alert) = self.alerts.get(&id) else { return false };
        let after = self.rules.after.get(&alert.opening.severity).copied().unwrap_or(Span::ZERO);
        let length = at.since(alert.opening.since);
        // An end before its beginning is one of a clock that was set back: it proves nothing, so people are told.
        (length < Span::ZERO || length >= after.max(FIRST_WAIT)) && !self.waits(alert, now)
    }

    /// Whether nobody is to be told of an alert for now: it is silenced, under maintenance, or a consequence.
    fn waits(&self, alert: &Alert, now: Now) -> bool {
        // A promise is broken because a service fails: whoever is told of the service need not be told of it yet.
        let follows = matches!(alert.opening.source, Source::Promise | Source::Burn)
            && alert.opening.services.iter().any(|service| self.failed_service.contains_key(service));
        follows || self.in_maintenance(alert, now.wall) || !self.silenced_by(alert, now.wall).is_empty()
    }

    /// Lets an alert join a group, or begin one.
    pub(super) fn place(&mut self, id: AlertId, now: Now) {
        self.pending.remove(&id);
        match self.related(id, now) {
            Some(group) => self.join(id, group, now),
            None => self.lead(id, now),
        }
    }

    /// Lets each alert that waits join a group or begin one, once people may be told of it.
    pub(super) fn place_pending(&mut self, now: Now) {
        let pending: Vec<AlertId> = self.pending.iter().copied().collect();
        for id in pending {
            let Some(alert) = self.alerts.get(&id) else {
                self.pending.remove(&id);
                continue;
            };
            let after = self.rules.after.get(&alert.opening.severity).copied().unwrap_or(Span::ZERO);
            let due = if alert.flapping { now.steady } else { alert.opened_at + after };
            if due > now.steady {
                self.wake_at(due);
                continue;
            }
            if self.waits(alert, now) {
                self.wake_at(now.steady + Span::from_secs(10));
                continue;
            }
            self.place(id, now);
        }
    }

    /// The group whose cause an alert may share.
    pub(super) fn related(&self, id: AlertId, now: Now) -> Option<AlertId> {
        let alert = self.alerts.get(&id)?;
        let opening = &alert.opening;
        if !opening.source.is_failure() {
            return None;
        }
        let group_of = |id: AlertId| {
            let alert = self.alerts.get(&id)?;
            let group = alert.follows.unwrap_or(id);
            let lead = self.alerts.get(&group)?.lead.as_ref()?;
            (lead.over_at.is_none() && self.leads.contains(&group)).then_some(group)
        };
        let failures = |service: &ServiceId| {
            self.failed_service.get(service).into_iter().flatten().copied().filter(|failed| *failed != id)
        };
        // What it can't do without has failed; or something else of the same service.
        for service in &opening.services {
            let causes = [service].into_iter().chain(self.rules.places.depends_on(service));
            for cause in causes {
                let group = failures(cause).find_map(group_of);
                if group.is_some() {
                    return group;
                }
            }
        }
        // It is what a service that failed already can't do without.
        for service in &opening.services {
            for dependent in self.rules.places.dependents(service) {
                let group = failures(dependent).find_map(group_of);
                if group.is_some() {
                    return group;
                }
            }
        }
        // The same region, or name, soon after.
        let soon = self.gathering.get(&alert.gathered_by()).copied().filter(|group| {
            let lead = self.alerts.get(group).and_then(|alert| alert.lead.as_ref());
            lead.is_some_and(|lead| lead.over_at.is_none() && now.steady < lead.gathers_until)
        });
        if soon.is_some() {
            return soon;
        }
        // Its host, or its region, has failed as a whole.
        let regions = [opening.region.clone(), None].map(GatheredBy::Region);
        let of_region = regions.into_iter().filter_map(|region| self.gathering.get(&region).copied());
        of_region.into_iter().find(|group| self.has_failed_as_a_whole(*group, opening))
    }

    /// Whether the host or the region that a group extends over has failed as a whole, and this alert is of it.
    pub(super) fn has_failed_as_a_whole(&self, group: AlertId, opening: &Opening) -> bool {
        let lead = self.alerts.get(&group).and_then(|alert| alert.lead.as_ref());
        let (Some(lead), Some(scope)) = (lead, self.scopes.get(&group)) else { return false };
        let failed = scope.services.len();
        if lead.over_at.is_some() || failed < 2 {
            return false;
        }
        let places = &self.rules.places;
        let host = scope.host().filter(|host| opening.hosts.contains(*host));
        let region = scope.region().filter(|region| opening.region.as_ref() == Some(*region));
        host.is_some_and(|host| 2 * failed >= places.services_of_host(host))
            || region.is_some_and(|region| 2 * failed >= places.services_of_region(region))
    }

    pub(super) fn lead(&mut self, id: AlertId, now: Now) {
        let Some(alert) = self.alerts.get_mut(&id) else { return };
        let mut scope = Scope::default();
        scope.add(&alert.opening);
        let severity = alert.opening.severity;
        let gathers = match (alert.opening.source.is_failure(), &alert.opening.region) {
            (true, Some(_)) => GATHER,
            (true, None) => GATHER_ANYWHERE,
            (false, _) => Span::ZERO,
        };
        alert.lead = Some(Lead {
            begun_at: now.steady,
            gathers_until: now.steady + gathers,
            update_joined: 0,
            worsened: 0,
            again: 0,
            updates: 0,
            next_update_at: now.steady,
            severity,
            acknowledged: None,
            step: 0,
            step_at: now.steady,
            over_at: None,
            settled: false,
            handed_to: None,
            cause: None,
        });
        let (by, is_failure) = (alert.gathered_by(), alert.opening.source.is_failure());
        self.leads.insert(id);
        self.members.insert(id, vec![id]);
        self.scopes.insert(id, scope);
        self.firing.insert(id, 1);
        if is_failure {
            self.gathering.insert(by, id);
        }
        self.notes.push(Note::Alert(id, "firing"));
        self.mark(id);
    }

    pub(super) fn join(&mut self, id: AlertId, group: AlertId, now: Now) {
        let Some(opening) = self.alerts.get(&id).map(|alert| alert.opening.clone()) else { return };
        if let Some(alert) = self.alerts.get_mut(&id) {
            alert.follows = Some(group);
        }
        let is_cause = {
            let leader = self.alerts.get(&group);
            leader.is_some_and(|leader| {
                let depends = |service: &ServiceId| {
                    opening.services.iter().any(|cause| self.rules.places.depends(service, cause))
                };
                leader.opening.services.iter().any(depends)
            })
        };
        let of_group = self.members.entry(group).or_default();
        of_group.push(id);
        let members = of_group.len();
        *self.firing.entry(group).or_default() += 1;
        if let Some(lead) = self.alerts.get_mut(&group).and_then(|alert| alert.lead.as_mut()) {
            // Many of one region, one after the other: some probes ask once in ten minutes only.
            let most = if members >= MANY { GATHER_MANY_MAX } else { GATHER_MAX };
            let latest = lead.begun_at + most;
            // Without a region, what goes on failing one by one is told one by one.
            if opening.region.is_some() {
                lead.gathers_until = lead.gathers_until.max((now.steady + GATHER).min(latest));
            }
            if is_cause {
                lead.cause = Some(id);
            }
        }
        self.scopes.entry(group).or_default().add(&opening);
        self.mark(id);
        self.mark(group);
        self.raise(id, now);
    }

    /// Does what is due for one group: updates, the end, the next step of the escalation.
    pub(super) fn tend(&mut self, id: AlertId, now: Now) {
        let Some(lead) = self.alerts.get(&id).and_then(|alert| alert.lead.as_ref()) else { return };
        let until = lead.acknowledged.as_ref().map(|acknowledged| acknowledged.until);
        if let Some(over) = lead.over_at {
            self.quieted.remove(&id);
            self.end(id, over, now);
            return;
        }
        match until {
            Some(until) if until <= now.steady => self.acknowledgement_expired(id, now),
            Some(until) => self.wake_at(until),
            None => {}
        }
        // Silenced, or under maintenance, after it began: nothing more is told until that is over.
        if self.is_quieted(id, now.wall) {
            self.quieted.insert(id);
            self.wake_at(now.steady + Span::from_secs(10));
            return;
        }
        self.quieted.remove(&id);
        self.update(id, now);
        self.escalate(id, now);
    }

    pub(super) fn is_quieted(&self, id: AlertId, wall: Time) -> bool {
        let Some(members) = self.members.get(&id) else { return false };
        if self.silences.is_empty() && self.rules.maintenance.is_empty() {
            return false;
        }
        let mut firing = members.iter().filter_map(|member| self.alerts.get(member)).filter(|alert| alert.fires());
        firing.all(|alert| self.in_maintenance(alert, wall) || !self.silenced_by(alert, wall).is_empty())
    }

    /// Makes what has joined since the last message news, once the gathering is over.
    pub(super) fn update(&mut self, id: AlertId, now: Now) {
        let joined = self.joined(id);
        let Some(lead) = self.alerts.get_mut(&id).and_then(|alert| alert.lead.as_mut()) else { return };
        // Until somebody was told there is nothing to update: the first message speaks of all that is known by then.
        if lead.update_joined == 0 || joined <= lead.update_joined {
            return;
        }
        let due = lead.gathers_until.min(lead.begun_at + GATHER_MAX).max(lead.next_update_at);
        if now.steady < due {
            self.wake_at(due);
            return;
        }
        lead.update_joined = joined;
        let wait = Span::from_micros(UPDATE_EVERY.micros() << (2 * lead.updates.min(4))).min(UPDATE_EVERY_MAX);
        // Whoever has taken it on looks at it.
        let wait = if lead.acknowledged.is_some() { UPDATE_EVERY_MAX } else { wait };
        lead.updates += 1;
        lead.next_update_at = now.steady + wait;
        self.notes.push(Note::Alert(id, "scope"));
        self.mark(id);
    }

    /// The number of alerts that have joined a group.
    pub(super) fn joined(&self, id: AlertId) -> u32 {
        self.members.get(&id).map_or(0, |members| u32::try_from(members.len()).unwrap_or(u32::MAX))
    }

    /// Ends a group whose members are all over: once that has lasted, and everybody knows.
    pub(super) fn end(&mut self, id: AlertId, over: Time, now: Now) {
        let wait = self.over_wait(id);
        if now.steady < over + wait {
            self.wake_at(over + wait);
            return;
        }
        self.gathers_no_more(id);
        self.tell_the_end(id, over, now);
        let again = self.alerts.get(&id).and_then(|alert| alert.lead.as_ref()).map_or(0, |lead| lead.again);
        let owed = self.threads.range(range_of(id)).any(|(_, thread)| {
            !thread.refused && thread.told.as_ref().is_none_or(|told| !told.over || told.again != again)
        });
        if !owed {
            self.leads.remove(&id);
            self.unheard.remove(&id);
            if let Some(lead) = self.alerts.get_mut(&id).and_then(|alert| alert.lead.as_mut()) {
                lead.settled = true;
                self.mark(id);
            }
            self.notes.push(Note::Alert(id, "resolved"));
            // Members are kept for a day, to be shown, and to continue when it comes again.
            for member in self.members.get(&id).cloned().unwrap_or_default() {
                if let Some(alert) = self.alerts.get_mut(&member) {
                    alert.flapping = false;
                    self.mark(member);
                }
            }
        }
    }

    /// How long a group must be over before that counts.
    pub(super) fn over_wait(&self, id: AlertId) -> Span {
        let flaps = |member: &AlertId| self.alerts.get(member).is_some_and(|alert| alert.flapping);
        if self.members.get(&id).is_some_and(|members| members.iter().any(flaps)) { FLAP_QUIET } else { OVER_WAIT }
    }
}
