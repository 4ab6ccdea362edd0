//! Serves an established connection to its end, over HTTP/2 or HTTP/1.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{
    Ends, HEADER_READ_TIMEOUT, ServerOptions,
    activity::{Activity, Counting},
    arrival::OnArrival,
    first_bytes::HTTP2_PREFACE,
    http1::{Announcing, Course, Watched},
    timed::Timed,
};
use crate::server::paced::{self, Pace};

/// How long an idle HTTP/1 connection stays open during shutdown, so that a client that is about to send is notified.
const ANNOUNCED_FOR: Duration = Duration::from_secs(1);
/// How long an HTTP/1 connection past its age has to end by itself.
const LAST_MOMENT: Duration = Duration::from_millis(100);
/// How long an HTTP/2 connection may be open without a call; an idle HTTP/1 connection ends after [`HEADER_READ_TIMEOUT`].
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// The time limit for its first call.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The time limit for a call that arrives during the eviction.
const EVICTION_GRACE: Duration = Duration::from_secs(1);
/// How long its client may take to acknowledge the GOAWAY, if it makes no call.
const EVICTION_ANSWER: Duration = Duration::from_millis(100);
/// The maximum size of the headers of one HTTP/2 request. Headers over [`MAX_METADATA_BYTES`](super::MAX_METADATA_BYTES) are refused by the protocol
/// servers, with a proper error for that one call; over this limit HTTP/2 itself answers, with a bare 431. A client that sends over a quarter more at
/// once has its connection closed, since a partly read header block makes all later ones unreadable.
///
/// A connection can hold less for this than for its messages: see the windows below.
const MAX_HEADER_LIST_BYTES: u32 = 1024 * 1024;
/// The maximum number of calls cancelled before they were processed. More of them at once end the connection and its other calls. The library's limit
/// (20) is too low: a client that cancels a batch of calls after a network pause reaches it.
const MAX_GIVEN_UP_CALLS: usize = 1_000;
/// The flow-control window of one HTTP/2 stream, and of all streams of a connection.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Serves an established connection, whose share of the bounds is in `options`.
pub async fn drive<I, S, B>(
    stream: I,
    is_http2: bool,
    service: S,
    options: ServerOptions,
    ends: Ends,
    activity: Arc<Activity>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error = axum::Error> + Send + 'static,
{
    let sending = options.event_streams.sending().clone();
    let stream = Timed::new(stream, Arc::clone(&activity), sending, options.pace.taken_within);
    if is_http2 {
        drive_http2(stream, service, options, ends.closed, activity).await;
    } else {
        drive_http1(stream, service, options, ends, activity).await;
    }
}

/// HTTP/2 sends GOAWAY: open calls finish, and the client makes further ones elsewhere.
async fn drive_http2<I, S, B>(
    stream: I,
    service: S,
    options: ServerOptions,
    stop: CancellationToken,
    activity: Arc<Activity>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error = axum::Error> + Send + 'static,
{
    let builder = protocol(&options).http2_only();
    let service = Counting { inner: service, activity: Arc::clone(&activity) };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), OnArrival(service)));
    let age = age_limit(options.max_connection_age);
    tokio::select! {
        // A protocol error of a client on its own connection is not worth a log line.
        _ = connection.as_mut() => return,
        // The library waits for the preface without end, and does not respond before it has arrived.
        () = lacks_preface(&activity) => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
            return;
        }
        () = activity.is_idle_for(IDLE_TIMEOUT, FIRST_CALL_TIMEOUT) => connection.as_mut().graceful_shutdown(),
        () = activity.is_evicted() => {
            // The library waits for the HTTP/2 preface, and then for an answer to its GOAWAY: a silent client must not keep its permit by that.
            if activity.read_bytes() < HTTP2_PREFACE.len() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            if tokio::time::timeout(EVICTION_ANSWER, connection.as_mut()).await.is_err() && activity.is_busy() {
                let _ = tokio::time::timeout(EVICTION_GRACE, connection).await;
            }
            return;
        }
        () = age => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(options.max_connection_age_grace, connection).await;
}

/// Ends when a client has taken too long to send the HTTP/2 preface.
async fn lacks_preface(activity: &Activity) {
    tokio::time::sleep(HEADER_READ_TIMEOUT).await;
    if activity.read_bytes() >= HTTP2_PREFACE.len() {
        std::future::pending::<()>().await;
    }
}

/// HTTP/1 can announce the end only in a response: the next one does.
async fn drive_http1<I, S, B>(stream: I, service: S, options: ServerOptions, ends: Ends, activity: Arc<Activity>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error = axum::Error> + Send + 'static,
{
    let course = Arc::new(Course::of(Arc::clone(&activity)));
    let stream = TokioIo::new(Watched::new(stream, Arc::clone(&course)));
    let service = Announcing { inner: service, course: Arc::clone(&course), announced: ends.announced.clone() };
    let builder = protocol(&options).http1_only();
    let mut connection = pin!(builder.serve_connection(stream, OnArrival(service)));
    let is_old = tokio::select! {
        _ = connection.as_mut() => return,
        () = ends.announced.cancelled() => false,
        () = activity.is_evicted() => {
            course.announce();
            course.end_when_idle();
            let _ = tokio::time::timeout(EVICTION_GRACE, connection).await;
            return;
        }
        () = age_limit(options.max_connection_age) => true,
    };
    course.announce();
    let is_closed = async {
        let announced_at = tokio::time::Instant::now();
        ends.closed.cancelled().await;
        tokio::time::sleep_until(announced_at + ANNOUNCED_FOR).await;
    };
    let is_over = async {
        tokio::select! {
            () = is_closed => false,
            () = tokio::time::sleep(options.max_connection_age_grace), if is_old => true,
        }
    };
    let is_over = tokio::select! {
        _ = connection.as_mut() => return,
        is_over = is_over => is_over,
    };
    course.end_when_idle();
    if is_over {
        let _ = tokio::time::timeout(LAST_MOMENT, connection).await;
    } else {
        let _ = connection.await;
    }
}

/// Runs each HTTP/2 stream as long as its client reads it.
#[derive(Clone, Copy, Debug)]
struct StreamExecutor(Pace);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        tokio::spawn(paced::drive(stream, self.0));
    }
}

fn protocol(options: &ServerOptions) -> auto::Builder<StreamExecutor> {
    let mut builder = auto::Builder::new(StreamExecutor(options.pace));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_GIVEN_UP_CALLS)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout);
    builder
}

/// Ends up to a tenth earlier or later, so that the clients of a restarted node do not all return at once.
async fn age_limit(age: Option<Duration>) {
    match age {
        Some(age) => tokio::time::sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tokio::{io::AsyncWriteExt as _, time::Instant};

    use super::*;
    use crate::{
        application::{admission::Admission, byte_budget::ByteBudget},
        server::{
            EventStreams,
            listener::{ConnectionMeters, EVICTED_AFTER, activity::Connections},
            meters::CallMeters,
        },
        telemetry::metrics::Metrics,
    };

    fn options() -> ServerOptions {
        ServerOptions {
            max_connections: 1,
            max_concurrent_streams: 10,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_connection_age: None,
            max_connection_age_grace: Duration::from_secs(30),
            request_bytes: ByteBudget::unbounded(),
            event_streams: EventStreams::new(1, 1),
            admission: Arc::new(Admission::new(1)),
            pace: Pace::DEFAULT,
            meters: CallMeters::new(&Metrics::new()),
            connections: ConnectionMeters::none(),
        }
    }

    /// How long a client that has sent only `said` keeps its connection when another client needs it.
    async fn kept_for(said: &[u8]) -> Duration {
        let (connections, service) = (Connections::default(), tower::service_fn(answer));
        let entered = connections.enter();
        let (mut client, stream) = tokio::io::duplex(64 * 1024);
        client.write_all(said).await.expect("sent");
        let serving = drive(stream, true, service, options(), Ends::default(), Arc::clone(&entered.activity));
        let serving = tokio::spawn(serving);
        tokio::time::sleep(EVICTED_AFTER).await;
        let needed = Instant::now();
        assert!(connections.evict_idlest(EVICTED_AFTER));
        serving.await.expect("no panic");
        needed.elapsed()
    }

    async fn answer(_request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        Ok(Response::new(Body::empty()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_does_not_delay_the_one_that_needs_its_connection() {
        let begun = [&HTTP2_PREFACE[..], b"\0\0\0\x04\0\0\0\0\0"].concat();
        for silent in [&b""[..], &HTTP2_PREFACE[..20]] {
            assert_eq!(kept_for(silent).await, Duration::ZERO, "{silent:?}");
        }
        let kept = kept_for(&begun).await;
        assert!(kept <= EVICTION_ANSWER + Duration::from_millis(1), "{kept:?}: it has made no call");
    }
}
