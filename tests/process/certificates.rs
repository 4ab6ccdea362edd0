//! The validity of certificates, and that revoked ones are refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use crate::{
    support::{PATIENCE, Process, new_order, outcome, program},
    tls::{Authority, creates_an_order, curl},
};

const DAY: u64 = 86_400;

fn in_days(days: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + days * DAY + 3_600
}

/// A certificate for the server that expires at this time, as arguments.
fn server_until(authority: &Authority, unix_s: u64) -> Vec<String> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_s);
    let [cert, keys] = ["short.pem", "short.key"].map(|file| authority.path(file));
    std::fs::write(&cert, params.signed_by(&key, &authority.issuer).unwrap().pem()).unwrap();
    std::fs::write(&keys, key.serialize_pem()).unwrap();
    ["--tls-cert", &cert, "--tls-key", &keys].map(str::to_owned).into()
}

/// Writes a revocation list for the certificates in these files.
fn revoke(authority: &Authority, files: &[&str]) -> String {
    let revoked = |file: &&str| RevokedCertParams {
        serial_number: SerialNumber::from_slice(file.as_bytes()),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: files.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let path = authority.path("revoked.pem");
    // Replaced atomically, as publishers of lists do.
    std::fs::write(format!("{path}.new"), list.signed_by(&authority.issuer).unwrap().pem().unwrap()).unwrap();
    std::fs::rename(format!("{path}.new"), &path).unwrap();
    path
}

async fn get(node: &Process, authority: &Authority, path: &str) -> String {
    let port = node.address.port();
    let (resolve, url) = (format!("localhost:{port}:127.0.0.1"), format!("https://localhost:{port}{path}"));
    let (cert, key) = (authority.path("client.pem"), authority.path("client.key"));
    curl(&["--insecure", "--cert", &cert, "--key", &key, "--resolve", &resolve, &url]).await.stdout
}

#[tokio::test]
async fn a_certificate_that_is_about_to_expire_is_in_log_metrics_and_health() {
    let authority = Authority::with_files();
    let ca = authority.path("ca.pem");
    for (days, said) in [(3, Some("the TLS certificate expires in 3 days: renew it")), (300, None)] {
        let until = in_days(days);
        let mut args = server_until(&authority, until);
        args.extend(["--tls-client-ca".to_owned(), ca.clone()]);
        let node = Process::start(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let metrics = get(&node, &authority, "/metrics").await;
        let line = format!("ordersystem_certificate_expiry_seconds{{use=\"server\"}} {until}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
        assert!(metrics.contains("ordersystem_certificate_expiry_seconds{use=\"client-ca\"}"), "{metrics}");
        let health = get(&node, &authority, "/health").await;
        let health: serde_json::Value = serde_json::from_str(&health).expect("JSON");
        let check = health.to_string();
        assert_eq!(node.before.contains("WARN") && node.before.contains("the TLS certificate"), said.is_some());
        match said {
            Some(said) => {
                assert!(node.before.contains(said), "{}", node.before);
                assert!(check.contains("Degraded") && check.contains(said), "{check}");
            }
            None => assert!(check.contains("all certificates are valid"), "{check}"),
        }
    }
}

#[tokio::test]
async fn a_revoked_client_is_refused_and_its_connection_ends_with_its_age() {
    let authority = Authority::with_files();
    authority.sign("other", &["other-client"]);
    authority.sign("gone", &["former-client"]);
    let (ca, crl) = (authority.path("ca.pem"), revoke(&authority, &["gone"]));
    let age = ["--max-connection-age-ms", "1000", "--max-connection-age-grace-ms", "500"];
    let args = [&["--tls-client-ca", &ca, "--tls-client-crl", &crl][..], &age].concat();
    let mut node = authority.serve(&args).await;
    creates_an_order(&authority.client_as(node.address, Some("gone"))).await.expect_err("revoked before the start");

    let target = authority.client_as(node.address, Some("client"));
    let channel = target.connect(Duration::from_secs(5)).await.expect("not revoked");
    let mut commands =
        ordersystem::proto::catga::orders::v1::order_command_service_client::OrderCommandServiceClient::new(channel);
    commands.create_order(new_order("customer-1")).await.expect("accepted");
    revoke(&authority, &["gone", "client"]);
    // An older connection stays open until it is too old, and there is no other one.
    let give_up_at = tokio::time::Instant::now() + PATIENCE;
    let mut refused = 0;
    while refused < 5 {
        assert!(tokio::time::Instant::now() < give_up_at, "the client is still served");
        let served = commands.create_order(new_order("customer-1")).await.is_ok();
        refused = if served { 0 } else { refused + 1 };
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    creates_an_order(&authority.client_as(node.address, Some("other"))).await.expect("others are served");
    node.signal("TERM");
    let said = node.rest_of_log().await;
    assert!(said.contains("its certificate is not accepted: it has been revoked"), "{said}");
}

#[tokio::test]
async fn an_unusable_revocation_list_fails_the_start() {
    let authority = Authority::with_files();
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|file| authority.path(file));
    let tls = ["--port", "0", "--tls-cert", &cert, "--tls-key", &key];
    for (args, code, words) in [
        (&["--tls-client-crl", &ca][..], 2, "--tls-client-ca"),
        (&["--tls-client-ca", &ca, "--tls-client-crl", &ca], 1, "ca.pem: it contains no revocation list"),
        (&["--tls-client-ca", &ca, "--tls-client-crl", "/no/such.pem"], 1, "/no/such.pem"),
    ] {
        let refused = outcome(program().args(tls).args(args)).await;
        assert!(refused.code == Some(code) && refused.stderr.contains(words), "{words}: {refused:?}");
    }
}
