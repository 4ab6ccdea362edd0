//! The bytes of a request's body: bounded, in time and of the right kind.

use std::{error::Error, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::LengthLimitError;

use crate::{
    api::{
        error::{ApiError, Reason},
        validation::Violations,
    },
    application::AppError,
};

/// How long a client may take to send a body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The JSON text of a request; empty if there is none.
///
/// # Errors
/// Larger than `max_bytes`, not sent in time, not said to be JSON, or not UTF-8.
pub async fn read(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Bytes, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max_bytes) {
        return Err(ApiError::too_large(max_bytes));
    }
    let bytes = tokio::time::timeout(READ_TIMEOUT, axum::body::to_bytes(body, max_bytes))
        .await
        .map_err(|_| AppError::DeadlineExceeded)?
        .map_err(|error| match error.source() {
            Some(source) if source.is::<LengthLimitError>() => ApiError::too_large(max_bytes),
            _ => malformed("ended before all of it was there"),
        })?;
    if !bytes.is_empty() {
        require_json(headers)?;
    }
    Ok(bytes)
}

/// The text of a body.
///
/// # Errors
/// A violation if it is not UTF-8.
pub fn text(bytes: &Bytes) -> Result<&str, ApiError> {
    std::str::from_utf8(bytes).map_err(|_| malformed("must be JSON in UTF-8"))
}

fn malformed(description: &str) -> ApiError {
    let mut violations = Violations::default();
    violations.add("body", description);
    violations.into()
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |message| Err(ApiError::new(Reason::UnsupportedMediaType, message));
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = match (types.next(), types.next()) {
        (Some(only), None) => is_json(only),
        _ => false,
    };
    if !is_json {
        return unsupported("the body must be sent with Content-Type: application/json, in UTF-8");
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return unsupported("the body must be sent without Content-Encoding");
    }
    Ok(())
}

fn is_json(media_type: &HeaderValue) -> bool {
    let Ok(text) = media_type.to_str() else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.filter(|part| !part.is_empty()).all(|part| match part.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            other => other.is_some(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_in_any_case_and_only_in_utf_8() {
        for text in [
            "application/json",
            "Application/JSON",
            "application/json; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(is_json(&HeaderValue::from_static(text)), "{text}");
        }
        for text in [
            "",
            "text/json",
            "application/jsonp",
            "application/problem+json",
            "application/json; charset=latin1",
            "json",
        ] {
            assert!(!is_json(&HeaderValue::from_static(text)), "{text}");
        }
    }
}
