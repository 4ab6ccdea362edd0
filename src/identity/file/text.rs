//! The texts of an identity file, parsed once into types that only hold valid values.

use std::time::{Duration, SystemTime};

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, de::Error};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    domain::{
        text::{Actor, CustomerId},
        visible,
    },
    identity::{
        hash::Hash,
        roles::{Role, Roles},
        signatures::Algorithm,
    },
};

/// The maximum `leeway_seconds`.
const MAX_LEEWAY_SECONDS: u64 = 300;

pub(super) fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Actor, D::Error> {
    visible::parse(&String::deserialize(from)?).map_err(|rule| D::Error::custom(format_args!("the name {rule}")))
}

pub(super) fn optional_customer<'de, D: Deserializer<'de>>(from: D) -> Result<Option<CustomerId>, D::Error> {
    let customer = visible::parse(&String::deserialize(from)?);
    customer.map(Some).map_err(|rule| D::Error::custom(format_args!("the customer id {rule}")))
}

pub(super) fn roles<'de, D: Deserializer<'de>>(from: D) -> Result<Roles, D::Error> {
    let roles = Vec::<Role>::deserialize(from)?;
    if roles.is_empty() {
        return Err(D::Error::custom("roles must name at least one role"));
    }
    Ok(roles.into_iter().collect())
}

pub(super) fn sha256<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
    let text = String::deserialize(from)?;
    let bytes = match text.len() {
        64 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
        _ => BASE64.decode(text.as_bytes()).ok(),
    };
    let hash = bytes.and_then(|bytes| Hash::try_from(bytes).ok());
    hash.ok_or_else(|| {
        D::Error::custom("sha256 must be the hash of a key: 64 hexadecimal digits, or 44 characters of base64")
    })
}

pub(super) fn expiry<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
    let time = toml::value::Datetime::deserialize(from)?;
    instant(&time.to_string()).map(Some).map_err(D::Error::custom)
}

/// A date and time with its offset, as in RFC 3339.
///
/// # Errors
/// A description, for any other text.
pub fn instant(text: &str) -> Result<SystemTime, String> {
    let wrong =
        || format!("'{}' is not a date and time with an offset, as in 2027-01-31T00:00:00Z", text.escape_debug());
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    let seconds = u64::try_from(time.unix_timestamp()).map_err(|_| wrong())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

pub(super) fn algorithms<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Algorithm>, D::Error> {
    let algorithms = Vec::deserialize(from)?;
    if algorithms.is_empty() {
        return Err(D::Error::custom("algorithms must name at least one algorithm"));
    }
    Ok(algorithms)
}

pub(super) fn leeway<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let seconds = u64::deserialize(from)?;
    if seconds > MAX_LEEWAY_SECONDS {
        return Err(D::Error::custom(format_args!("leeway_seconds must be at most {MAX_LEEWAY_SECONDS}")));
    }
    Ok(seconds)
}

pub(super) fn issuer<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let issuer = String::deserialize(from)?;
    if issuer.is_empty() { Err(D::Error::custom("issuer must not be empty")) } else { Ok(issuer) }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

pub(super) fn audience<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let many = match OneOrMany::deserialize(from)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    };
    let is_valid = !many.is_empty() && many.iter().all(|one| !one.is_empty());
    if is_valid { Ok(many) } else { Err(D::Error::custom("audience must be a text or a list of texts")) }
}
