//! One request to the store as a proof for all waiters.
//!
//! A replaced server may still respond without knowing that it was replaced. A read is proven only by a request that is sent after it, to servers
//! that know, and acknowledged. The backend defines the request: a publish that a quorum accepts, or a query for the primary.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// The acknowledged requests, and the one in flight. `T` is the content of a reply.
#[derive(Debug)]
pub struct Confirmations<T, E> {
    /// Counts waiters and requests as they begin.
    clock: AtomicU64,
    /// The latest acknowledged request: when it began, and the reply.
    proof: Mutex<Option<(u64, T)>>,
    /// Serialises requests.
    asking: tokio::sync::Mutex<Asked<E>>,
    /// The minimum interval between requests.
    pace: Duration,
}

/// The last request of this node.
#[derive(Debug)]
struct Asked<E> {
    at: Option<Instant>,
    /// When it began, and why it failed, if it did: the result for all earlier waiters.
    failed: Option<(u64, E)>,
}

impl<T: Copy, E: Clone> Confirmations<T, E> {
    /// No request yet.
    #[must_use]
    pub fn new(pace: Duration) -> Self {
        let asking = tokio::sync::Mutex::new(Asked { at: None, failed: None });
        Self { clock: AtomicU64::new(0), proof: Mutex::new(None), asking, pace }
    }

    /// Call this before sending an operation whose reply may prove as much as a request's.
    pub fn begin(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Records the reply to the operation that began at `begun`.
    pub fn acknowledged(&self, begun: u64, answer: T) {
        let mut proof = self.proof.lock();
        if proof.as_ref().is_none_or(|(before, _)| begun > *before) {
            *proof = Some((begun, answer));
        }
    }

    /// The reply to an operation that began after `waiter`.
    fn since(&self, waiter: u64) -> Option<T> {
        let proof = self.proof.lock();
        proof.as_ref().filter(|(begun, _)| *begun > waiter).map(|(_, answer)| *answer)
    }

    /// The reply to a request sent after this call; `ask` sends one, unless another waiter does.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn confirm<F: Future<Output = Result<T, E>>>(&self, ask: impl FnOnce() -> F) -> Result<T, E> {
        let waiter = self.begin();
        let mut asked = self.asking.lock().await;
        match &asked.failed {
            Some((begun, why)) if *begun > waiter => return Err(why.clone()),
            _ => {}
        }
        if let (None, Some(before)) = (self.since(waiter), asked.at) {
            sleep_until(before + self.pace).await;
        }
        if let Some(answer) = self.since(waiter) {
            return Ok(answer);
        }
        let begun = self.begin();
        asked.at = Some(Instant::now());
        asked.failed = None;
        match ask().await {
            Ok(answer) => {
                self.acknowledged(begun, answer);
                Ok(answer)
            }
            Err(why) => {
                asked.failed = Some((begun, why.clone()));
                Err(why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        sync::{Arc, atomic::AtomicU64},
    };

    use tokio::time::sleep;

    use super::*;

    const PACE: Duration = Duration::from_millis(5);

    #[tokio::test(start_paused = true)]
    async fn one_request_serves_all_waiters_and_the_next_keeps_the_interval() {
        let confirmations = Arc::new(Confirmations::<u64, String>::new(PACE));
        let sent = Arc::new(AtomicU64::new(0));
        let ask = |confirmations: Arc<Confirmations<u64, String>>, sent: Arc<AtomicU64>| async move {
            let publish = || async {
                sleep(Duration::from_millis(20)).await;
                Ok(sent.fetch_add(1, Ordering::SeqCst) + 1)
            };
            confirmations.confirm(publish).await
        };
        let asked: Vec<_> = (0..50).map(|_| tokio::spawn(ask(Arc::clone(&confirmations), Arc::clone(&sent)))).collect();
        for asked in asked {
            asked.await.unwrap().unwrap();
        }
        // The first waiter's request may have begun before the others called.
        assert!(sent.load(Ordering::SeqCst) <= 2);
        let begun = Instant::now();
        for _ in 0..3 {
            let publish = || ready(Ok(sent.fetch_add(1, Ordering::SeqCst) + 1));
            confirmations.confirm(publish).await.unwrap();
        }
        assert!(begun.elapsed() >= PACE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_proves_nothing_to_callers_that_came_after_its_request() {
        let confirmations = Confirmations::<u64, String>::new(PACE);
        let begun = confirmations.begin();
        let waiter = confirmations.begin();
        confirmations.acknowledged(begun, 7);
        assert_eq!(confirmations.since(waiter), None);
        let begun = confirmations.begin();
        confirmations.acknowledged(begun, 9);
        assert_eq!(confirmations.since(waiter), Some(9));
        // A commit sent while a request waits for its turn serves as its proof.
        let held = confirmations.asking.lock().await;
        let publish = || async { panic!("no request is needed") };
        let mut waiting = Box::pin(confirmations.confirm(publish));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let begun = confirmations.begin();
        confirmations.acknowledged(begun, 11);
        drop(held);
        assert_eq!(waiting.await, Ok(11));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_request_fails_for_all_waiters_but_not_for_later_callers() {
        let confirmations = Confirmations::<u64, String>::new(PACE);
        let lost = || async {
            sleep(Duration::from_secs(2)).await;
            Err::<u64, _>("no answer".to_owned())
        };
        let begun = Instant::now();
        let (first, second, third) =
            tokio::join!(confirmations.confirm(lost), confirmations.confirm(lost), confirmations.confirm(lost));
        assert!([first, second, third].iter().all(Result::is_err));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(confirmations.confirm(|| ready(Ok(3))).await, Ok(3));
    }
}
