//! The REST gateway: thin; it fills the same drafts as gRPC, and calls the same mediator.
//!
//! All input is parsed strictly: an unknown or repeated field or parameter and a wrong type are refused, and all violations are reported at once.
//! Every error is `application/problem+json`.

mod body;
mod decimal;
pub mod documents;
mod events;
mod headers;
mod history;
mod input;
mod json;
pub mod openapi;
mod order_json;
mod orders;
mod page;
pub mod problem;
mod queries;
mod query;
mod split;
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
    ApiState,
    error::{ApiError, Reason},
};

/// The state of every handler.
type Shared = Arc<ApiState>;

/// The result of every handler.
type Reply = Result<Response<Body>, ApiError>;

/// Every path with the handlers of its methods: the single list from which the router is built, and against which the OpenAPI document is checked.
fn routes() -> Vec<(String, MethodRouter<Shared>)> {
    let mut routes: Vec<_> = node().map(|(path, route)| (path.to_owned(), route)).into();
    for prefix in PREFIXES {
        let one = format!("{prefix}/orders/{{id}}");
        routes.push((format!("{prefix}/orders"), post(orders::create).get(queries::list)));
        routes
            .extend(orders::commands().into_iter().map(|command| (format!("{one}/{}", command.action), command.route)));
        routes.push((format!("{one}/history"), get(history::of_order)));
        routes.push((one, get(queries::get)));
    }
    routes
}

/// The prefixes of the routes of orders: both have the same routes.
pub const PREFIXES: [&str; 2] = ["", "/api"];

fn node() -> [(&'static str, MethodRouter<Shared>); 14] {
    [
        ("/", get(system::root)),
        ("/health", get(system::health)),
        ("/health/ready", get(system::ready)),
        ("/health/live", get(system::live)),
        ("/stats", get(queries::stats)),
        ("/metrics", get(system::metrics)),
        ("/cluster", get(system::cluster)),
        ("/events", get(history::of_all)),
        ("/api/id", get(system::new_ids)),
        ("/api/id/{id}", get(system::id_parts)),
        ("/openapi.json", get(documents::openapi)),
        ("/swagger", get(documents::swagger)),
        ("/swagger/", get(documents::swagger)),
        ("/swagger/{file}", get(documents::swagger_file)),
    ]
}

/// Every path of the gateway.
#[must_use]
pub fn paths() -> Vec<String> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// Every REST route; with `has_swagger` also Swagger UI.
pub fn router(api: &ApiState, has_swagger: bool) -> Router {
    let shared = Arc::new(api.clone());
    let routes = routes().into_iter().filter(|(path, _)| has_swagger || !path.starts_with("/swagger"));
    let router = routes.fold(Router::new(), |router, (path, route)| router.route(&path, route));
    router.fallback(no_route).with_state(shared)
}

/// A router without routes, for a port without REST.
pub fn closed() -> Router {
    Router::new().fallback(no_route)
}

async fn no_route() -> ApiError {
    ApiError::new(Reason::RouteNotFound, "there is no such route; /openapi.json lists all routes")
}

/// Redirects the client to another page of this node.
fn redirect(to: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}
