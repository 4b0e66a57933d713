//! Revisions: the name of a content is a digest of it, so that nothing is changed under an unchanged name.
//!
//! A revision is the first 16 hexadecimal digits of the SHA-256 of the JSON of the rest: the fields of the struct without
//! `revision`, in their order, no spaces, as `serde_json` writes them.

use event::PromiseId;
use event::policy::{Applied, Detector, Maintenance, Objective, Probe, Promise, Service, Text};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

#[derive(Serialize)]
struct PromiseRest<'a> {
    id: &'a PromiseId,
    text: &'a Text,
    objectives: &'a [Objective],
}

#[derive(Serialize)]
struct AppliedRest<'a> {
    services: &'a [Service],
    probes: &'a [Probe],
    findings: &'a [Detector],
    maintenance: &'a [Maintenance],
    promises: &'a [Promise],
}

/// The revision of a promise, computed from the rest of it.
pub fn of_promise(promise: &Promise) -> String {
    let Promise { id, revision: _, text, objectives } = promise;
    digest(&PromiseRest { id, text, objectives })
}

/// The revision of a policy, computed from the rest of it.
pub fn of_policy(policy: &Applied) -> String {
    let Applied { revision: _, services, probes, findings, maintenance, promises } = policy;
    digest(&AppliedRest { services, probes, findings, maintenance, promises })
}

fn digest(rest: &impl Serialize) -> String {
    // Names, texts and integers always serialise.
    let json = serde_json::to_vec(rest).unwrap_or_default();
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    Sha256::digest(json).iter().take(8).flat_map(digits).collect()
}
