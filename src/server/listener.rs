//! The shared listener of both APIs: limits on connections, keepalive, age, and a drain that lets calls finish.

mod activity;
mod arrival;
mod counted;
pub mod descriptors;
mod drive;
mod first_bytes;
mod http1;
mod timed;
mod unread;

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

pub use self::counted::ConnectionMeters;
use self::{
    activity::{Activity, Connections, Entered},
    counted::counted,
    drive::drive,
    first_bytes::{Protocol, linger, log_refused, speaks},
    unread::ReturnedBody,
};
use super::{
    EventStreams,
    call::Call,
    connection::Connection,
    last_caller::LastCaller,
    meters::CallMeters,
    paced::Pace,
    tls::{Tls, is_http2, peer_certificate, refusal},
};
use crate::{
    application::{admission::Admission, byte_budget::ByteBudget},
    identity::certificates::PeerCertificate,
    telemetry::{
        metrics::Metrics,
        outage::{Line, Outage},
    },
};

/// The maximum number of connections in the kernel's accept queue.
const LISTEN_BACKLOG: u32 = 1_024;
/// The time limit for a client to start its protocol, and then to send the headers of an HTTP/1 request.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long shutdown waits for one more connection that the kernel has accepted.
const LAST_ACCEPT: Duration = Duration::from_millis(10);
/// How long a new connection may take to send its first bytes during shutdown.
const FIRST_BYTES_DURING_SHUTDOWN: Duration = Duration::from_millis(500);
/// How long a connection must have been idle to be evicted when all permits are taken.
const EVICTED_AFTER: Duration = Duration::from_secs(1);
/// If none is idle: how long the client of a connection with calls must have sent nothing. An open call must not make a connection immune: its client
/// resumes a stream elsewhere.
const SILENT_AFTER: Duration = Duration::from_secs(20);
/// The interval at which such a connection is looked for.
const EVICTION_INTERVAL: Duration = Duration::from_millis(50);
/// Rate-limits log lines about refused clients.
static REFUSED_HANDSHAKES: Outage = Outage::new();
static TLS_IN_THE_CLEAR: Outage = Outage::new();
/// Rate-limits log lines about failed accepts.
static NOT_ACCEPTED: Outage = Outage::new();

/// The maximum bytes of requests of a node: incomplete ones, and those being answered.
pub const REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// The maximum for one connection.
const CONNECTION_REQUEST_BYTES: usize = REQUEST_BYTES / 4;

/// The bounds of the listener.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The maximum number of open connections; further ones wait in the listen backlog.
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
    /// The admission of calls, which connections share fairly.
    pub admission: Arc<Admission>,
    /// The time limits for clients to read replies.
    pub pace: Pace,
    /// The meters of calls.
    pub meters: Arc<CallMeters>,
    /// The meters of connections.
    pub connections: ConnectionMeters,
}

impl ServerOptions {
    /// The same bounds, with connections counted for `port`.
    #[must_use]
    pub fn of_port(&self, metrics: &Metrics, port: &'static str) -> Self {
        let connections = metrics::with_local_recorder(metrics, || ConnectionMeters::of(port));
        Self { connections, ..self.clone() }
    }
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
pub async fn serve<S, B>(listener: TcpListener, tls: Option<Tls>, service: S, options: ServerOptions, ends: Ends)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error = axum::Error> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(options.max_connections));
    let open = Connections::default();
    let connections = TaskTracker::new();
    let aborted = CancellationToken::new();
    // Dropping this future ends the connections, whose tasks are separate.
    let _abort_on_drop = aborted.clone().drop_guard();
    let spawn = |stream, permit| {
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let entered: Entered = open.enter();
        let counted = options.connections.accepted();
        let activity = Arc::clone(&entered.activity);
        let connection = connection(stream, acceptor, service.clone(), options.clone(), ends.clone(), activity);
        let aborted = aborted.clone();
        connections.spawn(async move {
            let _permit: OwnedSemaphorePermit = permit;
            let _entered = entered;
            let _counted = counted;
            tokio::select! {
                () = connection => {}
                () = aborted.cancelled() => {}
            }
        });
    };
    while let Some((stream, permit)) = accept(&listener, &permits, &open, &ends.closed).await {
        spawn(stream, permit);
    }
    for _ in 0..LISTEN_BACKLOG {
        let Some((stream, permit)) = accept_waiting(&listener, &permits).await else { break };
        spawn(stream, permit);
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The next connection that gets a permit; `None` once the server stops.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
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
        Some((stream, permit(permits, open).await?))
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        accepted = next => accepted,
    }
}

/// A permit for one more connection: a free one, or that of an evicted connection.
async fn permit(permits: &Arc<Semaphore>, open: &Connections) -> Option<OwnedSemaphorePermit> {
    if let Ok(free) = Arc::clone(permits).try_acquire_owned() {
        return Some(free);
    }
    loop {
        // Evicts before the first wait: a client that reconnects each time its connection is closed waits no longer than others.
        if !open.evict_idlest(EVICTED_AFTER) {
            open.evict_most_silent(SILENT_AFTER);
        }
        let free = Arc::clone(permits).acquire_owned();
        match tokio::time::timeout(EVICTION_INTERVAL, free).await {
            Ok(permit) => return permit.ok(),
            Err(_all_taken) => {}
        }
    }
}

/// The next connection that the kernel accepted before the server stopped, if there is a permit: its client may have sent a request, which would end
/// in a reset.
async fn accept_waiting(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).try_acquire_owned().ok()?;
    let (stream, _) = tokio::time::timeout(LAST_ACCEPT, listener.accept()).await.ok()?.ok()?;
    Some((stream, permit))
}

/// Serves one connection to its end.
async fn connection<S, B>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: S,
    options: ServerOptions,
    ends: Ends,
    activity: Arc<Activity>,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error = axum::Error> + Send + 'static,
{
    // Small replies must not be delayed by Nagle's algorithm.
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().ok();
    let options = ServerOptions { event_streams: options.event_streams.of_connection(), ..options };
    let shared = |certificate: Option<PeerCertificate>, options: &ServerOptions| {
        let unread = Arc::clone(&activity.unread);
        let shared = Arc::new(Connection {
            peer,
            certificate,
            last_caller: LastCaller::default(),
            request_bytes: options.request_bytes.share(CONNECTION_REQUEST_BYTES),
            event_streams: options.event_streams.clone(),
            caller: options.admission.caller(),
            meters: Arc::clone(&options.meters),
        });
        service.map_request(move |mut request: Request<Incoming>| {
            let call = Call::begin(&shared, &request);
            let meter = Arc::clone(&call.meter);
            request.extensions_mut().insert(call);
            let (head, body) = request.into_parts();
            let body = counted(body, meter);
            let is_http1 = head.version < Version::HTTP_2;
            let body = if is_http1 { ReturnedBody::of(body, &head.headers, &unread) } else { Body::new(body) };
            Request::from_parts(head, body)
        })
    };
    match tls {
        None => {
            if let Some(Ok(protocol)) = begun(speaks(&stream), &ends.closed, &activity).await {
                if protocol == Protocol::Tls {
                    log_refused(
                        &TLS_IN_THE_CLEAR,
                        &stream,
                        "it speaks TLS, which this port does not speak; see --tls-cert",
                    );
                }
                let service = shared(None, &options);
                drive(stream, protocol == Protocol::Http2, service, options, ends, activity).await;
            }
        }
        Some(acceptor) => match begun(acceptor.accept(stream).into_fallible(), &ends.closed, &activity).await {
            Some(Ok(stream)) => {
                let is_http2 = is_http2(&stream);
                let service = shared(peer_certificate(&stream), &options);
                drive(stream, is_http2, service, options, ends, activity).await;
            }
            Some(Err((error, stream))) => {
                if let Some(why) = refusal(&error) {
                    log_refused(&REFUSED_HANDSHAKES, &stream, &why);
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
        tokio::time::sleep(FIRST_BYTES_DURING_SHUTDOWN).await;
    };
    tokio::select! {
        begun = tokio::time::timeout(HEADER_READ_TIMEOUT, beginning) => begun.ok(),
        () = is_over => None,
        () = activity.is_evicted() => None,
    }
}
