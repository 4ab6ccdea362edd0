//! The access log: a line for each call when it ends, under a separate log target. It is off unless the filter of the log names the target; then it
//! only costs a look at the filter.
//!
//! Of the input of a client, a line has only the id of the call: the path, whose parts and query name orders and customers, is represented by its
//! route.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tower::{Layer, Service};
use tracing::{Level, enabled};

use super::response::ResponseCode;
use crate::{
    server::{
        call::{Call, is_probe},
        meters::{CANCELLED, CLIENT_GONE, OTHER, Verb},
        observed::{Observed, Observer, Observing},
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
    B: HttpBody<Data = Bytes>,
{
    type Response = Response<Observed<B, Box<Line>>>;
    type Error = Infallible;
    type Future = Observing<S::Future, Box<Line>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The highest level that a line can have.
        if !enabled!(target: ACCESS, Level::WARN) {
            return Observing::new(self.inner.call(request), None);
        }
        let line = Line::begin(&mut request);
        let received = Arc::clone(&line.received_bytes);
        let request = request.map(|body| counted(body, received));
        Observing::new(self.inner.call(request), Some(Box::new(line)))
    }
}

/// The line of a call, written when this is dropped. The log adds the id of the call and its caller.
#[derive(Debug)]
pub struct Line {
    begun: Instant,
    verb: Verb,
    path: &'static str,
    peer: Option<SocketAddr>,
    is_probe: bool,
    code: ResponseCode,
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
            method = (!line.code.is_grpc()).then(|| line.verb.name()),
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
            is_probe,
            code: ResponseCode::unknown(call.protocol.is_grpc()),
            received_bytes: Arc::default(),
            sent_bytes: 0,
        }
    }

    /// The HTTP status, or the gRPC code; for a call without a response, the one that stands for a client that left.
    fn statuses(&self) -> (Option<u16>, Option<u16>) {
        if self.code.is_grpc() {
            (None, Some(self.code.get().unwrap_or(CANCELLED)))
        } else {
            (Some(self.code.get().unwrap_or(CLIENT_GONE)), None)
        }
    }

    /// The duration of the call in milliseconds, to the microsecond.
    fn took_ms(&self) -> f64 {
        (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e3
    }

    /// Whether the call was answered with an error. A client that leaves is not an error: most streams end that way.
    fn is_error(&self) -> bool {
        self.code.is_success() == Some(false)
    }
}

impl Observer<Bytes> for Line {
    fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.code.head(status, headers);
    }

    fn data(&mut self, data: &Bytes) {
        self.sent_bytes += data.len() as u64;
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code.trailers(trailers);
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

/// Counts the bytes of a request.
struct ReceivedBytes(Arc<AtomicU64>);

impl Observer<Bytes> for ReceivedBytes {
    fn data(&mut self, data: &Bytes) {
        self.0.fetch_add(data.len() as u64, Ordering::Relaxed);
    }
}

/// The body of a request, whose bytes are counted in `bytes`.
fn counted(body: Body, bytes: Arc<AtomicU64>) -> Body {
    if body.is_end_stream() { body } else { Body::new(Observed::new(body, Some(ReceivedBytes(bytes)))) }
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
        // This call is cancelled.
        let request = Request::builder().uri("/events").body(Body::empty()).expect("a request");
        drop(LogLayer.layer(tower::service_fn(answer)).call(request));
        let text = String::from_utf8(lines.0.lock().clone()).expect("text");
        let short = |line: &str| line.split_once(" took_ms=").expect("a time").0.trim().to_owned();
        text.lines().map(short).collect()
    }

    #[tokio::test]
    async fn errors_other_calls_and_probes_are_logged_at_three_levels() {
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
