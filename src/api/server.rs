//! One listener for both doors: bounds on connections, keepalive, age, and a drain that lets calls finish.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use super::tls::{Tls, is_http2};

/// Connections that the kernel may hold before they are accepted.
const LISTEN_BACKLOG: u32 = 1_024;
/// How long a client may take to say which protocol it speaks, and then to send the head of an HTTP/1 request.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to look at a client that has said no more than the beginning of HTTP/2.
const PREFACE_POLL: Duration = Duration::from_millis(20);
/// What every HTTP/2 connection begins with.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Header bytes of one HTTP/2 request.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// What one HTTP/2 stream, and all streams of a connection, may send ahead of being read.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The bounds of the listener.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// Connections open at a time; one more waits in the listen backlog.
    pub max_connections: usize,
    /// Calls open at a time on one connection.
    pub max_concurrent_streams: u32,
    /// How often to ask a silent HTTP/2 client whether it is still there.
    pub keepalive_interval: Duration,
    /// How long it may take to answer.
    pub keepalive_timeout: Duration,
    /// After this a client is asked to reconnect; `None`: never.
    pub max_connection_age: Option<Duration>,
    /// How long calls may go on after that.
    pub max_connection_age_grace: Duration,
}

/// Binds a listener with an explicit backlog.
///
/// # Errors
/// What the operating system says, for example that the address is in use.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for connections of the former process to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// Serves `service` on `listener` until `stop` is cancelled; then lets open calls finish. Ends when all connections have; drop
/// the future to end them at once.
///
/// With `tls` no connection is served without it.
pub async fn serve<S>(
    listener: TcpListener,
    tls: Option<Tls>,
    service: S,
    options: ServerOptions,
    stop: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let places = Arc::new(Semaphore::new(options.max_connections));
    let connections = TaskTracker::new();
    let aborted = CancellationToken::new();
    // Dropping this future ends the connections, whose tasks are not part of it.
    let _abort_on_drop = aborted.clone().drop_guard();
    loop {
        let Some((stream, place)) = accept(&listener, &places, &stop).await else {
            break;
        };
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let connection = connection(stream, acceptor, service.clone(), options, stop.clone());
        let aborted = aborted.clone();
        connections.spawn(async move {
            let _place = place;
            tokio::select! {
                () = connection => {}
                () = aborted.cancelled() => {}
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The next connection that there is a place for; `None` once the server stops.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let next = async {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, place)),
                Err(error) => {
                    // Out of file descriptors, or the client is gone already: a moment later it may work.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        accepted = next => accepted,
    }
}

/// Serves one connection to its end.
async fn connection<S>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: S,
    options: ServerOptions,
    stop: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    // Small replies must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let service = service.map_request(|request: Request<Incoming>| request.map(Body::new));
    let builder = protocol(options);
    let Some(acceptor) = tls else {
        if begun(speaks(&stream), &stop).await.is_some() {
            drive(stream, builder, service, options, stop).await;
        }
        return;
    };
    if let Some(stream) = begun(acceptor.accept(stream), &stop).await {
        // Agreed upon in the handshake: there is nothing to wait for.
        let builder = if is_http2(&stream) { builder.http2_only() } else { builder.http1_only() };
        drive(stream, builder, service, options, stop).await;
    }
}

/// What the beginning of a connection came to; `None` if it took too long or failed, or the server stops.
async fn begun<T>(beginning: impl Future<Output = io::Result<T>>, stop: &CancellationToken) -> Option<T> {
    tokio::select! {
        begun = tokio::time::timeout(HEADER_READ_TIMEOUT, beginning) => begun.ok()?.ok(),
        () = stop.cancelled() => None,
    }
}

/// Serves a connection that has begun.
async fn drive<I, S>(
    stream: I,
    builder: auto::Builder<TokioExecutor>,
    service: S,
    options: ServerOptions,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let mut connection =
        pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service)));
    let age = age_limit(options.max_connection_age);
    tokio::select! {
        // What a client does wrong on its own connection is nobody else's business.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
            return;
        }
        () = age => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(options.max_connection_age_grace, connection).await;
}

/// Waits until the client has said enough to tell its protocol: what serves the connection from there has no time limit for
/// that. A connection that says nothing would hold its place for ever.
async fn speaks(stream: &TcpStream) -> io::Result<()> {
    let mut head = [0; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut head).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length == head.len() || !HTTP2_PREFACE.starts_with(&head[..length]) {
            return Ok(());
        }
        tokio::time::sleep(PREFACE_POLL).await;
    }
}

fn protocol(options: ServerOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout);
    builder
}

/// Ends a tenth early or late, so that the clients of a restarted node do not all come back at once.
async fn age_limit(age: Option<Duration>) {
    match age {
        Some(age) => tokio::time::sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await,
        None => std::future::pending().await,
    }
}
