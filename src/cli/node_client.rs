//! The program's gRPC client for a node: plaintext, or with TLS.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::TlsConnector;
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use crate::{
    ports::io_errors::plainly,
    server::tls::{certificates, check_period, describe_certificate_error, is_mistrust, private_key, provider, roots},
    settings::secrets,
};

/// A connection to a node that identifies the caller.
pub type NodeChannel = InterceptedService<Channel, Credentials>;

/// The value of the header `authorization`; `None`: calls have none.
#[derive(Clone, Default)]
pub struct Credentials(Option<AsciiMetadataValue>);

impl Credentials {
    /// The API key or token that is the only line of `file`.
    fn of_file(file: &Path) -> Result<Self, String> {
        let token = secrets::read(file)?;
        warn_if_exposed(file);
        let value = AsciiMetadataValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| format!("{} has characters that no token has", file.display()))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

/// The permission bits that let another user read or change a file.
const OTHERS: u32 = 0o077;

/// Warns on standard error if other users may read the key in `file`. The command is executed nevertheless: secrets mounted into a container are
/// readable by all of its users.
fn warn_if_exposed(file: &Path) {
    let mode = fs::metadata(file).map_or(0, |found| found.permissions().mode() & 0o7777);
    if mode & OTHERS != 0 {
        let name = file.display();
        // Without standard error there is no one to warn.
        let _ = writeln!(
            io::stderr(),
            "warning: {name} holds a key and other users may read it (mode {mode:04o}): chmod go= it"
        );
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// The address of a node and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// The TLS options; `None` for plaintext.
    pub tls: Option<ClientTls>,
    /// The file with the API key or token of the caller.
    pub token_file: Option<PathBuf>,
}

/// The TLS options of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// The trusted certificates.
    pub trust: Trust,
    /// The name that the certificate must have; by default the host of the address.
    pub server_name: Option<String>,
    /// The client certificate and key, where clients must have one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The trusted certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Certificates issued by the ones in this file.
    SignedBy(PathBuf),
    /// Exactly the certificate in this file, whatever its name: for a node reached from its own machine.
    Exactly(PathBuf),
}

impl Target {
    /// A plaintext target.
    #[must_use]
    pub fn plain(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None, token_file: None }
    }

    /// Connects within `timeout`.
    ///
    /// # Errors
    /// One line: the token cannot be read; the node is unreachable, or not trusted.
    pub async fn connect(&self, timeout: Duration) -> Result<NodeChannel, String> {
        let address = &self.address;
        let credentials = self.token_file.as_deref().map(Credentials::of_file).transpose()?.unwrap_or_default();
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("{address}: {error}"))?
            .connect_timeout(timeout);
        let connected = match &self.tls {
            None => endpoint.connect().await,
            Some(tls) => {
                let (config, name) = (Arc::new(tls.config()?), tls.name(address)?);
                let connector = service_fn(move |to: Uri| tls_stream(to, Arc::clone(&config), name.clone()));
                endpoint.connect_with_connector(connector).await
            }
        };
        match connected {
            Ok(channel) => Ok(InterceptedService::new(channel, credentials)),
            Err(error) => Err(self.why_unreachable(&error, timeout).await),
        }
    }

    async fn why_unreachable(&self, error: &tonic::transport::Error, timeout: Duration) -> String {
        let (address, why) = (&self.address, innermost(error));
        if self.tls.is_some() && why.contains("InvalidContentType") {
            return format!("{address} does not speak TLS: omit --ca, --cert and --key");
        }
        if let Some(tls) = self.tls.as_ref().filter(|_| why.contains("fatal alert"))
            && let Some(why) = tls.refused_at(address, timeout).await
        {
            return format!("{address} {why}");
        }
        format!("{address} is unreachable: {}", describe_tls_error(error).unwrap_or_else(|| in_words(&why)))
    }

    /// A description of a call that failed with `status`.
    pub async fn why_failed(&self, status: &tonic::Status, timeout: Duration) -> String {
        let address = &self.address;
        // A node's own error has no source; an error of the library concerns the connection.
        let source = std::error::Error::source(status);
        let is_of_the_connection = source.is_some();
        if is_of_the_connection && self.tls.is_none() && speaks_tls(address, timeout).await {
            return format!("{address} speaks TLS: name the trusted authority with --ca FILE");
        }
        if let Some(tls) = self.tls.as_ref().filter(|_| is_of_the_connection)
            && let Some(why) = tls.refused_at(address, timeout).await
        {
            return format!("{address} {why}");
        }
        // The library only reports "transport error".
        let why = source.map_or_else(
            || status.message().to_owned(),
            |source| describe_tls_error(source).unwrap_or_else(|| in_words(&innermost(source))),
        );
        format!("{address}: {why}")
    }
}

/// Whether the server at `address` uses TLS: it presents a certificate, which is not verified.
async fn speaks_tls(address: &str, timeout: Duration) -> bool {
    let certificate = CertificateDer::from(Vec::new());
    let verifier = Arc::new(Pinned { certificate, provider: provider() });
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let Ok(builder) = builder else { return false };
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let handshake = async {
        let name = ServerName::try_from("localhost").ok()?;
        let stream = TcpStream::connect(address).await.ok()?;
        let refused = TlsConnector::from(Arc::new(config)).connect(name, stream).await.err()?;
        let error = refused.get_ref()?.downcast_ref::<TlsError>()?;
        Some(matches!(error, TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure)))
    };
    matches!(tokio::time::timeout(timeout, handshake).await, Ok(Some(true)))
}

async fn tls_stream(
    to: Uri,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>, std::io::Error> {
    let authority = to.authority().map(ToString::to_string).unwrap_or_default();
    let stream = TcpStream::connect(authority).await?;
    Ok(TokioIo::new(TlsConnector::from(config).connect(name, stream).await?))
}

impl ClientTls {
    /// Why the node at `address` closes a connection after the handshake: because there was no client certificate that it accepts. Its alert arrives
    /// after the handshake, when the HTTP/2 client no longer reports it.
    async fn refused_at(&self, address: &str, timeout: Duration) -> Option<String> {
        let (config, name) = (Arc::new(self.config().ok()?), self.name(address).ok()?);
        let handshake = async {
            let stream = TcpStream::connect(address).await.ok()?;
            let mut said = [0];
            let refused = match TlsConnector::from(config).connect(name, stream).await {
                Ok(mut stream) => stream.read(&mut said).await.err()?,
                Err(refused) => refused,
            };
            match refused.get_ref()?.downcast_ref::<TlsError>()? {
                TlsError::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure)
                    if self.identity.is_none() =>
                {
                    Some("requires a client certificate: give one with --cert FILE and its key with --key FILE".to_owned())
                }
                TlsError::AlertReceived(alert) if is_mistrust(*alert) => Some(
                    "does not accept the certificate of --cert: give one that an authority of its --tls-client-ca has signed"
                        .to_owned(),
                ),
                TlsError::InvalidCertificate(why) => {
                    Some(format!("cannot be called: {}", not_accepted(why)))
                }
                _ => None,
            }
        };
        tokio::time::timeout(timeout, handshake).await.ok().flatten()
    }

    fn name(&self, address: &str) -> Result<ServerName<'static>, String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        ServerName::try_from(name.clone()).map_err(|_| format!("'{name}' is not a valid name for a certificate"))
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.trust {
            Trust::SignedBy(path) => {
                let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(path)?), provider()).build();
                let signed = signed.map_err(|error| format!("{}: {error}", path.display()))?;
                let verifier = Arc::new(Named { certificates: certificates(path)?, signed });
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            Trust::Exactly(path) => {
                let certificate = certificates(path)?.swap_remove(0);
                let verifier = Arc::new(Pinned { certificate, provider: provider() });
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| format!("{}: {error}", certificate.display()))?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// Trusts certificates issued by the given ones, and the given ones themselves: `openssl req -x509` creates a certificate that is both CA and server
/// certificate, which the library alone accepts only as a CA.
#[derive(Debug)]
struct Named {
    certificates: Vec<CertificateDer<'static>>,
    signed: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if self.certificates.iter().any(|certificate| certificate == shown) {
            verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
            check_period(shown, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.signed.verify_server_cert(shown, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.signed.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.signed.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Trusts exactly one certificate. The handshake proves that the peer has its key.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if *shown != self.certificate {
            return Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        // No other client would accept it, either.
        check_period(shown, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A description of the certificate error, if there was one.
fn describe_tls_error(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut error = Some(error);
    while let Some(now) = error {
        let inner = now.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<TlsError>()).or_else(|| now.downcast_ref());
        if let Some(TlsError::InvalidCertificate(why)) = tls {
            return Some(not_accepted(why));
        }
        error = now.source();
    }
    None
}

fn not_accepted(why: &CertificateError) -> String {
    format!("its certificate is not accepted: {}", describe_certificate_error(why))
}

/// The root cause: the library only reports "transport error".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    said(error)
}

/// An error of the library in plain words.
fn in_words(error: &str) -> String {
    if error.contains("transport error") {
        return "the connection ended before the reply".to_owned();
    }
    plainly(error)
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}
