//! Times as RFC 3339 text.

use std::fmt;

use serde::{Serialize, Serializer, ser::Error as _};
use time::{OffsetDateTime, UtcOffset, format_description::well_known};

use crate::{codec::digits::pair, domain::timestamp::Timestamp};

/// The maximum number of fraction digits that are accepted.
const MAX_FRACTION_DIGITS: usize = 9;

/// A time, formatted as RFC 3339 in UTC: without a fraction, or with milliseconds or microseconds, whichever suffices.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub Timestamp);

/// The text of a time.
#[derive(Clone, Copy, Debug)]
pub struct TimeText {
    bytes: [u8; Self::LONGEST.len()],
    length: usize,
}

impl TimeText {
    const LONGEST: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";

    fn put(&mut self, place: usize, number: u8) {
        self.bytes[place..place + 2].copy_from_slice(&pair(number));
    }

    /// Ends the text with its zone, after `length` bytes.
    fn end(mut self, length: usize) -> Self {
        self.bytes[length] = b'Z';
        Self { length: length + 1, ..self }
    }
}

impl AsRef<[u8]> for TimeText {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Rfc3339 {
    /// The text.
    ///
    /// # Errors
    /// Outside the years 0 to 9999.
    pub fn text(self) -> Result<TimeText, fmt::Error> {
        let micros = self.0.as_micros();
        let at = OffsetDateTime::from_unix_timestamp(micros.div_euclid(1_000_000)).map_err(|_| fmt::Error)?;
        let micros = micros.rem_euclid(1_000_000);
        let (year, month, day) = at.to_calendar_date();
        let year = u16::try_from(year).map_err(|_| fmt::Error)?;
        let low = |number: i64| number.to_le_bytes()[0];
        let mut text = TimeText { bytes: *TimeText::LONGEST, length: 0 };
        text.put(0, low((year / 100).into()));
        text.put(2, low((year % 100).into()));
        for (place, number) in [(5, month.into()), (8, day), (11, at.hour()), (14, at.minute()), (17, at.second())] {
            text.put(place, number);
        }
        if micros == 0 {
            return Ok(text.end(19));
        }
        text.put(20, low(micros / 10_000));
        text.put(22, low(micros / 100 % 100));
        if micros % 1_000 == 0 {
            return Ok(text.end(23));
        }
        text.put(24, low(micros % 100));
        Ok(text.end(26))
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.text()?.as_ref()).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.text().map_err(S::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(text.as_ref()).map_err(S::Error::custom)?)
    }
}

/// Parses RFC 3339 text, truncated to microseconds; `None` if it is invalid, or outside the years 1 to 9999.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    // RFC 3339 permits a space instead of the T, which this API has never accepted; leap seconds, which a timestamp cannot represent; and any number
    // of digits, of which those past the ninth would be ignored.
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
    fn a_time_is_as_short_as_its_precision_allows() {
        assert_eq!(show(0), "1970-01-01T00:00:00Z");
        assert_eq!(show(1_736_937_000_000_000), "2025-01-15T10:30:00Z");
        assert_eq!(show(1_736_937_000_250_000), "2025-01-15T10:30:00.250Z");
        assert_eq!(show(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(show(951_782_400_000_000), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn formatted_times_are_parsed_back() {
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
