//! Refusals by layers before the body of a request is read.

use axum::{body::Body, response::IntoResponse as _};
use http::{HeaderValue, Response, Version, header};

use crate::server::{call::Protocol, error::ApiError};

/// The response to a call of this `protocol`. `CompletionLayer` completes a problem document.
pub(super) fn response(protocol: Protocol, error: ApiError) -> Response<Body> {
    if protocol.is_grpc() { error.to_status().into_http() } else { error.into_response() }
}

/// The response to a call whose body is left unread: over HTTP/1 no other request can follow it on its connection.
pub(super) fn unread(protocol: Protocol, version: Version, error: ApiError) -> Response<Body> {
    let mut response = response(protocol, error);
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
