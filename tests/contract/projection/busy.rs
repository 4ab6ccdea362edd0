//! A busy log: the read model gets several batches together, unless someone waits for them.

use std::{sync::Arc, time::Duration};

use ordersystem::{
    backends::memory::read_model::MemoryReadModel,
    ports::{event_store::EventStore as _, read_model::ReadModel},
};
use tokio::{
    task::yield_now,
    time::{Instant, advance, sleep},
};

use super::{Running, WatchedLog, run};

/// Far less than events wait for others, and longer than a follower takes to notice them.
const A_WHILE: Duration = Duration::from_millis(5);
/// More than events wait for others.
const LONG: Duration = Duration::from_millis(50);

/// Lets everything run that can run now. The clock stands still.
async fn settle() {
    for _ in 0..1_000 {
        yield_now().await;
    }
}

async fn is_behind(running: &Running, log: &WatchedLog) -> bool {
    running.progress.position() < log.head().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn events_of_a_busy_log_wait_for_others_unless_a_caller_waits_for_them() {
    let log = Arc::new(WatchedLog::new(1));
    let model: Arc<dyn ReadModel> = Arc::new(MemoryReadModel::new());
    log.place_and_pay(1..=50).await;
    let running = run(&log, &model);
    running.caught_up(&log).await;

    let before = log.events_read();
    log.place_and_pay(51..=51).await;
    advance(A_WHILE).await;
    settle().await;
    assert!(log.events_read() > before, "they are read");
    assert!(is_behind(&running, &log).await, "and wait for others");

    let asked = Instant::now();
    running.caught_up(&log).await;
    assert_eq!(asked.elapsed(), Duration::ZERO, "but not while a caller waits");

    // Two events are no busy log, so the next do not wait.
    log.place_and_pay(52..=101).await;
    advance(A_WHILE).await;
    settle().await;
    assert!(!is_behind(&running, &log).await);

    log.place_and_pay(102..=102).await;
    advance(A_WHILE).await;
    settle().await;
    assert!(is_behind(&running, &log).await);
    sleep(LONG).await;
    assert!(!is_behind(&running, &log).await, "they do not wait for long");
}
