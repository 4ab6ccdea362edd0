//! Servers that only accept a request and send a reply of the size that the service sends.

use std::{net::SocketAddr, pin::Pin};

use axum::{Router, body::Bytes, routing::post};
use ordersystem::proto::catga::orders::v1::{
    self as pb,
    order_command_service_server::{OrderCommandService, OrderCommandServiceServer},
    order_query_service_server::{OrderQueryService, OrderQueryServiceServer},
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub async fn serve(kind: &str) {
    let address: SocketAddr = std::env::var("CEILING_ADDRESS").expect("CEILING_ADDRESS").parse().expect("an address");
    match kind {
        "grpc" => tonic::transport::Server::builder()
            .add_service(OrderCommandServiceServer::new(Bare))
            .add_service(OrderQueryServiceServer::new(Bare))
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

struct Bare;

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

#[tonic::async_trait]
impl OrderCommandService for Bare {
    async fn create_order(
        &self,
        _request: Request<pb::CreateOrderRequest>,
    ) -> Result<Response<pb::CreateOrderResponse>, Status> {
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
        _request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        Err(Status::unimplemented("bare"))
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
