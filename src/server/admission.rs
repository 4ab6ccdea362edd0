//! Admission under load: decided by the headers of a request, before its body is read.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::error::ApiError;
use crate::application::{
    AppError,
    admission::{Call, Class},
};

/// The kind of call of a gRPC method; `None` for methods that are always admitted: streams, ids, and health.
#[must_use]
pub fn class_of_method(path: &str) -> Option<Class> {
    match path.strip_prefix("/catga.orders.v1.")? {
        // Each of its commands is admitted separately.
        "OrderCommandService/ExecuteCommands" => None,
        "OrderQueryService/GetOrder" | "OrderQueryService/GetOrderStats" => Some(Class::Read),
        "OrderQueryService/ListOrders" | "OrderQueryService/BatchGetOrders" => Some(Class::BulkRead),
        command if command.starts_with("OrderCommandService/") => Some(Class::Command),
        _ => None,
    }
}

/// The same for a REST route.
#[must_use]
pub fn class_of_route(method: &Method, path: &str) -> Option<Class> {
    if path == "/stats" {
        return Some(Class::Read);
    }
    let order = path.strip_prefix("/api").unwrap_or(path).strip_prefix("/orders")?;
    match *method {
        Method::POST => Some(Class::Command),
        Method::GET if order.is_empty() => Some(Class::BulkRead),
        Method::GET if !order.ends_with("/history") => Some(Class::Read),
        _ => None,
    }
}

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

/// While the body was arriving, the limit was reached.
#[derive(Clone, Copy, Debug)]
pub struct Shed;

impl Shed {
    /// Whether this is the reason why a body ended early.
    #[must_use]
    pub fn is_in(error: &(dyn Error + 'static)) -> bool {
        error.is::<Self>() || error.source().is_some_and(Self::is_in)
    }
}

impl fmt::Display for Shed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node has become too busy for this request")
    }
}

impl Error for Shed {}

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

/// The largest body of a refused request that is drained, and for how long: over HTTP/1 the next request can then follow it.
const MAX_READ_AWAY_BYTES: usize = 16 * 1024;
const READ_AWAY_WITHIN: Duration = Duration::from_millis(100);

/// The body of a refused request over HTTP/1.
#[derive(Debug)]
pub struct SmallBody {
    inner: Body,
    /// Whether it is small enough to drain.
    is_small: bool,
}

impl SmallBody {
    /// The body `inner` of the request with these headers.
    #[must_use]
    pub fn of(head: &http::request::Parts, inner: Body) -> Self {
        let may_fit = inner.size_hint().lower() <= MAX_READ_AWAY_BYTES as u64;
        // A client that sends `Expect` need not send the body.
        let is_asked_for = head.headers.contains_key(header::EXPECT);
        Self { is_small: may_fit && !is_asked_for, inner }
    }

    /// Drains the body; returns whether nothing of it is left on the connection. Most bodies arrive with their headers.
    pub async fn is_read_away(mut self) -> bool {
        if !self.is_small {
            return self.inner.is_end_stream();
        }
        let read = async {
            let mut left = MAX_READ_AWAY_BYTES;
            while let Some(frame) = self.inner.frame().await {
                let Ok(frame) = frame else { return false };
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(less) => left = less,
                    None => return false,
                }
            }
            true
        };
        tokio::time::timeout(READ_AWAY_WITHIN, read).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_what_tells_how_the_node_is_are_always_let_in() {
        for (path, class) in [
            ("/catga.orders.v1.OrderCommandService/CreateOrder", Some(Class::Command)),
            ("/catga.orders.v1.OrderCommandService/ExecuteCommands", None),
            ("/catga.orders.v1.OrderQueryService/GetOrder", Some(Class::Read)),
            ("/catga.orders.v1.OrderQueryService/ListOrders", Some(Class::BulkRead)),
            ("/catga.orders.v1.OrderHistoryService/StreamEvents", None),
            ("/catga.system.v1.SystemService/GetServerInfo", None),
            ("/grpc.health.v1.Health/Check", None),
        ] {
            assert_eq!(class_of_method(path), class, "{path}");
        }
        for (method, path, class) in [
            (Method::POST, "/orders", Some(Class::Command)),
            (Method::POST, "/api/orders/7/pay", Some(Class::Command)),
            (Method::GET, "/orders", Some(Class::BulkRead)),
            (Method::GET, "/orders/7", Some(Class::Read)),
            (Method::GET, "/orders/7/history", None),
            (Method::GET, "/stats", Some(Class::Read)),
            (Method::GET, "/events", None),
            (Method::GET, "/health/ready", None),
            (Method::GET, "/metrics", None),
        ] {
            assert_eq!(class_of_route(&method, path), class, "{method} {path}");
        }
    }
}
