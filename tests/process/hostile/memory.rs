//! The memory that a node uses for its clients: orders, events and replies.

use std::time::Duration;

use bytes::Bytes;
use ordersystem::proto::{
    Money,
    catga::orders::v1::{
        CreateOrderRequest, ExecuteCommandsRequest, GetOrderRequest, NewOrderItem, StreamEventsRequest,
        execute_commands_request::Command,
    },
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use super::support::{EXECUTE, GET_ORDER, Memory, RawConnection, STREAM_EVENTS, calls_and_does_not_read, framed};
use crate::support::{PATIENCE, Process, until};

/// An order of `items` lines, each of about 400 bytes and 600 in memory.
pub fn large_order(items: usize) -> CreateOrderRequest {
    let item = NewOrderItem {
        product_id: "p".repeat(128),
        name: "n".repeat(256),
        quantity: 1,
        unit_price: Some(Money { currency_code: "USD".to_owned(), units: 5, nanos: 0 }),
    };
    CreateOrderRequest { customer_id: "customer-1".to_owned(), items: vec![item; items], ..Default::default() }
}

#[tokio::test]
async fn folded_orders_stay_within_their_memory_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let process = Process::start(&["--persistence", "embedded", "--data-dir", path, "--cache-mib", "16"]).await;
    // The cache takes its maximum, and publishing its share.
    place_large_orders(&process, 400).await;
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    // 120 MiB of folded orders, none of them too large for the cache.
    place_large_orders(&process, 2_400).await;
    let grown = memory.now_mib().saturating_sub(before);
    assert!(grown < 80, "{grown} MiB");
}

/// Orders of 40 KB, which are 50 in memory, by several clients at once.
async fn place_large_orders(process: &Process, orders: usize) {
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let mut commands = process.commands().await;
        clients.spawn(async move {
            for _ in 0..orders / 8 {
                commands.create_order(large_order(100)).await.expect("placed");
            }
        });
    }
    clients.join_all().await;
}

/// Waits until no order has been placed for a while.
async fn until_orders_stop_changing(process: &Process) {
    let mut before = String::new();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stats: serde_json::Value = serde_json::from_str(&process.get("/stats").await).expect("JSON");
        let now = stats["totalOrders"].to_string();
        if now == before {
            return;
        }
        before = now;
    }
    panic!("orders are placed for ever: {before}");
}

#[tokio::test]
async fn replies_that_are_not_read_are_held_up_to_a_number_of_bytes() {
    let process = Process::start(&[]).await;
    process.places_an_order().await;
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    let command = Command::CreateOrder(large_order(1_000));
    let command = ExecuteCommandsRequest { command: Some(command), ..Default::default() }.encode_to_vec();
    let mut connection = RawConnection::to(&process).await;
    let (response, mut body) = connection.begin(EXECUTE, false, framed(0, &command)).await;
    for _ in 0..250 {
        body.send_data(framed(0, &command), false).expect("sent");
    }
    until_orders_stop_changing(&process).await;
    let grown = memory.peak_mib().saturating_sub(before);
    assert!(grown < 60, "{grown} MiB");
    drop(response);
}

#[tokio::test]
async fn followers_that_do_not_read_hold_no_more_than_a_batch_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let process = Process::start(&["--persistence", "embedded", "--data-dir", path]).await;
    let mut commands = process.commands().await;
    // Twice the size of the in-memory tail of the log, which its readers share.
    for _ in 0..80 {
        commands.create_order(large_order(1_000)).await.expect("placed");
    }
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    memory.mark();
    let follow = StreamEventsRequest { follow: true, ..Default::default() }.encode_to_vec();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut connection = RawConnection::to(&process).await;
        for _ in 0..50 {
            let (response, mut body) = connection.begin(STREAM_EVENTS, false, framed(0, &follow)).await;
            body.send_data(Bytes::new(), true).expect("sent");
            // The reply arrives, and none of it is read.
            let response = tokio::time::timeout(PATIENCE, response).await.expect("in time").expect("an answer");
            open.push(response);
        }
    }
    // Clients that read are served meanwhile.
    let mut events =
        process.history().await.stream_events(StreamEventsRequest::default()).await.expect("opens").into_inner();
    for _ in 0..20 {
        tokio::time::timeout(PATIENCE, events.message()).await.expect("in time").expect("no error").expect("an event");
    }
    let grown = memory.peak_mib().saturating_sub(before);
    assert!(grown < 100, "{grown} MiB for {} followers", open.len());
}

/// A request for an order of `items` lines, placed now.
pub async fn get_large_order(process: &Process, items: usize) -> Bytes {
    let reply = process.commands().await.create_order(large_order(items)).await.expect("placed").into_inner();
    let order_id = reply.order.expect("an order").order_id;
    framed(0, &GetOrderRequest { order_id, ..Default::default() }.encode_to_vec())
}

#[tokio::test]
async fn small_replies_that_are_not_read_are_held_up_to_a_number_of_bytes() {
    let process = Process::start(&[]).await;
    let get = get_large_order(&process, 38).await;
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    memory.mark();
    // 140 MiB of replies.
    let mut unread = Vec::new();
    for _ in 0..80 {
        let mut connection = RawConnection::without_windows(&process).await;
        // A few at once: calls in flight are bounded as well.
        for _ in 0..12 {
            unread.extend(connection.unread(GET_ORDER, &get, 10).await);
        }
    }
    // Clients that read are served meanwhile.
    process.places_an_order().await;
    let grown = memory.peak_mib().saturating_sub(before);
    assert!(grown < 110, "{grown} MiB for {} replies", unread.len());
}

#[tokio::test]
async fn replies_that_are_not_written_are_held_up_to_a_number_of_bytes_whatever_the_window_of_the_client() {
    let process = Process::start(&[]).await;
    let get = get_large_order(&process, 700).await;
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    memory.mark();
    // 160 MiB of replies.
    let mut unread = Vec::new();
    for connections in 1..=12 {
        unread.push(calls_and_does_not_read(&process, GET_ORDER, &get, 50).await);
        // One after the other: calls in flight are bounded as well.
        let handled =
            format!("ordersystem_request_duration_seconds_count{{operation=\"GetOrder\"}} {}\n", connections * 50);
        until(&handled, async || process.get("/metrics").await.contains(&handled)).await;
    }
    process.places_an_order().await;
    let grown = memory.peak_mib().saturating_sub(before);
    assert!(grown < 100, "{grown} MiB for {} connections", unread.len());
}

/// Sends a request whose reply is never read, over a connection with small buffers.
async fn asks_and_does_not_read(process: &Process, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("set");
    let mut connection = socket.connect(process.address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", process.address);
    connection.write_all(request.as_bytes()).await.expect("sent");
    connection
}

#[tokio::test]
async fn pages_and_orders_that_are_not_read_are_held_up_to_a_number_of_bytes() {
    let process = Process::start(&[]).await;
    let mut commands = process.commands().await;
    let mut last = String::new();
    for _ in 0..40 {
        let order = commands.create_order(large_order(1_000)).await.expect("placed").into_inner().order;
        last = order.expect("an order").order_id;
    }
    let first = process.get("/events?pageSize=500").await;
    assert!((1 << 20..4 << 20).contains(&first.len()), "a page ends after so many bytes: {}", first.len());
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    memory.mark();
    let mut open = Vec::new();
    // One page after the other: only the retained memory is measured. After 40 of them a page has fewer events, so that each begins.
    for asked in 0..160 {
        if asked < 40 {
            open.push(asks_and_does_not_read(&process, &format!("/orders/{last}")).await);
        }
        let mut page = asks_and_does_not_read(&process, "/events?pageSize=500").await;
        let mut head = vec![0; 12];
        tokio::time::timeout(PATIENCE, page.read_exact(&mut head)).await.expect("in time").expect("a head");
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(["HTTP/1.1 200", "HTTP/1.1 429"].contains(&&*head), "{head}");
        open.push(page);
    }
    // Small replies are still sent to everybody.
    process.places_an_order().await;
    let grown = memory.peak_mib().saturating_sub(before);
    assert!(grown < 140, "{grown} MiB for {} replies", open.len());
}
