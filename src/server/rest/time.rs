//! Times as RFC 3339 text.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::domain::timestamp::Timestamp;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A time, to be shown as RFC 3339 in UTC: with no fraction, milliseconds or microseconds, whichever is enough.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let (seconds, fraction) = (micros.div_euclid(MICROS_PER_SECOND), micros.rem_euclid(MICROS_PER_SECOND));
        let (days, second) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        let (year, month, day) = civil_of_days(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match fraction {
            0 => f.write_str("Z"),
            _ if fraction % 1_000 == 0 => write!(f, ".{:03}Z", fraction / 1_000),
            _ => write!(f, ".{fraction:06}Z"),
        }
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time from RFC 3339 text, cut to microseconds; `None` if it is none, or outside the years 1 to 9999.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| !bytes.get(at).is_some_and(|found| found.eq_ignore_ascii_case(&byte))) {
        return None;
    }
    let (year, month, day) = (digits(bytes, 0, 4)?, digits(bytes, 5, 2)?, digits(bytes, 8, 2)?);
    let (hour, minute, second) = (digits(bytes, 11, 2)?, digits(bytes, 14, 2)?, digits(bytes, 17, 2)?);
    let is_date = year >= 1 && (1..=12).contains(&month) && (1..=days_of_month(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_micros, zone) = fraction(&bytes[19..])?;
    let seconds = days_of_civil(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second;
    let micros = (seconds - offset_seconds(zone)?) * MICROS_PER_SECOND + fraction_micros;
    let is_in_range = (days_of_civil(1, 1, 1)..days_of_civil(10_000, 1, 1))
        .contains(&micros.div_euclid(MICROS_PER_SECOND * SECONDS_PER_DAY));
    is_in_range.then(|| Timestamp::from_micros(micros))
}

/// Microseconds of a fraction such as ".25", and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let micros = (0..6).fold(0, |sum, at| sum * 10 + if at < count { i64::from(rest[at] - b'0') } else { 0 });
    Some((micros, &rest[count..]))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits(zone, 1, 2)?, digits(zone, 4, 2)?);
            let seconds = hours * 3_600 + minutes * 60;
            (hours <= 23 && minutes <= 59).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn digits(bytes: &[u8], from: usize, count: usize) -> Option<i64> {
    let digits = bytes.get(from..from + count)?;
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
const fn days_of_civil(year: i64, month: i64, day: i64) -> i64 {
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date of a day since 1970-01-01. Source: as above, `civil_from_days`.
const fn civil_of_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
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
            let micros = day * SECONDS_PER_DAY * MICROS_PER_SECOND + 45_296_123_456;
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
