//! The id of a call, by which its client finds it in the log.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header with the id of a call, in requests and in their responses.
pub const CALL_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The maximum length of the id that a client gives a call.
const MAX_ID_BYTES: usize = 128;

/// The id of a call, for logs. It is not the request id of a command, which makes retries safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallId {
    /// Given by the client.
    Given(HeaderValue),
    /// Generated here, at random.
    Made(u64),
}

impl CallId {
    /// Generates an id.
    #[must_use]
    pub fn new() -> Self {
        Self::Made(fastrand::u64(..))
    }

    /// The id in `headers`, if it is well-formed: up to 128 visible ASCII characters, given once.
    #[must_use]
    pub fn given(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(CALL_ID).iter();
        let (Some(id), None) = (given.next(), given.next()) else { return None };
        let is_well_formed = (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
        is_well_formed.then(|| Self::Given(id.clone()))
    }

    /// The header of the response.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        let mut value = match self {
            Self::Given(id) => id.clone(),
            Self::Made(number) => {
                let mut digits = [0; 16];
                for (place, digit) in digits.iter_mut().rev().enumerate() {
                    *digit = b"0123456789abcdef"[(number >> (4 * place) & 15) as usize];
                }
                HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&digits))
                    .unwrap_or(const { HeaderValue::from_static("") })
            }
        };
        // Never indexed: each id is different, and the tables of recent headers, which HTTP/2 keeps on both sides, are for headers that repeat.
        value.set_sensitive(true);
        value
    }
}

impl Default for CallId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(id) => f.write_str(id.to_str().unwrap_or_default()),
            Self::Made(number) => write!(f, "{number:016x}"),
        }
    }
}
