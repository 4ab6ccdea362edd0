//! Traces across nodes: from the call at one node to the handler on another one, and across a kill between commit and publish.

use opentelemetry_proto::tonic::trace::v1::Span;
use ordersystem::proto::catga::system::v1::{GetClusterRequest, system_service_client::SystemServiceClient};
use prost::Message as _;
use tonic::Request;

use crate::{
    nats_server::NatsServer,
    redis_server::{DURABLE, RedisServer},
    support::{Process, collector::Collector, embedded, fresh_prefix, new_order, pay, until},
};

const PARENT: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The API that a call uses.
#[derive(Clone, Copy, Debug)]
enum Api {
    Grpc,
    GrpcWeb,
    Rest,
}

impl Api {
    const ALL: [Self; 3] = [Self::Grpc, Self::GrpcWeb, Self::Rest];

    /// The name of the span of the call.
    const fn root(self) -> &'static str {
        match self {
            Self::Grpc | Self::GrpcWeb => "catga.orders.v1.OrderCommandService/PayOrder",
            Self::Rest => "POST /orders/{id}/pay",
        }
    }

    /// Creates an order at `node`, and pays it in a call with this context.
    async fn pays(self, node: &Process, traceparent: &str) {
        let order = node.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
        let order = order.into_inner().order.expect("an order").order_id;
        let http = reqwest::Client::new();
        let at = |path: &str| format!("http://{}{path}", node.address);
        match self {
            Self::Grpc => {
                let mut call = Request::new(pay(&order));
                call.metadata_mut().insert("traceparent", traceparent.parse().expect("ASCII"));
                node.commands().await.pay_order(call).await.expect("accepted");
            }
            Self::GrpcWeb => {
                let message = pay(&order).encode_to_vec();
                let length = u32::try_from(message.len()).expect("small").to_be_bytes();
                let body = [&[0][..], &length, &message].concat();
                let call = http.post(at("/catga.orders.v1.OrderCommandService/PayOrder"));
                let call = call.header("content-type", "application/grpc-web+proto").header("traceparent", traceparent);
                let reply = call.body(body).send().await.expect("answers");
                let text = String::from_utf8_lossy(&reply.bytes().await.expect("a body")).into_owned();
                assert!(text.contains("grpc-status:0"), "{text:?}");
            }
            Self::Rest => {
                let call = http.post(at(&format!("/orders/{order}/pay"))).header("content-type", "application/json");
                let reply = call.header("traceparent", traceparent).body(r#"{"paymentMethod":"card"}"#).send().await;
                assert_eq!(reply.expect("answers").status(), 200);
            }
        }
    }
}

/// Waits for the tree of a call at `node`: the call, the command below it, and its append below that. Returns the span of the command.
async fn tree(collector: &Collector, node: &str, trace: &str, root: &str) -> Span {
    let find = async |name: &str, parent: &str| {
        let is_wanted =
            |span: &Span| hex(&span.trace_id) == trace && span.name == name && hex(&span.parent_span_id) == parent;
        collector.span_of(node, &format!("{name} below {parent}"), is_wanted).await
    };
    let root = find(root, PARENT).await;
    let command = find("PayOrder", &hex(&root.span_id)).await;
    find("append", &hex(&command.span_id)).await;
    command
}

/// Waits until `node` has published and handled an event of this command.
async fn links(collector: &Collector, node: &str, command: &Span) {
    for name in ["publish", "process order-event-logger"] {
        let is_linked = |span: &Span| {
            let mut links = span.links.iter();
            span.name == name
                && span.trace_id != command.trace_id
                && links.any(|link| link.trace_id == command.trace_id && link.span_id == command.span_id)
        };
        collector.span_of(node, &format!("{name} that links to the command"), is_linked).await;
    }
}

fn trace_of(number: usize) -> String {
    format!("{number:02x}f7651916cd43dd8448eb211c80319c")
}

/// A call over each API at `caller`, whose events `worker` publishes and handles.
async fn over_each_api(collector: &Collector, caller: (&Process, &str), worker: &str) {
    for (number, api) in Api::ALL.into_iter().enumerate() {
        let trace = trace_of(number + 1);
        api.pays(caller.0, &format!("00-{trace}-{PARENT}-01")).await;
        let command = tree(collector, caller.1, &trace, api.root()).await;
        links(collector, worker, &command).await;
    }
}

#[tokio::test]
async fn in_memory_a_call_over_each_api_is_a_tree_to_the_append_and_publishing_and_handling_link_to_it() {
    let collector = Collector::start().await;
    let node = Process::serve(&["--node-id", "a", "--otlp-endpoint", &collector.endpoint]).await;
    over_each_api(&collector, (&node, "a"), "a").await;
}

/// The roles of a node, as it sees the cluster itself.
async fn roles(node: &Process) -> Vec<String> {
    let reply = SystemServiceClient::new(node.channel().await).get_cluster(GetClusterRequest {}).await;
    let cluster = reply.map(|reply| reply.into_inner().cluster.unwrap_or_default()).unwrap_or_default();
    cluster.nodes.into_iter().filter(|node| node.is_this_node).flat_map(|node| node.roles).collect()
}

/// A call at a node that neither publishes nor handles: another one of its cluster does.
async fn across_two_nodes(broker: &[&str]) {
    let collector = Collector::start().await;
    let settings = |name| {
        let own = ["--cluster", "--node-id", name, "--otlp-endpoint", &collector.endpoint];
        [broker, &own].concat().iter().map(|&text| text.to_owned()).collect::<Vec<_>>()
    };
    let worker = Process::serve(&settings("worker")).await;
    until("it relays and handles", async || {
        let roles = roles(&worker).await;
        ["outbox", "subscription-order-event-logger"].iter().all(|role| roles.iter().any(|held| held == role))
    })
    .await;
    let caller = Process::serve(&settings("caller")).await;
    over_each_api(&collector, (&caller, "caller"), "worker").await;
}

#[tokio::test]
async fn on_redis_a_call_at_one_node_is_linked_from_publishing_and_handling_on_another() {
    let (server, prefix) = (RedisServer::start(DURABLE), fresh_prefix());
    let url = server.url();
    across_two_nodes(&["--persistence", "redis", "--transport", "redis", "--redis", &url, "--redis-prefix", &prefix])
        .await;
}

#[tokio::test]
async fn on_nats_a_call_at_one_node_is_linked_from_publishing_and_handling_on_another() {
    let (server, prefix) = (NatsServer::start(""), fresh_prefix());
    let url = server.url();
    across_two_nodes(&["--persistence", "nats", "--transport", "nats", "--nats", &url, "--nats-prefix", &prefix]).await;
}

#[tokio::test]
async fn after_a_kill_between_commit_and_publish_the_stored_context_links_to_the_call() {
    let collector = Collector::start().await;
    let (mut redis, folder) = (RedisServer::start(DURABLE), tempfile::tempdir().unwrap());
    let url = redis.url();
    let own = ["--transport", "redis", "--redis", &url, "--otlp-endpoint", &collector.endpoint, "--node-id"];
    let settings = |name| {
        let own = own.iter().copied().chain([name]).map(std::ffi::OsStr::new);
        embedded(folder.path()).into_iter().chain(own).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let first = Process::serve(&settings("first")).await;
    // From here on nothing can be published.
    redis.kill();
    let trace = trace_of(7);
    Api::Grpc.pays(&first, &format!("00-{trace}-{PARENT}-01")).await;
    let command = tree(&collector, "first", &trace, Api::Grpc.root()).await;
    first.kill().await;
    let published = |span: &Span| span.links.iter().any(|link| link.span_id == command.span_id);
    assert!(!collector.spans().iter().any(published), "it was killed before that");
    redis.start_again();
    let _second = Process::serve(&settings("second")).await;
    links(&collector, "second", &command).await;
}
