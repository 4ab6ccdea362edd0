//! The gRPC server: one file per service, each a translation only.

pub mod admin;
pub mod commands;
pub mod convert;
pub mod execute;
pub mod health;
pub mod history;
pub mod ids;
pub mod layers;
pub mod queries;
pub mod request;
pub mod system;

use std::error::Error;

use prost::Message;
use tonic::{Response, codec::CompressionEncoding, service::Routes};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
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
pub fn routes(
    context: &ApiState,
    health: HealthReporter,
    has_reflection: bool,
) -> Result<Routes, Box<dyn Error + Send + Sync>> {
    let max_bytes = context.info.max_message_bytes;
    // The same bounds for every service; the generated servers share no trait to set them once.
    let commands = OrderCommandServiceServer::new(commands::Commands::new(context.clone()))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let queries = OrderQueryServiceServer::new(queries::Queries::new(context.clone()))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let history = OrderHistoryServiceServer::new(history::History::new(context.clone()))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let ids = IdServiceServer::new(ids::Ids::new(context.clone()))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let system = SystemServiceServer::new(system::System::new(context.clone()))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let admin = AdminServiceServer::new(admin::Admin::new(context.clone()))
        .max_decoding_message_size(max_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Not a service, but the types of error details: with them grpcurl can show the details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(commands)
        .add_service(queries)
        .add_service(history)
        .add_service(ids)
        .add_service(system)
        .add_service(admin)
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)));
    let routes = match has_reflection {
        true => routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?),
        false => routes,
    };
    Ok(routes.prepare())
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
