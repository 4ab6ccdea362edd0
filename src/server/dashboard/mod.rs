//! The dashboard: one plain page that shows the node to people. It uses the REST gateway like any client.

use axum::{
    Router,
    body::Body,
    extract::{Path, rejection::PathRejection},
    routing::get,
};
use http::{HeaderValue, Response, header};

use super::{
    browsers::secure_page,
    error::{ApiError, Reason},
};

const PAGE: &str = include_str!("index.html");
const SCRIPT: &str = include_str!("dashboard.js");
const STYLE: &str = include_str!("dashboard.css");

/// Only the page's own files and the node's own replies.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Every path of the dashboard.
pub const PATHS: [&str; 2] = ["/dashboard", "/dashboard/{file}"];

/// The routes of the dashboard.
pub fn router() -> Router {
    let [page_at, file_at] = PATHS;
    Router::new().route(page_at, get(page)).route(file_at, get(file))
}

/// `GET /dashboard`
///
/// # Errors
/// Never.
async fn page() -> Result<Response<Body>, ApiError> {
    Ok(text(PAGE, "text/html; charset=utf-8"))
}

/// `GET /dashboard/{file}`
///
/// # Errors
/// If the file does not exist.
async fn file(file: Result<Path<String>, PathRejection>) -> Result<Response<Body>, ApiError> {
    match file.as_ref().map(|Path(file)| file.as_str()) {
        Ok("dashboard.js") => Ok(text(SCRIPT, "text/javascript; charset=utf-8")),
        Ok("dashboard.css") => Ok(text(STYLE, "text/css; charset=utf-8")),
        _ => Err(ApiError::new(Reason::RouteNotFound, "there is no such file")),
    }
}

fn text(content: &'static str, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(content));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    secure_page(&mut response, POLICY);
    response
}
