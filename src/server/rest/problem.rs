//! Errors as `application/problem+json`. Source: RFC 9457.

use std::borrow::Cow;

use axum::{body::Body, response::IntoResponse};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::{
    application::requests::{FieldPath, Violation},
    server::error::{ApiError, Reason},
};

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// The maximum number of violations in one problem; its detail gives their total number.
const MAX_VIOLATIONS: usize = 1_000;

/// Marks a reply whose body is not written yet: only the outer layer knows the path that the problem names.
#[derive(Clone, Debug)]
pub struct DeferredProblem(ApiError);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(self.reason);
        // The reason, for the audit.
        response.extensions_mut().insert(self.reason);
        response.extensions_mut().insert(DeferredProblem(self));
        response
    }
}

fn status(reason: Reason) -> StatusCode {
    // Every status of the table is a valid one.
    StatusCode::from_u16(reason.spec().http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Completes the headers of an error reply, and returns its body; leaves every other reply unchanged.
pub fn write<B>(response: &mut Response<B>, path: &str) -> Option<Body> {
    let error = match response.extensions_mut().remove::<DeferredProblem>() {
        Some(DeferredProblem(error)) => error,
        // The router's own refusals have no body.
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            Reason::MethodNotAllowed,
            "the route does not support this method; Allow lists those that it supports",
        ),
        None => return None,
    };
    *response.status_mut() = status(error.reason);
    let body = to_json(&error, path);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    if let Some(after) = error.retry_after {
        // Whole seconds; zero would mean at once.
        let seconds = after.as_millis().div_ceil(1_000).max(1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
    }
    Some(Body::from(body))
}

/// The problem document of `error` at `path`.
#[must_use]
pub fn to_json(error: &ApiError, path: &str) -> Vec<u8> {
    let spec = error.reason.spec();
    let fact = |name: &str| error.fact(name);
    let number = |name: &str| fact(name).and_then(|value| value.parse::<u64>().ok());
    let problem = Problem {
        kind: format!("urn:ordersystem:problem:{}", spec.name.to_ascii_lowercase().replace('_', "-")),
        title: spec.title,
        status: spec.http_status,
        detail: &error.message(FieldPath::over_rest),
        instance: path,
        reason: spec.name,
        violations: error.violations.iter().take(MAX_VIOLATIONS).map(ProblemViolation::from).collect(),
        order_id: fact("order_id"),
        order_status: fact("status"),
        command: fact("command"),
        expected_revision: number("expected_revision"),
        actual_revision: number("actual_revision"),
        request_id: fact("request_id"),
        max_message_bytes: number("max_message_bytes"),
        required_roles: fact("roles").map(|roles| roles.split(',').collect()).unwrap_or_default(),
        limit: fact("limit"),
        limit_value: number("limit_value"),
        limit_scope: fact("scope"),
    };
    // Text and numbers only, so this cannot fail.
    serde_json::to_vec(&problem).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<ProblemViolation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_message_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required_roles: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_value: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_scope: Option<&'a str>,
}

#[derive(Serialize)]
struct ProblemViolation<'a> {
    field: Cow<'a, str>,
    description: &'a str,
}

impl<'a> From<&'a Violation> for ProblemViolation<'a> {
    fn from(violation: &'a Violation) -> Self {
        Self { field: violation.field.over_rest(), description: &violation.description }
    }
}

/// The name of the header for consistency tokens.
pub const CONSISTENCY_TOKEN: HeaderName = HeaderName::from_static("x-consistency-token");
