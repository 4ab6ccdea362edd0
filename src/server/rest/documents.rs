//! The OpenAPI document, and Swagger UI with nothing loaded from outside.

use std::sync::{Arc, LazyLock};

use axum::{
    body::Body,
    extract::{Path, rejection::PathRejection},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};

use super::{Reply, openapi, redirect};
use crate::server::error::{ApiError, Reason};

/// Written once: the document does not change while the node runs.
static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(openapi::document().to_string()));

/// Swagger UI styles its elements in place; everything else comes from files of this node.
const SWAGGER_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'";

/// `GET /openapi.json`
///
/// # Errors
/// None.
pub async fn openapi() -> Reply {
    let mut response = Response::new(Body::from(OPENAPI.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `GET /swagger`
///
/// # Errors
/// None.
pub async fn swagger() -> Reply {
    // Its page names its files relative to itself.
    Ok(redirect("/swagger/index.html"))
}

/// `GET /swagger/{file}`
///
/// # Errors
/// If there is no such file.
pub async fn swagger_file(file: Result<Path<String>, PathRejection>) -> Reply {
    static CONFIG: LazyLock<Arc<utoipa_swagger_ui::Config<'static>>> = LazyLock::new(|| {
        // Without this the page would ask a validator on the Internet.
        Arc::new(utoipa_swagger_ui::Config::new(["/openapi.json"]).validator_url("none"))
    });
    let missing = || ApiError::new(Reason::RouteNotFound, "there is no such file");
    let Path(file) = file.map_err(|_| missing())?;
    let found = utoipa_swagger_ui::serve(&file, Arc::clone(&CONFIG)).map_err(ApiError::internal)?;
    let found = found.ok_or_else(missing)?;
    let mut response = Response::new(Body::from(found.bytes.into_owned()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&found.content_type).map_err(ApiError::internal)?);
    if found.gzpipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    secure_page(&mut response, SWAGGER_POLICY);
    Ok(response)
}

/// Keeps a page to what `policy` allows, out of frames of others, and quiet about where it was.
pub fn secure_page(response: &mut Response<Body>, policy: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY"));
}
