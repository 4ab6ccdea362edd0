//! Times as RFC 3339 text.

use std::fmt;

use serde::{Serialize, Serializer};
use time::{OffsetDateTime, UtcOffset, format_description::well_known};

use crate::domain::timestamp::Timestamp;

/// The maximum number of fraction digits that are accepted.
const MAX_FRACTION_DIGITS: usize = 9;

/// A time, formatted as RFC 3339 in UTC: without a fraction, or with milliseconds or microseconds, whichever suffices.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.0.as_micros()) * 1_000;
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| fmt::Error)?;
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second, micros) = at.to_hms_micro();
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month))?;
        match micros {
            0 => f.write_str("Z"),
            _ if micros % 1_000 == 0 => write!(f, ".{:03}Z", micros / 1_000),
            _ => write!(f, ".{micros:06}Z"),
        }
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Parses RFC 3339 text, truncated to microseconds; `None` if it is invalid, or outside the years 1 to 9999.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    // RFC 3339 permits a space instead of the T, which this API never accepted; leap seconds, which a timestamp cannot hold; and any number of
    // digits, of which those past the ninth would be ignored.
    let has_letter = matches!(text.as_bytes().get(10), Some(b'T' | b't'));
    let is_leap_second = text.get(17..19) == Some("60");
    let fraction = text.get(20..).unwrap_or_default();
    if !has_letter || is_leap_second || fraction.bytes().take_while(u8::is_ascii_digit).count() > MAX_FRACTION_DIGITS {
        return None;
    }
    let at = OffsetDateTime::parse(text, &well_known::Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    let micros = i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000)).ok()?;
    (1..=9_999).contains(&at.year()).then(|| Timestamp::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(micros: i64) -> String {
        Rfc3339(Timestamp::from_micros(micros)).to_string()
    }

    #[test]
    fn a_time_is_shown_as_short_as_it_is_exact() {
        assert_eq!(show(0), "1970-01-01T00:00:00Z");
        assert_eq!(show(1_736_937_000_000_000), "2025-01-15T10:30:00Z");
        assert_eq!(show(1_736_937_000_250_000), "2025-01-15T10:30:00.250Z");
        assert_eq!(show(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(show(951_782_400_000_000), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for day in (-719_162..2_932_896).step_by(997) {
            let micros = day * 86_400_000_000 + 45_296_123_456;
            assert_eq!(parse(&show(micros)).map(Timestamp::as_micros), Some(micros), "{}", show(micros));
        }
    }

    #[test]
    fn offsets_and_fractions_are_understood_and_nonsense_is_refused() {
        let at = |text| parse(text).map(|at| show(at.as_micros()));
        assert_eq!(at("2025-01-15t12:30:00.1234567+02:00").as_deref(), Some("2025-01-15T10:30:00.123456Z"));
        for text in [
            "",
            "2025",
            "2025-01-15",
            "2025-01-15T10:30:00",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-01-15T24:00:00Z",
            "2025-01-15T10:30:60Z",
            "2025-01-15 10:30:00Z",
            "2025-01-15T10:30:00.Z",
            "2025-01-15T10:30:00Zx",
            "2025-01-15T10:30:00+2:00",
            "2025-01-15T10:30:00 02:00",
            "0000-01-01T00:00:00Z",
            "2025-01-15T10:30:00.1234567890Z",
            "+025-01-15T10:30:00Z",
            "9999-12-31T23:59:59-00:01",
            "２０２５-01-15T10:30:00Z",
        ] {
            assert_eq!(at(text), None, "{text:?}");
        }
    }
}
