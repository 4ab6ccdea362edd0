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

/// The `traceparent` of a context.
#[must_use]
pub fn format(context: &SpanContext) -> String {
    let flags = u8::from(context.is_sampled());
    format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn what_is_parsed_is_formatted_again_with_no_flag_but_sampled() {
        for (version, flags, kept) in [("00", "01", "01"), ("00", "00", "00"), ("00", "ff", "01"), ("cc", "02", "00")] {
            let context = parse(&format!("{version}-{TRACE}-{SPAN}-{flags}"), None).unwrap();
            assert_eq!(format(&context), format!("00-{TRACE}-{SPAN}-{kept}"));
            assert_eq!(format(&context).len(), TRACEPARENT_BYTES);
        }
        assert!(parse(&format!(" 01-{TRACE}-{SPAN}-01-more\t"), None).is_some());
    }

    #[test]
    fn an_invalid_context_is_none() {
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
    fn an_invalid_state_is_dropped_alone() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(parse(&parent, Some("a=1,b=2")).unwrap().trace_state().header(), "a=1,b=2");
        assert_eq!(parse(&parent, Some("no member")).unwrap().trace_state().header(), "");
    }
}
