//! Exact money: whole minor units of one currency. No float anywhere.

use std::fmt;

/// An ISO 4217 currency that is in use, with its minor unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; 3],
    /// Decimal digits of the minor unit: 2 for USD (cents), 0 for JPY.
    exponent: u8,
}

/// Codes by the number of decimal digits of their minor unit, from ISO 4217 list one. Precious metals, testing codes and funds are omitted: they are
/// not used to pay orders.
const CODES_BY_EXPONENT: [(u8, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC \
         CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES \
         KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR \
         NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT \
         TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "UYW"),
];

impl Currency {
    /// The currency of an upper-case ISO 4217 code.
    ///
    /// # Errors
    /// [`MoneyError::UnknownCurrency`].
    pub fn parse(code: &str) -> Result<Self, MoneyError> {
        let bytes: [u8; 3] = code.as_bytes().try_into().map_err(|_| MoneyError::UnknownCurrency)?;
        // Fast path for the common case.
        if code == "USD" || code == "EUR" {
            return Ok(Self { code: bytes, exponent: 2 });
        }
        if !bytes.iter().all(u8::is_ascii_uppercase) {
            return Err(MoneyError::UnknownCurrency);
        }
        CODES_BY_EXPONENT
            .iter()
            .find(|(_, codes)| codes.split_ascii_whitespace().any(|known| known == code))
            .map(|&(exponent, _)| Self { code: bytes, exponent })
            .ok_or(MoneyError::UnknownCurrency)
    }

    /// The codes of all accepted currencies.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        CODES_BY_EXPONENT.iter().flat_map(|(_, codes)| codes.split_ascii_whitespace())
    }

    /// The ISO 4217 code, for example "USD".
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or("???")
    }

    /// The ISO 4217 code as three ASCII letters.
    #[must_use]
    pub const fn code_bytes(&self) -> [u8; 3] {
        self.code
    }

    /// Decimal digits of the minor unit.
    #[must_use]
    pub fn exponent(&self) -> u32 {
        self.exponent.into()
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A non-negative amount, in whole minor units of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Why an amount was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// The code is not a known ISO 4217 currency.
    UnknownCurrency,
    /// The amount is negative.
    Negative,
    /// The amount is finer than the minor unit of its currency, for example a tenth of a cent.
    TooPrecise {
        /// The number of decimal digits of the currency.
        max_decimals: u32,
    },
    /// The amount exceeds a 64-bit count of minor units.
    TooLarge,
    /// The two parts of a `google.type.Money` disagree: different signs, or nanos outside ±999 999 999.
    MalformedParts,
    /// A sum has two currencies.
    MixedCurrencies,
}

const NANO_DIGITS: u32 = 9;

impl Money {
    /// An amount of `minor` minor units of `currency`.
    ///
    /// # Errors
    /// [`MoneyError::Negative`].
    pub fn from_minor(minor: i64, currency: Currency) -> Result<Self, MoneyError> {
        if minor < 0 { Err(MoneyError::Negative) } else { Ok(Self { minor, currency }) }
    }

    /// An amount of `mantissa` times ten to the power of minus `scale` units of `currency`, if that is exact.
    ///
    /// # Errors
    /// [`MoneyError::Negative`], [`MoneyError::TooPrecise`] or [`MoneyError::TooLarge`].
    pub fn from_decimal(mantissa: i128, scale: u32, currency: Currency) -> Result<Self, MoneyError> {
        if mantissa < 0 {
            return Err(MoneyError::Negative);
        }
        let exponent = currency.exponent();
        let minor = if scale <= exponent {
            10_i128
                .checked_pow(exponent - scale)
                .and_then(|factor| mantissa.checked_mul(factor))
                .ok_or(MoneyError::TooLarge)?
        } else {
            let too_precise = MoneyError::TooPrecise { max_decimals: exponent };
            match 10_i128.checked_pow(scale - exponent) {
                Some(divisor) if mantissa % divisor == 0 => mantissa / divisor,
                None if mantissa == 0 => 0,
                _ => return Err(too_precise),
            }
        };
        Ok(Self { minor: i64::try_from(minor).map_err(|_| MoneyError::TooLarge)?, currency })
    }

    /// An amount from the two parts of a `google.type.Money`.
    ///
    /// # Errors
    /// Any [`MoneyError`] but the one on mixed currencies.
    pub fn from_units_and_nanos(units: i64, nanos: i32, currency: Currency) -> Result<Self, MoneyError> {
        let signs_agree = (units >= 0 && nanos >= 0) || (units <= 0 && nanos <= 0);
        if !signs_agree || nanos.unsigned_abs() > 999_999_999 {
            return Err(MoneyError::MalformedParts);
        }
        Self::from_decimal(i128::from(units) * 10_i128.pow(NANO_DIGITS) + i128::from(nanos), NANO_DIGITS, currency)
    }

    /// Whole units and nanos (billionths of a unit), as in `google.type.Money`.
    #[must_use]
    pub fn units_and_nanos(&self) -> (i64, i32) {
        let exponent = self.currency.exponent();
        let minor_per_unit = 10_i64.pow(exponent);
        // Below one billion: the remainder is smaller than one unit.
        let nanos = (self.minor % minor_per_unit) * 10_i64.pow(NANO_DIGITS - exponent);
        (self.minor / minor_per_unit, i32::try_from(nanos).unwrap_or(i32::MAX))
    }

    /// The amount in minor units, never negative.
    #[must_use]
    pub const fn minor(&self) -> i64 {
        self.minor
    }

    /// The currency.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        self.currency
    }

    /// This amount multiplied by `factor`.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`].
    pub fn times(self, factor: u32) -> Result<Self, MoneyError> {
        let minor = self.minor.checked_mul(factor.into()).ok_or(MoneyError::TooLarge)?;
        Ok(Self { minor, ..self })
    }

    /// The sum of two amounts of one currency.
    ///
    /// # Errors
    /// [`MoneyError::MixedCurrencies`] or [`MoneyError::TooLarge`].
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::MixedCurrencies);
        }
        let minor = self.minor.checked_add(other.minor).ok_or(MoneyError::TooLarge)?;
        Ok(Self { minor, ..self })
    }
}

/// Formats a plain decimal number without the currency: "29.99", "1500".
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = self.currency.exponent() as usize;
        if exponent == 0 {
            return write!(f, "{}", self.minor);
        }
        let digits = format!("{:0width$}", self.minor, width = exponent + 1);
        let (whole, fraction) = digits.split_at(digits.len() - exponent);
        write!(f, "{whole}.{fraction}")
    }
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCurrency => f.write_str("must be the upper-case code of a known ISO 4217 currency"),
            Self::Negative => f.write_str("must not be negative"),
            Self::TooPrecise { max_decimals: 0 } => f.write_str("must be a whole number in this currency"),
            Self::TooPrecise { max_decimals } => {
                write!(f, "must have at most {max_decimals} decimals in this currency")
            }
            Self::TooLarge => f.write_str("is too large: at most 9223372036854775807 minor units"),
            Self::MalformedParts => {
                f.write_str("units and nanos must have the same sign, and nanos must lie within ±999999999")
            }
            Self::MixedCurrencies => f.write_str("must have the same currency in all items"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd() -> Currency {
        Currency::parse("USD").unwrap()
    }

    #[test]
    fn currencies_are_known_by_their_upper_case_code_and_minor_unit() {
        for (code, exponent) in [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3), ("UYW", 4), ("ZWG", 2)] {
            let currency = Currency::parse(code).unwrap();
            assert_eq!((currency.code(), currency.exponent()), (code, exponent));
        }
        for code in ["", "usd", "US", "USDX", "XXX", "ABC", "   ", "U D", "ÄÖ"] {
            assert_eq!(Currency::parse(code), Err(MoneyError::UnknownCurrency), "{code:?}");
        }
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        let yen = Currency::parse("JPY").unwrap();
        assert_eq!(Money::from_decimal(2999, 2, usd()).unwrap().minor(), 2999);
        assert_eq!(Money::from_decimal(3, 0, usd()).unwrap().minor(), 300);
        assert_eq!(Money::from_decimal(29_990, 3, usd()).unwrap().minor(), 2999);
        assert_eq!(Money::from_decimal(29_991, 3, usd()), Err(MoneyError::TooPrecise { max_decimals: 2 }));
        assert_eq!(Money::from_decimal(15, 1, yen), Err(MoneyError::TooPrecise { max_decimals: 0 }));
        assert_eq!(Money::from_decimal(-1, 2, usd()), Err(MoneyError::Negative));
        assert_eq!(Money::from_decimal(i128::MAX, 0, usd()), Err(MoneyError::TooLarge));
        assert_eq!(Money::from_decimal(1, u32::MAX, usd()), Err(MoneyError::TooPrecise { max_decimals: 2 }));
        assert_eq!(Money::from_decimal(0, u32::MAX, usd()).unwrap().minor(), 0);
    }

    #[test]
    fn the_two_parts_of_wire_money_must_agree() {
        assert_eq!(Money::from_units_and_nanos(29, 990_000_000, usd()).unwrap().minor(), 2999);
        assert_eq!(Money::from_units_and_nanos(0, 1, usd()), Err(MoneyError::TooPrecise { max_decimals: 2 }));
        assert_eq!(Money::from_units_and_nanos(1, -1, usd()), Err(MoneyError::MalformedParts));
        assert_eq!(Money::from_units_and_nanos(0, 1_000_000_000, usd()), Err(MoneyError::MalformedParts));
        assert_eq!(Money::from_units_and_nanos(0, i32::MIN, usd()), Err(MoneyError::MalformedParts));
        assert_eq!(Money::from_units_and_nanos(-1, 0, usd()), Err(MoneyError::Negative));
        assert_eq!(Money::from_units_and_nanos(i64::MAX, 0, usd()), Err(MoneyError::TooLarge));
    }

    #[test]
    fn an_amount_prints_as_a_plain_decimal() {
        let show = |minor, code| Money::from_minor(minor, Currency::parse(code).unwrap()).unwrap().to_string();
        assert_eq!(show(5, "USD"), "0.05");
        assert_eq!(show(105_997, "USD"), "1059.97");
        assert_eq!(show(0, "KWD"), "0.000");
        assert_eq!(show(1500, "JPY"), "1500");
    }
}
