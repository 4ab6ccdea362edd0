//! Text that does not look like what it is, in every text field of every request, over both APIs. The fields are those of the descriptors and of the
//! OpenAPI document: a new one is covered at once.

use std::collections::HashMap;

use bytes::Bytes;
use ordersystem::proto::{
    DESCRIPTORS,
    catga::{
        ids::v1::ParseIdRequest,
        orders::v1::{
            BatchGetOrdersRequest, ExecuteCommandsRequest, ExecuteCommandsResponse, GetOrderRequest,
            GetOrderStatsRequest, ListOrdersRequest, ReadConsistency, StreamEventsRequest, StreamOrderHistoryRequest,
            execute_commands_request::Command, execute_commands_response::Outcome,
        },
        system::v1::{DiscardDeadLettersRequest, ListDeadLettersRequest, ReplayDeadLettersRequest, SetLogLevelRequest},
    },
};
use prost::{
    Message as _,
    encoding::{decode_varint, encode_varint},
};
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};
use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    rest::{Reply, Rest},
    support::{TestServer, cancel, deliver, new_order, pay, raw_call, ship},
};

/// Reverses, has no width, separates lines, fills, is a tag, and is a byte order mark.
const HIDDEN: [char; 6] = ['\u{202E}', '\u{200B}', '\u{2028}', '\u{3164}', '\u{E0041}', '\u{FEFF}'];

const COMMANDS: &str = "/catga.orders.v1.OrderCommandService";
const EXECUTE: &str = "/catga.orders.v1.OrderCommandService/ExecuteCommands";

type Messages = HashMap<String, DescriptorProto>;

/// Valid requests, which together have every message that a request can have. The fields of a request that has none are never valid.
fn samples(id: &str) -> Vec<(String, Vec<u8>)> {
    let commands = || {
        [
            ("CreateOrder", Command::CreateOrder(new_order("c"))),
            ("PayOrder", Command::PayOrder(pay(id))),
            ("ShipOrder", Command::ShipOrder(ship(id))),
            ("DeliverOrder", Command::DeliverOrder(deliver(id))),
            ("CancelOrder", Command::CancelOrder(cancel(id))),
        ]
    };
    let alone = |command: Command| match command {
        Command::CreateOrder(request) => request.encode_to_vec(),
        Command::PayOrder(request) => request.encode_to_vec(),
        Command::ShipOrder(request) => request.encode_to_vec(),
        Command::DeliverOrder(request) => request.encode_to_vec(),
        Command::CancelOrder(request) => request.encode_to_vec(),
    };
    let mut all: Vec<_> =
        commands().map(|(name, command)| (format!("{COMMANDS}/{name}"), alone(command))).into_iter().collect();
    all.extend(commands().map(|(_, command)| {
        let request = ExecuteCommandsRequest { correlation_id: "1".to_owned(), command: Some(command) };
        (EXECUTE.to_owned(), request.encode_to_vec())
    }));
    let consistency = Some(ReadConsistency::default());
    let order_id = id.to_owned();
    let orders = "/catga.orders.v1.Order";
    let admin = "/catga.system.v1.AdminService";
    let (handler, event_ids) = ("OrderEventLogger".to_owned(), vec![format!("{id}-1")]);
    all.extend([
        (
            format!("{orders}QueryService/GetOrder"),
            GetOrderRequest { order_id: order_id.clone(), consistency: consistency.clone(), ..Default::default() }
                .encode_to_vec(),
        ),
        (
            format!("{orders}QueryService/ListOrders"),
            ListOrdersRequest { consistency: consistency.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (
            format!("{orders}QueryService/BatchGetOrders"),
            BatchGetOrdersRequest { order_ids: vec![order_id.clone()], consistency: consistency.clone() }
                .encode_to_vec(),
        ),
        (format!("{orders}QueryService/GetOrderStats"), GetOrderStatsRequest { consistency }.encode_to_vec()),
        (
            format!("{orders}HistoryService/StreamOrderHistory"),
            StreamOrderHistoryRequest { order_id: order_id.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (format!("{orders}HistoryService/StreamEvents"), StreamEventsRequest::default().encode_to_vec()),
        ("/catga.ids.v1.IdService/ParseId".to_owned(), ParseIdRequest { id: order_id }.encode_to_vec()),
        (
            format!("{admin}/ListDeadLetters"),
            ListDeadLettersRequest { handler: handler.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (
            format!("{admin}/ReplayDeadLetters"),
            ReplayDeadLettersRequest { handler: handler.clone(), event_ids: event_ids.clone(), all: false }
                .encode_to_vec(),
        ),
        (
            format!("{admin}/DiscardDeadLetters"),
            DiscardDeadLettersRequest { handler, event_ids, all: false }.encode_to_vec(),
        ),
        (
            format!("{admin}/SetLogLevel"),
            SetLogLevelRequest { filter: "info".to_owned(), ..Default::default() }.encode_to_vec(),
        ),
    ]);
    all
}

/// The numbers of every text field of `message` and of the messages in it, each with those of the messages around it, and its name.
fn texts(messages: &Messages, message: &str, path: &[u64], found: &mut Vec<(Vec<u64>, String)>) {
    for field in &messages.get(message).expect("a message of these files").field {
        let path = [path, &[field.number() as u64]].concat();
        match field.r#type() {
            Type::String => found.push((path, format!("{message}.{}", field.name()))),
            Type::Message if path.len() < 8 => {
                texts(messages, field.type_name().trim_start_matches('.'), &path, found);
            }
            _ => {}
        }
    }
}

fn varint(mut bytes: &[u8]) -> (u64, &[u8]) {
    let value = decode_varint(&mut bytes).expect("well-formed");
    (value, bytes)
}

/// The first value of the field `wanted` in `message`: bytes, text or a message.
fn value_of(mut message: &[u8], wanted: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let (key, rest) = varint(message);
        let (value, rest) = match key & 7 {
            0 => (&rest[..0], varint(rest).1),
            1 => rest.split_at(8),
            2 => {
                let (length, rest) = varint(rest);
                rest.split_at(length as usize)
            }
            _ => rest.split_at(4),
        };
        if key >> 3 == wanted && key & 7 == 2 {
            return Some(value);
        }
        message = rest;
    }
    None
}

/// `message` with `text` in the field at `path`: of two values the last one counts, and an element of a list is one more. `None` if it has no message
/// there.
fn with_text(message: &[u8], path: &[u64], text: &str) -> Option<Vec<u8>> {
    let (number, rest) = path.split_first().expect("a field");
    let value = match rest {
        [] => text.as_bytes().to_vec(),
        rest => with_text(value_of(message, *number)?, rest, text)?,
    };
    let mut changed = message.to_vec();
    encode_varint((number << 3) | 2, &mut changed);
    encode_varint(value.len() as u64, &mut changed);
    changed.extend(value);
    Some(changed)
}

/// The code of the answer to `request`.
async fn answer(server: &TestServer, method: &str, request: Vec<u8>) -> Code {
    match raw_call(&server.channel().await, method, vec![Bytes::from(request)], 1).await {
        Err(status) => status.code(),
        Ok(replies) if method == EXECUTE => {
            let reply = ExecuteCommandsResponse::decode(&*replies[0]).expect("a reply");
            match reply.outcome.expect("an outcome") {
                Outcome::Success(_) => Code::Ok,
                Outcome::Error(error) => error.code.into(),
            }
        }
        Ok(_) => Code::Ok,
    }
}

#[tokio::test]
async fn no_text_field_of_grpc_takes_hidden_characters() {
    let server = TestServer::start().await;
    let id = server.place_order("c").await.order_id;
    let files = FileDescriptorSet::decode(DESCRIPTORS).expect("well-formed").file;
    let messages: Messages = files
        .iter()
        .flat_map(|file| {
            file.message_type.iter().map(|message| (format!("{}.{}", file.package(), message.name()), message.clone()))
        })
        .collect();
    let samples = samples(&id);
    for (method, request) in &samples {
        assert_ne!(answer(&server, method, request.clone()).await, Code::InvalidArgument, "{method}: a valid request");
    }
    let mut tried = 0;
    for file in files.iter().filter(|file| file.package().starts_with("catga.")) {
        for (service, method) in
            file.service.iter().flat_map(|service| service.method.iter().map(move |method| (service, method)))
        {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            let mut fields = Vec::new();
            texts(&messages, method.input_type().trim_start_matches('.'), &[], &mut fields);
            // Returned to the client as it is, and not stored.
            fields.retain(|(_, name)| !name.ends_with("ExecuteCommandsRequest.correlation_id"));
            for (numbers, name) in fields {
                for hidden in HIDDEN {
                    let text = format!("a{hidden}b");
                    let request = samples
                        .iter()
                        .filter(|(sample, _)| *sample == path)
                        .find_map(|(_, sample)| with_text(sample, &numbers, &text));
                    let request = request.unwrap_or_else(|| panic!("no sample of {path} has a place for {name}"));
                    let refusals = match name.rsplit('.').next() {
                        // Looked up by its name, and not kept.
                        Some("handler") => &[Code::InvalidArgument, Code::NotFound][..],
                        // Refused whatever it is: the log of this node is that of the test.
                        Some("filter") => &[Code::FailedPrecondition],
                        _ => &[Code::InvalidArgument],
                    };
                    let code = answer(&server, &path, request).await;
                    assert!(refusals.contains(&code), "{path}: {name} with {hidden:?}: {code:?}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 30 * HIDDEN.len(), "{tried} requests");
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Follows a reference within the document.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            resolved(document, document.pointer(reference.trim_start_matches('#')).expect("it is there"))
        }
        None => value,
    }
}

/// Every body that is `example` with `text` in one of its fields, with the name of that field.
fn bodies(document: &Value, schema: &Value, example: &Value, text: &str) -> Vec<(String, Value)> {
    let schema = resolved(document, schema);
    let mut found = Vec::new();
    for (name, of_field) in schema["properties"].as_object().into_iter().flatten() {
        let of_field = resolved(document, of_field);
        let mut with = |field: String, value: Value| {
            let mut body = example.clone();
            body[name] = value;
            found.push((field, body));
        };
        match &of_field["items"] {
            Value::Null => with(name.clone(), json!(text)),
            items => {
                for (field, item) in bodies(document, items, &example[name][0], text) {
                    with(format!("{name}[].{field}"), json!([item]));
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn no_field_parameter_or_header_of_rest_takes_hidden_characters() {
    let rest = Rest::start().await;
    let document = rest.get("/openapi.json").await.json();
    let (mut fields, mut parameters) = (0, 0);
    for (template, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if !["get", "post"].contains(&method.as_str()) {
                continue;
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let content = &operation["requestBody"]["content"]["application/json"];
            let example = &content["example"];
            for hidden in HIDDEN {
                let text = format!("a{hidden}b");
                let path = template.replace("{id}", &rest.order("c").await);
                for (field, body) in bodies(&document, &content["schema"], example, &text) {
                    let reply = Reply::of(rest.posting(&path, body.to_string())).await;
                    assert_eq!(reply.status, 400, "{template}: {field} with {hidden:?}: {reply:?}");
                    fields += 1;
                }
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    let parameter = resolved(&document, parameter);
                    let name = parameter["name"].as_str().expect("a name");
                    let request = match parameter["in"].as_str().expect("a place") {
                        "path" if name == "id" => {
                            rest.request(method.clone(), &template.replace("{id}", &encoded(&text)))
                        }
                        "query" => rest.request(method.clone(), &format!("{path}?{name}={}", encoded(&text))),
                        "header" => rest.request(method.clone(), &path).header(name, text.as_bytes()),
                        _ => continue,
                    };
                    let request = match method {
                        Method::POST => request.header("content-type", "application/json").body(example.to_string()),
                        _ => request,
                    };
                    let reply = Reply::of(request).await;
                    assert_eq!(reply.status, 400, "{method} {template}: {name} with {hidden:?}: {reply:?}");
                    parameters += 1;
                }
            }
        }
    }
    assert!(fields > 20 * HIDDEN.len() && parameters > 30 * HIDDEN.len(), "{fields} fields, {parameters} parameters");
}
