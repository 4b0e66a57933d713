//! Whose fault a failed connection is.

use engine::net::{DialError, ResolveFailure};

use crate::source::Answer;

/// What Linux says when *we* have run out of something (errno(3)): ENFILE, EMFILE, EADDRNOTAVAIL (no local port left),
/// ENOBUFS, ENOMEM.
const OURS: [&str; 5] = ["(os error 23)", "(os error 24)", "(os error 99)", "(os error 105)", "(os error 12)"];

/// The answer of a probe that got no connection.
pub(super) fn no_connection(error: &DialError) -> Answer {
    match error {
        DialError::Connect { reason, .. } if OURS.iter().any(|ours| reason.ends_with(ours)) => {
            Answer::unknown(format!("{error}; this machine has run out of it, nothing is known of the other"))
        }
        // A name that can't even be asked for is a mistake of the policy that only the resolver notices.
        DialError::Dns(failure) if failure.failure == ResolveFailure::BadName => Answer::unknown(error.to_string()),
        _ => Answer::down(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use store::Reading;

    use super::*;

    #[test]
    fn our_own_shortage_is_not_their_outage() {
        let address = ([192, 0, 2, 1], 80).into();
        for (reason, expect) in [
            ("Too many open files (os error 24)", Reading::Unknown),
            ("Cannot assign requested address (os error 99)", Reading::Unknown),
            ("No route to host (os error 113)", Reading::Down),
            ("Connection reset by peer (os error 104)", Reading::Down),
        ] {
            let answer = no_connection(&DialError::Connect { address, reason: reason.to_owned() });
            assert_eq!(answer.reading, expect, "{reason}");
        }
        assert_eq!(no_connection(&DialError::Refused { address }).reading, Reading::Down);
    }
}
