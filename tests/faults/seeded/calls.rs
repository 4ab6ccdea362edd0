//! The calls of a client, over gRPC, and the meaning of their replies.

use std::time::Duration;

use ordersystem::proto::{
    Money,
    catga::orders::v1::{
        BatchGetOrdersRequest, CancelOrderRequest, ConsistencyLevel, CreateOrderRequest, DeliverOrderRequest,
        GetOrderRequest, GetOrderStatsRequest, ListOrdersRequest, NewOrderItem, Order, OrderStatus, PayOrderRequest,
        ReadConsistency, ShipOrderRequest, order_command_service_client::OrderCommandServiceClient,
        order_history_service_client::OrderHistoryServiceClient, order_query_service_client::OrderQueryServiceClient,
    },
};
use tonic::{
    Code, Request, Status as GrpcStatus,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::history::{Answer, OrderId, Row, Status};

/// The deadline of a call: the most that a silent node costs a client.
const DEADLINE: Duration = Duration::from_secs(4);

/// A node as clients reach it. Connections are established when needed.
#[derive(Clone)]
pub struct Node {
    pub commands: OrderCommandServiceClient<Channel>,
    pub queries: OrderQueryServiceClient<Channel>,
    pub history: OrderHistoryServiceClient<Channel>,
}

/// A command, the same for each attempt.
#[derive(Clone, Debug)]
pub struct Command {
    pub to: Status,
    pub order: Option<OrderId>,
    pub request: Option<String>,
    pub expected: Option<u64>,
    pub customer: String,
}

impl Node {
    pub fn at(port: u16) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        let endpoint = endpoint.connect_timeout(Duration::from_secs(2));
        let channel = endpoint.connect_lazy();
        // Streams have their own connection: calls abandoned on a silent node do not break them.
        let streams = endpoint.connect_lazy();
        Self {
            commands: OrderCommandServiceClient::new(channel.clone()),
            queries: OrderQueryServiceClient::new(channel),
            history: OrderHistoryServiceClient::new(streams),
        }
    }

    /// Sends a command as `actor`. Returns the outcome, and the token of its effect.
    pub async fn command(&self, command: &Command, actor: &str) -> (Answer, String) {
        let mut client = self.commands.clone();
        let actor = actor.to_owned();
        let request_id = command.request.clone().unwrap_or_default();
        let order_id = command.order.map(|order| order.to_string()).unwrap_or_default();
        let expected_revision = command.expected.map(|revision| revision as i64);
        macro_rules! call {
            ($method:ident, $request:expr) => {
                within(client.$method(with_deadline($request)))
                    .await
                    .map(|reply| (reply.order, reply.consistency_token))
            };
        }
        let reply = match command.to {
            Status::Pending => call!(
                create_order,
                CreateOrderRequest {
                    request_id,
                    actor,
                    customer_id: command.customer.clone(),
                    items: vec![one_dollar()],
                    ..Default::default()
                }
            ),
            Status::Paid => {
                let payment_method = "card".to_owned();
                call!(
                    pay_order,
                    PayOrderRequest {
                        request_id,
                        expected_revision,
                        actor,
                        order_id,
                        payment_method,
                        ..Default::default()
                    }
                )
            }
            Status::Shipped => {
                let tracking_number = "T-1".to_owned();
                call!(
                    ship_order,
                    ShipOrderRequest {
                        request_id,
                        expected_revision,
                        actor,
                        order_id,
                        tracking_number,
                        ..Default::default()
                    }
                )
            }
            Status::Delivered => {
                call!(deliver_order, DeliverOrderRequest { request_id, expected_revision, actor, order_id })
            }
            Status::Cancelled => {
                let reason = String::new();
                call!(cancel_order, CancelOrderRequest { request_id, expected_revision, actor, order_id, reason })
            }
        };
        match reply {
            Ok((order, token)) => {
                let order = order.unwrap();
                (Answer::Done { order: order.order_id.parse().unwrap(), row: row(&order) }, token)
            }
            Err(status) => (failed(&status), String::new()),
        }
    }

    /// One order.
    pub async fn get(&self, order: OrderId, consistency: ReadConsistency) -> Answer {
        let request =
            GetOrderRequest { order_id: order.to_string(), consistency: Some(consistency), ..Default::default() };
        match within(self.queries.clone().get_order(with_deadline(request))).await {
            Ok(reply) => Answer::OrderRepository(vec![reply.order.as_ref().map(row)]),
            Err(status) if reason(&status).as_deref() == Some("ORDER_NOT_FOUND") => Answer::OrderRepository(vec![None]),
            Err(status) => failed(&status),
        }
    }

    /// Several orders at once.
    pub async fn batch(&self, ids: &[OrderId], consistency: ReadConsistency) -> Answer {
        let order_ids = ids.iter().map(ToString::to_string).collect();
        let request = BatchGetOrdersRequest { order_ids, consistency: Some(consistency) };
        match within(self.queries.clone().batch_get_orders(with_deadline(request))).await {
            Ok(reply) => {
                let found = |id: &OrderId| reply.orders.iter().find(|order| order.order_id == id.to_string()).map(row);
                Answer::OrderRepository(ids.iter().map(found).collect())
            }
            Err(status) => failed(&status),
        }
    }

    /// All orders of a customer, who has at most one page of them.
    pub async fn list(&self, customer: &str) -> Answer {
        let request = ListOrdersRequest {
            page_size: 100,
            customer_id: customer.to_owned(),
            consistency: Some(strong()),
            ..Default::default()
        };
        match within(self.queries.clone().list_orders(with_deadline(request))).await {
            Ok(reply) => {
                assert!(reply.next_page_token.is_empty(), "customer {customer} has more than one page");
                let row = |summary: &ordersystem::proto::catga::orders::v1::OrderSummary| Row {
                    revision: summary.revision as u64,
                    status: status_of(summary.status()),
                };
                Answer::List(
                    reply.orders.iter().map(|summary| (summary.order_id.parse().unwrap(), row(summary))).collect(),
                )
            }
            Err(status) => failed(&status),
        }
    }

    pub async fn totals(&self) -> Answer {
        let request = GetOrderStatsRequest { consistency: Some(strong()) };
        match within(self.queries.clone().get_order_stats(with_deadline(request))).await {
            Ok(reply) => {
                let mut by_status = [0; 5];
                for count in &reply.by_status {
                    by_status[status_of(count.status()) as usize] = count.count as u64;
                }
                let dollars = reply.total_revenue.iter().map(|sum| sum.units as u64).sum();
                Answer::Totals { by_status, all: reply.total_orders as u64, dollars }
            }
            Err(status) => failed(&status),
        }
    }
}

/// At least as fresh as everything committed before.
pub fn strong() -> ReadConsistency {
    ReadConsistency { level: ConsistencyLevel::Strong.into(), token: String::new() }
}

/// At least as fresh as the token.
pub fn at_least(token: &str) -> ReadConsistency {
    ReadConsistency { level: ConsistencyLevel::AtLeast.into(), token: token.to_owned() }
}

fn one_dollar() -> NewOrderItem {
    NewOrderItem {
        product_id: "prod-1".to_owned(),
        name: "Pen".to_owned(),
        quantity: 1,
        unit_price: Some(Money { currency_code: "USD".to_owned(), units: 1, nanos: 0 }),
    }
}

fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// The reply, or a deadline of the client's own: on a busy machine the other one may be late.
async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, GrpcStatus>>) -> Result<T, GrpcStatus> {
    match tokio::time::timeout(DEADLINE * 2, call).await {
        Ok(reply) => reply.map(tonic::Response::into_inner),
        Err(_) => Err(GrpcStatus::cancelled("the client has given up")),
    }
}

fn row(order: &Order) -> Row {
    Row { revision: order.revision as u64, status: status_of(order.status()) }
}

fn status_of(status: OrderStatus) -> Status {
    match status {
        OrderStatus::Unspecified => panic!("an order without a status"),
        OrderStatus::Pending => Status::Pending,
        OrderStatus::Paid => Status::Paid,
        OrderStatus::Shipped => Status::Shipped,
        OrderStatus::Delivered => Status::Delivered,
        OrderStatus::Cancelled => Status::Cancelled,
    }
}

/// The reason given by the service; none if the error is not from the service.
pub fn reason(status: &GrpcStatus) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// The meaning of an error, according to docs/errors.md.
pub fn failed(status: &GrpcStatus) -> Answer {
    let Some(info) = status.get_details_error_info() else {
        let reason = format!("{:?}: {}", status.code(), status.message());
        // An error without a reason comes from the connection, or from the client's own deadline.
        return match status.code() {
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Internal => {
                Answer::Unknown { reason }
            }
            _ => Answer::Wrong { reason, message: String::new() },
        };
    };
    let number = |name: &str| info.metadata.get(name).and_then(|text| text.parse().ok());
    let reason = info.reason.clone();
    match reason.as_str() {
        "ORDER_NOT_FOUND" => Answer::Refused { reason, row: None, revision: 0 },
        "ILLEGAL_TRANSITION" | "REVISION_CONFLICT" => {
            let revision = number("actual_revision").unwrap_or(0);
            let named = info.metadata.get("status").map(String::as_str);
            let status = Status::ALL.into_iter().find(|status| Some(status.to_string().as_str()) == named);
            Answer::Refused { reason, row: status.map(|status| Row { revision, status }), revision }
        }
        "UNAVAILABLE" | "OVERLOADED" | "STORE_FULL" | "CONTENTION" => Answer::NotDone { reason },
        "OUTCOME_UNKNOWN" | "DEADLINE_EXCEEDED" | "SHUTTING_DOWN" | "NOT_FRESH_IN_TIME" => Answer::Unknown { reason },
        _ => Answer::Wrong { reason, message: status.message().to_owned() },
    }
}
