//! Decides which traces are recorded.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// Follows the caller, if it has decided; records spans that link to a recorded trace; otherwise takes a share of the traces, by their id.
#[derive(Clone, Debug)]
pub(super) struct FollowsCause {
    /// The share, 0 to 1.
    pub ratio: f64,
}

impl ShouldSample for FollowsCause {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|context| context.span().span_context().clone()).filter(|caller| caller.is_valid());
        let is_sampled = match &parent {
            Some(parent) => parent.is_sampled(),
            None if links.iter().any(|link| link.span_context.is_sampled()) => true,
            None => {
                let share = Sampler::TraceIdRatioBased(self.ratio);
                let result = share.should_sample(None, trace, name, kind, attributes, links);
                result.decision == SamplingDecision::RecordAndSample
            }
        };
        SamplingResult {
            decision: if is_sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop },
            attributes: Vec::new(),
            trace_state: parent.map_or_else(TraceState::default, |parent| parent.trace_state().clone()),
        }
    }
}
