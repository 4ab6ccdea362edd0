//! One node handles at a time.

use super::*;

fn leases() -> (Arc<MemoryLeaseStore>, Arc<dyn LeaseStore>) {
    let leases = Arc::new(MemoryLeaseStore::new());
    (leases.clone(), leases)
}

#[tokio::test(start_paused = true)]
async fn one_node_handles_and_the_others_stand_by_until_it_stops() {
    let (bus, (_, leases)) = (memory(), leases());
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let first = Running::start_as("node-1", &bus, &leases, handler.clone(), options());
    first.until(|status| status.state() == SubscriptionState::Active).await;
    let second = Running::start_as("node-2", &bus, &leases, handler.clone(), options());
    second.until(|status| status.state() == SubscriptionState::StandingBy(Some("node-1".to_owned()))).await;
    for sequence in 1..=100 {
        bus.publish(&[message(1, sequence)]).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((first.status.handled(), second.status.received()), (100, 0));
    assert_eq!(second.status.state(), SubscriptionState::StandingBy(Some("node-1".to_owned())));
    assert!(first.status.last_error().is_none() && second.status.last_error().is_none());
    let stopped = Instant::now();
    first.stop().await;
    second.until(|status| status.state() == SubscriptionState::Active).await;
    assert!(stopped.elapsed() <= STANDBY_POLL_INTERVAL + Duration::from_millis(100), "{:?}", stopped.elapsed());
    bus.publish(&[message(1, 101)]).await.unwrap();
    second.until(|status| status.handled() == 1).await;
    second.stop().await;
    assert_eq!(leases.holder(&lease_name("scripted")).await, Ok(None), "the lease is released");
}

#[tokio::test(start_paused = true)]
async fn when_the_active_node_dies_another_takes_over_within_seconds() {
    let (bus, (_, leases)) = (memory(), leases());
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let first = Running::start_as("node-1", &bus, &leases, handler.clone(), options());
    first.until(|status| status.state() == SubscriptionState::Active).await;
    let second = Running::start_as("node-2", &bus, &leases, handler.clone(), options());
    second.until(|status| matches!(status.state(), SubscriptionState::StandingBy(_))).await;
    // Aborted without a chance to release anything, as by kill -9.
    first.task.abort();
    let died = Instant::now();
    bus.publish(&[message(1, 1)]).await.unwrap();
    second.until(|status| status.handled() == 1).await;
    assert!(died.elapsed() <= WORK_TTL + STANDBY_POLL_INTERVAL + Duration::from_millis(100), "{:?}", died.elapsed());
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_lease_was_taken_under_its_own_name_reports_it_and_recovers() {
    let (bus, (store, leases)) = (memory(), leases());
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let first = Running::start_as("node-1", &bus, &leases, handler.clone(), options());
    first.until(|status| status.state() == SubscriptionState::Active).await;
    let stolen = store.acquire(&lease_name("scripted"), "node-1", WORK_TTL).await.unwrap().unwrap();
    first
        .until(|status| matches!(status.state(), SubscriptionState::Failing(reason) if reason.contains("same name")))
        .await;
    store.release(&stolen).await.unwrap();
    first.until(|status| status.state() == SubscriptionState::Active).await;
    first.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_the_lease_handles_nothing_until_it_has_reacquired_it() {
    let (bus, (store, leases)) = (memory(), leases());
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let first = Running::start_as("node-1", &bus, &leases, handler.clone(), options());
    first.until(|status| status.state() == SubscriptionState::Active).await;
    // Its lease ends before it knows, and another node has it.
    let stolen = store.acquire(&lease_name("scripted"), "node-1", WORK_TTL).await.unwrap().unwrap();
    store.release(&stolen).await.unwrap();
    let held_for = Duration::from_secs(3_600);
    let other = store.acquire(&lease_name("scripted"), "node-2", held_for).await.unwrap().unwrap();
    first.until(|status| status.state() == SubscriptionState::StandingBy(Some("node-2".to_owned()))).await;
    bus.publish(&[message(1, 1), message(2, 1)]).await.unwrap();
    sleep(held_for / 2).await;
    assert_eq!((first.status.received(), handler.seen_ids()), (0, Vec::new()), "handled without the lease");
    store.release(&other).await.unwrap();
    first.until(|status| status.handled() == 2).await;
    assert_eq!(
        (first.status.state(), handler.seen_ids()),
        (SubscriptionState::Active, vec!["1-1".to_owned(), "2-1".to_owned()])
    );
    first.stop().await;
}

/// A lease store that tests can make unreachable.
#[derive(Debug)]
struct Outage {
    inner: MemoryLeaseStore,
    is_out: AtomicBool,
}

impl Outage {
    fn pass(&self) -> Result<(), LeaseError> {
        if self.is_out.load(SeqCst) { Err(LeaseError::Unavailable("out".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl LeaseStore for Outage {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, LeaseError> {
        self.pass()?;
        self.inner.acquire(name, holder, ttl).await
    }
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        self.pass()?;
        self.inner.renew(lease, ttl).await
    }
    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.pass()?;
        self.inner.release(lease).await
    }
    async fn holder(&self, name: &str) -> Result<Option<LeaseOwner>, LeaseError> {
        self.pass()?;
        self.inner.holder(name).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_lease_store_is_waited_out_however_long_it_lasts() {
    let bus = memory();
    let outage = Arc::new(Outage { inner: MemoryLeaseStore::new(), is_out: AtomicBool::new(true) });
    let leases: Arc<dyn LeaseStore> = outage.clone();
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let running = Running::start_as("node-1", &bus, &leases, handler, options());
    sleep(Duration::from_secs(3_600)).await;
    assert!(matches!(running.status.state(), SubscriptionState::Failing(reason) if reason.contains("out")));
    outage.is_out.store(false, SeqCst);
    sleep(MAX_RECONNECT_PAUSE).await;
    running.until(|status| status.state() == SubscriptionState::Active).await;
    // A short outage does not even interrupt the work.
    outage.is_out.store(true, SeqCst);
    sleep(Duration::from_secs(3)).await;
    outage.is_out.store(false, SeqCst);
    sleep(WORK_TTL).await;
    assert_eq!(running.status.state(), SubscriptionState::Active);
    assert!(running.status.last_error().is_some_and(|error| error.reason.contains("out")));
    // A longer one does.
    outage.is_out.store(true, SeqCst);
    sleep(WORK_TTL * 2).await;
    assert!(matches!(running.status.state(), SubscriptionState::Failing(_)));
    running.stop().await;
}
