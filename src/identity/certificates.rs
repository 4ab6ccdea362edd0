//! Client certificates: their subjects and names, and the callers that they identify.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::FromDer as _,
    x509::X509Name,
};

use super::{
    rejection::Rejection,
    verified::{Accepted, Verified},
};

/// The property by which a certificate is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// Its whole subject.
    Subject(Subject),
    /// One of its alternative names.
    Name(AlternativeName),
}

/// The subject of a certificate: its attributes in their order, such as `CN=billing, O=Example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(Vec<(String, String)>);

/// An alternative name of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlternativeName {
    kind: NameKind,
    /// DNS names in lower case.
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameKind {
    Dns,
    Uri,
    Email,
}

impl Subject {
    /// Parses `CN=billing, O=Example`; a comma within a value is written `\,`.
    ///
    /// # Errors
    /// A description.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{}' is not a subject as in CN=billing, O=Example", text.escape_debug());
        let mut attributes = vec![String::new()];
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match (letter, attributes.last_mut()) {
                (',', _) => attributes.push(String::new()),
                ('\\', Some(last)) => last.push(letters.next().ok_or_else(wrong)?),
                (letter, Some(last)) => last.push(letter),
                (_, None) => {}
            }
        }
        let pair = |attribute: &String| {
            let (kind, value) = attribute.split_once('=')?;
            let (kind, value) = (kind.trim(), value.trim());
            (!kind.is_empty() && !value.is_empty()).then(|| (kind.to_ascii_uppercase(), value.to_owned()))
        };
        attributes.iter().map(pair).collect::<Option<_>>().map(Self).ok_or_else(wrong)
    }

    fn of(name: &X509Name<'_>) -> Option<Self> {
        let pair = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            let kind = oid2abbrev(attribute.attr_type(), oid_registry())
                .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_ascii_uppercase);
            Some((kind, attribute.as_str().ok()?.to_owned()))
        };
        name.iter_attributes().map(pair).collect::<Option<_>>().map(Self)
    }
}

impl AlternativeName {
    /// Parses `dns:billing.internal`, `uri:spiffe://example/billing` or `email:billing@example.com`.
    ///
    /// # Errors
    /// A description.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, value) = text.split_once(':').unwrap_or_default();
        let kind = match kind.to_ascii_lowercase().as_str() {
            "dns" => NameKind::Dns,
            "uri" => NameKind::Uri,
            "email" => NameKind::Email,
            _ => {
                let text = text.escape_debug();
                return Err(format!("'{text}' is not a name as in dns:billing.internal, uri:spiffe://… or email:…"));
            }
        };
        if value.is_empty() {
            return Err(format!("'{}' has no name", text.escape_debug()));
        }
        Ok(Self::new(kind, value))
    }

    fn new(kind: NameKind, value: &str) -> Self {
        let value = if kind == NameKind::Dns { value.to_ascii_lowercase() } else { value.to_owned() };
        Self { kind, value }
    }

    fn of(name: &GeneralName<'_>) -> Option<Self> {
        Some(match name {
            GeneralName::DNSName(name) => Self::new(NameKind::Dns, name),
            GeneralName::URI(uri) => Self::new(NameKind::Uri, uri),
            GeneralName::RFC822Name(address) => Self::new(NameKind::Email, address),
            _ => return None,
        })
    }
}

/// The certificate of a connected client, verified by the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// `None` if it has an attribute that is not text.
    subject: Option<Subject>,
    names: Vec<AlternativeName>,
    until: SystemTime,
}

impl PeerCertificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// If the bytes are not a certificate.
    pub fn parse(der: &[u8]) -> Result<Self, NoCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| NoCertificate)?;
        let names = certificate.subject_alternative_name().map_err(|_| NoCertificate)?;
        let names = names.map(|names| names.value.general_names.iter().filter_map(AlternativeName::of).collect());
        let until = u64::try_from(certificate.validity().not_after.timestamp()).map_err(|_| NoCertificate)?;
        Ok(Self {
            subject: Subject::of(certificate.subject()),
            names: names.unwrap_or_default(),
            // The last second is still valid: RFC 5280, 4.1.2.5.
            until: SystemTime::UNIX_EPOCH + Duration::from_secs(until.saturating_add(1)),
        })
    }

    fn is(&self, matched: &Matched) -> bool {
        match matched {
            Matched::Subject(subject) => self.subject.as_ref() == Some(subject),
            Matched::Name(name) => self.names.contains(name),
        }
    }
}

/// The bytes are not those of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCertificate;

impl fmt::Display for NoCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate cannot be read")
    }
}

impl std::error::Error for NoCertificate {}

/// The callers that certificates identify.
#[derive(Debug, Default)]
pub struct Certificates(Vec<(Matched, Arc<Verified>)>);

impl Certificates {
    /// Adds `caller` as the caller of the certificates that are `matched`.
    pub fn add(&mut self, matched: Matched, caller: Arc<Verified>) {
        self.0.push((matched, caller));
    }

    /// The caller of the first entry that matches `certificate`; `None` if there is no such entry.
    ///
    /// # Errors
    /// An expired certificate: its connection may have been opened before.
    pub fn caller(&self, certificate: &PeerCertificate, now: SystemTime) -> Result<Option<Accepted>, Rejection> {
        let Some((_, caller)) = self.0.iter().find(|(matched, _)| certificate.is(matched)) else { return Ok(None) };
        if now >= certificate.until {
            return Err(Rejection::Expired("the client certificate has expired"));
        }
        Ok(Some(Accepted { caller: Arc::clone(caller), until: Some(certificate.until) }))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;
    use crate::identity::Principal;

    fn certificate(attributes: &[(DnType, &str)], names: Vec<SanType>) -> PeerCertificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = names;
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        PeerCertificate::parse(made.der()).unwrap()
    }

    fn is_subject(certificate: &PeerCertificate, text: &str) -> bool {
        certificate.is(&Matched::Subject(Subject::parse(text).unwrap()))
    }

    #[test]
    fn the_whole_subject_is_compared_attribute_by_attribute() {
        let [org, name] = [(DnType::OrganizationName, "Example, Inc."), (DnType::CommonName, "billing")];
        let found = certificate(&[org, name.clone()], Vec::new());
        assert!(is_subject(&found, "O=Example\\, Inc.,CN=billing"));
        assert!(is_subject(&found, " o = Example\\, Inc. , cn = billing"));
        for other in
            ["CN=billing", "O=Example\\, Inc.", "CN=billing, O=Example\\, Inc.", "O=Example\\, Inc., CN=Billing"]
        {
            assert!(!is_subject(&found, other), "{other}");
        }
        let forged = certificate(&[(DnType::CommonName, "billing, O=Example")], Vec::new());
        assert!(!is_subject(&forged, "CN=billing, O=Example"), "one attribute does not pass for two");
    }

    #[test]
    fn one_of_the_alternative_names_is_enough() {
        let dns = SanType::DnsName("Billing.internal".try_into().unwrap());
        let uri = SanType::URI("spiffe://example/billing".try_into().unwrap());
        let found = certificate(&[(DnType::CommonName, "x")], vec![dns, uri]);
        let is = |text| found.is(&Matched::Name(AlternativeName::parse(text).unwrap()));
        assert!(is("dns:billing.INTERNAL") && is("URI:spiffe://example/billing"));
        for other in
            ["dns:billing", "uri:spiffe://example/Billing", "email:billing.internal", "dns:spiffe://example/billing"]
        {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn an_expired_certificate_identifies_nobody() {
        let mut certificate = certificate(&[(DnType::CommonName, "billing")], Vec::new());
        certificate.until = SystemTime::now();
        let principal = Arc::new(Principal::nobody());
        let mut known = Certificates::default();
        let subject = Matched::Subject(Subject::parse("CN=billing").unwrap());
        known.add(subject, Arc::new(Verified { principal, limits: None }));
        let before = known.caller(&certificate, certificate.until - Duration::from_secs(1)).unwrap();
        assert_eq!(before.unwrap().until, Some(certificate.until));
        let after = known.caller(&certificate, certificate.until);
        assert_eq!(after.map(|_| ()), Err(Rejection::Expired("the client certificate has expired")));
        assert!(Certificates::default().caller(&certificate, certificate.until).unwrap().is_none(), "in no entry");
    }

    #[test]
    fn the_end_of_a_certificate_is_read_from_it() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let until = PeerCertificate::parse(made.der()).unwrap().until;
        assert_eq!(until, SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_001), "its last second is valid");
    }

    #[test]
    fn wrong_texts_are_refused() {
        for wrong in ["", "billing", "CN=", "=x", "CN=a,,O=b", "CN=a\\"] {
            assert!(Subject::parse(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "billing", "dns:", "ip:127.0.0.1"] {
            assert!(AlternativeName::parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(PeerCertificate::parse(b"no"), Err(NoCertificate));
    }
}
