//! The key of a log, which signs the tokens and cursors of its positions.

use std::fmt;

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::{
    error::Unspecified,
    rand::{SecureRandom as _, SystemRandom},
};

/// A secret of 256 bits. It is created once per log and stored with it, so that all nodes of the log accept each other's tokens, also after a
/// restart. Tokens cannot be forged without it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenKey([u8; Self::BYTES]);

/// The operating system provides no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes for the key of tokens")]
pub struct NoRandomness;

impl TokenKey {
    /// Its length.
    pub const BYTES: usize = 32;

    /// A new random key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; Self::BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|Unspecified| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// The key with these bytes.
    #[must_use]
    pub const fn of(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be stored with the log and shown nowhere.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Its bytes as text, for a store that keeps text.
    #[must_use]
    pub fn to_hex(&self) -> String {
        HEXLOWER_PERMISSIVE.encode(&self.0)
    }

    /// Parses the output of [`TokenKey::to_hex`]; `None` for any other text.
    #[must_use]
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

/// Omits the secret.
impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_are_kept_as_text_and_are_not_shown() {
        let (one, other) = (TokenKey::random().unwrap(), TokenKey::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(TokenKey::from_hex(one.to_hex().as_bytes()), Some(one));
        assert_eq!(TokenKey::from_hex(&one.to_hex().as_bytes()[2..]), None);
        assert_eq!(TokenKey::from_hex(b"a key"), None);
        assert_eq!(format!("{one:?}"), "TokenKey(..)");
    }
}
