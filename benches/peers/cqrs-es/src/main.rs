//! Creates orders of two items through cqrs-es in one thread, and prints the microseconds a command: one line a round.

mod order;
mod store;

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::{Arc, Mutex},
    time::Instant,
};

use async_trait::async_trait;
use cqrs_es::{CqrsFramework, EventEnvelope, Query};
use order::{CreateOrder, Item, Order, OrderEvent};
use store::QuietStore;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const ORDERS: u64 = 200_000;

/// The list of orders: as much as our read model has of each.
#[derive(Clone, Default)]
struct List(Arc<Mutex<BTreeMap<String, Row>>>);

#[allow(dead_code, reason = "what a list would show")]
struct Row {
    customer_id: String,
    status: u8,
    total_minor: i64,
    item_count: usize,
}

#[async_trait]
impl Query<Order> for List {
    async fn dispatch(&self, order_id: &str, events: &[EventEnvelope<Order>]) {
        for event in events {
            let OrderEvent::OrderCreated { customer_id, items, total_minor, .. } = &event.payload;
            let row =
                Row { customer_id: customer_id.clone(), status: 1, total_minor: *total_minor, item_count: items.len() };
            self.0.lock().expect("no panic").insert(order_id.to_owned(), row);
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let list = List::default();
        let cqrs = CqrsFramework::new(QuietStore::default(), vec![Box::new(list.clone())], ());
        let mut number = 0;
        for round in 0..=ROUNDS {
            let began = Instant::now();
            for _ in 0..ORDERS {
                number += 1;
                // As far apart as Snowflake ids.
                let order_id = ((1_u64 << 60) + number * 4_194_304).to_string();
                cqrs.execute(&order_id, black_box(command(&order_id))).await.expect("created");
            }
            // The first round is a warm-up.
            if round > 0 {
                println!("{}", began.elapsed().as_secs_f64() * 1e6 / ORDERS as f64);
            }
        }
        assert_eq!(list.0.lock().expect("no panic").len() as u64, number);
    });
}

fn command(order_id: &str) -> CreateOrder {
    let item = |product_id: &str, name: &str, quantity, price_minor| Item {
        product_id: product_id.to_owned(),
        name: name.to_owned(),
        quantity,
        price_minor,
    };
    CreateOrder {
        order_id: order_id.to_owned(),
        customer_id: "customer-123".to_owned(),
        items: vec![item("prod-1", "Laptop", 1, 99_999), item("prod-2", "Mouse", 2, 2_999)],
    }
}
