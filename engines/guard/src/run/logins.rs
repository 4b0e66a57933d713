//! Logins with a key, which spare their addresses: at once, where it is certain that sshd tells of them, and else once the kernel says
//! that they are sessions.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use engine::{Context, EngineError};
use event::{Monotonic, Span, Time};

use super::Session;
use crate::login::{Login, login};
use crate::source::{Journal, JournalError, JournalSettings};
use crate::stream::Stream;

/// How long a login that a file tells of waits to be confirmed by the kernel, how often it is looked at, and how many wait at most;
/// beyond it, the oldest are given up.
const CONFIRMED_WITHIN: Span = Span::from_secs(30);
pub(super) const CONFIRM_EVERY: Span = Span::from_millis(250);
const UNCONFIRMED_MAX: usize = 256;
/// How long earlier logins are searched for in the journal of systemd at a start.
const PAST_LOGINS_MAX: Duration = Duration::from_secs(5);

impl Session<'_> {
    /// Takes logins in: who logged in with a key is let in at once.
    pub(super) async fn logged_in(&mut self, logins: Vec<(Login, Time)>) -> Result<(), EngineError> {
        if self.take_logins(logins) { self.lift_contradicted().await } else { Ok(()) }
    }

    /// Ends bans of those who are allowed now, unless nobody is banned anyway.
    pub(super) async fn lift_contradicted(&mut self) -> Result<(), EngineError> {
        if !self.settings.simulate
            && let Err(error) = self.lift_allowed().await
        {
            self.unenforced(&error.to_string()).await?;
        }
        Ok(())
    }

    /// Takes logins in, and says whether somebody is allowed who was not before.
    pub(super) fn take_logins(&mut self, logins: Vec<(Login, Time)>) -> bool {
        let (now, monotonic) = (self.context.clock.now(), self.context.clock.monotonic());
        let mut is_new = false;
        for (login, at) in logins {
            let Login { process, from, by_key, is_certain } = login;
            self.sessions.accepted(process, from, at, is_certain);
            if !by_key || now.since(at) > self.settings.logins_remembered {
                continue;
            }
            if is_certain {
                is_new |= self.enforcer.allowlist.why(from.ip()).is_none();
                self.enforcer.allowlist.logged_in(from.ip(), at);
            } else {
                self.unconfirmed.push_back((login, at, monotonic));
                if self.unconfirmed.len() > UNCONFIRMED_MAX {
                    self.unconfirmed.pop_front();
                }
            }
        }
        is_new
    }

    /// Takes in the logins that files tell of and that the kernel knows as sessions of these addresses.
    pub(super) fn confirm_logins(&mut self, sessions: &BTreeSet<IpAddr>, monotonic: Monotonic) {
        let (allowlist, known, is_dirty) = (&mut self.enforcer.allowlist, &self.sessions, &mut self.is_dirty);
        self.unconfirmed.retain(|(login, at, read)| {
            let from = login.from.ip().to_canonical();
            let is_session = sessions.contains(&from) && known.is_connected(login.from);
            if is_session {
                allowlist.logged_in(from, *at);
                *is_dirty = true;
            }
            !is_session && monotonic.since(*read) <= CONFIRMED_WITHIN
        });
    }
}

/// Logins to sshd that the journal of systemd holds: since `since` where a jail reads it for the first time, and since the start of
/// what is not known yet where jails read files, for of what those say of the past nobody knows who wrote it. The last ones, within a
/// bound.
pub(super) async fn past_logins(
    context: &Context,
    streams: &[Stream],
    since: Time,
    since_of_files: Option<Time>,
) -> Vec<(Login, Time)> {
    let new = streams.iter().filter(|stream| stream.is_new_journal_of_sshd());
    let mut searches: Vec<(JournalSettings, Time)> =
        new.filter_map(Stream::journal).map(|(settings, ..)| (settings.clone(), since)).collect();
    if let Some(since) = since_of_files.filter(|_| streams.iter().any(Stream::reads_files_of_sshd)) {
        let by_sshd = ["_COMM=sshd", "+", "_COMM=sshd-session"].map(str::to_owned);
        searches.push((JournalSettings { matches: vec![by_sshd.to_vec()], ..JournalSettings::default() }, since));
    }
    let mut logins = Vec::new();
    for (settings, since) in searches {
        let now = context.clock.now();
        let read = async {
            let mut journal = Journal::matching(&context.programs, &settings, "^Accepted [a-z]", since, now)?;
            loop {
                for line in journal.next().await?.lines.iter().filter(|line| line.is_of_sshd) {
                    let certain = login(&line.text).map(|login| Login { is_certain: true, ..login });
                    logins.extend(certain.map(|login| (login, line.time.min(now))));
                }
                context.progress.tick();
            }
        };
        let read: Result<Result<(), JournalError>, _> = tokio::time::timeout(PAST_LOGINS_MAX, read).await;
        match read {
            Ok(Ok(()) | Err(JournalError::Ended)) => {}
            Ok(Err(error)) => tracing::info!(%error, "earlier logins in the journal of systemd are not known"),
            Err(_) => tracing::warn!("the journal of systemd is long: logins of long ago are not known"),
        }
    }
    logins
}
