//! Decimal digits, without the formatting machinery of the standard library: replies and events have many short numbers.

/// Two digits for each number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let (mut tens, mut place) = (b'0', 0);
    while place < pairs.len() {
        let mut ones = b'0';
        while ones <= b'9' {
            pairs[place] = [tens, ones];
            place += 1;
            ones += 1;
        }
        tens += 1;
    }
    pairs
};

/// The two digits of `number`, which is below 100.
#[must_use]
pub const fn pair(number: u8) -> [u8; 2] {
    PAIRS[(number % 100) as usize]
}

/// The digits of a number, without leading zeros.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    bytes: [u8; Self::MAX],
    start: usize,
}

impl Digits {
    /// The number of digits of the largest number.
    pub const MAX: usize = 20;

    /// The digits of `number`.
    #[must_use]
    pub fn of(number: u64) -> Self {
        let (mut bytes, mut start, mut rest) = ([b'0'; Self::MAX], Self::MAX, number);
        while rest >= 10 {
            start -= 2;
            bytes[start..start + 2].copy_from_slice(&pair((rest % 100).to_le_bytes()[0]));
            rest /= 100;
        }
        // One digit is left if the number has an odd number of digits.
        if rest > 0 || number == 0 {
            start -= 1;
            bytes[start] = pair(rest.to_le_bytes()[0])[1];
        }
        Self { bytes, start }
    }
}

impl AsRef<[u8]> for Digits {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_of_the_standard_library() {
        let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
        let around = powers.flat_map(|power| [power - 1, power, power + 1, power.saturating_mul(7)]);
        for number in around.chain(0..1_000).chain([u64::MAX, i64::MAX.unsigned_abs()]) {
            assert_eq!(Digits::of(number).as_ref(), number.to_string().as_bytes());
        }
        for number in 0..100 {
            assert_eq!(pair(number).as_slice(), format!("{number:02}").as_bytes());
        }
    }
}
