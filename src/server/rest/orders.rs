//! The routes of the commands.

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    routing::{MethodRouter, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};

use super::{
    Reply, Shared, body,
    headers::{CommandHeaders, IfMatch},
    input::{self, NewOrder},
    query, view,
};
use crate::{
    application::{
        AppError, CommandReply, Consistency, OrderRequest, Scope,
        byte_budget::HeldBytes,
        order_repository::AsOf,
        queries::GetOrder,
        requests::{self, ActionDraft, CommandDraft, Field, Target, Violations},
    },
    domain::ids::OrderId,
    identity::Principal,
    server::{
        ApiState,
        call::request_budget,
        error::{ApiError, Reason},
        principal::principal,
    },
};

/// A command for an existing order: its route, and its operation in the OpenAPI document.
#[derive(Debug)]
pub struct CommandRoute {
    /// The end of the path: `/orders/{id}/<action>`.
    pub action: &'static str,
    /// The handler.
    pub route: MethodRouter<Shared>,
    /// The id of the operation.
    pub operation_id: &'static str,
    /// The summary of the operation.
    pub summary: &'static str,
    /// The schema of the body.
    pub body: &'static str,
    /// Whether a body is required.
    pub needs_body: bool,
}

/// The commands for an existing order.
pub fn commands() -> Vec<CommandRoute> {
    vec![
        CommandRoute {
            action: "pay",
            route: post(pay),
            operation_id: "payOrder",
            summary: "Pays a pending order.",
            body: "Payment",
            needs_body: true,
        },
        CommandRoute {
            action: "ship",
            route: post(ship),
            operation_id: "shipOrder",
            summary: "Ships a paid order.",
            body: "Shipment",
            needs_body: true,
        },
        CommandRoute {
            action: "deliver",
            route: post(deliver),
            operation_id: "deliverOrder",
            summary: "Marks a shipped order as delivered.",
            body: "Delivery",
            needs_body: false,
        },
        CommandRoute {
            action: "cancel",
            route: post(cancel),
            operation_id: "cancelOrder",
            summary: "Cancels a pending or paid order.",
            body: "Cancellation",
            needs_body: false,
        },
    ]
}

/// The id in the path of a request.
pub type Id = Result<Path<String>, PathRejection>;

/// `POST /orders`
///
/// # Errors
/// As in the table of reasons.
pub async fn create(State(api): State<Shared>, request: Request) -> Reply {
    let incoming = Incoming::read(&api, request).await?;
    let mut violations = Violations::default();
    let headers = incoming.headers(&mut violations);
    if matches!(headers.if_match, IfMatch::OneOf(_)) {
        violations.add(Field::ExpectedRevision, "must not be set: a new order has no revision yet");
    }
    let order = NewOrder::read(incoming.text()?, &mut violations);
    let action = ActionDraft::Create(order.draft());
    let draft = CommandDraft { meta: headers.draft(), target: Target::New, action };
    let command = requests::command(violations, draft, &incoming.caller)?;
    let reply = send(&api, command).await?;
    let mut response = view::order(StatusCode::CREATED, &reply, &api.signer()?)?;
    let location = view::location(incoming.uri.path(), reply.order.id)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// `POST /orders/{id}/pay`
///
/// # Errors
/// As in the table of reasons.
async fn pay(State(api): State<Shared>, id: Id, request: Request) -> Reply {
    let incoming = Incoming::read(&api, request).await?;
    let mut command = ExistingOrderCommand::read(id, &incoming);
    let fields = [Field::PaymentMethod, Field::PaymentReference];
    let [method, reference] = input::two_texts(incoming.text()?, fields, &mut command.violations);
    command.run(&api, ActionDraft::Pay { method: method.as_deref(), reference: reference.as_deref() }).await
}

/// `POST /orders/{id}/ship`
///
/// # Errors
/// As in the table of reasons.
async fn ship(State(api): State<Shared>, id: Id, request: Request) -> Reply {
    let incoming = Incoming::read(&api, request).await?;
    let mut command = ExistingOrderCommand::read(id, &incoming);
    let fields = [Field::TrackingNumber, Field::Carrier];
    let [number, carrier] = input::two_texts(incoming.text()?, fields, &mut command.violations);
    command.run(&api, ActionDraft::Ship { tracking_number: number.as_deref(), carrier: carrier.as_deref() }).await
}

/// `POST /orders/{id}/deliver`
///
/// # Errors
/// As in the table of reasons.
async fn deliver(State(api): State<Shared>, id: Id, request: Request) -> Reply {
    let incoming = Incoming::read(&api, request).await?;
    let mut command = ExistingOrderCommand::read(id, &incoming);
    input::nothing(incoming.text()?, &mut command.violations);
    command.run(&api, ActionDraft::Deliver).await
}

/// `POST /orders/{id}/cancel`
///
/// # Errors
/// As in the table of reasons.
async fn cancel(State(api): State<Shared>, id: Id, request: Request) -> Reply {
    let incoming = Incoming::read(&api, request).await?;
    let mut command = ExistingOrderCommand::read(id, &incoming);
    let reason = input::one_text(incoming.text()?, Field::Reason, &mut command.violations);
    command.run(&api, ActionDraft::Cancel { reason: reason.as_deref() }).await
}

/// A command for the order of the path, before its body is read.
struct ExistingOrderCommand<'a> {
    violations: Violations,
    id: Option<String>,
    headers: CommandHeaders<'a>,
    caller: &'a Principal,
}

impl<'a> ExistingOrderCommand<'a> {
    fn read(id: Id, incoming: &'a Incoming) -> Self {
        let mut violations = Violations::default();
        let id = path_id(id, Field::OrderId, &mut violations);
        let headers = incoming.headers(&mut violations).of_existing_order();
        Self { violations, id, headers, caller: &incoming.caller }
    }

    async fn run(self, api: &ApiState, action: ActionDraft<'_>) -> Reply {
        let Self { violations, id, headers, caller } = self;
        let target = Target::Existing(id.as_deref());
        let mut command =
            requests::command(violations, CommandDraft { meta: headers.draft(), target, action }, caller)?;
        if let (IfMatch::OneOf(revisions), Target::Existing(id)) = (&headers.if_match, command.target) {
            command.expected_revision = Some(revision_of(api, id, command.scope(), revisions).await?);
        }
        let reply = send(api, command).await?;
        view::order(StatusCode::OK, &reply, &api.signer()?)
    }
}

/// The id of the path as text; records a violation of `field` if it is not text.
pub fn path_id(id: Id, field: Field, violations: &mut Violations) -> Option<String> {
    let id = id.map(|Path(id)| id).map_err(|_| "must be percent-encoded UTF-8");
    violations.check(field, id)
}

/// The revision of an order within `scope` if it is one of `wanted`.
async fn revision_of(api: &ApiState, order_id: OrderId, scope: Scope, wanted: &[u64]) -> Result<u64, ApiError> {
    let query = GetOrder { order_id, until: AsOf::Latest, consistency: Consistency::Strong, scope };
    let actual = api.mediator.get_order(query).await?.order.revision;
    if wanted.contains(&actual) {
        return Ok(actual);
    }
    let mut error = ApiError::new(
        Reason::IfMatchFailed,
        format!("the order is at revision {actual}, which If-Match does not name"),
    );
    error.facts.push(("actual_revision", actual.to_string()));
    Err(error)
}

async fn send(api: &ApiState, command: OrderRequest) -> Result<CommandReply, ApiError> {
    api.mediator.execute(command).await.map_err(|error| {
        // Here an expected revision always comes from If-Match.
        let is_precondition = matches!(error, AppError::RevisionConflict { .. });
        let mut error = ApiError::from(error);
        if is_precondition {
            error.reason = Reason::IfMatchFailed;
        }
        error
    })
}

/// A request with its body.
struct Incoming {
    headers: HeaderMap,
    uri: Uri,
    bytes: Bytes,
    caller: Principal,
    /// Held until the request is answered.
    _held: HeldBytes,
}

impl Incoming {
    async fn read(api: &ApiState, request: Request<Body>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut held = HeldBytes::none(request_budget(&parts.extensions));
        let bytes = body::read(&parts.headers, body, api.info.max_message_bytes, &mut held).await?;
        let caller = principal(&parts.extensions).clone();
        Ok(Self { headers: parts.headers, uri: parts.uri, bytes, caller, _held: held })
    }

    fn headers(&self, violations: &mut Violations) -> CommandHeaders<'_> {
        query::none(&self.uri, violations);
        CommandHeaders::read(&self.headers, violations)
    }

    fn text(&self) -> Result<&str, ApiError> {
        body::text(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;
    use crate::application::requests::CommandKind;

    #[test]
    fn every_command_for_an_existing_order_has_a_route() {
        let mut routed: Vec<_> = commands().into_iter().map(|command| command.operation_id.to_lowercase()).collect();
        let existing = CommandKind::VARIANTS.iter().filter(|kind| **kind != CommandKind::CreateOrder);
        let mut kinds: Vec<_> = existing.map(|kind| <&str>::from(kind).to_lowercase()).collect();
        routed.sort();
        kinds.sort();
        assert_eq!(routed, kinds);
    }
}
