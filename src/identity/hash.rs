//! The hash of a key or a token.

use std::fmt;

use data_encoding::HEXLOWER;
use ring::digest;
use subtle::ConstantTimeEq as _;

/// The SHA-256 of a key or a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; digest::SHA256_OUTPUT_LEN]);

impl Hash {
    /// The hash of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Its hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The first bytes, by which a hash is looked up; the whole is compared in constant time.
    #[must_use]
    pub const fn prefix(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0;
        [a, b, c, d]
    }

    /// Whether both are equal, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Another hash with the same first bytes.
    #[cfg(test)]
    pub(super) const fn with_other_rest(mut self) -> Self {
        self.0[digest::SHA256_OUTPUT_LEN - 1] ^= 1;
        self
    }
}

impl TryFrom<Vec<u8>> for Hash {
    type Error = ();

    fn try_from(bytes: Vec<u8>) -> Result<Self, ()> {
        bytes.try_into().map(Self).map_err(|_| ())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}
