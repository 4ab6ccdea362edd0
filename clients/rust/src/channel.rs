//! A channel to the order service.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{
    Status,
    body::Body,
    transport::{self, ClientTlsConfig, Endpoint},
};
use tower_service::Service;

use crate::{
    retry::{self, Throttle},
    token::Token,
};

/// The time limit of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval of keep-alive pings while calls are open, as on a silent stream.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// The time limit of their replies.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type Response = http::Response<Body>;

/// Opens a channel to `address` (`host:port`), in plain text. It connects when the first call is made.
///
/// # Errors
///
/// If `address` is invalid.
pub fn connect(address: &str) -> Result<Channel, transport::Error> {
    Ok(open(&Endpoint::from_shared(format!("http://{address}"))?))
}

/// Opens a channel to `address` (`host:port`) over TLS: `tls` has the trusted authorities and, for mutual TLS, the client certificate.
///
/// # Errors
///
/// If `address` or a certificate is invalid.
pub fn connect_tls(address: &str, tls: ClientTlsConfig) -> Result<Channel, transport::Error> {
    Ok(open(&Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?))
}

fn open(endpoint: &Endpoint) -> Channel {
    let endpoint = endpoint
        .clone()
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    endpoint.connect_lazy().into()
}

/// A channel for the stubs; clones share its connection. In addition to tonic's channel it:
///
/// - retries calls without side effects when the service is UNAVAILABLE: the retry policy of `service_config.json`, up to four attempts in
///   all. Commands are never retried here: [`send`](crate::send) does, which knows that they have a request id
/// - reports a connection that cannot be opened or that breaks as UNAVAILABLE, whatever the reason
/// - ends a call that has taken longer than its time limit with DEADLINE_EXCEEDED, attempts and streams included
///
/// tonic reconnects on the next call, so there is no delay between connection attempts except the one between calls.
#[derive(Clone, Debug)]
pub struct Channel {
    inner: transport::Channel,
    throttle: Arc<Throttle>,
    token: Option<Token>,
}

impl From<transport::Channel> for Channel {
    /// The same on top of a channel with your own settings.
    fn from(inner: transport::Channel) -> Self {
        Channel { inner, throttle: Arc::default(), token: None }
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = Response;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // Every attempt waits for readiness separately.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move {
            let deadline = time_limit(request.headers()).and_then(|limit| Instant::now().checked_add(limit));
            let response = if retry::is_safe(request.uri().path()) {
                retry::call(&channel, &channel.throttle, request, deadline).await?
            } else {
                channel.attempt(request, deadline).await?
            };
            Ok(response.map(|body| Body::new(Limited { body, end: deadline.map(|at| Box::pin(sleep_until(at))) })))
        })
    }
}

impl Channel {
    /// The same channel for a caller with a token: `source` is called for each attempt of each call and returns the token then, so that one
    /// that is renewed is used at once. An empty token is not sent; an error ends the call. [`token_file`](crate::token_file) reads a file.
    ///
    /// `source` must not block for long: let a task renew a token that comes over the network, and return what it has. Without TLS the token is
    /// sent in plain text.
    #[must_use]
    pub fn with_token(self, source: impl Fn() -> Result<String, Status> + Send + Sync + 'static) -> Channel {
        Channel { token: Some(Token::new(source)), ..self }
    }

    /// Makes a call once.
    pub(crate) async fn attempt(
        &self,
        mut request: http::Request<Body>,
        deadline: Option<Instant>,
    ) -> Result<Response, Status> {
        if let Some(token) = &self.token {
            token.add_to(request.headers_mut())?;
        }
        let mut inner = self.inner.clone();
        let call = async {
            poll_fn(|context| inner.poll_ready(context)).await?;
            inner.call(request).await
        };
        let outcome = match deadline {
            Some(deadline) => timeout_at(deadline, call).await.map_err(|_| too_late())?,
            None => call.await,
        };
        outcome.map_err(|error| {
            // tonic enforces the limit with its own timer, and reports it as cancelled.
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late { too_late() } else { broken(Status::from_error(error.into())) }
        })
    }
}

/// A reply that ends with DEADLINE_EXCEEDED when its time is up, and with UNAVAILABLE when the connection breaks.
struct Limited {
    body: Body,
    end: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        match &mut self.end {
            Some(end) => {
                ready!(end.as_mut().poll(context));
                self.end = None;
                self.body = Body::empty();
                Poll::Ready(Some(Err(too_late())))
            }
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The error of a failed transport. tonic uses several codes for it, from which no caller could tell that a retry may help. Errors of the
/// service are not among them: they are in headers and trailers.
fn broken(error: Status) -> Status {
    Status::unavailable(error.message())
}

fn too_late() -> Status {
    Status::deadline_exceeded("no answer in time")
}

/// The time limit of a call, in gRPC's format: at most eight digits and a unit.
fn time_limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.checked_mul(3_600)?)),
        "M" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}
