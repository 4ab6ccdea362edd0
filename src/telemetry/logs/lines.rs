//! The format of a line of the log: that of [`tracing_subscriber`], with the facts about the call that it was written for, and without control
//! characters.

use std::{borrow::Cow, fmt};

use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Json, Writer},
    },
    registry::LookupSpan,
};

use crate::telemetry::call::{self, Fact};

/// Lines of text, for people.
#[derive(Debug)]
pub(super) struct TextLines(pub Format<Full>);

/// JSON objects.
#[derive(Debug)]
pub(super) struct JsonLines(pub Format<Json>);

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        writer.write_str(&in_one_line(line))?;
        let own = event.metadata().fields();
        for Fact { name, value, is_text } in call::facts() {
            if own.field(name).is_none() {
                let value = if is_text { format!("{value:?}") } else { value };
                write!(writer, " {name}={}", escaped(&value, is_hostile))?;
            }
        }
        writer.write_char('\n')
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let facts = call::facts();
        if facts.is_empty() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let object = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
        writer.write_str(object)?;
        for Fact { name, value, .. } in facts {
            // Quoted and escaped: the id of a call and the name of its caller may have any character.
            write!(writer, ",\"{name}\":{}", serde_json::Value::from(value))?;
        }
        writer.write_str("}\n")
    }
}

/// Writes a field of a line of text, with the control characters of its value escaped: a line break in a value does not begin a line, and no input of
/// a client moves the cursor of a terminal or colours its text.
pub(super) fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = escaped(&value, is_hostile);
    match field.name() {
        "message" => writer.write_str(&value),
        name => write!(writer, "{}={value}", name.trim_start_matches("r#")),
    }
}

/// The line without characters that would end it. Only its own colours still begin with the escape character.
fn in_one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character != '\x1b' && is_hostile(character))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_escaped(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    Cow::Owned(line)
}

fn is_hostile(character: char) -> bool {
    match character {
        // Separators of lines and paragraphs, and characters that change the direction of text.
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        other => other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use http::HeaderValue;
    use parking_lot::Mutex;
    use tracing::subscriber::with_default;
    use tracing_subscriber::{Registry, layer::SubscriberExt as _};

    use super::*;
    use crate::{
        domain::text::Actor,
        telemetry::{
            call_id::CallId,
            logs::{LogFormat, lines},
            traces,
        },
    };

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log output of `work`.
    fn logged(format: LogFormat, has_colours: bool, work: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        with_default(Registry::default().with(lines(format, has_colours, move || writer.clone())), work);
        let bytes = written.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// Escape, bell, backspace, line breaks, NUL, a character that some readers take for a line break, and reversed text.
    const HOSTILE: &str = "a\x1b[2J\x07\x08\r\nERROR forged\0\u{9b}31m\u{2028}\u{202e}b\x7f";

    fn log_hostile() {
        tracing::info!(text = HOSTILE, display = %HOSTILE, debug = ?HOSTILE, "{HOSTILE}");
    }

    #[test]
    fn nothing_that_a_client_sends_ends_a_line_of_text_or_moves_the_cursor() {
        for has_colours in [false, true] {
            let text = logged(LogFormat::Text, has_colours, log_hostile);
            let line = text.strip_suffix('\n').unwrap();
            // The colours of the line itself.
            let line = ["\x1b[2m", "\x1b[0m", "\x1b[32m", "\x1b[3m"]
                .iter()
                .fold(line.to_owned(), |line, own| line.replace(own, ""));
            assert!(!line.contains(|character: char| character.is_control()), "{line:?}");
            assert!(!line.contains(['\u{2028}', '\u{202e}']), "{line:?}");
            assert_eq!(line.matches("ERROR forged").count(), 4, "nothing is left out: {line:?}");
        }
    }

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn log_in_a_call() {
        let parent = traces::context::parse(&format!("00-{TRACE}-b7ad6b7169203331-00"), None);
        traces::Traces::off().call(parent).unwrap().poll(|| {
            call::LoggedOrder::of(7).step(|| {
                tracing::warn!("first");
                tracing::warn!(order_id = 8, "second");
            });
        });
        tracing::warn!("third");
    }

    #[test]
    fn a_line_within_a_call_has_the_known_fields_of_the_call() {
        let text = logged(LogFormat::Text, false, log_in_a_call);
        let lines: Vec<_> = text.lines().map(|line| line.split_once("tests: ").unwrap().1).collect();
        let known = format!("trace_id={TRACE}");
        assert_eq!(lines, [&format!("first {known} order_id=7"), &format!("second order_id=8 {known}"), "third"]);
        let text = logged(LogFormat::Json, false, log_in_a_call);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let facts = |at: usize| ["trace_id", "order_id"].map(|name| lines[at][name].as_str());
        assert_eq!(facts(0), [Some(TRACE), Some("7")]);
        assert_eq!((facts(1)[1], lines[1]["fields"]["order_id"].as_u64()), (Some("7"), Some(8)));
        assert_eq!(facts(2), [None; 2]);
    }

    #[test]
    fn the_id_of_a_call_and_its_caller_can_forge_no_other_field() {
        let (id, caller) = ("a\"},{\\b", "shop\" order_id=7 \"x");
        let log = || {
            call::Served::of(CallId::Given(HeaderValue::from_static(id))).step(|| {
                call::set_caller(&Actor::parse(caller).unwrap());
                tracing::warn!("first");
            });
        };
        let text = logged(LogFormat::Text, false, log);
        assert!(text.ends_with(&format!(" first call_id={id} caller={caller:?}\n")), "{text}");
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, false, log)).unwrap();
        assert_eq!((line["call_id"].as_str(), line["caller"].as_str()), (Some(id), Some(caller)));
        assert_eq!(line["order_id"].as_str(), None);
    }

    #[test]
    fn a_line_of_json_is_one_object_with_the_text_as_it_was_sent() {
        let text = logged(LogFormat::Json, false, log_hostile);
        assert_eq!(text.lines().count(), 1, "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["fields"]["text"], &line["fields"]["message"]), (&HOSTILE.into(), &HOSTILE.into()));
    }
}
