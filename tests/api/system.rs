//! The server's information about itself: server info and reflection.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use ordersystem::{
    node::Backends,
    ports::clock::SystemClock,
    proto::catga::system::v1::{Durability, GetLogLevelRequest, GetServerInfoRequest, Mode, SetLogLevelRequest},
};
use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::Code;
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{TestServer, code_and_reason};

const SERVICES: [&str; 5] = [
    "catga.ids.v1.IdService",
    "catga.orders.v1.OrderCommandService",
    "catga.orders.v1.OrderHistoryService",
    "catga.orders.v1.OrderQueryService",
    "catga.system.v1.SystemService",
];

#[tokio::test]
async fn the_server_describes_itself_and_its_limits() {
    let settings = [
        ("node-id", "the-node"),
        ("datacenter-id", "2"),
        ("worker-id", "5"),
        ("max-message-bytes", "2048"),
        ("max-in-flight", "77"),
        ("max-concurrent-streams", "88"),
        ("max-connections", "99"),
    ];
    let server = TestServer::start_on(&settings, Backends::memory(), std::sync::Arc::new(SystemClock)).await;
    let info = server.system().await.get_server_info(GetServerInfoRequest {}).await.expect("answered").into_inner();
    assert_eq!((info.service.as_str(), info.version.as_str()), ("Catga OrderSystem", env!("CARGO_PKG_VERSION")));
    assert_eq!((info.node.as_str(), info.mode()), ("the-node", Mode::Standalone));
    assert_eq!((info.persistence.as_str(), info.transport.as_str()), ("inmemory", "inmemory"));
    assert_eq!(info.durability(), Durability::None, "memory promises nothing");
    assert_eq!((info.datacenter_id, info.worker_id), (2, 5));
    assert!(info.started_at.is_some() && info.uptime.is_some());
    assert_eq!(info.durability_detail, "", "the name says it all");
    let limits = info.limits.expect("limits");
    assert_eq!((limits.max_message_bytes, limits.max_in_flight), (2_048, 77));
    assert_eq!((limits.max_concurrent_streams, limits.max_connections), (88, 99));
    assert_eq!((limits.max_items_per_order, limits.max_quantity), (1_000, 1_000_000));
    assert_eq!((limits.max_page_size, limits.max_batch_size, limits.max_ids_per_call), (500, 500, 100_000));
    assert_eq!(limits.max_metadata_bytes, 65_536);
}

async fn ask_v1(
    server: &TestServer,
    question: v1::server_reflection_request::MessageRequest,
) -> v1::server_reflection_response::MessageResponse {
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut replies = client.server_reflection_info(stream::iter([request])).await.expect("opens").into_inner();
    replies.next().await.expect("a reply").expect("no error").message_response.expect("an answer")
}

#[tokio::test]
async fn reflection_names_every_service() {
    use v1::{server_reflection_request::MessageRequest, server_reflection_response::MessageResponse};
    let server = TestServer::start().await;
    let answer = ask_v1(&server, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let v1_names: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut replies = client.server_reflection_info(stream::iter([request])).await.expect("opens").into_inner();
    let answer = replies.next().await.expect("a reply").expect("no error").message_response.expect("an answer");
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let v1alpha_names: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
    for names in [v1_names, v1alpha_names] {
        for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
            assert!(names.contains(service), "{service} is missing in {names:?}");
        }
    }
}

#[tokio::test]
async fn reflection_describes_every_service_and_the_details_of_errors() {
    use v1::{server_reflection_request::MessageRequest, server_reflection_response::MessageResponse};
    let server = TestServer::start().await;
    let types = ["google.rpc.ErrorInfo", "google.type.Money", "catga.events.v1.OrderEvent"];
    for symbol in SERVICES.into_iter().chain(types) {
        let answer = ask_v1(&server, MessageRequest::FileContainingSymbol(symbol.to_owned())).await;
        let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{symbol}: {answer:?}") };
        let file = FileDescriptorProto::decode(&files.file_descriptor_proto[0][..]).expect("a descriptor");
        assert!(symbol.starts_with(file.package()), "{symbol} in {}", file.package());
    }
}

#[tokio::test]
async fn a_node_in_a_program_with_its_own_log_does_not_change_it() {
    let server = TestServer::start().await;
    let request = SetLogLevelRequest { filter: "debug".to_owned(), duration: None };
    let refused = server.admin().await.set_log_level(request).await.expect_err("refused");
    assert_eq!(code_and_reason(&refused), (Code::FailedPrecondition, "LOG_NOT_MANAGED".to_owned()));
    let refused = server.admin().await.get_log_level(GetLogLevelRequest {}).await.expect_err("refused");
    assert_eq!(code_and_reason(&refused), (Code::FailedPrecondition, "LOG_NOT_MANAGED".to_owned()));
}
