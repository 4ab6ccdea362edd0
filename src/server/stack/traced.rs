//! The span of a call of either API, and the trace context that its caller sends in `traceparent` and `tracestate`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;
use tower::{Layer, Service};

use crate::{
    server::{
        call::{Call, is_probe},
        grpc::header_names::STATUS,
    },
    telemetry::traces::{KeyValue, Scope, SpanContext, Traces, context},
};

/// The headers of the trace context (W3C).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The attribute of the status of a gRPC call.
const GRPC_STATUS: &str = "rpc.grpc.status_code";
/// The name for all unknown methods, so that a client cannot make up names.
const OTHER: &str = "_OTHER";

/// The layer.
#[derive(Clone, Debug)]
pub struct TraceLayer {
    /// Makes the spans.
    pub traces: Traces,
}

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, traces: self.traces.clone() }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Traced<S> {
    inner: S,
    traces: Traces,
}

impl<S, B> Service<Request<Body>> for Traced<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<TracedBody<B>>;
    type Error = Infallible;
    type Future = Recorded<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let call = begin(&self.traces, &mut request);
        // Not within the scope: what is done before the first poll makes no spans.
        Recorded { reply: self.inner.call(request), call }
    }
}

/// Begins the span of a call; `None` if there is nothing to record, nor a context to pass on.
fn begin(traces: &Traces, request: &mut Request<Body>) -> Option<TracedCall> {
    if is_probe(request.uri().path()) {
        return None;
    }
    let scope = traces.call(caller(request.headers()))?;
    let (is_grpc, path) = Call::read(request, |call| (call.protocol.is_grpc(), call.called.path()));
    if scope.is_recording() {
        if is_grpc { describe_rpc(&scope, path) } else { describe_http(&scope, request.method(), path) }
    }
    Some(TracedCall { scope, is_grpc })
}

/// The context of the caller; `None` if the header is repeated.
fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (Some(traceparent), None) = (given.next(), given.next()) else { return None };
    // The state may be split into several headers.
    let state: Vec<_> = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()).collect();
    context::parse(traceparent.to_str().ok()?, (!state.is_empty()).then(|| state.join(",")).as_deref())
}

fn describe_rpc(scope: &Scope, path: Option<&'static str>) {
    let (service, method) = path.and_then(|path| path.strip_prefix('/')?.split_once('/')).unwrap_or((OTHER, OTHER));
    let attributes = [
        KeyValue::new("rpc.system", "grpc"),
        KeyValue::new("rpc.service", service),
        KeyValue::new("rpc.method", method),
    ];
    scope.describe(format!("{service}/{method}"), attributes);
}

/// `route` is the template of the path: the path itself and the query have ids of customers.
fn describe_http(scope: &Scope, method: &Method, route: Option<&'static str>) {
    let method = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => OTHER,
    };
    let Some(route) = route else {
        return scope.describe(method, [KeyValue::new("http.request.method", method)]);
    };
    let attributes = [KeyValue::new("http.request.method", method), KeyValue::new("http.route", route)];
    scope.describe(format!("{method} {route}"), attributes);
}

/// A call with its span or the context of its caller.
struct TracedCall {
    scope: Scope,
    is_grpc: bool,
}

impl TracedCall {
    /// Records the head of `response`. The span ends with its body.
    fn answered<B>(self, response: &Response<B>) -> Option<End> {
        if !self.scope.is_recording() {
            return None;
        }
        if !self.is_grpc {
            let status = response.status();
            self.scope.set("http.response.status_code", i64::from(status.as_u16()));
            if status.is_server_error() {
                self.scope.fail(status.as_str().to_owned());
            }
        }
        let mut end = End { scope: self.scope, is_open: self.is_grpc };
        if self.is_grpc {
            end.status(response.headers());
        }
        Some(end)
    }
}

pin_project! {
    /// A pending response, in the scope of its call.
    #[must_use = "futures do nothing unless polled"]
    pub struct Recorded<F> {
        #[pin]
        reply: F,
        call: Option<TracedCall>,
    }
}

impl<F, B> Future for Recorded<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<TracedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = match this.call {
            None => this.reply.poll(task),
            Some(call) => call.scope.poll(|| this.reply.poll(task)),
        };
        let response = ready!(polled)?;
        let end = this.call.take().and_then(|call| call.answered(&response));
        Poll::Ready(Ok(response.map(|body| TracedBody { body, end })))
    }
}

/// Ends a span.
struct End {
    scope: Scope,
    /// Whether the trailers still have to tell the status.
    is_open: bool,
}

impl End {
    /// Records the status of gRPC, if `headers` have one.
    fn status(&mut self, headers: &HeaderMap) {
        let Some(status) = headers.get(STATUS) else { return };
        self.close(Code::from_bytes(status.as_bytes()));
    }

    fn close(&mut self, code: Code) {
        self.is_open = false;
        self.scope.set(GRPC_STATUS, i64::from(i32::from(code)));
        // For a server, by convention, these alone are its own failures.
        if matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ) {
            self.scope.fail(format!("{code:?}"));
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.is_open {
            // The client has gone before the trailers.
            self.close(Code::Cancelled);
        }
        self.scope.end();
    }
}

pin_project! {
    /// The body of a response, which ends the span when it is dropped.
    pub struct TracedBody<B> {
        #[pin]
        body: B,
        end: Option<End>,
    }
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error>> HttpBody for TracedBody<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(task));
        if let Some(end) = this.end
            && let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            end.status(trailers);
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn two_contexts_are_none_and_two_states_are_one() {
        let mut headers = HeaderMap::new();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.append("traceparent", HeaderValue::from_static(parent));
        headers.append("tracestate", HeaderValue::from_static("a=1"));
        headers.append("tracestate", HeaderValue::from_static("b=2"));
        assert_eq!(caller(&headers).unwrap().trace_state().header(), "a=1,b=2");
        headers.append("traceparent", HeaderValue::from_static(parent));
        assert_eq!(caller(&headers), None);
    }
}
