//! Maps keyed by the numbers of orders.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A map keyed by the number of a stream or row.
pub(super) type NumberMap<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

/// A power of two. There are many, so that the growth of one of the maps blocks few callers, and only briefly.
pub(super) const SHARDS: usize = 256;

/// The index of the one of [`SHARDS`] maps for `number`.
pub(super) fn shard(number: u64) -> usize {
    let mut hasher = NumberHasher::default();
    hasher.write_u64(number);
    // The maps use the lowest and the highest bits.
    (hasher.finish() >> 32) as usize % SHARDS
}

/// Spreads the numbers of orders. The service assigns them, so clients cannot choose them to collide.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        // Both halves of the product by an odd constant (2^64 over the golden ratio): every bit depends on every other.
        let product = u128::from(number ^ self.0) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }
}
