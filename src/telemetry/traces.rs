//! Traces: the spans of a call, and the W3C trace context that it carries from its caller into the log.
//!
//! The context of the call that a task serves is task-local, as its deadline is. Without an endpoint for spans and without a context from the caller
//! a call has none, and everything below costs no more than that look-up.

mod collector;
pub mod context;
mod environment;
pub mod export;

use std::{
    borrow::Cow,
    future::Future,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry::{
    Context, Value,
    trace::{Link, SpanBuilder, SpanRef, Status, TraceContextExt as _},
};
pub use opentelemetry::{
    KeyValue,
    trace::{SpanContext, SpanKind, TraceId},
};
use opentelemetry_sdk::trace::SdkTracer;

use self::context::Traceparent;

/// The maximum number of links of a span: a publish and a stream have one for each command.
const MAX_LINKS: u32 = 128;

tokio::task_local! {
    static CURRENT: SpanScope;
}

/// Makes the spans of a node. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Maker>>);

/// Makes spans, all of which are exported.
#[derive(Debug)]
struct Maker {
    tracer: SdkTracer,
    /// The share of the traces that are recorded, 0 to 1, where the caller has not decided.
    ratio: f64,
}

/// A span, or only a context that is passed on. The span ends with its last clone, unless it is ended earlier.
#[derive(Clone, Debug)]
pub struct SpanScope(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// A span, with the maker of its child spans, and whether the time of their call is over.
    Span { maker: Arc<Maker>, context: Context, is_late: Arc<AtomicBool> },
    /// The context of a call that is not recorded: it costs no allocation.
    Passed(SpanContext),
}

impl Traces {
    /// Makes no spans; the context of a caller is passed on nevertheless.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    fn on(tracer: SdkTracer, ratio: f64) -> Self {
        Self(Some(Arc::new(Maker { tracer, ratio })))
    }

    /// The scope of a call from `caller`; `None` if there is nothing to record and nothing to pass on. Its span has no name yet: see
    /// [`SpanScope::describe`]. The decision of the caller is followed; without a caller, the share decides.
    #[must_use]
    pub fn call(&self, caller: Option<SpanContext>) -> Option<SpanScope> {
        let passed = |context| Some(SpanScope(Kind::Passed(context)));
        let Some(maker) = &self.0 else { return caller.and_then(passed) };
        let parent = match caller {
            Some(caller) if !caller.is_sampled() => return passed(caller),
            Some(caller) => Context::new().with_remote_span_context(caller),
            None if fastrand::f64() >= maker.ratio => return passed(context::unrecorded()),
            None => Context::new(),
        };
        let span = SpanBuilder::from_name("call").with_kind(SpanKind::Server);
        Some(SpanScope(Kind::span(maker, span, &parent, Arc::default())))
    }

    /// Begins a span of its own trace that links to each sampled one of `causes`; `None` if there is no such cause.
    pub fn linked(
        &self,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        causes: impl Iterator<Item = SpanContext>,
    ) -> Option<SpanScope> {
        let maker = self.0.as_ref()?;
        let mut links: Vec<Link> = Vec::new();
        for cause in causes.filter(SpanContext::is_sampled) {
            // The events of one command have one cause.
            if links.last().is_none_or(|last| last.span_context != cause) {
                links.push(Link::with_context(cause));
            }
        }
        if links.is_empty() {
            return None;
        }
        let span = SpanBuilder::from_name(name).with_kind(kind).with_links(links);
        Some(SpanScope(Kind::span(maker, span, &Context::new(), Arc::default())))
    }

    /// Whether spans are made.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

impl Kind {
    /// Starts a span below `parent`.
    fn span(maker: &Arc<Maker>, span: SpanBuilder, parent: &Context, is_late: Arc<AtomicBool>) -> Self {
        let span = span.start_with_context(&maker.tracer, parent);
        Self::Span { maker: Arc::clone(maker), context: parent.with_span(span), is_late }
    }
}

impl SpanScope {
    /// Whether it has a span that will be exported.
    #[must_use]
    pub const fn is_recording(&self) -> bool {
        matches!(self.0, Kind::Span { .. })
    }

    fn with_span(&self, work: impl FnOnce(SpanRef<'_>)) {
        if let Kind::Span { context, .. } = &self.0 {
            work(context.span());
        }
    }

    /// Reads the context that is passed on.
    fn with_context<T>(&self, read: impl FnOnce(&SpanContext) -> T) -> T {
        match &self.0 {
            Kind::Span { context, .. } => read(context.span().span_context()),
            Kind::Passed(context) => read(context),
        }
    }

    /// The id of its trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.with_context(SpanContext::trace_id)
    }

    /// Names the span, and adds attributes.
    pub fn describe(&self, name: impl Into<Cow<'static, str>>, attributes: impl IntoIterator<Item = KeyValue>) {
        self.with_span(|span| {
            span.update_name(name);
            span.set_attributes(attributes);
        });
    }

    /// Adds an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.with_span(|span| span.set_attribute(KeyValue::new(key, value)));
    }

    /// Marks the span as failed, with an error type, of which there must be few.
    pub fn fail(&self, error_type: impl Into<Cow<'static, str>>) {
        self.set("error.type", error_type.into());
        self.with_span(|span| span.set_status(Status::error("")));
    }

    /// Ends the span now.
    pub fn end(&self) {
        self.with_span(|span| span.end());
    }

    /// Records that the time of the call is over: the spans of its unfinished work fail as `timeout`.
    pub fn set_late(&self) {
        if let Kind::Span { is_late, .. } = &self.0 {
            is_late.store(true, Ordering::Relaxed);
        }
    }

    /// Marks the span as that of work which has been dropped before its end: late, or because nobody waits for it any longer.
    pub fn fail_unfinished(&self) {
        if let Kind::Span { is_late, .. } = &self.0 {
            self.fail(if is_late.load(Ordering::Relaxed) { "timeout" } else { "cancelled" });
        }
    }

    /// Does a step of the work of this scope.
    pub fn poll<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// Does `work` in this scope.
    pub fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), work)
    }
}

/// The links of a span, which are added while it lasts: as many as a span may have.
#[derive(Debug)]
pub struct Links {
    span: SpanScope,
    count: u32,
    last: Option<SpanContext>,
}

impl Links {
    /// No links of `span` yet.
    #[must_use]
    pub const fn of(span: SpanScope) -> Self {
        Self { span, count: 0, last: None }
    }

    /// Adds a link to `cause`, unless it is the last one again: the events of one command have one cause.
    pub fn add(&mut self, cause: impl FnOnce() -> Option<SpanContext>) {
        if self.count >= MAX_LINKS {
            return;
        }
        let Some(cause) = cause().filter(|cause| self.last.as_ref() != Some(cause)) else { return };
        self.span.with_span(|span| span.add_link(cause.clone(), Vec::new()));
        self.count += 1;
        self.last = Some(cause);
    }
}

/// The span of work that may be dropped before its end: then it fails.
#[derive(Debug)]
pub struct Unfinished {
    span: SpanScope,
    is_finished: bool,
}

impl Unfinished {
    /// The `span` of work that begins.
    #[must_use]
    pub const fn of(span: SpanScope) -> Self {
        Self { span, is_finished: false }
    }

    /// Ends the span, as it was completed.
    pub fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Deref for Unfinished {
    type Target = SpanScope;

    fn deref(&self) -> &SpanScope {
        &self.span
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            self.span.fail_unfinished();
        }
        self.span.end();
    }
}

/// Begins a child of the span of the current call; `None` if the call is not recorded.
pub fn child(
    kind: SpanKind,
    name: impl Into<Cow<'static, str>>,
    attributes: impl FnOnce() -> Vec<KeyValue>,
) -> Option<SpanScope> {
    let begin = |current: &SpanScope| {
        let Kind::Span { maker, context, is_late } = &current.0 else { return None };
        let span = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes());
        Some(SpanScope(Kind::span(maker, span, context, Arc::clone(is_late))))
    };
    CURRENT.try_with(begin).ok().flatten()
}

/// Does `work` in `span`, if there is one, which `finish` may complete with the outcome.
pub async fn within<T>(
    span: Option<SpanScope>,
    work: impl Future<Output = T>,
    finish: impl FnOnce(&SpanScope, &T),
) -> T {
    let Some(span) = span.map(Unfinished::of) else { return work.await };
    let outcome = span.run(work).await;
    finish(&span, &outcome);
    span.finish();
    outcome
}

/// Makes `work`, in another task, a part of this call.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let current = CURRENT.try_with(Clone::clone).ok();
    async move {
        match current {
            Some(current) => current.run(work).await,
            None => work.await,
        }
    }
}

/// The span of the current call; `None` if the call is not recorded.
#[must_use]
pub fn recorded() -> Option<SpanScope> {
    CURRENT.try_with(|current| current.is_recording().then(|| current.clone())).ok().flatten()
}

/// The context of the current call as a `traceparent`, sampled or not; `None` if the call has none.
#[must_use]
pub fn traceparent() -> Option<Traceparent> {
    CURRENT.try_with(|current| current.with_context(Traceparent::of)).ok()
}

/// The id of the trace of the current call; `None` if the call has none.
#[must_use]
pub fn trace_id() -> Option<TraceId> {
    CURRENT.try_with(SpanScope::trace_id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test]
    async fn without_an_endpoint_the_context_of_a_caller_is_passed_on_and_none_is_created() {
        let off = Traces::off();
        assert!(off.call(None).is_none());
        assert!(traceparent().is_none() && trace_id().is_none());
        let call = off.call(context::parse(CALLER, None)).unwrap();
        let work = async {
            assert!(child(SpanKind::Internal, "command", Vec::new).is_none());
            let elsewhere = tokio::spawn(carried(async { traceparent() })).await.unwrap();
            [traceparent(), elsewhere].map(|passed| passed.unwrap().as_str().to_owned())
        };
        assert_eq!(call.run(work).await, [CALLER, CALLER]);
        let sampled = std::iter::once(context::parse(CALLER, None).unwrap());
        assert!(off.linked(SpanKind::Producer, "publish", sampled).is_none());
    }
}
