//! Latency at half load: the calls do not wait for each other's replies.

use super::{Goal, ROUND, ROUNDS, Report, Row, Side, WIDE, measure, median, spread};
use crate::{
    brokers::Store,
    client::{CREATE, Call},
    latency,
    servers::Server,
};

/// P11, on every store against the bare server with its bare write.
pub async fn at_half_load(report: &mut Report) {
    for store in ["inmemory", "embedded", "redis", "nats", "nats-r3"] {
        if let Err(why) = Store::is_available(store) {
            report.miss("P11", &format!("p99 of CreateOrder at half load, {store}"), &why);
            continue;
        }
        let pair = match store {
            "inmemory" => (Side::in_memory(Server::service().await), Side::in_memory(Server::ceiling("grpc").await)),
            _ => (Side::service_on(store), Side::ceiling_on(store).await),
        };
        let row = on(store, &pair.0, &pair.1).await;
        drop(pair);
        report.add(row);
    }
}

async fn on(store: &str, ours: &Side, bare: &Side) -> Row {
    let call = Call::create_order();
    // Once to warm up.
    measure(ours, &call, WIDE).await;
    let rate = measure(ours, &call, WIDE).await.rate / 2.0;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(latency::at_rate(ours.server.address, CREATE, |_| call.body.clone(), rate, ROUND).await);
        b.push(latency::at_rate(bare.server.address, CREATE, |_| call.body.clone(), rate, ROUND).await);
    }
    let (p50, p999) = (median(a.iter().map(|one| one.p50)), median(a.iter().map(|one| one.p999)));
    Row {
        id: "P11",
        what: format!("p99 of CreateOrder, {store}, {rate:.0}/s (p50 {p50:.2} ms, p99.9 {p999:.2} ms), to bare"),
        unit: "ms",
        ours: median(a.iter().map(|one| one.p99)),
        other: Some(median(b.iter().map(|one| one.p99))),
        spread: Some(spread(a.iter().map(|one| one.p99))),
        peak_mib: ours.server.peak_mib(),
        goals: vec![Goal::RatioAtMost(2.0)],
        ..Row::default()
    }
}
