//! Consumers: our own, and those of others.

use super::*;

#[tokio::test]
async fn a_plain_subscriber_and_a_durable_consumer_of_others_see_every_event_as_a_cloud_event() {
    let prefix = fresh_prefix();
    let nats = shared().connect_to(&prefix).await;
    let other = async_nats::connect(shared().url()).await.unwrap();
    let mut plain = other.subscribe(format!("{prefix}.events.>")).await.unwrap();
    other.flush().await.unwrap();
    let describe = |_: &Message| CloudEventAttributes {
        time: "2026-11-21T00:00:00Z".to_owned(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".to_owned(),
        data: Some(("application/json", Bytes::from_static(b"{}"))),
    };
    let options = NatsBusOptions { capacity_messages: 64, describe, ..NatsBusOptions::default() };
    let bus = NatsMessageBus::new(nats, options);
    bus.publish(&[message(9, 5)]).await.unwrap();
    let heard = timeout(Duration::from_secs(60), plain.next()).await.unwrap().unwrap();
    assert_eq!((heard.subject.as_str(), &heard.payload[..]), (format!("{prefix}.events.9").as_str(), &b"{}"[..]));
    let headers = heard.headers.unwrap();
    let source = format!("/{prefix}/orders");
    let expected = BTreeMap::from([
        ("ce-specversion", "1.0"),
        ("ce-id", "9-5"),
        ("ce-source", source.as_str()),
        ("ce-type", "OrderPaid"),
        ("ce-subject", "9"),
        ("ce-time", "2026-11-21T00:00:00Z"),
        ("ce-traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
        ("ce-datacontenttype", "application/json"),
        ("ce-position", "5"),
    ]);
    for (name, value) in expected {
        assert_eq!(headers.get(name).map(|found| found.as_str()), Some(value), "{name}");
    }
    assert!(headers.get("Nats-Msg-Id").unwrap().as_str().starts_with("9-5-"), "{headers:?}");

    // The owner of a durable consumer does not lose the messages that it has not acknowledged.
    let jetstream = async_nats::jetstream::new(other);
    let stream = jetstream.get_stream(format!("{prefix}-events")).await.unwrap();
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("billing".to_owned()),
        ..Default::default()
    };
    let durable = stream.create_consumer(config).await.unwrap();
    // Nor does one that waits for nothing retain anything.
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("one-order".to_owned()),
        filter_subject: format!("{prefix}.events.424242"),
        ..Default::default()
    };
    let _: async_nats::jetstream::consumer::PullConsumer = stream.create_consumer(config).await.unwrap();
    let sent: Vec<_> = (1..=63).map(|sequence| message(7, sequence)).collect();
    bus.publish(&sent).await.unwrap();
    assert!(timeout(Duration::from_secs(1), bus.publish(&[message(7, 64)])).await.is_err(), "it waits for room");
    let why = bus.check().await.unwrap_err().to_string();
    assert!(why.contains("billing"), "{why}");
    let mut messages = durable.fetch().max_messages(64).messages().await.unwrap();
    let mut seen = Vec::new();
    while let Some(Ok(message)) = messages.next().await {
        seen.push(message.headers.as_ref().unwrap().get("ce-id").unwrap().to_string());
        message.double_ack().await.unwrap();
    }
    let expected = std::iter::once("9-5".to_owned()).chain((1..=63).map(|sequence| format!("7-{sequence}")));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    timeout(Duration::from_secs(60), bus.publish(&[message(7, 64)])).await.unwrap().unwrap();
    bus.check().await.unwrap();
    // Our own consumers get the stored messages, whatever others get.
    let consumer = bus.consumer("late").await.unwrap();
    let oldest = receive(&*consumer, 1).await[0].message.clone();
    assert!(oldest == message(7, oldest.sequence) && oldest.sequence > 1, "{oldest:?}");
}

#[tokio::test]
async fn a_consumer_replaced_by_another_node_gets_an_error_and_its_acknowledgement_does_not_count() {
    let prefix = fresh_prefix();
    let here = NatsMessageBus::new(shared().connect_to(&prefix).await, NatsBusOptions::default());
    let there = NatsMessageBus::new(shared().connect_to(&prefix).await, NatsBusOptions::default());
    let former = here.consumer("log").await.unwrap();
    here.publish(&[message(1, 1), message(1, 2)]).await.unwrap();
    let held = receive(&*former, 2).await;
    let consumer = there.consumer("log").await.unwrap();
    assert_eq!(former.ack(&[held[0].receipt]).await, Err(BusError::Replaced));
    assert_eq!(ids(&receive(&*consumer, 2).await), ["1-1", "1-2"]);
    assert_eq!(former.next_batch(1).await.err(), Some(BusError::Replaced));
    // Without a call as well.
    let waiting = tokio::spawn(async move { consumer.next_batch(1).await.err() });
    let _third = here.consumer("log").await.unwrap();
    assert_eq!(timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap(), Some(BusError::Replaced));
}
