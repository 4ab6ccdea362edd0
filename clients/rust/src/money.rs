//! Amounts of money, exact: between decimals and the units and nanos of `google.type.Money`.

use std::{error::Error, fmt};

use crate::google::r#type::Money;

/// One currency a line, with the decimal digits of its minor unit.
const CURRENCIES: &str = include_str!("../currencies.txt");
const NANO_DIGITS: usize = 9;
const NANOS_PER_UNIT: u32 = 1_000_000_000;

/// Why an amount is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MoneyError {
    /// Not the code of a currency that the service accepts.
    UnknownCurrency(String),
    /// Not a plain decimal number, such as `-1.75`.
    NotANumber(String),
    /// Finer than the minor unit of its currency.
    TooPrecise {
        /// Decimal digits that the currency has.
        most_decimals: usize,
    },
    /// Larger than 2^63 - 1 minor units.
    TooLarge,
    /// Units and nanos that contradict each other: different signs, or a unit of nanos and more.
    Malformed,
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCurrency(code) => write!(f, "{code:?} is not the code of a currency that the service takes"),
            Self::NotANumber(text) => write!(f, "{text:?} is not a plain decimal number"),
            Self::TooPrecise { most_decimals } => {
                write!(f, "the amount has more decimals than the {most_decimals} of its currency")
            }
            Self::TooLarge => f.write_str("the amount is larger than 9223372036854775807 minor units"),
            Self::Malformed => f.write_str("units and nanos do not go together"),
        }
    }
}

impl Error for MoneyError {}

impl Money {
    /// An amount of a plain decimal number and the code of a currency: `Money::parse("19.99", "USD")`. Negative amounts are valid, although
    /// no order of the service can have one.
    ///
    /// # Errors
    ///
    /// Any [`MoneyError`] but `Malformed`.
    pub fn parse(amount: &str, currency: &str) -> Result<Money, MoneyError> {
        let digits = minor_digits(currency).ok_or_else(|| MoneyError::UnknownCurrency(currency.to_owned()))?;
        let unsigned = amount.strip_prefix('-').unwrap_or(amount);
        let (whole, decimals) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(decimals) {
            return Err(MoneyError::NotANumber(amount.to_owned()));
        }
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > digits {
            return Err(MoneyError::TooPrecise { most_decimals: digits });
        }
        let sign = if amount.starts_with('-') { "-" } else { "" };
        // The only possible error left is too many digits.
        let minor: i64 = format!("{sign}{whole}{decimals:0<digits$}").parse().map_err(|_| MoneyError::TooLarge)?;
        Money::from_minor(minor, currency)
    }

    /// An amount of whole minor units: `Money::from_minor(1999, "USD")` is 19.99 USD.
    ///
    /// # Errors
    ///
    /// [`MoneyError::UnknownCurrency`], or [`MoneyError::TooLarge`] for `i64::MIN`.
    pub fn from_minor(minor: i64, currency: &str) -> Result<Money, MoneyError> {
        let digits = minor_digits(currency).ok_or_else(|| MoneyError::UnknownCurrency(currency.to_owned()))?;
        if minor == i64::MIN {
            return Err(MoneyError::TooLarge);
        }
        let per_unit = power_of_ten(digits);
        let nanos = minor % per_unit * power_of_ten(NANO_DIGITS - digits);
        // Below a unit, which is a thousand million nanos.
        let nanos = i32::try_from(nanos).map_err(|_| MoneyError::TooLarge)?;
        Ok(Money { currency_code: currency.to_owned(), units: minor / per_unit, nanos })
    }

    /// The amount as a plain decimal number, with all decimals of the currency: `19.99`.
    ///
    /// # Errors
    ///
    /// [`MoneyError::Malformed`].
    pub fn amount(&self) -> Result<String, MoneyError> {
        let signs_differ = self.units.signum() * i64::from(self.nanos.signum()) < 0;
        if signs_differ || self.nanos.unsigned_abs() >= NANOS_PER_UNIT {
            return Err(MoneyError::Malformed);
        }
        let sign = if self.units < 0 || self.nanos < 0 { "-" } else { "" };
        let whole = self.units.unsigned_abs();
        let nanos = format!("{:0NANO_DIGITS$}", self.nanos.unsigned_abs());
        let digits = minor_digits(&self.currency_code).unwrap_or(0);
        let decimals = format!("{:0<digits$}", nanos.trim_end_matches('0'));
        let point = if decimals.is_empty() { "" } else { "." };
        Ok(format!("{sign}{whole}{point}{decimals}"))
    }

    /// The amount in whole minor units of its currency: 1999 for 19.99 USD.
    ///
    /// # Errors
    ///
    /// Any [`MoneyError`], if the amount is not one of those that [`parse`](Money::parse) makes.
    pub fn minor(&self) -> Result<i64, MoneyError> {
        let checked = Money::parse(&self.amount()?, &self.currency_code)?;
        let digits = minor_digits(&checked.currency_code).unwrap_or(0);
        Ok(checked.units * power_of_ten(digits) + i64::from(checked.nanos) / power_of_ten(NANO_DIGITS - digits))
    }
}

/// The decimal digits of the minor unit: 2 for USD (cents), 0 for JPY.
fn minor_digits(currency: &str) -> Option<usize> {
    let mut known = CURRENCIES.lines().filter_map(|line| line.split_once(' '));
    known.find(|(code, _)| *code == currency).and_then(|(_, digits)| digits.parse().ok())
}

fn power_of_ten(digits: usize) -> i64 {
    (0..digits).fold(1, |power, _| power * 10)
}
