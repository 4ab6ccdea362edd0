//! Errors as sent to clients, by either API.

mod reason;

use std::{borrow::Cow, fmt::Display, time::Duration};

use http::HeaderMap;
use tonic::{Status, metadata::AsciiMetadataValue};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

pub use self::reason::{Reason, ReasonSpec};
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

/// An error as sent to clients, by either API.
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

    /// A rebuild that was requested too soon after the last one.
    #[must_use]
    pub fn rebuild_too_soon(wait: Duration) -> Self {
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
            AppError::HandlerNotFound { name, known } => {
                of(Reason::HandlerNotFound).with("handler", name).with("known_handlers", known.join(","))
            }
            AppError::NotYetThen(id) => of(Reason::NotYetThen).with("order_id", id),
            AppError::HistoryEndsBefore { order_id, actual, .. } => {
                of(Reason::NotYetThen).with("order_id", order_id).with("actual_revision", actual)
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
            AppError::RequestIdReused(id) => of(Reason::RequestIdReused).with("request_id", id),
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
            AppError::ReplyTooLarge { max_bytes } => Self::reply_too_large(max_bytes),
            AppError::DeadlineExceeded => of(Reason::DeadlineExceeded),
            AppError::NotFreshInTime(_) => of(Reason::NotFreshInTime),
            AppError::ShuttingDown => of(Reason::ShuttingDown).retry(RETRY_AFTER),
            // The pipeline has logged their causes.
            AppError::OutcomeUnknown(_) => Self::new(
                Reason::OutcomeUnknown,
                "it is not known whether the command took effect: retry it with the same request id, or check the order",
            )
            .retry(RETRY_AFTER),
            AppError::CommitTooLarge { max_bytes, .. } => of(Reason::MessageTooLarge).with("max_message_bytes", max_bytes),
            AppError::StoreFull(_) => Self::new(Reason::StoreFull, "the event store is full").retry(RETRY_AFTER * 10),
            AppError::IdsUnavailable { retry_after, .. } => of(Reason::Unavailable).retry(retry_after),
            AppError::Unavailable { retry_after, .. } => {
                Self::new(Reason::Unavailable, "a required backend is unavailable").retry(retry_after)
            }
            AppError::LogReplaced(_) => Self::new(
                Reason::CursorOfAnotherLog,
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
        let reason = if violations.names_another_log() { Reason::CursorOfAnotherLog } else { Reason::InvalidArgument };
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

    #[test]
    fn a_retryable_error_tells_the_libraries_how_long_to_wait() {
        let status = ApiError::from(AppError::Overloaded).to_status();
        assert_eq!(status.metadata().get(RETRY_PUSHBACK).unwrap(), RETRY_AFTER.as_millis().to_string().as_str());
        assert!(ApiError::internal("a test").to_status().metadata().get(RETRY_PUSHBACK).is_none());
    }
}
