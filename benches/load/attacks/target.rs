//! The node under attack, and raw connections to it.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};

use super::ordinary::Ended;
use crate::servers::{Limits, Server};

/// The bytes that a client lets the server send before it has read any: effectively unlimited.
const WINDOW: u32 = 1 << 24;

/// A node, and the data that its clients need.
#[derive(Debug)]
pub struct Target {
    pub server: Server,
    pub address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    _folder: tempfile::TempDir,
}

/// The transport of a client.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Target {
    /// Starts a node on `store` with these flags.
    pub async fn start(store: &str, flags: &[&str], is_tls: bool, limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
        let mut args: Vec<String> = ["--persistence", store].map(str::to_owned).to_vec();
        if store == "embedded" {
            args.extend(["--data-dir".to_owned(), path("data")]);
        }
        args.extend(flags.iter().map(|&flag| flag.to_owned()));
        let tls = is_tls.then(|| {
            args.extend(["--tls-cert".to_owned(), path("server.pem"), "--tls-key".to_owned(), path("server.key")]);
            certificates(folder.path().into())
        });
        let server = Server::on_any_port(&args, limits);
        let address = server.address;
        Self { server, address, tls, _folder: folder }
    }

    async fn stream(&self) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from("localhost").expect("a name");
        Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?))
    }

    /// A connection that is silent after its handshake; ends when the server closes it.
    pub async fn say_nothing(&self, first: &[u8]) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Ok(mut stream) = self.stream().await else { return };
        let _ = stream.write_all(first).await;
        let _ = stream.flush().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }

    pub async fn connect(&self) -> Result<Connection, String> {
        self.connect_with_window(WINDOW).await
    }

    /// A connection that accepts `window` bytes of each reply before it has read any.
    pub async fn connect_with_window(&self, window: u32) -> Result<Connection, String> {
        let stream = self.stream().await.map_err(|error| error.to_string())?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(WINDOW);
        let (requests, connection) = builder.handshake(stream).await.map_err(|error: h2::Error| error.to_string())?;
        let ended = Ended::default();
        let ends = ended.clone();
        tokio::spawn(async move {
            let _ = connection.await;
            ends.set();
        });
        Ok(Connection { requests, ended })
    }

    /// Connects, with retries; for attackers.
    pub async fn reach(&self, window: u32) -> Connection {
        loop {
            if let Ok(connection) = self.connect_with_window(window).await {
                return connection;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// An HTTP/2 connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    ended: Ended,
}

impl Connection {
    pub fn is_closed(&self) -> bool {
        self.ended.is_set()
    }

    /// Starts a call and sends `body`; `is_end` says whether that is all of it.
    pub async fn begin(
        &mut self,
        path: &str,
        is_gzip: bool,
        body: Bytes,
        is_end: bool,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), String> {
        let mut requests = self.requests.clone().ready().await.map_err(|error| error.to_string())?;
        let mut request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
        if is_gzip {
            request = request.header("grpc-encoding", "gzip");
        }
        let request = request.header("te", "trailers").body(()).expect("a request");
        let (response, mut stream) = requests.send_request(request, false).map_err(|error| error.to_string())?;
        // Fails if it has been refused already.
        let _ = stream.send_data(body, is_end);
        Ok((response, stream))
    }

    /// Makes a call and discards its reply.
    pub async fn throw(&mut self, path: &str, is_gzip: bool, body: Bytes) {
        let Ok((response, _stream)) = self.begin(path, is_gzip, body, true).await else { return };
        let Ok(response) = response.await else { return };
        let mut body = response.into_body();
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
        }
    }
}

/// A framed message, with or without the compressed flag.
pub fn framed(flag: u8, message: &[u8]) -> Bytes {
    [&[flag][..], &u32::try_from(message.len()).expect("short").to_be_bytes(), message].concat().into()
}

pub fn gzip(message: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(message).expect("written");
    framed(1, &encoder.finish().expect("finished"))
}

/// Creates a certificate for `localhost` in `folder`; returns what trusts it.
fn certificates(folder: PathBuf) -> Arc<ClientConfig> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    std::fs::write(folder.join("server.pem"), certificate.pem()).expect("written");
    std::fs::write(folder.join("server.key"), key.serialize_pem()).expect("written");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
