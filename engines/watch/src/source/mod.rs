//! The kinds of probe, one file each.
//!
//! A new kind is one file here and one line in `kinds!`.

use std::sync::Arc;

use event::ObserverId;
use policy::{Document, SectionDoc};

pub use answer::{Answer, CompactPhases, Expiry, Level, Symptom, TEXT_BYTES_MAX};
pub use declared::Declared;
pub use probe::{Asking, Finding, Probe, Settings};
pub use shared_keys::Common;
pub use store::Reading;

mod answer;
pub mod canary;
mod declared;
mod family;
mod probe;
mod reason;
mod sent;
mod shared_keys;
#[cfg(test)]
pub(crate) mod testing;

/// A kind of probe: its table in the policy, and the function that reads it.
pub struct ProbeKind {
    /// `http`, as in `[[probe.http]]` and in the public policy.
    pub name: &'static str,
    pub(crate) read: fn(&mut Document, &Arc<[ObserverId]>) -> Vec<Declared>,
    pub(crate) reference: fn() -> SectionDoc,
}

/// Each kind is the name of its file and of its table in the policy, and the type of its settings there.
macro_rules! kinds {
    ($($name:ident: $settings:ident;)*) => {
        $(pub mod $name;)*

        /// All kinds, in the order of `docs/policy.md`.
        pub const PROBE_KINDS: &[ProbeKind] = &[$(
            ProbeKind {
                name: stringify!($name),
                read: |document, observers| {
                    let settings = document.tables::<$name::$settings>(concat!("probe.", stringify!($name)));
                    let declared = |settings| Declared::new(stringify!($name), settings, observers);
                    settings.into_iter().map(declared).collect()
                },
                reference: || SectionDoc::of::<$name::$settings>(concat!("probe.", stringify!($name)), true),
            },
        )*];
    };
}

kinds! {
    http: Http;
    tcp: Tcp;
    tls: Tls;
    dns: Dns;
    heartbeat: Expected;
    host: Host;
}
