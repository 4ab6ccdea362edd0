//! The body of a request: bounded in size and time, and of the right type.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;

use crate::{
    application::{admission::weigh, byte_budget::HeldBytes, requests::Field},
    server::{
        admission::{Shed, overloaded},
        error::{ApiError, Reason},
    },
};

/// The time limit for a client to send a body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of an oversized body is discarded, and for how long.
const MAX_DISCARDED_BYTES: usize = 64 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// The JSON text of a request; empty without a body. Its bytes are reserved in `held` as they arrive.
///
/// # Errors
/// If it is larger than `max_bytes`, exceeds the budget, is not sent in time, is not declared as JSON, or is not UTF-8.
pub async fn read(headers: &HeaderMap, body: Body, max_bytes: usize, held: &mut HeldBytes) -> Result<Bytes, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut body = body;
    if announced.is_some_and(|length| length > max_bytes) {
        // With `Expect: 100-continue` reply at once; otherwise drain first, since the client reads only after sending.
        if !headers.contains_key(header::EXPECT) {
            discard(body, announced).await;
        }
        return Err(ApiError::too_large(max_bytes));
    }
    let collected = tokio::time::timeout(READ_TIMEOUT, collect(&mut body, max_bytes, held)).await;
    let bytes = match collected.map_err(|_| not_in_time())? {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.reason != Reason::InvalidArgument {
                discard(body, None).await;
            }
            return Err(error);
        }
    };
    weigh(bytes.len());
    if !bytes.is_empty() {
        require_json(headers)?;
    }
    Ok(bytes)
}

/// All bytes of a body.
async fn collect(body: &mut Body, max_bytes: usize, held: &mut HeldBytes) -> Result<Bytes, ApiError> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match Shed::is_in(&error) {
            true => overloaded(),
            false => malformed("ended before it was complete"),
        })?;
        // Trailers are ignored.
        let Ok(data) = frame.into_data() else { continue };
        let length = collected.len() + data.len();
        if length > max_bytes {
            return Err(ApiError::too_large(max_bytes));
        }
        if !held.set(length) {
            return Err(ApiError::too_many_request_bytes());
        }
        if length == data.len() && body.is_end_stream() {
            // Most arrive in one piece, which needs no copy.
            return Ok(data);
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

fn not_in_time() -> ApiError {
    ApiError::new(Reason::RequestTimeout, format!("the request was not sent within {} s", READ_TIMEOUT.as_secs()))
}

/// Discards the rest of a body, within bounds: to the client, a connection that is closed in the middle of a body looks broken, and the reason for
/// the refusal is lost.
async fn discard(mut body: Body, announced: Option<usize>) {
    if announced.is_some_and(|length| length > MAX_DISCARDED_BYTES) {
        return;
    }
    let rest = async {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await
            && discarded <= MAX_DISCARDED_BYTES
        {
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // It does not matter whether everything has arrived.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, rest).await;
}

/// The text of a body.
///
/// # Errors
/// A violation if it is not UTF-8.
pub fn text(bytes: &Bytes) -> Result<&str, ApiError> {
    std::str::from_utf8(bytes).map_err(|_| malformed("must be JSON in UTF-8"))
}

fn malformed(description: &str) -> ApiError {
    ApiError::invalid(Field::Request, description)
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = match (types.next(), types.next()) {
        (Some(only), None) => is_json(only),
        _ => false,
    };
    if !is_json {
        let message = "the body must be sent with Content-Type: application/json, in UTF-8";
        return Err(ApiError::new(Reason::UnsupportedMediaType, message));
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let message = "the body must be sent without Content-Encoding";
        return Err(ApiError::new(Reason::CompressionNotSupported, message));
    }
    Ok(())
}

fn is_json(media_type: &HeaderValue) -> bool {
    // The form that most clients use.
    if media_type == "application/json" {
        return true;
    }
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
    fn json_is_recognised_in_any_case_and_only_in_utf_8() {
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
