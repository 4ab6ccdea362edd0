//! The parts that the test binaries share: nodes in this process and in processes of their own, brokers, doubles of the ports, requests, and waits.

mod callers;
pub mod collector;
mod fresh;
pub mod intercepted;
mod issuer;
mod leash;
pub mod nats_cluster;
pub mod nats_server;
mod process;
pub mod proxy;
mod raw_grpc;
pub mod redis_server;
mod requests;
pub mod signals;
mod statuses;
mod test_server;
mod waits;

pub use callers::{CallerChannel, CallerKey, Callers, authorization, key};
pub use fresh::{free_port, fresh_prefix};
pub use issuer::Issuer;
pub use process::{Log, Outcome, Process, command, embedded, outcome, program, refused, run, run_blocking, spawn};
pub use raw_grpc::{PlainConnection, RawCodec, raw_call, within};
pub use requests::{Meta, Step, cancel, deliver, give, new_order, order_after, pay, ship, usd};
pub use statuses::{assert_retry_info, code_and_reason, facts, reason, violated_fields};
pub use test_server::{CommandClient, TestServer, config};
pub use waits::{PATIENCE, blocking_until, soon, until};
