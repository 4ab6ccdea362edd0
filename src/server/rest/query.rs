//! Query parameters: each must be known, given once and well-formed, or the request is refused.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::application::requests::{Field, FieldPath, Given, Violations};

/// The maximum number of invalid parameters that are named.
const MAX_NAMED: usize = 16;
/// The maximum length of an unknown name in a violation, in characters.
const MAX_NAME_CHARS: usize = 64;

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parameters of one request.
#[derive(Clone, Debug)]
pub struct Query<const N: usize> {
    fields: [Field; N],
    values: [Option<String>; N],
}

impl<const N: usize> Query<N> {
    /// Parses the parameters `fields`; records violations for all others, and for repeated, empty or malformed ones.
    pub fn read(uri: &Uri, fields: [Field; N], violations: &mut Violations) -> Self {
        let mut query = Self { fields, values: [const { None }; N] };
        let mut wrong = 0;
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if let Err((field, description)) = query.take(pair) {
                violations.add(field, description);
                wrong += 1;
                if wrong == MAX_NAMED {
                    break;
                }
            }
        }
        query
    }

    fn take(&mut self, pair: &str) -> Result<(), (FieldPath, &'static str)> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).ok_or_else(|| (Field::Query.into(), "must be percent-encoded UTF-8"))?;
        let Some(index) = self.fields.iter().position(|known| known.rest_name() == name) else {
            let name = name.chars().take(MAX_NAME_CHARS).collect();
            return Err((FieldPath::Unknown(name), "is not a parameter of this route"));
        };
        let wrong = |description| (self.fields[index].into(), description);
        let value = decode(value).ok_or_else(|| wrong("must be percent-encoded UTF-8"))?;
        if value.is_empty() {
            return Err(wrong("must not be empty"));
        }
        if self.values[index].is_some() {
            return Err(wrong("must be given once"));
        }
        self.values[index] = Some(value);
        Ok(())
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<&str> {
        let index = self.fields.iter().position(|known| *known == field)?;
        self.values[index].as_deref()
    }

    /// The value of a parameter that is a non-negative integer; records a violation if it is invalid.
    pub fn number(&self, field: Field, violations: &mut Violations) -> Option<i64> {
        let text = self.get(field)?;
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_digits);
        if number.is_none() {
            violations.add(field, "must be a whole number and not negative");
        }
        number
    }

    /// The value of a parameter that is one of `choices`, by name.
    ///
    /// # Errors
    /// If the value is not one of them.
    pub fn choice<T: Copy>(&self, field: Field, choices: &[T], name_of: fn(T) -> &'static str) -> Given<T> {
        let Some(text) = self.get(field) else { return Ok(None) };
        let choice = choices.iter().copied().find(|choice| name_of(*choice) == text);
        choice.map(Some).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|choice| name_of(*choice)).collect();
            format!("must be one of {}", names.join(", "))
        })
    }

    /// The `Link` header to the next page: the same request with `field` set to `value`.
    #[must_use]
    pub fn next_link(&self, path: &str, field: Field, value: &str) -> String {
        let mut link = format!("<{path}");
        let others = self.fields.iter().zip(&self.values).filter(|(other, _)| **other != field);
        let others = others.filter_map(|(other, value)| Some((*other, value.as_deref()?)));
        for (index, (field, value)) in others.chain([(field, value)]).enumerate() {
            link.push(if index == 0 { '?' } else { '&' });
            link.push_str(field.rest_name());
            link.push('=');
            link.extend(utf8_percent_encode(value, RESERVED));
        }
        link.push_str(">; rel=\"next\"");
        link
    }
}

/// Records a violation for every parameter, for a route that has none.
pub fn none(uri: &Uri, violations: &mut Violations) {
    Query::read(uri, [], violations);
}

fn decode(text: &str) -> Option<String> {
    // The crate leaves a malformed escape unchanged; here it is an error.
    let is_escape = |rest: &str| rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    let with_spaces = text.replace('+', " ");
    percent_decode_str(&with_spaces).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [Field; 2] = [Field::Status, Field::PageToken];

    fn read(query: &str) -> (Query<2>, Vec<String>) {
        let mut violations = Violations::default();
        let query = Query::read(&format!("/x?{query}").parse().unwrap(), FIELDS, &mut violations);
        let fields = violations.into_vec().into_iter().map(|violation| violation.field.over_rest().into_owned());
        (query, fields.collect())
    }

    #[test]
    fn every_parameter_must_be_known_unique_and_well_formed() {
        let (query, wrong) = read("status=1%202+3&pageToken=%C3%A9");
        let found = (query.get(Field::Status), query.get(Field::PageToken), wrong.len());
        assert_eq!(found, (Some("1 2 3"), Some("é"), 0));
        let wrong = read("status=1&status=1&page_token=2&pageToken=&%a=1&pageToken=%FF&").1;
        assert_eq!(wrong, ["status", "page_token", "pageToken", "query", "pageToken"]);
    }

    #[test]
    fn the_link_to_the_next_page_keeps_the_other_parameters() {
        let (query, _) = read("pageToken=old&status=x%26y");
        let link = query.next_link("/x", Field::PageToken, "new");
        assert_eq!(link, "</x?status=x%26y&pageToken=new>; rel=\"next\"");
    }
}
