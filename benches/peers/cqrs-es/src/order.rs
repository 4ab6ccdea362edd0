//! The order as an aggregate of cqrs-es.

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Item {
    pub product_id: String,
    pub name: String,
    pub quantity: u32,
    pub price_minor: i64,
}

pub struct CreateOrder {
    pub order_id: String,
    pub customer_id: String,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum OrderEvent {
    OrderCreated { order_id: String, customer_id: String, items: Vec<Item>, total_minor: i64 },
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(&'static str);

#[derive(Default, Deserialize, Serialize)]
pub struct Order {
    order_id: String,
    customer_id: String,
    items: Vec<Item>,
    total_minor: i64,
}

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        "OrderCreated".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = CreateOrder;
    type Event = OrderEvent;
    type Error = Refused;
    type Services = ();

    async fn handle(&mut self, command: CreateOrder, (): &(), sink: &EventSink<Self>) -> Result<(), Refused> {
        let CreateOrder { order_id, customer_id, items } = command;
        if !self.order_id.is_empty() {
            return Err(Refused("the order exists"));
        }
        if !is_text(&customer_id, 128) || items.is_empty() || items.len() > 1_000 {
            return Err(Refused("a customer and 1 to 1000 items"));
        }
        let mut total_minor: i64 = 0;
        for item in &items {
            let is_valid = is_text(&item.product_id, 128) && is_text(&item.name, 256);
            if !is_valid || !(1..=1_000_000).contains(&item.quantity) || item.price_minor < 0 {
                return Err(Refused("an item is invalid"));
            }
            let line = item.price_minor.checked_mul(item.quantity.into()).ok_or(Refused("the total is too large"))?;
            total_minor = total_minor.checked_add(line).ok_or(Refused("the total is too large"))?;
        }
        sink.write(OrderEvent::OrderCreated { order_id, customer_id, items, total_minor }, self).await;
        Ok(())
    }

    fn apply(&mut self, event: OrderEvent) {
        let OrderEvent::OrderCreated { order_id, customer_id, items, total_minor } = event;
        *self = Self { order_id, customer_id, items, total_minor };
    }
}

fn is_text(text: &str, max: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control)
}
