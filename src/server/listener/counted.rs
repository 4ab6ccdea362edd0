//! Counts connections and the bytes of requests.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use metrics::{Counter, Gauge};

use crate::server::meters::Meter;

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

/// The body of a request, whose bytes are counted.
pub(super) struct ReceivedBody {
    inner: Incoming,
    meter: Arc<Meter>,
}

impl ReceivedBody {
    /// The body `inner` of a call that `meter` counts.
    pub fn of(inner: Incoming, meter: Arc<Meter>) -> Body {
        if inner.is_end_stream() { Body::new(inner) } else { Body::new(Self { inner, meter }) }
    }
}

impl HttpBody for ReceivedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(task));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.meter.received(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
