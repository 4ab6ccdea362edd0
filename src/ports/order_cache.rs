//! The shared cache: folded orders that nodes share to save each other the folding.
//!
//! Every backend guarantees the following:
//! - **True for the past**: [`OrderCache::get`] returns a whole value that was once put under the same stream. It may be behind the log; the
//!   contained revision shows how far.
//! - **Best effort**: any entry may be missing at any time, and a put may be lost. Only speed depends on the cache.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::ports::{
    event_store::{LogId, StreamId},
    server_name::ServerName,
};

/// Identifies a folded order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The log from which it was folded.
    pub log: LogId,
    /// The version of the encoding: a service finds only the entries that it can read.
    pub schema: i32,
    /// The order.
    pub stream: StreamId,
}

/// The cache could not be read; one line for humans.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared cache is unreachable: {0}")]
pub struct CacheError(pub String);

/// Stores folded orders for other nodes. See the module for the guarantees of every backend.
#[async_trait]
pub trait OrderCache: fmt::Debug + Send + Sync + 'static {
    /// The last value put under `key`, if it still exists.
    ///
    /// # Errors
    /// [`CacheError`]; reading the log instead is always possible.
    async fn get(&self, key: CacheKey) -> Result<Option<Bytes>, CacheError>;

    /// Stores `folded` under `key` for a while. Returns at once; under load, or without a connection, the entry is dropped.
    fn put(&self, key: CacheKey, folded: Bytes);

    /// Why the cache is known to be unreachable, without a call; `None` while it is connected.
    fn unreachable(&self) -> Option<String> {
        None
    }

    /// Its server, for messages; `None` if it is none, or has no name here.
    fn server(&self) -> Option<ServerName> {
        None
    }

    /// Whether the cache can be read now.
    ///
    /// # Errors
    /// [`CacheError`] gives the reason if it cannot.
    async fn check(&self) -> Result<(), CacheError>;
}
