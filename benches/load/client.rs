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
use http::Request;
use ordersystem::proto::{
    Money,
    catga::orders::v1::{
        CreateOrderRequest, GetOrderRequest, NewOrderItem, order_command_service_client::OrderCommandServiceClient,
    },
};
use prost::Message;
use tokio::{net::TcpStream, task::JoinSet};

use crate::servers::Server;

const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 64;

/// Calls `path` as fast as replies arrive, for `time`; returns the number of replies.
pub async fn load(
    address: SocketAddr,
    path: &'static str,
    content_type: &'static str,
    body: &Bytes,
    time: Duration,
) -> u64 {
    let calls = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + time;
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connection = connect(address).await;
        for _ in 0..IN_FLIGHT {
            let (connection, body, calls) = (connection.clone(), body.clone(), Arc::clone(&calls));
            callers.spawn(async move {
                while Instant::now() < end {
                    call(connection.clone(), address, path, content_type, body.clone()).await;
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

async fn call(client: SendRequest<Bytes>, address: SocketAddr, path: &str, content_type: &str, body: Bytes) {
    let request = Request::post(format!("http://{address}{path}"))
        .header("content-type", content_type)
        .header("te", "trailers")
        .body(())
        .expect("request");
    let mut client = client.ready().await.expect("ready");
    let (response, mut stream) = client.send_request(request, false).expect("sent");
    stream.send_data(body, true).expect("sent");
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
pub async fn try_call(client: SendRequest<Bytes>, address: SocketAddr, path: &str, body: Bytes) -> Option<bool> {
    let request = Request::post(format!("http://{address}{path}")).header("content-type", "application/grpc");
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

/// A request for `path`.
pub async fn body(path: &str, service: &Server) -> Bytes {
    if path == "/orders" {
        return Bytes::from_static(
            br#"{"customerId":"customer-123","items":[{"productId":"prod-1","name":"Laptop","quantity":1,"price":999.99},{"productId":"prod-2","name":"Mouse","quantity":2,"price":29.99}]}"#,
        );
    }
    if path.ends_with("CreateOrder") {
        return framed(&create_order());
    }
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", service.address)).expect("an address");
    let mut client = OrderCommandServiceClient::new(endpoint.connect().await.expect("connects"));
    let order_id =
        client.create_order(create_order()).await.expect("accepted").into_inner().order.expect("order").order_id;
    framed(&GetOrderRequest { order_id, ..Default::default() })
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
