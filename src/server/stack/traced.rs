//! The span of a call, and the trace context that its caller sends in `traceparent` and `tracestate`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tonic::Code;
use tower::{Layer, Service};

use super::response::ResponseCode;
use crate::{
    server::{
        call::{Call, is_probe},
        meters::{CANCELLED, OTHER, Verb},
        observed::{Observed, Observer},
    },
    telemetry::{
        call,
        traces::{KeyValue, SpanContext, SpanScope, Traces, context},
    },
};

/// The headers of the trace context (W3C).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

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
    type Response = Response<Observed<B, TracedCall>>;
    type Error = Infallible;
    type Future = Recorded<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let call = begin(&self.traces, &mut request);
        // Called outside of the scope: work before the first poll makes no spans.
        Recorded { response: self.inner.call(request), call }
    }
}

/// Begins the span of a call; `None` if there is nothing to record, nor a context to pass on.
fn begin(traces: &Traces, request: &mut Request<Body>) -> Option<TracedCall> {
    let caller = caller(request.headers());
    let scope = if is_probe(request.uri().path()) { Traces::off().call(caller) } else { traces.call(caller) }?;
    call::set_trace(scope.trace_id());
    let (is_grpc, path) = Call::read(request, |call| (call.protocol.is_grpc(), call.called.path()));
    if scope.is_recording() {
        if is_grpc { describe_rpc(&scope, path) } else { describe_http(&scope, Verb::of(request.method()), path) }
    }
    Some(TracedCall { scope, code: ResponseCode::unknown(is_grpc), is_answered: false })
}

/// The context of the caller; `None` if the header is repeated.
fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (Some(traceparent), None) = (given.next(), given.next()) else { return None };
    // The state may be split into several headers.
    let state: Vec<_> = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()).collect();
    context::parse(traceparent.to_str().ok()?, (!state.is_empty()).then(|| state.join(",")).as_deref())
}

fn describe_rpc(scope: &SpanScope, path: Option<&'static str>) {
    let (service, method) = path.and_then(|path| path.strip_prefix('/')?.split_once('/')).unwrap_or((OTHER, OTHER));
    let attributes = [
        KeyValue::new("rpc.system", "grpc"),
        KeyValue::new("rpc.service", service),
        KeyValue::new("rpc.method", method),
    ];
    scope.describe(format!("{service}/{method}"), attributes);
}

/// `route` is the template of the path: the path itself and the query contain ids of customers.
fn describe_http(scope: &SpanScope, verb: Verb, route: Option<&'static str>) {
    let name = if verb == Verb::Other { "HTTP" } else { verb.name() };
    let method = KeyValue::new("http.request.method", verb.name());
    match route {
        None => scope.describe(name, [method]),
        Some(route) => scope.describe(format!("{name} {route}"), [method, KeyValue::new("http.route", route)]),
    }
}

pin_project! {
    /// A pending response, in the scope of its call.
    #[must_use = "futures do nothing unless polled"]
    pub struct Recorded<F> {
        #[pin]
        response: F,
        call: Option<TracedCall>,
    }
}

impl<F, B> Future for Recorded<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: HttpBody<Data = Bytes>,
{
    type Output = Result<Response<Observed<B, TracedCall>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = match this.call {
            None => this.response.poll(task),
            Some(call) => call.scope.poll(|| this.response.poll(task)),
        };
        let response = ready!(polled)?;
        // A context that is only passed on has no use for the response.
        let mut call = this.call.take().filter(|call| call.scope.is_recording());
        if let Some(call) = &mut call {
            call.head(response.status(), response.headers());
        }
        Poll::Ready(Ok(response.map(|body| Observed::new(body, call))))
    }
}

/// A call with its span or the context of its caller. The span ends when this is dropped.
pub struct TracedCall {
    scope: SpanScope,
    code: ResponseCode,
    is_answered: bool,
}

impl Observer<Bytes> for TracedCall {
    fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.is_answered = true;
        self.code.head(status, headers);
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code.trailers(trailers);
    }
}

impl TracedCall {
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

impl Drop for TracedCall {
    fn drop(&mut self) {
        match self.code.get() {
            Some(code) if self.code.is_grpc() => self.set_grpc_code(code),
            Some(status) => self.set_status(status),
            // The client left before the code. Most streams end that way, once they have begun.
            None => {
                if self.code.is_grpc() {
                    self.set_grpc_code(CANCELLED);
                }
                if !self.is_answered {
                    self.scope.fail_unfinished();
                }
            }
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
