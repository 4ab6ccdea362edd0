//! Routes every command and query to its handler, through the pipeline.

use std::{future::Future, sync::Arc};

use super::{
    AppError,
    command_handler::CommandHandler,
    ids::IdHandler,
    pipeline::{Operation, Pipeline},
    queries::QueryHandler,
};

/// Something that can be asked of the service. Which handler answers is known at compile time: a dispatch costs a call.
pub trait Request: Send {
    /// What comes back.
    type Reply: Send;

    /// What it is counted as.
    fn operation(&self) -> Operation;

    /// Lets its handler answer.
    fn handle(self, handlers: &Handlers) -> impl Future<Output = Result<Self::Reply, AppError>> + Send;
}

/// Those who answer.
#[derive(Debug)]
pub struct Handlers {
    /// Commands.
    pub commands: CommandHandler,
    /// Queries.
    pub queries: QueryHandler,
    /// Ids.
    pub ids: IdHandler,
}

/// The way into the application: every door holds one and calls [`Mediator::send`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mediator {
    handlers: Arc<Handlers>,
    pipeline: Arc<Pipeline>,
}

impl Mediator {
    /// Routes to `handlers` through `pipeline`.
    #[must_use]
    pub fn new(handlers: Handlers, pipeline: Pipeline) -> Self {
        Self { handlers: Arc::new(handlers), pipeline: Arc::new(pipeline) }
    }

    /// Answers `request`.
    ///
    /// # Errors
    /// [`AppError`], from the pipeline or from the handler.
    pub fn send<R: Request>(&self, request: R) -> impl Future<Output = Result<R::Reply, AppError>> + Send {
        self.pipeline.run(request.operation(), request.handle(&self.handlers))
    }

    /// Requests that are not answered yet: worked on, or waiting.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.pipeline.unanswered()
    }

    /// Brings the gauges up to date that are read now and then rather than counted each time.
    pub fn publish_gauges(&self) {
        self.pipeline.publish_gauges();
        self.handlers.queries.publish_gauges();
    }
}
