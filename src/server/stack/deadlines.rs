//! Ends a gRPC call at the deadline that its client has set. REST has none: its time limit is that of the pipeline.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tonic::Status;
use tower::{Layer, Service};

use super::{
    refusal,
    response::{Responding, ResponseBody},
};
use crate::{
    application::{AppError, requests::Field},
    ports::deadline,
    server::{
        call::Call,
        error::{ApiError, trailers},
        grpc::header_names::TIMEOUT,
    },
    telemetry::traces::{self, SpanScope},
};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadlines<S>;

    fn layer(&self, inner: S) -> Deadlines<S> {
        Deadlines { inner }
    }
}

/// The service. It answers with DEADLINE_EXCEEDED; tonic alone would return CANCELLED.
#[derive(Clone, Debug)]
pub struct Deadlines<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Deadlines<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<ResponseBody<DueBody<B>>>;
    type Error = Infallible;
    type Future = Responding<Due<S::Future>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let protocol = Call::read(&mut request, |call| call.protocol);
        let timeout = if protocol.is_grpc() { timeout(request.headers()) } else { Ok(None) };
        match timeout {
            Ok(timeout) => {
                let limit = timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
                Responding::Inner { response: Due { response: self.inner.call(request), limit } }
            }
            Err(error) => Responding::own(refusal::response(protocol, error)),
        }
    }
}

pin_project! {
    /// A pending response, with the deadline of its call.
    #[must_use = "futures do nothing unless polled"]
    pub struct Due<F> {
        #[pin]
        response: F,
        limit: Option<Pin<Box<Sleep>>>,
    }
}

impl<F, B> Future for Due<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<DueBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(limit) = this.limit else {
            return this.response.poll(task).map_ok(|response| response.map(DueBody::free));
        };
        if let Poll::Ready(response) = deadline::sync_within(limit.deadline(), || this.response.poll(task)) {
            let (limit, span) = (this.limit.take(), traces::recorded());
            return Poll::Ready(
                response.map(|response| response.map(|body| DueBody { body: Some(body), limit, span })),
            );
        }
        limit.as_mut().poll(task).map(|()| {
            // The work is dropped, with its spans.
            traces::recorded().iter().for_each(SpanScope::set_late);
            Ok(too_late().into_http().map(|_: Body| DueBody { body: None, limit: None, span: None }))
        })
    }
}

fn too_late() -> Status {
    ApiError::from(AppError::DeadlineExceeded).to_status()
}

pin_project! {
    /// The body of a response, which ends at the deadline of its call.
    pub struct DueBody<B> {
        // `None` once it has been ended.
        #[pin]
        body: Option<B>,
        limit: Option<Pin<Box<Sleep>>>,
        // The span of a recorded call with a deadline.
        span: Option<SpanScope>,
    }
}

impl<B> DueBody<B> {
    /// A body without a deadline.
    const fn free(body: B) -> Self {
        Self { body: Some(body), limit: None, span: None }
    }
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error>> HttpBody for DueBody<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        // Checked first, since a body that always has more data would never time out.
        if this.limit.as_mut().is_some_and(|limit| limit.as_mut().poll(task).is_ready()) {
            this.span.iter().for_each(SpanScope::set_late);
            this.body.set(None);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&too_late())))));
        }
        body.poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// The timeout that the client set for the call, from its `grpc-timeout` header.
///
/// Source: the gRPC over HTTP/2 protocol: at most 8 digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(TIMEOUT) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(parse_timeout);
    parsed
        .map(Some)
        .ok_or_else(|| ApiError::invalid(Field::GrpcTimeout, "must be 1 to 8 digits and one of H, M, S, m, u, n"))
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_at_most_eight_digits_and_a_unit() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for text in ["", "S", "5", "5s", "-5S", "123456789S", "5 S", "5ü", "ü"] {
            assert_eq!(parse_timeout(text), None, "{text:?}");
        }
    }
}
