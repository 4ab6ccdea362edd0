//! The layers around every gRPC call: deadline, panics, and the errors that tonic creates itself.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};
use tower::{BoxError, Service};

use super::request::{Method, RequestBody, RequestBytes, replies_many};
use crate::{
    application::{AppError, requests::Field},
    ports::deadline,
    server::{
        connection::{request_budget, sent_bytes},
        error::{ApiError, PANIC, Reason},
        large::{UnaryBody, instead_of_reply},
        paced::{Ending, PacedBody},
    },
};

/// The outer layer around all gRPC services.
///
/// It answers an expired deadline with DEADLINE_EXCEEDED (tonic alone would return CANCELLED), a panic with INTERNAL, and gives tonic's own errors
/// the codes and details of ours.
#[derive(Clone, Debug)]
pub struct GrpcEdge<S> {
    inner: S,
    max_message_bytes: usize,
}

impl<S> GrpcEdge<S> {
    /// Wraps `inner`, which accepts messages of at most `max_message_bytes`.
    pub const fn new(inner: S, max_message_bytes: usize) -> Self {
        Self { inner, max_message_bytes }
    }
}

impl<S, B> Service<Request<B>> for GrpcEdge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Err(error) = ApiError::check_metadata(request.headers()) {
            return std::future::ready(Ok(error.to_status().into_http())).boxed();
        }
        let deadline = match timeout(request.headers()) {
            Ok(timeout) => timeout.map(|timeout| Instant::now() + timeout),
            Err(error) => return std::future::ready(Ok(error.to_status().into_http())).boxed(),
        };
        let held = sent_bytes(request.extensions());
        let is_stream = replies_many(request.uri().path());
        let is_command = request.uri().path().contains(".OrderCommandService/");
        if is_stream {
            // Messages of streams are small, and each would be compressed separately. Removing the header is the only way to leave them uncompressed:
            // the library honours `disable_compression` in unary replies only.
            request.headers_mut().remove("grpc-accept-encoding");
        }
        let method = Method::at(request.uri().path(), self.max_message_bytes);
        let max_message_bytes = method.max_bytes;
        let (request, bytes) = guard(request, method);
        let work = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        async move {
            // A call holds its request bytes until it is answered.
            let _bytes = bytes;
            let outcome = match deadline {
                Some(deadline) => match tokio::time::timeout_at(deadline, deadline::within(deadline, work)).await {
                    Ok(outcome) => outcome,
                    Err(_) => return Ok(too_late().into_http()),
                },
                None => work.await,
            };
            let response = match outcome {
                Ok(Ok(response)) => response,
                Err(_panic) => return Ok(ApiError::internal(PANIC).to_status().into_http()),
            };
            let response = finish(response, deadline, max_message_bytes);
            Ok(response.map(|body| match is_stream {
                true => Body::new(PacedBody::new(body, held, Ending::Trailers)),
                false => Body::new(UnaryBody::new(body, held, instead_of_reply(is_command))),
            }))
        }
        .boxed()
    }
}

/// Wraps the body of `request` in the guard of `method`.
fn guard<B>(request: Request<B>, method: Method) -> (Request<Body>, RequestBytes)
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let bytes = RequestBytes::none(request_budget(request.extensions()));
    let is_gzip = request.headers().get("grpc-encoding").is_some_and(|encoding| encoding == "gzip");
    let held = bytes.clone();
    (request.map(|body| Body::new(RequestBody::new(body, method, is_gzip, held))), bytes)
}

fn finish(response: Response<Body>, deadline: Option<Instant>, max_message_bytes: usize) -> Response<Body> {
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != Code::Ok
    {
        return refine(status, max_message_bytes).into_http();
    }
    response.map(|inner| {
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        Body::new(GuardedBody { inner: Some(inner), deadline })
    })
}

fn too_late() -> Status {
    ApiError::from(AppError::DeadlineExceeded).to_status()
}

/// Gives an error from tonic the code and details of ours; leaves our errors unchanged.
pub fn refine(status: Status, max_message_bytes: usize) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let message = status.message();
    match status.code() {
        // For a message that is too large as received, or while it is being decompressed.
        Code::OutOfRange | Code::ResourceExhausted => ApiError::too_large(max_message_bytes).to_status(),
        Code::Internal if message.contains("decode Protobuf") => {
            ApiError::invalid(Field::Request, "is not an encoded message of this call's type").to_status()
        }
        Code::Unimplemented if message.contains("compressed with") => {
            let mut refined = ApiError::new(Reason::CompressionNotSupported, message).to_status();
            // Carries the encodings that the client may use instead.
            *refined.metadata_mut() = status.metadata().clone();
            refined
        }
        Code::Unimplemented => {
            let message = if message.is_empty() { "there is no such service or method" } else { message };
            ApiError::new(Reason::RouteNotFound, message).to_status()
        }
        // Only the health service returns this.
        Code::NotFound => ApiError::new(Reason::ServiceNotFound, message).to_status(),
        // The frames of the call are malformed, or it ended within one; its text is not base64.
        Code::Internal | Code::DataLoss => {
            ApiError::invalid(Field::Request, "is not a well-formed gRPC message").to_status()
        }
        _ => status,
    }
}

/// The timeout that the client set for the call, from its `grpc-timeout` header.
///
/// Source: the gRPC over HTTP/2 protocol: at most 8 digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(Field::GrpcTimeout.proto_name()) else {
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

/// The body of a reply, ended at the deadline of its call and guarded against panics, which would end the whole connection.
struct GuardedBody {
    /// `None` once the body has been ended.
    inner: Option<Body>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl GuardedBody {
    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.inner = None;
        let mut trailers = HeaderMap::new();
        // Fails only for a message that is not a valid header value; the details then carry the message.
        let _ = status.add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        // Checked first, since a body that always has more data would never time out.
        if this.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(task).is_ready()) {
            return this.end(&too_late());
        }
        match std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(task))) {
            Ok(frame) => frame,
            Err(_panic) => this.end(&ApiError::internal(PANIC).to_status()),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
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
