//! Events that cannot be handled at the first attempt, or at all.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_failed_event_is_retried_with_growing_delays_while_other_orders_continue() {
    let bus = memory();
    let handler = Scripted::new(
        |event: &ReceivedEvent| if event.order_number() == 1 && event.attempt() < 4 { retry() } else { Ok(()) },
    );
    let options = SubscriptionOptions { max_attempts: 10, ..options() };
    let started = Instant::now();
    let running = Running::start(&bus, handler.clone(), options);
    bus.publish(&[message(1, 1), message(2, 1), message(1, 2), message(2, 2)]).await.unwrap();
    running.until(|status| status.handled() == 4).await;
    let seen: Vec<_> = handler.seen().into_iter().map(|(id, attempt, _)| format!("{id} {attempt}")).collect();
    assert_eq!(seen, ["1-1 1", "2-1 1", "2-2 1", "1-1 2", "1-1 3", "1-1 4", "1-2 1", "1-2 2", "1-2 3", "1-2 4"]);
    // 100 + 200 + 400 ms for each of two events; at least half of it.
    let (least, most) = (Duration::from_millis(700), Duration::from_millis(1_450));
    assert!((least..=most).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!((running.status.retried(), running.status.dead_lettered()), (6, 0));
    assert!(running.status.last_error().unwrap().reason.contains("not now"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_an_event_is_a_dead_letter_and_its_order_continues() {
    let bus = memory();
    let handler = Scripted::new(|event: &ReceivedEvent| if event.revision() == 1 { retry() } else { Ok(()) });
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(1, 2)]).await.unwrap();
    running.until(|status| status.handled() == 1).await;
    bus.publish(&[message(2, 1)]).await.unwrap();
    running.until(|status| status.dead_lettered() == 2).await;
    assert_eq!(handler.seen_ids(), ["1-1", "1-1", "1-1", "1-2", "2-1", "2-1", "2-1"]);
    assert_eq!(running.status.retried(), 4);
    let letters = bus.dead_letters("scripted", 10).await.unwrap();
    assert_eq!((letters[0].message.event_id().to_string().as_str(), letters[0].attempts), ("1-1", 3));
    assert_eq!(letters[0].reason, "not now");
    // When published again, they are recognised as processed.
    bus.publish(&[message(1, 1), message(2, 1)]).await.unwrap();
    running.until(|status| status.deduplicated() == 2).await;
    assert_eq!(handler.seen().len(), 7);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_event_is_a_dead_letter_at_once_and_can_be_replayed() {
    let bus = memory();
    let mended = Arc::new(AtomicBool::new(false));
    let handler = Scripted::new({
        let mended = mended.clone();
        move |event: &ReceivedEvent| match event.revision() {
            1 if !mended.load(SeqCst) => Err(HandlerError::Reject("never".to_owned())),
            _ => Ok(()),
        }
    });
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(1, 2)]).await.unwrap();
    running.until(|status| status.handled() == 1 && status.dead_lettered() == 1).await;
    mended.store(true, SeqCst);
    assert_eq!(bus.replay("scripted", &[EventId { key: 1, sequence: 1 }]).await, Ok(1));
    running.until(|status| status.handled() == 2).await;
    let seen: Vec<Seen> = handler.seen();
    assert_eq!(seen[2], ("1-1".to_owned(), 1, true), "a replayed event is not taken for a repeated one");
    bus.publish(&[message(1, 2)]).await.unwrap();
    running.until(|status| status.deduplicated() == 1).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_decoded_is_rejected_by_a_handler_that_decodes() {
    let bus = memory();
    let running = Running::start(
        &bus,
        Scripted::new(|event: &ReceivedEvent| event.decode().map(drop).map_err(HandlerError::from)),
        options(),
    );
    bus.publish(&[Message { payload: Bytes::from_static(&[0xff]), ..message(1, 1) }]).await.unwrap();
    running.until(|status| status.dead_lettered() == 1).await;
    assert!(bus.dead_letters("scripted", 1).await.unwrap()[0].reason.contains("cannot be decoded"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_one_event_only() {
    let bus = memory();
    let handler = Scripted::new(|event: &ReceivedEvent| match event.order_number() {
        1 => panic!("handler bug {}", event.event_id()),
        _ => Ok(()),
    });
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(2, 1)]).await.unwrap();
    running.until(|status| status.dead_lettered() == 1).await;
    assert_eq!(handler.seen_ids(), ["1-1", "2-1", "1-1", "1-1"]);
    assert_eq!(bus.dead_letters("scripted", 1).await.unwrap()[0].reason, "the handler panicked: handler bug 1-1");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn full_dead_letters_hold_the_subscription_up_until_there_is_room() {
    let bus_options = MemoryBusOptions { max_dead_letters: 1, ..MemoryBusOptions::default() };
    let bus: Arc<dyn MessageBus> = Arc::new(MemoryMessageBus::new(bus_options));
    let handler = Scripted::new(|event: &ReceivedEvent| match event.order_number() {
        1 | 2 => Err(HandlerError::Reject("never".to_owned())),
        _ => Ok(()),
    });
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(2, 1), message(3, 1)]).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(handler.seen_ids(), ["1-1", "2-1"]);
    assert!(running.status.last_error().unwrap().reason.contains("1 dead letters"));
    bus.discard("scripted", &[EventId { key: 1, sequence: 1 }]).await.unwrap();
    running.until(|status| status.handled() == 1 && status.dead_lettered() == 2).await;
    assert_eq!(handler.seen_ids(), ["1-1", "2-1", "3-1"]);
    running.stop().await;
}

#[test]
fn delays_double_up_to_the_bound_and_are_spread() {
    let options = SubscriptionOptions::default();
    for (failures, full_ms) in
        [(1, 100), (2, 200), (5, 1_600), (9, 25_600), (10, 30_000), (40, 30_000), (u32::MAX, 30_000)]
    {
        let delays: Vec<_> = (0..200).map(|_| options.backoff.after(failures)).collect();
        let full = Duration::from_millis(full_ms);
        assert!(delays.iter().all(|delay| (full / 2..=full).contains(delay)), "{failures}");
        assert!(delays.iter().max() > delays.iter().min(), "{failures}: no jitter");
    }
}
