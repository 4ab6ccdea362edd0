//! The REST door.

use axum::Router;

use super::Context;

/// Every REST route.
pub fn router(_context: &Context) -> Router {
    Router::new()
}
