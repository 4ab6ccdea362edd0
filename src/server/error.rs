//! The single table of all errors, with their gRPC codes and HTTP statuses.

use std::{borrow::Cow, fmt::Display, time::Duration};

use http::HeaderMap;
use tonic::{Code, Status, metadata::AsciiMetadataValue};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

use crate::{
    application::{
        AppError,
        error::RETRY_AFTER,
        limits::MAX_METADATA_BYTES,
        requests::{FieldPath, Violation, Violations},
    },
    identity::Role,
    telemetry::outage::{Line, Outage},
};

/// The `domain` of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "ordersystem";

/// The trailer that tells gRPC's built-in retries how long to wait, in ms: gRFC A6.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The maximum number of violations in the trailers of a gRPC reply: some clients accept at most 8 KiB of trailers.
const MAX_GRPC_VIOLATIONS: usize = 40;
/// The maximum number of violations in the description for humans.
const MAX_DESCRIBED_VIOLATIONS: usize = 3;

/// The cause of an internal error that was a panic, which has already been logged.
pub const PANIC: &str = "a panic while a request was processed";

/// Limits the log lines of replies that only report a fault of the service.
static FAULTS: Outage = Outage::new();

/// The reason of a failed request: one stable word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`Reason::spec` says what each one means")]
pub enum Reason {
    InvalidArgument,
    CursorLogMismatch,
    OrderNotFound,
    HandlerNotFound,
    RevisionNotReached,
    RouteNotFound,
    ServiceNotFound,
    MethodNotAllowed,
    HostNotAllowed,
    CrossSiteRequest,
    OperatorsOnly,
    CredentialsMissing,
    CredentialsInvalid,
    CredentialsExpired,
    RoleMissing,
    CallerLimit,
    CustomerNotAllowed,
    ActorNotAllowed,
    HttpVersionNotSupported,
    IllegalTransition,
    LogNotManaged,
    RevisionConflict,
    IfMatchFailed,
    Contention,
    RequestIdReused,
    RequestTimeout,
    MessageTooLarge,
    MetadataTooLarge,
    UnsupportedMediaType,
    CompressionNotSupported,
    Overloaded,
    StoreFull,
    Unavailable,
    ShuttingDown,
    OutcomeUnknown,
    DeadlineExceeded,
    ConsistencyTimeout,
    DataCorrupt,
    Internal,
}

/// The public representation of a [`Reason`].
#[derive(Clone, Copy, Debug)]
pub struct ReasonSpec {
    /// The stable word: `ErrorInfo.reason`, and `reason` of a problem.
    pub name: &'static str,
    /// The gRPC code.
    pub code: Code,
    /// The HTTP status.
    pub http_status: u16,
    /// The title of a problem.
    pub title: &'static str,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 39] = [
        Self::InvalidArgument,
        Self::CursorLogMismatch,
        Self::OrderNotFound,
        Self::HandlerNotFound,
        Self::RevisionNotReached,
        Self::RouteNotFound,
        Self::ServiceNotFound,
        Self::MethodNotAllowed,
        Self::HostNotAllowed,
        Self::CrossSiteRequest,
        Self::OperatorsOnly,
        Self::CredentialsMissing,
        Self::CredentialsInvalid,
        Self::CredentialsExpired,
        Self::RoleMissing,
        Self::CallerLimit,
        Self::CustomerNotAllowed,
        Self::ActorNotAllowed,
        Self::HttpVersionNotSupported,
        Self::IllegalTransition,
        Self::LogNotManaged,
        Self::RevisionConflict,
        Self::IfMatchFailed,
        Self::Contention,
        Self::RequestIdReused,
        Self::RequestTimeout,
        Self::MessageTooLarge,
        Self::MetadataTooLarge,
        Self::UnsupportedMediaType,
        Self::CompressionNotSupported,
        Self::Overloaded,
        Self::StoreFull,
        Self::Unavailable,
        Self::ShuttingDown,
        Self::OutcomeUnknown,
        Self::DeadlineExceeded,
        Self::ConsistencyTimeout,
        Self::DataCorrupt,
        Self::Internal,
    ];

    /// The public representation.
    #[must_use]
    pub const fn spec(self) -> ReasonSpec {
        let (name, code, http_status, title) = match self {
            Self::InvalidArgument => ("INVALID_ARGUMENT", Code::InvalidArgument, 400, "Invalid input"),
            Self::CursorLogMismatch => ("CURSOR_OF_ANOTHER_LOG", Code::InvalidArgument, 400, "Cursor from another log"),
            Self::OrderNotFound => ("ORDER_NOT_FOUND", Code::NotFound, 404, "Order not found"),
            Self::HandlerNotFound => ("HANDLER_NOT_FOUND", Code::NotFound, 404, "Handler not found"),
            Self::RevisionNotReached => ("NOT_YET_THEN", Code::NotFound, 404, "The order did not exist then"),
            Self::RouteNotFound => ("ROUTE_NOT_FOUND", Code::Unimplemented, 404, "No such route"),
            Self::ServiceNotFound => ("SERVICE_NOT_FOUND", Code::NotFound, 404, "No such service"),
            Self::MethodNotAllowed => ("METHOD_NOT_ALLOWED", Code::Unimplemented, 405, "Method not allowed"),
            Self::HostNotAllowed => ("HOST_NOT_ALLOWED", Code::PermissionDenied, 421, "Host not allowed"),
            Self::CrossSiteRequest => {
                ("CROSS_SITE_REQUEST", Code::PermissionDenied, 403, "Cross-site request not allowed")
            }
            Self::HttpVersionNotSupported => {
                ("HTTP_VERSION_NOT_SUPPORTED", Code::Unimplemented, 505, "HTTP version not supported")
            }
            Self::OperatorsOnly => ("OPERATORS_ONLY", Code::PermissionDenied, 403, "For operators only"),
            Self::CredentialsMissing => ("CREDENTIALS_MISSING", Code::Unauthenticated, 401, "Credentials are needed"),
            Self::CredentialsInvalid => {
                ("CREDENTIALS_INVALID", Code::Unauthenticated, 401, "The credentials are not accepted")
            }
            Self::CredentialsExpired => {
                ("CREDENTIALS_EXPIRED", Code::Unauthenticated, 401, "The credentials have expired")
            }
            Self::RoleMissing => ("ROLE_MISSING", Code::PermissionDenied, 403, "The caller may not do this"),
            Self::CallerLimit => ("CALLER_LIMIT", Code::ResourceExhausted, 429, "The caller has reached its limit"),
            Self::CustomerNotAllowed => {
                ("CUSTOMER_NOT_ALLOWED", Code::PermissionDenied, 403, "Not the caller's own customer id")
            }
            Self::ActorNotAllowed => ("ACTOR_NOT_ALLOWED", Code::PermissionDenied, 403, "Not the caller's own name"),
            Self::IllegalTransition => {
                ("ILLEGAL_TRANSITION", Code::FailedPrecondition, 409, "Not allowed in the order's status")
            }
            Self::LogNotManaged => {
                ("LOG_NOT_MANAGED", Code::FailedPrecondition, 409, "The node does not manage its log")
            }
            Self::RevisionConflict => ("REVISION_CONFLICT", Code::Aborted, 409, "The order has changed"),
            Self::IfMatchFailed => ("IF_MATCH_FAILED", Code::Aborted, 412, "The order has changed"),
            Self::Contention => ("CONTENTION", Code::Aborted, 409, "Too many commands for one order"),
            Self::RequestIdReused => {
                ("REQUEST_ID_REUSED", Code::AlreadyExists, 422, "The request id was used with another payload")
            }
            Self::RequestTimeout => ("REQUEST_TIMEOUT", Code::DeadlineExceeded, 408, "Request not sent in time"),
            Self::MessageTooLarge => ("MESSAGE_TOO_LARGE", Code::ResourceExhausted, 413, "Message too large"),
            Self::MetadataTooLarge => ("METADATA_TOO_LARGE", Code::ResourceExhausted, 431, "Metadata too large"),
            Self::UnsupportedMediaType => {
                ("UNSUPPORTED_MEDIA_TYPE", Code::InvalidArgument, 415, "Unsupported media type")
            }
            Self::CompressionNotSupported => {
                ("COMPRESSION_NOT_SUPPORTED", Code::Unimplemented, 415, "Unsupported compression")
            }
            Self::Overloaded => ("OVERLOADED", Code::ResourceExhausted, 429, "Overloaded"),
            Self::StoreFull => ("STORE_FULL", Code::ResourceExhausted, 503, "The event store is full"),
            Self::Unavailable => ("UNAVAILABLE", Code::Unavailable, 503, "Temporarily unavailable"),
            Self::ShuttingDown => ("SHUTTING_DOWN", Code::Unavailable, 503, "Shutting down"),
            Self::OutcomeUnknown => ("OUTCOME_UNKNOWN", Code::Unavailable, 503, "Outcome unknown"),
            Self::DeadlineExceeded => ("DEADLINE_EXCEEDED", Code::DeadlineExceeded, 504, "Deadline exceeded"),
            Self::ConsistencyTimeout => ("NOT_FRESH_IN_TIME", Code::DeadlineExceeded, 504, "Not fresh in time"),
            Self::DataCorrupt => ("DATA_CORRUPT", Code::DataLoss, 500, "Stored data is damaged"),
            Self::Internal => ("INTERNAL", Code::Internal, 500, "Internal error"),
        };
        ReasonSpec { name, code, http_status, title }
    }
}

/// An error as sent to clients, over either protocol.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The reason.
    pub reason: Reason,
    /// A description for humans; it never contains internals. For violations it is composed once the protocol, and so the names of the fields, is
    /// known.
    message: String,
    /// The violations in the input, field by field.
    pub violations: Vec<Violation>,
    /// Additional facts for programs, by name: `order_id`, `expected_revision` …
    pub facts: Vec<(&'static str, String)>,
    /// The time until a retry, if one may help.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// An error without details.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), violations: Vec::new(), facts: Vec::new(), retry_after: None }
    }

    /// A request with one invalid field.
    #[must_use]
    pub fn invalid(field: impl Into<FieldPath>, description: impl Display) -> Self {
        let mut violations = Violations::default();
        violations.add(field, description);
        violations.into()
    }

    /// A request that is larger than `max_bytes`.
    #[must_use]
    pub fn too_large(max_bytes: usize) -> Self {
        Self::new(Reason::MessageTooLarge, format!("the request is larger than {max_bytes} bytes"))
            .with("max_message_bytes", max_bytes)
    }

    /// Refuses `headers` that are larger than any valid request needs.
    ///
    /// # Errors
    /// [`Reason::MetadataTooLarge`] with the bound.
    pub fn check_metadata(headers: &HeaderMap) -> Result<(), Self> {
        // Counted as in HTTP/2: RFC 9113, section 6.5.2.
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        if bytes <= MAX_METADATA_BYTES {
            return Ok(());
        }
        let message = format!("the metadata of the request is larger than {MAX_METADATA_BYTES} bytes");
        Err(Self::new(Reason::MetadataTooLarge, message).with("max_metadata_bytes", MAX_METADATA_BYTES))
    }

    /// A reply that would be larger than `max_bytes`.
    #[must_use]
    pub fn reply_too_large(max_bytes: usize) -> Self {
        let message = format!("the reply would be larger than {max_bytes} bytes: request less at a time");
        Self::new(Reason::MessageTooLarge, message).with("max_message_bytes", max_bytes)
    }

    /// A request that does not fit into the node's or the connection's budget of request bytes.
    #[must_use]
    pub fn too_many_request_bytes() -> Self {
        let message = "unfinished requests hold as many bytes as the limit allows: try again";
        Self::new(Reason::Overloaded, message).retry(RETRY_AFTER)
    }

    /// A rebuild requested too soon after the last one.
    #[must_use]
    pub fn rebuilt_lately(wait: Duration) -> Self {
        Self::new(Reason::Overloaded, "the read model was rebuilt less than a minute ago").retry(wait)
    }

    /// A fault of the service, which the client can neither cause nor fix. `why` is logged.
    #[must_use]
    pub fn internal(why: impl Display) -> Self {
        let why = why.to_string();
        if let Some(Line { unsaid }) = FAULTS.failed(&why) {
            tracing::error!(unsaid, "replied with an internal error: {why}");
        }
        Self::new(Reason::Internal, "internal error; see the server log")
    }

    /// Adds a fact for programs.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.facts.push((name, value.to_string()));
        self
    }

    /// The value of a fact.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Adds the time until a retry.
    #[must_use]
    pub const fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The description for humans, with the fields named by `name`.
    #[must_use]
    pub fn message(&self, name: for<'a> fn(&'a FieldPath) -> Cow<'a, str>) -> Cow<'_, str> {
        if self.violations.is_empty() {
            return Cow::Borrowed(&self.message);
        }
        let first = self.violations.iter().take(MAX_DESCRIBED_VIOLATIONS);
        let described = first.map(|violation| format!("{} {}", name(&violation.field), violation.description));
        let mut message = described.collect::<Vec<_>>().join("; ");
        if let Some(more @ 1..) = self.violations.len().checked_sub(MAX_DESCRIBED_VIOLATIONS) {
            message.push_str(&format!("; and {more} more"));
        }
        Cow::Owned(message)
    }

    /// The error as a gRPC status with its details.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let spec = self.reason.spec();
        let message = self.message(FieldPath::in_protos);
        let mut details = ErrorDetails::new();
        let mut metadata: std::collections::HashMap<String, String> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        if !self.violations.is_empty() {
            metadata.insert("violation_count".to_owned(), self.violations.len().to_string());
            let shown = self.violations.iter().take(MAX_GRPC_VIOLATIONS);
            details.set_bad_request(
                shown
                    .map(|violation| FieldViolation::new(violation.field.in_protos(), &violation.description))
                    .collect::<Vec<_>>(),
            );
        }
        if self.reason == Reason::IllegalTransition {
            let subject = format!("orders/{}", metadata.get("order_id").map_or("", String::as_str));
            details.set_precondition_failure(vec![PreconditionViolation::new("ORDER_STATUS", subject, &*message)]);
        }
        if let Some(after) = self.retry_after {
            details.set_retry_info(Some(after));
        }
        details.set_error_info(spec.name, ERROR_DOMAIN, metadata);
        let mut status = Status::with_error_details(spec.code, message, details);
        if let Some(after) = self.retry_after {
            // The built-in retries of gRPC libraries ignore the details.
            status.metadata_mut().insert(RETRY_PUSHBACK, AsciiMetadataValue::from(after.as_millis() as u64));
        }
        status
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        let message = error.to_string();
        let of = |reason| Self::new(reason, message.clone());
        match error {
            AppError::OrderNotFound(id) => of(Reason::OrderNotFound).with("order_id", id),
            AppError::UnknownHandler { name, known } => {
                of(Reason::HandlerNotFound).with("handler", name).with("known_handlers", known.join(","))
            }
            AppError::RevisionNotReached(id) => of(Reason::RevisionNotReached).with("order_id", id),
            AppError::HistoryEndsBefore { order_id, actual, .. } => {
                of(Reason::RevisionNotReached).with("order_id", order_id).with("actual_revision", actual)
            }
            AppError::IllegalTransition { order_id, status, revision, command } => of(Reason::IllegalTransition)
                .with("order_id", order_id)
                .with("status", status)
                .with("actual_revision", revision)
                .with("command", command),
            AppError::RevisionConflict { order_id, expected, actual } => of(Reason::RevisionConflict)
                .with("order_id", order_id)
                .with("expected_revision", expected)
                .with("actual_revision", actual),
            AppError::RequestReused(id) => of(Reason::RequestIdReused).with("request_id", id),
            AppError::RoleMissing { needed, .. } => {
                let names: Vec<_> = needed.iter().map(Role::name).collect();
                of(Reason::RoleMissing).with("roles", names.join(","))
            }
            AppError::CustomerNotAllowed => of(Reason::CustomerNotAllowed),
            AppError::ActorNotAllowed => of(Reason::ActorNotAllowed),
            AppError::Contention => of(Reason::Contention).retry(Duration::from_millis(50)),
            AppError::Overloaded | AppError::TooManyStreams | AppError::ReadersBehind => {
                of(Reason::Overloaded).retry(RETRY_AFTER)
            }
            AppError::DeadlineExceeded => of(Reason::DeadlineExceeded),
            AppError::ConsistencyTimeout(_) => of(Reason::ConsistencyTimeout),
            AppError::ShuttingDown => of(Reason::ShuttingDown).retry(RETRY_AFTER),
            // The pipeline has logged their causes.
            AppError::OutcomeUnknown(_) => Self::new(
                Reason::OutcomeUnknown,
                "it is not known whether the command took effect: retry it with the same request id, or check the order",
            )
            .retry(RETRY_AFTER),
            AppError::TooLarge { max_bytes, .. } => of(Reason::MessageTooLarge).with("max_message_bytes", max_bytes),
            AppError::StoreFull(_) => Self::new(Reason::StoreFull, "the event store is full").retry(RETRY_AFTER * 10),
            AppError::NewIds { retry_after, .. } => of(Reason::Unavailable).retry(retry_after),
            AppError::Unavailable { retry_after, .. } => {
                Self::new(Reason::Unavailable, "a required backend is unavailable").retry(retry_after)
            }
            AppError::LogReplaced(_) => Self::new(
                Reason::CursorLogMismatch,
                "the log was restored to an earlier state and no longer has everything that was read or requested",
            ),
            AppError::Corrupt(_) => Self::new(Reason::DataCorrupt, "stored data is damaged; see the server log"),
        }
    }
}

impl From<Violations> for ApiError {
    fn from(violations: Violations) -> Self {
        if violations.is_only_unknown() {
            return AppError::unavailable("a cursor or token came before the event store has been reached").into();
        }
        let reason = if violations.names_another_log() { Reason::CursorLogMismatch } else { Reason::InvalidArgument };
        Self { violations: violations.into_vec(), ..Self::new(reason, String::new()) }
    }
}

/// The trailers that end a gRPC reply with `status`.
#[must_use]
pub fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Fails only for a message that is not a valid header value; the details then carry the message.
    let _ = status.add_header(&mut trailers);
    trailers
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        error.to_status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The protocol's name of a code: "NOT_FOUND".
    fn code_name(code: Code) -> String {
        let mut name = String::new();
        for letter in format!("{code:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }

    #[test]
    fn the_page_of_errors_has_one_row_for_each_reason_and_no_other() {
        let page = include_str!("../../docs/errors.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let spec = reason.spec();
            let begins = format!("| `{}` | {} | {} | ", spec.name, code_name(spec.code), spec.http_status);
            assert!(rows.iter().any(|row| row.starts_with(&begins)), "docs/errors.md lacks {begins}");
        }
    }

    #[test]
    fn a_retryable_error_tells_the_libraries_how_long_to_wait() {
        let status = ApiError::from(AppError::Overloaded).to_status();
        assert_eq!(status.metadata().get(RETRY_PUSHBACK).unwrap(), RETRY_AFTER.as_millis().to_string().as_str());
        assert!(ApiError::internal("a test").to_status().metadata().get(RETRY_PUSHBACK).is_none());
    }
}
