//! The gRPC services of a node, by the path of a call.

use std::{convert::Infallible, sync::Arc};

use axum::{Router, body::Body};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use tower::Service as _;

use super::{
    commands::Commands,
    direct::{self, Answered, Direct, DirectCall, Encoding},
    queries::Queries,
    request::RequestBody,
};
use crate::proto::catga::orders::v1::{
    order_command_service_server::{OrderCommandServiceServer, SERVICE_NAME as COMMANDS},
    order_query_service_server::{OrderQueryServiceServer, SERVICE_NAME as QUERIES},
};

/// A pending response of a service.
pub type Pending = BoxFuture<'static, Answered>;

/// Every gRPC service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services(Arc<All>);

/// Most calls are answered [directly](super::direct). Other commands and queries reach their service without a router, whose path parameters, which
/// gRPC does not have, would cost allocations.
#[derive(Debug)]
pub struct All {
    /// The services that answer directly.
    pub direct: Arc<Direct>,
    /// The commands.
    pub commands: OrderCommandServiceServer<Commands>,
    /// The queries.
    pub queries: OrderQueryServiceServer<Queries>,
    /// All other services.
    pub others: Router,
}

impl From<All> for Services {
    fn from(all: All) -> Self {
        Self(Arc::new(all))
    }
}

impl Services {
    /// Answers a call. Every service is always ready.
    pub fn call(&self, request: Request<RequestBody<Body>>, encoding: Encoding) -> Pending {
        if let Some(call) = DirectCall::of(&request, encoding) {
            return direct::answer(call, request, &self.0.direct);
        }
        let request = request.map(Body::new);
        match service_of(request.uri().path()) {
            Some(COMMANDS) => self.0.commands.clone().call(request).map(answered).boxed(),
            Some(QUERIES) => self.0.queries.clone().call(request).map(answered).boxed(),
            _ => self.0.others.clone().call(request).boxed(),
        }
    }
}

fn answered(reply: Result<Response<tonic::body::Body>, Infallible>) -> Answered {
    reply.map(|response| response.map(Body::new))
}

/// The name of the service in `path`: `/package.Service/Method`.
fn service_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split_once('/').map(|(service, _)| service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_of_a_call_is_the_first_part_of_its_path() {
        assert_eq!(service_of("/catga.orders.v1.OrderCommandService/PayOrder"), Some(COMMANDS));
        assert_eq!(service_of("/catga.orders.v1.OrderQueryService/GetOrder"), Some(QUERIES));
        for path in ["", "/", "/catga.orders.v1.OrderCommandService", "catga.orders.v1.OrderQueryService/GetOrder"] {
            assert!(service_of(path).is_none_or(|service| service != COMMANDS && service != QUERIES), "{path}");
        }
    }
}
