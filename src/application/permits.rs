//! Bounds concurrent work: requests in flight and, separately, reads that wait until the node has caught up.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::AppError;

/// The maximum number of reads that wait for the read model, or for the log as this node reads it; further ones are refused at once.
pub const MAX_WAITING_READS: usize = 256;

/// The permits of a node.
#[derive(Debug)]
pub struct Permits {
    max_in_flight: usize,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    draining: CancellationToken,
}

/// A permit for a request in flight; released when dropped, however the request ends.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Permits);

/// A permit for a waiting read, held instead of one in flight.
#[derive(Debug)]
struct Waiting<'a>(&'a Permits);

impl Permits {
    /// Permits for `max_in_flight` concurrent requests; none once `draining` is cancelled.
    #[must_use]
    pub const fn new(max_in_flight: usize, draining: CancellationToken) -> Self {
        Self { max_in_flight, in_flight: AtomicUsize::new(0), waiting: AtomicUsize::new(0), draining }
    }

    /// The number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The number of waiting reads.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The maximum number of requests in flight.
    #[must_use]
    pub const fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    /// Whether the node drains: no long work may begin.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Acquires a permit in flight.
    ///
    /// # Errors
    /// [`AppError::ShuttingDown`] or [`AppError::Overloaded`].
    pub fn acquire(&self) -> Result<InFlight<'_>, AppError> {
        if self.draining.is_cancelled() {
            return Err(AppError::ShuttingDown);
        }
        let permit = InFlight(self);
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if before >= self.max_in_flight {
            return Err(AppError::Overloaded);
        }
        Ok(permit)
    }

    /// Awaits `until` for a request that holds a permit in flight. If that is not ready at once, the request swaps its permit for one of
    /// [`MAX_WAITING_READS`], and other requests may use it. Afterwards it takes a permit back even beyond the limit, since the request is nearly
    /// done.
    ///
    /// # Errors
    /// [`AppError::Overloaded`] if too many wait; [`AppError::ShuttingDown`] as soon as the node drains.
    pub async fn wait<T>(&self, until: impl Future<Output = T>) -> Result<T, AppError> {
        let mut until = pin!(until);
        if let Some(done) = until.as_mut().now_or_never() {
            return Ok(done);
        }
        let _permit = self.leave()?;
        tokio::select! {
            biased;
            done = until => Ok(done),
            () = self.draining.cancelled() => Err(AppError::ShuttingDown),
        }
    }

    fn leave(&self) -> Result<Waiting<'_>, AppError> {
        let fits = |waiting| (waiting < MAX_WAITING_READS).then_some(waiting + 1);
        match self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                Ok(Waiting(self))
            }
            Err(_) => Err(AppError::Overloaded),
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // First, so that the sum of both counters is never less than the number of unfinished requests.
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiting_read_frees_its_permit_and_waiting_reads_are_bounded() {
        let permits = Permits::new(1, CancellationToken::new());
        let own = permits.acquire().unwrap();
        assert_eq!(permits.acquire().unwrap_err(), AppError::Overloaded);
        assert_eq!(permits.wait(std::future::ready(7)).await, Ok(7));
        let mut waits = Box::pin(permits.wait(std::future::pending::<()>()));
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!((permits.in_flight(), permits.waiting()), (0, 1));
        drop(permits.acquire().unwrap());
        drop(waits);
        assert_eq!((permits.in_flight(), permits.waiting()), (1, 0));
        drop(own);
        let permits = Permits::new(1_000, CancellationToken::new());
        let mut all = Vec::new();
        for _ in 0..MAX_WAITING_READS {
            let mut waits = Box::pin(async {
                let _own = permits.acquire().unwrap();
                permits.wait(std::future::pending::<()>()).await
            });
            assert!(waits.as_mut().now_or_never().is_none());
            all.push(waits);
        }
        let _own = permits.acquire().unwrap();
        assert_eq!(permits.wait(std::future::pending::<()>()).await, Err(AppError::Overloaded));
        permits.draining.cancel();
        for waits in all {
            assert_eq!(waits.await, Err(AppError::ShuttingDown));
        }
        assert_eq!((permits.in_flight(), permits.waiting()), (1, 0));
    }
}
