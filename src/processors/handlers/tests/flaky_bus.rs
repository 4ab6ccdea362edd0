//! A bus that fails now and then, and slow handlers.

use super::*;

/// A bus and its consumers that fail according to `luck` and count extensions.
#[derive(Debug)]
struct Flaky<T: ?Sized> {
    luck: Arc<Luck>,
    inner: Box<T>,
}

#[derive(Debug)]
struct Luck {
    /// One call in three fails, by a seed; `None`: no call does.
    random: Option<Mutex<fastrand::Rng>>,
    extended: AtomicUsize,
}

fn flaky(seed: Option<u64>) -> (Arc<dyn MessageBus>, Arc<Luck>) {
    let random = seed.map(|seed| Mutex::new(fastrand::Rng::with_seed(seed)));
    let luck = Arc::new(Luck { random, extended: AtomicUsize::new(0) });
    (Arc::new(Flaky { luck: luck.clone(), inner: Box::new(MemoryMessageBus::default()) }), luck)
}

impl<T: ?Sized> Flaky<T> {
    fn luck(&self) -> Result<(), BusError> {
        match &self.luck.random {
            Some(random) if random.lock().u8(..3) == 0 => Err(BusError::Unavailable("no luck".to_owned())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl MessageBus for Flaky<MemoryMessageBus> {
    fn kind(&self) -> &'static str {
        "flaky"
    }
    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        self.inner.publish(messages).await
    }
    fn oldest_unpersisted(&self, consumers: &[String]) -> VolatileMessages {
        self.inner.oldest_unpersisted(consumers)
    }
    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError> {
        self.luck()?;
        Ok(Box::new(Flaky { luck: self.luck.clone(), inner: self.inner.consumer(name).await? }))
    }
    async fn remove_consumer(&self, name: &str) -> Result<(), BusError> {
        self.inner.remove_consumer(name).await
    }
    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        self.inner.dead_letters(name, max).await
    }
    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner.replay(name, events).await
    }
    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.inner.discard(name, events).await
    }
    async fn check(&self) -> Result<(), BusError> {
        self.inner.check().await
    }
}

#[async_trait]
impl Consumer for Flaky<dyn Consumer> {
    fn ack_wait(&self) -> Duration {
        self.inner.ack_wait()
    }
    async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError> {
        self.luck()?;
        self.inner.next_batch(max).await
    }
    async fn ack(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.luck()?;
        self.inner.ack(receipts).await?;
        self.luck()
    }
    async fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.luck.extended.fetch_add(1, SeqCst);
        self.inner.extend(receipts).await
    }
    async fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError> {
        self.luck()?;
        self.inner.retry(receipt, after).await
    }
    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        self.inner.dead_letter(delivery, reason).await
    }
}

#[tokio::test(start_paused = true)]
async fn bus_errors_are_waited_out_and_no_event_is_lost_repeated_or_out_of_order() {
    for _ in 0..20 {
        let seed = fastrand::u64(..);
        println!("seed: {seed}");
        let (bus, _) = flaky(Some(seed));
        let ok = Mutex::new(HashMap::<u64, u64>::new());
        let handler = Scripted::new(move |event: &ReceivedEvent| {
            if event.revision().is_multiple_of(5) && event.attempt() == 1 {
                return retry();
            }
            let last = ok.lock().insert(event.order_number(), event.revision()).unwrap_or(0);
            assert_eq!(event.revision(), last + 1, "out of order");
            Ok(())
        });
        let running =
            Running::start(&bus, handler, SubscriptionOptions { batch_size: 7, max_attempts: u32::MAX, ..options() });
        let sent: Vec<_> = (1..=40).flat_map(|sequence| [1, 2, 3].map(|key| message(key, sequence))).collect();
        bus.publish(&sent).await.unwrap();
        running.until(|status| status.handled() == 120).await;
        assert_eq!(running.status.dead_lettered(), 0);
        running.stop().await;
    }
}

/// A slow handler.
struct Slow {
    pause: Duration,
    handled: Mutex<Vec<String>>,
}

#[async_trait]
impl EventHandler for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    async fn handle(&self, event: &ReceivedEvent) -> Result<(), HandlerError> {
        sleep(self.pause).await;
        self.handled.lock().push(format!("{} {}", event.event_id(), event.attempt()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_handler_is_cancelled_in_time() {
    let bus = memory();
    let slow = Arc::new(Slow { pause: Duration::from_secs(3_600), handled: Mutex::default() });
    let running = Running::start(&bus, slow.clone(), options());
    bus.publish(&[message(1, 1)]).await.unwrap();
    running.until(|status| status.dead_lettered() == 1).await;
    assert_eq!(bus.dead_letters("slow", 1).await.unwrap()[0].reason, "the handler took longer than 10s");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_gets_each_event_once_however_long_the_batch_takes() {
    let (bus, luck) = flaky(None);
    let slow = Arc::new(Slow { pause: Duration::from_secs(5), handled: Mutex::default() });
    let running = Running::start(&bus, slow.clone(), options());
    let sent: Vec<_> = (1..=50).map(|key| message(key, 1)).collect();
    bus.publish(&sent).await.unwrap();
    running.until(|status| status.handled() == 50).await;
    assert_eq!(*slow.handled.lock(), (1..=50).map(|key| format!("{key}-1 1")).collect::<Vec<_>>());
    assert_eq!((running.status.received(), running.status.deduplicated()), (50, 0));
    // The ack-wait is 30 s: in 250 s it would have ended many times.
    assert!((15..=50).contains(&luck.extended.load(SeqCst)), "{luck:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_event_in_flight_finish_and_leaves_the_rest_to_the_next_run() {
    let bus = memory();
    let slow = Arc::new(Slow { pause: Duration::from_secs(5), handled: Mutex::default() });
    let running = Running::start(&bus, slow.clone(), options());
    bus.publish(&[message(1, 1), message(1, 2), message(2, 1)]).await.unwrap();
    running.until(|status| status.received() == 3).await;
    running.stop().await;
    assert_eq!(*slow.handled.lock(), ["1-1 1"]);
    let again = Running::start(&bus, slow.clone(), options());
    again.until(|status| status.handled() == 2).await;
    assert_eq!(*slow.handled.lock(), ["1-1 1", "1-2 2", "2-1 2"]);
    again.stop().await;
}
