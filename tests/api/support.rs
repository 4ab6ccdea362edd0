//! A server for one test, and clients for it.

use std::{collections::HashMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{StreamExt, future::BoxFuture, stream};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ordersystem::{
    cli::{node_client::Target, probe},
    config::{Config, FlagValues},
    node::{App, Backends, NodeBuilder},
    ports::{
        clock::{Clock, SystemClock},
        event_store::EventStore,
    },
    proto::{
        Money,
        catga::{
            ids::v1::id_service_client::IdServiceClient,
            orders::v1::{
                CancelOrderRequest, CommandSuccess, CreateOrderRequest, DeliverOrderRequest, NewOrderItem, Order,
                PayOrderRequest, ShipOrderRequest, order_command_service_client::OrderCommandServiceClient,
                order_history_service_client::OrderHistoryServiceClient,
                order_query_service_client::OrderQueryServiceClient,
            },
            system::v1::{admin_service_client::AdminServiceClient, system_service_client::SystemServiceClient},
        },
    },
};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

/// The deadline for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub type CommandClient = OrderCommandServiceClient<Channel>;

/// A node in this process, on its own port.
pub struct TestServer {
    pub address: SocketAddr,
    pub grpc_address: Option<SocketAddr>,
    pub shutdown: CancellationToken,
    store: Arc<dyn EventStore>,
    running: Option<JoinHandle<Result<(), ordersystem::node::lifecycle::RunError>>>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With settings given as flags: `[("max-in-flight", "2")]`.
    pub async fn start_with(settings: &[(&'static str, &str)]) -> Self {
        Self::start_on(settings, Backends::memory(), Arc::new(SystemClock)).await
    }

    pub async fn start_on(settings: &[(&'static str, &str)], backends: Backends, clock: Arc<dyn Clock>) -> Self {
        Self::start_as(settings, NodeBuilder::new(backends).with_clock(clock)).await
    }

    pub async fn start_as(settings: &[(&'static str, &str)], setup: NodeBuilder) -> Self {
        let config = config(settings);
        let store = Arc::clone(&setup.backends.store);
        let app = App::start_as(&config, setup).await.expect("the server starts");
        let (address, grpc_address) = (app.address(), app.grpc_address());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(app.run(shutdown.clone()));
        let server = Self { address, grpc_address, shutdown, store, running: Some(running) };
        server.until_ready().await;
        server
    }

    async fn until_ready(&self) {
        let address = self.grpc_address.unwrap_or(self.address).to_string();
        until("the server is ready", || async {
            (probe::check(&Target::plain(address.as_str()), "", 2_000).await == Ok(true)).then_some(())
        })
        .await;
    }

    /// The store of its log.
    pub fn store(&self) -> &dyn EventStore {
        &*self.store
    }

    /// The position of the last event of the log.
    pub async fn head(&self) -> u64 {
        self.store.head().await.expect("the store answers").0
    }

    /// Stops the node in order and waits for its end.
    pub async fn stop(&mut self) -> Result<(), ordersystem::node::lifecycle::RunError> {
        self.shutdown.cancel();
        self.running.take().expect("running").await.expect("no panic")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.grpc_address.unwrap_or(self.address))).expect("url")
    }

    pub async fn channel(&self) -> Channel {
        self.endpoint().connect().await.expect("connects")
    }

    pub async fn commands(&self) -> CommandClient {
        OrderCommandServiceClient::new(self.channel().await)
    }

    pub async fn queries(&self) -> OrderQueryServiceClient<Channel> {
        OrderQueryServiceClient::new(self.channel().await)
    }

    pub async fn history(&self) -> OrderHistoryServiceClient<Channel> {
        OrderHistoryServiceClient::new(self.channel().await)
    }

    pub async fn ids(&self) -> IdServiceClient<Channel> {
        IdServiceClient::new(self.channel().await)
    }

    pub async fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.channel().await)
    }

    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel().await)
    }

    /// The status and the detail of a component in `/health`.
    pub async fn health(&self, component: &str) -> (String, String) {
        let health = reqwest::get(self.url("/health")).await.expect("answers");
        let health: serde_json::Value = health.json().await.expect("JSON");
        let check = &health["checks"][component];
        let text = |key: &str| check[key].as_str().unwrap_or_else(|| panic!("no {component}: {health}")).to_owned();
        (text("status"), text("detail"))
    }

    /// Places an order of two laptops for `customer`.
    pub async fn place_order(&self, customer: &str) -> Order {
        let request = new_order(customer);
        self.commands().await.create_order(request).await.expect("accepted").into_inner().order.expect("order")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

/// The configuration of a test server: any free port, and `settings`.
pub fn config(settings: &[(&'static str, &str)]) -> Config {
    let mut values = vec![("port", "0".into())];
    values.extend(settings.iter().map(|(key, value)| (*key, (*value).into())));
    Config::load(&FlagValues { config_file: None, values }, []).expect("valid settings")
}

/// Two laptops at 999.99 dollars.
pub fn new_order(customer: &str) -> CreateOrderRequest {
    CreateOrderRequest {
        customer_id: customer.to_owned(),
        items: vec![NewOrderItem {
            product_id: "prod-1".to_owned(),
            name: "Laptop".to_owned(),
            quantity: 2,
            unit_price: Some(usd(999, 990_000_000)),
        }],
        ..Default::default()
    }
}

pub fn usd(units: i64, nanos: i32) -> Money {
    Money { currency_code: "USD".to_owned(), units, nanos }
}

pub fn pay(order_id: &str) -> PayOrderRequest {
    PayOrderRequest {
        order_id: order_id.to_owned(),
        payment_method: "credit_card".to_owned(),
        payment_reference: "ref-1".to_owned(),
        ..Default::default()
    }
}

pub fn ship(order_id: &str) -> ShipOrderRequest {
    ShipOrderRequest {
        order_id: order_id.to_owned(),
        tracking_number: "TRK-1".to_owned(),
        carrier: "Post".to_owned(),
        ..Default::default()
    }
}

pub fn deliver(order_id: &str) -> DeliverOrderRequest {
    DeliverOrderRequest { order_id: order_id.to_owned(), ..Default::default() }
}

pub fn cancel(order_id: &str) -> CancelOrderRequest {
    CancelOrderRequest { order_id: order_id.to_owned(), reason: "changed my mind".to_owned(), ..Default::default() }
}

/// A command for an existing order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Pay,
    Ship,
    Deliver,
    Cancel,
}

impl Step {
    pub const ALL: [Self; 4] = [Self::Pay, Self::Ship, Self::Deliver, Self::Cancel];
}

/// The fields that a command has besides its payload.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    pub request_id: String,
    pub expected_revision: Option<i64>,
}

impl Meta {
    pub fn request(id: &str) -> Self {
        Self { request_id: id.to_owned(), expected_revision: None }
    }

    pub fn expecting(revision: i64) -> Self {
        Self { request_id: String::new(), expected_revision: Some(revision) }
    }
}

/// Sends the command with its usual payload.
pub async fn give(client: &CommandClient, step: Step, order_id: &str, meta: Meta) -> Result<CommandSuccess, Status> {
    let mut client = client.clone();
    let Meta { request_id, expected_revision } = meta;
    let (order, revision, consistency_token) = match step {
        Step::Pay => {
            let request = PayOrderRequest { request_id, expected_revision, ..pay(order_id) };
            let reply = client.pay_order(request).await?.into_inner();
            (reply.order, reply.revision, reply.consistency_token)
        }
        Step::Ship => {
            let request = ShipOrderRequest { request_id, expected_revision, ..ship(order_id) };
            let reply = client.ship_order(request).await?.into_inner();
            (reply.order, reply.revision, reply.consistency_token)
        }
        Step::Deliver => {
            let request = DeliverOrderRequest { request_id, expected_revision, ..deliver(order_id) };
            let reply = client.deliver_order(request).await?.into_inner();
            (reply.order, reply.revision, reply.consistency_token)
        }
        Step::Cancel => {
            let request = CancelOrderRequest { request_id, expected_revision, ..cancel(order_id) };
            let reply = client.cancel_order(request).await?.into_inner();
            (reply.order, reply.revision, reply.consistency_token)
        }
    };
    Ok(CommandSuccess { order, revision, consistency_token })
}

/// Places an order for `customer` and takes it through `steps`.
pub async fn order_after(client: &CommandClient, customer: &str, steps: &[Step]) -> Order {
    let mut client = client.clone();
    let mut order = client.create_order(new_order(customer)).await.expect("accepted").into_inner().order;
    for step in steps {
        let id = order.expect("order").order_id;
        order = give(&client, *step, &id, Meta::default()).await.expect("accepted").order;
    }
    order.expect("order")
}

/// Retries until there is a result.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The result of `work`, within [`PATIENCE`].
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Passes messages through as raw bytes, valid or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// An HTTP/2 connection for generated clients that leaves deadlines to the server; tonic's own channel would end a call itself.
#[derive(Clone)]
pub struct PlainConnection {
    sender: SendRequest<tonic::body::Body>,
    /// The authority of its requests.
    authority: &'static str,
}

impl PlainConnection {
    pub async fn to(server: &TestServer) -> Self {
        Self::to_as(server, "localhost").await
    }

    pub async fn to_as(server: &TestServer, authority: &'static str) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("connects");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { sender, authority }
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for PlainConnection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, hyper::Error>>;

    fn poll_ready(&mut self, task: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(task)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        let mut uri = request.uri().clone().into_parts();
        (uri.scheme, uri.authority) =
            (Some(http::uri::Scheme::HTTP), Some(self.authority.parse().expect("an authority")));
        *request.uri_mut() = http::Uri::from_parts(uri).expect("a URI");
        Box::pin(self.sender.send_request(request))
    }
}

/// A request with this `timeout` for the server, in the format of the `grpc-timeout` header: "100m".
pub fn within<T>(timeout: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("a value"));
    request
}

/// Calls `path` ("/package.Service/Method") with `messages` unchanged; reads at most `max_replies`.
pub async fn raw_call(
    channel: &Channel,
    path: &str,
    messages: Vec<Bytes>,
    max_replies: usize,
) -> Result<Vec<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = path.parse().expect("a path");
    let mut replies = client.streaming(tonic::Request::new(stream::iter(messages)), path, RawCodec).await?.into_inner();
    let mut taken = Vec::new();
    while taken.len() < max_replies
        && let Some(reply) = replies.next().await
    {
        taken.push(reply?);
    }
    Ok(taken)
}

/// The reason in a status's `google.rpc.ErrorInfo`.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("every error has an ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "ordersystem");
    info.reason
}

/// The code of a status with its reason.
pub fn code_and_reason(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

/// The metadata in a status's `google.rpc.ErrorInfo`.
pub fn facts(status: &Status) -> HashMap<String, String> {
    status.get_details_error_info().expect("every error has an ErrorInfo").metadata
}

/// Asserts that a status says when to retry.
#[track_caller]
pub fn assert_retry_info(status: &Status) {
    let info = status.get_details_retry_info();
    let delay = info.and_then(|info| info.retry_delay).unwrap_or_else(|| panic!("no RetryInfo: {status:?}"));
    assert!(delay > Duration::ZERO && delay <= Duration::from_secs(60), "{delay:?}");
}

/// The fields that a status's `google.rpc.BadRequest` names.
pub fn violated_fields(status: &Status) -> Vec<String> {
    let bad_request = status.get_details_bad_request().unwrap_or_else(|| panic!("no BadRequest: {status:?}"));
    bad_request.field_violations.into_iter().map(|violation| violation.field).collect()
}
