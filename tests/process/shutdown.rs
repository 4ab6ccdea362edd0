//! Signals: an orderly shutdown that notifies all clients, or an immediate one.

use std::time::Duration;

use ordersystem::proto::catga::orders::v1::StreamEventsRequest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::support::{PATIENCE, Process, new_order};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_at_work_ends_in_order_when_terminated() {
    for signal in ["TERM", "INT"] {
        let mut process = Process::start(&[]).await;
        let mut health = HealthClient::new(process.channel().await);
        let mut watch = health.watch(HealthCheckRequest::default()).await.expect("opens").into_inner();
        let mut followers = JoinSet::new();
        for _ in 0..10 {
            let request = StreamEventsRequest { follow: true, ..Default::default() };
            let mut stream = process.history().await.stream_events(request).await.expect("opens").into_inner();
            followers.spawn(async move {
                loop {
                    match stream.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("the stream ended without a word"),
                        Err(status) => return status,
                    }
                }
            });
        }
        let mut writers = JoinSet::new();
        for _ in 0..8 {
            let mut client = process.commands().await;
            writers.spawn(async move {
                let mut accepted = 0;
                loop {
                    match client.create_order(new_order("customer-1")).await {
                        Ok(_) => accepted += 1,
                        Err(status) => return (accepted, status),
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        process.signal(signal);
        let told = async {
            while watch.message().await.expect("no error").expect("told before the end").status()
                != ServingStatus::NotServing
            {}
        };
        tokio::time::timeout(PATIENCE, told).await.expect("the readiness changes");
        assert_eq!(process.end().await, Some(0), "SIG{signal}");
        for (accepted, status) in writers.join_all().await {
            assert!(accepted > 0);
            assert_eq!(reason(&status), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
        }
        for status in followers.join_all().await {
            assert_eq!(reason(&status), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
        }
        let log = process.rest_of_log().await;
        assert!(log.contains("shutting down") && log.contains("stopped"), "{log}");
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }
}

fn reason(status: &Status) -> (Code, String) {
    use tonic_types::StatusExt;
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    (status.code(), info.reason)
}

#[tokio::test]
async fn an_idle_node_ends_in_order_and_soon() {
    // If the node used its whole grace period, the wait would time out.
    let mut process = Process::start(&["--shutdown-grace-ms", "600000"]).await;
    process.signal("TERM");
    assert_eq!(process.end().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_node_at_once() {
    let mut process = Process::start(&[]).await;
    // A request whose body does not arrive keeps the drain from completing before the second signal.
    let mut client = TcpStream::connect(process.address).await.expect("connects");
    let request = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    client.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.expect("the request is being served");
    assert_eq!(&answer, b"HTTP/1.1 100");
    process.signal("TERM");
    process.log.line_with("shutting down").await;
    process.signal("INT");
    assert_eq!(process.end().await, Some(130));
}
