//! CreateOrder on stores whose acknowledged writes are synced, against a bare server that does the bare write.

use super::{Goal, Report, Row, Side, compare};
use crate::{
    brokers::Store,
    client::{Call, ONE, WIDE},
    servers::Server,
};

#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub id: &'static str,
    /// As [`Store::start`] knows it.
    store: &'static str,
}

pub const KINDS: [Kind; 4] = [
    Kind { id: "P3", store: "embedded" },
    Kind { id: "P4", store: "redis" },
    Kind { id: "P5", store: "nats" },
    Kind { id: "P5", store: "nats-r3" },
];

pub async fn create(report: &mut Report, kind: Kind) {
    let Kind { id, store } = kind;
    let what = format!("CreateOrder, {store}, synced, to bare tonic and its bare write");
    if let Err(why) = Store::is_available(store) {
        return report.miss(id, &what, &why);
    }
    let (ours, bare) = (Side::service_on(store), Side::ceiling_on(store).await);
    let call = Call::create_order();
    let row = compare((&ours, &call), (&bare, &call), WIDE).await;
    drop((ours, bare));
    report.add(Row { id, what, goals: vec![Goal::FactorAtMost(1.25)], ..row });
    if store == "embedded" {
        beside_memory(report).await;
        one_at_a_time(report).await;
    }
}

async fn beside_memory(report: &mut Report) {
    let (ours, memory) = (Side::service_on("embedded"), Side::in_memory(Server::service().await));
    let call = Call::create_order();
    let row = compare((&ours, &call), (&memory, &call), WIDE).await;
    drop((ours, memory));
    let what = "CreateOrder, embedded, synced, to the same in memory".to_owned();
    report.add(Row { id: "P3", what, goals: vec![Goal::RatioAtLeast(0.60)], ..row });
}

/// With one caller: how long a command takes, from its rate.
async fn one_at_a_time(report: &mut Report) {
    let (ours, bare) = (Side::service_on("embedded"), Side::ceiling_on("embedded").await);
    let call = Call::create_order();
    let row = compare((&ours, &call), (&bare, &call), ONE).await;
    drop((ours, bare));
    let (us, other) = (1e6 / row.ours, row.other.map(|rate| 1e6 / rate));
    let what = "CreateOrder, embedded, one at a time, to bare tonic and a bare insert".to_owned();
    report.add(Row { id: "P3", what, unit: "us", ours: us, other, goals: vec![Goal::RatioAtMost(1.5)], ..row });
}
