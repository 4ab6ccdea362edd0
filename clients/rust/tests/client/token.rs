//! The token of a channel goes with each attempt, and is asked for each time.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};

use ordersystem_client::{
    catga::orders::v1::{
        GetOrderRequest, GetOrderResponse, PayOrderRequest, PayOrderResponse, StreamEventsRequest,
        StreamEventsResponse, order_command_service_client::OrderCommandServiceClient,
        order_history_service_client::OrderHistoryServiceClient, order_query_service_client::OrderQueryServiceClient,
    },
    follow_events, send, token_file,
};
use tonic::Code;

use crate::fake::{Answer, FakeServer, messages, nothing, reply};

fn event(cursor: &str) -> Answer {
    messages(&[StreamEventsResponse { cursor: cursor.to_owned(), item: None }])
}

fn sent(fake: &FakeServer) -> Vec<Option<String>> {
    let tokens = fake.asked().into_iter().map(|asked| asked.headers.get("authorization").cloned());
    tokens.map(|token| token.map(|token| token.to_str().unwrap().to_owned())).collect()
}

#[tokio::test]
async fn every_attempt_and_opening_has_the_token_of_that_moment() {
    let unavailable = || nothing().unavailable();
    let (found, paid) = (reply(&GetOrderResponse::default()), reply(&PayOrderResponse::default()));
    let script = [unavailable(), found, unavailable(), paid, event("a").unavailable(), event("b")];
    let fake = FakeServer::start(script).await;
    let asked = AtomicU32::new(0);
    let channel = fake.channel().with_token(move || Ok((asked.fetch_add(1, Ordering::Relaxed) + 1).to_string()));
    OrderQueryServiceClient::new(channel.clone()).get_order(GetOrderRequest::default()).await.unwrap();
    send(&OrderCommandServiceClient::new(channel.clone()), PayOrderRequest::default()).await.unwrap();
    let mut follow = follow_events(&OrderHistoryServiceClient::new(channel), StreamEventsRequest::default());
    assert_eq!(follow.message().await.unwrap().unwrap().cursor, "a");
    assert_eq!(follow.message().await.unwrap().unwrap().cursor, "b");
    let expected: Vec<_> = (1..=6).map(|number| Some(format!("Bearer {number}"))).collect();
    assert_eq!(sent(&fake), expected);
}

#[tokio::test]
async fn a_file_is_read_for_each_call_and_an_empty_token_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let fake = FakeServer::start(vec![reply(&GetOrderResponse::default()); 3]).await;
    let mut queries = OrderQueryServiceClient::new(fake.channel().with_token(token_file(&file)));
    for content in ["first\n", "renewed\n", ""] {
        fs::write(&file, content).unwrap();
        queries.get_order(GetOrderRequest::default()).await.unwrap();
    }
    fs::remove_file(&file).unwrap();
    let refused = queries.get_order(GetOrderRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    fs::write(&file, "two\nlines").unwrap();
    let refused = queries.get_order(GetOrderRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(sent(&fake), [Some("Bearer first".to_owned()), Some("Bearer renewed".to_owned()), None]);
}
