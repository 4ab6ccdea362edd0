//! S5 to S8, S13 and S14: attacks that use up capacity which others need.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ordersystem::proto::catga::{
    ids::v1::{GenerateIdsRequest, StreamIdsRequest},
    orders::v1::{
        ConsistencyLevel, CreateOrderResponse, GetOrderStatsRequest, ReadConsistency, StreamEventsRequest,
        StreamOrderHistoryRequest, order_command_service_client::OrderCommandServiceClient,
    },
};

use super::{
    bodies::{CREATE, STREAM_EVENTS},
    pace::{at_rate, without_end},
    target::{Connection, Target},
};
use crate::{client, overload};

const STATS: &str = "/catga.orders.v1.OrderQueryService/GetOrderStats";
const GENERATE_IDS: &str = "/catga.ids.v1.IdService/GenerateIds";
const STREAM_IDS: &str = "/catga.ids.v1.IdService/StreamIds";
const STREAM_HISTORY: &str = "/catga.orders.v1.OrderHistoryService/StreamOrderHistory";
const WINDOW: u32 = 1 << 20;
/// The preface of every HTTP/2 client, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The number of connections that calls are spread over.
async fn connections(target: &Target, count: usize) -> Vec<Connection> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(target.reach(WINDOW).await);
    }
    connections
}

/// Places an order.
pub async fn order(target: &Target) -> CreateOrderResponse {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", target.address)).expect("an address");
    let mut client = OrderCommandServiceClient::new(endpoint.connect().await.expect("connects"));
    client.create_order(client::create_order()).await.expect("placed").into_inner()
}

/// S5: reads with a forged consistency token, 1 000 per second over 10 connections, with the maximum number of open ones.
pub async fn made_up_tokens(target: Arc<Target>) {
    let token = order(&target).await.consistency_token;
    // The position is in the middle.
    let made_up: String =
        token.char_indices().map(|(at, c)| if at == 8 { if c == 'B' { 'C' } else { 'B' } } else { c }).collect();
    let consistency = ReadConsistency { level: ConsistencyLevel::AtLeast.into(), token: made_up };
    let body = client::framed(&GetOrderStatsRequest { consistency: Some(consistency) });
    let connections = connections(&target, 10).await;
    at_rate(1_000.0, 10_000, move |number| {
        let (mut connection, body) = (connections[number % connections.len()].clone(), body.clone());
        async move { connection.throw(STATS, false, body).await }
    })
    .await;
}

/// S6: the maximum number of TLS connections, which send nothing, or half of the HTTP/2 preface; closed ones are reopened, at most ten per
/// second each.
pub async fn silent_connections(target: Arc<Target>) {
    without_end(100, move |number| {
        let target = Arc::clone(&target);
        async move { target.say_nothing(if number % 2 == 0 { b"" } else { &PREFACE[..12] }).await }
    })
    .await;
}

/// S7: 300 idle connections that answer pings, with 256 descriptors; closed ones are reopened.
pub async fn idle_connections(target: Arc<Target>) {
    without_end(300, move |_| {
        let target = Arc::clone(&target);
        async move { target.say_nothing(PREFACE).await }
    })
    .await;
}

/// S8: commands at twice the rate that the node can handle, over 24 connections, whatever their outcome.
pub async fn overload(target: Arc<Target>) {
    let body = client::framed(&client::create_order());
    let capacity = overload::capacity(target.address, &body, Duration::from_secs(3)).await;
    let connections = connections(&target, 24).await;
    at_rate(capacity * 2.0, 20_000, move |number| {
        let (mut connection, body) = (connections[number % connections.len()].clone(), body.clone());
        async move { connection.throw(CREATE, false, body).await }
    })
    .await;
}

/// Keeps one call open on each of this many connections.
async fn callers(target: Arc<Target>, connections: usize, each: usize, path: &'static str, body: Bytes) {
    without_end(connections, move |_| {
        let (target, body) = (Arc::clone(&target), body.clone());
        async move {
            let connection = target.reach(WINDOW).await;
            let until_closed = connection.clone();
            let calls = without_end(each, move |_| {
                let (mut connection, body) = (connection.clone(), body.clone());
                async move { connection.throw(path, false, body).await }
            });
            let closed = async {
                while !until_closed.is_closed() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::select! { () = calls => {}, () = closed => {} }
        }
    })
    .await;
}

/// S13: 400 calls for 100 000 ids each, repeated as soon as they are answered.
pub async fn bulk_ids(target: Arc<Target>) {
    callers(target, 4, 100, GENERATE_IDS, client::framed(&GenerateIdsRequest { count: 100_000 })).await;
}

/// S13: 200 streams of ids that never end.
pub async fn streams_of_ids(target: Arc<Target>) {
    let request = StreamIdsRequest { count: 0, batch_size: 10_000 };
    callers(target, 2, 100, STREAM_IDS, client::framed(&request)).await;
}

/// Followers of a customer that does not exist, and of one order: 100 on each connection. `open` counts the open ones.
pub async fn idle_followers(target: Arc<Target>, count: usize, open: Arc<AtomicUsize>) {
    let order_id = order(&target).await.order.expect("an order").order_id;
    let nobody = StreamEventsRequest { follow: true, customer_ids: vec!["nobody".to_owned()], ..Default::default() };
    let history = StreamOrderHistoryRequest { order_id, follow: true, ..Default::default() };
    let requests = [(STREAM_EVENTS, client::framed(&nobody)), (STREAM_HISTORY, client::framed(&history))];
    let mut connections = tokio::task::JoinSet::new();
    for number in 0..count / 100 {
        let connection = target.reach(WINDOW).await;
        for _ in 0..100 {
            let ((path, body), mut connection) = (requests[number % 2].clone(), connection.clone());
            let open = Arc::clone(&open);
            connections.spawn(async move {
                let (response, _stream) = connection.begin(path, false, body, true).await.expect("begins");
                let mut events = response.await.expect("an answer").into_body();
                open.fetch_add(1, Ordering::Relaxed);
                while let Some(Ok(data)) = events.data().await {
                    let _ = events.flow_control().release_capacity(data.len());
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
    connections.join_all().await;
}

/// S14: 5 000 of those.
pub async fn followers_of_nothing(target: Arc<Target>) {
    idle_followers(target, 5_000, Arc::default()).await;
}

/// S14: a client that opens as many event streams as it can, up to 1 000 on each of 10 connections.
pub async fn as_many_streams_as_there_are(target: Arc<Target>) {
    let body = client::framed(&StreamEventsRequest { follow: true, ..Default::default() });
    callers(target, 10, 128, STREAM_EVENTS, body).await;
}
