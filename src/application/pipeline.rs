//! The pipeline around every command and query: drain gate, load shedding, time limit, metrics and logging. It logs each outcome at DEBUG or, when
//! the service is at fault, at WARN, at most once per cause in half a minute.
//!
//! Idempotency and the retry on conflict belong to the command handler, since the append decides both.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram};
use pin_project_lite::pin_project;
use strum::{IntoStaticStr, VariantArray};
use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{
    AppError,
    permits::{InFlight, Permits},
    requests::CommandKind,
};
use crate::{
    ports::deadline,
    telemetry::{
        call::LoggedOrder,
        outage::{Away, Line, Outage},
        traces::{self, KeyValue, SpanKind, SpanScope, Unfinished},
    },
};

/// The operations by which requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A command.
    Command(CommandKind),
    /// Anything else.
    Query(QueryKind),
}

/// The requests that are not commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[allow(missing_docs, reason = "named as the calls of the API are")]
pub enum QueryKind {
    GetOrder,
    BatchGetOrders,
    ListOrders,
    GetOrderStats,
    GenerateId,
    GenerateIds,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Command(kind) => kind.into(),
            Self::Query(kind) => kind.into(),
        }
    }

    /// The span of the operation, a child of the span of the call.
    fn span(self) -> Option<Unfinished> {
        let kind = match self {
            Self::Command(_) => "command",
            Self::Query(_) => "query",
        };
        let attributes = || vec![KeyValue::new("ordersystem.operation.kind", kind)];
        traces::child(SpanKind::Internal, self.name(), attributes).map(Unfinished::of)
    }
}

/// The pipeline around every command and query.
#[derive(Debug)]
pub struct Pipeline {
    request_timeout: Duration,
    permits: Arc<Permits>,
    abandoned: CancellationToken,
    in_flight_gauge: Gauge,
    waiting_gauge: Gauge,
    /// By the kind of command.
    commands: Vec<Meter>,
    /// By the kind of query.
    queries: Vec<Meter>,
    outage: Outage,
    /// Stored data that is damaged, which the outage of a broker does not explain.
    damage: Outage,
}

/// Pre-registered handles, so that counting a request costs a few atomic additions.
#[derive(Debug)]
struct Meter {
    succeeded: Counter,
    refused: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Pipeline {
    /// Gives each request `request_timeout`, and limits concurrent requests to `permits`.
    #[must_use]
    pub fn new(request_timeout: Duration, permits: Arc<Permits>) -> Self {
        let commands = CommandKind::VARIANTS.iter().map(|kind| Meter::new(kind.into())).collect();
        let queries = QueryKind::VARIANTS.iter().map(|kind| Meter::new(kind.into())).collect();
        let in_flight_gauge = metrics::gauge!("ordersystem_requests_in_flight");
        let waiting_gauge = metrics::gauge!("ordersystem_reads_waiting");
        let (outage, damage) = (Outage::new(), Outage::new().of_each_number());
        let abandoned = CancellationToken::new();
        Self { request_timeout, permits, abandoned, in_flight_gauge, waiting_gauge, commands, queries, outage, damage }
    }

    /// Ends the requests in flight with [`AppError::ShuttingDown`] once `abandoned` is cancelled.
    #[must_use]
    pub fn abandoned_by(self, abandoned: CancellationToken) -> Self {
        Self { abandoned, ..self }
    }

    /// Does not log failures of requests while a broker is `away`.
    #[must_use]
    pub fn quiet_while(self, away: Away) -> Self {
        Self { outage: Outage::while_not(away), ..self }
    }

    /// The number of unfinished requests: in progress, or waiting.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.permits.in_flight() + self.permits.waiting()
    }

    /// Runs `work` under the bounds of the pipeline. Its log lines name `order`.
    ///
    /// # Errors
    /// [`AppError::ShuttingDown`], [`AppError::Overloaded`] or [`AppError::DeadlineExceeded`]; otherwise those of `work`.
    pub const fn run_about<T, F: Future<Output = Result<T, AppError>>>(
        &self,
        order: LoggedOrder,
        operation: Operation,
        work: F,
    ) -> Run<'_, F> {
        Run { pipeline: self, order, operation, work, entered: None, span: None, bounds: None }
    }

    fn finish<T>(&self, operation: Operation, started: Instant, outcome: &Result<T, AppError>) {
        let took = started.elapsed();
        let meter = match operation {
            Operation::Command(kind) => &self.commands[kind as usize],
            Operation::Query(kind) => &self.queries[kind as usize],
        };
        meter.count(took, outcome.as_ref().err());
        let is_of_the_read_model =
            matches!(operation, Operation::Query(QueryKind::ListOrders | QueryKind::GetOrderStats));
        let operation = operation.name();
        match outcome {
            Ok(_) => tracing::debug!(operation, ?took, "answered"),
            // Where the read model is damaged, or the log that it follows, that is logged once for all queries.
            Err(error @ AppError::Corrupt(_)) if is_of_the_read_model => {
                tracing::debug!(operation, ?took, %error, "a request failed");
            }
            Err(error) if error.is_service_fault() => {
                // They occur by the thousand while a backend is unreachable, or the log is damaged.
                let outage = if matches!(error, AppError::Corrupt(_)) { &self.damage } else { &self.outage };
                if let Some(Line { unsaid }) = outage.failed(&error.to_string()) {
                    tracing::warn!(operation, ?took, %error, unsaid, "requests fail");
                }
            }
            Err(error) => tracing::debug!(operation, ?took, %error, "refused"),
        }
    }

    fn bounds(&self, started: Instant) -> Bounds<'_> {
        let time_limit = sleep_until((started + self.request_timeout).into());
        Bounds { time_limit, abandoned: self.abandoned.cancelled() }
    }

    fn enter(&self) -> Result<InFlight<'_>, AppError> {
        // Work does not begin after its deadline.
        if deadline::has_passed() { Err(AppError::DeadlineExceeded) } else { self.permits.acquire() }
    }

    /// Publishes gauges that are cheaper to sample than to update on each call.
    pub fn publish_gauges(&self) {
        #[allow(clippy::cast_precision_loss, reason = "gauges; far below 2^52")]
        {
            self.in_flight_gauge.set(self.permits.in_flight() as f64);
            self.waiting_gauge.set(self.permits.waiting() as f64);
        }
    }
}

pin_project! {
    /// Work under the bounds of the pipeline. It is a handwritten future, since an `async fn` would hold the work twice: as its argument and as the
    /// awaited future.
    #[must_use = "futures do nothing unless polled"]
    pub struct Run<'a, F> {
        pipeline: &'a Pipeline,
        order: LoggedOrder,
        operation: Operation,
        #[pin]
        work: F,
        // When the work was admitted, and its permit; `None` before the first poll.
        entered: Option<(Instant, InFlight<'a>)>,
        // `None` for a call that is not recorded. Dropped after the work, which may have spans below it.
        span: Option<Unfinished>,
        // Created only for work that is not ready at once: most is.
        bounds: Option<Pin<Box<Bounds<'a>>>>,
    }

    impl<F> PinnedDrop for Run<'_, F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(span) = this.project().span {
                span.set(OUTCOME, "abandoned");
            }
        }
    }
}

pin_project! {
    /// What ends work before it is done.
    struct Bounds<'a> {
        #[pin]
        time_limit: Sleep,
        #[pin]
        abandoned: WaitForCancellationFuture<'a>,
    }
}

impl Bounds<'_> {
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<AppError> {
        let this = self.project();
        if this.abandoned.poll(task).is_ready() {
            return Poll::Ready(AppError::ShuttingDown);
        }
        this.time_limit.poll(task).map(|()| AppError::DeadlineExceeded)
    }
}

/// The attribute of the outcome of an operation.
const OUTCOME: &str = "ordersystem.outcome";

impl<T, F: Future<Output = Result<T, AppError>>> Future for Run<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let mut order = self.order;
        let polled = order.step(|| self.as_mut().advance(task));
        *self.project().order = order;
        polled
    }
}

impl<T, F: Future<Output = Result<T, AppError>>> Run<'_, F> {
    fn advance(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let started = match this.entered {
            Some((started, _)) => *started,
            None => {
                let started = Instant::now();
                match this.pipeline.enter() {
                    Ok(permit) => {
                        *this.entered = Some((started, permit));
                        *this.span = this.operation.span();
                    }
                    Err(refusal) => {
                        let outcome = Err(refusal);
                        this.pipeline.finish(*this.operation, started, &outcome);
                        return Poll::Ready(outcome);
                    }
                }
                started
            }
        };
        let polled = match this.span {
            None => this.work.poll(task),
            Some(span) => span.poll(|| this.work.poll(task)),
        };
        let outcome = match polled {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                let pipeline = *this.pipeline;
                let bounds = this.bounds.get_or_insert_with(|| Box::pin(pipeline.bounds(started)));
                // The work is dropped, and the span of its current step with it.
                let ended = ready!(bounds.as_mut().poll(task));
                if ended == AppError::DeadlineExceeded {
                    this.span.iter().for_each(|span| span.set_late());
                }
                Err(ended)
            }
        };
        *this.entered = None;
        if let Some(span) = this.span.take() {
            describe(&span, &outcome);
            span.finish();
        }
        this.pipeline.finish(*this.operation, started, &outcome);
        Poll::Ready(outcome)
    }
}

/// Completes the span of an operation. The text of an error may name a customer, so it is not recorded.
fn describe<T>(span: &SpanScope, outcome: &Result<T, AppError>) {
    let name = match outcome {
        Ok(_) => "success",
        Err(AppError::DeadlineExceeded) => {
            span.fail("timeout");
            "failure"
        }
        Err(error) if error.is_service_fault() => {
            span.fail("failure");
            "failure"
        }
        Err(_) => "refused",
    };
    span.set(OUTCOME, name);
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
            Some(error) if error.is_service_fault() => self.failed.increment(1),
            Some(_) => self.refused.increment(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn work_past_its_deadline_is_not_started() {
        let pipeline = Pipeline::new(Duration::from_secs(60), Arc::new(Permits::new(1, CancellationToken::new())));
        let begun = std::cell::Cell::new(false);
        let work = || async {
            begun.set(true);
            Ok(())
        };
        let late = deadline::within(
            tokio::time::Instant::now(),
            pipeline.run_about(LoggedOrder::NONE, Operation::Command(CommandKind::PayOrder), work()),
        )
        .await;
        assert_eq!((late, begun.get()), (Err(AppError::DeadlineExceeded), false));
        let soon = tokio::time::Instant::now() + Duration::from_secs(60);
        assert_eq!(
            deadline::within(
                soon,
                pipeline.run_about(LoggedOrder::NONE, Operation::Command(CommandKind::PayOrder), work())
            )
            .await,
            Ok(())
        );
    }
}
