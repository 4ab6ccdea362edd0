//! The commands.

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};

use super::{
    Reply, Shared, body,
    headers::{CommandHeaders, IfMatch},
    input::{self, NewOrder},
    problem::settle,
    query, view,
};
use crate::{
    application::{
        AppError, CommandReply, Consistency, OrderRequest,
        byte_budget::HeldBytes,
        order_repository::AsOf,
        queries::GetOrder,
        requests::{self, Violations},
    },
    domain::{ids::OrderId, order::Action},
    server::{
        ApiState,
        connection::request_budget,
        error::{ApiError, Reason},
    },
};

/// The id in the path of a request.
pub type Id = Result<Path<String>, PathRejection>;

/// `POST /orders`
///
/// # Errors
/// As in the table of reasons.
pub async fn create(State(context): State<Shared>, request: Request) -> Reply {
    let incoming = Incoming::read(&context, request).await?;
    let mut noted = Violations::default();
    let headers = incoming.headers(&mut noted);
    if matches!(headers.if_match, IfMatch::OneOf(_)) {
        noted.add("If-Match", "must be left out: a new order has no revision yet");
    }
    let order = NewOrder::read(incoming.text()?, &mut noted);
    let command = requests::request(Violations::default(), headers.draft(), None, |violations| {
        requests::create_order(violations, order.draft())
    });
    let reply = send(&context, settle(noted, command)?).await?;
    let mut response = view::order(StatusCode::CREATED, &reply, &context.log()?)?;
    let location = format!("{}/{}", incoming.uri.path(), reply.order.id);
    response.headers_mut().insert(header::LOCATION, view::header_value(location)?);
    Ok(response)
}

/// `POST /orders/{id}/pay`
///
/// # Errors
/// As in the table of reasons.
pub async fn pay(State(context): State<Shared>, id: Id, request: Request) -> Reply {
    change(&context, id, request, |text, noted, found| {
        let [method, reference] = input::two_texts(text, ["paymentMethod", "paymentReference"], noted);
        requests::pay_order(found, method.as_deref(), reference.as_deref())
    })
    .await
}

/// `POST /orders/{id}/ship`
///
/// # Errors
/// As in the table of reasons.
pub async fn ship(State(context): State<Shared>, id: Id, request: Request) -> Reply {
    change(&context, id, request, |text, noted, found| {
        let [number, carrier] = input::two_texts(text, ["trackingNumber", "carrier"], noted);
        requests::ship_order(found, number.as_deref(), carrier.as_deref())
    })
    .await
}

/// `POST /orders/{id}/deliver`
///
/// # Errors
/// As in the table of reasons.
pub async fn deliver(State(context): State<Shared>, id: Id, request: Request) -> Reply {
    change(&context, id, request, |text, noted, _| {
        input::nothing(text, noted);
        Some(Action::Deliver)
    })
    .await
}

/// `POST /orders/{id}/cancel`
///
/// # Errors
/// As in the table of reasons.
pub async fn cancel(State(context): State<Shared>, id: Id, request: Request) -> Reply {
    change(&context, id, request, |text, noted, found| {
        requests::cancel_order(found, input::one_text(text, "reason", noted).as_deref())
    })
    .await
}

/// A command for the order of the path. `read` parses the body to an action; it records violations under the client's names (first) and returns those
/// under the names of the protos (second).
async fn change(
    context: &ApiState,
    id: Id,
    request: Request,
    read: impl FnOnce(&str, &mut Violations, &mut Violations) -> Option<Action>,
) -> Reply {
    let incoming = Incoming::read(context, request).await?;
    let mut noted = Violations::default();
    let id = path_id(id, &mut noted);
    let headers = incoming.headers(&mut noted).of_existing_order();
    let text = incoming.text()?;
    let command =
        requests::request(Violations::default(), headers.draft(), id.as_deref(), |found| read(text, &mut noted, found));
    let mut command = settle(noted, command)?;
    if let IfMatch::OneOf(revisions) = &headers.if_match {
        command.expected_revision = Some(revision_of(context, command.order_id, revisions).await?);
    }
    let reply = send(context, command).await?;
    view::order(StatusCode::OK, &reply, &context.log()?)
}

/// The id of the path as text; records a violation if it is not text.
pub fn path_id(id: Id, noted: &mut Violations) -> Option<String> {
    match id {
        Ok(Path(id)) => Some(id),
        Err(_) => {
            noted.add("id", "must be percent-encoded UTF-8");
            // Not `None`, which means a new order.
            Some("1".to_owned())
        }
    }
}

/// The order's revision if it is one of `wanted`.
async fn revision_of(context: &ApiState, order_id: Option<OrderId>, wanted: &[u64]) -> Result<u64, ApiError> {
    let order_id = order_id.ok_or_else(|| ApiError::internal("a path without an order id"))?;
    let query = GetOrder { order_id, until: AsOf::Latest, consistency: Consistency::Strong };
    let actual = context.mediator.get_order(query).await?.order.revision;
    if wanted.contains(&actual) {
        return Ok(actual);
    }
    let mut error = ApiError::new(
        Reason::IfMatchFailed,
        format!("the order is at revision {actual}, and If-Match does not name that"),
    );
    error.facts.push(("actual_revision", actual.to_string()));
    Err(error)
}

async fn send(context: &ApiState, command: OrderRequest) -> Result<CommandReply, ApiError> {
    context.mediator.execute(command).await.map_err(|error| {
        // Here an expected revision always comes from If-Match.
        let is_precondition = matches!(error, AppError::RevisionConflict { .. });
        let error = ApiError::from(error);
        if is_precondition { ApiError { reason: Reason::IfMatchFailed, ..error } } else { error }
    })
}

/// A request with its body.
struct Incoming {
    headers: HeaderMap,
    uri: Uri,
    bytes: Bytes,
    /// Held until the request is answered.
    _held: HeldBytes,
}

impl Incoming {
    async fn read(context: &ApiState, request: Request<Body>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut held = HeldBytes::none(request_budget(&parts.extensions));
        let bytes = body::read(&parts.headers, body, context.info.max_message_bytes, &mut held).await?;
        Ok(Self { headers: parts.headers, uri: parts.uri, bytes, _held: held })
    }

    fn headers(&self, noted: &mut Violations) -> CommandHeaders<'_> {
        query::none(&self.uri, noted);
        CommandHeaders::read(&self.headers, noted)
    }

    fn text(&self) -> Result<&str, ApiError> {
        body::text(&self.bytes)
    }
}
