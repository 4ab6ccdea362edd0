//! A server that crashes or is paused.

use super::*;

/// Publishes and consumes while `harm` is done to the server. Returns the number of failed publishes.
async fn under_harm(server: &mut NatsServer, harm: impl AsyncFnOnce(&mut NatsServer, &Load)) -> usize {
    let prefix = fresh_prefix();
    let nodes = [server.connect_to(&prefix).await, server.connect_to(&prefix).await];
    under_load(nodes, async |load| harm(server, load).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_under_load_loses_no_event_and_no_order() {
    let mut server = NatsServer::start("");
    under_harm(&mut server, async |server, load| {
        for _ in 0..4 {
            load.go_on_for(1_000).await;
            server.kill();
            sleep(Duration::from_millis(200)).await;
            server.start_again();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_paused_for_seconds_loses_no_event_and_no_order() {
    let mut server = NatsServer::start("");
    let failures = under_harm(&mut server, async |server, load| {
        load.go_on_for(1_000).await;
        server.signal("STOP");
        // Longer than the longest timeout: six seconds for the list of consumers.
        sleep(Duration::from_secs(9)).await;
        server.signal("CONT");
    })
    .await;
    assert!(failures > 0, "publishing to a paused server does not wait forever");
}

#[tokio::test]
async fn processed_messages_stay_processed_after_a_crash_of_server_and_consumer() {
    let mut server = NatsServer::start("");
    let prefix = fresh_prefix();
    {
        let bus = NatsMessageBus::new(server.connect_to(&prefix).await, NatsBusOptions::default());
        let consumer = bus.consumer("log").await.unwrap();
        bus.publish(&[message(1, 1), message(2, 1), message(3, 1), message(4, 1)]).await.unwrap();
        let received = receive(&*consumer, 4).await;
        // Not the first one: those above it must be recorded one by one.
        consumer.ack(&[received[1].receipt]).await.unwrap();
        consumer.dead_letter(&received[2], "no luck,\r\nat all").await.unwrap();
        // The test continues as another process would: nothing is released in order.
        std::mem::forget(consumer);
    }
    server.kill();
    server.start_again();
    let bus = NatsMessageBus::new(server.connect_to(&prefix).await, NatsBusOptions::default());
    let consumer = bus.consumer("log").await.unwrap();
    assert_eq!(ids(&receive(&*consumer, 2).await), ["1-1", "4-1"]);
    assert!(timeout(Duration::from_millis(500), consumer.next_batch(1)).await.is_err(), "there is nothing more");
    let letters = bus.dead_letters("log", 10).await.unwrap();
    assert_eq!((&letters[0].message, letters[0].reason.as_str()), (&message(3, 1), "no luck,\r\nat all"));
    assert_eq!(bus.replay("log", &[letters[0].message.event_id()]).await, Ok(1));
    assert_eq!(ids(&receive(&*consumer, 1).await), ["3-1"]);
    drop(consumer);
    let again = bus.consumer("log").await.unwrap();
    let received = receive(&*again, 3).await;
    assert!(ids(&received).contains(&"3-1".to_owned()), "a replayed one that was not acknowledged is redelivered");
    again.ack(&receipts(&received)).await.unwrap();
    assert!(bus.dead_letters("log", 10).await.unwrap().is_empty());
    drop(again);
    let last = bus.consumer("log").await.unwrap();
    assert!(timeout(Duration::from_millis(500), last.next_batch(1)).await.is_err(), "everything is acknowledged");
}

#[tokio::test]
async fn a_dead_or_paused_server_is_reported_at_once_and_used_again_when_it_is_back() {
    let mut server = NatsServer::start("");
    server.kill();
    let nats = Nats::start(server.options(&fresh_prefix())).await.unwrap();
    let bus = NatsMessageBus::new(nats.clone(), NatsBusOptions::default());
    let (leases, checkpoints) = (NatsLeaseStore::new(nats.clone()), NatsCheckpointStore::new(nats));
    let checkpoint = Checkpoint { position: Position(7), fingerprint: Some(9), fencing_token: 1 };
    let lease = Duration::from_secs(60);
    let asked_at = Instant::now();
    assert!(matches!(bus.check().await, Err(BusError::Unavailable(_))));
    assert!(asked_at.elapsed() < Duration::from_secs(20), "{:?}", asked_at.elapsed());
    assert!(matches!(bus.publish(&[message(1, 1)]).await, Err(BusError::Unavailable(_))));
    assert!(matches!(leases.acquire("outbox", "node-1", lease).await, Err(LeaseError::Unavailable(_))));
    assert!(checkpoints.save("outbox", checkpoint).await.is_err());
    server.start_again();
    until("the bus works", async || bus.check().await).await;
    until("it answers", async || bus.publish(&[message(1, 1)]).await).await;
    assert!(until("it answers", async || leases.acquire("outbox", "node-1", lease).await).await.is_some());
    until("it answers", async || checkpoints.save("outbox", checkpoint).await).await;
    server.signal("STOP");
    // It may answer once more before the signal has reached it.
    let asked_at = Instant::now();
    while bus.check().await.is_ok() {
        assert!(asked_at.elapsed() < Duration::from_secs(60), "it answers although it is paused");
    }
    server.signal("CONT");
    until("the bus works", async || bus.check().await).await;
    assert_eq!(until("it answers", async || checkpoints.load("outbox").await).await, Some(checkpoint));
    let consumer = until("it answers", async || bus.consumer("log").await).await;
    assert_eq!(ids(&receive(&*consumer, 1).await), ["1-1"]);
}
