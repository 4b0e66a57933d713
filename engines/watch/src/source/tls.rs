//! TLS: a certificate that browsers accept, for the right name, for some days more, over a version that is not too old.
//!
//! All that is wrong is told in one answer: an expired certificate for the wrong name is two things to mend. One that is
//! about to expire is work for the team and nothing to a customer, who still connects: it is degraded, and a finding,
//! `certificate-expiring`. Its figure is the number of whole days until the first certificate expires of the chain that
//! clients use: an intermediate that ends locks them out as well.
//!
//! A server that asks its clients for a certificate has shown its own, which is what is watched here. What can't be said: that
//! a server *refuses* older versions. We speak no TLS older than 1.2 ourselves.

use std::sync::Arc;

use async_trait::async_trait;
use engine::net::{CertificateFault, Deadline, DialError, Family, Link, Shown, Target, TlsFailure, Verify};
use engine::reason::Reason;
use event::{Span, Time};
use policy::{Address, HostPort, Section, Slot, Table, Value};

use crate::source::{
    Answer, Asking, Common, CompactPhases, Finding, Level, Probe, Reading, Settings, Symptom, family, reason,
};

const SECONDS_PER_DAY: i64 = 86_400;
/// What it looks for.
const EXPIRING: Finding =
    Finding { name: "certificate-expiring", fr: "Certificat bientôt expiré", en: "Certificate about to expire" };

/// The oldest version that is good enough.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Value for Version {
    const SHAPE: &'static str = "\"1.2\" or \"1.3\"";
    const EXAMPLE: &'static str = "\"1.3\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("1.2", Self::Tls12), ("1.3", Self::Tls13)])
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

/// About the key `certificate_days`.
pub(super) const DAYS: &str = "Days that the certificate, and those that it rests on, must still be valid for. With fewer left \
    it is degraded, which counts as up, and found: `certificate-expiring`. 0 looks for nothing.";

/// What is required of a TLS server; shared with HTTPS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Required {
    pub(super) days: u32,
    pub(super) version: Version,
}

impl Required {
    /// All that is not as required; empty when all is well.
    pub(super) fn faults(self, shown: &Shown, version: &str) -> Vec<(String, Reason)> {
        let told = |fault| (format!("certificate: {fault}"), Reason::of_certificate(fault));
        let mut faults: Vec<(String, Reason)> = shown.faults.iter().map(told).collect();
        if self.version == Version::Tls13 && version != "TLSv1.3" {
            let reason = Reason::TlsTooOld { version: version.to_owned(), required: format!("TLS {}", self.version) };
            faults.push((format!("{version} was agreed upon, at least TLS {} is required", self.version), reason));
        }
        faults
    }

    /// The answer with what there is to say of a certificate that is about to expire.
    pub(super) fn with_expiry(self, mut answer: Answer, shown: &Shown, now: Time) -> Answer {
        let Some(finding) = self.finding().and_then(|finding| finding.id()) else { return answer };
        let (Some(left), Some(first)) = (days_left(shown, now), &shown.first_to_end) else { return answer };
        let (level, text) = match &first.link {
            link if left < 0 => (Level::High, format!("certificate: {link} expired on {}", first.until)),
            link => {
                let text = format!("certificate: {link} expires in {left} days, on {}", first.until);
                let days = i64::from(self.days);
                if left < days { (Level::High, format!("{text}, less than {days} days")) } else { (Level::Low, text) }
            }
        };
        // That one *has* expired is told already.
        if level == Level::High && left >= 0 {
            if answer.reading == Reading::Up {
                answer.reading = Reading::Degraded;
            }
            answer.reasons.insert(0, Reason::expires(&first.link, left, first.until));
            answer.text = format!("{text}; {}", answer.text);
        }
        // Renewing the one leaves the other about to expire: the team is told of each.
        let about = match &first.link {
            Link::Own => Vec::new(),
            Link::Intermediate(subject) | Link::Root(subject) => vec![subject.clone()],
        };
        let reasons = match left {
            ..0 => vec![Reason::of_certificate(&CertificateFault::Expired {
                link: first.link.clone(),
                since: first.until,
            })],
            _ => vec![Reason::expires(&first.link, left, first.until)],
        };
        answer.symptoms.push(Symptom { finding, level, lasting: Span::ZERO, about, text, reasons });
        answer
    }

    /// The answer of a probe that got no connection; what it was shown of certificates meanwhile is told all the same.
    pub(super) fn refused(self, error: &DialError, phases: CompactPhases, now: Time) -> Answer {
        let answer = reason::no_connection(error);
        match error {
            DialError::Tls { shown: Some(shown), .. } => {
                self.with_expiry(answer.with_connection(phases, Some(shown)), shown, now)
            }
            _ => answer.with_connection(phases, None),
        }
    }

    /// Declares the name of what is looked for, for promises that speak of it.
    pub(super) fn provide(self, table: &mut Table<'_>) {
        self.finding().and_then(|finding| finding.id()).iter().for_each(|finding| table.provide(finding));
    }

    /// What is looked for in the certificate, if it must be valid for some days.
    pub(super) fn finding(self) -> Option<Finding> {
        (self.days > 0).then_some(EXPIRING)
    }
}

/// Whole days until the first certificate of the chain expires.
pub(super) fn days_left(shown: &Shown, now: Time) -> Option<i64> {
    shown.first_to_end.as_ref().map(|first| first.until.since(now).secs().div_euclid(SECONDS_PER_DAY))
}

/// `[[probe.tls]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Tls {
    common: Common,
    address: HostPort,
    family: Option<Family>,
    server_name: Option<Address>,
    required: Required,
}

impl Section for Tls {
    const ABOUT: &'static str = "A server that speaks TLS: its certificate is trusted, and names the host. Down when any of it does \
        not hold; degraded, with the finding `certificate-expiring`, when the certificate expires soon.";
    const EXAMPLE: &'static str = "[[probe.tls]]\nname = \"shop-certificate\"\nservice = \"shop\"\naddress = \"shop.example:443\"\n\
        every = \"1 h\"\ncertificate_days = 21\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let common = Common::read_asked(table);
        let address: Option<HostPort> = table.required("address", "Host and port.");
        let family = family::read(table, address.as_ref().map(|address| &address.host));
        let server_name =
            table.optional("server_name", "Name to ask for and to find in the certificate, when it is not the host.");
        let days = table.or_in("certificate_days", 14, &(0..=3650), DAYS);
        let version = table.or("at_least", Version::Tls12, "Oldest version of TLS that may be agreed upon.");
        let required = Required { days, version };
        required.provide(table);
        Some(Self { common: common?, address: address?, family, server_name, required })
    }
}

impl Settings for Tls {
    fn common(&self) -> &Common {
        &self.common
    }

    fn into_probe(self: Arc<Self>) -> Arc<dyn Probe> {
        let settings = Arc::unwrap_or_clone(self);
        // Recorded, not required, so that one answer tells everything that is wrong. Nothing is sent.
        let mut target = Target::tls(settings.address.host.to_string(), settings.address.port, Verify::Record);
        target.family = settings.family;
        if let Some(tls) = &mut target.tls {
            tls.server_name = settings.server_name.as_ref().map(ToString::to_string);
            tls.alpn.clear();
        }
        Arc::new(Server { name: target.to_string(), target, required: settings.required })
    }
}

struct Server {
    name: String,
    target: Target,
    required: Required,
}

#[async_trait]
impl Probe for Server {
    async fn ask(&self, asking: &Asking<'_>) -> Answer {
        let now = asking.clock.now();
        let (phases, shown, version, asks_client) =
            match asking.net.dial(&self.target, Deadline::within(asking.timeout)).await {
                Ok(dialed) => match dialed.peer {
                    Some(peer) => (dialed.phases, peer.shown, peer.version, peer.asks_client),
                    None => return Answer::unknown("connected without TLS: this is a defect of garant"),
                },
                // Up to TLS 1.2, who has no certificate is turned away within the handshake. The server's is shown before.
                Err(DialError::Tls { failure: TlsFailure::ClientCertificate, shown: Some(shown), .. }) => {
                    (engine::net::DialPhases::default(), *shown, "TLSv1.2", true)
                }
                Err(error) => return self.required.refused(&error, CompactPhases::default(), now),
            };
        let faults = self.required.faults(&shown, version);
        let answer = if faults.is_empty() {
            let asks = if asks_client { "; it asks for a certificate of the client" } else { "" };
            Answer::up(format!("{version} with a valid certificate{asks}"))
        } else {
            let (told, reasons): (Vec<String>, Vec<Reason>) = faults.into_iter().unzip();
            Answer::down(told.join("; ")).because(reasons)
        };
        let engine::net::DialPhases { dns, connect, tls, .. } = phases;
        let answer = answer.with_connection(CompactPhases::of_connection(dns, connect, tls), Some(&shown));
        let answer = self.required.with_expiry(answer, &shown, now);
        match days_left(&shown, now) {
            Some(days) => answer.with_value(days),
            None => answer,
        }
    }

    fn target(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn findings(&self) -> Vec<Finding> {
        self.required.finding().into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
