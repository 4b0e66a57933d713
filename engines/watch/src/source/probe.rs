//! What a kind of probe has to be able to do.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Secrets;
use engine::net::Net;
use event::policy::Text;
use event::{Clock, FindingId, Span};

use super::answer::Answer;
use super::heartbeat::Heartbeat;
use super::shared_keys::Common;

/// What a probe gets to ask with.
pub struct Asking<'a> {
    /// The way out: names, connections, certificates.
    pub net: &'a Net,
    /// Opens the secrets that the policy keeps elsewhere.
    pub secrets: &'a Secrets,
    /// Both clocks.
    pub clock: &'a dyn Clock,
    /// How long the answer may take. The caller stops waiting then, whatever the probe does; a probe may give it to what
    /// it calls, to fail with a better reason.
    pub timeout: Span,
}

/// What a detector looks for: a name for the journal, and a title for customers in the two languages of the pages.
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
    /// Its name, typed; always there, since every one of them is declared in a test.
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

    /// Whom it asks, `host:port`: the number of questions under way to one target is bounded. `None` when it asks nobody.
    fn target(&self) -> Option<&str> {
        None
    }

    /// Whether its answers come over the network, so that a dead way out looks like a failure.
    fn reaches_out(&self) -> bool {
        true
    }

    /// Whether a first failure needs confirmation; not so for what is merely read here.
    fn confirm(&self) -> bool {
        true
    }

    /// What detectors look for in its answers. One of which an answer says nothing could not be looked for then.
    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// What whoever checks the policy on this machine should know: what could not be looked at, were it asked now. Asks nobody.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Where signs of life arrive, for a kind that waits for them.
    fn heartbeat(&self) -> Option<&Heartbeat> {
        None
    }
}

/// A probe and its settings, as the policy declares it.
pub trait Settings: policy::Section + Clone + PartialEq + Send + Sync + 'static {
    /// The keys that all kinds share.
    fn common(&self) -> &Common;
    /// Ready to ask.
    fn into_probe(self) -> Arc<dyn Probe>;
    /// How often the probe is asked; for a kind that waits, more often than a sign of life is due.
    fn asked_every(&self) -> Span {
        self.common().every
    }
}
