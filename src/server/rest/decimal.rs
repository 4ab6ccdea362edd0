//! Amounts of money as decimal text, read and written exactly.

use serde::{Serialize, Serializer, ser::Error};
use serde_json::value::RawValue;

use crate::{
    codec::digits::Digits,
    domain::money::{Currency, Money, MoneyError},
};

/// The text is not a decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADecimal;

/// A decimal number in JSON syntax: its digits, without zeros at either end, times ten to the power of `-scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// Parses exactly the grammar of JSON numbers: no plus sign, no white space, no NaN.
    ///
    /// # Errors
    /// [`NotADecimal`].
    pub fn parse(text: &'a str) -> Result<Self, NotADecimal> {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, read_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return Err(NotADecimal),
            Some(parts) => parts,
            None => (number, ""),
        };
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let has_leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || has_leading_zero || !is_digits(whole) || !is_digits(fraction) {
            return Err(NotADecimal);
        }
        Ok(Self { is_negative, whole, fraction, exponent })
    }

    /// The number as an amount of `currency`, if that is exact.
    ///
    /// # Errors
    /// [`MoneyError`].
    pub fn to_money(&self, currency: Currency) -> Result<Money, MoneyError> {
        let digits = || self.whole.bytes().chain(self.fraction.bytes());
        let count = self.whole.len() + self.fraction.len();
        let leading_zeros = digits().take_while(|digit| *digit == b'0').count();
        if leading_zeros == count {
            return Money::from_minor(0, currency);
        }
        if self.is_negative {
            return Err(MoneyError::Negative);
        }
        let trailing_zeros = digits().rev().take_while(|digit| *digit == b'0').count();
        let length = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        // The number of significant digits after the decimal point.
        let scale = length(self.fraction.len()).saturating_sub(length(trailing_zeros)).saturating_sub(self.exponent);
        let max_decimals = currency.exponent();
        if scale > max_decimals.into() {
            return Err(MoneyError::TooPrecise { max_decimals });
        }
        // 10^19 units exceed 64 bits of minor units in every currency.
        let significant = count - leading_zeros - trailing_zeros;
        if length(significant).saturating_sub(scale) > 19 {
            return Err(MoneyError::TooLarge);
        }
        let mantissa = digits()
            .skip(leading_zeros)
            .take(significant)
            .fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        let (mantissa, scale) = match u32::try_from(scale) {
            Ok(scale) => (mantissa, scale),
            // At most 19 digits before the point, so the power is at most 10^18.
            Err(_) => (mantissa * 10_i128.pow(u32::try_from(-scale).unwrap_or(0)), 0),
        };
        Money::from_decimal(mantissa, scale, currency)
    }
}

fn read_exponent(text: &str) -> Result<i64, NotADecimal> {
    let (is_negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotADecimal);
    }
    // An exponent that does not fit is out of range in every currency anyway.
    let exponent = digits.parse().unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
    Ok(if is_negative { -exponent } else { exponent })
}

/// An amount in minor units, serialised as a plain JSON number with all its decimals.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    minor: i128,
    decimals: u32,
}

impl Amount {
    /// A sum of `minor` units of `currency`.
    #[must_use]
    pub fn of_minor(minor: i128, currency: Currency) -> Self {
        Self { minor, decimals: currency.exponent() }
    }
}

impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self::of_minor(money.minor().into(), money.currency())
    }
}

/// The code of a currency.
#[derive(Clone, Copy, Debug)]
pub struct Code(pub Currency);

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.code())
    }
}

/// The text of an amount.
#[derive(Clone, Copy, Debug)]
pub struct AmountText {
    bytes: [u8; Self::MAX],
    start: usize,
}

impl AmountText {
    /// Room for the 39 digits of an i128, sign and point.
    const MAX: usize = 48;

    fn put(&mut self, bytes: &[u8]) {
        let end = self.start;
        self.start -= bytes.len();
        self.bytes[self.start..end].copy_from_slice(bytes);
    }
}

impl AsRef<[u8]> for AmountText {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl Amount {
    /// The plain number, written from its end.
    #[must_use]
    pub fn text(self) -> AmountText {
        let mut text = AmountText { bytes: [b'0'; AmountText::MAX], start: AmountText::MAX };
        let magnitude = self.minor.unsigned_abs();
        let whole = if self.decimals == 0 {
            magnitude
        } else {
            let (whole, fraction) = match u64::try_from(magnitude) {
                // Divided as a 64-bit number, which costs far less.
                Ok(magnitude) => {
                    let per_unit = 10_u64.pow(self.decimals);
                    ((magnitude / per_unit).into(), magnitude % per_unit)
                }
                Err(_) => {
                    let per_unit = 10_u128.pow(self.decimals);
                    (magnitude / per_unit, u64::try_from(magnitude % per_unit).unwrap_or_default())
                }
            };
            let end = text.start;
            text.put(Digits::of(fraction).as_ref());
            // The buffer already has the leading zeros of the fraction.
            text.start = end - self.decimals as usize;
            text.put(b".");
            whole
        };
        match u64::try_from(whole) {
            Ok(whole) => text.put(Digits::of(whole).as_ref()),
            Err(_) => text.put(whole.to_string().as_bytes()),
        }
        if self.minor < 0 {
            text.put(b"-");
        }
        text
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.text();
        let text = std::str::from_utf8(text.as_ref()).map_err(S::Error::custom)?;
        // The number is sent with exactly these digits; through f64 it would not be.
        serde_json::from_str::<&RawValue>(text).map_err(S::Error::custom)?.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Result<i64, MoneyError> {
        let usd = Currency::parse("USD").unwrap();
        Decimal::parse(text).unwrap().to_money(usd).map(|money| money.minor())
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        let too_precise = Err(MoneyError::TooPrecise { max_decimals: 2 });
        let long_zeros = format!("29.99{}", "0".repeat(1_000));
        for (text, expected) in [
            ("29.99", Ok(2_999)),
            ("29.990", Ok(2_999)),
            ("29.991", too_precise),
            ("1e2", Ok(10_000)),
            ("1E+2", Ok(10_000)),
            ("100e-2", Ok(100)),
            ("1e-2", Ok(1)),
            ("1e-3", too_precise),
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("0e99999999999999999999", Ok(0)),
            ("-1", Err(MoneyError::Negative)),
            ("92233720368547758.07", Ok(i64::MAX)),
            ("92233720368547758.08", Err(MoneyError::TooLarge)),
            ("1e17", Err(MoneyError::TooLarge)),
            ("1e99999999999999999999", Err(MoneyError::TooLarge)),
            ("1e-99999999999999999999", too_precise),
            ("123456789012345678901234567890123456789012", Err(MoneyError::TooLarge)),
            (&long_zeros, Ok(2_999)),
            ("0.1", Ok(10)),
            ("0.30000000000000004", too_precise),
        ] {
            assert_eq!(usd(text), expected, "{text:.40}");
        }
    }

    #[test]
    fn only_the_grammar_of_json_numbers_is_a_decimal() {
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "+5",
            " 5",
            "5 ",
            "05",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e",
            "1e+",
            "1.e2",
            "0x10",
            "1,5",
            "1_0",
            "٣",
            "1e1.5",
            "--1",
        ] {
            assert_eq!(Decimal::parse(text), Err(NotADecimal), "{text:?}");
        }
    }

    #[test]
    fn an_amount_is_written_with_all_its_decimals() {
        let show =
            |minor, code| serde_json::to_string(&Amount::of_minor(minor, Currency::parse(code).unwrap())).unwrap();
        assert_eq!(show(105_997, "USD"), "1059.97");
        assert_eq!(show(5, "USD"), "0.05");
        assert_eq!(show(-5, "USD"), "-0.05");
        assert_eq!(show(0, "KWD"), "0.000");
        assert_eq!(show(i128::from(u64::MAX) + 1, "JPY"), "18446744073709551616");
        assert_eq!(show(900_719_925_474_099_301, "USD"), "9007199254740993.01");
        assert_eq!(show(1_500, "JPY"), "1500");
        assert_eq!(show(i128::MAX, "KWD"), "170141183460469231731687303715884105.727");
    }
}
