//! The violations in the input of a request, all reported at once.

use super::fields::{Field, FieldPath};
use crate::{
    application::tokens::InvalidCursor,
    domain::{
        ids::OrderId,
        text::{Text, TextRule},
        visible,
    },
};

/// One violation in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where it is.
    pub field: FieldPath,
    /// The constraint.
    pub description: String,
}

/// The maximum number of reported violations of one request.
const MAX_VIOLATIONS: usize = 1_000;

/// All violations in the input.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    list: Vec<Violation>,
    /// One of them concerns a cursor or token of another log.
    names_another_log: bool,
    /// A cursor or token cannot be checked yet: not a violation by the client, but the request cannot proceed.
    log_is_unknown: bool,
}

impl Violations {
    /// Records a violation of `field`.
    pub fn add(&mut self, field: impl Into<FieldPath>, description: impl ToString) {
        // More would not help the client.
        if self.list.len() >= MAX_VIOLATIONS {
            return;
        }
        self.list.push(Violation { field: field.into(), description: description.to_string() });
    }

    /// Records a violation by a cursor or token.
    pub fn add_cursor(&mut self, field: Field, error: InvalidCursor) {
        match error {
            InvalidCursor::LogUnknown => self.log_is_unknown = true,
            InvalidCursor::AnotherLog => {
                self.names_another_log = true;
                self.add(field, error.description());
            }
            InvalidCursor::Malformed | InvalidCursor::AnotherQuery => self.add(field, error.description()),
        }
    }

    /// Whether there are no violations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && !self.log_is_unknown
    }

    /// Whether the only problem is a cursor or token that cannot be checked yet.
    #[must_use]
    pub fn is_only_unknown(&self) -> bool {
        self.list.is_empty() && self.log_is_unknown
    }

    /// Whether a cursor or token belongs to another log: the client has to start over rather than correct its input.
    #[must_use]
    pub const fn names_another_log(&self) -> bool {
        self.names_another_log
    }

    /// The violations.
    #[must_use]
    pub fn into_vec(self) -> Vec<Violation> {
        self.list
    }

    /// Returns `value` if there are no violations; otherwise all of them.
    ///
    /// # Errors
    /// All violations.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ if !self.is_empty() => Err(self),
            _ => {
                self.add(Field::Request, "is incomplete");
                Err(self)
            }
        }
    }

    /// Unwraps a parsed field or records its error.
    pub fn check<T>(&mut self, field: impl Into<FieldPath>, parsed: Result<T, impl ToString>) -> Option<T> {
        parsed.map_err(|error| self.add(field, error)).ok()
    }

    /// Required text.
    pub fn required<R: TextRule>(&mut self, field: impl Into<FieldPath>, text: &str) -> Option<Text<R>> {
        self.check(field, visible::parse(text))
    }

    /// Optional text: `Some(None)` if omitted.
    #[allow(clippy::option_option, reason = "wrong, left out and given are three things")]
    pub fn optional<R: TextRule>(&mut self, field: impl Into<FieldPath>, text: &str) -> Option<Option<Text<R>>> {
        let parsed = Text::parse_optional(text).and_then(|parsed| visible::check(text).map(|()| parsed));
        self.check(field, parsed)
    }

    /// An order id.
    pub fn order_id(&mut self, field: impl Into<FieldPath>, text: &str) -> Option<OrderId> {
        self.check(field, text.parse::<OrderId>())
    }
}
