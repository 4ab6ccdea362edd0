//! The request headers that the service uses.

use http::{HeaderMap, HeaderName, header};

use super::problem::CONSISTENCY_TOKEN;

use crate::{
    application::requests::{ConsistencyDraft, ConsistencyLevel, Field, MetaDraft, Violations},
    ports::event_store::Revision,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ACTOR: HeaderName = HeaderName::from_static("x-actor");

/// The value of the header `field` if present; records a violation if it is repeated, empty, or not text.
pub fn single<'a>(headers: &'a HeaderMap, field: Field, violations: &mut Violations) -> Option<&'a str> {
    let mut values = match field {
        // The headers of each command, with names that are created once.
        Field::RequestId => headers.get_all(IDEMPOTENCY_KEY),
        Field::Actor => headers.get_all(ACTOR),
        Field::ConsistencyToken => headers.get_all(CONSISTENCY_TOKEN),
        other => headers.get_all(other.rest_name()),
    }
    .iter();
    let value = values.next()?;
    if values.next().is_some() {
        violations.add(field, "must be given once");
        return None;
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok("") => violations.add(field, "must not be empty"),
        Ok(text) => return Some(text),
        Err(_) => violations.add(field, "must be UTF-8 text"),
    }
    None
}

/// The condition of `If-Match` on the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// No condition, or that the order exists, which a command requires anyway.
    Anything,
    /// The order is at this revision.
    Revision(i64),
    /// The order is at one of these revisions; empty if the tags cannot be those of an order.
    OneOf(Vec<Revision>),
}

/// The headers of a command.
#[derive(Clone, Debug)]
pub struct CommandHeaders<'a> {
    request_id: &'a str,
    actor: &'a str,
    /// The condition.
    pub if_match: IfMatch,
}

impl<'a> CommandHeaders<'a> {
    /// Reads the headers of a command.
    pub fn read(headers: &'a HeaderMap, violations: &mut Violations) -> Self {
        let request_id = single(headers, Field::RequestId, violations).unwrap_or_default();
        let actor = single(headers, Field::Actor, violations).unwrap_or_default();
        let if_match = if_match(headers, violations);
        if matches!(&if_match, IfMatch::OneOf(revisions) if !revisions.is_empty()) && !request_id.is_empty() {
            // A retry of such a command could not know on which of the revisions it was first decided.
            violations.add(
                Field::ExpectedRevision,
                "must be a single strong entity tag, or *, together with Idempotency-Key",
            );
        }
        Self { request_id, actor, if_match }
    }

    /// The headers for a command on an existing order, which is never at revision 0, so the tag "0" can only fail.
    #[must_use]
    pub fn of_existing_order(self) -> Self {
        let if_match = match self.if_match {
            IfMatch::Revision(0) => IfMatch::OneOf(Vec::new()),
            other => other,
        };
        Self { if_match, ..self }
    }

    /// The headers in the application's form.
    #[must_use]
    pub const fn draft(&self) -> MetaDraft<'a> {
        let expected_revision = match self.if_match {
            IfMatch::Revision(revision) => Some(revision),
            IfMatch::Anything | IfMatch::OneOf(_) => None,
        };
        MetaDraft { request_id: self.request_id, expected_revision, actor: self.actor }
    }
}

fn if_match(headers: &HeaderMap, violations: &mut Violations) -> IfMatch {
    match tags(headers, header::IF_MATCH) {
        Ok(Tags::None | Tags::Any) => IfMatch::Anything,
        Ok(Tags::List(tags)) => match tags.as_slice() {
            [Tag { revision: Some(revision), is_weak: false }] => {
                i64::try_from(*revision).map_or(IfMatch::OneOf(Vec::new()), IfMatch::Revision)
            }
            // A weak tag never passes the strong comparison that If-Match requires (RFC 9110, 13.1.1).
            several => {
                IfMatch::OneOf(several.iter().filter(|tag| !tag.is_weak).filter_map(|tag| tag.revision).collect())
            }
        },
        Err(description) => {
            violations.add(Field::ExpectedRevision, description);
            IfMatch::Anything
        }
    }
}

/// Whether the client already has the order at `revision`.
#[must_use]
pub fn has_already(headers: &HeaderMap, revision: Revision) -> bool {
    match tags(headers, header::IF_NONE_MATCH) {
        Ok(Tags::Any) => true,
        Ok(Tags::List(tags)) => tags.iter().any(|tag| tag.revision == Some(revision)),
        Ok(Tags::None) | Err(_) => false,
    }
}

/// Records a violation if `If-None-Match` is not a list of entity tags.
pub fn check_if_none_match(headers: &HeaderMap, violations: &mut Violations) {
    if let Err(description) = tags(headers, header::IF_NONE_MATCH) {
        violations.add(Field::IfNoneMatch, description);
    }
}

enum Tags {
    None,
    Any,
    List(Vec<Tag>),
}

struct Tag {
    /// `None` for a tag that is not one of this service.
    revision: Option<Revision>,
    is_weak: bool,
}

/// The entity tags of a header. Source: RFC 9110, 8.8.3 and 13.1.
fn tags(headers: &HeaderMap, name: HeaderName) -> Result<Tags, &'static str> {
    const MALFORMED: &str = "must be * or entity tags such as \"3\"";
    let mut found = Vec::new();
    for value in headers.get_all(&name) {
        let mut rest = std::str::from_utf8(value.as_bytes()).map_err(|_| MALFORMED)?.trim();
        if rest == "*" && headers.get_all(&name).iter().count() == 1 {
            return Ok(Tags::Any);
        }
        loop {
            let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
            let opaque = quoted.strip_prefix('"').ok_or(MALFORMED)?;
            let (opaque, after) = opaque.split_once('"').ok_or(MALFORMED)?;
            found.push(Tag { revision: own_revision(opaque), is_weak });
            rest = after.trim_start();
            if rest.is_empty() {
                break;
            }
            rest = rest.strip_prefix(',').ok_or(MALFORMED)?.trim_start();
        }
    }
    Ok(if found.is_empty() { Tags::None } else { Tags::List(found) })
}

fn own_revision(opaque: &str) -> Option<Revision> {
    let revision: Revision = opaque.parse().ok()?;
    // Tags are compared bytewise: "03" is not "3".
    (revision.to_string() == opaque).then_some(revision)
}

/// The required freshness of the reply.
pub fn consistency<'a>(headers: &'a HeaderMap, violations: &mut Violations) -> ConsistencyDraft<'a> {
    match single(headers, Field::ConsistencyToken, violations) {
        Some(token) => ConsistencyDraft { level: ConsistencyLevel::AtLeast, token },
        None => ConsistencyDraft::default(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(value: &'static str) -> (IfMatch, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_static(value));
        let mut violations = Violations::default();
        (if_match(&headers, &mut violations), violations.is_empty())
    }

    #[test]
    fn the_names_that_are_built_once_are_those_of_their_fields() {
        let names =
            [(Field::RequestId, IDEMPOTENCY_KEY), (Field::Actor, ACTOR), (Field::ConsistencyToken, CONSISTENCY_TOKEN)];
        for (field, name) in names {
            assert!(field.rest_name().eq_ignore_ascii_case(name.as_str()), "{field:?}");
        }
    }

    #[test]
    fn if_match_takes_a_tag_a_list_or_a_star() {
        assert_eq!(parse("\"3\""), (IfMatch::Revision(3), true));
        assert_eq!(parse("*"), (IfMatch::Anything, true));
        assert_eq!(parse("\"1\", W/\"2\" ,\"3\",\"x,y\""), (IfMatch::OneOf(vec![1, 3]), true));
        for never in
            ["\"03\"", "W/\"3\"", "\"abc\"", "\"-1\"", "\"99999999999999999999\"", "\"9223372036854775808\"", "\"\""]
        {
            assert_eq!(parse(never), (IfMatch::OneOf(Vec::new()), true), "{never}");
        }
        for wrong in ["3", "\"3", "3\"", "\"1\" \"2\"", "\"1\",", "*, \"1\"", "'3'", ","] {
            assert!(!parse(wrong).1, "{wrong}");
        }
    }
}
