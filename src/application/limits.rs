//! Bounds of one request, shared by both APIs and their documents.

use crate::domain::order::item;

/// The maximum page size of a list.
pub const MAX_PAGE_SIZE: usize = 500;
/// The default page size.
pub const DEFAULT_PAGE_SIZE: usize = 50;
/// The maximum number of orders in one BatchGetOrders.
pub const MAX_BATCH_SIZE: usize = 500;
/// The maximum number of ids in one GenerateIds.
pub const MAX_IDS_PER_CALL: usize = 100_000;
/// The maximum number of items of an order.
pub const MAX_ITEMS: usize = item::MAX_ITEMS;
/// The maximum size of the metadata (headers) of one request, in bytes: names, values, and 32 for each, as HTTP/2 counts them.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// The maximum number of dead letters that one call may name.
pub const MAX_DEAD_LETTERS_PER_CALL: usize = 1_000;
/// The maximum number of customers or orders in a filter of events.
pub const MAX_FILTER_VALUES: usize = 100;
