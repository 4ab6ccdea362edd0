//! Commands with their usual payloads.

use ordersystem::proto::{
    Money,
    catga::orders::v1::{
        CancelOrderRequest, CommandSuccess, CreateOrderRequest, DeliverOrderRequest, NewOrderItem, Order,
        PayOrderRequest, ShipOrderRequest,
    },
};
use tonic::Status;

use super::CommandClient;

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

/// The fields of a command besides its payload.
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
