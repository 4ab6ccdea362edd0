//! The span of a call, and the trace context that its caller sends in `traceparent` and `tracestate`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tonic::Code;
use tower::{Layer, Service};

use super::reply::ReplyCode;
use crate::{
    server::{
        call::{Call, is_probe},
        meters::CANCELLED,
        observed::{Observed, Observer},
    },
    telemetry::traces::{KeyValue, Scope, SpanContext, Traces, context},
};

/// The headers of the trace context (W3C).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The name for all unknown methods, so that a client cannot invent names.
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
    B: HttpBody<Data = Bytes>,
{
    type Response = Response<Observed<B, End>>;
    type Error = Infallible;
    type Future = Recorded<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let call = begin(&self.traces, &mut request);
        // Called outside of the scope: work before the first poll makes no spans.
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

/// `route` is the template of the path: the path itself and the query contain ids of customers.
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
    /// Records the head of `response`. The span, if there is one, ends with the body.
    fn answered<B>(self, response: &Response<B>) -> Option<End> {
        if !self.scope.is_recording() {
            return None;
        }
        let mut end = End { scope: self.scope, code: ReplyCode::unknown(self.is_grpc) };
        end.head(response.status(), response.headers());
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
    B: HttpBody<Data = Bytes>,
{
    type Output = Result<Response<Observed<B, End>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = match this.call {
            None => this.reply.poll(task),
            Some(call) => call.scope.poll(|| this.reply.poll(task)),
        };
        let response = ready!(polled)?;
        let end = this.call.take().and_then(|call| call.answered(&response));
        Poll::Ready(Ok(response.map(|body| Observed::new(body, end))))
    }
}

/// Ends the span of an answered call when it is dropped.
pub struct End {
    scope: Scope,
    code: ReplyCode,
}

impl Observer<Bytes> for End {
    fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.code.head(status, headers);
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code.trailers(trailers);
    }
}

impl End {
    fn set_status(&self, status: u16) {
        self.scope.set("http.response.status_code", i64::from(status));
        if (500..600).contains(&status) {
            self.scope.fail(status.to_string());
        }
    }

    fn set_grpc_code(&self, code: u16) {
        self.scope.set("rpc.grpc.status_code", i64::from(code));
        // By convention, only these codes are failures of a server.
        let code = Code::from_i32(code.into());
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
        match self.code.get() {
            // The client left before the trailers.
            None => self.set_grpc_code(CANCELLED),
            Some(code) if self.code.is_grpc() => self.set_grpc_code(code),
            Some(status) => self.set_status(status),
        }
        self.scope.end();
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn two_contexts_are_ignored_and_two_states_are_joined() {
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
