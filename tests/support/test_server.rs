//! A node in the process of the test, and the clients to talk to it.

use std::{net::SocketAddr, sync::Arc};

use ordersystem::{
    cli::{node_client::Target, probe},
    config::{Config, FlagValues},
    node::{App, Backends, NodeBuilder},
    ports::{
        clock::{Clock, SystemClock},
        event_store::EventStore,
    },
    proto::catga::{
        ids::v1::id_service_client::IdServiceClient,
        orders::v1::{
            Order, order_command_service_client::OrderCommandServiceClient,
            order_history_service_client::OrderHistoryServiceClient,
            order_query_service_client::OrderQueryServiceClient,
        },
        system::v1::{admin_service_client::AdminServiceClient, system_service_client::SystemServiceClient},
    },
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{new_order, until};

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
        let app = App::start_from(&config, setup).await.expect("the server starts");
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
            probe::check(&Target::plain(address.as_str()), "", 2_000).await == Ok(true)
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
