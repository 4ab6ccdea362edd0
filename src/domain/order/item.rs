//! The lines of an order and their sum.

use std::{fmt, sync::Arc};

use crate::domain::{
    money::{Money, MoneyError},
    text::{ProductId, ProductName},
};

/// The most lines an order can have.
pub const MAX_ITEMS: usize = 1_000;
/// The largest total of a new order, in minor units of its currency: no sum over orders comes near what its type holds.
pub const MAX_TOTAL_MINOR: i64 = 10_000_000_000_000_000;
/// The most pieces one line can have.
pub const MAX_QUANTITY: u32 = 1_000_000;

/// A number of pieces: 1 to [`MAX_QUANTITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity(u32);

/// A number of pieces is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidQuantity;

impl Quantity {
    /// # Errors
    /// [`InvalidQuantity`] outside 1 to [`MAX_QUANTITY`].
    pub fn new(pieces: i64) -> Result<Self, InvalidQuantity> {
        match u32::try_from(pieces) {
            Ok(pieces @ 1..=MAX_QUANTITY) => Ok(Self(pieces)),
            _ => Err(InvalidQuantity),
        }
    }

    /// The number of pieces.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What.
    pub product_id: ProductId,
    /// A name to show.
    pub name: Option<ProductName>,
    /// How many.
    pub quantity: Quantity,
    /// The price of one piece.
    pub unit_price: Money,
}

/// The lines of one order, 1 to [`MAX_ITEMS`] in one currency, with their exact total. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items {
    lines: Arc<[Item]>,
    total: Money,
}

/// Why lines do not make an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemsError {
    /// None at all.
    Empty,
    /// More than [`MAX_ITEMS`].
    TooMany,
    /// More than one currency; the index of the first line that differs from the first.
    MixedCurrencies(usize),
    /// The total is over [`MAX_TOTAL_MINOR`], or does not even fit into 64 bits of minor units.
    TotalTooLarge,
}

impl Items {
    /// # Errors
    /// [`ItemsError`] says what is wrong with the lines together.
    pub fn new(lines: Vec<Item>) -> Result<Self, ItemsError> {
        let first = lines.first().ok_or(ItemsError::Empty)?;
        if lines.len() > MAX_ITEMS {
            return Err(ItemsError::TooMany);
        }
        let currency = first.unit_price.currency();
        if let Some(index) = lines.iter().position(|line| line.unit_price.currency() != currency) {
            return Err(ItemsError::MixedCurrencies(index));
        }
        let total = Self::sum(&lines, first.unit_price).map_err(|_| ItemsError::TotalTooLarge)?;
        Ok(Self { lines: lines.into(), total })
    }

    /// The same items if they are fit for a new order. Those that are stored may have a larger total.
    ///
    /// # Errors
    /// [`ItemsError::TotalTooLarge`] above [`MAX_TOTAL_MINOR`].
    pub fn bounded(self) -> Result<Self, ItemsError> {
        if self.total.minor() > MAX_TOTAL_MINOR { Err(ItemsError::TotalTooLarge) } else { Ok(self) }
    }

    fn sum(lines: &[Item], any_price: Money) -> Result<Money, MoneyError> {
        let zero = any_price.times(0)?;
        lines.iter().try_fold(zero, |sum, line| sum.plus(line.unit_price.times(line.quantity.get())?))
    }

    /// The lines, in the order given.
    #[must_use]
    pub fn lines(&self) -> &[Item] {
        &self.lines
    }

    /// The sum of quantity times unit price over all lines.
    #[must_use]
    pub const fn total(&self) -> Money {
        self.total
    }
}

impl fmt::Display for InvalidQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be a whole number of 1 to {MAX_QUANTITY}")
    }
}

impl fmt::Display for ItemsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("must have at least 1 item"),
            Self::TooMany => write!(f, "must have at most {MAX_ITEMS} items"),
            Self::MixedCurrencies(_) => write!(f, "{}", MoneyError::MixedCurrencies),
            Self::TotalTooLarge => write!(f, "the total is too large: at most {MAX_TOTAL_MINOR} minor units"),
        }
    }
}
