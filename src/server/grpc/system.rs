//! `catga.system.v1.SystemService`.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::reply;
use crate::{
    application::{AppError, tokens},
    circuit_breaker::{BreakerState, BreakerView, CircuitBreaker},
    codec::timestamp_to_proto,
    domain::order::item::MAX_QUANTITY,
    ports::event_store::Durability,
    proto::catga::system::v1::{self as pb, system_service_server::SystemService},
    server::{
        ApiState, MAX_BATCH_SIZE, MAX_IDS_PER_CALL, MAX_ITEMS, MAX_METADATA_BYTES, MAX_PAGE_SIZE, SERVICE_NAME,
        VERSION, error::ApiError,
    },
};

/// The minimum interval between messages to a client that watches the cluster.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The SystemService.
#[derive(Debug)]
pub struct System {
    api: ApiState,
}

impl System {
    /// The node of `api`.
    #[must_use]
    pub const fn new(api: ApiState) -> Self {
        Self { api }
    }
}

#[tonic::async_trait]
impl SystemService for System {
    async fn get_server_info(
        &self,
        _request: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        let info = &self.api.info;
        Ok(reply(pb::GetServerInfoResponse {
            service: SERVICE_NAME.to_owned(),
            version: VERSION.to_owned(),
            node: info.node.clone(),
            mode: mode(&self.api).into(),
            persistence: info.persistence.to_owned(),
            transport: info.transport.to_owned(),
            durability: durability(self.api.store.durability()).into(),
            limits: Some(limits(&self.api)),
            started_at: Some(timestamp_to_proto(info.started_at)),
            uptime: prost_types::Duration::try_from(info.started.elapsed()).ok(),
            datacenter_id: self.api.ids.node().datacenter_id().into(),
            worker_id: self.api.ids.node().worker_id().into(),
            durability_detail: self.api.store.durability_detail().unwrap_or_default(),
            authentication: info.authentication.name().to_owned(),
            security_warning: info.security_warning.unwrap_or_default().to_owned(),
        }))
    }

    async fn get_cluster(
        &self,
        _request: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::GetClusterResponse>, Status> {
        Ok(reply(pb::GetClusterResponse { cluster: Some(cluster(&self.api).await?) }))
    }

    async fn list_circuit_breakers(
        &self,
        _request: Request<pb::ListCircuitBreakersRequest>,
    ) -> Result<Response<pb::ListCircuitBreakersResponse>, Status> {
        let circuit_breakers = self.api.breakers.iter().map(|breaker| circuit_breaker(breaker)).collect();
        Ok(reply(pb::ListCircuitBreakersResponse { circuit_breakers }))
    }

    type WatchClusterStream = Pin<Box<dyn Stream<Item = Result<pb::WatchClusterResponse, Status>> + Send>>;

    async fn watch_cluster(
        &self,
        request: Request<pb::WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        let permit = self.api.streams_of(request.extensions()).acquire().map_err(ApiError::from)?;
        let watched = stream::try_unfold((self.api.clone(), None, permit), |(api, last, permit)| async move {
            let next = changed(&api, last.as_ref()).await?;
            let response = pb::WatchClusterResponse { cluster: Some(next.clone()) };
            Ok::<_, Status>(Some((response, (api, Some(next), permit))))
        });
        Ok(Response::new(Box::pin(watched)))
    }
}

/// Waits until the cluster has changed.
async fn changed(api: &ApiState, last: Option<&pb::Cluster>) -> Result<pb::Cluster, Status> {
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = api.draining.cancelled() => return Err(ApiError::from(AppError::ShuttingDown).to_status()),
        }
        let now = cluster(api).await?;
        if last != Some(&now) {
            return Ok(now);
        }
        pause = WATCH_INTERVAL;
    }
}

async fn cluster(api: &ApiState) -> Result<pb::Cluster, Status> {
    let view = api.cluster.view().await.map_err(|what| ApiError::from(AppError::unavailable(what)).to_status())?;
    let signer = api.signer()?;
    let nodes = view.nodes.iter().map(|node| pb::ClusterNode {
        node: node.name.clone(),
        address: node.address.clone(),
        datacenter_id: node.identity.datacenter_id().into(),
        worker_id: node.identity.worker_id().into(),
        roles: node.roles.clone(),
        cursor: tokens::encode_cursor(&signer, node.position.into()),
        lag: i64::try_from(node.lag).unwrap_or(i64::MAX),
        is_this_node: node.name == api.cluster.this_node(),
    });
    let takeovers = api.cluster.takeovers().into_iter().map(|takeover| pb::Takeover {
        noticed_at: Some(timestamp_to_proto(takeover.at)),
        role: takeover.role,
        from_node: takeover.from,
        to_node: takeover.to,
    });
    Ok(pb::Cluster { mode: mode(api).into(), nodes: nodes.collect(), takeovers: takeovers.collect() })
}

fn circuit_breaker(breaker: &CircuitBreaker) -> pb::CircuitBreaker {
    let (BreakerView { state, failures, retry_after }, options) = (breaker.view(), breaker.options());
    let state = match state {
        BreakerState::Closed => pb::CircuitBreakerState::Closed,
        BreakerState::HalfOpen => pb::CircuitBreakerState::HalfOpen,
        BreakerState::Open => pb::CircuitBreakerState::Open,
    };
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    pb::CircuitBreaker {
        name: breaker.name().to_owned(),
        state: state.into(),
        failures: number(failures),
        retry_after: retry_after.and_then(|time| time.try_into().ok()),
        failures_to_open: number(options.failures_to_open),
        successes_to_close: number(options.successes_to_close),
        open_for: options.open_for.try_into().ok(),
    }
}

fn mode(api: &ApiState) -> pb::Mode {
    if api.info.is_cluster { pb::Mode::Cluster } else { pb::Mode::Standalone }
}

const fn durability(durability: Durability) -> pb::Durability {
    match durability {
        Durability::Unknown => pb::Durability::Unspecified,
        Durability::None => pb::Durability::None,
        Durability::Process => pb::Durability::Process,
        Durability::Machine => pb::Durability::Machine,
        Durability::Quorum => pb::Durability::Quorum,
    }
}

fn limits(api: &ApiState) -> pb::Limits {
    let info = &api.info;
    // A new order is about as large as its request.
    let max_message_bytes =
        api.store.max_commit_bytes().map_or(info.max_message_bytes, |bytes| bytes.min(info.max_message_bytes));

    fn small(limit: usize) -> i32 {
        i32::try_from(limit).unwrap_or(i32::MAX)
    }
    pb::Limits {
        max_message_bytes: i64::try_from(max_message_bytes).unwrap_or(i64::MAX),
        max_items_per_order: small(MAX_ITEMS),
        max_quantity: MAX_QUANTITY.into(),
        max_page_size: small(MAX_PAGE_SIZE),
        max_batch_size: small(MAX_BATCH_SIZE),
        max_ids_per_call: small(MAX_IDS_PER_CALL),
        max_in_flight: small(info.max_in_flight),
        max_concurrent_streams: i32::try_from(info.max_concurrent_streams).unwrap_or(i32::MAX),
        max_connections: small(info.max_connections),
        max_metadata_bytes: i64::try_from(MAX_METADATA_BYTES).unwrap_or(i64::MAX),
    }
}
