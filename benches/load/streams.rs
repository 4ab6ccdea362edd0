//! Streams over a raw HTTP/2 connection: messages are counted by their frames, and not decoded.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::SendRequest};
use http::Request;
use ordersystem::codec::EncodedEvent;
use ordersystem::proto::catga::{
    events::v1::{OrderCreated, OrderEvent, OrderedItem, order_event},
    ids::v1::StreamIdsRequest,
    orders::v1::{
        self as pb, ExecuteCommandsRequest, StreamEventsRequest, execute_commands_request::Command,
        stream_events_response::Item,
    },
    system::v1::{RebuildPhase, RebuildProjectionsRequest, admin_service_client::AdminServiceClient},
};
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

use crate::client::{CREATE, connect, create_order, framed, try_call};

/// The header that tells a bare server how many events to send.
pub const EVENTS: &str = "x-events";
/// How many calls to ExecuteCommands run concurrently, each on its own connection.
const BULK_CALLS: usize = 4;
/// How many commands of a call are unanswered at the most.
const BULK_IN_FLIGHT: u64 = 256;
/// How many commands are sent at once.
const BULK_CHUNK: u64 = 32;
const HEADER_BYTES: usize = 5;
/// The first byte of an ExecuteCommandsResponse without a correlation id whose outcome is an error: field 3, of bytes.
const ERROR: u8 = 3 << 3 | 2;
const STREAM_EVENTS: &str = "/catga.orders.v1.OrderHistoryService/StreamEvents";
/// The number of streams on each connection of followers.
const FOLLOWERS_A_CONNECTION: usize = 100;

/// What the service streams for an order as the benches create it.
pub fn event_message() -> pb::StreamEventsResponse {
    let request = create_order();
    let items = request.items.into_iter().map(|item| OrderedItem {
        product_id: item.product_id,
        name: item.name,
        quantity: item.quantity,
        unit_price: item.unit_price,
        ..Default::default()
    });
    let created = OrderCreated { items: items.collect(), ..Default::default() };
    let event = OrderEvent {
        event_id: "382520797643669504-1".to_owned(),
        order_id: "382520797643669504".to_owned(),
        revision: 1,
        customer_id: request.customer_id,
        schema_version: 2,
        event: Some(order_event::Event::OrderCreated(created)),
        ..Default::default()
    };
    let event = EncodedEvent(event.encode_to_vec().into());
    pb::StreamEventsResponse { cursor: "dLKXJSAAAAAAAAAAAQ45".to_owned(), item: Some(Item::Event(event)) }
}

/// Counts the gRPC messages of a body from its bytes.
#[derive(Debug, Default)]
struct Counter {
    messages: u64,
    /// The bytes of the current message that have not arrived.
    missing: usize,
    header: BytesMut,
    /// Whether nothing of the current message has arrived.
    is_new: bool,
    /// The messages that begin with [`ERROR`].
    errors: u64,
}

impl Counter {
    fn add(&mut self, mut data: Bytes) {
        while !data.is_empty() {
            if self.missing == 0 {
                let wanted = (HEADER_BYTES - self.header.len()).min(data.len());
                self.header.extend_from_slice(&data.split_to(wanted));
                if self.header.len() < HEADER_BYTES {
                    return;
                }
                self.header.advance(1);
                self.missing = self.header.get_u32() as usize;
                self.is_new = true;
            }
            if self.is_new && !data.is_empty() {
                self.errors += u64::from(data[0] == ERROR);
                self.is_new = false;
            }
            let arrived = self.missing.min(data.len());
            data.advance(arrived);
            self.missing -= arrived;
            self.messages += u64::from(self.missing == 0);
        }
    }
}

/// Opens a call of `path`.
fn request(address: SocketAddr, path: &str, events: u64) -> Request<()> {
    let request = Request::post(format!("http://{address}{path}")).header("content-type", "application/grpc");
    request.header("te", "trailers").header(EVENTS, events).body(()).expect("request")
}

/// Reads a stream of messages to its end, or for `time`; returns the messages and how long they took.
async fn read(address: SocketAddr, path: &str, body: Bytes, events: u64, time: Duration) -> (u64, Duration) {
    let mut client = connect(address).await.ready().await.expect("ready");
    let began = Instant::now();
    let (response, mut stream) = client.send_request(request(address, path, events), false).expect("sent");
    stream.send_data(body, true).expect("sent");
    let response = response.await.expect("a reply");
    assert!(response.headers().get("grpc-status").is_none(), "{:?}", response.headers());
    let (mut body, mut counter) = (response.into_body(), Counter::default());
    while began.elapsed() < time
        && let Some(data) = body.data().await
    {
        let data = data.expect("data");
        body.flow_control().release_capacity(data.len()).expect("capacity");
        counter.add(data);
    }
    (counter.messages, began.elapsed())
}

/// A stream of all new events.
pub struct Follower {
    body: RecvStream,
    counter: Counter,
    /// The messages that were expected so far.
    wanted: u64,
    // As long as it is not ended the call stays open.
    _request: SendStream<Bytes>,
}

impl Follower {
    /// Waits for the next `events` events.
    pub async fn take(&mut self, events: u64) {
        self.wanted += events;
        while self.counter.messages < self.wanted {
            let data = self.body.data().await.expect("the stream continues").expect("data");
            self.body.flow_control().release_capacity(data.len()).expect("capacity");
            self.counter.add(data);
        }
        assert_eq!(self.counter.messages, self.wanted, "unexpected events");
    }
}

/// Opens `count` streams of all new events; each has said that it is live.
pub async fn follow(address: SocketAddr, count: usize) -> Vec<Follower> {
    // No heartbeat during a measurement.
    let heartbeat_interval = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let start = pb::StreamStart::Latest.into();
    let body = framed(&StreamEventsRequest { start, follow: true, heartbeat_interval, ..Default::default() });
    let mut followers = Vec::with_capacity(count);
    let mut connection = connect(address).await;
    for number in 0..count {
        if number > 0 && number % FOLLOWERS_A_CONNECTION == 0 {
            connection = connect(address).await;
        }
        let mut client = connection.clone().ready().await.expect("ready");
        let (response, mut request) = client.send_request(request(address, STREAM_EVENTS, 0), false).expect("sent");
        request.send_data(body.clone(), true).expect("sent");
        let response = response.await.expect("a reply");
        assert!(response.headers().get("grpc-status").is_none(), "{:?}", response.headers());
        let mut follower =
            Follower { body: response.into_body(), counter: Counter::default(), wanted: 0, _request: request };
        // That it has caught up.
        follower.take(1).await;
        followers.push(follower);
    }
    followers
}

/// Creates `count` orders at once, over unary calls on one connection.
pub async fn create(connection: &SendRequest<Bytes>, address: SocketAddr, count: u64) {
    let body = framed(&create_order());
    let calls = (0..count).map(|_| try_call(connection.clone(), address, CREATE, None, body.clone()));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| *answer == Some(true)), "{answers:?}");
}

/// Reads the first `events` events of the log, without following it; returns events a second.
pub async fn catch_up(address: SocketAddr, events: u64) -> f64 {
    let start = pb::StreamStart::Earliest.into();
    let body = framed(&StreamEventsRequest { start, ..Default::default() });
    let (read, took) = read(address, STREAM_EVENTS, body, events, Duration::from_secs(60)).await;
    assert!(read >= events, "{read} of {events} events");
    read as f64 / took.as_secs_f64()
}

/// Has the node rebuild its read model; returns the number of events that were read.
pub async fn rebuild(address: SocketAddr) -> u64 {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut client = AdminServiceClient::new(endpoint.connect().await.expect("connects"));
    let request = RebuildProjectionsRequest {};
    let mut reports = client.rebuild_projections(request).await.expect("accepted").into_inner();
    while let Some(state) = reports.message().await.expect("a report") {
        if state.phase() == RebuildPhase::Done {
            return state.events.unsigned_abs();
        }
    }
    panic!("the rebuild did not end");
}

/// Reads ids without end for `time`; returns ids a second.
pub async fn ids(address: SocketAddr, time: Duration) -> f64 {
    let batch = 10_000;
    let body = framed(&StreamIdsRequest { count: 0, batch_size: batch });
    let (messages, took) = read(address, "/catga.ids.v1.IdService/StreamIds", body, 0, time).await;
    messages as f64 * f64::from(batch) / took.as_secs_f64()
}

/// Sends CreateOrder through calls to ExecuteCommands for `time`; returns the number of answered commands.
pub async fn bulk(address: SocketAddr, time: Duration) -> u64 {
    let mut calls = JoinSet::new();
    for _ in 0..BULK_CALLS {
        calls.spawn(bulk_call(address, time));
    }
    calls.join_all().await.into_iter().sum()
}

async fn bulk_call(address: SocketAddr, time: Duration) -> u64 {
    let command = Command::CreateOrder(create_order());
    let message = framed(&ExecuteCommandsRequest { command: Some(command), ..Default::default() });
    let chunk = Bytes::from(message.repeat(BULK_CHUNK as usize));
    let mut client = connect(address).await.ready().await.expect("ready");
    let path = "/catga.orders.v1.OrderCommandService/ExecuteCommands";
    let (response, mut commands) = client.send_request(request(address, path, 0), false).expect("sent");
    let end = Instant::now() + time;
    let mut sent = 0;
    while sent < BULK_IN_FLIGHT {
        commands.send_data(chunk.clone(), false).expect("sent");
        sent += BULK_CHUNK;
    }
    let (mut replies, mut counter) = (response.await.expect("a reply").into_body(), Counter::default());
    while counter.messages < sent {
        let data = replies.data().await.expect("more replies").expect("data");
        replies.flow_control().release_capacity(data.len()).expect("capacity");
        counter.add(data);
        while sent - counter.messages + BULK_CHUNK <= BULK_IN_FLIGHT && Instant::now() < end {
            commands.send_data(chunk.clone(), false).expect("sent");
            sent += BULK_CHUNK;
        }
    }
    commands.send_data(Bytes::new(), true).expect("sent");
    assert_eq!(counter.errors, 0, "commands that failed, of {sent}");
    sent
}
