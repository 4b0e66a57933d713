//! The list of the parts of the policy.

use promise::Promises;

use crate::configuration::Network;
use crate::registry::PolicyPart;

/// Every part of the policy, in the order in which they are read and documented.
pub(crate) const PARTS: &[PolicyPart] = &[
    PolicyPart::of::<watch::Config>(),
    PolicyPart::of::<Promises>(),
    PolicyPart::of::<respond::Config>(),
    PolicyPart::of::<hosts::Config>(),
    PolicyPart::of::<guard::Config>(),
    PolicyPart::of::<backup::Config>(),
    PolicyPart::of::<gate::Config>(),
    PolicyPart::of::<Network>(),
];
