//! A cheap raw HTTP/2 client: prepared requests; replies are counted and discarded.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderValue, Request};
use ordersystem::proto::{
    Money,
    catga::orders::v1::{CreateOrderRequest, NewOrderItem, order_command_service_client::OrderCommandServiceClient},
};
use prost::Message;
use tokio::{net::TcpStream, task::JoinSet};
use tonic::transport::Endpoint;

pub const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";
/// The order of two items that every row creates, as [`create_order`].
pub const ORDER_JSON: &str = r#"{"customerId":"customer-123","items":[{"productId":"prod-1","name":"Laptop","quantity":1,"price":999.99},{"productId":"prod-2","name":"Mouse","quantity":2,"price":29.99}]}"#;
pub const IN_FLIGHT: usize = 64;

/// A prepared call.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: Bytes,
    pub authorization: Option<HeaderValue>,
}

/// How many calls are unanswered at a time.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    pub connections: usize,
    /// On each connection.
    pub in_flight: usize,
}

/// As the figures are taken, unless a row says otherwise.
pub const WIDE: Width = Width { connections: 4, in_flight: IN_FLIGHT };
/// One call at a time.
pub const ONE: Width = Width { connections: 1, in_flight: 1 };

impl Call {
    pub fn grpc(path: &'static str, message: &impl Message) -> Self {
        Self { path, content_type: "application/grpc", body: framed(message), authorization: None }
    }

    pub fn rest(path: &'static str, body: &'static str) -> Self {
        Self { path, content_type: "application/json", body: Bytes::from_static(body.as_bytes()), authorization: None }
    }

    /// CreateOrder over gRPC.
    pub fn create_order() -> Self {
        Self::grpc(CREATE, &create_order())
    }

    /// The same order over REST.
    pub fn post_order() -> Self {
        Self::rest("/orders", ORDER_JSON)
    }
}

/// Makes `call` as fast as replies arrive, for `time`; returns the number of replies. A call that fails ends the program.
pub async fn load(address: SocketAddr, call: &Call, width: Width, time: Duration) -> u64 {
    let calls = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + time;
    let mut callers = JoinSet::new();
    for _ in 0..width.connections {
        let connection = connect(address).await;
        for _ in 0..width.in_flight {
            let (connection, call, calls) = (connection.clone(), call.clone(), Arc::clone(&calls));
            callers.spawn(async move {
                while Instant::now() < end {
                    make(connection.clone(), address, &call).await;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    callers.join_all().await;
    calls.load(Ordering::Relaxed)
}

pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("connects");
    stream.set_nodelay(true).expect("nodelay");
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .handshake(stream)
        .await
        .expect("handshake");
    tokio::spawn(connection);
    client
}

async fn make(client: SendRequest<Bytes>, address: SocketAddr, call: &Call) {
    let request = Request::post(format!("http://{address}{}", call.path));
    let mut request = request.header("content-type", call.content_type).header("te", "trailers");
    if let Some(value) = &call.authorization {
        request = request.header("authorization", value);
    }
    let request = request.body(()).expect("request");
    let mut client = client.ready().await.expect("ready");
    let (response, mut stream) = client.send_request(request, false).expect("sent");
    stream.send_data(call.body.clone(), true).expect("sent");
    let response = response.await.expect("a reply");
    assert!(response.status().is_success(), "{}", response.status());
    assert!(response.headers().get("grpc-status").is_none_or(|status| status == "0"), "{:?}", response.headers());
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let data = data.expect("data");
        body.flow_control().release_capacity(data.len()).expect("capacity");
    }
    let trailers = body.trailers().await.expect("trailers");
    assert!(trailers.is_none_or(|trailers| trailers.get("grpc-status").is_none_or(|status| status == "0")));
}

/// Makes one call; returns whether it was answered OK, `None` if it was not answered at all.
pub async fn try_call(
    client: SendRequest<Bytes>,
    address: SocketAddr,
    path: &str,
    authorization: Option<&HeaderValue>,
    body: Bytes,
) -> Option<bool> {
    let mut request = Request::post(format!("http://{address}{path}")).header("content-type", "application/grpc");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let mut client = client.ready().await.ok()?;
    let (response, mut stream) = client.send_request(request.header("te", "trailers").body(()).ok()?, false).ok()?;
    // Fails if it has been refused already.
    let _ = stream.send_data(body, true);
    let response = response.await.ok()?;
    if response.headers().contains_key("grpc-status") {
        return Some(false);
    }
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data.ok()?.len()).ok()?;
    }
    let trailers = body.trailers().await.ok()?;
    Some(trailers.is_some_and(|trailers| trailers.get("grpc-status").is_some_and(|status| status == "0")))
}

/// Creates `count` orders over gRPC, one after the other on each of a few connections; returns their ids.
pub async fn orders(address: SocketAddr, count: usize) -> Vec<String> {
    let mut callers = JoinSet::new();
    for caller in 0..IN_FLIGHT {
        let share = (count + IN_FLIGHT - 1 - caller) / IN_FLIGHT;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let mut client = OrderCommandServiceClient::new(endpoint.connect().await.expect("connects"));
        callers.spawn(async move {
            let mut ids = Vec::with_capacity(share);
            for _ in 0..share {
                let reply = client.create_order(create_order()).await.expect("created").into_inner();
                ids.push(reply.order.expect("an order").order_id);
            }
            ids
        });
    }
    callers.join_all().await.concat()
}

/// An order of `count` items, framed.
pub fn large_order(count: usize) -> Bytes {
    let mut order = create_order();
    order.items = order.items.into_iter().cycle().take(count).collect();
    framed(&order)
}

pub fn create_order() -> CreateOrderRequest {
    let item = |product_id: &str, name: &str, quantity, units, nanos| NewOrderItem {
        product_id: product_id.to_owned(),
        name: name.to_owned(),
        quantity,
        unit_price: Some(Money { currency_code: "USD".to_owned(), units, nanos }),
    };
    CreateOrderRequest {
        customer_id: "customer-123".to_owned(),
        items: vec![item("prod-1", "Laptop", 1, 999, 990_000_000), item("prod-2", "Mouse", 2, 29, 990_000_000)],
        ..Default::default()
    }
}

/// A gRPC-framed message: the flag (not compressed), the length, the message.
pub fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.encoded_len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).expect("small"));
    message.encode(&mut frame).expect("room");
    frame.freeze()
}
