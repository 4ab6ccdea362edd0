//! The gRPC services of a node, by the path of a call.
//!
//! Commands, reads of one order and event streams are answered directly, without tonic's streams of messages. Such a call has one small message, and
//! tonic spends more on the buffers and layers of its streams than a command costs. The message arrives whole from [`RequestBody`], and the reply is
//! written into one buffer directly from the order or the log. Only calls that negotiate no compression are answered directly; all others go to the
//! generated services, which do the same.

use std::{convert::Infallible, sync::Arc};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture},
};
use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts};
use http_body::Body as HttpBody;
use tonic::Status;
use tower::{BoxError, Service as _};

use super::{
    commands::{self, Commands},
    frames::{decoded, messages, only_message, unframed},
    header_names::ACCEPT_ENCODING,
    history::History,
    queries::Queries,
    request::RequestBody,
    streams::{self, StreamKind},
};
use crate::{
    application::{event_streams::EventStreamPermit, requests::CommandKind},
    proto::catga::orders::v1::{
        order_command_service_server::{OrderCommandServiceServer, SERVICE_NAME as COMMANDS},
        order_query_service_server::{OrderQueryServiceServer, SERVICE_NAME as QUERIES},
    },
    server::{
        call::connection,
        error::ApiError,
        observed::{Observed, Observer},
    },
};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A pending response of a service.
pub type Pending = BoxFuture<'static, Answered>;

/// Every gRPC service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services(Arc<All>);

/// The services behind [`Services`]. The most frequent calls are answered directly. Other commands and queries reach their service without a router: a
/// router reads path parameters, which cost allocations and which gRPC does not have.
#[derive(Debug)]
pub struct All {
    /// The services that answer directly.
    pub direct: Arc<Direct>,
    /// The commands.
    pub commands: OrderCommandServiceServer<Commands>,
    /// The queries.
    pub queries: OrderQueryServiceServer<Queries>,
    /// All other services.
    pub others: Router,
}

impl From<All> for Services {
    fn from(all: All) -> Self {
        Self(Arc::new(all))
    }
}

impl Services {
    /// Answers a call. Every service is always ready.
    pub fn call(&self, request: Request<RequestBody<Body>>, encoding: Encoding) -> Pending {
        if let Some(call) = DirectCall::of(&request, encoding) {
            return answer(call, request, &self.0.direct);
        }
        let request = request.map(Body::new);
        match service_of(request.uri().path()) {
            Some(COMMANDS) => self.0.commands.clone().call(request).map(answered).boxed(),
            Some(QUERIES) => self.0.queries.clone().call(request).map(answered).boxed(),
            _ => self.other(request),
        }
    }

    /// Answers a call of another service. A call that may stay open for as long as its client likes holds a permit for a stream until its end.
    fn other(&self, request: Request<Body>) -> Pending {
        let permit = match connection(request.extensions()) {
            Some(connection) if stays_open(request.uri().path()) => connection.event_streams.acquire().map(Some),
            _ => Ok(None),
        };
        let permit = match permit {
            Ok(permit) => permit.map(KeptPermit),
            Err(refused) => return future::ready(Ok(replied(Err(ApiError::from(refused).into())))).boxed(),
        };
        let answer = self.0.others.clone().call(request);
        async move { Ok(answer.await?.map(|body| Body::new(Observed::new(body, permit)))) }.boxed()
    }
}

/// Whether a call has no end but that of its client, and takes no permit itself.
fn stays_open(path: &str) -> bool {
    path == "/grpc.health.v1.Health/Watch" || path.ends_with(".ServerReflection/ServerReflectionInfo")
}

/// A permit that is released after the body of a response.
struct KeptPermit(#[expect(dead_code, reason = "held until dropped")] EventStreamPermit);

impl Observer<Bytes> for KeptPermit {}

fn answered(reply: Result<Response<tonic::body::Body>, Infallible>) -> Answered {
    reply.map(|response| response.map(Body::new))
}

/// The name of the service in `path`: `/package.Service/Method`.
fn service_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split_once('/').map(|(service, _)| service)
}

/// A call that is answered directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectCall {
    /// A command on one order.
    Command(CommandKind),
    /// ExecuteCommands.
    ExecuteCommands,
    /// GetOrder.
    GetOrder,
    /// StreamOrderHistory.
    StreamOrderHistory,
    /// StreamEvents.
    StreamEvents,
}

/// The compression of a request's messages, as declared in its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// None is declared.
    None,
    /// gzip.
    Gzip,
    /// Another one, or "identity".
    Other,
}

impl Encoding {
    /// The compression declared by this header.
    #[must_use]
    pub fn of(given: Option<&HeaderValue>) -> Self {
        match given {
            None => Self::None,
            Some(given) if given == "gzip" => Self::Gzip,
            Some(_) => Self::Other,
        }
    }
}

impl DirectCall {
    /// The call of `request`; `None` if it is another one, or negotiates a compression.
    pub fn of<B>(request: &Request<B>, encoding: Encoding) -> Option<Self> {
        if encoding != Encoding::None || accepts_compression(request.headers()) {
            return None;
        }
        Self::at(request.uri().path())
    }

    fn at(path: &str) -> Option<Self> {
        let method = path.strip_prefix("/catga.orders.v1.")?;
        if let Some(kind) = method.strip_prefix("OrderCommandService/").and_then(CommandKind::named) {
            return Some(Self::Command(kind));
        }
        Some(match method {
            "OrderCommandService/ExecuteCommands" => Self::ExecuteCommands,
            "OrderQueryService/GetOrder" => Self::GetOrder,
            "OrderHistoryService/StreamOrderHistory" => Self::StreamOrderHistory,
            "OrderHistoryService/StreamEvents" => Self::StreamEvents,
            _ => return None,
        })
    }
}

fn accepts_compression(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().any(|accepted| accepted != "identity")
}

/// The services that answer calls directly.
#[derive(Debug)]
pub struct Direct {
    /// The commands.
    pub commands: Arc<Commands>,
    /// The queries.
    pub queries: Arc<Queries>,
    /// The event streams.
    pub history: Arc<History>,
}

/// The response to a call.
pub type Answered = Result<Response<Body>, Infallible>;

/// Answers `call`.
pub fn answer<B>(
    call: DirectCall,
    request: Request<RequestBody<B>>,
    services: &Arc<Direct>,
) -> BoxFuture<'static, Answered>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (Parts { extensions, .. }, body) = request.into_parts();
    let services = Arc::clone(services);
    // Each kind of call has its own box: the future of a stream is far larger than that of a command, and boxing a future copies all of it.
    match call {
        DirectCall::Command(kind) => Box::pin(async move {
            let reply = async {
                let request = commands::read(kind, unframed(&only_message(body).await?)?, &extensions)?;
                services.commands.run(request).await
            };
            Ok(replied(reply.await.map(Body::new)))
        }),
        DirectCall::GetOrder => Box::pin(async move {
            let reply = async {
                let request = decoded(unframed(&only_message(body).await?)?)?;
                services.queries.answer(&request, &extensions).await
            };
            Ok(replied(reply.await.map(Body::new)))
        }),
        // `run_all` is called when the future is polled, and not before: its commands belong to the trace of the call.
        DirectCall::ExecuteCommands => Box::pin(async move {
            let replies = services.commands.run_all(Box::pin(messages(body)), &extensions);
            Ok(replied(replies.map(streams::body)))
        }),
        DirectCall::StreamOrderHistory => Box::pin(async move {
            let events = async {
                let request = decoded(unframed(&only_message(body).await?)?)?;
                Ok(services.history.of_order(&request, &extensions).await?)
            };
            Ok(replied(
                events
                    .await
                    .map(|(events, signer)| streams::body(streams::of_events(StreamKind::Order, events, signer))),
            ))
        }),
        DirectCall::StreamEvents => Box::pin(async move {
            let events = async {
                let request = decoded(unframed(&only_message(body).await?)?)?;
                Ok(services.history.of_all(&request, &extensions).await?)
            };
            Ok(replied(
                events.await.map(|(events, signer)| streams::body(streams::of_events(StreamKind::All, events, signer))),
            ))
        }),
    }
}

fn replied(body: Result<Body, Status>) -> Response<Body> {
    match body {
        Ok(body) => {
            let mut response = Response::new(body);
            response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
            response
        }
        Err(status) => status.into_http(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_of_a_call_is_the_first_part_of_its_path() {
        assert_eq!(service_of("/catga.orders.v1.OrderCommandService/PayOrder"), Some(COMMANDS));
        assert_eq!(service_of("/catga.orders.v1.OrderQueryService/GetOrder"), Some(QUERIES));
        for path in ["", "/", "/catga.orders.v1.OrderCommandService", "catga.orders.v1.OrderQueryService/GetOrder"] {
            assert!(service_of(path).is_none_or(|service| service != COMMANDS && service != QUERIES), "{path}");
        }
    }
}
