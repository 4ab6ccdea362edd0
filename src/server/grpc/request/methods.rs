//! The bounds of each method: the size of a message, the number of messages, and the number of elements of repeated fields.

use crate::application::{
    limits::{MAX_BATCH_SIZE, MAX_DEAD_LETTERS_PER_CALL, MAX_FILTER_VALUES, MAX_ITEMS},
    requests::Field,
};

/// The size of a command with the largest valid order: 1,000 items with 128 and 256 characters of 4 bytes each, and overhead.
const MAX_COMMAND_BYTES: usize = 1_600 * 1024;
/// The maximum size of all other requests: filters of 100 customers are the largest.
const MAX_OTHER_BYTES: usize = 64 * 1024;
/// The maximum number of event kinds in a filter; there are five.
const MAX_KINDS: usize = 100;
/// A request with slightly too many elements is decoded, and its reply names all violations. Above this multiple it is refused without being decoded.
const EXCESS: usize = 4;

/// The bounds of one method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The maximum size of an uncompressed message, in bytes.
    pub max_bytes: usize,
    /// Whether the client may send more than one message.
    pub takes_many: bool,
    /// Its repeated fields.
    pub lists: &'static [List],
}

/// A repeated field of a request.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// Its name in violations.
    pub field: Field,
    /// Its number, preceded by those of the enclosing messages.
    pub path: &'static [u64],
    /// Whether its elements are numbers, which may be packed.
    pub is_packed: bool,
    /// The maximum number of elements.
    pub max: usize,
}

impl List {
    const fn new(field: Field, path: &'static [u64], max: usize) -> Self {
        Self { field, path, is_packed: false, max }
    }

    /// The smallest number of elements with which a message is refused without being decoded.
    pub const fn too_many(&self) -> usize {
        self.max * EXCESS + 1
    }
}

impl Method {
    /// The bounds of the method at `path` ("/package.Service/Method"), which accepts at most `max_bytes` by configuration.
    #[must_use]
    pub fn at(path: &str, max_bytes: usize) -> Self {
        let method = Self::named(path);
        Self { max_bytes: method.max_bytes.min(max_bytes), ..method }
    }

    fn named(path: &str) -> Self {
        let unary = |max_bytes, lists| Self { max_bytes, takes_many: false, lists };
        match path {
            "/catga.orders.v1.OrderCommandService/CreateOrder" => {
                unary(MAX_COMMAND_BYTES, const { &[List::new(Field::Items, &[5], MAX_ITEMS)] })
            }
            "/catga.orders.v1.OrderCommandService/ExecuteCommands" => Self {
                max_bytes: MAX_COMMAND_BYTES,
                takes_many: true,
                lists: const { &[List::new(Field::CreateOrderItems, &[2, 5], MAX_ITEMS)] },
            },
            "/catga.orders.v1.OrderQueryService/BatchGetOrders" => {
                unary(MAX_OTHER_BYTES, const { &[List::new(Field::OrderIds, &[1], MAX_BATCH_SIZE)] })
            }
            "/catga.orders.v1.OrderHistoryService/StreamEvents" => unary(
                MAX_OTHER_BYTES,
                const {
                    &[
                        List::new(Field::CustomerIds, &[4], MAX_FILTER_VALUES),
                        List { field: Field::Types, path: &[5], is_packed: true, max: MAX_KINDS },
                        List::new(Field::OrderIds, &[6], MAX_FILTER_VALUES),
                    ]
                },
            ),
            "/catga.system.v1.AdminService/ReplayDeadLetters" | "/catga.system.v1.AdminService/DiscardDeadLetters" => {
                unary(MAX_OTHER_BYTES, const { &[List::new(Field::EventIds, &[2], MAX_DEAD_LETTERS_PER_CALL)] })
            }
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
                Self { max_bytes: MAX_OTHER_BYTES, takes_many: true, lists: &[] }
            }
            _ => unary(MAX_OTHER_BYTES, &[]),
        }
    }
}

/// Whether the method at `path` returns a stream of messages.
#[must_use]
pub fn replies_many(path: &str) -> bool {
    matches!(
        path,
        "/catga.ids.v1.IdService/StreamIds"
            | "/catga.orders.v1.OrderCommandService/ExecuteCommands"
            | "/catga.orders.v1.OrderHistoryService/StreamEvents"
            | "/catga.orders.v1.OrderHistoryService/StreamOrderHistory"
            | "/catga.system.v1.AdminService/RebuildProjections"
            | "/catga.system.v1.SystemService/WatchCluster"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;
    use prost_types::{
        DescriptorProto, FileDescriptorSet,
        field_descriptor_proto::{Label, Type},
    };

    use super::*;
    use crate::proto::DESCRIPTORS;

    type Messages = HashMap<String, DescriptorProto>;

    /// Every repeated field of `message` and of its nested messages, by path; not those within repeated messages, which are bounded with them.
    fn lists(messages: &Messages, message: &str, path: &[u64], found: &mut Vec<(Vec<u64>, bool)>) {
        for field in &messages.get(message).expect("a message of these files").field {
            let path = [path, &[field.number() as u64]].concat();
            if field.label() == Label::Repeated {
                found.push((path, !matches!(field.r#type(), Type::String | Type::Bytes | Type::Message)));
            } else if field.r#type() == Type::Message && path.len() < 8 {
                lists(messages, field.type_name().trim_start_matches('.'), &path, found);
            }
        }
    }

    #[test]
    fn every_repeated_field_of_a_request_and_every_stream_is_in_the_table() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).expect("well-formed").file;
        let messages: Messages = files
            .iter()
            .flat_map(|file| {
                file.message_type
                    .iter()
                    .map(|message| (format!("{}.{}", file.package(), message.name()), message.clone()))
            })
            .collect();
        let mut methods = 0;
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let bounds = Method::named(&path);
                    assert_eq!(bounds.takes_many, method.client_streaming(), "{path}");
                    assert_eq!(replies_many(&path), method.server_streaming(), "{path}");
                    let mut wanted = Vec::new();
                    lists(&messages, method.input_type().trim_start_matches('.'), &[], &mut wanted);
                    let mut bounded: Vec<_> =
                        bounds.lists.iter().map(|list| (list.path.to_vec(), list.is_packed)).collect();
                    bounded.sort();
                    wanted.sort();
                    assert_eq!(bounded, wanted, "{path}");
                    methods += 1;
                }
            }
        }
        assert!(methods > 15, "{methods} methods");
    }
}
