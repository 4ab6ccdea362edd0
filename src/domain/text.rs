//! External text, parsed once: bounded in length and free of control characters.

use std::{fmt, marker::PhantomData, ops::Deref, sync::Arc};

/// The rule of a kind of text. No text may be empty or only white space.
pub trait TextRule {
    /// The maximum number of characters.
    const MAX_CHARS: usize;
    /// Whether only visible ASCII characters (0x21 to 0x7E) are accepted, for headers and keys.
    const VISIBLE_ASCII_ONLY: bool = false;
}

/// The maximum length of text that is kept in place, in bytes. Most ids and names are short, and cost no allocation.
pub const SHORT_BYTES: usize = 22;

/// Text that satisfies the rule `R`. Cheap to clone.
pub struct Text<R> {
    value: Value,
    rule: PhantomData<fn() -> R>,
}

#[derive(Clone)]
enum Value {
    Short { length: u8, bytes: [u8; SHORT_BYTES] },
    Long(Arc<str>),
}

impl Value {
    fn of(text: &str) -> Self {
        let mut bytes = [0; SHORT_BYTES];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(text) => text.as_bytes(),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            // Always UTF-8. The check takes a few nanoseconds, and an allocation would take more.
            Self::Short { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }
}

/// Why text was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// The text is empty, or only white space.
    Empty,
    /// The text has too many characters.
    TooLong {
        /// The maximum number of characters.
        max_chars: usize,
    },
    /// The text contains a control character, for example a line break or NUL.
    ControlCharacter,
    /// The text contains a character other than visible ASCII, where only that is accepted.
    NotVisibleAscii,
    /// The text contains a character that hides, reverses or joins others, so that it would look different from its content.
    FormatCharacter(char),
    /// The text has no visible character.
    Invisible,
}

impl<R: TextRule> Text<R> {
    /// Parses external text. Nothing is trimmed or truncated.
    ///
    /// # Errors
    /// [`TextError`] names the violated rule.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        if text.chars().all(char::is_whitespace) {
            return Err(TextError::Empty);
        }
        // A character has at most 4 bytes, so counting them can stop early on hostile lengths.
        if text.len() > R::MAX_CHARS * 4 || (text.len() > R::MAX_CHARS && text.chars().count() > R::MAX_CHARS) {
            return Err(TextError::TooLong { max_chars: R::MAX_CHARS });
        }
        if R::VISIBLE_ASCII_ONLY && !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TextError::NotVisibleAscii);
        }
        // Fast path: nearly all text is printable ASCII.
        if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && text.chars().any(char::is_control) {
            return Err(TextError::ControlCharacter);
        }
        Ok(Self { value: Value::of(text), rule: PhantomData })
    }

    /// Like [`Text::parse`], but returns `None` for the empty string, which stands for omitted text on the wire.
    ///
    /// # Errors
    /// [`TextError`] names the violated rule.
    pub fn parse_optional(text: &str) -> Result<Option<Self>, TextError> {
        if text.is_empty() { Ok(None) } else { Self::parse(text).map(Some) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.value.as_str()
    }

    /// The text, shared. Short text is copied for that.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        match &self.value {
            Value::Short { .. } => self.as_str().into(),
            Value::Long(text) => Arc::clone(text),
        }
    }
}

impl<R> Text<R> {
    /// Its length in bytes. Unlike the length of [`Text::as_str`], it is known without reading the text.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.value.as_bytes().len()
    }
}

/// The text as bytes, without a check that it is UTF-8.
impl<R> AsRef<[u8]> for Text<R> {
    fn as_ref(&self) -> &[u8] {
        self.value.as_bytes()
    }
}

impl<R> Clone for Text<R> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), rule: PhantomData }
    }
}

impl<R> Deref for Text<R> {
    type Target = str;

    fn deref(&self) -> &str {
        self.value.as_str()
    }
}

impl<R> PartialEq for Text<R> {
    fn eq(&self, other: &Self) -> bool {
        self.value.as_bytes() == other.value.as_bytes()
    }
}

impl<R> Eq for Text<R> {}

impl<R> fmt::Debug for Text<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.value.as_str(), f)
    }
}

impl<R> fmt::Display for Text<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.value.as_str(), f)
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("must not be empty"),
            Self::TooLong { max_chars } => write!(f, "must have at most {max_chars} characters"),
            Self::ControlCharacter => f.write_str("must not contain control characters"),
            Self::NotVisibleAscii => f.write_str("must contain visible ASCII characters only"),
            Self::FormatCharacter(character) => {
                write!(f, "must not contain characters that are not shown, such as U+{:04X}", u32::from(*character))
            }
            Self::Invisible => f.write_str("must contain a visible character"),
        }
    }
}

/// The rule of [`CustomerId`].
pub enum CustomerIdRule {}
/// The rule of [`ProductId`].
pub enum ProductIdRule {}
/// The rule of [`ProductName`].
pub enum ProductNameRule {}
/// The rule of [`ShippingAddress`].
pub enum ShippingAddressRule {}
/// The rule of [`PaymentMethod`].
pub enum PaymentMethodRule {}
/// The rule of [`PaymentReference`].
pub enum PaymentReferenceRule {}
/// The rule of [`TrackingNumber`].
pub enum TrackingNumberRule {}
/// The rule of [`Carrier`].
pub enum CarrierRule {}
/// The rule of [`CancelReason`].
pub enum CancelReasonRule {}
/// The rule of [`RequestId`].
pub enum RequestIdRule {}
/// The rule of [`Actor`].
pub enum ActorRule {}

impl TextRule for CustomerIdRule {
    const MAX_CHARS: usize = 128;
}
impl TextRule for ProductIdRule {
    const MAX_CHARS: usize = 128;
}
impl TextRule for ProductNameRule {
    const MAX_CHARS: usize = 256;
}
impl TextRule for ShippingAddressRule {
    const MAX_CHARS: usize = 1024;
}
impl TextRule for PaymentMethodRule {
    const MAX_CHARS: usize = 64;
}
impl TextRule for PaymentReferenceRule {
    const MAX_CHARS: usize = 128;
}
impl TextRule for TrackingNumberRule {
    const MAX_CHARS: usize = 128;
}
impl TextRule for CarrierRule {
    const MAX_CHARS: usize = 64;
}
impl TextRule for CancelReasonRule {
    const MAX_CHARS: usize = 512;
}
impl TextRule for RequestIdRule {
    const MAX_CHARS: usize = 128;
    const VISIBLE_ASCII_ONLY: bool = true;
}
impl TextRule for ActorRule {
    const MAX_CHARS: usize = 128;
}

/// A customer: 1 to 128 characters.
pub type CustomerId = Text<CustomerIdRule>;
/// A product: 1 to 128 characters.
pub type ProductId = Text<ProductIdRule>;
/// The displayed name of a product: 1 to 256 characters.
pub type ProductName = Text<ProductNameRule>;
/// The delivery address of an order: 1 to 1024 characters.
pub type ShippingAddress = Text<ShippingAddressRule>;
/// The payment method of an order: 1 to 64 characters.
pub type PaymentMethod = Text<PaymentMethodRule>;
/// The payment provider's reference: 1 to 128 characters.
pub type PaymentReference = Text<PaymentReferenceRule>;
/// The carrier's tracking number: 1 to 128 characters.
pub type TrackingNumber = Text<TrackingNumberRule>;
/// The carrier of an order: 1 to 64 characters.
pub type Carrier = Text<CarrierRule>;
/// The reason of a cancellation: 1 to 512 characters.
pub type CancelReason = Text<CancelReasonRule>;
/// The idempotency key of a command: 1 to 128 visible ASCII characters.
pub type RequestId = Text<RequestIdRule>;
/// The originator of a command: 1 to 128 characters.
pub type Actor = Text<ActorRule>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_refused_by_the_first_rule_that_it_breaks() {
        let long = "é".repeat(129);
        assert_eq!(CustomerId::parse("").unwrap_err(), TextError::Empty);
        assert_eq!(CustomerId::parse(" \t").unwrap_err(), TextError::Empty);
        assert_eq!(CustomerId::parse(&long).unwrap_err(), TextError::TooLong { max_chars: 128 });
        assert_eq!(CustomerId::parse("a\u{0}b").unwrap_err(), TextError::ControlCharacter);
        assert_eq!(CustomerId::parse("a\nb").unwrap_err(), TextError::ControlCharacter);
        assert_eq!(RequestId::parse("a b").unwrap_err(), TextError::NotVisibleAscii);
        assert_eq!(RequestId::parse("é").unwrap_err(), TextError::NotVisibleAscii);
    }

    #[test]
    fn length_counts_characters_and_not_bytes() {
        let exact = "é".repeat(128);
        assert_eq!(CustomerId::parse(&exact).unwrap().as_str(), exact);
        assert_eq!(CustomerId::parse(&"😀".repeat(128)).unwrap().chars().count(), 128);
    }

    #[test]
    fn text_of_every_length_is_what_was_parsed() {
        for length in 1..=2 * SHORT_BYTES {
            for character in ["x", "é", "😀"] {
                let text = character.repeat(length);
                let parsed = ShippingAddress::parse(&text).unwrap();
                assert_eq!((parsed.as_str(), &*parsed.shared(), parsed.to_string()), (&*text, &*text, text.clone()));
                assert_eq!(parsed, parsed.clone());
                assert_ne!(parsed, ShippingAddress::parse(&format!("{text}y")).unwrap());
            }
        }
    }

    #[test]
    fn only_the_empty_string_means_absent() {
        assert_eq!(Carrier::parse_optional("").unwrap(), None);
        assert_eq!(Carrier::parse_optional(" ").unwrap_err(), TextError::Empty);
    }
}
