//! The console: pages that show the node to people, and let them operate it. It uses the APIs like any client.

mod files;

use axum::{
    Router,
    body::Body,
    extract::{Path, rejection::PathRejection},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use self::files::File;
use super::{
    browsers::secure_page,
    error::{ApiError, Reason},
};

/// Only the page's own files and the node's own replies.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const PAGE: &str = "index.html";

/// Every path of the console.
pub const PATHS: [&str; 3] = ["/dashboard", "/dashboard/", "/dashboard/{file}"];

/// The routes of the console.
pub fn router() -> Router {
    let [page_at, folder_at, file_at] = PATHS;
    // The page refers to its files by absolute paths.
    Router::new().route(page_at, get(page)).route(folder_at, get(page)).route(file_at, get(file))
}

/// `GET /dashboard`, `GET /dashboard/`
///
/// # Errors
/// Never.
async fn page(headers: HeaderMap) -> Result<Response<Body>, ApiError> {
    reply(PAGE, &headers)
}

/// `GET /dashboard/{file}`
///
/// # Errors
/// If the file does not exist.
async fn file(file: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Result<Response<Body>, ApiError> {
    reply(file.as_ref().map_or("", |Path(file)| file), &headers)
}

fn reply(name: &str, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let file = files::find(name).ok_or_else(|| ApiError::new(Reason::RouteNotFound, "there is no such file"))?;
    let mut response = if has_already(headers, file) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        content(file, headers)
    };
    let sent = response.headers_mut();
    sent.insert(header::ETAG, file.tag.clone());
    // Files of another version of the node must not be mixed with these: browsers must revalidate the tag each time.
    sent.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    sent.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    secure_page(&mut response, POLICY);
    Ok(response)
}

fn content(file: &'static File, headers: &HeaderMap) -> Response<Body> {
    let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_gzip = accepts.split(',').any(|coding| coding.trim() == "gzip");
    let body = if is_gzip { file.gzip.clone() } else { Bytes::from_static(file.text.as_bytes()) };
    let mut response = Response::new(Body::from(body));
    let sent = response.headers_mut();
    sent.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    if is_gzip {
        sent.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn has_already(headers: &HeaderMap, file: &File) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == file.tag)
}
