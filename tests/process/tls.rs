//! TLS on both APIs: client certificates, trust, and the needs of probes.

use std::{net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use ordersystem::{
    cli::node_client::{ClientTls, Target, Trust},
    proto::catga::orders::v1::order_command_service_client::OrderCommandServiceClient,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SerialNumber};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{Outcome, Process, new_order, outcome, program};

/// An authority, and the files of a server and a client that it has signed, in one folder: `ca.pem`, `server.pem`, `server.key`, …
pub struct Authority {
    folder: TempDir,
    pub issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { folder: tempfile::tempdir().unwrap(), issuer };
        std::fs::write(authority.folder.path().join("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    pub fn with_files() -> Self {
        let authority = Self::new();
        authority.sign("server", &["localhost"]);
        authority.sign("client", &["some-client"]);
        authority
    }

    /// Creates `file.pem` and `file.key`; the serial number is the name of the file.
    pub fn sign(&self, file: &str, names: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        params.serial_number = Some(SerialNumber::from_slice(file.as_bytes()));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.folder.path().join(format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.folder.path().join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    pub fn path(&self, file: &str) -> String {
        self.folder.path().join(file).to_str().unwrap().to_owned()
    }

    fn tls_args(&self) -> Vec<String> {
        ["--tls-cert".to_owned(), self.path("server.pem"), "--tls-key".to_owned(), self.path("server.key")].into()
    }

    pub async fn serve(&self, more: &[&str]) -> Process {
        let own = self.tls_args();
        let args: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Process::start(&args).await
    }

    fn client(&self, address: SocketAddr, with_certificate: bool) -> Target {
        self.client_as(address, with_certificate.then_some("client"))
    }

    /// A client that presents the certificate in `name.pem`.
    pub fn client_as(&self, address: SocketAddr, name: Option<&str>) -> Target {
        let file = |name: &str| Path::new(&self.path(name)).to_owned();
        let tls = ClientTls {
            trust: Trust::SignedBy(file("ca.pem")),
            server_name: Some("localhost".to_owned()),
            identity: name.map(|name| (file(&format!("{name}.pem")), file(&format!("{name}.key")))),
        };
        Target { address: address.to_string(), tls: Some(tls), token_file: None }
    }
}

pub async fn creates_an_order(target: &Target) -> Result<(), String> {
    let channel = target.connect(Duration::from_secs(5)).await?;
    let reply = OrderCommandServiceClient::new(channel).create_order(new_order("customer-1")).await;
    reply.map(|_| ()).map_err(|status| status.to_string())
}

pub async fn curl(args: &[&str]) -> Outcome {
    outcome(Command::new("curl").args(["--silent", "--show-error", "--max-time", "10"]).args(args).stdin(Stdio::null()))
        .await
}

async fn health(args: &[&str]) -> Outcome {
    outcome(program().arg("health").args(args)).await
}

#[tokio::test]
async fn with_a_certificate_both_apis_speak_only_tls() {
    let authority = Authority::with_files();
    let node = authority.serve(&[]).await;
    assert!(node.banner.contains("listening on https://"), "{}", node.banner);
    creates_an_order(&authority.client(node.address, false)).await.expect("by TLS");
    let in_the_clear = creates_an_order(&Target::plain(node.address.to_string())).await;
    assert!(in_the_clear.is_err());

    let (port, ca) = (node.address.port(), authority.path("ca.pem"));
    let (resolve, url) = (format!("localhost:{port}:127.0.0.1"), format!("https://localhost:{port}/stats"));
    for version in ["--http1.1", "--http2"] {
        let reply = curl(&[version, "--cacert", &ca, "--resolve", &resolve, &url]).await;
        assert!(reply.stdout.contains("\"totalOrders\":1"), "{version}: {reply:?}");
    }
    let stranger = curl(&["--resolve", &resolve, &url]).await;
    assert_ne!(stranger.code, Some(0), "an unknown authority is not trusted: {stranger:?}");
    let plain = curl(&[&format!("http://localhost:{port}/stats")]).await;
    assert_ne!(plain.code, Some(0), "{plain:?}");
}

#[tokio::test]
async fn with_a_client_authority_only_its_certificates_are_accepted() {
    let authority = Authority::with_files();
    let ca = authority.path("ca.pem");
    let node = authority.serve(&["--tls-client-ca", &ca]).await;
    creates_an_order(&authority.client(node.address, true)).await.expect("with a certificate");
    creates_an_order(&authority.client(node.address, false)).await.expect_err("without");
    let stranger = Authority::with_files();
    let mut target = authority.client(node.address, false);
    let files = ["client.pem", "client.key"].map(|file| Path::new(&stranger.path(file)).to_owned());
    if let Some(tls) = &mut target.tls {
        tls.identity = Some(files.into());
    }
    creates_an_order(&target).await.expect_err("with a certificate of someone else");
}

#[tokio::test]
async fn the_probe_reaches_a_node_by_tls_and_trusts_only_the_right_one() {
    let authority = Authority::with_files();
    let ca = authority.path("ca.pem");
    let node = authority.serve(&["--tls-client-ca", &ca]).await;
    let (address, port) = (node.address.to_string(), node.address.port().to_string());
    let (cert, key) = (authority.path("client.pem"), authority.path("client.key"));

    // On the node's own machine, with the node's own configuration.
    let own: Vec<_> = authority.tls_args().into_iter().chain(["--port".to_owned(), port]).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).chain(["--cert", &cert, "--key", &key]).collect();
    let probe = health(&own).await;
    assert_eq!((probe.code, probe.stdout.as_str()), (Some(0), "SERVING\n"), "{probe:?}");

    let from_elsewhere = ["--address", &address, "--ca", &ca, "--cert", &cert, "--key", &key];
    let named = health(&[&from_elsewhere[..], &["--server-name", "localhost"]].concat()).await;
    assert_eq!(named.code, Some(0), "{named:?}");
    let wrong_name = health(&from_elsewhere).await;
    assert_eq!(wrong_name.code, Some(1), "{wrong_name:?}");
    assert!(wrong_name.stderr.contains("not valid for name"), "{wrong_name:?}");
    let strangers = Authority::with_files();
    let stranger = strangers.path("ca.pem");
    let untrusted = health(&["--address", &address, "--ca", &stranger, "--server-name", "localhost"]).await;
    assert_eq!(untrusted.code, Some(1), "{untrusted:?}");
    assert!(untrusted.stderr.contains("signed by an untrusted authority"), "{untrusted:?}");
    let in_the_clear = health(&["--address", &address]).await;
    assert_eq!(in_the_clear.code, Some(1), "{in_the_clear:?}");
}

#[tokio::test]
async fn the_probe_refuses_an_expired_certificate_even_if_it_is_the_given_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (file("own.pem"), file("own.key"));
    for (year, says) in [(2001, "it has expired: renew it"), (2090, "it is not valid yet")] {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(year - 1, 1, 1), rcgen::date_time_ymd(year, 1, 1));
        let pair = KeyPair::generate().unwrap();
        std::fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        let node = Process::start(&["--tls-cert", &cert, "--tls-key", &key]).await;
        let (address, port) = (node.address.to_string(), node.address.port().to_string());
        for args in [
            &["--address", &*address, "--ca", &cert, "--server-name", "localhost"][..],
            &["--port", &port, "--tls-cert", &cert, "--tls-key", &key],
        ] {
            let probe = health(args).await;
            assert_eq!((probe.code, probe.stdout.as_str()), (Some(1), ""), "{probe:?}");
            assert!(probe.stderr.contains(says), "{probe:?}");
        }
    }
}

#[tokio::test]
async fn invalid_tls_files_are_refused_at_the_start() {
    let authority = Authority::with_files();
    let (cert, key, ca) = (authority.path("server.pem"), authority.path("server.key"), authority.path("ca.pem"));
    let other_key = authority.path("client.key");
    for (args, code, word) in [
        (&["--tls-cert", &cert][..], 2, "--tls-key"),
        (&["--tls-key", &key], 2, "--tls-cert"),
        (&["--tls-client-ca", &ca], 2, "--tls-cert"),
        (&["--tls-cert", "/no/such.pem", "--tls-key", &key], 1, "/no/such.pem"),
        (&["--tls-cert", &cert, "--tls-key", &cert], 1, "server.pem"),
        (&["--tls-cert", &cert, "--tls-key", &other_key], 1, "client.key"),
        (&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &key], 1, "server.key"),
    ] {
        let refused = outcome(program().args(["--port", "0", "--log-level", "off"]).args(args)).await;
        assert_eq!(refused.code, Some(code), "{args:?}: {refused:?}");
        assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains(word), "{args:?}: {refused:?}");
    }
}

/// A client that sends everything before it reads, as HTTP/2 clients do, is refused: its error.
async fn refusal_of_an_early_writer(connector: &tokio_rustls::TlsConnector, address: SocketAddr) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let tcp = tokio::net::TcpStream::connect(address).await.expect("connects");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let work = async {
        let mut stream = connector.connect(name, tcp).await?;
        // More than one write, the later ones after the server has refused.
        for _ in 0..20 {
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
            stream.flush().await?;
            tokio::task::yield_now().await;
        }
        stream.read_u8().await
    };
    match tokio::time::timeout(Duration::from_secs(60), work).await.expect("an end") {
        Ok(byte) => format!("an answer that begins with {byte}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_always_reads_why_it_is_refused() {
    let authority = Authority::with_files();
    let node = authority.serve(&["--tls-client-ca", &authority.path("ca.pem")]).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for _ in 0..50 {
        let said = refusal_of_an_early_writer(&connector, node.address).await;
        assert!(said.contains("CertificateRequired"), "{said}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_with_the_reason() {
    let authority = Authority::with_files();
    let [cert, key, other_key] = ["server.pem", "server.key", "client.key"].map(|file| authority.path(file));
    let write = |name: &str, text: &str| {
        let path = authority.path(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n\
                 -----END RSA PRIVATE KEY-----\n";
    let (encrypted, older) = (write("encrypted.key", encrypted), write("older.key", older));
    let empty = write("empty.pem", "nothing\n");
    for (cert, key, words) in [
        (&cert, &encrypted, "encrypted.key: the key is encrypted; decrypt it first"),
        (&cert, &older, "older.key: the key is encrypted; decrypt it first"),
        (&cert, &cert, "server.pem: it contains no private key"),
        (&empty, &key, "empty.pem: it contains no certificate"),
        (&key, &key, "server.key: it contains no certificate"),
        (&cert, &other_key, "client.key: the key does not belong to the certificate in"),
    ] {
        let refused =
            outcome(program().args(["--port", "0", "--log-level", "off", "--tls-cert", cert, "--tls-key", key])).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(words), "{words:?}: {refused:?}");
    }
}

/// As created by `openssl req -x509`: one certificate that is authority and server in one.
fn self_signed(authority: &Authority, file: &str, until_year: i32) -> Vec<String> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    let [cert_path, key_path] = ["pem", "key"].map(|kind| authority.path(&format!("{file}.{kind}")));
    std::fs::write(&cert_path, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    ["--tls-cert", &cert_path, "--tls-key", &key_path].map(str::to_owned).into()
}

async fn serve_with(args: &[String]) -> Process {
    Process::start(&args.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test]
async fn the_probe_describes_the_error_and_accepts_a_self_signed_certificate() {
    let authority = Authority::new();
    let node = serve_with(&self_signed(&authority, "own", 2090)).await;
    let address = node.address.to_string();
    let own = authority.path("own.pem");
    let probe = health(&["--address", &address, "--ca", &own, "--server-name", "localhost"]).await;
    assert_eq!((probe.code, probe.stdout.as_str()), (Some(0), "SERVING\n"), "{probe:?}");
    let wrong_name = health(&["--address", &address, "--ca", &own, "--server-name", "elsewhere"]).await;
    assert!(wrong_name.code == Some(1) && wrong_name.stderr.contains("not valid for name"), "{wrong_name:?}");
    let in_the_clear = health(&["--address", &address]).await;
    let said = format!("error: {address} speaks TLS: name the trusted authority with --ca FILE\n");
    assert_eq!((in_the_clear.code, in_the_clear.stderr), (Some(1), said));

    let plain = Process::start(&[]).await;
    let address = plain.address.to_string();
    let probe = health(&["--address", &address, "--ca", &own]).await;
    let said = format!("error: {address} does not speak TLS: omit --ca, --cert and --key\n");
    assert_eq!((probe.code, probe.stderr), (Some(1), said));
}

#[tokio::test]
async fn the_probe_names_a_missing_client_certificate_and_a_defect_of_its_own() {
    let authority = Authority::with_files();
    let ca = authority.path("ca.pem");
    let mut node = authority.serve(&["--tls-client-ca", &ca]).await;
    let address = node.address.to_string();
    let at = ["--address", &address, "--ca", &ca, "--server-name", "localhost"];
    let none = health(&at).await;
    let said = format!(
        "error: {address} requires a client certificate: give one with --cert FILE and its key with --key FILE\n"
    );
    assert_eq!((none.code, none.stderr), (Some(1), said.clone()));
    for command in
        [&["projections", "rebuild"][..], &["dead-letters", "list", "order-event-logger"], &["log-level", "debug"]]
    {
        let refused = outcome(program().args(command).args(at)).await;
        assert_eq!((refused.code, refused.stderr), (Some(1), said.clone()), "{command:?}");
    }
    self_signed(&authority, "other", 2090);
    let (cert, key) = (authority.path("other.pem"), authority.path("other.key"));
    let other = health(&[&at[..], &["--cert", &cert, "--key", &key]].concat()).await;
    assert!(other.code == Some(1) && other.stderr.contains("does not accept the certificate of --cert"), "{other:?}");
    let mistrusted = health(&["--address", &address, "--ca", &cert, "--server-name", "localhost"]).await;
    let expected = "its certificate is not accepted: it is not signed by a trusted authority";
    assert!(mistrusted.stderr.contains(expected), "{mistrusted:?}");
    node.signal("TERM");
    let said = node.rest_of_log().await;
    for word in ["AccessDenied", "CaUsedAsEndEntity", "UnknownIssuer", "UnknownCA"] {
        assert!(!said.contains(word), "{word}: {said}");
    }
    assert!(said.contains("it does not trust the certificate of this node"), "{said}");
}

#[tokio::test]
async fn a_node_that_is_not_there_is_described_without_words_of_a_library() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for command in
        [&["health"][..], &["projections", "rebuild"], &["dead-letters", "list", "any"], &["log-level", "debug"]]
    {
        let absent = outcome(program().args(command).args(["--address", &address])).await;
        let said = format!("error: {address} is unreachable: connection refused\n");
        assert_eq!((absent.code, absent.stderr), (Some(1), said), "{command:?}");
    }
}

#[tokio::test]
async fn the_node_reports_why_it_refuses_a_client_and_that_its_certificate_has_expired() {
    let authority = Authority::new();
    let mut node = serve_with(&self_signed(&authority, "old", 2020)).await;
    let _ = health(&["--address", &node.address.to_string()]).await;
    node.signal("TERM");
    let said = node.rest_of_log().await;
    assert!(said.contains("refused a client: it does not speak TLS, which this port requires"), "{said}");
    assert!(node.before.contains("the TLS certificate has expired"), "{}", node.before);

    let mut plain = Process::start(&[]).await;
    let _ = health(&["--address", &plain.address.to_string(), "--ca", &authority.path("old.pem")]).await;
    plain.signal("TERM");
    let said = plain.rest_of_log().await;
    assert!(said.contains("refused a client: it speaks TLS, which this port does not"), "{said}");
}
