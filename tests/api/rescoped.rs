//! Open calls when their caller may see other orders than before, or may no longer operate the node.

use ordersystem::{
    identity::{Role, api_keys::NewKey},
    proto::catga::system::v1::RebuildProjectionsRequest,
};
use tonic::Code;

use crate::{
    faulty::{FaultyStore, Mode},
    guarded::{Caller, Guarded},
    support::{code_and_reason, soon},
    withdrawn::{Became, Open, Streams, keep},
};

/// A node with one more caller, and the header of that caller. Every order in these tests belongs to the customer `customer-1`.
async fn with_caller(roles: &str, customer: &str) -> (Guarded, String) {
    let key = NewKey::draw().expect("random bytes");
    let hash = key.hash().to_hex();
    let entry = format!("[[api_keys]]\nname = \"both\"\n{}\nsha256 = \"{hash}\"\n", of(roles, customer));
    (Guarded::start_with(&entry, &[]).await, format!("Bearer {}", key.as_str()))
}

/// The lines of an entry with these roles.
fn of(roles: &str, customer: &str) -> String {
    let roles: Vec<_> = roles.split(' ').map(|role| format!("\"{role}\"")).collect();
    format!("roles = [{}]\ncustomer = \"{customer}\"", roles.join(", "))
}

/// The streams about orders of the caller with this header.
async fn streams_of(guarded: &Guarded, bearer: &str) -> Streams {
    let of = |role| match role {
        Role::Events | Role::Reader => bearer.to_owned(),
        other => guarded.bearer(Caller::Known(other)).expect("a key"),
    };
    let mut streams = Streams::open(guarded, of).await;
    streams.over_grpc.retain(|(path, _)| path.contains("OrderHistoryService"));
    assert_eq!(streams.over_grpc.len(), 2);
    streams
}

#[tokio::test]
async fn streams_of_all_orders_end_once_their_caller_may_see_only_its_own() {
    let (before, after) = ("reader events customer", "customer");
    let (guarded, bearer) = with_caller(before, "customer-2").await;
    let streams = streams_of(&guarded, &bearer).await;
    guarded.edit_identities(|text| text.replace(&of(before, "customer-2"), &of(after, "customer-2")));
    streams.end_with(Code::Unauthenticated, "CREDENTIALS_INVALID").await;
}

#[tokio::test]
async fn streams_of_a_customer_end_once_its_key_is_that_of_another_customer() {
    let (guarded, bearer) = with_caller("customer", "customer-1").await;
    let streams = streams_of(&guarded, &bearer).await;
    guarded.edit_identities(|text| text.replace(&of("customer", "customer-1"), &of("customer", "customer-2")));
    streams.end_with(Code::Unauthenticated, "CREDENTIALS_INVALID").await;
}

#[tokio::test]
async fn streams_of_a_customer_end_once_it_may_see_all_orders() {
    let (guarded, bearer) = with_caller("customer", "customer-1").await;
    let streams = streams_of(&guarded, &bearer).await;
    let after = of("customer reader events", "customer-1");
    guarded.edit_identities(|text| text.replace(&of("customer", "customer-1"), &after));
    streams.end_with(Code::Unauthenticated, "CREDENTIALS_INVALID").await;
}

#[tokio::test]
async fn a_stream_of_commands_continues_with_the_orders_that_its_caller_may_change_now() {
    let (before, after) = ("writer customer", "customer");
    let (guarded, bearer) = with_caller(before, "customer-2").await;
    let mut open = Open::with(&guarded, &bearer).await;
    assert_eq!(open.create().await, Became::Done);
    guarded.edit_identities(|text| text.replace(&of(before, "customer-2"), &of(after, "customer-2")));
    let refused = loop {
        match open.create().await {
            Became::Done => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            other => break other,
        }
    };
    let expected = || Became::Refused(Code::PermissionDenied, "CUSTOMER_NOT_ALLOWED".to_owned());
    assert_eq!(refused, expected());
    assert_eq!(open.create().await, expected(), "the call is open");
    guarded.edit_identities(|text| text.replace(&of(after, "customer-2"), &of(after, "customer-1")));
    let done = loop {
        match open.create().await {
            refused if refused == expected() => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            other => break other,
        }
    };
    assert_eq!(done, Became::Done, "its own orders");
}

#[tokio::test]
async fn an_operator_whose_key_is_withdrawn_is_told_no_more_of_a_rebuild() {
    let (backends, store) = FaultyStore::backends();
    let guarded = Guarded::start_on("", backends).await;
    store.log.set(Mode::Hangs);
    let request = guarded.request(Caller::Known(Role::Operator), RebuildProjectionsRequest {});
    let mut news = guarded.server().admin().await.rebuild_projections(request).await.expect("begins").into_inner();
    assert!(soon("news", news.message()).await.expect("no error").is_some());
    guarded.edit_identities(|text| keep(&text, |name| name != "operator"));
    let status = loop {
        match soon("news, or the end", news.message()).await {
            Ok(news) => assert!(news.is_some(), "it ends with an error"),
            Err(status) => break status,
        }
    };
    assert_eq!(code_and_reason(&status), (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
    store.log.set(Mode::Works);
}
