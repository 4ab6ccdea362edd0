//! A server for one test, and the clients to talk to it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ordersystem::{
    app::{App, Backends},
    clock::{Clock, SystemClock},
    config::{Config, FlagValues},
    proto::{
        Money,
        catga::{
            ids::v1::id_service_client::IdServiceClient,
            orders::v1::{
                CreateOrderRequest, NewOrderItem, Order, order_command_service_client::OrderCommandServiceClient,
                order_history_service_client::OrderHistoryServiceClient,
                order_query_service_client::OrderQueryServiceClient,
            },
            system::v1::system_service_client::SystemServiceClient,
        },
    },
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// A node in this process, on a port of its own.
pub struct TestServer {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    running: Option<JoinHandle<Result<(), ordersystem::lifecycle::GraceExceeded>>>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With settings given as flags are: `[("max-in-flight", "2")]`.
    pub async fn start_with(settings: &[(&'static str, &str)]) -> Self {
        Self::start_on(settings, Backends::memory(), Arc::new(SystemClock)).await
    }

    pub async fn start_on(settings: &[(&'static str, &str)], backends: Backends, clock: Arc<dyn Clock>) -> Self {
        let config = config(settings);
        let app = App::start_with(&config, backends, clock).await.expect("the server starts");
        let address = app.address();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(app.run(shutdown.clone()));
        let server = Self { address, shutdown, running: Some(running) };
        server.until_ready().await;
        server
    }

    async fn until_ready(&self) {
        for _ in 0..200 {
            if ordersystem::api::probe::check(&self.address.to_string(), "", 2_000).await == Ok(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the server is not ready after 2 s");
    }

    /// Stops the node in an orderly way and waits for its end.
    pub async fn stop(&mut self) -> Result<(), ordersystem::lifecycle::GraceExceeded> {
        self.shutdown.cancel();
        self.running.take().expect("running").await.expect("no panic")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url("")).expect("url").connect().await.expect("connects")
    }

    pub async fn commands(&self) -> OrderCommandServiceClient<Channel> {
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

/// The reason in a status's `google.rpc.ErrorInfo`.
pub fn reason(status: &tonic::Status) -> String {
    use tonic_types::StatusExt;
    let info = status.get_details_error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "ordersystem");
    info.reason
}

/// The fields that a status's `google.rpc.BadRequest` names.
pub fn violated_fields(status: &tonic::Status) -> Vec<String> {
    use tonic_types::StatusExt;
    let bad_request = status.get_details_bad_request().expect("a BadRequest");
    bad_request.field_violations.into_iter().map(|violation| violation.field).collect()
}
