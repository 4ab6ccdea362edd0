//! Strict parsing of JSON objects: numbers stay text, and all unknown, repeated and wrongly typed fields are reported at once.
//!
//! Nothing here recurses: valid input is at most three levels deep, and a deeper value is refused by its type at the level above, and skipped without
//! a stack.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Deserializer, value::RawValue};

use super::split::Parts;
use crate::application::requests::{Field, FieldPath, Violations};

/// The maximum number of unknown fields of one object that are named; more are counted.
const MAX_UNKNOWN_NAMED: usize = 16;
/// The maximum length of an unknown name in a violation, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The fields of one object: `None` for omitted ones and `null`.
pub type Slots<'a, const N: usize> = [Option<&'a str>; N];

/// An object of a body.
#[derive(Clone, Copy, Debug)]
pub enum Object {
    /// The body itself.
    Body,
    /// An item of a new order.
    Item(usize),
}

impl Object {
    /// The path of one of its fields.
    #[must_use]
    pub const fn field(self, field: Field) -> FieldPath {
        match self {
            Self::Body => FieldPath::Of(field),
            Self::Item(index) => FieldPath::OfItem(index, field),
        }
    }

    /// Its own path.
    #[must_use]
    pub const fn whole(self) -> FieldPath {
        match self {
            Self::Body => FieldPath::Of(Field::Request),
            Self::Item(index) => FieldPath::Element(Field::Items, index),
        }
    }

    fn unknown(self, name: &str) -> FieldPath {
        match self {
            Self::Body => FieldPath::Unknown(name.to_owned()),
            Self::Item(index) => FieldPath::UnknownOfItem(index, name.to_owned()),
        }
    }
}

/// The `fields` of the object `text`; records unexpected ones as violations of `object`. An item is a part of a body that has been parsed.
///
/// # Errors
/// A description: the text is not well-formed JSON, or not an object.
pub fn object<'a, const N: usize>(
    text: &'a str,
    fields: [Field; N],
    object: Object,
    violations: &mut Violations,
) -> Result<Slots<'a, N>, String> {
    let is_bare = text.starts_with('{') && text.ends_with('}');
    let text = if is_bare { text } else { text.trim_matches([' ', '\t', '\r', '\n']) };
    if !text.starts_with('{') {
        return Err(match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => "must be a JSON object".to_owned(),
            Err(error) => malformed(&error),
        });
    }
    let names = fields.map(Field::rest_name);
    let found = match object {
        Object::Body => parsed(text, &names),
        Object::Item(_) => split(text, &names),
    };
    let found = found.map_err(|error| malformed(&error))?;
    for (index, field) in fields.into_iter().enumerate() {
        if found.repeated & (1 << index) != 0 {
            violations.add(object.field(field), "must be given once");
        }
    }
    for name in &found.unknown {
        violations.add(object.unknown(name), "is not a field of this object");
    }
    if found.unknown_count > found.unknown.len() {
        let more = found.unknown_count - found.unknown.len();
        violations.add(object.whole(), format_args!("has {more} more unknown fields"));
    }
    Ok(found.slots)
}

fn parsed<'a, const N: usize>(text: &'a str, names: &[&'static str; N]) -> Result<Found<'a, N>, serde_json::Error> {
    let mut reader = Deserializer::from_str(text);
    let found = reader.deserialize_map(Fields { names })?;
    reader.end().map(|()| found)
}

/// The `fields` of an object whose text is well-formed. Fails only for a name with half of a surrogate pair.
fn split<'a, const N: usize>(text: &'a str, names: &[&'static str; N]) -> Result<Found<'a, N>, serde_json::Error> {
    let (mut found, mut parts) = (Found::default(), Parts::of(text));
    while let (Some(name), Some(raw)) = (parts.next(), parts.next()) {
        match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => found.add(key(names, plain), raw),
            _ => found.add(key(names, &serde_json::from_str::<String>(name)?), raw),
        }
    }
    Ok(found)
}

/// The index of the field `name`; otherwise the beginning of the name.
fn key(names: &[&'static str], name: &str) -> Result<usize, String> {
    let index = names.iter().position(|known| *known == name);
    index.ok_or_else(|| name.chars().take(MAX_NAME_CHARS).collect())
}

fn malformed(error: &serde_json::Error) -> String {
    format!("is not well-formed JSON: {error}")
}

/// The elements of the array `text`, at most `max + 1` of them; `None` if it is not an array. The text is a part of a body that has been parsed.
#[must_use]
pub fn array(text: &str, max: usize) -> Option<Vec<&str>> {
    text.starts_with('[').then(|| Parts::of(text).take(max + 1).collect())
}

/// The text of a JSON string.
///
/// # Errors
/// A description.
pub fn text(raw: &str) -> Result<Cow<'_, str>, &'static str> {
    let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err("must be a string");
    };
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    // Fails for half of a surrogate pair, which is not a character.
    serde_json::from_str(raw).map(Cow::Owned).map_err(|_| "must be well-formed text")
}

/// The text of a JSON string, or the digits of an integer.
///
/// # Errors
/// A description.
pub fn text_or_integer(raw: &str) -> Result<Cow<'_, str>, &'static str> {
    if is_integer(raw) { Ok(Cow::Borrowed(raw)) } else { text(raw).map_err(|error| or_integer(raw, error)) }
}

fn or_integer(raw: &str, error: &'static str) -> &'static str {
    if raw.starts_with('"') { error } else { "must be a string or an integer" }
}

/// Whether `raw` is an integer in JSON syntax.
#[must_use]
pub fn is_integer(raw: &str) -> bool {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && raw != "-0"
}

struct Fields<'n, const N: usize> {
    names: &'n [&'static str; N],
}

struct Found<'de, const N: usize> {
    slots: Slots<'de, N>,
    /// The names that were seen, one bit each.
    seen: u32,
    /// The names that were repeated, one bit each.
    repeated: u32,
    unknown: Vec<String>,
    unknown_count: usize,
}

impl<const N: usize> Default for Found<'_, N> {
    fn default() -> Self {
        Self { slots: [None; N], seen: 0, repeated: 0, unknown: Vec::new(), unknown_count: 0 }
    }
}

impl<'de, const N: usize> Found<'de, N> {
    /// Adds the value `raw` of a field: the one with this index, or an unknown one.
    fn add(&mut self, key: Result<usize, String>, raw: &'de str) {
        match key {
            Ok(index) => {
                self.slots[index] = (raw != "null").then_some(raw);
                self.repeated |= self.seen & (1 << index);
                self.seen |= 1 << index;
            }
            Err(name) => {
                self.unknown_count += 1;
                if self.unknown.len() < MAX_UNKNOWN_NAMED && !self.unknown.contains(&name) {
                    self.unknown.push(name);
                }
            }
        }
    }
}

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = Found<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Found::default();
        while let Some(key) = map.next_key_seed(Key { names: self.names })? {
            let raw = match &key {
                Ok(_) => map.next_value::<&RawValue>()?.get(),
                Err(_) => map.next_value::<IgnoredAny>().map(|_| "")?,
            };
            found.add(key, raw);
        }
        Ok(found)
    }
}

struct Key<'n> {
    names: &'n [&'static str],
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Result<usize, String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(key(self.names, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(text: &'a str, fields: &mut Vec<String>) -> Result<Slots<'a, 2>, String> {
        let mut violations = Violations::default();
        let read = object(text, [Field::Id, Field::All], Object::Body, &mut violations);
        fields.extend(violations.into_vec().into_iter().map(|violation| violation.field.over_rest().into_owned()));
        read
    }

    #[test]
    fn fields_keep_their_text_to_the_digit() {
        let mut wrong = Vec::new();
        let slots = read(r#" {"all": 12345678901234567890.1e1 , "id":"x" }"#, &mut wrong).unwrap();
        assert_eq!(slots, [Some("\"x\""), Some("12345678901234567890.1e1")]);
        assert!(wrong.is_empty());
    }

    #[test]
    fn unknown_and_repeated_fields_are_all_named() {
        let mut wrong = Vec::new();
        read(r#"{"id":1,"c":[[[]]],"id":2,"$serde_json::private::Number":"5","\u0069d":3,"all":null}"#, &mut wrong)
            .unwrap();
        assert_eq!(wrong, ["id", "c", "$serde_json::private::Number"]);
    }

    #[test]
    fn an_item_is_read_as_the_body_is() {
        for text in [
            r#"{"id":1,"c":[[[]]],"id":2,"\u0069d":3,"all":null}"#,
            r#" { "all" : {"id":[1,"}"]} , "id" : "a\"b\\" }"#,
            "{}",
            r#"{"\ud83d":1}"#,
            "5",
        ] {
            let read = |object| {
                let mut violations = Violations::default();
                let read = super::object(text, [Field::Id, Field::All], object, &mut violations);
                (read.ok(), violations.into_vec().len())
            };
            assert_eq!(read(Object::Item(0)), read(Object::Body), "{text}");
        }
    }

    #[test]
    fn text_that_is_not_one_object_is_refused() {
        for text in [
            "",
            "nul",
            "{",
            "{}x",
            "{} {}",
            "[]",
            "1",
            "\"\"",
            "{\"id\":01}",
            "{\"id\":NaN}",
            "{'id':1}",
            "{\"id\":1,}",
        ] {
            assert!(read(text, &mut Vec::new()).is_err(), "{text:?}");
        }
        let deep = format!("{}{}", "{\"id\":".repeat(100_000), "}".repeat(100_000));
        assert!(read(&deep, &mut Vec::new()).is_err());
        let deep = format!("{{\"id\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&deep, &mut Vec::new()).is_ok());
    }

    #[test]
    fn text_is_unescaped_and_half_a_surrogate_pair_refused() {
        assert_eq!(text(r#""a\u00e9\ud83d\ude00""#).unwrap(), "aé😀");
        assert_eq!(text(r#""\ud83d""#), Err("must be well-formed text"));
        assert_eq!(text("5"), Err("must be a string"));
        assert_eq!(text_or_integer("-5").unwrap(), "-5");
        for raw in ["5.0", "1e3", "true", "[]", "-0"] {
            assert_eq!(text_or_integer(raw), Err("must be a string or an integer"), "{raw}");
        }
    }
}
