//! The single table of all reasons for errors, with their gRPC codes and HTTP statuses.

use tonic::Code;

/// The reason of a failed request: one stable word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`Reason::spec` describes each one")]
pub enum Reason {
    InvalidArgument,
    CursorOfAnotherLog,
    OrderNotFound,
    HandlerNotFound,
    NotYetThen,
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
    NotFreshInTime,
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
        Self::CursorOfAnotherLog,
        Self::OrderNotFound,
        Self::HandlerNotFound,
        Self::NotYetThen,
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
        Self::NotFreshInTime,
        Self::DataCorrupt,
        Self::Internal,
    ];

    /// The public representation.
    #[must_use]
    pub const fn spec(self) -> ReasonSpec {
        let (name, code, http_status, title) = match self {
            Self::InvalidArgument => ("INVALID_ARGUMENT", Code::InvalidArgument, 400, "Invalid input"),
            Self::CursorOfAnotherLog => {
                ("CURSOR_OF_ANOTHER_LOG", Code::InvalidArgument, 400, "Cursor from another log")
            }
            Self::OrderNotFound => ("ORDER_NOT_FOUND", Code::NotFound, 404, "Order not found"),
            Self::HandlerNotFound => ("HANDLER_NOT_FOUND", Code::NotFound, 404, "Handler not found"),
            Self::NotYetThen => ("NOT_YET_THEN", Code::NotFound, 404, "The order did not exist then"),
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
            Self::NotFreshInTime => ("NOT_FRESH_IN_TIME", Code::DeadlineExceeded, 504, "Not fresh in time"),
            Self::DataCorrupt => ("DATA_CORRUPT", Code::DataLoss, 500, "Stored data is damaged"),
            Self::Internal => ("INTERNAL", Code::Internal, 500, "Internal error"),
        };
        ReasonSpec { name, code, http_status, title }
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
        let page = include_str!("../../../docs/errors.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let spec = reason.spec();
            let begins = format!("| `{}` | {} | {} | ", spec.name, code_name(spec.code), spec.http_status);
            assert!(rows.iter().any(|row| row.starts_with(&begins)), "docs/errors.md lacks {begins}");
        }
    }
}
