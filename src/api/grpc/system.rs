//! `catga.system.v1.SystemService`.

use tonic::{Request, Response, Status};

use super::reply;
use crate::{
    api::{Context, MAX_BATCH_SIZE, MAX_IDS_PER_CALL, MAX_ITEMS, MAX_PAGE_SIZE, SERVICE_NAME, ServerInfo, VERSION},
    codec::timestamp_to_proto,
    domain::order::item::MAX_QUANTITY,
    event_store::Durability,
    proto::catga::system::v1::{self as pb, system_service_server::SystemService},
};

/// The node.
#[derive(Debug)]
pub struct System {
    context: Context,
}

impl System {
    /// The node of `context`.
    #[must_use]
    pub const fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl SystemService for System {
    async fn get_server_info(
        &self,
        _request: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        let info = &self.context.info;
        Ok(reply(pb::GetServerInfoResponse {
            service: SERVICE_NAME.to_owned(),
            version: VERSION.to_owned(),
            node: info.node.clone(),
            mode: if info.is_cluster { pb::Mode::Cluster } else { pb::Mode::Standalone }.into(),
            persistence: info.persistence.to_owned(),
            transport: info.transport.to_owned(),
            durability: durability(self.context.store.durability()).into(),
            limits: Some(limits(info)),
            started_at: Some(timestamp_to_proto(info.started_at)),
            uptime: prost_types::Duration::try_from(info.started.elapsed()).ok(),
            datacenter_id: info.datacenter_id.into(),
            worker_id: info.worker_id.into(),
        }))
    }
}

const fn durability(durability: Durability) -> pb::Durability {
    match durability {
        Durability::None => pb::Durability::None,
        Durability::Process => pb::Durability::Process,
        Durability::Machine => pb::Durability::Machine,
        Durability::Quorum => pb::Durability::Quorum,
    }
}

fn limits(info: &ServerInfo) -> pb::Limits {
    fn small(limit: usize) -> i32 {
        i32::try_from(limit).unwrap_or(i32::MAX)
    }
    pb::Limits {
        max_message_bytes: i64::try_from(info.max_message_bytes).unwrap_or(i64::MAX),
        max_items_per_order: small(MAX_ITEMS),
        max_quantity: MAX_QUANTITY.into(),
        max_page_size: small(MAX_PAGE_SIZE),
        max_batch_size: small(MAX_BATCH_SIZE),
        max_ids_per_call: small(MAX_IDS_PER_CALL),
        max_in_flight: small(info.max_in_flight),
        max_concurrent_streams: i32::try_from(info.max_concurrent_streams).unwrap_or(i32::MAX),
        max_connections: small(info.max_connections),
    }
}
