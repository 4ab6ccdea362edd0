//! The shared listener of both protocols: limits on connections, keepalive, age, and a drain that lets calls finish.

mod activity;
pub mod descriptors;
mod http1;
mod timed;

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use self::{
    activity::{Activity, Connections, Counting, Entered},
    http1::{Announcing, Course, Watched},
    timed::Timed,
};
use super::{
    EventStreams,
    connection::Connection,
    paced::{self, Pace},
    tls::{Tls, is_http2, refusal},
};
use crate::{
    application::{admission::Admission, byte_budget::ByteBudget},
    telemetry::outage::{Line, Outage},
};

/// The maximum number of connections in the kernel's accept queue.
const LISTEN_BACKLOG: u32 = 1_024;
/// The time limit for a client to start its protocol, and then to send the headers of an HTTP/1 request.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle HTTP/1 connection stays open during shutdown, so that a client that is about to send is notified.
const ANNOUNCED_FOR: Duration = Duration::from_secs(1);
/// How long shutdown waits for one more connection that the kernel has accepted.
const LAST_ACCEPT: Duration = Duration::from_millis(10);
/// How long a new connection may take to send its first bytes during shutdown.
const BEGINS_AT_END_WITHIN: Duration = Duration::from_millis(500);
/// How long an HTTP/1 connection past its age has to end by itself.
const LAST_MOMENT: Duration = Duration::from_millis(100);
/// How long an HTTP/2 connection may be open without a call; an idle HTTP/1 connection ends after [`HEADER_READ_TIMEOUT`].
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// The time limit for its first call.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection must have been idle to be evicted when all permits are taken.
const EVICTED_AFTER: Duration = Duration::from_secs(1);
/// The time limit for a call that arrives during the eviction.
const EVICTION_GRACE: Duration = Duration::from_secs(1);
/// How long its client may take to answer that it has understood, if it makes no call.
const EVICTION_ANSWER: Duration = Duration::from_millis(100);
/// How often to look for such a one.
const EVICTION_INTERVAL: Duration = Duration::from_millis(50);
/// The poll interval for a client that has sent only the beginning of HTTP/2.
const PREFACE_POLL: Duration = Duration::from_millis(20);
/// The record type that begins every TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long a connection closed for writing is still read: closing a socket with unread bytes resets the connection, and the client loses unread
/// data.
const LINGER: Duration = Duration::from_secs(1);
/// The maximum number of bytes read then.
const LINGER_BYTES: u64 = 1024 * 1024;
/// The maximum number of clients with a failed handshake that are awaited concurrently.
static LINGERING: Semaphore = Semaphore::const_new(256);
/// Rate-limits log lines about refused clients.
static REFUSED_HANDSHAKES: Outage = Outage::new();
static TLS_IN_THE_CLEAR: Outage = Outage::new();
/// Rate-limits log lines about failed accepts.
static NOT_ACCEPTED: Outage = Outage::new();
/// The bytes that begin every HTTP/2 connection.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The maximum size of the headers of one HTTP/2 request. Headers over [`MAX_METADATA_BYTES`](super::MAX_METADATA_BYTES) are refused by the protocol
/// servers, with a proper error for that one call; over this limit HTTP/2 itself answers, with a bare 431. A client that sends over a quarter more at
/// once has its connection closed, since a partly read header block makes all later ones unreadable.
///
/// A connection can hold less for this than for its messages: see the windows below.
const MAX_HEADER_LIST_BYTES: u32 = 1024 * 1024;
/// The maximum number of calls cancelled before they were processed. More at once end the connection, and its other calls: a client that cancels a
/// batch of calls after a network pause reaches the library's limit (20).
const MAX_GIVEN_UP_CALLS: usize = 1_000;
/// The flow-control window of one HTTP/2 stream, and of all streams of a connection.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The maximum bytes of requests of a node: incomplete ones, and those being answered.
pub const REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// The same for one connection.
const CONNECTION_REQUEST_BYTES: usize = REQUEST_BYTES / 4;

/// The bounds of the listener.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The maximum number of open connections; one more waits in the listen backlog.
    pub max_connections: usize,
    /// The maximum number of open calls on one connection.
    pub max_concurrent_streams: u32,
    /// The interval of keepalive pings to a silent HTTP/2 client.
    pub keepalive_interval: Duration,
    /// The timeout of a keepalive ping.
    pub keepalive_timeout: Duration,
    /// The age at which a client is asked to reconnect; `None`: never.
    pub max_connection_age: Option<Duration>,
    /// How long calls may continue after that.
    pub max_connection_age_grace: Duration,
    /// The budget of request bytes of all connections.
    pub request_bytes: ByteBudget,
    /// The event streams of all connections.
    pub event_streams: EventStreams,
    /// What lets calls in: connections share it fairly.
    pub admission: Arc<Admission>,
    /// How long clients have to take what is sent to them.
    pub pace: Pace,
}

/// Binds a listener with an explicit backlog.
///
/// # Errors
/// The error of the operating system, for example that the address is in use.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for connections of the previous process to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// The signals that end the connections of a server.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// From then on, HTTP/1 responses announce the end of their connection, which ends after them.
    pub announced: CancellationToken,
    /// No more connections are accepted; open calls finish, and idle connections are closed.
    pub closed: CancellationToken,
}

/// Serves `service` on `listener` until `ends` is signalled; then lets open calls finish. Ends when all connections have ended; drop the future to
/// end them at once.
///
/// With `tls` every connection requires TLS.
pub async fn serve<S>(listener: TcpListener, tls: Option<Tls>, service: S, options: ServerOptions, ends: Ends)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let places = Arc::new(Semaphore::new(options.max_connections));
    let open = Connections::default();
    let connections = TaskTracker::new();
    let aborted = CancellationToken::new();
    // Dropping this future ends the connections, whose tasks are separate.
    let _abort_on_drop = aborted.clone().drop_guard();
    let spawn = |stream, place| {
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let entered: Entered = open.enter();
        let activity = Arc::clone(&entered.activity);
        let connection = connection(stream, acceptor, service.clone(), options.clone(), ends.clone(), activity);
        let aborted = aborted.clone();
        connections.spawn(async move {
            let _place: OwnedSemaphorePermit = place;
            let _entered = entered;
            tokio::select! {
                () = connection => {}
                () = aborted.cancelled() => {}
            }
        });
    };
    while let Some((stream, place)) = accept(&listener, &places, &open, &ends.closed).await {
        spawn(stream, place);
    }
    for _ in 0..LISTEN_BACKLOG {
        let Some((stream, place)) = accept_waiting(&listener, &places).await else { break };
        spawn(stream, place);
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The next connection that gets a permit; `None` once the server stops.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    open: &Connections,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let next = async {
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    // Out of file descriptors, or the client is already gone: a retry after a moment may work.
                    if let Some(Line { unsaid }) = NOT_ACCEPTED.failed(&error.to_string()) {
                        tracing::warn!(%error, unsaid, "cannot accept a connection");
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        Some((stream, place(places, open).await?))
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        accepted = next => accepted,
    }
}

/// A permit for one more connection: a free one, or that of an evicted idle connection.
async fn place(places: &Arc<Semaphore>, open: &Connections) -> Option<OwnedSemaphorePermit> {
    if let Ok(free) = Arc::clone(places).try_acquire_owned() {
        return Some(free);
    }
    loop {
        // At once: a client that connects again each time that its connection is closed takes no longer for that than others.
        open.evict_idlest(EVICTED_AFTER);
        let free = Arc::clone(places).acquire_owned();
        match tokio::time::timeout(EVICTION_INTERVAL, free).await {
            Ok(place) => return place.ok(),
            Err(_all_taken) => {}
        }
    }
}

/// The next connection that the kernel accepted before the server stopped, if there is a permit: its client may have sent a request, which would end
/// in a reset.
async fn accept_waiting(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).try_acquire_owned().ok()?;
    let (stream, _) = tokio::time::timeout(LAST_ACCEPT, listener.accept()).await.ok()?.ok()?;
    Some((stream, place))
}

/// Serves one connection to its end.
async fn connection<S>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: S,
    options: ServerOptions,
    ends: Ends,
    activity: Arc<Activity>,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    // Small replies must not be delayed by Nagle's algorithm.
    let _ = stream.set_nodelay(true);
    let shared = Arc::new(Connection {
        peer: stream.peer_addr().ok(),
        request_bytes: options.request_bytes.share(CONNECTION_REQUEST_BYTES),
        event_streams: options.event_streams.of_connection(),
        caller: options.admission.caller(),
    });
    let service = service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&shared));
        request.map(Body::new)
    });
    match tls {
        None => {
            if let Some(Ok(protocol)) = begun(speaks(&stream), &ends.closed, &activity).await {
                if protocol == Protocol::Tls {
                    tell_refused(&TLS_IN_THE_CLEAR, &stream, "it speaks TLS, which this port does not: see --tls-cert");
                }
                drive(stream, protocol == Protocol::Http2, service, options, ends, activity).await;
            }
        }
        Some(acceptor) => match begun(acceptor.accept(stream).into_fallible(), &ends.closed, &activity).await {
            Some(Ok(stream)) => {
                let is_http2 = is_http2(&stream);
                drive(stream, is_http2, service, options, ends, activity).await;
            }
            Some(Err((error, stream))) => {
                if let Some(why) = refusal(&error) {
                    tell_refused(&REFUSED_HANDSHAKES, &stream, &why);
                    linger(stream).await;
                }
            }
            None => {}
        },
    }
}

/// The result of `beginning`; `None` if it takes too long, the connection is evicted, or the server stops.
async fn begun<T>(beginning: impl Future<Output = T>, stop: &CancellationToken, activity: &Activity) -> Option<T> {
    let is_over = async {
        stop.cancelled().await;
        // Requests that the client has already sent are answered.
        tokio::time::sleep(BEGINS_AT_END_WITHIN).await;
    };
    tokio::select! {
        begun = tokio::time::timeout(HEADER_READ_TIMEOUT, beginning) => begun.ok(),
        () = is_over => None,
        () = activity.is_evicted() => None,
    }
}

/// Serves an established connection.
async fn drive<I, S>(stream: I, is_http2: bool, service: S, options: ServerOptions, ends: Ends, activity: Arc<Activity>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let stream = Timed::new(stream, Arc::clone(&activity), options.pace.taken_within);
    if is_http2 {
        drive_http2(stream, service, options, ends.closed, activity).await;
    } else {
        drive_http1(stream, service, options, ends, activity).await;
    }
}

/// HTTP/2 sends GOAWAY: open calls finish, and the client makes further ones elsewhere.
async fn drive_http2<I, S>(
    stream: I,
    service: S,
    options: ServerOptions,
    stop: CancellationToken,
    activity: Arc<Activity>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let builder = protocol(&options).http2_only();
    let service = Counting { inner: service, activity: Arc::clone(&activity) };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
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
            // The library waits for what HTTP/2 begins with, and then for an answer to its GOAWAY: who keeps silent keeps no place by that.
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
async fn drive_http1<I, S>(stream: I, service: S, options: ServerOptions, ends: Ends, activity: Arc<Activity>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let course = Arc::new(Course::of(Arc::clone(&activity)));
    let stream = TokioIo::new(Watched::new(stream, Arc::clone(&course)));
    let service = Announcing { inner: service, course: Arc::clone(&course), announced: ends.announced.clone() };
    let builder = protocol(&options).http1_only();
    let mut connection = pin!(builder.serve_connection(stream, TowerToHyperService::new(service)));
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

/// The protocol of a client's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    /// A TLS handshake on a plaintext port.
    Tls,
}

/// Waits until the client has sent enough to detect its protocol; later code has no time limit for that. A silent connection would hold its permit
/// for ever.
async fn speaks(stream: &TcpStream) -> io::Result<Protocol> {
    let mut head = [0; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut head).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head[0] == TLS_HANDSHAKE {
            return Ok(Protocol::Tls);
        }
        if !HTTP2_PREFACE.starts_with(&head[..length]) {
            return Ok(Protocol::Http1);
        }
        if length == head.len() {
            return Ok(Protocol::Http2);
        }
        tokio::time::sleep(PREFACE_POLL).await;
    }
}

/// Logs why a client is refused, at a limited rate: clients may retry as often as they like.
fn tell_refused(outage: &Outage, client: &TcpStream, why: &str) {
    if let Some(Line { unsaid }) = outage.failed(why) {
        let client = client.peer_addr().map(|address| address.to_string()).ok();
        tracing::info!(client, unsaid, "a client is refused: {why}");
    }
}

/// Ends a connection on which an alert was sent: pending input is read first, since the connection would otherwise be reset, and the client would not
/// see why it was refused.
async fn linger(mut stream: TcpStream) {
    // Bounded, so that useless clients do not hold connection permits for long.
    let Ok(_place) = LINGERING.try_acquire() else { return };
    let rest = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The outcome does not matter.
    let _ = tokio::time::timeout(LINGER, rest).await;
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
    use tokio::time::Instant;

    use super::*;

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
        }
    }

    /// How long a client that has sent `said` and nothing more keeps its connection when another one needs it.
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
