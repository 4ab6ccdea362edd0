//! Strict parsing of JSON objects: numbers stay text, and all unknown, repeated and wrongly typed fields are reported at once.
//!
//! Nothing here recurses: valid input is at most three levels deep, and a deeper value is refused by its type at the level above, skipped without a
//! stack.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Deserializer, value::RawValue};

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

/// The `fields` of the object `text`; records unexpected ones as violations of `object`.
///
/// # Errors
/// A description: the text is not well-formed JSON, or not an object.
pub fn object<'a, const N: usize>(
    text: &'a str,
    fields: [Field; N],
    object: Object,
    violations: &mut Violations,
) -> Result<Slots<'a, N>, String> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if !text.starts_with('{') {
        return Err(match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => "must be a JSON object".to_owned(),
            Err(error) => malformed(&error),
        });
    }
    let names = fields.map(Field::rest_name);
    let mut reader = Deserializer::from_str(text);
    let found = reader.deserialize_map(Fields { names: &names }).and_then(|found| reader.end().map(|()| found));
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
        violations.add(object.whole(), format_args!("has {more} more fields that do not belong there"));
    }
    Ok(found.slots)
}

fn malformed(error: &serde_json::Error) -> String {
    format!("is not well-formed JSON: {error}")
}

/// The elements of the array `text`, at most `max + 1` of them; `None` if it is not an array.
#[must_use]
pub fn array(text: &str, max: usize) -> Option<Vec<&str>> {
    let mut reader = Deserializer::from_str(text);
    reader.deserialize_seq(Elements { max }).ok()
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
    /// One bit for each name.
    repeated: u32,
    unknown: Vec<String>,
    unknown_count: usize,
}

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = Found<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Found { slots: [None; N], repeated: 0, unknown: Vec::new(), unknown_count: 0 };
        let mut seen = 0_u32;
        while let Some(key) = map.next_key_seed(Key { names: self.names })? {
            match key {
                Ok(index) => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    found.slots[index] = (raw != "null").then_some(raw);
                    found.repeated |= seen & (1 << index);
                    seen |= 1 << index;
                }
                Err(name) => {
                    map.next_value::<IgnoredAny>()?;
                    found.unknown_count += 1;
                    if found.unknown.len() < MAX_UNKNOWN_NAMED && !found.unknown.contains(&name) {
                        found.unknown.push(name);
                    }
                }
            }
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
        Ok(self
            .names
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| name.chars().take(MAX_NAME_CHARS).collect()))
    }
}

struct Elements {
    max: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while found.len() <= self.max {
            match elements.next_element::<&RawValue>()? {
                Some(raw) => found.push(raw.get()),
                None => return Ok(found),
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
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
    fn what_is_not_one_object_is_refused() {
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
