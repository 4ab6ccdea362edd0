//! The builder for programs that embed a node.

use std::sync::Arc;

use super::{Backends, StartError};
use crate::{
    ports::clock::{Clock, SystemClock},
    processors::handlers::{EventHandler, OrderEventLogger, is_valid_handler_name},
    server::paced::Pace,
    telemetry::logs::LogLevels,
};

/// The parts of a node besides its configuration. The program itself uses [`NodeBuilder::new`]; a program that embeds the node adds its own handlers.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use ordersystem::{config::Config, node::{App, Backends, NodeBuilder, StartError}, processors::handlers::EventHandler};
/// # async fn start(config: &Config, my_handler: Arc<dyn EventHandler>) -> Result<App, StartError> {
/// let builder = NodeBuilder::new(Backends::of(config).await?).with_handler(my_handler);
/// App::start_from(config, builder).await
/// # }
/// ```
pub struct NodeBuilder {
    /// The storage and messaging backends.
    pub backends: Backends,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The event handlers, each with its own subscription, dead letters and name.
    pub handlers: Vec<Arc<dyn EventHandler>>,
    /// The time limits for clients to read replies.
    pub pace: Pace,
    /// The result of [`crate::telemetry::start_logging`], by which operators change the filter of the log; `None`: they cannot.
    pub logs: Option<LogLevels>,
}

impl NodeBuilder {
    /// A builder with the system clock and the [`OrderEventLogger`].
    #[must_use]
    pub fn new(backends: Backends) -> Self {
        let handlers: Vec<Arc<dyn EventHandler>> = vec![Arc::new(OrderEventLogger::new())];
        Self { backends, clock: Arc::new(SystemClock), handlers, pace: Pace::DEFAULT, logs: None }
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Replaces the time limits for clients.
    #[must_use]
    pub fn with_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Lets operators change the filter of the log.
    #[must_use]
    pub fn with_logs(self, logs: LogLevels) -> Self {
        Self { logs: Some(logs), ..self }
    }

    /// Adds a handler.
    #[must_use]
    pub fn with_handler(mut self, handler: Arc<dyn EventHandler>) -> Self {
        self.handlers.push(handler);
        self
    }

    /// The names of the handlers.
    ///
    /// # Errors
    /// If a name is invalid or duplicated: the second handler would take the events of the first.
    pub(super) fn handler_names(&self) -> Result<Vec<String>, StartError> {
        let names: Vec<_> = self.handlers.iter().map(|handler| handler.name().to_owned()).collect();
        for (index, name) in names.iter().enumerate() {
            if !is_valid_handler_name(name) {
                return Err(format!("invalid handler name {name:?}: it must be 1 to 115 of A-Z a-z 0-9 - _").into());
            }
            if names[..index].contains(name) {
                return Err(format!("two handlers are named {name}").into());
            }
        }
        Ok(names)
    }
}
