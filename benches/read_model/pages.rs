//! The latency of a page: the first and the last one of each list.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ordersystem::ports::read_model::{ListFilter, ListOrder, ListQuery, ReadModel, RowKey};

const PAGE: usize = 50;
const TIMES: usize = 101;

pub async fn measure(model: &dyn ReadModel) {
    let any = model.list(&query(ListFilter::default(), ListOrder::NewestFirst, None)).await.unwrap();
    let row = &any.rows[0];
    let customer = Some(Arc::clone(&row.customer));
    let none = ListFilter::default();
    // The middle tenth of the time.
    let oldest =
        model.list(&query(none.clone(), ListOrder::OldestFirst, None)).await.unwrap().rows[0].created_at_micros;
    let span = row.created_at_micros - oldest;
    let time = ListFilter {
        created_from_micros: Some(oldest + span / 10 * 4),
        created_to_micros: Some(oldest + span / 10 * 5),
        ..none.clone()
    };
    let shipped = ListFilter { status: Some(3), ..none.clone() };
    let filters = [
        ("all", none.clone()),
        ("of a status", shipped.clone()),
        ("of a customer", ListFilter { customer: customer.clone(), ..none.clone() }),
        ("of a customer and a status", ListFilter { customer, ..shipped.clone() }),
        ("of a time", time.clone()),
        ("of a time and a status", ListFilter { status: Some(3), ..time }),
    ];
    println!("a page of {PAGE}, median and p99 in microseconds: first page, last page; newest and oldest first");
    for (name, filter) in filters {
        let mut cells = Vec::new();
        for order in [ListOrder::NewestFirst, ListOrder::OldestFirst] {
            let last = before_last(model, &filter, order).await;
            for after in [None, last] {
                cells.push(time_of(model, &query(filter.clone(), order, after)).await);
            }
        }
        println!("  {name:<28} {}", cells.join("   "));
    }
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let asked = Instant::now();
        assert!(!model.totals().await.unwrap().is_empty());
        times.push(asked.elapsed());
    }
    println!("  {:<28} {}", "totals", summary(times));
}

fn query(filter: ListFilter, order: ListOrder, after: Option<RowKey>) -> ListQuery {
    ListQuery { filter, order, after, limit: PAGE }
}

/// The key after which the last full page starts.
async fn before_last(model: &dyn ReadModel, filter: &ListFilter, order: ListOrder) -> Option<RowKey> {
    let reverse = match order {
        ListOrder::NewestFirst => ListOrder::OldestFirst,
        ListOrder::OldestFirst => ListOrder::NewestFirst,
    };
    let end = ListQuery { limit: PAGE + 1, ..query(filter.clone(), reverse, None) };
    let rows = model.list(&end).await.unwrap().rows;
    rows.get(PAGE).map(ordersystem::ports::read_model::Row::key)
}

async fn time_of(model: &dyn ReadModel, query: &ListQuery) -> String {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let asked = Instant::now();
        assert!(!model.list(query).await.unwrap().rows.is_empty());
        times.push(asked.elapsed());
    }
    summary(times)
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("{:>5} {:>5}", times[TIMES / 2].as_micros(), times[TIMES - 2].as_micros())
}
