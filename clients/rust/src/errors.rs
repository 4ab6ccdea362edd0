//! The details of an error of the order service.

use std::{collections::HashMap, time::Duration};

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

/// One violation in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field as the proto names it: `items[0].unit_price`.
    pub field: String,
    /// The constraint.
    pub description: String,
}

/// A violated precondition of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// `ORDER_STATUS`.
    pub r#type: String,
    /// `orders/{order id}`.
    pub subject: String,
    /// A description for people.
    pub description: String,
}

/// A view of an error, with its details read. Made by [`OrderError::of`] and [`OrderError::of_status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderError {
    /// The gRPC code.
    pub code: Code,
    /// A description for people.
    pub message: String,
    /// One stable word for programs, such as `ILLEGAL_TRANSITION`; empty if the error did not come from the service.
    pub reason: String,
    /// `ordersystem`, or empty.
    pub domain: String,
    /// Additional facts by name: `order_id`, `actual_revision` ...
    pub metadata: HashMap<String, String>,
    /// All violations in the input.
    pub field_violations: Vec<FieldViolation>,
    /// Why the order's status does not allow the command.
    pub preconditions: Vec<Precondition>,
    /// The delay before a retry; `None` if the service gave none.
    pub retry_delay: Option<Duration>,
}

impl OrderError {
    /// The details of the error of a call.
    pub fn of(status: &Status) -> Self {
        let mut view = OrderError::bare(status.code(), status.message());
        // Damaged details must not hide the error.
        if let Ok(carried) = pb::Status::decode(status.details()) {
            view.read_all(&carried.details);
        }
        view
    }

    /// The details of the error of one command of an `ExecuteCommands` call.
    pub fn of_status(status: &tonic_types::Status) -> Self {
        let mut view = OrderError::bare(Code::from_i32(status.code), &status.message);
        view.read_all(&status.details);
        view
    }

    /// Whether the service could not be reached; its replies always have a reason.
    pub(crate) fn is_of_connection(&self) -> bool {
        self.code == Code::Unavailable && self.reason.is_empty()
    }

    /// Whether a retry may help. A command must then have the request id of the first attempt.
    pub fn is_retryable(&self) -> bool {
        self.code == Code::Unavailable || self.retry_delay.is_some()
    }

    fn bare(code: Code, message: &str) -> Self {
        OrderError {
            code,
            message: message.to_owned(),
            reason: String::new(),
            domain: String::new(),
            metadata: HashMap::new(),
            field_violations: Vec::new(),
            preconditions: Vec::new(),
            retry_delay: None,
        }
    }

    fn read_all(&mut self, details: &[Any]) {
        for detail in details {
            self.read(detail);
        }
    }

    /// Adds one detail; ignores a damaged or unknown one.
    fn read(&mut self, detail: &Any) {
        if let Some(info) = unpack::<pb::ErrorInfo>(detail, "google.rpc.ErrorInfo") {
            (self.reason, self.domain, self.metadata) = (info.reason, info.domain, info.metadata);
        } else if let Some(bad) = unpack::<pb::BadRequest>(detail, "google.rpc.BadRequest") {
            let violations = bad.field_violations.into_iter();
            self.field_violations =
                violations.map(|v| FieldViolation { field: v.field, description: v.description }).collect();
        } else if let Some(failure) = unpack::<pb::PreconditionFailure>(detail, "google.rpc.PreconditionFailure") {
            let violations = failure.violations.into_iter();
            self.preconditions = violations
                .map(|v| Precondition { r#type: v.r#type, subject: v.subject, description: v.description })
                .collect();
        } else if let Some(retry) = unpack::<pb::RetryInfo>(detail, "google.rpc.RetryInfo") {
            // A negative delay counts as none.
            self.retry_delay = retry.retry_delay.map(|delay| Duration::try_from(delay).unwrap_or_default());
        }
    }
}

/// The message in `detail` if it has the type `name` and is intact.
fn unpack<M: Message + Default>(detail: &Any, name: &str) -> Option<M> {
    let is_wanted = detail.type_url.rsplit('/').next() == Some(name);
    is_wanted.then(|| M::decode(detail.value.as_slice()).ok()).flatten()
}
