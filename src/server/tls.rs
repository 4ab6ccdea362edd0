//! TLS for both APIs: the certificate, reloaded when its files change, and the verification of clients.

mod validity;

use std::{
    fmt,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use metrics::Gauge;
use rustls::{
    AlertDescription, CertificateError, Error as TlsError, InconsistentKeys, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{Error as PemError, PemObject},
    },
    server::WebPkiClientVerifier,
};
use tokio::{sync::watch, time::Instant};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub(crate) use self::validity::check_period;
use self::validity::{Use, Validity};
use crate::{
    identity::certificates::PeerCertificate,
    private_files,
    telemetry::outage::{Line, Outage},
};

/// The interval at which the files are checked: certificates are renewed in place.
const RELOAD_INTERVAL: Duration = Duration::from_secs(30);
/// The interval of repeated warnings about an expiring certificate.
const WARN_INTERVAL: Duration = Duration::from_secs(86_400);
/// The protocols of the port, in order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files of a listener with TLS, all in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the server, followed by its intermediate certificates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA of client certificates, which clients must have then.
    pub client_ca: Option<PathBuf>,
    /// The revocation list for client certificates.
    pub client_crl: Option<PathBuf>,
}

/// Accepts TLS connections. Cloning shares the state.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    current: watch::Sender<Arc<Current>>,
    expiry: Arc<[(Use, Gauge)]>,
}

/// The content of the files when last read.
struct Current {
    config: Arc<ServerConfig>,
    certificates: Vec<Validity>,
}

impl Current {
    fn troubles(&self) -> Vec<String> {
        let now = validity::now();
        self.certificates.iter().filter_map(|certificate| certificate.trouble(now)).collect()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads `files`, and logs invalid and expiring certificates; their metrics use the current recorder.
    ///
    /// # Errors
    /// One line that names the unusable file.
    pub fn load(files: TlsFiles) -> Result<Self, String> {
        let current = watch::Sender::new(Arc::new(read(&files)?));
        let mut expiry = vec![Use::Server];
        if files.client_ca.is_some() {
            expiry.push(Use::ClientCa);
        }
        let expiry = expiry.into_iter().map(|used_for| (used_for, used_for.gauge())).collect();
        let tls = Self { files: Arc::new(files), current, expiry };
        tls.report();
        Ok(tls)
    }

    /// The current and upcoming problems of the certificates; one line each.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.current.borrow().troubles()
    }

    /// Updates the metrics, and logs the problems.
    fn report(&self) {
        let current = Arc::clone(&self.current.borrow());
        for (used_for, gauge) in self.expiry.iter() {
            if let Some(end) = validity::first_end(&current.certificates, *used_for) {
                #[allow(clippy::cast_precision_loss, reason = "a metric; exact for 285 million years")]
                gauge.set(end as f64);
            }
        }
        for trouble in current.troubles() {
            tracing::warn!("{trouble}");
        }
    }

    /// An acceptor with the current certificate.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.borrow().config))
    }

    /// Loads changed files, until `stop`. Invalid files are logged; the previous certificate stays active.
    pub async fn keep_current(self, stop: CancellationToken) {
        let mut seen = self.files.changed_at();
        let mut told_at = Instant::now();
        let outage = Outage::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
                () = stop.cancelled() => return,
            }
            let found = self.files.changed_at();
            if found == seen {
                if told_at.elapsed() >= WARN_INTERVAL {
                    told_at = Instant::now();
                    self.report();
                }
                continue;
            }
            match read(&self.files) {
                Ok(current) => {
                    outage.works();
                    tracing::info!("reloaded the TLS certificate");
                    self.current.send_replace(Arc::new(current));
                    seen = found;
                    told_at = Instant::now();
                    self.report();
                }
                // Not recorded as seen: files that are being written are complete the next time.
                Err(error) => {
                    if let Some(Line { unsaid }) = outage.failed(&error) {
                        tracing::warn!(
                            error,
                            unsaid,
                            "cannot use the changed TLS files; keeping the previous certificate"
                        );
                    }
                }
            }
        }
    }
}

impl TlsFiles {
    fn changed_at(&self) -> Vec<Option<SystemTime>> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref(), self.client_crl.as_ref()];
        let changed_at = |path: &PathBuf| std::fs::metadata(path).and_then(|found| found.modified()).ok();
        files.into_iter().flatten().map(changed_at).collect()
    }
}

fn read(files: &TlsFiles) -> Result<Current, String> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let chain = certificates(&files.certificate)?;
    let mut validities = Validity::of_all(Use::Server, &files.certificate, &chain);
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            validities.extend(Validity::of_all(Use::ClientCa, path, &certificates(path)?));
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider);
            if let Some(crl) = &files.client_crl {
                // Clients whose issuer is covered by no list are refused.
                verifier = verifier.with_crls(revocations(crl)?).only_check_end_entity_revocation();
            }
            let file = files.client_crl.as_ref().unwrap_or(path);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| said(file, error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, private_key(&files.key)?).map_err(|error| match error {
        TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!(
                "{}: the key does not belong to the certificate in {}",
                files.key.display(),
                files.certificate.display()
            )
        }
        error => format!("{} with {}: {error}", files.certificate.display(), files.key.display()),
    })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Current { config: Arc::new(config), certificates: validities })
}

/// The revocation lists of a PEM file, at least one.
fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let found = items(&pem(path)?).map_err(|error| said(path, describe(&error)))?;
    if found.is_empty() { Err(said(path, "it contains no revocation list")) } else { Ok(found) }
}

/// The built-in cryptography provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = items(&pem(path)?).map_err(|error| said(path, describe(&error)))?;
    if found.is_empty() { Err(said(path, "it contains no certificate")) } else { Ok(found) }
}

/// The private key of a PEM file, which only its owner may change.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let mut pem = Vec::new();
    let opened = private_files::open_secret(path);
    opened.and_then(|mut file| Ok(file.read_to_end(&mut pem)?)).map_err(|refused| said(path, refused))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        // PKCS#8, and the older form with a header within the key.
        let is_encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
            .iter()
            .any(|mark| pem.windows(mark.len()).any(|part| part == *mark));
        match error {
            _ if is_encrypted => {
                said(path, "the key is encrypted; decrypt it first (openssl pkey -in FILE -out PLAIN)")
            }
            PemError::NoItemsFound => said(path, "it contains no private key"),
            error => said(path, describe(&error)),
        }
    })
}

/// The text of a PEM file.
fn pem(path: &Path) -> Result<Vec<u8>, String> {
    private_files::read(path).map_err(|refused| said(path, refused))
}

/// All items of one kind in PEM text.
fn items<T: PemObject>(pem: &[u8]) -> Result<Vec<T>, PemError> {
    T::pem_slice_iter(pem).collect()
}

fn describe(error: &PemError) -> String {
    match error {
        PemError::Io(error) => error.to_string(),
        error => format!("is not complete PEM: {error}"),
    }
}

/// Why a client failed the handshake, for the operator; `None` for one that only probed the port.
#[must_use]
pub fn refusal(error: &io::Error) -> Option<String> {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        let is_gone = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        );
        return (!is_gone).then(|| error.to_string());
    };
    Some(match tls {
        TlsError::InvalidMessage(_) => "it does not speak TLS, which this port requires".to_owned(),
        TlsError::NoCertificatesPresented => "it presents no certificate, which --tls-client-ca requires".to_owned(),
        TlsError::InvalidCertificate(why) => {
            format!("its certificate is not accepted: {}", describe_certificate_error(why))
        }
        TlsError::AlertReceived(alert) if is_mistrust(*alert) => {
            "it does not trust the certificate of this node: give it the authority that signed --tls-cert".to_owned()
        }
        error => error.to_string(),
    })
}

/// Whether the peer ended the handshake because it does not accept our certificate.
pub(crate) const fn is_mistrust(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied
    )
}

/// A description of a certificate error, and its remedy.
pub(crate) fn describe_certificate_error(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired: renew it".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: check the clocks of both sides".to_owned()
        }
        CertificateError::Revoked => "it has been revoked".to_owned(),
        CertificateError::UnknownRevocationStatus => {
            "--tls-client-crl has no list of the authority that signed it".to_owned()
        }
        CertificateError::UnknownIssuer => "it is not signed by a trusted authority".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is for another name ({error})")
        }
        CertificateError::ApplicationVerificationFailure => "it is not the one that was given".to_owned(),
        // Nearly always a different CA of the same name, such as a regenerated one, and hardly ever a flipped bit.
        CertificateError::BadSignature => {
            "it is signed by an untrusted authority that has the same name as a trusted one".to_owned()
        }
        CertificateError::BadEncoding => "it is damaged".to_owned(),
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is a CA certificate: present one that the authority has signed".to_owned()
        }
        other if format!("{other:?}").contains("UnsupportedCertVersion") => {
            "it has X.509 version 1: issue one of version 3, with a subjectAltName".to_owned()
        }
        other => other.to_string(),
    }
}

/// The certificates of a PEM file as trusted roots.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| match error {
            TlsError::InvalidCertificate(why) => said(path, describe_certificate_error(&why)),
            other => said(path, other),
        })?;
    }
    Ok(roots)
}

fn said(path: &Path, error: impl fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// The certificate of the client, which the handshake has verified.
#[must_use]
pub fn peer_certificate<I>(stream: &tokio_rustls::server::TlsStream<I>) -> Option<PeerCertificate> {
    let shown = stream.get_ref().1.peer_certificates()?.first()?;
    // An unreadable certificate identifies no caller.
    PeerCertificate::parse(shown).ok()
}

/// Whether a connection has negotiated HTTP/2.
#[must_use]
pub fn is_http2<I>(stream: &tokio_rustls::server::TlsStream<I>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0])
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn write(files: &TlsFiles) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&files.certificate, cert.pem()).unwrap();
        std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn renewed_files_are_used_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let files = TlsFiles { certificate, key, client_ca: None, client_crl: None };
        write(&files);
        let tls = Tls::load(files.clone()).unwrap();
        let mut renewals = tls.current.subscribe();
        tokio::spawn(tls.clone().keep_current(CancellationToken::new()));
        tokio::time::sleep(RELOAD_INTERVAL * 3).await;
        assert!(!renewals.has_changed().unwrap(), "nothing has changed");
        // As while the files are being written: the certificate exists, its key does not yet.
        std::fs::write(&files.key, "half").unwrap();
        tokio::time::sleep(RELOAD_INTERVAL * 3).await;
        assert!(!renewals.has_changed().unwrap(), "half a file is not used");
        write(&files);
        renewals.changed().await.unwrap();
    }
}
