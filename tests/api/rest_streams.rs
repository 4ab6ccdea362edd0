//! Histories as pages and as server-sent events.

use reqwest::Method;
use serde_json::json;

use crate::rest::{Reply, Rest};

async fn delivered(rest: &Rest, customer: &str) -> String {
    let id = rest.order(customer).await;
    rest.post(&format!("/orders/{id}/pay"), &json!({ "paymentMethod": "card" })).await;
    rest.post(&format!("/orders/{id}/ship"), &json!({ "trackingNumber": "T" })).await;
    rest.post(&format!("/orders/{id}/deliver"), &json!({})).await;
    id
}

#[tokio::test]
async fn the_history_of_an_order_is_tailed_live_and_resumed_without_a_gap() {
    let rest = Rest::start().await;
    let id = rest.order("c").await;
    let path = format!("/orders/{id}/history");
    let mut stream = rest.listen(&path, None).await;
    let (first, event) = stream.event().await;
    assert_eq!((first.as_str(), &event["type"]), ("1", &json!("OrderCreated")));
    let caught_up = stream.next().await.expect("caught up");
    assert_eq!((caught_up.event.as_str(), caught_up.id.as_str()), ("caughtUp", "1"));
    rest.post(&format!("/orders/{id}/pay"), &json!({ "paymentMethod": "card" })).await;
    assert_eq!(stream.event().await.1["type"], "OrderPaid");
    drop(stream);
    rest.post(&format!("/orders/{id}/ship"), &json!({ "trackingNumber": "T" })).await;
    let mut stream = rest.listen(&path, Some("2")).await;
    let (id_of_event, event) = stream.event().await;
    assert_eq!(
        (id_of_event.as_str(), &event["type"], &event["trackingNumber"]),
        ("3", &json!("OrderShipped"), &json!("T"))
    );
}

#[tokio::test]
async fn all_events_are_tailed_live_filtered_and_resumed_without_a_gap() {
    let rest = Rest::start().await;
    delivered(&rest, "alice").await;
    let mut live = rest.listen("/events?cursor=latest&customerId=bob", None).await;
    assert_eq!(live.next().await.expect("a block").event, "caughtUp");
    let id = delivered(&rest, "bob").await;
    delivered(&rest, "alice").await;
    let mut seen = Vec::new();
    for revision in 1..=4 {
        let (cursor, event) = live.event().await;
        assert_eq!(
            (&event["orderId"], &event["revision"], &event["cursor"]),
            (&json!(id), &json!(revision), &json!(cursor))
        );
        seen.push(cursor);
    }
    let mut resumed = rest.listen("/events?customerId=bob", Some(&seen[1])).await;
    assert_eq!(resumed.event().await.0, seen[2]);
    assert_eq!(resumed.event().await.0, seen[3]);
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let rest = Rest::start().await;
    let mut expected = Vec::new();
    for customer in ["alice", "bob", "alice"] {
        let id = delivered(&rest, customer).await;
        expected.extend((1..=4).map(|revision| format!("{id}-{revision}")));
    }
    let pages = async |start: &str| {
        let (mut next, mut ids) = (Some(start.to_owned()), Vec::new());
        while let Some(path) = next {
            let page = rest.get(&path).await;
            assert_eq!(page.status, 200, "{page:?}");
            let events = page.json();
            ids.extend(
                events
                    .as_array()
                    .expect("array")
                    .iter()
                    .map(|event| event["eventId"].as_str().expect("text").to_owned()),
            );
            next = page.next();
        }
        ids
    };
    assert_eq!(pages("/events").await, expected);
    assert_eq!(pages("/events?pageSize=5").await, expected);
    assert_eq!(pages("/events?pageSize=1&customerId=bob").await, expected[4..8]);
    assert_eq!(pages("/events?type=OrderShipped").await, [&expected[2][..], &expected[6], &expected[10]]);
    assert_eq!(pages("/events?status=Delivered&pageSize=2").await, [&expected[3][..], &expected[7], &expected[11]]);
    assert_eq!(pages("/events?cursor=latest").await, Vec::<String>::new());
    let id = expected[0].split_once('-').expect("event id").0;
    assert_eq!(pages(&format!("/api/orders/{id}/history?pageSize=3")).await, expected[..4]);
    assert_eq!(pages(&format!("/orders/{id}/history?fromRevision=3")).await, expected[2..4]);
    assert_eq!(pages(&format!("/orders/{id}/history?fromRevision=5")).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_history_does_not_resume_after_a_revision_that_the_order_has_not_reached() {
    let rest = Rest::start().await;
    let id = delivered(&rest, "c").await;
    let path = format!("/orders/{id}/history");
    let problem = rest.get(&format!("{path}?fromRevision=6")).await.problem(404, "NOT_YET_THEN");
    assert_eq!((&problem["orderId"], &problem["actualRevision"]), (&id.as_str().into(), &4.into()));
    for last in ["5", &(u64::MAX - 1).to_string()] {
        let stream = rest.request(Method::GET, &path).header("Accept", "text/event-stream");
        Reply::of(stream.header("Last-Event-ID", last)).await.problem(404, "NOT_YET_THEN");
    }
    rest.listen(&path, Some("4")).await;
}

#[tokio::test]
async fn a_cursor_of_another_log_has_its_own_reason() {
    let (rest, other) = (Rest::start().await, Rest::start().await);
    let id = rest.order("c").await;
    let cursor =
        rest.get(&format!("/orders/{id}/history")).await.json()[0]["cursor"].as_str().expect("text").to_owned();
    let problem = other.get(&format!("/events?cursor={cursor}")).await.problem(400, "CURSOR_OF_ANOTHER_LOG");
    assert_eq!(problem["violations"][0]["field"], "cursor");
}

#[tokio::test]
async fn a_page_refuses_the_header_that_only_streams_use() {
    let rest = Rest::start().await;
    let id = rest.order("c").await;
    for path in ["/events".to_owned(), format!("/orders/{id}/history")] {
        let request = rest.request(Method::GET, &path).header("Last-Event-ID", "1");
        assert_eq!(Reply::of(request).await.violations(), ["Last-Event-ID"], "{path}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_a_status_to_reconnect_when_the_node_drains() {
    let mut rest = Rest::start().await;
    let id = rest.order("c").await;
    let mut streams = [rest.listen("/events", None).await, rest.listen(&format!("/orders/{id}/history"), None).await];
    for stream in &mut streams {
        stream.event().await;
    }
    rest.server.stop().await.expect("an orderly end");
    for mut stream in streams {
        let mut last = None;
        while let Some(block) = stream.next().await {
            last = Some(block);
        }
        let last = last.expect("a last word");
        assert_eq!(last.event, "reconnect");
        assert!(last.data.contains("SHUTTING_DOWN"), "{last:?}");
    }
}
