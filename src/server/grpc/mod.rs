//! The gRPC server: one file per service, each of which only translates.

pub mod admin;
pub mod commands;
pub mod convert;
pub mod edge;
pub mod errors;
pub mod execute;
pub mod frames;
pub mod header_names;
pub mod health;
pub mod history;
pub mod ids;
pub mod log_level;
pub mod plain;
pub mod queries;
pub mod request;
pub mod services;
pub mod streams;
pub mod system;

use std::{error::Error, sync::Arc};

use prost::Message;
use tonic::{Response, codec::CompressionEncoding, service::Routes};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use self::{
    commands::Commands,
    history::History,
    queries::Queries,
    services::{All, Direct, Services},
};
use super::ApiState;
use crate::proto::{
    self,
    catga::{
        ids::v1::id_service_server::IdServiceServer,
        orders::v1::{
            order_command_service_server::OrderCommandServiceServer,
            order_history_service_server::OrderHistoryServiceServer,
            order_query_service_server::OrderQueryServiceServer,
        },
        system::v1::{admin_service_server::AdminServiceServer, system_service_server::SystemServiceServer},
    },
};

/// Smaller replies are sent uncompressed: compressing them costs more than it saves.
const MIN_COMPRESSED_BYTES: usize = 4 * 1024;

/// Every gRPC service of the node; with `has_reflection` also the reflection services.
///
/// # Errors
/// If the embedded descriptors cannot be parsed.
pub fn services(
    api: &ApiState,
    health: HealthReporter,
    has_reflection: bool,
) -> Result<Services, Box<dyn Error + Send + Sync>> {
    let max_bytes = api.info.max_message_bytes;
    // The same bounds for every service; the generated servers share no trait to set them once.
    let direct = Arc::new(Direct {
        commands: Arc::new(Commands::new(api.clone())),
        queries: Arc::new(Queries::new(api.clone())),
        history: Arc::new(History::new(api.clone())),
    });
    let commands = OrderCommandServiceServer::from_arc(Arc::clone(&direct.commands))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let queries = OrderQueryServiceServer::from_arc(Arc::clone(&direct.queries))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let history = OrderHistoryServiceServer::from_arc(Arc::clone(&direct.history))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let ids = IdServiceServer::new(ids::Ids::new(api.clone()))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let system = SystemServiceServer::new(system::System::new(api.clone()))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let admin = AdminServiceServer::new(admin::Admin::new(api.clone()))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // The types of error details belong to no service: with them grpcurl can show the details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(history)
        .add_service(ids)
        .add_service(system)
        .add_service(admin)
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)));
    let routes = match has_reflection {
        true => routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?),
        false => routes,
    };
    Ok(All { direct, commands, queries, others: routes.prepare().into_axum_router() }.into())
}

/// A unary reply, compressed only where that is worthwhile.
fn reply<M: Message>(message: M) -> Response<M> {
    let is_small = message.encoded_len() < MIN_COMPRESSED_BYTES;
    let mut response = Response::new(message);
    if is_small {
        response.disable_compression();
    }
    response
}
