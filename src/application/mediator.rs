//! The entry to the application: one method for each command and query. Each runs its handler through the pipeline.

use std::{future::Future, sync::Arc};

use super::{
    AppError, VersionedOrder,
    command_handler::{CommandHandler, CommandReply},
    ids::IdHandler,
    pipeline::{Operation, Pipeline, QueryKind},
    queries::{BatchGetOrders, GetOrder, GetOrderStats, ListOrders, Projected, QueryHandler},
    requests::{OrderRequest, Target},
};
use crate::{
    ports::read_model::{Page, Totals},
    telemetry::call::LoggedOrder,
};

/// Runs commands and queries for both APIs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mediator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: CommandHandler,
    queries: QueryHandler,
    ids: IdHandler,
    pipeline: Pipeline,
}

impl Mediator {
    /// Calls these handlers, through `pipeline`.
    #[must_use]
    pub fn new(commands: CommandHandler, queries: QueryHandler, ids: IdHandler, pipeline: Pipeline) -> Self {
        Self { shared: Arc::new(Shared { commands, queries, ids, pipeline }) }
    }

    /// Executes `command` on one order.
    ///
    /// # Errors
    /// [`AppError`], from the pipeline or from the handler. This applies to every method here.
    pub fn execute(&self, command: OrderRequest) -> impl Future<Output = Result<CommandReply, AppError>> + Send {
        let order = match command.target {
            Target::Existing(id) => LoggedOrder::of(id.get()),
            // The id of a new order is known only once it is chosen.
            Target::New => LoggedOrder::NONE,
        };
        self.run_about(order, Operation::Command(command.kind()), self.shared.commands.execute(command))
    }

    /// One order, now or at an earlier moment.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn get_order(&self, query: GetOrder) -> impl Future<Output = Result<Arc<VersionedOrder>, AppError>> + Send {
        let order = LoggedOrder::of(query.order_id.get());
        self.run_about(order, Operation::Query(QueryKind::GetOrder), self.shared.queries.get_order(query))
    }

    /// Several orders in their current state; `None` for each that does not exist.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn batch_get_orders(
        &self,
        query: BatchGetOrders,
    ) -> impl Future<Output = Result<Vec<Option<Arc<VersionedOrder>>>, AppError>> + Send {
        self.run(Operation::Query(QueryKind::BatchGetOrders), self.shared.queries.batch_get_orders(query))
    }

    /// A page of the list of orders.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn list_orders(&self, query: ListOrders) -> impl Future<Output = Result<Projected<Page>, AppError>> + Send {
        self.run(Operation::Query(QueryKind::ListOrders), self.shared.queries.list_orders(query))
    }

    /// Counts and revenue.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn get_order_stats(
        &self,
        query: GetOrderStats,
    ) -> impl Future<Output = Result<Projected<Vec<Totals>>, AppError>> + Send {
        self.run(Operation::Query(QueryKind::GetOrderStats), self.shared.queries.get_order_stats(query))
    }

    /// `count` new ids.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn generate_ids(&self, count: usize) -> impl Future<Output = Result<Vec<i64>, AppError>> + Send {
        let kind = if count == 1 { QueryKind::GenerateId } else { QueryKind::GenerateIds };
        self.run(Operation::Query(kind), self.shared.ids.generate(count))
    }

    /// Like `run_about`, for work that is not about one order. These methods return futures and are not `async`: an `async fn` would hold its future
    /// twice.
    fn run<T: Send>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, AppError>> + Send,
    ) -> impl Future<Output = Result<T, AppError>> + Send {
        self.run_about(LoggedOrder::NONE, operation, work)
    }

    fn run_about<T: Send>(
        &self,
        order: LoggedOrder,
        operation: Operation,
        work: impl Future<Output = Result<T, AppError>> + Send,
    ) -> impl Future<Output = Result<T, AppError>> + Send {
        self.shared.pipeline.run_about(order, operation, work)
    }

    /// The number of unfinished requests: in progress, or waiting.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.shared.pipeline.unanswered()
    }

    /// Publishes gauges that are cheaper to sample than to update on each call.
    pub fn publish_gauges(&self) {
        self.shared.pipeline.publish_gauges();
        self.shared.queries.publish_gauges();
    }
}
