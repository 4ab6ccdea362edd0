//! Requests that pages of other sites make browsers send: both APIs refuse them before anything is done.

use ordersystem::proto::catga::orders::v1::{GetOrderRequest, order_query_service_client::OrderQueryServiceClient};
use prost::Message;
use reqwest::{Client, Method};
use serde_json::json;
use tonic::Code;

use crate::{
    rest::{Reply, Rest},
    support::{PlainConnection, TestServer, code_and_reason, new_order, raw_call, until},
    web,
    wire::frame,
};

const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";

#[tokio::test]
async fn a_node_on_loopback_is_served_under_the_names_of_its_machine_by_every_protocol() {
    let rest = Rest::start().await;
    let reply = Reply::of(rest.request(Method::GET, "/orders").header("host", "rebound.example")).await;
    reply.problem(421, "HOST_NOT_ALLOWED");
    let web = Client::new()
        .post(rest.server.url(CREATE))
        .header("host", "rebound.example")
        .header("content-type", "application/grpc-web+proto")
        .body(frame(0, &new_order("customer-1").encode_to_vec()));
    let status = web::status(web.send().await.expect("an answer")).await;
    assert_eq!(code_and_reason(&status), (Code::PermissionDenied, "HOST_NOT_ALLOWED".to_owned()));
    let connection = PlainConnection::to_as(&rest.server, "rebound.example").await;
    let get = GetOrderRequest { order_id: "42".to_owned(), ..Default::default() };
    let status = OrderQueryServiceClient::new(connection).get_order(get).await.expect_err("refused");
    assert_eq!(code_and_reason(&status), (Code::PermissionDenied, "HOST_NOT_ALLOWED".to_owned()));
    let named = Rest::start_with(&[("allowed-hosts", "orders.example")]).await;
    let reply = Reply::of(named.request(Method::GET, "/orders").header("host", "orders.example:8443")).await;
    assert_eq!(reply.status, 200);
    Reply::of(named.request(Method::GET, "/orders")).await.problem(421, "HOST_NOT_ALLOWED");
    // Probes do not know the node's host names.
    assert_eq!(named.get("/health/live").await.status, 200);
    let ready = named.get("/health/ready").await.json();
    assert_eq!((&ready["status"], &ready["checks"]["store"]["detail"]), (&json!("Ready"), &json!("")));
}

#[tokio::test]
async fn a_command_from_a_page_of_another_site_is_refused_with_a_body_or_without() {
    let rest = Rest::start_with(&[("cors-allowed-origins", "https://shop.example")]).await;
    let id = rest.order("customer-1").await;
    let marks = [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    for (name, value) in marks {
        for path in [format!("/orders/{id}/cancel"), format!("/orders/{id}/deliver"), format!("/orders/{id}/pay")] {
            let empty = rest.request(Method::POST, &path).header(name, value);
            Reply::of(empty).await.problem(403, "CROSS_SITE_REQUEST");
            let body = rest.posting(&path, json!({}).to_string()).header(name, value);
            Reply::of(body).await.problem(403, "CROSS_SITE_REQUEST");
        }
        let web = Client::new()
            .post(rest.server.url(CREATE))
            .header(name, value)
            .header("content-type", "application/grpc-web+proto")
            .body(frame(0, &new_order("customer-1").encode_to_vec()));
        let status = web::status(web.send().await.expect("an answer")).await;
        assert_eq!(code_and_reason(&status), (Code::PermissionDenied, "CROSS_SITE_REQUEST".to_owned()));
    }
    assert_eq!(rest.get(&format!("/orders/{id}")).await.string("status"), "Pending");
    assert_eq!(rest.get("/stats").await.json()["totalOrders"], 1);
    let own = format!("http://{}", rest.server.address);
    for (name, value) in [("origin", &*own), ("origin", "https://shop.example"), ("sec-fetch-site", "same-origin")] {
        let id = rest.order("customer-1").await;
        let path = format!("/orders/{id}/cancel");
        assert_eq!(Reply::of(rest.request(Method::POST, &path).header(name, value)).await.status, 200, "{value}");
    }
}

#[tokio::test]
async fn options_executes_nothing_whatever_its_content_type() {
    let rest = Rest::start().await;
    let order = new_order("customer-1").encode_to_vec();
    for content_type in ["application/grpc", "application/grpc-web+proto", "Application/GRPC-Web", "application/json"] {
        let request = Client::new()
            .request(Method::OPTIONS, rest.server.url(CREATE))
            .header("origin", "http://evil.example")
            .header("content-type", content_type)
            .body(frame(0, &order));
        let reply = Reply::of(request).await;
        assert!(reply.headers.get("grpc-status").is_none(), "{content_type}: {reply:?}");
    }
    // Over HTTP/2.
    let mut connection = PlainConnection::to(&rest.server).await;
    let body = tonic::body::Body::new(http_body_util::Full::new(bytes::Bytes::from(frame(0, &order))));
    let request = http::Request::options(CREATE).header("content-type", "application/grpc").body(body);
    let response = tower::Service::call(&mut connection, request.expect("a request")).await.expect("an answer");
    assert!(response.headers().get("content-type").is_none_or(|kind| kind != "application/grpc"), "{response:?}");
    assert_eq!(rest.get("/stats").await.json()["totalOrders"], 0);
}

#[tokio::test]
async fn grpc_web_is_answered_whatever_the_case_of_its_content_type() {
    let rest = Rest::start().await;
    for content_type in ["Application/GRPC-Web+Proto", "application/grpc-web+proto;charset=utf-8"] {
        let web = Client::new()
            .post(rest.server.url(CREATE))
            .header("content-type", content_type)
            .body(frame(0, &new_order("customer-1").encode_to_vec()));
        assert_eq!(web.send().await.expect("an answer").status(), 200, "{content_type}");
    }
    until("both orders are counted", async || rest.get("/stats").await.json()["totalOrders"] == 2).await;
}

#[tokio::test]
async fn every_answer_has_security_headers_for_browsers() {
    let rest = Rest::start().await;
    for path in ["/orders", "/stats", "/metrics", "/openapi.json", "/nowhere", "/dashboard", "/health/live"] {
        let reply = rest.get(path).await;
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert!(reply.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
    }
    let refused = Reply::of(rest.request(Method::GET, "/orders").header("host", "rebound.example")).await;
    assert_eq!(refused.header("x-frame-options"), "DENY");
}

#[tokio::test]
async fn requests_that_are_not_valid_grpc_are_refused_with_an_http_status() {
    let rest = Rest::start().await;
    let body = frame(0, &new_order("customer-1").encode_to_vec());
    let send = async |method: Method, content_type: &str, path: &str| {
        let request = Client::new().request(method, rest.server.url(path)).header("content-type", content_type);
        Reply::of(request.body(body.clone())).await
    };
    for content_type in ["application/grpc+json", "application/grpcfoo", "application/grpc-web+thrift"] {
        send(Method::POST, content_type, CREATE).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    // The HTTP/2 mapping of gRPC: whatever does not begin with application/grpc.
    for content_type in ["text/plain", "application/json", "application/proto"] {
        for path in [CREATE, "/grpc.health.v1.Health/Check", "/catga.system.v1.SystemService/GetServerInfo"] {
            send(Method::POST, content_type, path).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
        }
    }
    send(Method::POST, "application/grpc", CREATE).await.problem(505, "HTTP_VERSION_NOT_SUPPORTED");
    assert_eq!(send(Method::GET, "application/grpc", CREATE).await.status, 404);
    assert_eq!(send(Method::GET, "application/grpc-web+proto", CREATE).await.status, 404);
    assert_eq!(rest.get("/stats").await.json()["totalOrders"], 0, "none of them was executed");
}

#[tokio::test]
async fn reflection_and_swagger_can_be_switched_off() {
    let server = TestServer::start_with(&[("reflection", "off"), ("swagger", "off")]).await;
    let rest = Rest::of(server);
    rest.get("/swagger").await.problem(404, "ROUTE_NOT_FOUND");
    rest.get("/swagger/index.html").await.problem(404, "ROUTE_NOT_FOUND");
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let status = raw_call(&rest.server.channel().await, path, Vec::new(), 1).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unimplemented);
}
