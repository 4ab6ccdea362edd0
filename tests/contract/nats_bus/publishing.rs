//! The events that are stored, in which order and how often.

use super::*;

#[tokio::test]
async fn an_event_larger_than_the_limit_of_the_server_arrives_whole_and_once() {
    let prefix = fresh_prefix();
    let describe = |message: &Message| CloudEventAttributes {
        data: (message.sequence != 3).then(|| ("application/json", Bytes::from(vec![b'x'; message.payload.len() / 2]))),
        ..CloudEventAttributes::default()
    };
    let options = NatsBusOptions { describe, ..NatsBusOptions::default() };
    let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, options);
    let large = |sequence, bytes: usize| {
        let payload = Bytes::from((0..bytes).map(|at| (at as u64 * sequence) as u8).collect::<Vec<_>>());
        Message { payload, ..message(1, sequence) }
    };
    let sent = [large(1, 100), large(2, 100_000), large(3, 2_500_000), large(4, 2_500_000), large(5, 100)];
    let other = async_nats::connect(shared().url()).await.unwrap();
    let mut plain = other.subscribe(format!("{prefix}.events.>")).await.unwrap();
    other.flush().await.unwrap();
    let former = bus.consumer("log").await.unwrap();
    bus.publish(&sent[..2]).await.unwrap();
    let received = receive(&*former, 2).await;
    former.ack(&[received[0].receipt]).await.unwrap();
    // A publisher that ended halfway, and left parts that no event follows.
    let parts = async_nats::HeaderMap::from_iter([("Ordersystem-Part".parse().unwrap(), "1".parse().unwrap())]);
    let jetstream = async_nats::jetstream::new(other);
    jetstream.publish_with_headers(format!("{prefix}.parts.1"), parts, "lost".into()).await.unwrap().await.unwrap();
    bus.publish(&sent[1..]).await.unwrap();
    bus.publish(&sent).await.unwrap();
    bus.publish(&[message(2, 1)]).await.unwrap();
    assert_eq!(receive(&*former, 4).await.len(), 4);
    let consumer = bus.consumer("log").await.unwrap();
    let received = receive(&*consumer, 5).await;
    let messages: Vec<_> = received.iter().map(|delivery| delivery.message.clone()).collect();
    assert!(messages[..4] == sent[1..] && messages[4] == message(2, 1), "{:?}", ids(&received));
    consumer.ack(&receipts(&received)).await.unwrap();
    let again = bus.consumer("log").await.unwrap();
    assert!(
        timeout(Duration::from_millis(500), again.next_batch(1)).await.is_err(),
        "everything is acknowledged, parts too"
    );
    let mut heard = Vec::new();
    while heard.len() < 5 {
        let message = timeout(Duration::from_secs(60), plain.next()).await.unwrap().unwrap();
        let id = message.headers.unwrap().get("ce-id").unwrap().to_string();
        // Events that are published again reach plain subscribers again: only the stream can tell that it has them.
        if !heard.iter().any(|(known, _)| *known == id) {
            heard.push((id, message.payload.len()));
        }
    }
    let expected = [("1-1", 50), ("1-2", 50_000), ("1-3", 0), ("1-4", 0), ("1-5", 50)];
    assert_eq!(heard, expected.map(|(id, length)| (id.to_owned(), length)));
}

/// nats-server 2.11 and later check `Nats-Expected-Last-Msg-Id` in a stream with replicas only when a message is applied, and one whose
/// condition fails stops the stream forever.
#[tokio::test]
async fn no_condition_is_sent_that_a_stream_with_replicas_can_refuse_only_when_it_is_applied() {
    let prefix = fresh_prefix();
    let other = async_nats::connect(shared().url()).await.unwrap();
    let mut heard = other.subscribe(format!("{prefix}.>")).await.unwrap();
    other.flush().await.unwrap();
    let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, NatsBusOptions::default());
    let large = Message { payload: Bytes::from(vec![7; 2_500_000]), ..message(1, 9) };
    let mut sent: Vec<_> = (1..=8).flat_map(|sequence| [message(1, sequence), message(2, sequence)]).collect();
    sent.push(large);
    bus.publish(&sent).await.unwrap();
    let mut seen = 0;
    while seen < sent.len() {
        let message = timeout(Duration::from_secs(30), heard.next()).await.unwrap().unwrap();
        let headers = message.headers.unwrap();
        assert!(headers.get("Nats-Expected-Last-Msg-Id").is_none(), "{}: {headers:?}", message.subject);
        seen += usize::from(headers.get("ce-id").is_some());
    }
}

#[tokio::test]
async fn events_of_one_key_are_stored_in_order_while_those_of_others_do_not_wait_for_them() {
    let prefix = fresh_prefix();
    let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, NatsBusOptions::default());
    let hot = (1..=300).map(|sequence| message(1, sequence));
    let cold = (2..=300).map(|key| message(key, 1));
    let sent: Vec<_> = hot.chain(cold).collect();
    bus.publish(&sent).await.unwrap();
    let consumer = bus.consumer("log").await.unwrap();
    let received = receive(&*consumer, sent.len()).await;
    let of_hot = received.iter().map(|delivery| &delivery.message).filter(|message| message.key == 1);
    assert_eq!(of_hot.map(|message| message.sequence).collect::<Vec<_>>(), (1..=300).collect::<Vec<_>>());
    let first_cold = received.iter().position(|delivery| delivery.message.key != 1).unwrap();
    assert!(first_cold < 100, "the first of the other keys was stored behind {first_cold} of the key before it");
}

#[tokio::test]
async fn without_consumers_the_oldest_are_dropped_and_a_new_consumer_gets_the_rest() {
    let options = NatsBusOptions { capacity_messages: 64, ..NatsBusOptions::default() };
    let bus = NatsMessageBus::new(shared().connect_to(&fresh_prefix()).await, options);
    for sequence in 1..=300 {
        bus.publish(&[message(1, sequence)]).await.unwrap();
    }
    let consumer = bus.consumer("late").await.unwrap();
    let first = receive(&*consumer, 1).await[0].message.sequence;
    assert!((237..=260).contains(&first), "{first}");
    let rest: Vec<_> = receive(&*consumer, (300 - first) as usize).await;
    let sequences: Vec<_> = rest.iter().map(|delivery| delivery.message.sequence).collect();
    assert_eq!(sequences, (first + 1..=300).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_event_published_again_is_stored_once() {
    let bus = NatsMessageBus::new(shared().connect_to(&fresh_prefix()).await, NatsBusOptions::default());
    let sent: Vec<_> = (1..=10).map(|sequence| message(1, sequence)).collect();
    bus.publish(&sent[..6]).await.unwrap();
    // As after a missing reply: all of it again, and more.
    bus.publish(&sent).await.unwrap();
    bus.publish(&sent).await.unwrap();
    let consumer = bus.consumer("log").await.unwrap();
    let expected: Vec<_> = sent.iter().map(|message| message.event_id().to_string()).collect();
    assert_eq!(ids(&receive(&*consumer, 10).await), expected);
    assert!(timeout(Duration::from_millis(500), consumer.next_batch(1)).await.is_err(), "there is nothing more");
}

#[tokio::test]
async fn another_event_at_a_published_revision_is_not_a_duplicate() {
    let bus = NatsMessageBus::new(shared().connect_to(&fresh_prefix()).await, NatsBusOptions::default());
    let lost = message(1, 1);
    // The log has lost its end, and has another event there.
    let other = Message { payload: Bytes::from_static(b"another"), ..lost.clone() };
    bus.publish(std::slice::from_ref(&lost)).await.unwrap();
    for _ in 0..2 {
        bus.publish(std::slice::from_ref(&other)).await.unwrap();
    }
    let consumer = bus.consumer("log").await.unwrap();
    let came: Vec<_> = receive(&*consumer, 2).await.into_iter().map(|delivery| delivery.message.payload).collect();
    assert_eq!(came, [lost.payload, other.payload]);
    assert!(timeout(Duration::from_millis(500), consumer.next_batch(1)).await.is_err(), "there is nothing more");
}

#[tokio::test]
async fn of_two_nodes_that_publish_the_same_events_neither_brings_them_out_of_order() {
    let seed = fastrand::u64(..);
    println!("seed: {seed}");
    let prefix = fresh_prefix();
    // The deduplication window is empty: the order must not depend on it.
    let options = NatsBusOptions { duplicate_window: Duration::from_millis(100), ..NatsBusOptions::default() };
    let mut publishers = Vec::new();
    for node in 0..2 {
        let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, options);
        let mut random = fastrand::Rng::with_seed(seed ^ node);
        publishers.push(tokio::spawn(async move {
            let mut next = 1;
            while next <= 400 {
                let end = (next + random.u64(1..60)).min(401);
                let batch: Vec<_> = (next..end).map(|sequence| message(1, sequence)).collect();
                bus.publish(&batch).await.unwrap();
                next = end;
            }
        }));
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let bus = NatsMessageBus::new(shared().connect_to(&prefix).await, options);
    let consumer = bus.consumer("log").await.unwrap();
    let mut last = 0;
    while last < 400 {
        for delivery in receive(&*consumer, 1).await {
            let sequence = delivery.message.sequence;
            assert!(sequence <= last + 1, "{sequence} came after {last}");
            last = last.max(sequence);
            consumer.ack(&[delivery.receipt]).await.unwrap();
        }
    }
}
