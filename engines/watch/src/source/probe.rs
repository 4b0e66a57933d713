//! The contract of a kind of probe.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Secrets;
use engine::net::Net;
use event::policy::Text;
use event::{Clock, FindingId, Span};

use super::answer::Answer;
use super::heartbeat::Heartbeat;
use super::shared_keys::Common;

/// The means of a probe to ask: network, secrets, clock.
pub struct Asking<'a> {
    /// Names, connections, certificates.
    pub net: &'a Net,
    /// Opens the secrets that the policy keeps elsewhere.
    pub secrets: &'a Secrets,
    /// Both clocks.
    pub clock: &'a dyn Clock,
    /// How long the answer may take. The caller stops waiting then, whatever the probe does; a probe may give it to what
    /// it calls, to fail with a better reason.
    pub timeout: Span,
}

/// A finding that a detector looks for: a name for the journal, and a title for customers in both languages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Its name, by the rule of [`FindingId`].
    pub name: &'static str,
    /// What customers read, in French.
    pub fr: &'static str,
    /// What customers read, in English.
    pub en: &'static str,
}

impl Finding {
    /// The typed name; always there, since a test checks every declared one.
    pub fn id(&self) -> Option<FindingId> {
        self.name.parse().ok()
    }

    /// Its title.
    pub fn title(&self) -> Text {
        Text { fr: self.fr.to_owned(), en: self.en.to_owned() }
    }
}

/// A kind of probe, ready to ask.
///
/// # Contract
///
/// * [`ask`](Self::ask) asks once and says what it saw. It does not retry: confirmation is the watch's matter, and a
///   hidden retry would turn an outage into slowness.
/// * It may be dropped at any await: the watch stops waiting at the timeout. It leaves nothing running behind.
/// * It never panics on what the other side sends, and bounds what it reads.
/// * [`Reading::Down`] means that the *other side* failed. What fails here (no file descriptor left, `/proc` can't be
///   read) is [`Reading::Unknown`]: our troubles are not its outage.
/// * It is asked by one caller at a time per observer, and by several observers at once.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Asks once.
    async fn ask(&self, asking: &Asking<'_>) -> Answer;

    /// The target, `host:port`: the number of questions under way to one target is bounded. `None` for a probe that only
    /// reads this machine.
    fn target(&self) -> Option<&str> {
        None
    }

    /// Whether answers come over the network, so that a dead uplink looks like a failure.
    fn reaches_out(&self) -> bool {
        true
    }

    /// Whether a first failure needs confirmation; not for what is merely read on this machine.
    fn confirm(&self) -> bool {
        true
    }

    /// The findings looked for in its answers. An answer that says nothing of one of them could not look for it.
    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Warnings for `garant check` on this machine: what could not be looked at, were the probe asked now. Asks nothing over
    /// the network.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The heartbeat, for the kind that waits for pings.
    fn heartbeat(&self) -> Option<&Heartbeat> {
        None
    }
}

/// A probe and its settings, as the policy declares it.
pub trait Settings: policy::Section + Clone + PartialEq + Send + Sync + 'static {
    /// The keys that all kinds share.
    fn common(&self) -> &Common;
    /// The probe of these settings. They are kept as long as the probe is, so a kind of which there may be thousands shares
    /// them.
    fn into_probe(self: Arc<Self>) -> Arc<dyn Probe>;
    /// How often the probe is asked; for a kind that waits, more often than a sign of life is due.
    fn asked_every(&self) -> Span {
        self.common().every
    }
}
