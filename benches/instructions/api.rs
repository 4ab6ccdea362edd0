//! Calls of both APIs to a node in this process, without a connection. What follows the log does not run meanwhile.

use std::{hint::black_box, sync::Arc};

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, Request, Version, header};
use http_body_util::BodyExt as _;
use ordersystem::{
    config::{Config, FlagValues},
    node::{App, Backends, NodeBuilder},
    ports::clock::ManualClock,
    proto::{
        Money,
        catga::orders::v1::{CreateOrderRequest, NewOrderItem},
    },
    server::{call::Call, connection::Connection, stack::PortService},
};
use prost::Message as _;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

use crate::orders::{EARLIER_ORDERS, NOW_MICROS, OPERATIONS, polled};

const CREATE: &str = "http://localhost/catga.orders.v1.OrderCommandService/CreateOrder";
const ORDER_JSON: &str = r#"{"customerId":"customer-123","items":[{"productId":"prod-1","name":"Laptop","quantity":1,"price":999.99},{"productId":"prod-2","name":"Mouse","quantity":2,"price":29.99}]}"#;

/// A node, and a request for each operation.
pub struct Calls {
    // Before the runtime of its tasks.
    _app: App,
    runtime: Runtime,
    service: PortService,
    connection: Arc<Connection>,
    requests: Vec<Request<Body>>,
}

impl Calls {
    pub fn rest_create() -> Self {
        Self::to_node(|_| post_order())
    }

    pub fn rest_get() -> Self {
        Self::to_node(|order| get(order))
    }

    pub fn rest_history() -> Self {
        Self::to_node(|order| get(&format!("{order}/history")))
    }

    pub fn grpc_create() -> Self {
        let message = framed(&create_order());
        Self::to_node(|_| {
            let request = Request::post(CREATE).version(Version::HTTP_2);
            let request = request.header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers");
            request.body(Body::from(message.clone())).expect("a request")
        })
    }

    /// The requests that `request` makes, each for the path of an order that there is, after one of them as a warm-up.
    fn to_node(request: impl Fn(&str) -> Request<Body>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let app = runtime.block_on(start());
        let calls =
            Self { service: app.service(), _app: app, runtime, connection: Connection::unbounded(), requests: vec![] };
        let orders = calls.created(EARLIER_ORDERS);
        let (warm_up, orders) = orders.split_at(EARLIER_ORDERS - OPERATIONS);
        let calls = Self { requests: warm_up.iter().map(|order| request(order)).collect(), ..calls }.make();
        Self { requests: orders.iter().map(|order| request(order)).collect(), ..calls }
    }

    /// The paths of new orders.
    fn created(&self, count: usize) -> Vec<String> {
        let _context = self.runtime.enter();
        let path = |_| {
            let response = polled(self.service.clone().oneshot(self.received(post_order()))).expect("a response");
            response.headers()[header::LOCATION].to_str().expect("text").to_owned()
        };
        (0..count).map(path).collect()
    }

    /// As a listener hands it to the service.
    fn received(&self, mut request: Request<Body>) -> Request<Body> {
        let call = Call::begin(&self.connection, &request);
        request.extensions_mut().insert(call);
        request
    }

    /// Makes all calls, and reads the replies.
    pub fn make(mut self) -> Self {
        for request in std::mem::take(&mut self.requests) {
            self.call(request);
        }
        self
    }

    fn call(&self, request: Request<Body>) {
        let _context = self.runtime.enter();
        let request = self.received(request);
        let response = polled(self.service.clone().oneshot(request)).expect("a response");
        assert!(response.status().is_success(), "{}", response.status());
        let body = polled(response.into_body().collect()).expect("a body");
        assert!(body.trailers().is_none_or(|trailers| trailers["grpc-status"] == "0"), "{:?}", body.trailers());
        black_box(body);
    }
}

async fn start() -> App {
    let flags = FlagValues { config_file: None, values: vec![("port", "0".into()), ("log-level", "off".into())] };
    let config = Config::load(&flags, []).expect("valid settings");
    let clock = Arc::new(ManualClock::new(NOW_MICROS));
    let setup = NodeBuilder::new(Backends::memory()).with_clock(Arc::clone(&clock) as _);
    let app = App::start_from(&config, setup).await.expect("it starts");
    // The generator of ids begins some milliseconds after its clock.
    clock.advance_ms(1_000);
    app
}

fn post_order() -> Request<Body> {
    let request = Request::post("/orders").header(header::HOST, "localhost");
    request.header(header::CONTENT_TYPE, "application/json").body(Body::from(ORDER_JSON)).expect("a request")
}

fn get(path: &str) -> Request<Body> {
    let request = Request::builder().method(Method::GET).uri(path).header(header::HOST, "localhost");
    request.body(Body::empty()).expect("a request")
}

/// The same order.
fn create_order() -> CreateOrderRequest {
    let item = |product_id: &str, name: &str, quantity, units| NewOrderItem {
        product_id: product_id.to_owned(),
        name: name.to_owned(),
        quantity,
        unit_price: Some(Money { currency_code: "USD".to_owned(), units, nanos: 990_000_000 }),
    };
    CreateOrderRequest {
        customer_id: "customer-123".to_owned(),
        items: vec![item("prod-1", "Laptop", 1, 999), item("prod-2", "Mouse", 2, 29)],
        ..Default::default()
    }
}

/// The flag (not compressed), the length, the message.
fn framed(message: &CreateOrderRequest) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.encoded_len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).expect("small"));
    message.encode(&mut frame).expect("room");
    frame.freeze()
}
