//! The configuration file: TOML or JSON, with flat keys named like the flags, or with the sections of the .NET samples' `appsettings.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::settings::settings;
use crate::{
    private_files,
    settings::{ConfigError, Kind, Raw, Setting, Source},
};

/// A value in the file, in either format.
enum Node {
    Scalar(String),
    List(Vec<Node>),
    Section(Vec<(String, Node)>),
    Null,
}

/// Reads the file; the extension determines its format.
pub(super) fn read(path: &Path) -> Result<BTreeMap<&'static str, Raw>, ConfigError> {
    let fail = |what: &dyn fmt::Display| ConfigError::new(format_args!("config file {}: {what}", path.display()));
    let text = private_files::read_text(path).map_err(|error| fail(&format_args!("cannot be read: {error}")))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    let entries = match extension.as_deref() {
        Some("toml") => from_toml(&text),
        // .NET writes its JSON files with a byte order mark.
        Some("json") => from_json(text.trim_start_matches('\u{feff}')),
        _ => Err("the name must end in .toml or .json".to_owned()),
    }
    .map_err(|what| fail(&what))?;

    let mut raws = BTreeMap::new();
    for (key, node) in flatten(entries) {
        let setting = find(&key).ok_or_else(|| fail(&format_args!("unknown key {}", key.escape_debug())))?;
        let value = raw_value(setting, node).map_err(|what| fail(&format_args!("{key} {what}")))?;
        let source = Source::File { path: path.to_owned(), key };
        if let Some(twice) = raws.insert(setting.key, Raw { value, source }) {
            return Err(ConfigError::new(format_args!("{} is set twice, also by {}", setting.key, twice.source)));
        }
    }
    Ok(raws)
}

fn find(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.file_key() == key || setting.appsettings_key == Some(key))
}

fn raw_value(setting: &Setting, node: Node) -> Result<String, &'static str> {
    match node {
        Node::Scalar(text) => Ok(text),
        Node::List(nodes) if matches!(setting.kind, Kind::List) => {
            let texts: Result<Vec<String>, _> = nodes
                .into_iter()
                .map(|node| match node {
                    Node::Scalar(text) if !text.contains(',') => Ok(text),
                    _ => Err("must be a list of strings without commas"),
                })
                .collect();
            Ok(texts?.join(","))
        }
        Node::List(_) => Err("takes one value, not a list"),
        Node::Section(_) => Err("takes a value, not a section"),
        Node::Null => Err("is null; leave it out instead"),
    }
}

/// Joins sections into dotted keys, except below a key that is a setting itself, which is then a separate error. An empty section is kept, so that
/// an unknown one is detected.
fn flatten(entries: Vec<(String, Node)>) -> Vec<(String, Node)> {
    let mut flat = Vec::new();
    for (key, node) in entries {
        match node {
            Node::Section(inner) if find(&key).is_none() && (!inner.is_empty() || is_known_section(&key)) => {
                flat.extend(flatten(inner.into_iter().map(|(name, node)| (format!("{key}.{name}"), node)).collect()));
            }
            node => flat.push((key, node)),
        }
    }
    flat
}

fn is_known_section(key: &str) -> bool {
    let has_prefix = |known: &str| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    settings().filter_map(|setting| setting.appsettings_key).any(has_prefix)
}

fn from_toml(text: &str) -> Result<Vec<(String, Node)>, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!("line {line}: {}", error.message())
    })?;
    Ok(table.into_iter().map(|(key, value)| (key, toml_node(value))).collect())
}

fn toml_node(value: toml::Value) -> Node {
    match value {
        toml::Value::String(text) => Node::Scalar(text),
        toml::Value::Array(values) => Node::List(values.into_iter().map(toml_node).collect()),
        toml::Value::Table(table) => {
            Node::Section(table.into_iter().map(|(key, value)| (key, toml_node(value))).collect())
        }
        toml::Value::Integer(number) => Node::Scalar(number.to_string()),
        toml::Value::Float(number) => Node::Scalar(number.to_string()),
        toml::Value::Boolean(switch) => Node::Scalar(switch.to_string()),
        toml::Value::Datetime(time) => Node::Scalar(time.to_string()),
    }
}

fn from_json(text: &str) -> Result<Vec<(String, Node)>, String> {
    let entries: JsonObject = serde_json::from_str(text).map_err(|error| error.to_string())?;
    entries.0.into_iter().map(|(key, raw)| Ok((key, json_node(&raw)?))).collect()
}

fn json_node(raw: &RawValue) -> Result<Node, String> {
    let text = raw.get();
    if text.starts_with('{') {
        return Ok(Node::Section(from_json(text)?));
    }
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(match value {
        serde_json::Value::Null => Node::Null,
        serde_json::Value::String(text) => Node::Scalar(text),
        serde_json::Value::Array(_) => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).map_err(|error| error.to_string())?;
            Node::List(items.iter().map(|item| json_node(item)).collect::<Result<_, _>>()?)
        }
        scalar => Node::Scalar(scalar.to_string()),
    })
}

/// A JSON object that refuses duplicate keys, where `serde_json::Map` would silently keep the last one.
struct JsonObject(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = JsonObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
                let mut entries: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if entries.iter().any(|(known, _)| *known == key) {
                        return Err(serde::de::Error::custom(format_args!("{key} appears twice")));
                    }
                    entries.push((key, value));
                }
                Ok(JsonObject(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
