//! Unary calls on a service in memory, against bare servers.

use ordersystem::proto::catga::orders::v1::{GetOrderRequest, ListOrdersRequest};

use super::{Goal, Report, Row, Side, compare, fill};
use crate::{
    client::{self, Call, WIDE},
    servers::Server,
};

const GET: &str = "/catga.orders.v1.OrderQueryService/GetOrder";
const LIST: &str = "/catga.orders.v1.OrderQueryService/ListOrders";
/// The orders among which pages are listed.
const LISTED: u64 = 100_000;
/// The rows of a page: what the service sends by default.
pub const PAGE: usize = 50;

async fn pair(ceiling: &str) -> (Side, Side) {
    (Side::in_memory(Server::service().await), Side::in_memory(Server::ceiling(ceiling).await))
}

/// P1.
pub async fn create(report: &mut Report) {
    let (ours, bare) = pair("grpc").await;
    let call = Call::create_order();
    let row = compare((&ours, &call), (&bare, &call), WIDE).await;
    drop((ours, bare));
    let goals = vec![Goal::RatioAtLeast(0.80), Goal::FactorAtMost(1.25)];
    report.add(Row {
        id: "P1",
        what: "CreateOrder over gRPC, in memory, to a bare tonic service".to_owned(),
        goals,
        ..row
    });
}

/// P2.
pub async fn post(report: &mut Report) {
    let (ours, bare) = pair("rest").await;
    let call = Call::post_order();
    let row = compare((&ours, &call), (&bare, &call), WIDE).await;
    drop(bare);
    let goals = vec![Goal::RatioAtLeast(0.70)];
    report.add(Row { id: "P2", what: "POST /orders to a bare axum handler".to_owned(), goals, ..row });
    let row = compare((&ours, &call), (&ours, &Call::create_order()), WIDE).await;
    drop(ours);
    let goals = vec![Goal::FactorAtMost(1.30)];
    report.add(Row { id: "P2", what: "POST /orders to CreateOrder over gRPC".to_owned(), goals, ..row });
}

/// P7.
pub async fn get(report: &mut Report) {
    let (ours, bare) = pair("grpc").await;
    let order_id = client::orders(ours.server.address, 1).await.remove(0);
    let call = Call::grpc(GET, &GetOrderRequest { order_id, ..Default::default() });
    let row = compare((&ours, &call), (&bare, &call), WIDE).await;
    drop((ours, bare));
    let goals = vec![Goal::RatioAtLeast(0.90)];
    report.add(Row { id: "P7", what: "GetOrder over gRPC to a bare tonic service".to_owned(), goals, ..row });
}

/// A page of the list, to a bare server that sends as many rows.
pub async fn list(report: &mut Report) {
    let (ours, bare) = pair("grpc").await;
    fill(&ours.server, LISTED).await;
    let call = Call::grpc(LIST, &ListOrdersRequest { page_size: PAGE as i32, ..Default::default() });
    let row = compare((&ours, &call), (&bare, &call), WIDE).await;
    drop((ours, bare));
    let what = format!("ListOrders, the newest {PAGE} of {LISTED} orders, to a bare tonic service");
    report.add(Row { id: "P7", what, ..row });
}
