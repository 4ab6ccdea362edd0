//! Operator-only functions, requested from another machine: by a non-loopback address of this machine, which no packet leaves for.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use ordersystem::proto::catga::system::v1::{ListDeadLettersRequest, admin_service_client::AdminServiceClient};
use serde_json::Value;
use tonic::{Code, transport::Endpoint};

use crate::{
    logs::line_with,
    support::Process,
    tls::{Authority, curl},
};

/// The address by which other machines know this one.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    // Sends nothing: it only determines the route.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).expect("this machine has an address beside loopback");
    socket.local_addr().expect("an address").ip()
}

/// Whether a client at `host` is refused operator functions.
async fn is_refused(host: IpAddr, port: u16) -> bool {
    let endpoint = Endpoint::from_shared(format!("http://{host}:{port}")).expect("a URL");
    let mut admin = AdminServiceClient::new(endpoint.connect().await.expect("connects"));
    let request = ListDeadLettersRequest { handler: "OrderEventLogger".to_owned(), ..Default::default() };
    admin.list_dead_letters(request).await.is_err_and(|status| status.code() == Code::PermissionDenied)
}

async fn get(host: IpAddr, port: u16, path: &str) -> (u16, String) {
    let reply = reqwest::get(format!("http://{host}:{port}{path}")).await.expect("an answer");
    (reply.status().as_u16(), reply.text().await.expect("text"))
}

/// The results of the health checks.
fn details(health: &str) -> Vec<String> {
    let health: Value = serde_json::from_str(health).expect("JSON");
    let checks = health["checks"].as_object().expect("checks").values();
    checks.map(|check| check["detail"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn operators_are_clients_on_the_machine_or_of_the_admin_port() {
    let process = Process::start(&["--bind", "0.0.0.0", "--admin-port", "0"]).await;
    let (own, local) = (own_address(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port = process.address.port();
    assert!(!is_refused(local, port).await);
    assert!(is_refused(own, port).await);
    assert_eq!(get(local, port, "/metrics").await.0, 200);
    let (code, problem) = get(own, port, "/metrics").await;
    assert_eq!(code, 403);
    assert!(problem.contains("OPERATORS_ONLY"), "{problem}");
    for path in ["/health", "/health/ready"] {
        let (code, text) = get(own, port, path).await;
        assert_eq!(code, 200);
        assert!(details(&text).iter().all(String::is_empty), "{text}");
        assert!(details(&get(local, port, path).await.1).iter().any(|detail| !detail.is_empty()));
    }
    assert_eq!(get(own, port, "/swagger").await.0, 404, "not described to others");
    let admin_port = process.admin_port();
    assert!(!is_refused(own, admin_port).await);
    assert_eq!(get(own, admin_port, "/metrics").await.0, 200);
    line_with(&process, &[" WARN ", "callers are not identified"]).await;
}

#[tokio::test]
async fn the_configuration_may_make_everyone_an_operator() {
    let process = Process::start(&["--bind", "0.0.0.0", "--operators", "anyone"]).await;
    assert!(!is_refused(own_address(), process.address.port()).await);
    line_with(&process, &[" WARN ", "is treated as an operator"]).await;
}

#[tokio::test]
async fn over_tls_browsers_get_the_header_that_keeps_them_on_it() {
    let authority = Authority::with_files();
    let process = authority.serve(&[]).await;
    let resolve = format!("localhost:{}:127.0.0.1", process.address.port());
    let url = format!("https://localhost:{}/health/live", process.address.port());
    let ca = authority.path("ca.pem");
    let reply = curl(&["--include", "--cacert", &ca, "--resolve", &resolve, &url]).await;
    assert!(reply.stdout.contains("strict-transport-security: max-age=31536000"), "{reply:?}");
}
