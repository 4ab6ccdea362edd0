//! Servers that only accept a request, where they have a store write its bytes, and send a reply of the size that the service sends.

mod stores;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{Router, body::Bytes, routing::post};
use ordersystem::proto::catga::orders::v1::{
    self as pb,
    order_command_service_server::{OrderCommandService, OrderCommandServiceServer},
    order_history_service_server::{OrderHistoryService, OrderHistoryServiceServer},
    order_query_service_server::{OrderQueryService, OrderQueryServiceServer},
};
use prost::Message as _;
use stores::BareStore;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub async fn serve(kind: &str) {
    let address: SocketAddr = std::env::var("CEILING_ADDRESS").expect("CEILING_ADDRESS").parse().expect("an address");
    match kind {
        "grpc" => tonic::transport::Server::builder()
            .add_service(OrderCommandServiceServer::new(Bare::on(BareStore::open().await)))
            .add_service(OrderQueryServiceServer::new(Bare::on(BareStore::None)))
            .add_service(OrderHistoryServiceServer::new(Bare::on(BareStore::None)))
            .serve(address)
            .await
            .expect("serves"),
        "rest" => {
            let listener = tokio::net::TcpListener::bind(address).await.expect("binds");
            let router = Router::new().route("/orders", post(created));
            axum::serve(listener, router).await.expect("serves");
        }
        other => panic!("no ceiling {other}"),
    }
}

/// Parses the request, as any JSON handler must, and replies.
async fn created(body: Bytes) -> ([(&'static str, &'static str); 1], String) {
    let request: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    ([("content-type", "application/json")], request.to_string())
}

struct Bare {
    store: BareStore,
    next_id: AtomicU64,
}

impl Bare {
    const fn on(store: BareStore) -> Self {
        Self { store, next_id: AtomicU64::new(1) }
    }
}

fn order() -> pb::Order {
    let request = crate::client::create_order();
    pb::Order {
        order_id: "382520797643669504".to_owned(),
        customer_id: request.customer_id,
        status: pb::OrderStatus::Pending.into(),
        items: request
            .items
            .into_iter()
            .map(|item| pb::OrderItem {
                product_id: item.product_id,
                name: item.name,
                quantity: item.quantity,
                unit_price: item.unit_price,
            })
            .collect(),
        revision: 1,
        ..Default::default()
    }
}

/// A row of a list.
fn summary() -> pb::OrderSummary {
    let order = order();
    let now = prost_types::Timestamp { seconds: 1_767_225_600, nanos: 123_456_000 };
    pb::OrderSummary {
        order_id: order.order_id,
        customer_id: order.customer_id,
        status: order.status,
        total: order.items[0].unit_price.clone(),
        item_count: 2,
        revision: 1,
        created_at: Some(now),
        updated_at: Some(now),
    }
}

#[tonic::async_trait]
impl OrderCommandService for Bare {
    async fn create_order(
        &self,
        request: Request<pb::CreateOrderRequest>,
    ) -> Result<Response<pb::CreateOrderResponse>, Status> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.store.write(id, request.get_ref().encode_to_vec()).await;
        let consistency_token = "dLKXJSAAAAAAAAAAAQ45".to_owned();
        Ok(Response::new(pb::CreateOrderResponse { order: Some(order()), revision: 1, consistency_token }))
    }

    async fn pay_order(
        &self,
        _request: Request<pb::PayOrderRequest>,
    ) -> Result<Response<pb::PayOrderResponse>, Status> {
        Err(Status::unimplemented("bare"))
    }

    async fn ship_order(
        &self,
        _request: Request<pb::ShipOrderRequest>,
    ) -> Result<Response<pb::ShipOrderResponse>, Status> {
        Err(Status::unimplemented("bare"))
    }

    async fn deliver_order(
        &self,
        _request: Request<pb::DeliverOrderRequest>,
    ) -> Result<Response<pb::DeliverOrderResponse>, Status> {
        Err(Status::unimplemented("bare"))
    }

    async fn cancel_order(
        &self,
        _request: Request<pb::CancelOrderRequest>,
    ) -> Result<Response<pb::CancelOrderResponse>, Status> {
        Err(Status::unimplemented("bare"))
    }

    type ExecuteCommandsStream = Pin<Box<dyn Stream<Item = Result<pb::ExecuteCommandsResponse, Status>> + Send>>;

    async fn execute_commands(
        &self,
        _request: Request<Streaming<pb::ExecuteCommandsRequest>>,
    ) -> Result<Response<Self::ExecuteCommandsStream>, Status> {
        Err(Status::unimplemented("bare"))
    }
}

#[tonic::async_trait]
impl OrderQueryService for Bare {
    async fn get_order(
        &self,
        _request: Request<pb::GetOrderRequest>,
    ) -> Result<Response<pb::GetOrderResponse>, Status> {
        let consistency_token = "dLKXJSAAAAAAAAAAAQ45".to_owned();
        Ok(Response::new(pb::GetOrderResponse { order: Some(order()), consistency_token }))
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        let orders = (0..request.get_ref().page_size).map(|_| summary()).collect();
        let (next_page_token, consistency_token) =
            ("dLKXJSAAAAAAAAAAAQ45".repeat(2), "dLKXJSAAAAAAAAAAAQ45".to_owned());
        Ok(Response::new(pb::ListOrdersResponse { orders, next_page_token, consistency_token }))
    }

    async fn get_order_stats(
        &self,
        _request: Request<pb::GetOrderStatsRequest>,
    ) -> Result<Response<pb::GetOrderStatsResponse>, Status> {
        Err(Status::unimplemented("bare"))
    }

    async fn batch_get_orders(
        &self,
        _request: Request<pb::BatchGetOrdersRequest>,
    ) -> Result<Response<pb::BatchGetOrdersResponse>, Status> {
        Err(Status::unimplemented("bare"))
    }
}

#[tonic::async_trait]
impl OrderHistoryService for Bare {
    type StreamOrderHistoryStream = Pin<Box<dyn Stream<Item = Result<pb::StreamOrderHistoryResponse, Status>> + Send>>;
    type StreamEventsStream = Pin<Box<dyn Stream<Item = Result<pb::StreamEventsResponse, Status>> + Send>>;

    async fn stream_order_history(
        &self,
        _request: Request<pb::StreamOrderHistoryRequest>,
    ) -> Result<Response<Self::StreamOrderHistoryStream>, Status> {
        Err(Status::unimplemented("bare"))
    }

    /// As many events as the header `x-events` says: the same event each time, encoded each time.
    async fn stream_events(
        &self,
        request: Request<pb::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let count = request.metadata().get(crate::streams::EVENTS).and_then(|count| count.to_str().ok()?.parse().ok());
        let (count, message): (usize, _) = (count.expect("a number"), crate::streams::event_message());
        Ok(Response::new(Box::pin(tokio_stream::iter((0..count).map(move |_| Ok(message.clone()))))))
    }
}
