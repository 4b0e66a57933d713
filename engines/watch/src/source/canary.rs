//! The canary: whether an observer's own way out works.
//!
//! Not a kind of probe: nobody promises anything about a canary. It is asked when something else failed; see
//! [`crate::uplink`].

use async_trait::async_trait;
use engine::net::{Deadline, DialError, Target};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use policy::HostPort;

use crate::source::{Answer, Asking, Probe, reason};

/// Hosts of others, asked all at once: one answer is enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canary {
    targets: Vec<HostPort>,
}

impl Canary {
    /// A canary that asks these; `None` when there are none to ask.
    pub fn new(targets: &[HostPort]) -> Option<Self> {
        (!targets.is_empty()).then(|| Self { targets: targets.to_vec() })
    }
}

#[async_trait]
impl Probe for Canary {
    async fn ask(&self, asking: &Asking<'_>) -> Answer {
        let deadline = Deadline::within(asking.timeout);
        let targets: Vec<Target> =
            self.targets.iter().map(|target| Target::tcp(target.host.to_string(), target.port)).collect();
        let mut attempts: FuturesUnordered<_> =
            targets.iter().map(|target| asking.net.dial(target, deadline)).collect();
        let mut last = Answer::unknown("there is nobody to ask");
        while let Some(dialed) = attempts.next().await {
            match dialed {
                // Who refuses a connection has been reached, and reached us.
                Ok(_) | Err(DialError::Refused { .. }) => return Answer::up("the way out works"),
                Err(error) => last = reason::no_connection(&error),
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::clock::SystemClock;
    use engine::net::{Net, NetOptions};
    use event::Span;
    use store::Reading;

    use super::*;

    async fn ask(targets: &[&str]) -> Reading {
        let targets: Vec<HostPort> = targets.iter().map(|target| target.parse().expect("a host and a port")).collect();
        let net = Net::new(&NetOptions::default(), Arc::new(SystemClock)).expect("a network");
        let asking = Asking {
            net: &net,
            secrets: &engine::Secrets::default(),
            clock: &SystemClock,
            timeout: Span::from_secs(3),
        };
        Canary::new(&targets).expect("there are some").ask(&asking).await.reading
    }

    #[tokio::test]
    async fn one_answer_is_enough_and_a_refusal_is_one() {
        #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let listening = listener.local_addr().expect("an address").to_string();
        // Nothing is sent: the kernel opens no TCP connection to a multicast address.
        assert_eq!(ask(&["224.0.0.1:9"]).await, Reading::Down);
        assert_eq!(ask(&["224.0.0.1:9", &listening]).await, Reading::Up);
        assert_eq!(ask(&["127.0.0.1:1"]).await, Reading::Up, "refused");
    }
}
