//! The OpenAPI document, and Swagger UI without external resources.

use std::sync::{Arc, LazyLock};

use axum::{
    body::Body,
    extract::{Path, rejection::PathRejection},
};
use bytes::Bytes;
use http::{HeaderValue, Response, header};

use super::{Reply, openapi, redirect};
use crate::server::{
    browsers::secure_page,
    error::{ApiError, Reason},
};

/// Serialised once: the document does not change while the node runs.
static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(openapi::document().to_string()));

/// Swagger UI uses inline styles; everything else comes from files of this node.
const SWAGGER_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'";

/// `GET /openapi.json`
///
/// # Errors
/// Never.
pub async fn openapi() -> Reply {
    let mut response = Response::new(Body::from(OPENAPI.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `GET /swagger`, `GET /swagger/`
///
/// # Errors
/// Never.
pub async fn swagger() -> Reply {
    // The page refers to its files by relative paths.
    Ok(redirect("/swagger/index.html"))
}

/// `GET /swagger/{file}`
///
/// # Errors
/// If the file does not exist.
pub async fn swagger_file(file: Result<Path<String>, PathRejection>) -> Reply {
    static CONFIG: LazyLock<Arc<utoipa_swagger_ui::Config<'static>>> = LazyLock::new(|| {
        // Without this the page would query a validator on the Internet.
        Arc::new(utoipa_swagger_ui::Config::new(["/openapi.json"]).validator_url("none"))
    });
    let missing = || ApiError::new(Reason::RouteNotFound, "there is no such file");
    let Path(file) = file.map_err(|_| missing())?;
    let found = utoipa_swagger_ui::serve(&file, Arc::clone(&CONFIG)).map_err(ApiError::internal)?;
    let found = found.ok_or_else(missing)?;
    let mut bytes = found.bytes.into_owned();
    if file == "index.html" {
        bytes = with_viewport(&bytes).map_err(ApiError::internal)?;
    }
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&found.content_type).map_err(ApiError::internal)?);
    if found.gzpipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    secure_page(&mut response, SWAGGER_POLICY);
    Ok(response)
}

/// Adds a viewport to the page, which lacks one: a phone would show it as wide as on a desktop.
fn with_viewport(page: &[u8]) -> Result<Vec<u8>, std::str::Utf8Error> {
    let page = std::str::from_utf8(page)?;
    let viewport = r#"<head><meta name="viewport" content="width=device-width, initial-scale=1">"#;
    Ok(page.replacen("<head>", viewport, 1).into_bytes())
}
