//! A node as a process: it reports its addresses, and badly behaved clients do not bring it down.

use std::net::SocketAddr;

use ordersystem::proto::catga::system::v1::{GetServerInfoRequest, system_service_client::SystemServiceClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tonic::Code;

use crate::support::{PATIENCE, Process, new_order};

#[tokio::test]
async fn a_node_without_flags_logs_its_version_backends_and_address() {
    let process = Process::start(&[]).await;
    for word in ["Catga OrderSystem is listening on http://127.0.0.1:", "persistence", "inmemory", "durability", "none"]
    {
        assert!(process.banner.contains(word), "{word:?} is not in {:?}", process.banner);
    }
    assert!(process.banner.contains(env!("CARGO_PKG_VERSION")), "{}", process.banner);
    process.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
}

#[tokio::test]
async fn a_separate_grpc_port_serves_grpc_and_nothing_else() {
    let process = Process::start(&["--grpc-port", "0"]).await;
    assert_ne!(process.address, process.grpc_address);
    process.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
    let reply = reqwest::get(format!("http://{}/health", process.grpc_address)).await.expect("an answer");
    assert_eq!(reply.status(), 404, "no REST here");
    // The common port still serves both, so that clients need not be reconfigured.
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", process.address)).expect("url");
    let mut system = SystemServiceClient::new(channel.connect().await.expect("connects"));
    system.get_server_info(GetServerInfoRequest {}).await.expect("answered");
}

#[tokio::test]
async fn two_hundred_dropped_connections_leave_no_open_file_and_no_taken_permit() {
    const PERMITS: usize = 50;
    let process = Process::start(&["--max-connections", &PERMITS.to_string()]).await;
    // One exchange first, so that whatever a first connection opens for good is open.
    answered(process.address).await;
    let before = until_files_are_closed(&process, usize::MAX).await;
    let mut visits = JoinSet::new();
    for n in 0..200 {
        let address = process.address;
        visits.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            let said: &[u8] = match n % 4 {
                0 => b"",
                1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                2 => b"GET / HTTP/1.1\r\n",
                _ => b"\x00\xff\x00\xff nonsense \r\n\r\n",
            };
            let _ = stream.write_all(said).await;
        });
    }
    visits.join_all().await;
    until_files_are_closed(&process, before).await;
    // Every permit is free: as many connections as there are permits are served at the same time.
    let mut open = Vec::new();
    for _ in 0..PERMITS {
        open.push(answered(process.address).await);
    }
    drop(open);
    until_files_are_closed(&process, before).await;
    process.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
}

/// A connection on which a request has been answered, and which stays open.
async fn answered(address: SocketAddr) -> TcpStream {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 200");
        stream
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("answered in time")
}

/// Waits until the process has at most `most` files open; returns how many it has.
async fn until_files_are_closed(process: &Process, most: usize) -> usize {
    let folder = format!("/proc/{}/fd", process.child.id().expect("running"));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let open = std::fs::read_dir(&folder).expect("running").count();
        if open <= most {
            return open;
        }
        assert!(tokio::time::Instant::now() < deadline, "{open} files stay open, there were {most}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn slow_headers_time_out_without_affecting_other_clients() {
    let process = Process::start(&["--max-connections", "20"]).await;
    let mut slow = JoinSet::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(process.address).await.expect("connects");
        slow.spawn(async move {
            for byte in b"GET / HTTP/1.1\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'a')) {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                let mut answer = [0; 64];
                let pause = std::time::Duration::from_millis(200);
                if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(pause, stream.read(&mut answer)).await {
                    return;
                }
            }
        });
    }
    let mut client = process.commands().await;
    while tokio::time::timeout(std::time::Duration::from_millis(500), slow.join_next()).await.map(|next| next.is_none())
        != Ok(true)
    {
        client.create_order(new_order("customer-1")).await.expect("others are served");
    }
}

#[tokio::test]
async fn any_origin_is_allowed_by_a_star_and_none_by_default() {
    for (arguments, is_allowed) in [(&["--cors-allowed-origins", "*"][..], true), (&[], false)] {
        let process = Process::start(arguments).await;
        let asked = reqwest::Client::new()
            .get(format!("http://{}/orders", process.address))
            .header("Origin", "https://shop.example")
            .send();
        let reply = asked.await.expect("an answer");
        assert_eq!(reply.status(), 200);
        let allowed = reply.headers().get("access-control-allow-origin");
        assert_eq!(allowed.is_some_and(|origin| origin == "*"), is_allowed, "{arguments:?}: {:?}", reply.headers());
    }
}

#[tokio::test]
async fn orders_in_memory_are_gone_after_the_end_of_the_process() {
    let mut process = Process::start(&[]).await;
    let placed = process.commands().await.create_order(new_order("customer-1")).await.expect("accepted").into_inner();
    process.signal("KILL");
    assert_eq!(process.end().await, None);
    let process = Process::start(&[]).await;
    let request = ordersystem::proto::catga::orders::v1::GetOrderRequest {
        order_id: placed.order.expect("order").order_id,
        ..Default::default()
    };
    let mut queries = ordersystem::proto::catga::orders::v1::order_query_service_client::OrderQueryServiceClient::new(
        process.channel().await,
    );
    assert_eq!(queries.get_order(request).await.expect_err("gone").code(), Code::NotFound);
}
