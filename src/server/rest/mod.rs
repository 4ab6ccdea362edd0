//! The REST door: a thin gateway that fills the drafts which gRPC fills, and calls the same mediator.
//!
//! Every input is read strictly: an unknown field or parameter, a repeated one, a wrong type is refused, and everything that is
//! wrong is named at once. Every error is `application/problem+json`.

mod body;
mod decimal;
pub mod documents;
pub mod edge;
mod events;
mod headers;
mod history;
mod input;
mod json;
pub mod openapi;
mod orders;
pub mod problem;
mod queries;
mod query;
mod sse;
mod system;
pub mod time;
mod view;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    routing::{MethodRouter, get, post},
};
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    ApiState, dashboard,
    error::{ApiError, Reason},
};

/// What every handler works with.
type Shared = Arc<ApiState>;

/// What every handler answers.
type Reply = Result<Response<Body>, ApiError>;

/// Every path with the handlers of its methods: the one list that the router is made of and the OpenAPI document is held against.
fn routes() -> Vec<(&'static str, MethodRouter<Shared>)> {
    let collection = || post(orders::create).get(queries::list);
    vec![
        ("/", get(system::root)),
        ("/health", get(system::health)),
        ("/health/ready", get(system::ready)),
        ("/health/live", get(system::live)),
        ("/stats", get(queries::stats)),
        ("/metrics", get(system::metrics)),
        ("/cluster", get(system::cluster)),
        ("/orders", collection()),
        ("/orders/{id}", get(queries::get)),
        ("/orders/{id}/pay", post(orders::pay)),
        ("/orders/{id}/ship", post(orders::ship)),
        ("/orders/{id}/deliver", post(orders::deliver)),
        ("/orders/{id}/cancel", post(orders::cancel)),
        ("/orders/{id}/history", get(history::of_order)),
        ("/api/orders", collection()),
        ("/api/orders/{id}", get(queries::get)),
        ("/api/orders/{id}/pay", post(orders::pay)),
        ("/api/orders/{id}/ship", post(orders::ship)),
        ("/api/orders/{id}/deliver", post(orders::deliver)),
        ("/api/orders/{id}/cancel", post(orders::cancel)),
        ("/api/orders/{id}/history", get(history::of_order)),
        ("/events", get(history::of_all)),
        ("/api/id", get(system::new_ids)),
        ("/api/id/{id}", get(system::id_parts)),
        ("/openapi.json", get(documents::openapi)),
        ("/swagger", get(documents::swagger)),
        ("/swagger/{file}", get(documents::swagger_file)),
        ("/dashboard", get(dashboard::page)),
        ("/dashboard/{file}", get(dashboard::file)),
    ]
}

/// Every path that the door serves.
#[must_use]
pub fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// Every REST route; the page to try them out with `has_swagger`.
pub fn router(context: &ApiState, has_swagger: bool) -> Router {
    let shared = Arc::new(context.clone());
    let routes = routes().into_iter().filter(|(path, _)| has_swagger || !path.starts_with("/swagger"));
    let router = routes.fold(Router::new(), |router, (path, route)| router.route(path, route));
    router.fallback(no_route).with_state(shared)
}

/// A door without routes, for a port that is not for REST.
pub fn closed() -> Router {
    Router::new().fallback(no_route)
}

async fn no_route() -> ApiError {
    ApiError::new(Reason::RouteNotFound, "there is no such route; /openapi.json names those that there are")
}

/// Sends the client to another page of this node.
fn redirect(to: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}
