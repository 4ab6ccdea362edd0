//! Order ids.

use std::{fmt, num::NonZeroU64, str::FromStr};

/// The id of one order: a Snowflake, 63 bits, never zero. Text form: decimal digits without sign or leading zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(NonZeroU64);

/// The text or number is not an order id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOrderId;

impl OrderId {
    /// Accepts a number from 1 to 2^63 - 1.
    ///
    /// # Errors
    /// [`InvalidOrderId`] outside that range.
    pub fn new(value: u64) -> Result<Self, InvalidOrderId> {
        match NonZeroU64::new(value) {
            Some(id) if i64::try_from(value).is_ok() => Ok(Self(id)),
            _ => Err(InvalidOrderId),
        }
    }

    /// The id as a number, at most 2^63 - 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for OrderId {
    type Err = InvalidOrderId;

    fn from_str(text: &str) -> Result<Self, InvalidOrderId> {
        let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        if !canonical {
            return Err(InvalidOrderId);
        }
        Self::new(text.parse().map_err(|_| InvalidOrderId)?)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for InvalidOrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a decimal number of 1 to 9223372036854775807 without sign or leading zeros")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_id_is_a_canonical_decimal_of_63_bits() {
        assert_eq!("9223372036854775807".parse::<OrderId>().map(OrderId::get), Ok(i64::MAX as u64));
        for text in
            ["", "0", "01", "-1", "+1", " 1", "1 ", "1.0", "abc", "9223372036854775808", "99999999999999999999", "１"]
        {
            assert_eq!(text.parse::<OrderId>(), Err(InvalidOrderId), "{text:?}");
        }
    }
}
