//! Commands, reads of one order and event streams, answered without tonic's streams of messages.
//!
//! Such a call has one small message, and tonic spends more on the buffers and layers of its streams than a command costs. The message arrives whole
//! from [`RequestBody`], and the reply is written into one buffer directly from the order or the log. Only calls that negotiate no compression are
//! answered here; all others go to the generated services, which do the same.

use std::{convert::Infallible, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response, header, request::Parts};
use http_body::Body as HttpBody;
use tonic::Status;
use tower::BoxError;

use super::{
    commands::{self, Commands},
    convert,
    frames::{decoded, messages, only_message, unframed},
    header_names::ACCEPT_ENCODING,
    history::History,
    plain,
    queries::Queries,
    request::RequestBody,
    streams::{self, Of},
};
use crate::{application::OrderRequest, proto::catga::orders::v1::execute_commands_request::Command};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A call that is answered directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectCall {
    /// A command on one order.
    Command(CommandCall),
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

/// The command of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the calls of the API are")]
pub enum CommandCall {
    CreateOrder,
    PayOrder,
    ShipOrder,
    DeliverOrder,
    CancelOrder,
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
        Some(match path.strip_prefix("/catga.orders.v1.")? {
            "OrderCommandService/CreateOrder" => Self::Command(CommandCall::CreateOrder),
            "OrderCommandService/PayOrder" => Self::Command(CommandCall::PayOrder),
            "OrderCommandService/ShipOrder" => Self::Command(CommandCall::ShipOrder),
            "OrderCommandService/DeliverOrder" => Self::Command(CommandCall::DeliverOrder),
            "OrderCommandService/CancelOrder" => Self::Command(CommandCall::CancelOrder),
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

impl CommandCall {
    /// The command in `message`, from a caller with `extensions`.
    ///
    /// # Errors
    /// If it is not the message of this call, or is invalid.
    pub fn read(self, message: &[u8], extensions: &Extensions) -> Result<OrderRequest, Status> {
        if self == Self::CreateOrder
            && let Some(draft) = plain::create_order(message)
        {
            return commands::checked(draft, extensions);
        }
        commands::checked(convert::command(&self.decode(message)?), extensions)
    }

    fn decode(self, message: &[u8]) -> Result<Command, Status> {
        Ok(match self {
            Self::CreateOrder => Command::CreateOrder(decoded(message)?),
            Self::PayOrder => Command::PayOrder(decoded(message)?),
            Self::ShipOrder => Command::ShipOrder(decoded(message)?),
            Self::DeliverOrder => Command::DeliverOrder(decoded(message)?),
            Self::CancelOrder => Command::CancelOrder(decoded(message)?),
        })
    }
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
    // A box for each kind: streams need far more room than commands, and creating a box copies all of it.
    match call {
        DirectCall::Command(call) => Box::pin(async move {
            let reply = async {
                let request = call.read(unframed(&only_message(body).await?)?, &extensions)?;
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
        // Not begun before it is polled: its commands belong to the trace of the call.
        DirectCall::ExecuteCommands => Box::pin(async move {
            let replies = services.commands.run_all(Box::pin(messages(body)), &extensions);
            Ok(replied(Ok(streams::body(replies))))
        }),
        DirectCall::StreamOrderHistory => Box::pin(async move {
            let events = async {
                let request = decoded(unframed(&only_message(body).await?)?)?;
                Ok(services.history.of_order(&request, &extensions).await?)
            };
            Ok(replied(events.await.map(|(events, log)| streams::body(streams::of_events(Of::Order, events, log)))))
        }),
        DirectCall::StreamEvents => Box::pin(async move {
            let events = async {
                let request = decoded(unframed(&only_message(body).await?)?)?;
                Ok(services.history.of_all(&request, &extensions).await?)
            };
            Ok(replied(events.await.map(|(events, log)| streams::body(streams::of_events(Of::All, events, log)))))
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
