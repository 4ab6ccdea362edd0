//! Requests to every gRPC method: whatever the input, the service is never at fault.
//!
//! The first byte of the input chooses the method, the second the change to the frame, and the rest is the message.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use node::Node;
use ordersystem::proto::DESCRIPTORS;
use prost::Message as _;

thread_local! {
    static NODE: RefCell<(Node, Vec<String>)> = RefCell::new((Node::start(), methods()));
}

/// The part of a file descriptor that names services and methods.
#[derive(prost::Message)]
struct Files {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(prost::Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(prost::Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
}

fn methods() -> Vec<String> {
    let files = Files::decode(DESCRIPTORS).expect("descriptors").files;
    let mut paths = vec!["/grpc.health.v1.Health/Check".to_owned()];
    for file in &files {
        for service in &file.services {
            paths.extend(service.methods.iter().map(|method| format!("/{}.{}/{}", file.package, service.name, method.name)));
        }
    }
    paths.push("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned());
    paths
}

fn framed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(length as u32).to_be_bytes(), message].concat()
}

fuzz_target!(|input: &[u8]| {
    let [method, how, message @ ..] = input else { return };
    NODE.with_borrow_mut(|(node, methods)| {
        let path = methods[usize::from(*method) % methods.len()].clone();
        let (encoding, body) = match how % 8 {
            0 => (Some("gzip"), framed(1, message.len(), message)),
            1 => (None, framed(*how, message.len(), message)),
            2 => (None, framed(0, message.len() + usize::from(*how), message)),
            3 => (None, [framed(0, message.len(), message), framed(0, message.len(), message)].concat()),
            _ => (None, framed(0, message.len(), message)),
        };
        let Some(answer) = node.call(&path, encoding, body) else { return };
        assert_eq!(answer.status, 200, "{path}");
        // UNKNOWN, INTERNAL and DATA_LOSS are faults of the service.
        let status = answer.grpc_status.unwrap_or_default();
        assert!(!["2", "13", "15"].contains(&&*status), "{path} answers {status}");
    });
});
