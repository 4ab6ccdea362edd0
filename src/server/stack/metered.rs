//! Counts each call: how long it took, how it ended, its bytes, and the messages of a stream.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::reply::code_in;
use crate::server::{
    call::Call,
    meters::{Meter, Verb},
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
{
    type Response = Response<MeteredBody<B>>;
    type Error = Infallible;
    type Future = Counted<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let verb = Verb::of(request.method());
        let begin = |call: &Call| Metering::begin(Arc::clone(&call.meter), verb, call.protocol.is_grpc());
        let metering = Call::read(&mut request, begin);
        Counted { reply: self.inner.call(request), metering: Some(metering) }
    }
}

/// A call that is counted at its end, also if that is that nobody waits for it any more.
#[derive(Debug)]
struct Metering {
    meter: Arc<Meter>,
    verb: Verb,
    is_grpc: bool,
    begun: Instant,
    code: Option<u16>,
}

impl Metering {
    fn begin(meter: Arc<Meter>, verb: Verb, is_grpc: bool) -> Self {
        meter.begin();
        Self { meter, verb, is_grpc, begun: Instant::now(), code: None }
    }

    /// Takes the code of gRPC from `headers`, if they have one.
    fn status(&mut self, headers: &HeaderMap) {
        if let Some(code) = code_in(headers) {
            self.code = Some(code);
        }
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        self.meter.end(self.verb, self.code, self.begun.elapsed());
    }
}

pin_project! {
    /// A pending response.
    #[must_use = "futures do nothing unless polled"]
    pub struct Counted<F> {
        #[pin]
        reply: F,
        metering: Option<Metering>,
    }
}

impl<F, B> Future for Counted<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<MeteredBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.reply.poll(task))?;
        let mut metering = this.metering.take();
        if let Some(metering) = &mut metering {
            if metering.is_grpc {
                metering.status(response.headers());
            } else {
                metering.code = Some(response.status().as_u16());
            }
        }
        Poll::Ready(Ok(response.map(|body| MeteredBody { body, metering, messages: FrameCount::default() })))
    }
}

pin_project! {
    /// The body of a reply. The call ends with it.
    pub struct MeteredBody<B> {
        #[pin]
        body: B,
        metering: Option<Metering>,
        messages: FrameCount,
    }
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error>> HttpBody for MeteredBody<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(task));
        if let Some(metering) = this.metering
            && let Some(Ok(frame)) = &frame
        {
            if let Some(data) = frame.data_ref() {
                metering.meter.sent(data.len());
                if let Some(messages) = metering.meter.messages() {
                    messages.sent.increment(this.messages.begun_in(data));
                }
            } else if let Some(trailers) = frame.trailers_ref() {
                metering.status(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The bytes before a message: a flag and its length.
const HEADER_BYTES: usize = 5;

/// Counts the messages in the data of a gRPC call, however it is cut.
#[derive(Debug, Default)]
struct FrameCount {
    /// Bytes of the current message that have not come.
    left: usize,
    /// The part of the header of the next message that has come.
    header: [u8; HEADER_BYTES],
    known: usize,
}

impl FrameCount {
    /// The number of messages whose header ends in `data`, which follows what was passed before.
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
