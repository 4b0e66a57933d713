//! Fields that tell a browser to be careful, for replies whose upstream says nothing of that kind.
//!
//! They are those that hold for any site of PHP as it is: what would need to know the site (where scripts come from, what may embed it)
//! is the site's to say, and whatever it says is left alone.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::hsts::Step;
use crate::message::Fields;

/// A field by its name and value.
pub(crate) type Pair = (&'static str, &'static str);

const CONTENT_TYPE_OPTIONS: Pair = ("X-Content-Type-Options", "nosniff");
const REFERRER: Pair = ("Referrer-Policy", "strict-origin-when-cross-origin");
const FRAMES: Pair = ("X-Frame-Options", "SAMEORIGIN");
const CONTENT_SECURITY: Pair =
    ("Content-Security-Policy", "frame-ancestors 'self'; base-uri 'self'; object-src 'none'");
/// The same, where the upstream says itself who may frame it: `frame-ancestors` would override that (CSP level 3, section 6.4.2).
const CONTENT_SECURITY_BUT_FRAMES: Pair = ("Content-Security-Policy", "base-uri 'self'; object-src 'none'");
const TRANSPORT: &str = "Strict-Transport-Security";

/// What the gate adds to replies of one site.
#[derive(Default, Debug)]
pub(crate) struct Hardening {
    is_on: bool,
    /// 0 without HSTS, else the [`Step`] and one.
    step: AtomicU8,
}

/// Fields that are added to one reply.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Added {
    pairs: [Option<Pair>; 5],
    /// Whether the reply goes out without one of them all the same.
    pub(crate) is_bare: bool,
}

impl Added {
    pub(crate) const NONE: Self = Self { pairs: [None; 5], is_bare: false };

    pub(crate) fn pairs(&self) -> impl Iterator<Item = Pair> {
        self.pairs.into_iter().flatten()
    }
}

impl Hardening {
    pub(crate) fn new(is_on: bool, step: Option<Step>) -> Self {
        let hardening = Self { is_on, step: AtomicU8::new(0) };
        hardening.set_step(step);
        hardening
    }

    /// How long browsers are told to come by TLS alone; not at all without one.
    pub(crate) fn set_step(&self, step: Option<Step>) {
        self.step.store(step.map_or(0, |step| step as u8 + 1), Ordering::Relaxed);
    }

    pub(crate) fn step(&self) -> Option<Step> {
        let number = self.step.load(Ordering::Relaxed);
        Step::ALL.into_iter().find(|step| *step as u8 + 1 == number)
    }

    /// What is missing in a reply. HSTS is said over TLS alone (RFC 6797, section 7.2).
    pub(crate) fn missing(&self, reply: &Fields, is_tls: bool) -> Added {
        let step = self.step().filter(|_| is_tls);
        let (mut options, mut frames, mut content, mut referrer, mut transport) = (false, false, false, false, false);
        for field in reply.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
            // Few names are of one of these lengths.
            match field.name.len() {
                15 => (frames, referrer) = (frames || is(FRAMES.0), referrer || is(REFERRER.0)),
                22 => options = options || is(CONTENT_TYPE_OPTIONS.0),
                23 => content = content || is(CONTENT_SECURITY.0),
                25 => transport = transport || is(TRANSPORT),
                _ => {}
            }
        }
        let on = |pair: Pair, is_there: bool| (self.is_on && !is_there).then_some(pair);
        let security = if frames { CONTENT_SECURITY_BUT_FRAMES } else { CONTENT_SECURITY };
        let pairs = [
            on(CONTENT_TYPE_OPTIONS, options),
            on(REFERRER, referrer),
            // A policy of the upstream is its word about frames too, be it that everybody may.
            on(FRAMES, frames || content),
            on(security, content),
            step.filter(|_| !transport).map(|step| (TRANSPORT, step.value())),
        ];
        let has_all = options && referrer && content;
        let is_bare = !(self.is_on || has_all) || !(step.is_some() || transport);
        Added { pairs, is_bare }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(hardening: &Hardening, there: &[(&str, &str)], is_tls: bool) -> Vec<String> {
        let mut fields = Fields::default();
        for (name, value) in there {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        hardening.missing(&fields, is_tls).pairs().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn what_the_upstream_says_is_left_alone() {
        let hardening = Hardening::new(true, Some(Step::Minutes));
        let all = missing(&hardening, &[("Content-Type", "text/html")], true);
        assert_eq!(
            all,
            [
                "X-Content-Type-Options: nosniff",
                "Referrer-Policy: strict-origin-when-cross-origin",
                "X-Frame-Options: SAMEORIGIN",
                "Content-Security-Policy: frame-ancestors 'self'; base-uri 'self'; object-src 'none'",
                "Strict-Transport-Security: max-age=300",
            ]
        );
        assert_eq!(missing(&hardening, &[], false), all[..4], "HSTS is for TLS alone");
        for (name, gone) in [
            ("x-content-type-options", &all[0][..22]),
            ("REFERRER-POLICY", &all[1][..15]),
            ("strict-transport-security", &all[4][..25]),
        ] {
            let left = missing(&hardening, &[(name, "other")], true);
            assert!(left.len() == 4 && left.iter().all(|field| !field.starts_with(gone)), "{name}: {left:?}");
        }
        let framed = missing(&hardening, &[("X-Frame-Options", "ALLOWALL")], true);
        assert!(
            framed.contains(&"Content-Security-Policy: base-uri 'self'; object-src 'none'".to_owned()),
            "{framed:?}"
        );
        assert_eq!(framed.len(), 4);
        let own = missing(&hardening, &[("Content-Security-Policy", "default-src 'self'")], true);
        assert_eq!(own.len(), 3, "neither a policy nor frames: {own:?}");
    }

    #[test]
    fn it_can_be_left_out() {
        assert!(missing(&Hardening::new(false, None), &[], true).is_empty());
        let only = missing(&Hardening::new(false, Some(Step::Years)), &[], true);
        assert_eq!(only, ["Strict-Transport-Security: max-age=63072000"]);
    }
}
