//! The list of the parts of the policy.

use promise::Promises;

use crate::configuration::Network;
use crate::registry::PolicyPart;

/// Read and documented in this order.
pub(crate) const PARTS: &[PolicyPart] =
    &[PolicyPart::of::<watch::Config>(), PolicyPart::of::<Promises>(), PolicyPart::of::<Network>()];
