//! The patterns of the conformance scenarios; clients/conformance/README.md says what each one means.

use regex::{Captures, Regex};
use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

pub type Variables = Map<String, Value>;

/// A YAML file as JSON.
pub fn load(path: &std::path::Path) -> Value {
    let documents = YamlLoader::load_from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(documents.len(), 1, "{} must be one document", path.display());
    json(&documents[0])
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Boolean(flag) => Value::from(*flag),
        Yaml::Array(entries) => entries.iter().map(json).collect(),
        Yaml::Hash(entries) => {
            entries.iter().map(|(key, entry)| (key.as_str().expect("a text").to_owned(), json(entry))).collect()
        }
        other => panic!("{other:?} is nothing that JSON has as well"),
    }
}

/// `value` with variables substituted.
pub fn resolve(value: &Value, variables: &Variables) -> Result<Value, String> {
    match value {
        Value::Object(entries) if entries.contains_key("$times") => {
            let times = usize::try_from(entries["$times"].as_u64().ok_or("$times must be a number")?).unwrap();
            if let Some(list) = entries.get("$list") {
                return Ok(Value::from(vec![resolve(list, variables)?; times]));
            }
            Ok(Value::from(text(&resolve(&entries["$text"], variables)?).ok_or("$text must be a text")?.repeat(times)))
        }
        Value::Object(entries) => {
            let mut resolved = Map::new();
            for (key, entry) in entries {
                let key = resolve(&Value::from(key.as_str()), variables)?;
                resolved.insert(text(&key).ok_or("a key must be a text")?, resolve(entry, variables)?);
            }
            Ok(Value::Object(resolved))
        }
        Value::Array(entries) => entries.iter().map(|entry| resolve(entry, variables)).collect(),
        Value::String(pattern) => resolve_text(pattern, variables),
        scalar => Ok(scalar.clone()),
    }
}

fn resolve_text(pattern: &str, variables: &Variables) -> Result<Value, String> {
    let reference = Regex::new(r"\$\{(\w+)\}").unwrap();
    let find = |name: &str| variables.get(name).ok_or_else(|| format!("nothing was saved as {name}"));
    if let Some(whole) = reference.captures(pattern).filter(|found| found[0].len() == pattern.len()) {
        return find(&whole[1]).cloned();
    }
    let mut failure = None;
    let replaced = reference.replace_all(pattern, |found: &Captures<'_>| {
        let value = find(&found[1]).and_then(|value| text(value).ok_or_else(|| format!("{value} is no scalar")));
        value.unwrap_or_else(|error| failure.insert(error).clone())
    });
    let replaced = Value::from(replaced.as_ref());
    failure.map_or(Ok(replaced), Err)
}

/// A scalar as text.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A missing field is null.
fn is_missing(value: &Value) -> bool {
    let is_empty_list = value.as_array().is_some_and(Vec::is_empty);
    value.is_null() || is_empty_list || text(value).is_some_and(|text| ["", "0", "false"].contains(&text.as_str()))
}

/// Matches `actual` at `path` with `pattern`; values that the pattern saves go into `saved`.
///
/// # Errors
///
/// Where it does not match, and how.
pub fn check(pattern: &Value, actual: &Value, saved: &mut Variables, path: &str) -> Result<(), String> {
    let differs = || {
        let place = if path.is_empty() { "the top" } else { path };
        let shown = if actual.is_null() { "nothing".to_owned() } else { actual.to_string() };
        Err(format!("at {place}: expected {pattern}, got {shown}"))
    };
    match (pattern, actual) {
        (Value::Object(entries), _) if entries.keys().any(|key| key.starts_with('$')) => {
            let (matchers, rest): (Variables, Variables) =
                entries.clone().into_iter().partition(|(key, _)| key.starts_with('$'));
            for (name, argument) in &matchers {
                if !holds(name, argument, actual, saved, path)? {
                    return differs();
                }
            }
            if rest.is_empty() { Ok(()) } else { check(&Value::Object(rest), actual, saved, path) }
        }
        (Value::Object(entries), Value::Object(fields)) => {
            for (key, expected) in entries {
                check(expected, fields.get(key).unwrap_or(&Value::Null), saved, &format!("{path}.{key}"))?;
            }
            Ok(())
        }
        (Value::Object(_), _) => differs(),
        _ if is_missing(pattern) => {
            if is_missing(actual) {
                Ok(())
            } else {
                differs()
            }
        }
        (Value::Array(patterns), Value::Array(entries)) if patterns.len() == entries.len() => {
            for (index, (expected, entry)) in patterns.iter().zip(entries).enumerate() {
                check(expected, entry, saved, &format!("{path}[{index}]"))?;
            }
            Ok(())
        }
        _ if text(pattern).is_some() && text(pattern) == text(actual) => Ok(()),
        _ => differs(),
    }
}

/// Whether one matcher holds.
fn holds(name: &str, wanted: &Value, actual: &Value, saved: &mut Variables, path: &str) -> Result<bool, String> {
    let is_list = is_missing(actual) || actual.is_array();
    let entries = actual.as_array().map_or(&[][..], Vec::as_slice);
    let mut matches = |pattern: &Value, value: &Value| check(pattern, value, saved, path).is_ok();
    Ok(match name {
        "$present" => !is_missing(actual),
        "$absent" => is_missing(actual),
        "$save" => {
            if !is_missing(actual) {
                saved.insert(text(wanted).ok_or("$save must name a variable")?, actual.clone());
            }
            !is_missing(actual)
        }
        "$is" => {
            check(wanted, actual, saved, path)?;
            true
        }
        "$equals" => is_equal(wanted, actual),
        "$not" => !is_missing(actual) && !matches(wanted, actual),
        "$matches" => {
            let whole = format!("^(?:{})$", text(wanted).ok_or("$matches must be a text")?);
            let regex = Regex::new(&whole).map_err(|error| error.to_string())?;
            actual.as_str().is_some_and(|actual| regex.is_match(actual))
        }
        "$gt" => number(actual)? > number(wanted)?,
        "$ge" => number(actual)? >= number(wanted)?,
        "$le" => number(actual)? <= number(wanted)?,
        "$length" => is_list && Some(entries.len() as u64) == wanted.as_u64(),
        "$contains" => entries.iter().any(|entry| matches(wanted, entry)),
        "$each" => {
            for (index, entry) in entries.iter().enumerate() {
                check(wanted, entry, saved, &format!("{path}[{index}]"))?;
            }
            is_list
        }
        "$growing" => {
            let numbers = entries.iter().map(number).collect::<Result<Vec<_>, _>>()?;
            is_list && numbers.is_sorted_by(|one, next| one < next)
        }
        _ => return Err(format!("there is no matcher {name}")),
    })
}

fn number(value: &Value) -> Result<i64, String> {
    if is_missing(value) {
        return Ok(0);
    }
    text(value).and_then(|text| text.parse().ok()).ok_or_else(|| format!("{value} is no whole number"))
}

fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        _ if is_missing(one) || is_missing(other) => is_missing(one) && is_missing(other),
        (Value::Object(a), Value::Object(b)) => a
            .keys()
            .chain(b.keys())
            .all(|key| is_equal(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null))),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b)),
        _ => text(one).is_some() && text(one) == text(other),
    }
}
