//! Describes the TLS library's errors about refused certificates. The client libraries of brokers return them only as text.

/// The defect of a server's certificate, if `text` is an error about one; the names of certificates and authorities are described elsewhere.
#[must_use]
pub fn certificate_problem(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let says = |word: &str| lower.contains(word);
    Some(if says("causedasendentity") || says("ca used as end entity") {
        "its certificate is a CA certificate, which a server must not use: give the server one that the authority has signed"
    } else if says("unsupportedcertversion") || says("unsupported cert version") {
        "its certificate has X.509 version 1: issue one of version 3, with a subjectAltName"
    } else if says("certificate expired") || says("certificateexpired") || says("peer certificate: expired") {
        "its certificate has expired: renew it"
    } else if says("certificate not valid yet") || says("notvalidyet") {
        "its certificate is not valid yet: check the clocks of both sides"
    } else if says("peer certificate: revoked") {
        "its certificate has been revoked"
    } else if says("badencoding") || says("bad encoding") {
        "its certificate is damaged"
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::{CertificateError, Error, pki_types::UnixTime};

    use super::certificate_problem;

    #[test]
    fn errors_of_the_library_are_recognised() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        for (error, expected) in [
            (CertificateError::Expired, "expired"),
            (CertificateError::ExpiredContext { time: time(9), not_after: time(5) }, "expired"),
            (CertificateError::NotValidYetContext { time: time(1), not_before: time(5) }, "not valid yet"),
            (CertificateError::NotValidYet, "not valid yet"),
            (CertificateError::Revoked, "revoked"),
            (CertificateError::BadEncoding, "damaged"),
        ] {
            let text = Error::InvalidCertificate(error).to_string();
            assert!(certificate_problem(&text).is_some_and(|words| words.contains(expected)), "{text}");
        }
        for (text, expected) in [
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "is a CA certificate"),
            ("invalid peer certificate: Other(OtherError(UnsupportedCertVersion))", "version 3"),
        ] {
            assert!(certificate_problem(text).is_some_and(|words| words.contains(expected)), "{text}");
        }
        for text in ["invalid peer certificate: UnknownIssuer", "connection refused"] {
            assert_eq!(certificate_problem(text), None);
        }
    }
}
