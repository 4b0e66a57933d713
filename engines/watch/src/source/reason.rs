//! Whose fault a failed connection is.

use engine::net::{DialError, ResolveError, ResolveFailure};

use engine::reason::Reason;

use crate::source::Answer;

/// The answer of a probe that got no connection.
pub(super) fn no_connection(error: &DialError) -> Answer {
    match error {
        DialError::NotAsked { .. } => Answer::unknown(format!("{error}, nothing is known of the other side")),
        DialError::NoWay { .. } => {
            Answer { may_be_ours: true, ..Answer::down(error.to_string()).because(Reason::of_connection(error)) }
        }
        DialError::Dns(unresolved) => no_name(unresolved),
        _ => Answer::down(error.to_string()).because(Reason::of_connection(error)),
    }
}

/// The answer of a probe that learned nothing of a name from the name servers of this machine.
pub(super) fn no_name(error: &ResolveError) -> Answer {
    match error.failure {
        // A name that can't even be asked for is a mistake of the policy that only the resolver notices.
        ResolveFailure::BadName | ResolveFailure::NotAsked(_) | ResolveFailure::Unreachable(_) => {
            Answer::unknown(error.to_string())
        }
        ResolveFailure::NoSuchName
        | ResolveFailure::NoSuchTarget(_)
        | ResolveFailure::NoRecords
        | ResolveFailure::Referral(_)
        | ResolveFailure::Refused(_)
        | ResolveFailure::Timeout
        | ResolveFailure::Other(_) => Answer::down(error.to_string()).because(vec![Reason::of_name(error)]),
    }
}

#[cfg(test)]
mod tests {
    use store::Reading;

    use super::*;

    #[test]
    fn our_own_trouble_is_not_their_outage() {
        let address = ([192, 0, 2, 1], 80).into();
        let reason = || "what the system said".to_owned();
        let name = |failure| DialError::Dns(ResolveError { name: "shop.example".to_owned(), failure, server: None });
        for (error, reading, may_be_ours) in [
            (DialError::NotAsked { address, reason: reason() }, Reading::Unknown, false),
            (DialError::NoWay { address, reason: reason() }, Reading::Down, true),
            (DialError::Connect { address, reason: reason() }, Reading::Down, false),
            (DialError::Refused { address }, Reading::Down, false),
            (name(ResolveFailure::BadName), Reading::Unknown, false),
            (name(ResolveFailure::NotAsked(reason())), Reading::Unknown, false),
            (name(ResolveFailure::Unreachable(vec![address.ip()])), Reading::Unknown, false),
            (name(ResolveFailure::NoSuchName), Reading::Down, false),
            (name(ResolveFailure::Refused("SERVFAIL".to_owned())), Reading::Down, false),
            (name(ResolveFailure::Timeout), Reading::Down, false),
        ] {
            let answer = no_connection(&error);
            assert_eq!((answer.reading, answer.may_be_ours), (reading, may_be_ours), "{error}");
        }
    }
}
