//! File descriptors: who may have how many of those that the process may open.
//!
//! **Problem.** Sockets of visitors, sockets of probes and files of the store are taken from one limit. With 1,024 of them,
//! which is what many systems give, one visitor that holds a thousand connections would leave none: the probes would see
//! nothing, and the journal could not be published. **Principle.** Each user has a share of the limit, worked out here for
//! all of them, and together the shares are not more than the limit.
//!
//! `None` is no limit.

use rustix::process::{Resource, getrlimit};

/// What the listeners may have at most, whatever the limit: more would be memory for idle connections.
const PUBLIC_MAX: u64 = 1024;
const TEAM_MAX: u64 = 256;
/// Not for sockets: the store, standard streams, the policy while it is read, a socket that is accepted and closed at once.
const KEPT: u64 = 128;
/// Descriptors of a question: its connection, and one to a name server or to another address of the name.
const QUESTION: u64 = 2;

/// The limit below which an ordinary policy may not have enough, for a warning at the start.
pub const ENOUGH: u64 = 4096;

/// How many descriptors this process may have.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Connections of the public listener.
pub fn public_connections(limit: Option<u64>) -> usize {
    share(limit.map_or(PUBLIC_MAX, |limit| (limit / 16 * 3).min(PUBLIC_MAX)))
}

/// Connections of the team's listener.
pub fn team_connections(limit: Option<u64>) -> usize {
    share(limit.map_or(TEAM_MAX, |limit| (limit / 16).min(TEAM_MAX)))
}

/// Questions of probes under way at a time.
pub fn questions(limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return usize::MAX };
    let listeners = public_connections(Some(limit)) + team_connections(Some(limit));
    let kept = u64::try_from(listeners).unwrap_or(u64::MAX).saturating_add(KEPT);
    share(limit.saturating_sub(kept) / QUESTION)
}

fn share(descriptors: u64) -> usize {
    usize::try_from(descriptors).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many connections visitors hold, the probes and the store have theirs.
    #[test]
    fn shares_fit_into_the_limit() {
        for (limit, public, team, asked) in
            [(1024, 192, 64, 320), (4096, 768, 256, 1472), (20_000, 1024, 256, 9296), (524_288, 1024, 256, 261_440)]
        {
            let shares = (public_connections(Some(limit)), team_connections(Some(limit)), questions(Some(limit)));
            assert_eq!(shares, (public, team, asked), "{limit}");
            let all = u64::try_from(public + team + 2 * asked).expect("small") + KEPT;
            assert!(all <= limit, "{all} of {limit}");
        }
        assert_eq!((public_connections(None), team_connections(None), questions(None)), (1024, 256, usize::MAX));
        assert_eq!((public_connections(Some(10)), team_connections(Some(10)), questions(Some(10))), (1, 1, 1));
    }
}
