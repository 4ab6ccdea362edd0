//! The start of an event stream.

use super::{fields::Field, violations::Violations};
use crate::{
    application::tokens::{self, Signer},
    ports::event_store::{LogPoint, Revision},
};

/// The point of the log named by a cursor, after which the stream starts. `field` is the part of the request with the cursor.
pub fn cursor(violations: &mut Violations, field: Field, text: &str, signer: Option<&Signer>) -> Option<LogPoint> {
    tokens::decode_cursor(text, signer).map_err(|error| violations.add_cursor(field, error)).ok()
}

/// The first revision of a history; 0 means its start.
pub fn from_revision(violations: &mut Violations, revision: i64) -> Option<Revision> {
    let from = u64::try_from(revision).ok();
    if from.is_none() {
        violations.add(Field::FromRevision, "must not be negative");
    }
    from.map(|from| from.max(1))
}
