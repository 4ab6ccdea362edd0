//! A batch in progress.

use std::time::Duration;

use tokio::time::Instant;

use crate::ports::message_bus::{BusError, Consumer, Delivery, Receipt};

/// The deliveries of one batch in progress.
pub(super) struct InFlightBatch<'a> {
    pub(super) consumer: &'a dyn Consumer,
    pub(super) batch: &'a [Delivery],
    /// Processed, but not acknowledged yet.
    pub(super) done: Vec<Receipt>,
    /// The orders with a requeued event; all later events were requeued with it.
    requeued: Vec<u64>,
    /// When the wait for the rest of the batch began.
    since: Instant,
}

impl<'a> InFlightBatch<'a> {
    pub(super) fn new(consumer: &'a dyn Consumer, batch: &'a [Delivery]) -> Self {
        let done = Vec::with_capacity(batch.len());
        Self { consumer, batch, done, requeued: Vec::new(), since: Instant::now() }
    }

    pub(super) fn is_requeued(&self, delivery: &Delivery) -> bool {
        self.requeued.contains(&delivery.message.key)
    }

    /// With a slow handler, extends the batch from `index` on before its ack-wait ends, and acknowledges the processed deliveries.
    pub(super) async fn extend(&mut self, index: usize) -> Result<(), BusError> {
        if self.since.elapsed() < self.consumer.ack_wait() / 4 {
            return Ok(());
        }
        self.ack_done().await?;
        self.since = Instant::now();
        let rest: Vec<_> = self.batch[index..].iter().map(|delivery| delivery.receipt).collect();
        self.consumer.extend(&rest).await
    }

    pub(super) async fn ack_done(&mut self) -> Result<(), BusError> {
        if !self.done.is_empty() {
            self.consumer.ack(&self.done).await?;
            self.done.clear();
        }
        Ok(())
    }

    pub(super) async fn retry(&mut self, delivery: &Delivery, after: Duration) -> Result<(), BusError> {
        self.requeued.push(delivery.message.key);
        self.consumer.retry(delivery.receipt, after).await
    }
}
