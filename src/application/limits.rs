//! Bounds of one request, which both protocols and their documents share.

use crate::domain::order::item;

/// The largest page of a list.
pub const MAX_PAGE_SIZE: usize = 500;
/// The size of a page when the client does not say.
pub const DEFAULT_PAGE_SIZE: usize = 50;
/// The most orders in one BatchGetOrders.
pub const MAX_BATCH_SIZE: usize = 500;
/// The most ids in one GenerateIds.
pub const MAX_IDS_PER_CALL: usize = 100_000;
/// The most items of an order.
pub const MAX_ITEMS: usize = item::MAX_ITEMS;
/// The most bytes of metadata (headers) of one request: names, values, and 32 for each, as HTTP/2 counts them.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// The most dead letters that one call may name.
pub const MAX_DEAD_LETTERS_PER_CALL: usize = 1_000;
