//! The shared cache: folded orders that one node has and another may save the folding of.
//!
//! What every backend guarantees:
//! - **Truth of the past**: what [`OrderCache::get`] returns was put under the same stream at some time, whole. It may be older than the
//!   log; the revision inside tells how old.
//! - **No promise to keep**: anything may be missing at any time, and what is put may not arrive. Nothing depends on the cache but speed.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::ports::event_store::{LogId, StreamId};

/// Which folded order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The log that it was folded from.
    pub log: LogId,
    /// The shape of the bytes: other versions of the service find only what they can read.
    pub schema: i32,
    /// The order.
    pub stream: StreamId,
}

/// The cache could not be asked; one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheError(pub String);

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the shared cache is out of reach: {}", self.0)
    }
}

impl std::error::Error for CacheError {}

/// Keeps folded orders for other nodes. See the module for what every backend guarantees.
#[async_trait]
pub trait OrderCache: fmt::Debug + Send + Sync + 'static {
    /// What was last put under `key`, if it is still there.
    ///
    /// # Errors
    /// [`CacheError`]; asking the log instead always works.
    async fn get(&self, key: CacheKey) -> Result<Option<Bytes>, CacheError>;

    /// Keeps `folded` under `key` for a while. Returns at once; under load, or without a connection, it is passed over.
    fn put(&self, key: CacheKey, folded: Bytes);

    /// Why the cache is known to be unreachable, without asking it; `None` while it is connected.
    fn unreachable(&self) -> Option<String> {
        None
    }

    /// Whether the cache can be asked now.
    ///
    /// # Errors
    /// [`CacheError`] says what is wrong.
    async fn check(&self) -> Result<(), CacheError>;
}
