//! Calls that stream: commands, events from the beginning, ids.

use super::{Figure, Goal, ROUND, ROUNDS, Row, Side, WIDE, each_us, fill, measure, median, row_of, spread};
use crate::{client::Call, servers::Server, streams};

/// The events of the stream that is read.
const CAUGHT_UP: u64 = 200_000;

/// P6.
pub async fn bulk() -> Row {
    let side = Side::in_memory(Server::service().await);
    let (mut bulk, mut unary) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (before, commands) = (side.cpu(), streams::bulk(side.server.address, ROUND).await);
        let streamed =
            Figure { rate: commands as f64 / ROUND.as_secs_f64(), cpu_us: each_us(side.cpu() - before, commands) };
        let one = measure(&side, &Call::create_order(), WIDE).await;
        if round > 0 {
            bulk.push(streamed);
            unary.push(one);
        }
    }
    Row {
        id: "P6",
        what: "CreateOrder through ExecuteCommands, in memory, to unary calls".to_owned(),
        peak_mib: side.server.peak_mib(),
        goals: vec![Goal::RatioAtLeast(3.0)],
        ..row_of(&bulk, &unary)
    }
}

/// P8: one reader, from the beginning to the end.
pub async fn catch_up(kind: &'static str, goal: f64) -> Row {
    let (ours, bare) = (Side::service_on(kind), Server::ceiling("grpc").await);
    let events = fill(&ours.server, CAUGHT_UP).await;
    let (mut rates, mut theirs, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let before = (ours.cpu(), bare.cpu());
        let pair =
            (streams::catch_up(ours.server.address, events).await, streams::catch_up(bare.address, events).await);
        if round > 0 {
            rates.push(pair.0);
            theirs.push(pair.1);
            cpu.push((each_us(ours.cpu() - before.0, events), each_us(bare.cpu() - before.1, events)));
        }
    }
    Row {
        id: "P8",
        what: format!("StreamEvents, one reader from the beginning, {kind}, to a bare stream"),
        unit: "events/s",
        ours: median(rates.iter().copied()),
        other: Some(median(theirs.iter().copied())),
        spread: Some(spread(rates.iter().copied())),
        cpu_us: Some((median(cpu.iter().map(|one| one.0)), Some(median(cpu.iter().map(|one| one.1))))),
        peak_mib: ours.server.peak_mib(),
        goals: vec![Goal::RatioAtLeast(goal)],
    }
}

/// P9.
pub async fn ids() -> Row {
    let service = Server::service().await;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(streams::ids(service.address, ROUND).await);
    }
    Row {
        id: "P9",
        what: "StreamIds, one reader".to_owned(),
        unit: "ids/s",
        ours: median(rates.iter().copied()),
        spread: Some(spread(rates.iter().copied())),
        peak_mib: service.peak_mib(),
        goals: vec![Goal::AtLeast(2e6)],
        ..Row::default()
    }
}
