//! TLS with the real server: trust in the server, and client certificates.

use ordersystem_client::{
    Channel,
    catga::system::v1::{GetServerInfoRequest, system_service_client::SystemServiceClient},
    connect, connect_tls,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::{
    Code, Status,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use crate::server::{Redis, Server};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "an authority for tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name`, and its key.
fn signed(issuer: &Issuer, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn trust(issuer: &Issuer) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(issuer.pem())).domain_name("localhost")
}

async fn call(channel: Channel) -> Result<String, Status> {
    let info = SystemServiceClient::new(channel).get_server_info(GetServerInfoRequest {}).await?;
    Ok(info.into_inner().service)
}

#[tokio::test]
async fn over_tls_client_and_server_verify_each_other() {
    let (ours, other) = (authority(), authority());
    let (certificate, key) = signed(&ours, "localhost");
    let folder = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let arguments = [
        ("--tls-cert", file("server.pem", &certificate)),
        ("--tls-key", file("server.key", &key)),
        ("--tls-client-ca", file("ca.pem", &ours.pem())),
    ];
    let arguments: Vec<String> = arguments.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path]).collect();
    let mut server = Server::new(folder.path(), Redis::if_wanted(folder.path()), "tls", &arguments);
    server.spawn();

    let (certificate, key) = signed(&ours, "some-client");
    let known = trust(&ours).identity(Identity::from_pem(certificate, key));
    let channel = connect_tls(&server.address, known).unwrap();
    server.wait_until_ready(channel.clone()).await;
    assert_eq!(call(channel).await.unwrap(), "Catga OrderSystem");

    let (certificate, key) = signed(&other, "some-client");
    let refused = [
        ("without a certificate", connect_tls(&server.address, trust(&ours))),
        ("with a certificate of another authority", {
            connect_tls(&server.address, trust(&ours).identity(Identity::from_pem(certificate, key)))
        }),
        ("to a server of an authority that is not trusted", connect_tls(&server.address, trust(&other))),
        ("to a server with another name", connect_tls(&server.address, trust(&ours).domain_name("elsewhere"))),
        ("in plain text", connect(&server.address)),
    ];
    for (how, channel) in refused {
        let error = call(channel.unwrap()).await.expect_err(how);
        assert_eq!(error.code(), Code::Unavailable, "{how}: {error}");
    }
}
