//! Who may call what, from outside: every method and every route with every kind of caller, over every protocol.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Method;
use ordersystem::{
    identity::Role,
    proto::{self, catga::orders::v1 as pb},
    server::access::table::{Kind, methods, routes},
};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use reqwest::Client;
use serde_json::{Value, json};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    guarded::{Caller, Guarded},
    rest::{Reply, Rest},
    support::{Issuer, PlainConnection, RawCodec, TestServer, code_and_reason, facts, new_order, pay, reason},
    wire::frame,
};

const REFUSALS: [&str; 4] = ["CREDENTIALS_MISSING", "CREDENTIALS_INVALID", "CREDENTIALS_EXPIRED", "ROLE_MISSING"];

/// Calls a method with one empty message; the outcome of its head, or of its first reply if that is an error.
async fn grpc_outcome(guarded: &Guarded, channel: &Channel, caller: Caller, path: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("connected");
    let request = guarded.request(caller, stream::iter([Bytes::new()]));
    let mut replies = client.streaming(request, path.parse().expect("a path"), RawCodec).await?.into_inner();
    // A stream that waits for new events was admitted.
    let first = tokio::time::timeout(std::time::Duration::from_millis(20), replies.next()).await;
    match first {
        Ok(Some(Err(status))) => Err(status),
        _ => Ok(()),
    }
}

fn refusal_of(outcome: &Result<(), Status>) -> Option<String> {
    // Errors of the reflection service have no details; refusals always do.
    let reason = outcome.as_ref().err()?.get_details_error_info()?.reason;
    REFUSALS.contains(&&*reason).then_some(reason)
}

#[tokio::test]
async fn every_grpc_method_admits_exactly_the_callers_in_the_table() {
    let guarded = Guarded::start().await;
    let channel = guarded.server().channel().await;
    for rule in methods() {
        for caller in Caller::all() {
            let outcome = grpc_outcome(&guarded, &channel, caller, &rule.path).await;
            assert_eq!(refusal_of(&outcome).as_deref(), caller.refusal(rule), "{caller:?} {}: {outcome:?}", rule.path);
        }
    }
    assert_eq!(guarded.server().head().await, 0);
}

#[tokio::test]
async fn grpc_web_holds_to_the_same_table() {
    let guarded = Guarded::start().await;
    let client = Client::new();
    for rule in methods() {
        for caller in Caller::all() {
            let mut request = client.post(guarded.server().url(&rule.path)).body(frame(0, &[]));
            request = request.header("content-type", "application/grpc-web+proto");
            if let Some(value) = guarded.bearer(caller) {
                request = request.header("authorization", value);
            }
            let response = request.send().await.expect("an answer");
            // Refusals are in the headers; the reply to an admitted call is not read to its end.
            let outcome = Status::from_header_map(response.headers()).map_or(Ok(()), |status| match status.code() {
                Code::Ok => Ok(()),
                _ => Err(status),
            });
            assert_eq!(refusal_of(&outcome).as_deref(), caller.refusal(rule), "{caller:?} {}: {outcome:?}", rule.path);
        }
    }
    assert_eq!(guarded.server().head().await, 0);
}

#[tokio::test]
async fn every_route_admits_exactly_the_callers_in_the_table() {
    let guarded = Guarded::start().await;
    for rule in routes() {
        let path = rule.path.replace("{id}", "1").replace("{file}", "index.css");
        for (caller, accept) in
            Caller::all().into_iter().flat_map(|caller| [(caller, "application/json"), (caller, "text/event-stream")])
        {
            let method: Method = rule.method.parse().expect("a method");
            let mut request = guarded.rest(caller, method.clone(), &path).header("accept", accept);
            if method == Method::POST {
                request = request.header("content-type", "application/json").body("{}");
            }
            let response = request.send().await.expect("an answer");
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let refused = [401, 403].contains(&status).then_some(());
            let reason = match refused {
                None => None,
                Some(()) => {
                    let problem: Value = response.json().await.expect("a problem");
                    Some(problem["reason"].as_str().expect("a reason").to_owned())
                }
            };
            assert_eq!(reason.as_deref(), caller.refusal(rule), "{caller:?} {method} {path} {accept}: {status}");
            assert_eq!(headers.contains_key("www-authenticate"), refused.is_some(), "{caller:?} {method} {path}");
        }
    }
    assert_eq!(guarded.server().head().await, 0);
}

/// The full names of the methods of a descriptor set.
fn methods_of(descriptors: &[u8]) -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(descriptors).expect("descriptors");
    let mut names = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            let path = |method: &prost_types::MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            };
            names.extend(service.method.iter().map(path));
        }
    }
    names
}

#[tokio::test]
async fn every_method_and_route_that_is_served_is_classified_and_no_other() {
    let served: BTreeSet<String> = [
        proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]
    .into_iter()
    .flat_map(methods_of)
    .collect();
    let classified: BTreeSet<String> = methods().iter().map(|rule| rule.path.to_string()).collect();
    assert_eq!(classified, served);
    // Another test holds the document to the router.
    let document = Rest::start().await.get("/openapi.json").await.json();
    let mut served = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let methods = operations.as_object().expect("operations").keys();
        served.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
    }
    let classified: BTreeSet<_> = routes().iter().map(|rule| (rule.method.to_owned(), rule.path.to_string())).collect();
    assert_eq!(classified, served);
    let paths: BTreeSet<_> = ordersystem::server::paths().into_iter().collect();
    assert_eq!(classified.into_iter().map(|(_, path)| path).collect::<BTreeSet<_>>(), paths);
}

#[tokio::test]
async fn every_command_and_every_action_of_an_operator_has_its_kind() {
    for rule in methods() {
        let is_command = rule.path.contains(".OrderCommandService/");
        let is_one = rule.kind == Kind::Command || rule.path.ends_with("/ExecuteCommands");
        assert_eq!(is_command, is_one, "{}", rule.path);
        assert_eq!(rule.path.contains(".AdminService/"), rule.kind == Kind::Admin, "{}", rule.path);
    }
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).expect("descriptors");
    for method in set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method) {
        let rule =
            methods().iter().find(|rule| rule.path.ends_with(&format!("/{}", method.name()))).expect("classified");
        let may_stay_open = rule.kind == Kind::Stream || rule.kind == Kind::Admin;
        assert!(may_stay_open || !method.server_streaming(), "{} is a stream", rule.path);
    }
    for rule in routes() {
        assert_eq!(rule.method == "POST", rule.kind == Kind::Command, "{} {}", rule.method, rule.path);
    }
}

#[tokio::test]
async fn a_path_in_another_form_does_not_get_around_the_table() {
    let guarded = Guarded::start().await;
    for path in [
        "//orders",
        "/orders/",
        "/./orders",
        "/x/../orders",
        "/%6frders",
        "/orders%2F1",
        "/ORDERS",
        "/api//orders",
        "/metrics/",
    ] {
        // As written: a client would tidy it up.
        let reply = raw_http1(guarded.server(), &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 404"), "{path}: {reply}");
    }
    for method in ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"] {
        let reply = raw_http1(guarded.server(), &format!("{method} /orders HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 405"), "{method}: {reply}");
        assert!(reply.to_lowercase().contains("\r\nallow: "), "{method}: {reply}");
    }
    let create = "/catga.orders.v1.OrderCommandService/CreateOrder";
    for content_type in ["application/grpc-web+proto", "application/grpc-web-text", "application/grpc"] {
        let head = format!(
            "OPTIONS {create} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: 0\r\n\r\n"
        );
        let reply = raw_http1(guarded.server(), &head).await;
        assert!(!reply.contains("grpc-status: 0"), "{content_type}: {reply}");
    }
    assert_eq!(guarded.server().head().await, 0);
}

#[tokio::test]
async fn no_http_method_gets_around_the_table() {
    use tower::{Service as _, ServiceExt as _};
    let guarded = Guarded::start().await;
    let mut connection = PlainConnection::to(guarded.server()).await;
    for method in [Method::OPTIONS, Method::POST] {
        let body = http_body_util::Full::new(Bytes::from(frame(0, &new_order("customer-1").encode_to_vec())));
        let request =
            http::Request::builder().method(method.clone()).uri("/catga.orders.v1.OrderCommandService/CreateOrder");
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let request = request.body(tonic::body::Body::new(body)).expect("a request");
        let response = connection.ready().await.expect("ready").call(request).await.expect("an answer");
        let status = Status::from_header_map(response.headers());
        if method == Method::OPTIONS {
            assert!(status.is_none(), "a preflight is no call: {status:?}");
            continue;
        }
        let refused = (Code::Unauthenticated, "CREDENTIALS_MISSING".to_owned());
        assert_eq!(status.as_ref().map(code_and_reason), Some(refused), "{method}");
    }
    assert_eq!(guarded.server().head().await, 0);
}

async fn raw_http1(server: &TestServer, head: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server.address).await.expect("connects");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut reply = vec![0; 4_096];
    let length = stream.read(&mut reply).await.expect("an answer");
    String::from_utf8_lossy(&reply[..length]).into_owned()
}

#[tokio::test]
async fn a_writer_changes_orders_and_a_reader_reads_them_over_both_apis() {
    let guarded = Guarded::start().await;
    let (writer, reader) = (Caller::Known(Role::Writer), Caller::Known(Role::Reader));
    let mut commands = guarded.server().commands().await;
    let refused = commands.create_order(guarded.request(reader, new_order("customer-1"))).await.expect_err("refused");
    assert_eq!(code_and_reason(&refused), (Code::PermissionDenied, "ROLE_MISSING".to_owned()));
    assert_eq!(facts(&refused)["roles"], "writer,customer");
    let order = commands.create_order(guarded.request(writer, new_order("customer-1"))).await.expect("accepted");
    let id = order.into_inner().order.expect("order").order_id;
    let path = format!("/orders/{id}");
    assert_eq!(Reply::of(guarded.rest(reader, Method::GET, &path)).await.string("status"), "Pending");
    let problem = Reply::of(guarded.rest(writer, Method::GET, &path)).await.problem(403, "ROLE_MISSING");
    assert_eq!(problem["requiredRoles"], json!(["reader", "customer"]));
    let paid = commands.pay_order(guarded.request(writer, pay(&id))).await;
    paid.expect("accepted");
    let mut queries = guarded.server().queries().await;
    let get = pb::GetOrderRequest { order_id: id, ..Default::default() };
    queries.get_order(guarded.request(reader, get.clone())).await.expect("answered");
    let missing = queries.get_order(get).await.expect_err("refused");
    assert_eq!(code_and_reason(&missing), (Code::Unauthenticated, "CREDENTIALS_MISSING".to_owned()));
    assert!(missing.metadata().get("www-authenticate").is_some());
}

#[tokio::test]
async fn health_is_for_everyone_and_its_details_are_for_operators() {
    let guarded = Guarded::start().await;
    let detail = async |caller| {
        let reply = Reply::of(guarded.rest(caller, Method::GET, "/health")).await;
        assert_eq!(reply.status, 200, "{caller:?}");
        reply.json()["checks"]["identities"]["detail"].as_str().expect("text").to_owned()
    };
    for caller in Caller::all() {
        let found = detail(caller).await;
        let is_operator = caller == Caller::Known(Role::Operator);
        assert_eq!(!found.is_empty(), is_operator, "{caller:?}: this client is on the node's machine: {found}");
    }
}

#[tokio::test]
async fn wrong_headers_are_refused_with_their_names() {
    let guarded = Guarded::start().await;
    let key = guarded.key(Caller::Known(Role::Reader)).expect("a key");
    for (values, status) in [
        (vec![format!("bearer {key}")], 200),
        (vec![format!("Basic {key}")], 401),
        (vec![key.to_owned()], 401),
        (vec![format!("Bearer {key}"), format!("Bearer {key}")], 401),
        (vec![format!("Bearer {key}x")], 401),
        (vec!["Bearer".to_owned()], 401),
    ] {
        let mut request = guarded.rest.request(Method::GET, "/stats");
        for value in &values {
            request = request.header("authorization", value);
        }
        let reply = Reply::of(request).await;
        assert_eq!(reply.status, status, "{values:?}");
        if status == 401 {
            reply.problem(401, "CREDENTIALS_INVALID");
            assert!(reply.header("www-authenticate").contains("invalid_token"));
        }
    }
    let in_url = Reply::of(guarded.rest.request(Method::GET, &format!("/stats?access_token={key}"))).await;
    in_url.problem(401, "CREDENTIALS_MISSING");
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_can_read_why_it_was_refused() {
    let guarded = Guarded::start_with("", &[("cors-allowed-origins", "https://shop.example")]).await;
    let preflight = guarded.rest.request(Method::OPTIONS, "/orders").header("origin", "https://shop.example");
    let preflight = preflight.header("access-control-request-method", "GET");
    let allowed = Reply::of(preflight.header("access-control-request-headers", "authorization")).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-headers"), "authorization");
    let refused = guarded.rest.request(Method::GET, "/orders").header("origin", "https://shop.example");
    let refused = Reply::of(refused).await;
    refused.problem(401, "CREDENTIALS_MISSING");
    assert_eq!(refused.header("access-control-allow-origin"), "https://shop.example");
    assert!(refused.header("access-control-expose-headers").contains("www-authenticate"));
    assert_eq!(refused.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn a_refused_command_over_http_1_leaves_the_connection_for_the_next_request() {
    let guarded = Guarded::start().await;
    let body = json!({ "customerId": "c", "items": [] }).to_string();
    let refused = Reply::of(guarded.rest.posting("/orders", body)).await;
    refused.problem(401, "CREDENTIALS_MISSING");
    assert!(!refused.headers.contains_key("connection"), "{:?}", refused.headers);
}

#[tokio::test]
async fn an_operator_needs_the_role_although_everyone_counts_as_one_otherwise() {
    let guarded = Guarded::start_with("", &[("operators", "anyone")]).await;
    let metrics = async |caller| Reply::of(guarded.rest(caller, Method::GET, "/metrics")).await;
    metrics(Caller::Nobody).await.problem(401, "CREDENTIALS_MISSING");
    metrics(Caller::Known(Role::Writer)).await.problem(403, "ROLE_MISSING");
    let reply = metrics(Caller::Known(Role::Operator)).await;
    assert!(reply.text.contains("ordersystem_identities_current 1"), "{}", reply.text);
    let refused = "ordersystem_audit_total{action=\"read\",outcome=\"refused\"} 2";
    assert!(reply.text.contains(refused), "{}", reply.text);
}

#[tokio::test]
async fn the_node_reports_whether_callers_are_identified() {
    let guarded = Guarded::start().await;
    let root = guarded.rest.get("/").await.json();
    assert_eq!((&root["authentication"], &root["securityWarning"]), (&json!("required"), &Value::Null));
    let mut system = guarded.server().system().await;
    let request = guarded.request(Caller::Known(Role::Events), proto::catga::system::v1::GetServerInfoRequest {});
    let info = system.get_server_info(request).await.expect("answered").into_inner();
    assert_eq!((&*info.authentication, &*info.security_warning), ("required", ""));
    let open = TestServer::start_with(&[("bind", "0.0.0.0")]).await;
    let info = open.system().await.get_server_info(proto::catga::system::v1::GetServerInfoRequest {}).await;
    let info = info.expect("answered").into_inner();
    assert_eq!(info.authentication, "none");
    assert!(info.security_warning.contains("callers are not identified"), "{}", info.security_warning);
}

#[tokio::test]
async fn tokens_of_the_issuer_are_accepted_over_both_apis_while_they_are_valid() {
    let guarded = Guarded::start_with(&Issuer::section(), &[]).await;
    let issuer = &guarded.issuer;
    let create = async |token: &str| {
        let mut request = Request::new(new_order("customer-1"));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a value"));
        let outcome = guarded.server().commands().await.create_order(request).await;
        let body = json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 1, "price": 1 }] });
        let rest = Reply::of(guarded.rest.posting("/orders", body.to_string()).bearer_auth(token)).await;
        match outcome {
            Ok(_) => {
                assert_eq!(rest.status, 201, "{rest:?}");
                None
            }
            Err(status) => {
                assert_eq!(rest.json()["reason"], *reason(&status), "{rest:?}");
                Some(code_and_reason(&status))
            }
        }
    };
    let invalid = Some((Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
    let good = Issuer::claims("shop", &["writer"], 600);
    let token = issuer.token(&good);
    assert_eq!(create(&token).await, None);
    assert_eq!(create(&token).await, None, "remembered");
    let expired = issuer.token(&Issuer::claims("shop", &["writer"], -600));
    assert_eq!(create(&expired).await, Some((Code::Unauthenticated, "CREDENTIALS_EXPIRED".to_owned())));
    let reader = issuer.token(&Issuer::claims("shop", &["reader"], 600));
    assert_eq!(create(&reader).await, Some((Code::PermissionDenied, "ROLE_MISSING".to_owned())));
    assert_eq!(create(&Issuer::new().token(&good)).await, invalid, "of another issuer");
    assert_eq!(create(&issuer.token_as(&json!({ "alg": "none" }), &good)).await, invalid);
    let unsigned = token.rsplit_once('.').expect("three parts").0;
    assert_eq!(create(&format!("{unsigned}.")).await, invalid);
    let mut for_others = good.clone();
    for_others["aud"] = json!("another");
    assert_eq!(create(&issuer.token(&for_others)).await, invalid);
    assert_eq!(guarded.server().head().await, 4);
}
