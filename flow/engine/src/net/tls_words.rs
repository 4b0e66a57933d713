//! What the libraries of TLS can say, and what we say.
//!
//! The words of a library are for its developers: they name its types, and its documentation. Whoever is woken at night
//! needs to know what the server does, and what to look at there.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible, PeerMisbehaved};

/// What is wrong with a certificate, after "the certificate: ".
pub(super) fn certificate(error: &webpki::Error) -> &'static str {
    use webpki::Error as E;
    #[expect(deprecated, reason = "the library may still say it")]
    match error {
        E::CaUsedAsEndEntity => "it is the certificate of an authority (CA:TRUE), which browsers refuse for a server",
        E::CertDistrusted => "an authority of its chain is one that browsers stopped to trust",
        E::CertExpired { .. } | E::CertNotValidYet { .. } => "a certificate of its chain is not valid at this time",
        E::CertNotValidForName(_) | E::UnsupportedNameType => "it is not for this host",
        E::CertRevoked => "it was revoked",
        E::EmptyEkuExtension => "it allows no use at all (its extended key usage is empty)",
        E::EndEntityUsedAsCa => "a certificate of its chain issues others without being that of an authority (CA:TRUE)",
        E::InvalidCertValidity => "a certificate of its chain ends before it begins",
        E::InvalidSignatureForPublicKey => "the issuer that it names has not signed it",
        E::NameConstraintViolation => "an authority of its chain may not vouch for this host (name constraints)",
        E::InvalidNetworkMaskConstraint | E::MalformedNameConstraint => {
            "an authority of its chain limits the hosts that it vouches for in a way that can't be read"
        }
        E::PathLenConstraintViolated => "an authority of its chain may not have that many others below it",
        E::MaximumPathDepthExceeded => "its chain is longer than clients follow",
        E::MaximumNameConstraintComparisonsExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumSignatureChecksExceeded => "its chain takes more work to verify than clients do",
        E::RequiredEkuNotFound | E::RequiredEkuNotFoundContext(_) => {
            "it is not for servers (its extended key usage lacks serverAuth)"
        }
        E::SignatureAlgorithmMismatch => "it names two different algorithms for its one signature",
        E::UnknownIssuer => "its issuer is not trusted",
        E::UnsupportedCertVersion => "it is not of version 3 of X.509, the only one that can name hosts",
        E::UnsupportedCriticalExtension => "it has a critical extension that is not known here",
        E::UnsupportedSignatureAlgorithm
        | E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKey
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "a certificate of its chain is signed in a way that browsers refuse, such as with SHA-1"
        }
        E::BadDer
        | E::BadDerTime
        | E::ExtensionValueInvalid
        | E::InvalidSerialNumber
        | E::MalformedDnsIdentifier
        | E::MalformedExtensions
        | E::TrailingData(_) => "it is not well encoded",
        E::CrlExpired { .. }
        | E::InvalidCrlNumber
        | E::InvalidCrlSignatureForPublicKey
        | E::IssuerNotCrlSigner
        | E::UnknownRevocationStatus
        | E::UnsupportedCrlIssuingDistributionPoint
        | E::UnsupportedCrlSignatureAlgorithm
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKey
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
        | E::UnsupportedCrlVersion
        | E::UnsupportedDeltaCrl
        | E::UnsupportedIndirectCrl
        | E::UnsupportedRevocationReason
        | E::UnsupportedRevocationReasonsPartitioning => "whether it was revoked can't be known",
        _ => "it can't be verified",
    }
}

/// Why TLS ended, in a sentence of which the server is "it".
pub(super) fn tls(error: &Error) -> String {
    let fixed = match error {
        Error::AlertReceived(description) => return alert(*description),
        Error::PeerIncompatible(reason) => incompatible(reason),
        Error::PeerMisbehaved(reason) => misbehaved(reason),
        Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => "what it sends is not well-formed TLS",
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "it sends a message of TLS that is not due"
        }
        Error::NoCertificatesPresented => "it shows no certificate",
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            "it does not prove that it has the key of the certificate that it shows"
        }
        Error::InvalidCertificate(_) | Error::UnsupportedNameType => "its certificate can't be verified",
        Error::DecryptError => "what it sends can't be decrypted: it was changed on the way, or the server is at fault",
        Error::NoApplicationProtocol => "it has no application protocol in common with us",
        Error::InvalidEncryptedClientHello(_) | Error::InvalidCertRevocationList(_) => {
            "it asks for what garant does not speak"
        }
        Error::EncryptError
        | Error::FailedToGetCurrentTime
        | Error::FailedToGetRandomBytes
        | Error::HandshakeNotComplete
        | Error::BadMaxFragmentSize
        | Error::InconsistentKeys(_)
        | Error::General(_)
        | Error::Other(_) => "TLS failed on this side, in a way that should not happen",
        _ => "TLS failed in a way that is not known here",
    };
    fixed.to_owned()
}

/// What an alert of the server says: its name (RFC 8446, section 6; RFC 5246, section 7.2) and what it is about.
fn alert(description: AlertDescription) -> String {
    use AlertDescription as A;
    let (name, about) = match description {
        A::CloseNotify => ("close_notify", "it ends the connection"),
        A::UnexpectedMessage => ("unexpected_message", "it did not expect what we sent"),
        A::BadRecordMac => ("bad_record_mac", "what we sent reached it changed"),
        A::DecryptionFailed => ("decryption_failed", "what we sent reached it changed"),
        A::RecordOverflow => ("record_overflow", "it can't take what we sent"),
        A::DecompressionFailure => ("decompression_failure", "it can't take what we sent"),
        A::HandshakeFailure => (
            "handshake_failure",
            "it finds nothing in common with us: it may want older ciphers, or a certificate of the client",
        ),
        A::NoCertificate => ("no_certificate", "it wants a certificate of the client"),
        A::BadCertificate => ("bad_certificate", "it wants another certificate of the client"),
        A::UnsupportedCertificate => ("unsupported_certificate", "it wants another certificate of the client"),
        A::CertificateRevoked => ("certificate_revoked", "it wants another certificate of the client"),
        A::CertificateExpired => ("certificate_expired", "it wants another certificate of the client"),
        A::CertificateUnknown => ("certificate_unknown", "it wants another certificate of the client"),
        A::IllegalParameter => ("illegal_parameter", "it does not take what we sent"),
        A::UnknownCA => ("unknown_ca", "it wants another certificate of the client"),
        A::AccessDenied => ("access_denied", "it does not let us in"),
        A::DecodeError => ("decode_error", "it can't read what we sent"),
        A::DecryptError => ("decrypt_error", "it could not verify what we sent"),
        A::ExportRestriction => ("export_restriction", "it speaks an export version of TLS, which nobody should"),
        A::ProtocolVersion => {
            ("protocol_version", "it speaks neither TLS 1.2 nor TLS 1.3, the oldest that garant speaks")
        }
        A::InsufficientSecurity => ("insufficient_security", "it wants stronger ciphers than we have in common"),
        A::InternalError => ("internal_error", "it failed inside"),
        A::InappropriateFallback => ("inappropriate_fallback", "it suspects that somebody weakens the connection"),
        A::UserCanceled => ("user_canceled", "it ends the connection"),
        A::NoRenegotiation => ("no_renegotiation", "it does not negotiate again"),
        A::MissingExtension => ("missing_extension", "it misses an extension in what we sent"),
        A::UnsupportedExtension => ("unsupported_extension", "it does not take an extension that we sent"),
        A::CertificateUnobtainable => ("certificate_unobtainable", "it wants a certificate of the client"),
        A::UnrecognisedName => ("unrecognized_name", "it does not know the host that was asked for"),
        A::BadCertificateStatusResponse => ("bad_certificate_status_response", "it does not take what we sent"),
        A::BadCertificateHashValue => ("bad_certificate_hash_value", "it does not take what we sent"),
        A::UnknownPSKIdentity => ("unknown_psk_identity", "it wants a key that was agreed upon before"),
        A::CertificateRequired => ("certificate_required", "it wants a certificate of the client"),
        A::NoApplicationProtocol => {
            ("no_application_protocol", "it speaks none of the application protocols that we offer, such as HTTP/1.1")
        }
        A::EncryptedClientHelloRequired => ("ech_required", "it wants the name of the host to be encrypted"),
        other => return format!("it ends the handshake with alert {} of TLS", u8::from(other)),
    };
    format!("{about} (alert {name})")
}

fn incompatible(reason: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as I;
    match reason {
        I::ServerDoesNotSupportTls12Or13
        | I::ServerTlsVersionIsDisabledByOurConfig
        | I::SupportedVersionsExtensionRequired
        | I::Tls12NotOffered
        | I::Tls12NotOfferedOrEnabled
        | I::Tls13RequiredForQuic => "it speaks neither TLS 1.2 nor TLS 1.3, the oldest that garant speaks",
        I::NoCipherSuitesInCommon
        | I::NoEcPointFormatsInCommon
        | I::NoKxGroupsInCommon
        | I::NoSignatureSchemesInCommon
        | I::NamedGroupsExtensionRequired
        | I::KeyShareExtensionRequired
        | I::EcPointsExtensionRequired
        | I::UncompressedEcPointsRequired
        | I::SignatureAlgorithmsExtensionRequired => "it has no ciphers in common with us",
        I::NoCertificateRequestSignatureSchemesInCommon => {
            "it wants a certificate of the client of a kind that we can't have"
        }
        I::ServerRejectedEncryptedClientHello(_) => "it does not take an encrypted name of the host",
        I::ExtendedMasterSecretExtensionRequired => "it lacks the extended master secret (RFC 7627)",
        _ => "it wants of TLS what garant does not speak",
    }
}

fn misbehaved(reason: &PeerMisbehaved) -> &'static str {
    use PeerMisbehaved as M;
    match reason {
        M::AttemptedDowngradeToTls12WhenTls13IsSupported => {
            "it takes TLS 1.2 although it speaks 1.3: something on the way weakens the connection"
        }
        M::SelectedUnofferedApplicationProtocol => "it picks an application protocol that was not offered",
        M::SelectedUnofferedCipherSuite | M::SelectedUnofferedKxGroup | M::SignedHandshakeWithUnadvertisedSigScheme => {
            "it picks a cipher that was not offered"
        }
        _ => "it does not keep to the rules of TLS",
    }
}

/// What a server that does not speak TLS seems to speak, by the first bytes that it sent; `None` when they may be TLS.
pub(super) fn no_tls(first: &[u8]) -> Option<&'static str> {
    // The types of a record: change_cipher_spec, alert, handshake, application_data, heartbeat; then the version.
    if matches!(first, [] | [20..=24] | [20..=24, 3, ..]) {
        return None;
    }
    let kinds: [(&[u8], &str); 9] = [
        (b"HTTP/", "this port speaks plain HTTP, not HTTPS"),
        (b"<!DOC", "this port speaks plain HTTP, not HTTPS"),
        (b"<!doc", "this port speaks plain HTTP, not HTTPS"),
        (b"<html", "this port speaks plain HTTP, not HTTPS"),
        (b"SSH-", "this port speaks SSH, not TLS"),
        (b"220", "this port speaks without TLS at first, as mail and FTP servers do before STARTTLS"),
        (b"* OK", "this port speaks without TLS at first, as IMAP servers do before STARTTLS"),
        (b"+OK", "this port speaks without TLS at first, as POP3 servers do before STARTTLS"),
        (b"RFB ", "this port speaks VNC, not TLS"),
    ];
    let kind = kinds.iter().find(|(start, _)| first.starts_with(start));
    Some(kind.map_or("this port answers, but not in TLS", |(_, what)| what))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{InvalidMessage, OtherError};

    use super::*;

    /// No type, module, or crate of a library, and no figure of a clock.
    fn is_plain(text: &str) -> bool {
        let camel = |word: &str| {
            let word: Vec<char> = word.chars().collect();
            word.windows(2).any(|pair| pair[0].is_lowercase() && pair[1].is_uppercase())
        };
        let library = ["::", "rustls", "webpki", "ring", "http:", "https:", "{", "UNIX"];
        // Words of the standards.
        let standard = |word: &str| word.contains("serverAuth");
        !library.iter().any(|part| part.split(' ').all(|part| text.split(' ').any(|word| word == part)))
            && !text.contains("::")
            && !text.split_whitespace().any(|word| camel(word) && !standard(word))
    }

    #[test]
    fn words_of_libraries_are_recognised() {
        assert!(is_plain("it was revoked"));
        for text in ["received fatal alert: HandshakeFailure", "Other(OtherError(CaUsedAsEndEntity))", "rustls::x"] {
            assert!(!is_plain(text), "{text}");
        }
    }

    #[test]
    fn every_fault_of_a_certificate_has_words() {
        use webpki::Error as E;
        let time = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_795_886_064));
        let all = [
            E::BadDer,
            E::BadDerTime,
            E::CaUsedAsEndEntity,
            E::CertDistrusted,
            E::CertExpired { time, not_after: time },
            E::CertNotValidYet { time, not_before: time },
            E::CertRevoked,
            E::CrlExpired { time, next_update: time },
            E::EmptyEkuExtension,
            E::EndEntityUsedAsCa,
            E::ExtensionValueInvalid,
            E::InvalidCertValidity,
            E::InvalidCrlNumber,
            E::InvalidNetworkMaskConstraint,
            E::InvalidSerialNumber,
            E::InvalidCrlSignatureForPublicKey,
            E::InvalidSignatureForPublicKey,
            E::IssuerNotCrlSigner,
            E::MalformedDnsIdentifier,
            E::MalformedExtensions,
            E::MalformedNameConstraint,
            E::MaximumNameConstraintComparisonsExceeded,
            E::MaximumPathBuildCallsExceeded,
            E::MaximumPathDepthExceeded,
            E::MaximumSignatureChecksExceeded,
            E::NameConstraintViolation,
            E::PathLenConstraintViolated,
            E::SignatureAlgorithmMismatch,
            E::UnknownIssuer,
            E::UnknownRevocationStatus,
            E::UnsupportedCertVersion,
            E::UnsupportedCriticalExtension,
            E::UnsupportedCrlIssuingDistributionPoint,
            E::UnsupportedCrlVersion,
            E::UnsupportedDeltaCrl,
            E::UnsupportedIndirectCrl,
            E::UnsupportedNameType,
            E::UnsupportedRevocationReason,
            E::UnsupportedRevocationReasonsPartitioning,
        ];
        for error in all {
            let text = certificate(&error);
            assert!(is_plain(text), "{error:?}: {text}");
            assert_ne!(text, "it can't be verified", "{error:?}");
        }
    }

    #[test]
    fn every_alert_has_its_name() {
        for number in 0..=u8::MAX {
            let text = tls(&Error::AlertReceived(number.into()));
            assert!(is_plain(&text), "{number}: {text}");
            let unknown = matches!(AlertDescription::from(number), AlertDescription::Unknown(_));
            assert_eq!(text.contains(&format!("alert {number} of TLS")), unknown, "{number}: {text}");
        }
        let text = tls(&Error::AlertReceived(AlertDescription::CertificateRequired));
        assert_eq!(text, "it wants a certificate of the client (alert certificate_required)");
    }

    #[test]
    fn every_end_of_a_handshake_has_words() {
        let other = || OtherError(Arc::new(std::io::Error::other("of a library")));
        let all = [
            Error::InappropriateMessage { expect_types: vec![], got_type: rustls::ContentType::Handshake },
            Error::InappropriateHandshakeMessage { expect_types: vec![], got_type: rustls::HandshakeType::Finished },
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            Error::InvalidMessage(InvalidMessage::TrailingData("x")),
            Error::NoCertificatesPresented,
            Error::UnsupportedNameType,
            Error::DecryptError,
            Error::EncryptError,
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired),
            Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon),
            Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(None)),
            Error::PeerIncompatible(PeerIncompatible::UnsolicitedCertificateTypeExtension),
            Error::PeerMisbehaved(PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported),
            Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol),
            Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedCipherSuite),
            Error::PeerMisbehaved(PeerMisbehaved::TooManyWarningAlertsReceived),
            Error::InvalidCertificate(CertificateError::BadSignature),
            Error::InvalidCertificate(CertificateError::Other(other())),
            Error::General("of a library".to_owned()),
            Error::FailedToGetCurrentTime,
            Error::FailedToGetRandomBytes,
            Error::HandshakeNotComplete,
            Error::PeerSentOversizedRecord,
            Error::NoApplicationProtocol,
            Error::BadMaxFragmentSize,
            Error::InconsistentKeys(rustls::InconsistentKeys::Unknown),
            Error::Other(other()),
        ];
        for error in all {
            let text = tls(&error);
            assert!(is_plain(&text) && !text.contains("of a library"), "{error:?}: {text}");
            assert_ne!(text, "TLS failed in a way that is not known here", "{error:?}");
        }
    }

    #[test]
    fn what_is_no_tls_is_named() {
        for (first, expect) in [
            (b"HTTP/1.1".as_slice(), Some("plain HTTP, not HTTPS")),
            (b"<!DOCTYP", Some("plain HTTP, not HTTPS")),
            (b"SSH-2.0-", Some("SSH")),
            (b"220 mx.s", Some("STARTTLS")),
            (b"* OK IMA", Some("IMAP")),
            (b"+OK POP3", Some("POP3")),
            (b"\x4a\x00\x00\x00\x0a8.0", Some("not in TLS")),
            (b"", None),
            (b"\x15", None),
            (b"\x15\x03\x01\x00\x02", None),
            (b"\x16\x03\x03", None),
        ] {
            assert_eq!(
                no_tls(first).map(|text| text.contains(expect.unwrap_or("nothing"))),
                expect.map(|_| true),
                "{first:?}"
            );
        }
    }
}
