//! What every command and query passes: drain gate, load shedding, time limit, metrics, and the log: a line at DEBUG, and at WARN
//! when the service is at fault, for each cause at most one in half a minute.
//!
//! Idempotency and the retry on conflict belong to the command handler, since the append itself decides both.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::AppError;
use crate::outage::{Away, Outage};

/// What requests are counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the calls of the API are")]
pub enum Operation {
    CreateOrder,
    PayOrder,
    ShipOrder,
    DeliverOrder,
    CancelOrder,
    GetOrder,
    BatchGetOrders,
    ListOrders,
    GetOrderStats,
}

impl Operation {
    const ALL: [Self; 9] = [
        Self::CreateOrder,
        Self::PayOrder,
        Self::ShipOrder,
        Self::DeliverOrder,
        Self::CancelOrder,
        Self::GetOrder,
        Self::BatchGetOrders,
        Self::ListOrders,
        Self::GetOrderStats,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::CreateOrder => "CreateOrder",
            Self::PayOrder => "PayOrder",
            Self::ShipOrder => "ShipOrder",
            Self::DeliverOrder => "DeliverOrder",
            Self::CancelOrder => "CancelOrder",
            Self::GetOrder => "GetOrder",
            Self::BatchGetOrders => "BatchGetOrders",
            Self::ListOrders => "ListOrders",
            Self::GetOrderStats => "GetOrderStats",
        }
    }
}

/// The bounds of the pipeline.
#[derive(Clone, Copy, Debug)]
pub struct PipelineOptions {
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How many requests may be worked on at a time; one more is refused at once.
    pub max_in_flight: usize,
}

/// What every command and query passes.
#[derive(Debug)]
pub struct Pipeline {
    options: PipelineOptions,
    draining: CancellationToken,
    in_flight: AtomicUsize,
    in_flight_gauge: Gauge,
    meters: Vec<Meter>,
    outage: Outage,
}

/// Ready-made handles, so that counting a request is a few atomic additions.
#[derive(Debug)]
struct Meter {
    succeeded: Counter,
    refused: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Pipeline {
    /// Refuses new work once `draining` is cancelled.
    #[must_use]
    pub fn new(options: PipelineOptions, draining: CancellationToken) -> Self {
        let meters = Operation::ALL.iter().map(|operation| Meter::new(operation.name())).collect();
        let in_flight_gauge = metrics::gauge!("ordersystem_requests_in_flight");
        Self { options, draining, in_flight: AtomicUsize::new(0), in_flight_gauge, meters, outage: Outage::default() }
    }

    /// Requests that fail while a broker is `away` are no news.
    #[must_use]
    pub fn quiet_while(self, away: Away) -> Self {
        Self { outage: Outage::while_not(away), ..self }
    }

    /// Requests being worked on now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Lets `work` run under the bounds of the pipeline.
    ///
    /// # Errors
    /// [`AppError::ShuttingDown`], [`AppError::Overloaded`] or [`AppError::DeadlineExceeded`]; otherwise those of `work`.
    pub const fn run<T, F: Future<Output = Result<T, AppError>>>(&self, operation: Operation, work: F) -> Run<'_, F> {
        Run { pipeline: self, operation, work, entered: None, time_limit: None }
    }

    fn finish<T>(&self, operation: Operation, started: Instant, outcome: &Result<T, AppError>) {
        let took = started.elapsed();
        self.meters[operation as usize].count(took, outcome.as_ref().err());
        match outcome {
            Ok(_) => tracing::debug!(operation = operation.name(), ?took, "answered"),
            // Damage is said each time. The rest comes in thousands while a backend is away.
            Err(error @ AppError::Corrupt(_)) => {
                tracing::warn!(operation = operation.name(), ?took, %error, "request failed");
            }
            Err(error) if error.is_internal() => {
                if let Some(unsaid) = self.outage.failed(&error.to_string()) {
                    tracing::warn!(operation = operation.name(), ?took, %error, unsaid, "requests fail");
                }
            }
            Err(error) => tracing::debug!(operation = operation.name(), ?took, %error, "refused"),
        }
    }

    fn enter(&self) -> Result<Place<'_>, AppError> {
        if self.draining.is_cancelled() {
            return Err(AppError::ShuttingDown);
        }
        let place = Place(self);
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if before >= self.options.max_in_flight {
            return Err(AppError::Overloaded);
        }
        Ok(place)
    }

    /// Publishes what is cheaper to read now and then than to count each time.
    pub fn publish_gauges(&self) {
        #[allow(clippy::cast_precision_loss, reason = "a gauge; far below 2^52")]
        self.in_flight_gauge.set(self.in_flight() as f64);
    }
}

pin_project! {
    /// Work under the bounds of the pipeline. A future of its own, since an `async fn` would hold the work twice: once as its
    /// argument and once as what it awaits.
    #[must_use = "futures do nothing unless polled"]
    pub struct Run<'a, F> {
        pipeline: &'a Pipeline,
        operation: Operation,
        #[pin]
        work: F,
        // When the work was let in, and its place; `None` before the first poll.
        entered: Option<(Instant, Place<'a>)>,
        // Made only for work that is not done at once: most is.
        time_limit: Option<Pin<Box<Sleep>>>,
    }
}

impl<T, F: Future<Output = Result<T, AppError>>> Future for Run<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let started = match this.entered {
            Some((started, _)) => *started,
            None => {
                let started = Instant::now();
                match this.pipeline.enter() {
                    Ok(place) => *this.entered = Some((started, place)),
                    Err(refusal) => {
                        let outcome = Err(refusal);
                        this.pipeline.finish(*this.operation, started, &outcome);
                        return Poll::Ready(outcome);
                    }
                }
                started
            }
        };
        let outcome = match this.work.poll(task) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                let limit = this.pipeline.options.request_timeout;
                let time_limit = this.time_limit.get_or_insert_with(|| Box::pin(sleep_until((started + limit).into())));
                ready!(time_limit.as_mut().poll(task));
                Err(AppError::DeadlineExceeded)
            }
        };
        *this.entered = None;
        this.pipeline.finish(*this.operation, started, &outcome);
        Poll::Ready(outcome)
    }
}

/// A place among the requests in flight; given back when dropped, however the request ends.
#[derive(Debug)]
struct Place<'a>(&'a Pipeline);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meter {
    fn new(operation: &'static str) -> Self {
        let outcome =
            |outcome| metrics::counter!("ordersystem_requests_total", "operation" => operation, "outcome" => outcome);
        Self {
            succeeded: outcome("success"),
            refused: outcome("refused"),
            failed: outcome("failure"),
            seconds: metrics::histogram!("ordersystem_request_duration_seconds", "operation" => operation),
        }
    }

    fn count(&self, took: Duration, error: Option<&AppError>) {
        self.seconds.record(took.as_secs_f64());
        match error {
            None => self.succeeded.increment(1),
            Some(error) if error.is_internal() => self.failed.increment(1),
            Some(_) => self.refused.increment(1),
        }
    }
}
