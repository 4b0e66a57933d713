//! The policy in effect, and the channels that hand it to everything that depends on it.
//!
//! What follows from a policy is derived whole ([`Followed`]) before any of it is sent ([`InForce::replace`]), at the start and at
//! each reload alike. Its files are not kept: with ten thousand probes they are a megabyte.

use std::path::Path;
use std::sync::Arc;

use event::policy::Applied;
use journal::note::{KeyType, VerifierKey};
use notary::remembered::RememberedHeads;
use notary::witnessing::{self, RemoteWitness};
use policy::RetentionPeriods;
use tokio::sync::watch;
use web::{Identity, ShownPolicy};

use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::registry::{PartChannel, PolicyPart};

/// A policy, with all that is derived from it.
pub(super) struct Followed {
    pub(super) configuration: Arc<Configuration>,
    pub(super) heads: Arc<RememberedHeads>,
    pub(super) witnesses: Arc<Vec<RemoteWitness>>,
    pub(super) identity: Arc<Identity>,
}

impl Followed {
    /// Derives all of it from the policy and its [`peers`], for the log with these keys in `data`. `listening` is the URL of its
    /// pages unless the policy names one.
    pub(super) fn of(
        configuration: Configuration,
        witnesses: Vec<RemoteWitness>,
        keys: &[VerifierKey],
        data: &Path,
        listening: &str,
    ) -> Result<Self, Failure> {
        let identity = identity(&configuration, keys, &witnesses, listening)?;
        Ok(Self {
            heads: Arc::new(RememberedHeads::of(data, &configuration.basics.journal)),
            configuration: Arc::new(configuration),
            witnesses: Arc::new(witnesses),
            identity: Arc::new(identity),
        })
    }

    fn shown(&self) -> Arc<ShownPolicy> {
        let Configuration { applied, basics, .. } = self.configuration.as_ref();
        Arc::new(ShownPolicy {
            applied: Some(Arc::clone(applied)),
            publish: basics.publication.publish,
            public_pings: basics.pages.pings,
            team_hosts: basics.pages.team_hosts.iter().map(ToString::to_string).collect(),
            zone: basics.publication.zone.clone(),
            reload_error: None,
        })
    }
}

/// The channels of the policy in effect: one for each thing that depends on it.
pub(super) struct InForce {
    pub(super) applied: watch::Sender<Arc<Applied>>,
    pub(super) heads: watch::Sender<Arc<RememberedHeads>>,
    pub(super) witnesses: watch::Sender<Arc<Vec<RemoteWitness>>>,
    pub(super) identity: watch::Sender<Arc<Identity>>,
    pub(super) shown: watch::Sender<Arc<ShownPolicy>>,
    pub(super) retention: watch::Sender<RetentionPeriods>,
    /// A channel for each part of the policy, in the order of the list.
    pub(super) parts: Arc<[Box<dyn PartChannel>]>,
}

impl InForce {
    /// Channels that hold the policy of the start.
    pub(super) fn new(followed: Followed, parts: &[PolicyPart]) -> Result<Self, Failure> {
        let shown = followed.shown();
        let Followed { configuration, heads, witnesses, identity } = followed;
        Ok(Self {
            heads: watch::Sender::new(heads),
            witnesses: watch::Sender::new(witnesses),
            identity: watch::Sender::new(identity),
            shown: watch::Sender::new(shown),
            retention: watch::Sender::new(configuration.basics.journal.retention),
            parts: configuration.channels(parts)?.into(),
            applied: watch::Sender::new(Arc::clone(&configuration.applied)),
        })
    }

    /// Sends another policy on every channel.
    pub(super) fn replace(&self, followed: Followed) {
        let shown = followed.shown();
        let Followed { configuration, heads, witnesses, identity } = followed;
        self.heads.send_replace(heads);
        self.witnesses.send_replace(witnesses);
        self.retention.send_replace(configuration.basics.journal.retention);
        self.identity.send_replace(identity);
        configuration.fill(&self.parts);
        self.shown.send_replace(shown);
        self.applied.send_replace(Arc::clone(&configuration.applied));
    }
}

/// The witnesses that the policy names.
pub(super) fn peers(configuration: &Configuration) -> Result<Vec<RemoteWitness>, Failure> {
    let peer = |witness: &policy::Witness| {
        let url = witness.url.to_string();
        let failed = || Failure::new(format!("the key of the witness {} can't be used", witness.name));
        let vkey: VerifierKey =
            witness.vkey.as_str().parse().map_err(|error: journal::note::BadKey| failed().because(&error))?;
        if vkey.key_type() != KeyType::Cosignature {
            return Err(failed().remedy("it is the key of a log: give the one that `garant witness init` printed"));
        }
        let url = if url.ends_with('/') { url } else { format!("{url}/") };
        Ok(RemoteWitness { name: witness.name.clone(), url, vkey })
    };
    configuration.basics.journal.witnesses.iter().map(peer).collect()
}

fn identity(
    configuration: &Configuration,
    keys: &[VerifierKey],
    witnesses: &[RemoteWitness],
    listening: &str,
) -> Result<Identity, Failure> {
    let key = keys.first().ok_or_else(|| Failure::new("the log has no key"))?;
    let url = configuration.basics.pages.url.as_ref().map_or_else(|| listening.to_owned(), ToString::to_string);
    let policy = witnessing::proposed_policy(key, &format!("{}/log/", url.trim_end_matches('/')), witnesses);
    Ok(Identity::new(key, url, policy))
}
