//! The stream of the log is deleted and recreated, as another client or an operator may do, while a node's connection stays open: the first call already
//! notices, before any check.

use std::time::Duration;

use bytes::Bytes;
use ordersystem::{
    backends::nats::{
        connection::{ConnectError, Nats, NatsOptions},
        event_store::NatsEventStore,
    },
    ports::event_store::{
        AppendError, Appended, Commit, CommitId, Direction, EventStore, ExpectedRevision, LossKind, RequestKey,
        RequestScope, StoreError, StoredEvent, StreamId,
    },
};

use crate::nats_server::{NatsServer, fresh_prefix};

fn commit(order: u64, request: Option<RequestKey>) -> Commit {
    let (stream, events) = (StreamId(order), vec![Bytes::from_static(b"event")]);
    Commit { id: CommitId::random(), stream, expected: ExpectedRevision::NoStream, request, events }
}

/// A store that has written and read ten orders, whose log has then been replaced by an empty stream of the same name.
async fn with_remade_log(server: &NatsServer) -> NatsEventStore {
    let prefix = fresh_prefix();
    let store = server.store_of(&prefix).await;
    for order in 1..=10 {
        store.append(commit(order, None)).await.unwrap();
    }
    let raw = server.raw().await;
    let log = format!("{prefix}-log");
    let config = raw.get_stream(&log).await.unwrap().cached_info().config.clone();
    raw.delete_stream(&log).await.unwrap();
    raw.create_stream(config).await.unwrap();
    store
}

async fn appended(server: &NatsServer, request: Option<RequestKey>) -> Result<Appended, AppendError> {
    with_remade_log(server).await.append(commit(11, request)).await
}

async fn read(store: &NatsEventStore, order: u64) -> Result<Vec<StoredEvent>, StoreError> {
    store.read_stream(StreamId(order), 1, Direction::Forward, 10).await
}

async fn no_claim_is_made(server: &NatsServer) {
    let request = RequestKey { scope: RequestScope::Log, id: "r".into(), fingerprint: 7 };
    for request in [None, Some(request)] {
        // Unavailable, if the node has noticed before.
        let outcome = appended(server, request).await;
        assert!(
            matches!(outcome, Err(AppendError::OutcomeUnknown(_) | AppendError::Store(StoreError::Unavailable(_)))),
            "it is in an unknown log: {outcome:?}"
        );
    }
    let store = with_remade_log(server).await;
    for order in [3, 12] {
        let found = read(&store, order).await;
        assert!(matches!(found, Err(StoreError::Unavailable(_))), "that it does not exist is not known: {found:?}");
    }
    let mut loss = store.log_loss();
    let lost = tokio::time::timeout(Duration::from_secs(60), loss.wait_for(Option::is_some)).await;
    let lost = lost.expect("the loss is noticed").unwrap().clone();
    assert!(lost.is_some_and(|loss| matches!(loss.kind, LossKind::Gone | LossKind::Replaced)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_of_a_log_recreated_on_an_open_connection_with_the_nats_of_debian() {
    no_claim_is_made(&NatsServer::start("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_of_a_log_recreated_on_an_open_connection_with_the_current_nats() {
    no_claim_is_made(&NatsServer::start_current("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_does_not_exist_is_still_not_found() {
    let server = NatsServer::start("");
    let store = server.store_of(&fresh_prefix()).await;
    store.append(commit(1, None)).await.unwrap();
    assert_eq!(read(&store, 2).await, Ok(Vec::new()));
    assert_eq!(read(&store, 1).await.unwrap().len(), 1);
}

/// The request ids are lost, and the log is not: a node would take repeated commands for new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_request_ids_are_lost_is_refused_and_can_still_be_read() {
    for server in [NatsServer::start(""), NatsServer::start_current("")] {
        let prefix = fresh_prefix();
        let request = RequestKey { scope: RequestScope::Log, id: "r".into(), fingerprint: 7 };
        let store = server.store_of(&prefix).await;
        store.append(commit(1, Some(request.clone()))).await.unwrap();
        server.raw().await.delete_stream(format!("{prefix}-requests")).await.unwrap();

        let refused = NatsEventStore::new(server.connect_to(&prefix).await).until_verified().await.unwrap_err();
        let names_both =
            |why: &str| why.contains(&format!("{prefix}-requests")) && why.contains(&format!("{prefix}-log"));
        assert!(matches!(&refused, ConnectError::Fatal(why) if names_both(why)), "{refused:?}");
        let again = store.append(commit(2, Some(request))).await;
        assert!(again.is_err(), "the node that runs does not take it for a new command either: {again:?}");

        let reads = NatsOptions { makes_log: false, ..server.options(&prefix) };
        let reader = NatsEventStore::new(Nats::start(reads).await.unwrap());
        reader.until_verified().await.expect("the log can be copied");
        assert_eq!(read(&reader, 1).await.unwrap().len(), 1);
        assert!(server.raw().await.get_stream(format!("{prefix}-requests")).await.is_err(), "none was created");
    }
}
