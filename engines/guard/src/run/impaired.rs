//! What is not followed, not read or not enforced now: it is journaled when it begins and when it is over, once each, and the words
//! of findings and of the status are made of it.

use std::collections::BTreeSet;

use engine::EngineError;
use event::{Monotonic, Observed, Span};

use super::{
    BANS_FILE, CAP, Counted, EVENTS_AT_ONCE, FORMULA, LIST, LISTS, ON_BAN, PACKET_FILTER, PORT_SCANS, POSITIONS,
    SSH_SESSIONS, Session,
};
use crate::config::{BANS_NOT_ENFORCED, LOGS_UNREAD, OFFENDERS_BANNED};
use crate::events::{Detail, Impaired};
use crate::plan::{BANS_OF, JAILS_OF, TICKETS_MAX};
use crate::source::Notice;

/// How long something that passes by itself is said to be wrong after the last time: patterns that were given up, a cap that was reached.
const PASSES_AFTER: Span = Span::from_secs(600);
/// What is impaired when a rule has patterns that were given up.
const PATTERNS: &str = "patterns of ";
/// What is impaired when a rule has forgotten addresses with failures.
const COUNTS: &str = "counts of ";
/// Most of what is wrong that the words of a finding name.
const TOLD_MAX: usize = 10;

impl Session<'_> {
    /// Says which patterns were given up, and which rules have forgotten failures.
    pub(super) async fn gave_up(&mut self, given_up: Counted, forgotten: Counted) -> Result<(), EngineError> {
        for (rule, searches) in given_up {
            tracing::debug!(rule = &*rule, searches, "searches were given up at their limit of steps");
            let reason =
                "searches were given up at their limit of steps: a line was made for that, or a pattern runs away";
            self.impair_for_now(format!("{PATTERNS}{rule}"), reason.to_owned()).await?;
        }
        for (rule, addresses) in forgotten {
            tracing::debug!(rule = &*rule, addresses, "addresses with failures were forgotten");
            let reason = format!(
                "the failures of some addresses were forgotten: more than {TICKETS_MAX} addresses had failures at once, and the \
                 oldest went"
            );
            self.impair_for_now(format!("{COUNTS}{rule}"), reason).await?;
        }
        Ok(())
    }

    /// Says what there is to say of logs: together, for bans wait meanwhile, and there may be a thousand.
    pub(super) async fn notices(&mut self, notices: Vec<Notice>) -> Result<(), EngineError> {
        let (mut events, mut findings) = (Vec::new(), BTreeSet::new());
        for notice in notices {
            let text = notice.to_string();
            match notice {
                Notice::Unreadable { path, .. } | Notice::TooMany { path } => {
                    if let Some((event, finding)) = self.impairment(path, text)? {
                        events.push(event);
                        findings.extend(finding);
                    }
                }
                Notice::Readable { path } => events.extend(self.recovery(&path)?),
                Notice::GivenUp { path } => self.impair_for_now(path, text).await?,
                Notice::Rotated { .. } => tracing::debug!("{text}"),
                Notice::Truncated { .. } | Notice::RestGone { .. } => tracing::warn!("{text}"),
            }
        }
        for finding in findings {
            events.push(self.seal(&self.detail(Some(finding)))?);
        }
        for events in events.chunks(EVENTS_AT_ONCE) {
            self.context.recorder.send(events.to_vec()).await?;
            self.context.progress.tick();
        }
        Ok(())
    }

    pub(super) async fn impair(&mut self, what: String, reason: String) -> Result<(), EngineError> {
        if let Some((event, finding)) = self.impairment(what, reason)? {
            let detail = finding.map(|finding| self.seal(&self.detail(Some(finding)))).transpose()?;
            self.context.recorder.send(std::iter::once(event).chain(detail).collect()).await?;
        }
        Ok(())
    }

    /// Notes what is wrong: the event of it, unless it is known, and the finding whose words have changed by it.
    fn impairment(
        &mut self,
        what: String,
        reason: String,
    ) -> Result<Option<(Observed, Option<&'static str>)>, EngineError> {
        if self.impaired.get(&what) == Some(&reason) {
            return Ok(None);
        }
        tracing::warn!("{what}: {reason}");
        let event = self.seal(&Impaired { what: what.clone(), reason: reason.clone(), over: false })?;
        // The words of a finding that begins go with it.
        let finding = self.finding_of(&what).filter(|finding| self.statement.is_open(finding));
        self.impaired.insert(what, reason);
        Ok(Some((event, finding)))
    }

    /// The finding that what is impaired is of.
    pub(super) fn finding_of(&self, what: &str) -> Option<&'static str> {
        match what {
            PACKET_FILTER | CAP | PORT_SCANS => Some(BANS_NOT_ENFORCED),
            jail if jail.starts_with(BANS_OF) => Some(BANS_NOT_ENFORCED),
            list if self.unknown_lists.contains_key(list) => Some(BANS_NOT_ENFORCED),
            reading if is_about_reading(reading) => Some(LOGS_UNREAD),
            _ => None,
        }
    }

    /// The words of a finding, or of the probe when it is not up: what is wrong now that belongs to it.
    pub(super) fn detail(&self, finding: Option<&'static str>) -> Detail {
        let about = finding.unwrap_or(BANS_NOT_ENFORCED);
        let text = if about == OFFENDERS_BANNED {
            self.tells.as_ref().map(|(_, text)| text.clone()).unwrap_or_default()
        } else if about == BANS_NOT_ENFORCED && self.settings.simulate && self.unenforced.is_none() {
            "`simulate = true` in [guard]: offences are recorded, and nobody is banned".to_owned()
        } else {
            let all = self.impaired.iter().filter(|(what, _)| self.finding_of(what) == Some(about));
            let (said, more): (Vec<_>, Vec<_>) = all.enumerate().partition(|(number, _)| *number < TOLD_MAX);
            let mut text: Vec<String> = said.iter().map(|(_, (what, reason))| format!("{what}: {reason}")).collect();
            text.extend((!more.is_empty()).then(|| format!("and {} more", more.len())));
            text.join("\n")
        };
        let finding = finding.and_then(|name| name.parse().ok());
        Detail { probe: self.settings.probe.clone(), finding, text }
    }

    /// Says what is wrong, until it has not been so for a while.
    pub(super) async fn impair_for_now(&mut self, what: String, reason: String) -> Result<(), EngineError> {
        self.passing.insert(what.clone(), self.context.clock.monotonic());
        self.impair(what, reason).await
    }

    pub(super) async fn pass(&mut self, monotonic: Monotonic) -> Result<(), EngineError> {
        let over = self.passing.extract_if(.., |_, seen| monotonic.since(*seen) >= PASSES_AFTER);
        for (what, _) in over.collect::<Vec<_>>() {
            self.recover(&what).await?;
        }
        Ok(())
    }

    pub(super) async fn recover(&mut self, what: &str) -> Result<(), EngineError> {
        if let Some(event) = self.recovery(what)? {
            self.context.recorder.send(vec![event]).await?;
        }
        Ok(())
    }

    /// Notes that something is no longer wrong: the event of it, if it was.
    fn recovery(&mut self, what: &str) -> Result<Option<Observed>, EngineError> {
        let reason = self.impaired.remove(what);
        reason.map(|reason| self.seal(&Impaired { what: what.to_owned(), reason, over: true })).transpose()
    }
}

/// Whether what is impaired keeps a declared log from being read: not the packet filter, the cap of bans, nor a list.
pub(super) fn is_about_reading(what: &str) -> bool {
    ![PACKET_FILTER, CAP, BANS_FILE, POSITIONS, SSH_SESSIONS, LISTS, ON_BAN, PORT_SCANS].contains(&what)
        && !what.starts_with(LIST)
        && !what.starts_with(PATTERNS)
        && !what.starts_with(COUNTS)
        && !what.starts_with(FORMULA)
        && !what.starts_with(BANS_OF)
        && !what.starts_with(JAILS_OF)
}
