//! The outer layer of the gRPC API: the bounds of the messages of each method, and the errors that tonic creates itself.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use http::{Request, Response};
use metrics::Counter;
use pin_project_lite::pin_project;
use tonic::{Code, Status};

use super::{
    errors::refine,
    header_names::{ACCEPT_ENCODING, ENCODING},
    request::{Method, RequestBody, RequestBytes, replies_many},
    services::{Encoding, Pending, Services},
};
use crate::server::call::{Call, request_budget};

/// All gRPC services behind their bounds.
#[derive(Clone, Debug)]
pub struct GrpcEdge {
    services: Services,
    max_message_bytes: usize,
}

impl GrpcEdge {
    /// Wraps `services`, which accept messages of at most `max_message_bytes`.
    #[must_use]
    pub const fn new(services: Services, max_message_bytes: usize) -> Self {
        Self { services, max_message_bytes }
    }

    /// Answers a call.
    pub fn call(&self, mut request: Request<Body>) -> Refined<Pending> {
        if replies_many(request.uri().path()) {
            // Messages of streams are small, and each would be compressed separately. Removing the header is the only way to leave them uncompressed:
            // the library honours `disable_compression` in unary replies only.
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        let method = Method::at(request.uri().path(), self.max_message_bytes);
        let max_message_bytes = method.max_bytes;
        let encoding = Encoding::of(request.headers().get(ENCODING));
        let (request, bytes) = guard(request, method, encoding);
        Refined { reply: self.services.call(request, encoding), bytes, max_message_bytes }
    }
}

/// Wraps the body of `request` in the guard of `method`.
fn guard(request: Request<Body>, method: Method, encoding: Encoding) -> (Request<RequestBody<Body>>, RequestBytes) {
    let bytes = RequestBytes::none(request_budget(request.extensions()));
    let is_gzip = encoding == Encoding::Gzip;
    let held = bytes.clone();
    let messages = Call::of(request.extensions()).and_then(|call| call.meter.messages());
    let received = messages.map_or_else(Counter::noop, |messages| messages.received.clone());
    (request.map(|body| RequestBody::new(body, method, is_gzip, held).counted(received)), bytes)
}

pin_project! {
    /// A pending response, whose error gets the code and details of this service. The call holds its request bytes until it is answered.
    #[must_use = "futures do nothing unless polled"]
    pub struct Refined<F> {
        #[pin]
        reply: F,
        bytes: RequestBytes,
        max_message_bytes: usize,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Refined<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.reply.poll(task))?;
        Poll::Ready(Ok(match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => refine(status, *this.max_message_bytes).into_http(),
            _ => response,
        }))
    }
}
