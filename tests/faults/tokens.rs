//! Cursors and tokens of one node at another one, and after a restart.

use ordersystem::proto::catga::orders::v1::{
    ConsistencyLevel, GetOrderRequest, ListOrdersRequest, ReadConsistency, StreamEventsRequest, StreamStart,
    order_history_service_client::OrderHistoryServiceClient,
};
use reqwest::{Client, StatusCode};
use tonic::Code;

use crate::{
    durable::Durable,
    load::new_order,
    support::{Process, until},
};

/// The tokens that a node has issued.
struct Given {
    order_id: String,
    token: String,
    page_token: String,
    cursor: String,
}

async fn given_by(node: &Process) -> Given {
    let mut commands = node.commands().await;
    let first = commands.create_order(new_order("c", "one")).await.unwrap().into_inner();
    let last = commands.create_order(new_order("c", "two")).await.unwrap().into_inner();
    let list = ListOrdersRequest { page_size: 1, consistency: at_least(&last.consistency_token), ..Default::default() };
    let page = node.queries().await.list_orders(list).await.unwrap().into_inner();
    let all = StreamEventsRequest { start: StreamStart::Earliest.into(), ..Default::default() };
    let mut events =
        OrderHistoryServiceClient::new(node.channel().await).stream_events(all).await.unwrap().into_inner();
    Given {
        order_id: first.order.unwrap().order_id,
        token: last.consistency_token,
        page_token: page.next_page_token,
        cursor: events.message().await.unwrap().expect("an event").cursor,
    }
}

fn at_least(token: &str) -> Option<ReadConsistency> {
    Some(ReadConsistency { level: ConsistencyLevel::AtLeast.into(), token: token.to_owned() })
}

/// Sends all of them to a node, over both APIs.
async fn is_taken_by(node: &Process, given: &Given) {
    let get = GetOrderRequest { order_id: given.order_id.clone(), at: None, consistency: at_least(&given.token) };
    node.queries().await.get_order(get).await.unwrap();
    let page = ListOrdersRequest { page_size: 1, page_token: given.page_token.clone(), ..Default::default() };
    node.queries().await.list_orders(page).await.unwrap();
    let after =
        StreamEventsRequest { start: StreamStart::After.into(), cursor: given.cursor.clone(), ..Default::default() };
    let mut history = OrderHistoryServiceClient::new(node.channel().await);
    let mut events = history.stream_events(after).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some(), "the event after the first");
    for path in [
        format!("/orders/{}", given.order_id),
        format!("/orders?pageSize=1&pageToken={}", given.page_token),
        format!("/events?cursor={}", given.cursor),
    ] {
        let request = Client::new().get(format!("http://{}{path}", node.address));
        let request =
            if path.contains('?') { request } else { request.header("X-Consistency-Token", given.token.as_str()) };
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "{path}");
    }
}

/// A node with another log refuses them.
async fn is_refused_by(node: &Process, given: &Given) {
    let get = GetOrderRequest { order_id: given.order_id.clone(), at: None, consistency: at_least(&given.token) };
    assert_eq!(node.queries().await.get_order(get).await.unwrap_err().code(), Code::InvalidArgument);
}

async fn are_taken_by_all_nodes_also_after_a_restart(backend: Durable) {
    let settings = |worker: &str| {
        let own = ["--worker-id", worker].map(str::to_owned);
        backend.settings().into_iter().chain(own).collect::<Vec<_>>()
    };
    let (one, other) = (Process::serve(&settings("1")).await, Process::serve(&settings("2")).await);
    let given = given_by(&one).await;
    is_taken_by(&other, &given).await;
    one.kill().await;
    other.kill().await;
    let again = Process::serve(&settings("1")).await;
    is_taken_by(&again, &given).await;
    let stranger = Process::serve::<&str>(&[]).await;
    is_refused_by(&stranger, &given).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_tokens_are_accepted_by_all_nodes_even_after_a_restart() {
    are_taken_by_all_nodes_also_after_a_restart(Durable::redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_tokens_are_accepted_by_all_nodes_even_after_a_restart() {
    are_taken_by_all_nodes_also_after_a_restart(Durable::nats()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_folder_tokens_are_accepted_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = Process::serve_from(folder.path()).await;
    let given = given_by(&node).await;
    node.kill().await;
    let again = Process::serve_from(folder.path()).await;
    until("the list is there again", async || {
        let list = again.queries().await.list_orders(ListOrdersRequest::default()).await.unwrap().into_inner();
        list.orders.len() == 2
    })
    .await;
    is_taken_by(&again, &given).await;
}
