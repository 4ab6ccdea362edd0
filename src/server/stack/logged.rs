//! The access log: a line for each call at its end, under a log target of its own. It is off unless the filter of the log names the target, and costs a
//! look at the filter then.
//!
//! A line has nothing of what a client has sent but the id of the call: the route stands for the path, whose parts and query name orders and customers.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::{Level, enabled};

use super::reply::code_in;
use crate::{
    server::{
        call::{Call, is_probe},
        meters::{CANCELLED, CLIENT_GONE, OTHER, Verb},
    },
    telemetry::logs::ACCESS,
};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct LogLayer;

impl<S> Layer<S> for LogLayer {
    type Service = Logged<S>;

    fn layer(&self, inner: S) -> Logged<S> {
        Logged { inner }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Logged<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Logged<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<LoggedBody<B>>;
    type Error = Infallible;
    type Future = LoggedReply<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The highest level that a line can have.
        if !enabled!(target: ACCESS, Level::WARN) {
            return LoggedReply { reply: self.inner.call(request), line: None };
        }
        let line = Line::begin(&mut request);
        let received = Arc::clone(&line.received_bytes);
        let request = request.map(|inner| ReceivedBody::of(inner, received));
        LoggedReply { reply: self.inner.call(request), line: Some(Box::new(line)) }
    }
}

/// The line of a call, which is written when it is dropped. The log adds the id of the call and its caller.
#[derive(Debug)]
struct Line {
    begun: Instant,
    verb: Verb,
    path: &'static str,
    peer: Option<SocketAddr>,
    is_grpc: bool,
    is_probe: bool,
    /// The status of HTTP or the code of gRPC; `None` before there is one.
    code: Option<u16>,
    received_bytes: Arc<AtomicU64>,
    sent_bytes: u64,
}

/// Writes a line at a level, which must be a constant.
macro_rules! write_at {
    ($level:expr, $line:expr) => {{
        let line: &Line = $line;
        let (status, grpc_status) = line.statuses();
        tracing::event!(
            target: ACCESS,
            $level,
            method = (!line.is_grpc).then(|| line.verb.name()),
            path = line.path,
            status,
            grpc_status,
            took_ms = line.took_ms(),
            received_bytes = line.received_bytes.load(Ordering::Relaxed),
            sent_bytes = line.sent_bytes,
            peer = line.peer.map(|peer| peer.to_string()),
            "call"
        );
    }};
}

impl Line {
    fn begin(request: &mut Request<Body>) -> Self {
        let (verb, is_probe) = (Verb::of(request.method()), is_probe(request.uri().path()));
        let call = Call::of_request(request);
        Self {
            begun: Instant::now(),
            verb,
            path: call.called.path().unwrap_or(OTHER),
            peer: call.connection.peer,
            is_grpc: call.protocol.is_grpc(),
            is_probe,
            code: None,
            received_bytes: Arc::default(),
            sent_bytes: 0,
        }
    }

    /// Takes the code of gRPC from `headers`, if they have one.
    fn code_of(&mut self, headers: &HeaderMap) {
        if let Some(code) = code_in(headers) {
            self.code = Some(code);
        }
    }

    /// The status of HTTP, or the code of gRPC; if there was none, that of a client that has gone.
    fn statuses(&self) -> (Option<u16>, Option<u16>) {
        if self.is_grpc {
            (None, Some(self.code.unwrap_or(CANCELLED)))
        } else {
            (Some(self.code.unwrap_or(CLIENT_GONE)), None)
        }
    }

    /// In milliseconds, to the microsecond.
    fn took_ms(&self) -> f64 {
        (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e3
    }

    /// Whether the call was answered with an error. A client that leaves is none: most streams end so.
    fn is_error(&self) -> bool {
        self.code.is_some_and(|code| if self.is_grpc { code != 0 } else { code >= 400 })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_error() {
            write_at!(Level::WARN, self);
        } else if self.is_probe {
            write_at!(Level::DEBUG, self);
        } else {
            write_at!(Level::INFO, self);
        }
    }
}

/// The body of a request, whose bytes are counted.
struct ReceivedBody {
    inner: Body,
    bytes: Arc<AtomicU64>,
}

impl ReceivedBody {
    /// The body `inner`, counted in `bytes`.
    fn of(inner: Body, bytes: Arc<AtomicU64>) -> Body {
        if inner.is_end_stream() { inner } else { Body::new(Self { inner, bytes }) }
    }
}

impl HttpBody for ReceivedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(task));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// A pending response, whose call has a line at its end.
    #[must_use = "futures do nothing unless polled"]
    pub struct LoggedReply<F> {
        #[pin]
        reply: F,
        // `None` while the access log is off.
        line: Option<Box<Line>>,
    }
}

impl<F, B> Future for LoggedReply<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<LoggedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.reply.poll(task))?;
        let mut line = this.line.take();
        if let Some(line) = &mut line {
            if line.is_grpc {
                line.code_of(response.headers());
            } else {
                line.code = Some(response.status().as_u16());
            }
        }
        Poll::Ready(Ok(response.map(|body| LoggedBody { body, line })))
    }
}

pin_project! {
    /// The body of a reply. The line of its call is written when it is dropped.
    pub struct LoggedBody<B> {
        #[pin]
        body: B,
        line: Option<Box<Line>>,
    }
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error>> HttpBody for LoggedBody<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(task));
        if let Some(line) = this.line
            && let Some(Ok(frame)) = &frame
        {
            if let Some(data) = frame.data_ref() {
                line.sent_bytes += data.len() as u64;
            } else if let Some(trailers) = frame.trailers_ref() {
                line.code_of(trailers);
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

#[cfg(test)]
mod tests {
    use std::io;

    use parking_lot::Mutex;
    use tracing_subscriber::EnvFilter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The levels and routes of the lines that `filter` lets pass, of calls that end in every way.
    async fn logged(filter: &str) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_ansi(false).without_time();
        let _guard = tracing::subscriber::set_default(log.with_writer(move || writer.clone()).finish());
        let answer = |request: Request<Body>| async move {
            let status = if request.uri().path() == "/stats" { 404 } else { 200 };
            Ok::<_, Infallible>(Response::builder().status(status).body(Body::empty()).expect("a response"))
        };
        for path in ["/stats", "/orders/7?x=1", "/health/live"] {
            let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
            drop(LogLayer.layer(tower::service_fn(answer)).call(request).await);
        }
        // Nobody waits for this one.
        let request = Request::builder().uri("/events").body(Body::empty()).expect("a request");
        drop(LogLayer.layer(tower::service_fn(answer)).call(request));
        let text = String::from_utf8(lines.0.lock().clone()).expect("text");
        let short = |line: &str| line.split_once(" took_ms=").expect("a time").0.trim().to_owned();
        text.lines().map(short).collect()
    }

    #[tokio::test]
    async fn errors_others_and_probes_have_lines_of_three_levels() {
        let error = "WARN access: call method=\"GET\" path=\"/stats\" status=404";
        let good = "INFO access: call method=\"GET\" path=\"/orders/{id}\" status=200";
        let gone = "INFO access: call method=\"GET\" path=\"/events\" status=499";
        let probe = "DEBUG access: call method=\"GET\" path=\"/health/live\" status=200";
        assert_eq!(logged("access=debug").await, [error, good, probe, gone]);
        assert_eq!(logged("access=info").await, [error, good, gone]);
        assert_eq!(logged("access=warn").await, [error]);
        assert!(logged("info,access=off").await.is_empty());
    }
}
