//! The variables of OpenTelemetry that a node reads, besides the address of the collector, which is a setting.
//!
//! Source: the OpenTelemetry specification, "Environment Variable Specification" and "OTLP Exporter".

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::KeyValue;
use crate::settings::parse::quoted;

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
/// The variables with headers for the collector; the first that is set wins.
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// The environment: the value of a variable by its name. An empty value counts as unset.
#[derive(Clone, Copy)]
pub struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

/// The value of a variable of this process.
pub fn of_process(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

impl<'a> Environment<'a> {
    /// Reads variables by `read`.
    pub const fn new(read: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self(read)
    }

    fn get(self, name: &str) -> Option<String> {
        self.0(name).filter(|value| !value.is_empty())
    }

    /// The variable that switches spans off, with its value.
    pub fn switched_off_by(self) -> Option<String> {
        let is_off = |name, off: &str| self.get(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(off));
        [(DISABLED, "true"), (EXPORTER, "none")]
            .into_iter()
            .find(|(name, off)| is_off(name, off))
            .map(|(name, off)| format!("{name}={off}"))
    }

    /// The exporter that is requested and does not exist here.
    pub fn unknown_exporter(self) -> Option<String> {
        self.get(EXPORTER).filter(|names| !names.split(',').any(|name| name.trim().eq_ignore_ascii_case("otlp")))
    }

    /// The headers for the collector.
    ///
    /// # Errors
    /// The variable, and which of its members is malformed. A member may be a secret, so it is not shown.
    pub fn headers(self) -> Result<HeaderMap, String> {
        let Some((variable, text)) = HEADERS.into_iter().find_map(|name| Some((name, self.get(name)?))) else {
            return Ok(HeaderMap::new());
        };
        let mut headers = HeaderMap::new();
        for (index, member) in members(&text).enumerate() {
            let header = pair(member).and_then(|(name, value)| {
                let mut value = HeaderValue::try_from(value).ok()?;
                value.set_sensitive(true);
                Some((HeaderName::try_from(name).ok()?, value))
            });
            let (name, value) =
                header.ok_or_else(|| format!("{variable}: member {} is not name=value of a header", index + 1))?;
            headers.append(name, value);
        }
        Ok(headers)
    }

    /// The attributes of this process in its spans, and the malformed members, which are ignored.
    pub fn attributes(self) -> (Vec<KeyValue>, Vec<String>) {
        let (mut attributes, mut ignored) = (Vec::new(), Vec::new());
        let text = self.get(RESOURCE_ATTRIBUTES).unwrap_or_default();
        for member in members(&text) {
            match pair(member) {
                Some((name, value)) => attributes.push(KeyValue::new(name, value)),
                None => ignored.push(quoted(member)),
            }
        }
        attributes.extend(self.get(SERVICE_NAME).map(|name| KeyValue::new("service.name", name)));
        (attributes, ignored)
    }
}

/// The members of a list, separated by commas.
fn members(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|member| !member.is_empty())
}

/// The name and the value of `name=value`, whose value is percent-encoded (W3C Baggage).
fn pair(member: &str) -> Option<(String, String)> {
    let (name, value) = member.split_once('=')?;
    let name = Some(name.trim()).filter(|name| !name.is_empty())?;
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    Some((name.to_owned(), value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(variables: &[(&str, &str)], read: impl FnOnce(Environment<'_>) -> T) -> T {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        read(Environment::new(&get))
    }

    #[test]
    fn two_variables_switch_spans_off() {
        let off = |variables: &[_]| with(variables, |environment| environment.switched_off_by());
        assert_eq!(off(&[(DISABLED, "True")]).as_deref(), Some("OTEL_SDK_DISABLED=true"));
        assert_eq!(off(&[(EXPORTER, "none")]).as_deref(), Some("OTEL_TRACES_EXPORTER=none"));
        for on in [(DISABLED, "false"), (DISABLED, ""), (EXPORTER, "otlp"), (EXPORTER, "")] {
            assert_eq!(off(&[on]), None, "{on:?}");
        }
        let unknown = |value: &str| with(&[(EXPORTER, value)], |environment| environment.unknown_exporter());
        assert_eq!(unknown("zipkin").as_deref(), Some("zipkin"));
        assert_eq!((unknown("console, otlp"), unknown("")), (None, None));
    }

    #[test]
    fn attributes_are_decoded_and_malformed_ones_named() {
        let text = "team=a%20b, x = y=z ,=x,only,,bad=%ff";
        let variables = [(RESOURCE_ATTRIBUTES, text), (SERVICE_NAME, "shop")];
        let (attributes, ignored) = with(&variables, |environment| environment.attributes());
        let expected = [("team", "a b"), ("x", "y=z"), ("service.name", "shop")];
        assert_eq!(attributes, expected.map(|(name, value)| KeyValue::new(name, value)));
        assert_eq!(ignored, ["'=x'", "'only'", "'bad=%ff'"]);
    }

    #[test]
    fn headers_are_decoded_and_malformed_ones_are_refused_without_being_shown() {
        let headers = |variables: &[_]| with(variables, |environment| environment.headers());
        let given = headers(&[(HEADERS[1], "authorization=Basic%20YQ==, x-tenant=a")]).unwrap();
        assert_eq!(
            (&given["authorization"], &given["x-tenant"]),
            (&"Basic YQ==".parse().unwrap(), &"a".parse().unwrap())
        );
        let own = headers(&[(HEADERS[0], "a=b"), (HEADERS[1], "secret")]).unwrap();
        assert_eq!((own.len(), &own["a"]), (1, &"b".parse().unwrap()));
        assert!(headers(&[]).unwrap().is_empty());
        for wrong in ["a=b,secret", "a=b,=secret", "a=b,a b=secret", "a=b,c=secret%0a"] {
            let error = headers(&[(HEADERS[1], wrong)]).unwrap_err();
            assert_eq!(error, "OTEL_EXPORTER_OTLP_HEADERS: member 2 is not name=value of a header");
        }
    }
}
