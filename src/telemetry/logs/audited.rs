//! A filter of the log that keeps the audit.

use tracing::{
    Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{EnvFilter, Layer, layer::Context};

use super::directives::AUDIT;

/// A filter, which the lines of the audit pass in any case if `keeps_audit`: an operator who changes the filter cannot act
/// unseen.
#[derive(Debug)]
pub(super) struct Audited {
    pub filter: EnvFilter,
    pub keeps_audit: bool,
}

impl Audited {
    fn keeps(&self, metadata: &Metadata<'_>) -> bool {
        self.keeps_audit && metadata.target() == AUDIT && *metadata.level() <= Level::INFO
    }
}

impl<S: Subscriber> Layer<S> for Audited {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = Layer::<S>::register_callsite(&self.filter, metadata);
        if self.keeps(metadata) { Interest::always() } else { interest }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.keeps(metadata) || Layer::<S>::enabled(&self.filter, metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let hint = Layer::<S>::max_level_hint(&self.filter);
        if self.keeps_audit { hint.map(|hint| hint.max(LevelFilter::INFO)) } else { hint }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Layer::<S>::on_new_span(&self.filter, attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Layer::<S>::on_record(&self.filter, id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Layer::<S>::on_enter(&self.filter, id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Layer::<S>::on_exit(&self.filter, id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        Layer::<S>::on_close(&self.filter, id, context);
    }
}
