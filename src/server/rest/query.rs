//! Query parameters: each must be known, given once and well-formed, or the request is refused.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::application::requests::Violations;

/// The maximum number of invalid parameters that are named.
const MAX_NAMED: usize = 16;
/// The maximum length of an unknown name in a violation, in characters.
const MAX_NAME_CHARS: usize = 64;

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parameters of one request.
#[derive(Clone, Debug)]
pub struct Query<const N: usize> {
    names: [&'static str; N],
    values: [Option<String>; N],
}

impl<const N: usize> Query<N> {
    /// Parses the parameters `names`; records violations for all others, and for repeated, empty or malformed ones.
    pub fn read(uri: &Uri, names: [&'static str; N], violations: &mut Violations) -> Self {
        let mut query = Self { names, values: [const { None }; N] };
        let mut wrong = 0;
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if let Err((name, description)) = query.take(pair) {
                violations.add(name, description);
                wrong += 1;
                if wrong == MAX_NAMED {
                    break;
                }
            }
        }
        query
    }

    fn take(&mut self, pair: &str) -> Result<(), (String, &'static str)> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).ok_or_else(|| ("query".to_owned(), "must be percent-encoded UTF-8"))?;
        let wrong = |description| (name.chars().take(MAX_NAME_CHARS).collect(), description);
        let Some(index) = self.names.iter().position(|known| *known == name) else {
            return Err(wrong("is not a parameter of this route"));
        };
        let value = decode(value).ok_or_else(|| wrong("must be percent-encoded UTF-8"))?;
        if value.is_empty() {
            return Err(wrong("must not be empty"));
        }
        if self.values[index].replace(value).is_some() {
            return Err(wrong("must be given once"));
        }
        Ok(())
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.names.iter().position(|known| *known == name)?;
        self.values[index].as_deref()
    }

    /// The value of a parameter that is a non-negative integer; records a violation if it is invalid.
    pub fn number(&self, name: &str, violations: &mut Violations) -> Option<i64> {
        let text = self.get(name)?;
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_digits);
        if number.is_none() {
            violations.add(name, "must be a whole number and not negative");
        }
        number
    }

    /// The value of a parameter that is one of `choices`, by name; records a violation if it is invalid.
    pub fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[T],
        name_of: fn(T) -> &'static str,
        violations: &mut Violations,
    ) -> Option<T> {
        let text = self.get(name)?;
        let choice = choices.iter().copied().find(|choice| name_of(*choice) == text);
        if choice.is_none() {
            let names: Vec<&str> = choices.iter().map(|choice| name_of(*choice)).collect();
            violations.add(name, format!("must be one of {}", names.join(", ")));
        }
        choice
    }

    /// The `Link` header to the next page: the same request with `name` set to `value`.
    #[must_use]
    pub fn next_link(&self, path: &str, name: &str, value: &str) -> String {
        let mut link = format!("<{path}");
        let others = self.names.iter().zip(&self.values).filter(|(other, _)| **other != name);
        let others = others.filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        for (index, (name, value)) in others.chain([(name, value)]).enumerate() {
            link.push(if index == 0 { '?' } else { '&' });
            link.push_str(name);
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

    fn read(query: &str) -> (Query<2>, Vec<String>) {
        let mut violations = Violations::default();
        let query = Query::read(&format!("/x?{query}").parse().unwrap(), ["a", "b"], &mut violations);
        (query, violations.into_vec().into_iter().map(|violation| violation.field).collect())
    }

    #[test]
    fn every_parameter_is_known_given_once_and_well_formed() {
        let (query, wrong) = read("a=1%202+3&b=%C3%A9");
        assert_eq!((query.get("a"), query.get("b"), wrong.len()), (Some("1 2 3"), Some("é"), 0));
        assert_eq!(read("a=1&a=1&c=2&b=&%a=1&b=%FF&").1, ["a", "c", "b", "query", "b"]);
    }

    #[test]
    fn the_link_to_the_next_page_keeps_the_other_parameters() {
        let (query, _) = read("b=x%26y&a=old");
        assert_eq!(query.next_link("/x", "a", "new"), "</x?b=x%26y&a=new>; rel=\"next\"");
    }
}
