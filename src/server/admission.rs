//! Admission under load: decided by the headers of a request, before its body is read.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::error::ApiError;
use crate::application::{AppError, admission::Call};

/// The gRPC reply to a refused call, built once.
#[derive(Clone, Debug)]
pub struct GrpcRefusal(Arc<HeaderMap>);

impl GrpcRefusal {
    /// Builds the reply.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(overloaded().to_status().into_http::<Body>().into_parts().0.headers))
    }

    /// The reply.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = (*self.0).clone();
        response
    }
}

impl Default for GrpcRefusal {
    fn default() -> Self {
        Self::new()
    }
}

/// The error of a refused call.
#[must_use]
pub fn overloaded() -> ApiError {
    AppError::Overloaded.into()
}

/// The limit was reached while the body was arriving.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the node has become too busy for this request")]
pub struct Shed;

impl Shed {
    /// Whether this is the reason why a body ended early.
    #[must_use]
    pub fn is_in(error: &(dyn Error + 'static)) -> bool {
        error.is::<Self>() || error.source().is_some_and(Self::is_in)
    }
}

/// The body of an admitted request. While it is arriving slowly, its call does not count; once it is complete, the limit must still permit the call.
#[derive(Debug)]
pub struct AdmittedBody {
    inner: Body,
    call: Arc<Call>,
    is_awaited: bool,
}

impl AdmittedBody {
    /// The body `inner` of `call`.
    pub fn of(inner: Body, call: &Arc<Call>) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        Body::new(Self { inner, call: Arc::clone(call), is_awaited: false })
    }
}

impl HttpBody for AdmittedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.inner).poll_frame(task);
        if frame.is_pending() {
            this.call.pause();
            this.is_awaited = true;
        } else if std::mem::take(&mut this.is_awaited) && !this.call.resume() {
            return Poll::Ready(Some(Err(axum::Error::new(Shed))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
