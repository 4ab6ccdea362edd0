//! The items of an order and their total.

use std::{fmt, sync::Arc};

use crate::domain::{
    money::{Money, MoneyError},
    text::{ProductId, ProductName},
};

/// The maximum number of items of an order.
pub const MAX_ITEMS: usize = 1_000;
/// The maximum total of a new order, in minor units of its currency: sums over orders stay far below the limits of their type.
pub const MAX_TOTAL_MINOR: i64 = 10_000_000_000_000_000;
/// The maximum quantity of one item.
pub const MAX_QUANTITY: u32 = 1_000_000;

/// A number of pieces: 1 to [`MAX_QUANTITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity(u32);

/// The number of pieces is out of range.
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

/// One item of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The product.
    pub product_id: ProductId,
    /// The displayed name.
    pub name: Option<ProductName>,
    /// The quantity.
    pub quantity: Quantity,
    /// The price of one piece.
    pub unit_price: Money,
}

/// The items of one order, 1 to [`MAX_ITEMS`] in one currency, with their exact total. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items {
    lines: Arc<[Item]>,
    total: Money,
}

/// Why a list of items is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemsError {
    /// The list is empty.
    Empty,
    /// There are more than [`MAX_ITEMS`].
    TooMany,
    /// There is more than one currency; the index of the first item that differs from the first one.
    MixedCurrencies(usize),
    /// The total exceeds [`MAX_TOTAL_MINOR`], or even 64 bits of minor units.
    TotalTooLarge,
}

impl Items {
    /// # Errors
    /// [`ItemsError`] if the items together are invalid.
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

    /// Returns the items if they are valid for a new order. Stored ones may have a larger total.
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

    /// The items, in the given order.
    #[must_use]
    pub fn lines(&self) -> &[Item] {
        &self.lines
    }

    /// The sum of quantity times unit price over all items.
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
