//! S1 to S4: the memory that a few bytes of a request make a node allocate.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ordersystem::proto::{
    Money,
    catga::orders::v1::{
        CreateOrderRequest, ExecuteCommandsRequest, NewOrderItem, StreamEventsRequest,
        execute_commands_request::Command,
    },
};
use prost::Message as _;

use super::{
    pace::{at_rate, without_end},
    target::{Target, framed, gzip},
};
use crate::client;

pub const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";
const EXECUTE: &str = "/catga.orders.v1.OrderCommandService/ExecuteCommands";
pub const STREAM_EVENTS: &str = "/catga.orders.v1.OrderHistoryService/StreamEvents";
/// The limit of concurrent calls on a connection.
const STREAMS: usize = 128;
/// The limit of event streams on a connection.
const EVENT_STREAMS: usize = 100;
const WINDOW: u32 = 1 << 20;

/// An order of `items` lines, each of 400 bytes; gzip makes it 20 to 40 times smaller, which is the highest accepted ratio.
pub fn large_order(items: usize) -> CreateOrderRequest {
    let item = |number: usize| NewOrderItem {
        product_id: format!("{:016x}{}", (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), "p".repeat(112)),
        name: "n".repeat(256),
        quantity: 1,
        unit_price: Some(Money { currency_code: "USD".to_owned(), units: 5, nanos: 0 }),
    };
    let items = (0..items).map(item).collect();
    CreateOrderRequest { customer_id: "customer-1".to_owned(), items, ..Default::default() }
}

/// S1: small on the wire, large in memory. Four kinds in turn, 200 calls per second in total, 40 concurrent ones.
pub async fn inflated(target: Arc<Target>) {
    let items = |count: usize| [0x2a, 0].repeat(count);
    let kinds = [&[0x2a, 0x80, 0xf1, 0x04][..], &[0x7f].repeat(80_000)].concat();
    let messages = [
        (CREATE, gzip(&items(2_000_000))),
        (CREATE, gzip(&items(800_000))),
        (CREATE, gzip(&items(4_000))),
        (STREAM_EVENTS, gzip(&kinds)),
    ];
    let connection = target.reach(WINDOW).await;
    at_rate(200.0, 40, move |number| {
        let (mut connection, (path, body)) = (connection.clone(), messages[number % messages.len()].clone());
        async move { connection.throw(path, true, body).await }
    })
    .await;
}

/// S2: 1 024 calls that announce a message of 1 MB each and send none of it.
pub async fn announced(target: Arc<Target>) {
    let announcement: Bytes = [&[0][..], &1_000_000_u32.to_be_bytes()].concat().into();
    unfinished(target, 8, STREAMS, announcement).await;
}

/// S2: 128 calls that send a message of 1 MB except its last byte.
pub async fn almost_whole(target: Arc<Target>) {
    let message = [&[0][..], &1_000_001_u32.to_be_bytes(), &[0; 1_000_000]].concat();
    unfinished(target, 8, 16, message.into()).await;
}

/// Holds `calls` open on each of this many connections; a refused one is opened again, at most 10 per second on each connection.
async fn unfinished(target: Arc<Target>, connections: usize, calls: usize, body: Bytes) {
    without_end(connections, move |_| {
        let (target, body) = (Arc::clone(&target), body.clone());
        async move {
            let connection = target.reach(WINDOW).await;
            let mut held = tokio::task::JoinSet::new();
            loop {
                while held.len() < calls {
                    let (mut connection, body) = (connection.clone(), body.clone());
                    held.spawn(async move {
                        if let Ok((response, _stream)) = connection.begin(CREATE, false, body, false).await {
                            let _ = response.await;
                        }
                    });
                }
                let _ = held.join_next().await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                if connection.is_closed() {
                    return;
                }
            }
        }
    })
    .await;
}

/// S3: 3 streams of 320 large orders each, gzipped, whose replies are not read.
pub async fn unread_replies(target: Arc<Target>) {
    let command = Command::CreateOrder(large_order(1_000));
    let command = gzip(&ExecuteCommandsRequest { command: Some(command), ..Default::default() }.encode_to_vec());
    without_end(3, move |_| {
        let (target, command) = (Arc::clone(&target), command.clone());
        async move {
            let mut connection = target.reach(0).await;
            let Ok((response, mut stream)) = connection.begin(EXECUTE, true, command.clone(), false).await else {
                return;
            };
            for _ in 1..320 {
                let _ = stream.send_data(command.clone(), false);
            }
            let Ok(_unread) = response.await else { return };
            let _ = std::future::poll_fn(|task| stream.poll_reset(task)).await;
        }
    })
    .await;
}

/// Before S3: 60 orders of 1 000 items, 24 MB.
pub async fn place_large_orders(target: Arc<Target>) {
    let order = client::framed(&large_order(1_000));
    let mut connection = target.connect().await.expect("connects");
    for _ in 0..60 {
        connection.throw(CREATE, false, order.clone()).await;
    }
}

/// S3: 300 streams of those orders, none of which is read.
pub async fn stalled_followers(target: Arc<Target>) {
    let follow = framed(0, &StreamEventsRequest { follow: true, ..Default::default() }.encode_to_vec());
    without_end(3, move |_| {
        let (target, follow) = (Arc::clone(&target), follow.clone());
        async move {
            let mut connection = target.reach(0).await;
            let mut unread = Vec::new();
            for _ in 0..EVENT_STREAMS {
                if let Ok((response, _)) = connection.begin(STREAM_EVENTS, false, follow.clone(), true).await {
                    unread.push(response.await);
                }
            }
            while !connection.is_closed() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    })
    .await;
}

/// S4: different large orders, gzipped, 60 per second.
pub async fn large_orders(target: Arc<Target>) {
    let order = gzip(&large_order(1_000).encode_to_vec());
    let connection = target.reach(WINDOW).await;
    at_rate(60.0, 8, move |_| {
        let (mut connection, order) = (connection.clone(), order.clone());
        async move { connection.throw(CREATE, true, order).await }
    })
    .await;
}

/// S1 to S4 combined.
pub async fn all(target: Arc<Target>) {
    tokio::join!(
        inflated(Arc::clone(&target)),
        announced(Arc::clone(&target)),
        almost_whole(Arc::clone(&target)),
        unread_replies(Arc::clone(&target)),
        stalled_followers(Arc::clone(&target)),
        large_orders(target),
    );
}
