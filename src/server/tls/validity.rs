//! The validity periods of certificates, and warnings about them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::Gauge;
use rustls::{
    CertificateError, Error as TlsError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::provider;

/// A certificate that expires within this time is reported.
const REPORTED_BEFORE_DAYS: i64 = 14;
const DAY_SECONDS: i64 = 86_400;
const HOUR_SECONDS: i64 = 3_600;
/// The end of the year 9999, which a certificate without an expiry contains (RFC 5280 section 4.1.2.5).
const NO_END_SECONDS: u64 = 253_402_300_799;

/// The use of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The server certificate, or another one of its chain.
    Server,
    /// It signs client certificates.
    ClientCa,
}

impl Use {
    /// The name in metrics.
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::ClientCa => "client-ca",
        }
    }

    /// The gauge of the earliest expiry for this use.
    pub(super) fn gauge(self) -> Gauge {
        metrics::gauge!("ordersystem_certificate_expiry_seconds", "use" => self.name())
    }
}

/// The validity period of a certificate of a file, in seconds of Unix time, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) used_for: Use,
    file: PathBuf,
    from: i64,
    until: i64,
}

impl Validity {
    /// The validity of each readable certificate in `chain`.
    pub(super) fn of_all(used_for: Use, file: &Path, chain: &[CertificateDer<'static>]) -> Vec<Self> {
        let of = |certificate: &CertificateDer<'static>| {
            let (from, until) = bounds(certificate)?;
            Some(Self { used_for, file: file.to_owned(), from, until })
        };
        chain.iter().filter_map(of).collect()
    }

    /// The warning about it at `now`, if any.
    pub(super) fn trouble(&self, now: i64) -> Option<String> {
        let left = self.until - now;
        let state = if now < self.from {
            "is not valid yet".to_owned()
        } else if left < 0 {
            "has expired".to_owned()
        } else if left < REPORTED_BEFORE_DAYS * DAY_SECONDS {
            match (left / DAY_SECONDS, left / HOUR_SECONDS) {
                (0, hours) => format!("expires in {hours} hours"),
                (days, _) => format!("expires in {days} days"),
            }
        } else {
            return None;
        };
        let what = match self.used_for {
            Use::Server => "the TLS certificate",
            Use::ClientCa => "a CA certificate of clients",
        };
        let consequence = match self.used_for {
            Use::Server if left < 0 || now < self.from => ": clients will refuse it",
            Use::Server | Use::ClientCa => ": renew it",
        };
        Some(format!("{what} {state}{consequence} ({})", self.file.display()))
    }
}

/// Checks that `certificate` is valid at `now`.
///
/// # Errors
/// The violated bound.
pub(crate) fn check_period(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), TlsError> {
    let Some((from, until)) = bounds(&certificate.clone().into_owned()) else { return Ok(()) };
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < from {
        return Err(TlsError::InvalidCertificate(CertificateError::NotValidYet));
    }
    if seconds > until {
        return Err(TlsError::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

/// The validity period of a certificate. The verifier checks it before anything else, and reports the violated bound: verifying at the lowest time
/// yields the start, at the highest time the end.
fn bounds(certificate: &CertificateDer<'static>) -> Option<(i64, i64)> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let refusal_at = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_server_cert(certificate, &[], &name, &[], time).err()
    };
    let seconds = |time: UnixTime| i64::try_from(time.as_secs()).ok();
    let from = match refusal_at(0) {
        Some(TlsError::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            seconds(not_before)?
        }
        // Valid since before Unix time.
        _ => 0,
    };
    let until = match refusal_at(NO_END_SECONDS) {
        Some(TlsError::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => seconds(not_after)?,
        _ => NO_END_SECONDS.cast_signed(),
    };
    Some((from, until))
}

/// The earliest expiry among `all` for this use.
pub(super) fn first_end(all: &[Validity], used_for: Use) -> Option<i64> {
    all.iter().filter(|validity| validity.used_for == used_for).map(|validity| validity.until).min()
}

/// The current time in seconds of Unix time.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_reported_when_it_is_not_valid_and_two_weeks_before_its_end() {
        let validity = Validity { used_for: Use::Server, file: "c.pem".into(), from: 1_000, until: 10_000_000 };
        for (now, said) in [
            (999, Some("the TLS certificate is not valid yet: clients will refuse it (c.pem)")),
            (1_000, None),
            (10_000_000 - 14 * DAY_SECONDS, None),
            (10_000_000 - 14 * DAY_SECONDS + 1, Some("the TLS certificate expires in 13 days: renew it (c.pem)")),
            (10_000_000 - HOUR_SECONDS, Some("the TLS certificate expires in 1 hours: renew it (c.pem)")),
            (10_000_000, Some("the TLS certificate expires in 0 hours: renew it (c.pem)")),
            (10_000_001, Some("the TLS certificate has expired: clients will refuse it (c.pem)")),
        ] {
            assert_eq!(validity.trouble(now).as_deref(), said, "{now}");
        }
    }

    #[test]
    fn the_earliest_expiry_counts_for_each_use_and_an_unreadable_certificate_does_not() {
        let key = rcgen::KeyPair::generate().unwrap();
        let signed_until = |year| {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            params.self_signed(&key).unwrap().der().clone()
        };
        let chain = [signed_until(2040), signed_until(2030), CertificateDer::from(vec![1, 2, 3])];
        let all = Validity::of_all(Use::Server, Path::new("c.pem"), &chain);
        assert_eq!(all.len(), 2);
        assert_eq!(first_end(&all, Use::Server), Some(1_893_456_000), "2030-01-01");
        assert_eq!(first_end(&all, Use::ClientCa), None);
    }
}
