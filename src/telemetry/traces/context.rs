//! The W3C trace context as text.

use std::str::FromStr as _;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The length of a `traceparent` of version 00, in bytes.
pub const TRACEPARENT_BYTES: usize = 55;

/// Parses a `traceparent` and, if given, its `tracestate`. `None` if the former is invalid, which means the same as not given; an invalid
/// `tracestate` is dropped alone. Of the flags only the one for sampling is kept.
#[must_use]
pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<SpanContext> {
    let is_hex =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = traceparent.trim_matches([' ', '\t']).split('-');
    let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_well_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    // A later version may add parts.
    if !is_well_formed || version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let state = tracestate.and_then(|text| TraceState::from_str(text).ok()).unwrap_or_default();
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, state)).filter(SpanContext::is_valid)
}

/// The context of a new trace that is not recorded.
pub(super) fn unrecorded() -> SpanContext {
    let trace = TraceId::from_bytes(fastrand::u128(1..).to_be_bytes());
    let span = SpanId::from_bytes(fastrand::u64(1..).to_be_bytes());
    SpanContext::new(trace, span, TraceFlags::default(), false, TraceState::default())
}

/// A `traceparent` of version 00. It is on the stack, since every command stores one.
#[derive(Clone, Copy, Debug)]
pub struct Traceparent([u8; TRACEPARENT_BYTES]);

impl Traceparent {
    /// The `traceparent` of a context.
    #[must_use]
    pub fn of(context: &SpanContext) -> Self {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(&mut text[3..35], &context.trace_id().to_bytes());
        hex(&mut text[36..52], &context.span_id().to_bytes());
        hex(&mut text[53..], &[u8::from(context.is_sampled())]);
        Self(text)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // It is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Writes `bytes` as lower-case digits, two for each.
fn hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digits, byte) in text.chunks_exact_mut(2).zip(bytes) {
        digits.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_context_round_trips_with_no_flag_but_sampled() {
        for (version, flags, kept) in [("00", "01", "01"), ("00", "00", "00"), ("00", "ff", "01"), ("cc", "02", "00")] {
            let context = parse(&format!("{version}-{TRACE}-{SPAN}-{flags}"), None).unwrap();
            assert_eq!(Traceparent::of(&context).as_str(), format!("00-{TRACE}-{SPAN}-{kept}"));
        }
        assert!(parse(&format!(" 01-{TRACE}-{SPAN}-01-more\t"), None).is_some());
    }

    #[test]
    fn an_unrecorded_trace_has_a_valid_context() {
        let [first, second] = [(); 2].map(|()| unrecorded());
        assert!(first.is_valid() && !first.is_sampled());
        assert_ne!(first.trace_id(), second.trace_id());
        assert_eq!(parse(Traceparent::of(&first).as_str(), None).unwrap().span_id(), first.span_id());
    }

    #[test]
    fn an_invalid_context_is_ignored() {
        let zeros = "0".repeat(32);
        for invalid in [
            "",
            "00",
            TRACE,
            &format!("00-{TRACE}-{SPAN}"),
            &format!("00-{TRACE}-{SPAN}-01-more"),
            &format!("ff-{TRACE}-{SPAN}-01"),
            &format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            &format!("00-{zeros}-{SPAN}-01"),
            &format!("00-{TRACE}-{}-01", &zeros[..16]),
            &format!("00-{TRACE}-{SPAN}-+1"),
            &format!("00-{}-{SPAN}-01", &TRACE[1..]),
            &format!("00-{TRACE}-{SPAN}-1"),
            "00-é-é-01",
        ] {
            assert_eq!(parse(invalid, Some("a=b")), None, "{invalid}");
        }
    }

    #[test]
    fn an_invalid_state_is_dropped_without_its_context() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(parse(&parent, Some("a=1,b=2")).unwrap().trace_state().header(), "a=1,b=2");
        assert_eq!(parse(&parent, Some("no member")).unwrap().trace_state().header(), "");
    }
}
