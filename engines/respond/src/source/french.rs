//! The reasons of a probe in French. What no kind says is quoted as the probe says it.

use engine::reason::{Reason, Resource, TimeoutPhase};
use event::Span;

/// What a probe saw, in French: its reasons, or its words as they are, and whose they are.
pub(crate) fn words(text: &str, reasons: &[Reason]) -> String {
    let told: Option<Vec<String>> = reasons.iter().map(told).collect();
    match told {
        Some(told) if !told.is_empty() => told.join(" ; "),
        _ if text.is_empty() => String::new(),
        _ => quoted(text, "la sonde"),
    }
}

/// A text of somebody who speaks English.
pub(crate) fn quoted(text: &str, of: &str) -> String {
    format!("« {text} » (message de {of})")
}

/// A length of time: the day alone is another letter.
fn length(span: Span) -> String {
    let span = span.to_string();
    span.strip_suffix(" d").map_or_else(|| span.clone(), |days| format!("{days} j"))
}

/// Which certificate, as the subject of a sentence.
fn certificate(of: Option<&String>) -> String {
    of.map_or_else(|| "le certificat".to_owned(), |subject| format!("le certificat `{subject}` de la chaîne"))
}

/// One reason; nothing for one of a later release.
fn told(reason: &Reason) -> Option<String> {
    Some(match reason {
        Reason::ConnectionRefused { address } => {
            format!("{address} refuse la connexion : rien n’y est à l’écoute")
        }
        Reason::ConnectionFailed { address, said } if said.contains("reset") => {
            format!("{address} a coupé la connexion")
        }
        Reason::ConnectionFailed { address, said } => {
            format!("{address} ne peut pas être joint : {}", quoted(said, "la sonde"))
        }
        Reason::NoWay { address } => format!("aucune route ne mène à {address}"),
        Reason::Timeout { within, phase } => {
            let phase = match phase {
                TimeoutPhase::Name => ", pendant la résolution du nom",
                TimeoutPhase::Connection => ", pendant l’ouverture de la connexion",
                TimeoutPhase::Tls => ", pendant la négociation TLS",
                TimeoutPhase::Answer | TimeoutPhase::Other => "",
            };
            format!("pas de réponse en {}{phase}", length(*within))
        }
        Reason::NoSuchName { name } => format!("le nom `{name}` n’existe pas (NXDOMAIN)"),
        Reason::NoRecords { name } => format!("le nom `{name}` n’a pas d’enregistrement de ce type"),
        Reason::NameServerFails { name, code } => format!("le serveur de noms répond {code} pour `{name}`"),
        Reason::NameServersSilent { name } => format!("aucun serveur de noms n’a répondu à temps pour `{name}`"),
        Reason::RecordMissing { records, values } => {
            format!("aucun enregistrement {records} ne contient {}", values.join(", "))
        }
        Reason::TlsFailed { address, said } => {
            format!("{address} répond, mais sans accord sur TLS : {}", quoted(said, "la sonde"))
        }
        Reason::TlsTooOld { version, required } => format!("{version} a été négocié, il faut au moins {required}"),
        Reason::CertificateExpired { of, at } => format!("{} a expiré le {at}", certificate(of.as_ref())),
        Reason::CertificateExpires { of, days, at } => {
            let left = match days {
                0 => "dans moins d’un jour".to_owned(),
                1 => "dans 1 jour".to_owned(),
                days => format!("dans {days} jours"),
            };
            format!("{} expire {left}, le {at}", certificate(of.as_ref()))
        }
        Reason::CertificateNotYetValid { of, from } => {
            format!("{} n’est pas valable avant le {from}", certificate(of.as_ref()))
        }
        Reason::CertificateName { expected, names } if names.is_empty() => {
            format!("le certificat ne nomme aucun hôte, donc pas `{expected}`")
        }
        Reason::CertificateName { expected, names } => {
            format!("le certificat n’est pas pour `{expected}` mais pour {}", names.join(", "))
        }
        Reason::CertificateSelfSigned => "le certificat est autosigné : personne ne s’en porte garant".to_owned(),
        Reason::CertificateIssuer { issuer } => format!("l’émetteur du certificat, `{issuer}`, n’est pas reconnu"),
        Reason::Status { status } => format!("statut {status}"),
        Reason::BodyLacks { text } => format!("la réponse ne contient pas « {text} »"),
        Reason::BodyHolds { text } => format!("la réponse contient « {text} »"),
        Reason::HeaderLacks { name, value: None } => format!("l’en-tête `{name}` manque"),
        Reason::HeaderLacks { name, value: Some(value) } => {
            format!("aucun en-tête `{name}` ne contient « {value} »")
        }
        Reason::Redirect { said } => format!("la redirection n’est pas suivie : {}", quoted(said, "la sonde")),
        Reason::NoAnswer { said } if said.contains("reset") => {
            "la connexion a été coupée pendant la réponse".to_owned()
        }
        Reason::NoAnswer { said } => format!("pas de réponse valable : {}", quoted(said, "la sonde")),
        Reason::Slow { slower_than } => format!("plus lent que {}", length(*slower_than)),
        Reason::GreetingMissing => "la connexion est acceptée, mais le texte attendu ne vient pas".to_owned(),
        Reason::JobFailed => "la tâche a signalé un échec".to_owned(),
        Reason::JobUnfinished { within } => {
            format!("la tâche a commencé et n’a pas fini en {}", length(*within))
        }
        Reason::HeartbeatMissing { since, every, grace } => {
            let last = since.map_or_else(
                || "aucun signe de vie jusqu’ici".to_owned(),
                |since| format!("aucun signe de vie depuis le {since}"),
            );
            format!("{last} : il en faut un par {}, avec {} de retard au plus", length(*every), length(*grace))
        }
        Reason::Used { what, of, share, limit } => {
            let what = match what {
                Resource::Disk => format!("disque de {of}"),
                Resource::Inodes => format!("inodes du disque de {of}"),
                Resource::Processors => "processeurs".to_owned(),
                Resource::Memory => "mémoire".to_owned(),
                Resource::Other => return None,
            };
            let share = format!("{},{:02}", share / 100, share % 100);
            format!("{what} : {share} % utilisés, seuil {}", limit.replace('.', ","))
        }
        Reason::DisksReadOnly { disks } => format!("disque de {} : en lecture seule", disks.join(", ")),
        Reason::Raid { said } => quoted(said, "la sonde"),
        Reason::Said { text } => quoted(text, "la sonde"),
        Reason::Unknown => return None,
    })
}

#[cfg(test)]
mod tests {
    use event::Time;

    use super::*;

    /// BX-5: what a probe says of the usual troubles, in French.
    #[test]
    fn the_usual_troubles_are_told_in_french() {
        let at = Time::parse_rfc3339("2026-12-01T00:00:00Z").expect("a time");
        let (address, name) = ("192.0.2.1:443".to_owned(), "shop.example".to_owned());
        let hour = Span::from_secs(3600);
        for (reason, french) in [
            (
                Reason::ConnectionRefused { address: address.clone() },
                "192.0.2.1:443 refuse la connexion : rien n’y est à l’écoute",
            ),
            (
                Reason::ConnectionFailed { address, said: "the connection was reset".to_owned() },
                "192.0.2.1:443 a coupé la connexion",
            ),
            (
                Reason::Timeout { within: Span::from_secs(10), phase: TimeoutPhase::Connection },
                "pas de réponse en 10 s, pendant l’ouverture de la connexion",
            ),
            (Reason::NoSuchName { name: name.clone() }, "le nom `shop.example` n’existe pas (NXDOMAIN)"),
            (
                Reason::NameServerFails { name: name.clone(), code: "SERVFAIL".to_owned() },
                "le serveur de noms répond SERVFAIL pour `shop.example`",
            ),
            (
                Reason::NameServersSilent { name: name.clone() },
                "aucun serveur de noms n’a répondu à temps pour `shop.example`",
            ),
            (Reason::CertificateExpired { of: None, at }, "le certificat a expiré le 2026-12-01T00:00:00Z"),
            (
                Reason::CertificateExpires { of: Some("CN=R3".to_owned()), days: 5, at },
                "le certificat `CN=R3` de la chaîne expire dans 5 jours, le 2026-12-01T00:00:00Z",
            ),
            (
                Reason::CertificateName { expected: name, names: vec!["other.example".to_owned()] },
                "le certificat n’est pas pour `shop.example` mais pour other.example",
            ),
            (
                Reason::CertificateIssuer { issuer: "CN=Nobody".to_owned() },
                "l’émetteur du certificat, `CN=Nobody`, n’est pas reconnu",
            ),
            (Reason::Status { status: 503 }, "statut 503"),
            (Reason::body_lacks("panier"), "la réponse ne contient pas « panier »"),
            (Reason::Slow { slower_than: Span::from_millis(1500) }, "plus lent que 1500 ms"),
            (
                Reason::HeartbeatMissing { since: Some(at), every: Span::from_days(1), grace: hour },
                "aucun signe de vie depuis le 2026-12-01T00:00:00Z : il en faut un par 1 j, avec 1 h de retard au plus",
            ),
            (Reason::used(Resource::Disk, "/srv", 9125, "90 %"), "disque de /srv : 91,25 % utilisés, seuil 90 %"),
            (Reason::used(Resource::Memory, "", 9500, "90.5 %"), "mémoire : 95,00 % utilisés, seuil 90,5 %"),
        ] {
            assert_eq!(words("in English", std::slice::from_ref(&reason)), french, "{reason:?}");
        }
    }

    /// What has no kind, or one of a later release, is said in the words of the probe, and whose they are.
    #[test]
    fn what_is_not_known_is_quoted() {
        let quoted = "« the moon is red » (message de la sonde)";
        assert_eq!(words("the moon is red", &[]), quoted);
        assert_eq!(words("the moon is red", &[Reason::Status { status: 1 }, Reason::Unknown]), quoted);
        assert_eq!(words("", &[]), "");
        let half = [Reason::Status { status: 500 }, Reason::said("odd")];
        assert_eq!(words("x", &half), "statut 500 ; « odd » (message de la sonde)");
    }
}
