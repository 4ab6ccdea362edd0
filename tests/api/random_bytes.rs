//! Random bytes to every method that reflection lists: refused or answered, but never a fault of the server.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ordersystem::proto::catga::orders::v1::PayOrderRequest;
use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::{Code, transport::Channel};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{TestServer, new_order, raw_call, reason, soon};

const BODIES_PER_METHOD: usize = 60;

async fn reflect(channel: &Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut replies = client.server_reflection_info(stream::iter([request])).await.expect("opens").into_inner();
    replies.next().await.expect("a reply").expect("no error").message_response.expect("an answer")
}

/// The paths of all methods of all services.
async fn every_method(channel: &Channel) -> Vec<String> {
    let MessageResponse::ListServicesResponse(list) =
        reflect(channel, MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list of services")
    };
    let mut paths = Vec::new();
    for service in list.service {
        let question = MessageRequest::FileContainingSymbol(service.name.clone());
        let MessageResponse::FileDescriptorResponse(files) = reflect(channel, question).await else {
            panic!("{} is not described", service.name)
        };
        for file in files.file_descriptor_proto {
            let file = FileDescriptorProto::decode(&file[..]).expect("a descriptor");
            for described in &file.service {
                if service.name == format!("{}.{}", file.package(), described.name()) {
                    let methods = described.method.iter().map(|method| format!("/{}/{}", service.name, method.name()));
                    paths.extend(methods);
                }
            }
        }
    }
    paths
}

/// Bytes that resemble a message now and then: noise, damaged messages, and fields of random numbers and types.
fn random_body(random: &mut fastrand::Rng) -> Bytes {
    let mut body = match random.u8(0..4) {
        0 => (0..random.usize(0..200)).map(|_| random.u8(..)).collect(),
        1 => new_order("customer-1").encode_to_vec(),
        2 => PayOrderRequest { order_id: random.u64(..).to_string(), ..Default::default() }.encode_to_vec(),
        _ => random_fields(random, 0),
    };
    if !body.is_empty() && random.bool() {
        let at = random.usize(0..body.len());
        body[at] = random.u8(..);
    }
    if random.u8(0..4) == 0 {
        body.truncate(random.usize(0..=body.len()));
    }
    body.into()
}

fn random_fields(random: &mut fastrand::Rng, depth: u8) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..random.usize(0..6) {
        let field = random.u32(1..20);
        match random.u8(0..4) {
            0 => {
                prost::encoding::encode_key(field, prost::encoding::WireType::Varint, &mut body);
                let number = random.u64(..) >> random.u8(0..64);
                prost::encoding::encode_varint(number, &mut body);
            }
            1 => prost::encoding::encode_key(field, prost::encoding::WireType::StartGroup, &mut body),
            _ => {
                let content = match random.u8(0..3) {
                    0 if depth < 3 => random_fields(random, depth + 1),
                    1 => (0..random.usize(0..30)).map(|_| random.u8(b' '..=b'~')).collect(),
                    _ => random.u64(..).to_string().into_bytes(),
                };
                prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, &mut body);
                prost::encoding::encode_varint(content.len() as u64, &mut body);
                body.extend(content);
            }
        }
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_to_every_method_never_make_the_server_fail() {
    let seed = std::env::var("RANDOM_BYTES_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("RANDOM_BYTES_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let paths = every_method(&channel).await;
    assert!(paths.len() >= 19, "{paths:?}");
    for path in &paths {
        for _ in 0..BODIES_PER_METHOD {
            let bodies: Vec<Bytes> = (0..random.usize(1..4)).map(|_| random_body(&mut random)).collect();
            // Streams that follow do not end by themselves.
            let call = raw_call(&channel, path, bodies.clone(), 3);
            let Ok(Err(status)) = tokio::time::timeout(Duration::from_millis(100), call).await else {
                continue;
            };
            let bad = [Code::Internal, Code::Unknown, Code::DataLoss, Code::Unavailable];
            assert!(!bad.contains(&status.code()), "{path} {bodies:?}: {status:?}");
            if path.starts_with("/catga.") {
                reason(&status);
            }
        }
    }
    soon("the next request", server.place_order("customer-1")).await;
}
