//! CreateOrder on several servers in turn: what one of them costs, against the first.

use std::ffi::OsString;

use http::HeaderValue;

use crate::{
    ROUND, ROUNDS, client, median,
    servers::{Limits, Server, binary},
};

/// A server with its calls.
pub struct Variant {
    name: &'static str,
    authorization: Option<String>,
    /// The share of the throughput of the first one that it keeps at least.
    goal: f64,
    server: Server,
    /// Calls a second, and CPU of the server a call in microseconds.
    figures: Vec<(f64, f64)>,
}

impl Variant {
    /// The service with these flags.
    pub fn new(name: &'static str, goal: f64, flags: &[String], authorization: Option<String>) -> Self {
        Self::of(&binary(), name, goal, flags, authorization)
    }

    /// The service from another binary.
    pub fn of(
        binary: &OsString,
        name: &'static str,
        goal: f64,
        flags: &[String],
        authorization: Option<String>,
    ) -> Self {
        let is_filtered = flags.iter().any(|flag| flag == "--log-level");
        let quiet = ["--log-level", "warn,ordersystem::node=info"].map(str::to_owned);
        let quiet = if is_filtered { &[][..] } else { &quiet[..] };
        let server = Server::on_any_port_of(binary, &[quiet, flags].concat(), Limits::default());
        Self { name, authorization, goal, server, figures: Vec::new() }
    }

    async fn measure(&mut self) -> (f64, f64) {
        let (before, address) = (self.server.cpu(), self.server.address);
        let authorization = self.authorization.as_deref().map(|text| HeaderValue::from_str(text).expect("a header"));
        let call = client::Call { authorization, ..client::Call::create_order() };
        let calls = client::load(address, &call, client::WIDE, ROUND).await;
        let cpu = self.server.cpu() - before;
        (calls as f64 / ROUND.as_secs_f64(), cpu.as_secs_f64() * 1e6 / calls as f64)
    }
}

/// Measures all of them in turn, and compares them with the first.
pub async fn compare(mut variants: Vec<Variant>) {
    for round in 0..=ROUNDS * 2 {
        for variant in &mut variants {
            let figure = variant.measure().await;
            // The first round is a warm-up.
            if round > 0 {
                variant.figures.push(figure);
            }
        }
    }
    let Some(first) = variants.first() else { return };
    println!("{:<10} {:>10} {:>10} {:>10} {:>10} {:>6}", "variant", "calls/s", "us/call", "calls", "us", "goal");
    for variant in &variants {
        let (rate, cpu) = (median(variant.figures.iter().map(|m| m.0)), median(variant.figures.iter().map(|m| m.1)));
        let pairs = || variant.figures.iter().zip(&first.figures);
        let (rates, cpus) = (median(pairs().map(|(a, b)| a.0 / b.0)), median(pairs().map(|(a, b)| a.1 / b.1)));
        let (name, goal) = (variant.name, variant.goal);
        println!("{name:<10} {rate:>10.0} {cpu:>10.1} {rates:>10.3} {cpus:>10.3} {goal:>6.2}");
    }
}
