//! Statistics over all orders, from the groups of the read model.

use std::{collections::BTreeMap, fmt};

use crate::{
    codec::{status_code, status_of_code},
    domain::{
        money::{Currency, Money},
        order::Status,
    },
    ports::read_model::{Row, Totals},
};

/// Counts and revenue over all orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderStats {
    /// The number of orders per status, in life cycle order.
    pub by_status: [(Status, u64); Status::ALL.len()],
    /// The revenue per currency, in minor units.
    pub revenue: BTreeMap<Currency, i128>,
}

/// Three bytes of the read model that are not the code of a currency: it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCurrency(pub [u8; 3]);

impl fmt::Display for UnknownCurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the totals have the currency {:?}", self.0)
    }
}

impl OrderStats {
    /// The statistics of `totals`.
    ///
    /// # Errors
    /// [`UnknownCurrency`].
    pub fn of(totals: &[Totals]) -> Result<Self, UnknownCurrency> {
        let counts_as_revenue = |group: &&Totals| status_of_code(group.status).is_some_and(Status::counts_as_revenue);
        let mut revenue = BTreeMap::new();
        for group in totals.iter().filter(counts_as_revenue) {
            let currency = currency(group.currency).ok_or(UnknownCurrency(group.currency))?;
            *revenue.entry(currency).or_default() += group.amount_minor;
        }
        Ok(Self { by_status: Status::ALL.map(|status| (status, count_of(totals, status))), revenue })
    }

    /// The total number of orders.
    #[must_use]
    pub fn total_orders(&self) -> u64 {
        self.by_status.iter().map(|(_, count)| count).sum()
    }
}

fn count_of(totals: &[Totals], status: Status) -> u64 {
    totals.iter().filter(|group| group.status == status_code(status)).map(|group| group.count).sum()
}

fn currency(code: [u8; 3]) -> Option<Currency> {
    Currency::parse(std::str::from_utf8(&code).ok()?).ok()
}

/// The total of a row; `None` if the row is damaged.
#[must_use]
pub fn total_of(row: &Row) -> Option<Money> {
    Money::from_minor(row.amount_minor, currency(row.currency)?).ok()
}
