//! Counts each call: its duration, outcome, bytes, and the messages of a stream.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tower::{Layer, Service};

use super::response::ResponseCode;
use crate::server::{
    call::Call,
    meters::{Meter, Verb},
    observed::{Observed, Observer, Observing},
};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct MeterLayer;

impl<S> Layer<S> for MeterLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered { inner }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Metered<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Metered<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody<Data = Bytes>,
{
    type Response = Response<Observed<B, Metering>>;
    type Error = Infallible;
    type Future = Observing<S::Future, Metering>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let verb = Verb::of(request.method());
        let begin = |call: &Call| Metering::begin(Arc::clone(&call.meter), verb, call.protocol.is_grpc());
        let metering = Call::read(&mut request, begin);
        Observing::new(self.inner.call(request), Some(metering))
    }
}

/// Counts a call. The call ends when this is dropped, also if its caller no longer waits for the response.
#[derive(Debug)]
pub struct Metering {
    meter: Arc<Meter>,
    verb: Verb,
    begun: Instant,
    code: ResponseCode,
    messages: FrameCount,
}

impl Metering {
    fn begin(meter: Arc<Meter>, verb: Verb, is_grpc: bool) -> Self {
        meter.begin();
        let code = ResponseCode::unknown(is_grpc);
        Self { meter, verb, begun: Instant::now(), code, messages: FrameCount::default() }
    }
}

impl Observer<Bytes> for Metering {
    fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.code.head(status, headers);
    }

    fn data(&mut self, data: &Bytes) {
        self.meter.sent(data.len());
        if let Some(messages) = self.meter.messages() {
            messages.sent.increment(self.messages.begun_in(data));
        }
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code.trailers(trailers);
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        self.meter.end(self.verb, self.code.get(), self.begun.elapsed());
    }
}

/// The number of bytes before a message: a flag and its length.
const HEADER_BYTES: usize = 5;

/// Counts the messages in the data of a gRPC call, however the data is cut.
#[derive(Debug, Default)]
struct FrameCount {
    /// The number of bytes of the current message that are still missing.
    left: usize,
    /// The part of the next message's header that has been seen.
    header: [u8; HEADER_BYTES],
    known: usize,
}

impl FrameCount {
    /// The number of messages whose header ends in `data`, which follows the data of the previous call.
    fn begun_in(&mut self, mut data: &[u8]) -> u64 {
        let mut begun = 0;
        loop {
            let skipped = self.left.min(data.len());
            self.left -= skipped;
            data = &data[skipped..];
            if data.is_empty() {
                return begun;
            }
            let taken = (HEADER_BYTES - self.known).min(data.len());
            self.header[self.known..self.known + taken].copy_from_slice(&data[..taken]);
            self.known += taken;
            data = &data[taken..];
            if self.known == HEADER_BYTES {
                let [_, length @ ..] = self.header;
                self.left = u32::from_be_bytes(length) as usize;
                self.known = 0;
                begun += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let message = |length: u32| [&[0][..], &length.to_be_bytes(), &vec![7; length as usize]].concat();
        let data = [message(0), message(3), message(300), message(0), message(1)].concat();
        for size in 1..=data.len() {
            let mut count = FrameCount::default();
            let begun: u64 = data.chunks(size).map(|piece| count.begun_in(piece)).sum();
            assert_eq!(begun, 5, "in pieces of {size}");
        }
    }
}
