//! Ids over gRPC.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use ordersystem::{
    node::Backends,
    ports::clock::{Clock as _, ManualClock, SystemClock},
    proto::catga::ids::v1::{
        GenerateIdRequest, GenerateIdsRequest, ParseIdRequest, StreamIdsRequest, id_service_client::IdServiceClient,
    },
};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};

use crate::support::{TestServer, reason, soon, until, violated_fields};

#[tokio::test]
async fn an_id_comes_as_text_and_as_a_number_and_names_its_origin() {
    let server = TestServer::start_with(&[("datacenter-id", "3"), ("worker-id", "17")]).await;
    let mut ids = server.ids().await;
    let before = SystemTime::now();
    let id = ids.generate_id(GenerateIdRequest {}).await.expect("issued").into_inner();
    assert_eq!(id.id, id.value.to_string());
    let parts = ids.parse_id(ParseIdRequest { id: id.id.clone() }).await.expect("parsed").into_inner();
    assert_eq!((parts.id, parts.datacenter_id, parts.worker_id), (id.id, 3, 17));
    assert!((0..4096).contains(&parts.sequence));
    let issued_at = SystemTime::try_from(parts.issued_at.expect("a time")).expect("in range");
    let distance = issued_at.duration_since(before).unwrap_or_else(|error| error.duration());
    assert!(distance.as_secs() < 5, "{distance:?}");
}

#[tokio::test]
async fn the_requested_number_of_ids_comes_in_growing_order() {
    let server = TestServer::start().await;
    let mut ids = server.ids().await;
    for count in [1, 2, 5_000, 100_000] {
        let reply = ids.generate_ids(GenerateIdsRequest { count }).await.expect("issued").into_inner();
        assert_eq!(reply.ids.len(), count as usize);
        assert!(reply.ids.is_sorted_by(|one, next| one < next));
        assert!(reply.ids[0] > 0);
    }
    for count in [0, -1, 100_001, i32::MAX, i32::MIN] {
        let refusal = ids.generate_ids(GenerateIdsRequest { count }).await.expect_err("out of bounds");
        assert_eq!((refusal.code(), violated_fields(&refusal)), (Code::InvalidArgument, vec!["count".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_issued_at_the_same_time_over_all_calls_are_unique() {
    let server = TestServer::start().await;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let mut ids = server.ids().await;
        calls.spawn(async move {
            let mut all = Vec::new();
            for _ in 0..50 {
                all.push(ids.generate_id(GenerateIdRequest {}).await.expect("issued").into_inner().value);
            }
            all.extend(ids.generate_ids(GenerateIdsRequest { count: 2_000 }).await.expect("issued").into_inner().ids);
            let request = StreamIdsRequest { count: 2_000, batch_size: 300 };
            let mut stream = ids.stream_ids(request).await.expect("opens").into_inner();
            while let Some(batch) = stream.message().await.expect("no error") {
                all.extend(batch.ids);
            }
            all
        });
    }
    let all: Vec<i64> = calls.join_all().await.into_iter().flatten().collect();
    assert_eq!(all.len(), 8 * 4_050);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
}

#[tokio::test]
async fn a_stream_of_ids_has_the_count_and_batches_asked_for() {
    let server = TestServer::start().await;
    let mut ids = server.ids().await;
    for (count, batch_size, batches) in
        [(10, 3, vec![3, 3, 3, 1]), (10, 10, vec![10]), (1, 10_000, vec![1]), (2_500, 0, vec![1_000, 1_000, 500])]
    {
        let request = StreamIdsRequest { count, batch_size };
        let mut stream = ids.stream_ids(request).await.expect("opens").into_inner();
        let (mut sizes, mut last) = (Vec::new(), 0);
        while let Some(batch) = stream.message().await.expect("no error") {
            sizes.push(batch.ids.len());
            assert!(batch.ids[0] > last && batch.ids.is_sorted());
            last = *batch.ids.last().expect("not empty");
        }
        assert_eq!(sizes, batches);
    }
    // Without a count the stream continues until the client has enough.
    let mut stream = ids.stream_ids(StreamIdsRequest::default()).await.expect("opens").into_inner();
    for _ in 0..20 {
        assert_eq!(soon("a batch", stream.message()).await.expect("no error").expect("no end").ids.len(), 1_000);
    }
    drop(stream);
    ids.generate_id(GenerateIdRequest {}).await.expect("the connection works on");
}

#[tokio::test]
async fn a_stream_of_ids_out_of_bounds_is_refused_with_every_reason() {
    let server = TestServer::start().await;
    let mut ids = server.ids().await;
    for request in [
        StreamIdsRequest { count: -1, batch_size: -1 },
        StreamIdsRequest { count: 1_000_000_001, batch_size: 10_001 },
        StreamIdsRequest { count: i64::MIN, batch_size: i32::MIN },
    ] {
        let refusal = ids.stream_ids(request).await.expect_err("out of bounds");
        assert_eq!(violated_fields(&refusal), ["count", "batch_size"]);
    }
}

#[tokio::test]
async fn text_that_is_not_an_id_is_refused() {
    let server = TestServer::start().await;
    let mut ids = server.ids().await;
    for id in ["", "0", "-1", "01", "1e3", "9223372036854775808", "99999999999999999999", "id", " 1", "１"] {
        let refusal = ids.parse_id(ParseIdRequest { id: id.to_owned() }).await.expect_err("no id");
        assert_eq!(
            (refusal.code(), violated_fields(&refusal)),
            (Code::InvalidArgument, vec!["id".to_owned()]),
            "{id:?}"
        );
    }
    let parts = ids.parse_id(ParseIdRequest { id: i64::MAX.to_string() }).await.expect("parsed").into_inner();
    assert_eq!((parts.datacenter_id, parts.worker_id, parts.sequence), (31, 31, 4095));
}

#[tokio::test]
async fn bulk_requests_for_ids_leave_capacity_to_orders_and_are_bounded_in_number() {
    let clock = Arc::new(ManualClock::new(SystemClock.now_micros()));
    let server =
        TestServer::start_on(&[("max-in-flight", "4")], Backends::memory(), Arc::<ManualClock>::clone(&clock)).await;
    // And stalls from then on: the ids that may be issued are soon used up.
    clock.advance_ms(10);
    let (ids, others) = (server.ids().await, server.ids().await);
    let many = |mut ids: IdServiceClient<Channel>| async move {
        ids.generate_ids(GenerateIdsRequest { count: 100_000 }).await.expect_err("not that many")
    };
    until("one of two is refused", async || {
        let (one, other) = tokio::join!(many(ids.clone()), many(others.clone()));
        let is_shed = |status: &Status| status.code() == Code::ResourceExhausted && reason(status) == "OVERLOADED";
        [one, other].iter().any(is_shed).then_some(())
    })
    .await;
    for _ in 0..200 {
        soon("an order", server.place_order("customer-1")).await;
    }
    ids.clone().generate_id(GenerateIdRequest {}).await.expect("issued");
}
