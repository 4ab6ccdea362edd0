//! Counts connections and the bytes of requests.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use metrics::{Counter, Gauge};

use crate::server::{
    meters::Meter,
    observed::{Observed, Observer},
};

/// Counts the connections of a port.
#[derive(Clone, Debug)]
pub struct ConnectionMeters {
    open: Gauge,
    accepted: Counter,
}

impl ConnectionMeters {
    /// Meters that count nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self { open: Gauge::noop(), accepted: Counter::noop() }
    }

    pub(super) fn of(port: &'static str) -> Self {
        Self {
            open: metrics::gauge!("ordersystem_connections", "port" => port),
            accepted: metrics::counter!("ordersystem_connections_accepted_total", "port" => port),
        }
    }

    /// Counts a connection until the result is dropped.
    pub(super) fn accepted(&self) -> OpenConnection {
        self.accepted.increment(1);
        self.open.increment(1.0);
        OpenConnection(self.open.clone())
    }
}

/// A connection that counts as open.
pub(super) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Counts the bytes of a request.
pub(super) struct ReceivedBytes(Arc<Meter>);

impl Observer<Bytes> for ReceivedBytes {
    fn data(&mut self, data: &Bytes) {
        self.0.received(data.len());
    }
}

/// The body of a request, whose bytes `meter` counts.
pub(super) fn counted(body: Incoming, meter: Arc<Meter>) -> Observed<Incoming, ReceivedBytes> {
    Observed::new(body, Some(ReceivedBytes(meter)))
}
