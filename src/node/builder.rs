//! What an embedding program brings along.

use std::sync::Arc;

use super::{Backends, StartError};
use crate::{
    ports::clock::{Clock, SystemClock},
    processors::handlers::{EventHandler, OrderEventLogger, is_valid_handler_name},
    server::paced::Pace,
};

/// What a node is made of besides its configuration. [`NodeBuilder::new`] is what the program itself uses; a program that embeds the node adds
/// its own handlers.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use ordersystem::{config::Config, node::{App, Backends, NodeBuilder, StartError}, processors::handlers::EventHandler};
/// # async fn start(config: &Config, my_handler: Arc<dyn EventHandler>) -> Result<App, StartError> {
/// let builder = NodeBuilder::new(Backends::of(config).await?).with_handler(my_handler);
/// App::start_as(config, builder).await
/// # }
/// ```
pub struct NodeBuilder {
    /// What the node stores in and sends over.
    pub backends: Backends,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The handlers of events, each with a subscription, dead letters and a name of its own.
    pub handlers: Vec<Arc<dyn EventHandler>>,
    /// How long clients have to take what is sent to them.
    pub pace: Pace,
}

impl NodeBuilder {
    /// With the clock of the system and the [`OrderEventLogger`].
    #[must_use]
    pub fn new(backends: Backends) -> Self {
        let handlers: Vec<Arc<dyn EventHandler>> = vec![Arc::new(OrderEventLogger::new())];
        Self { backends, clock: Arc::new(SystemClock), handlers, pace: Pace::DEFAULT }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// With clients that have as long as this.
    #[must_use]
    pub fn with_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// With one more handler.
    #[must_use]
    pub fn with_handler(mut self, handler: Arc<dyn EventHandler>) -> Self {
        self.handlers.push(handler);
        self
    }

    /// The names of the handlers.
    ///
    /// # Errors
    /// If one is no name, or there twice: the second would take the events of the first.
    pub(super) fn handler_names(&self) -> Result<Vec<String>, StartError> {
        let names: Vec<_> = self.handlers.iter().map(|handler| handler.name().to_owned()).collect();
        for (index, name) in names.iter().enumerate() {
            if !is_valid_handler_name(name) {
                return Err(format!("the name of a handler is 1 to 115 of A-Z a-z 0-9 - _, not {name:?}").into());
            }
            if names[..index].contains(name) {
                return Err(format!("two handlers have the name {name}").into());
            }
        }
        Ok(names)
    }
}
