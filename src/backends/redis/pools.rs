//! Connections in addition to the one for commands, in two pools: those that wait for large replies, and those that must not wait for these.

use std::time::Duration;

use deadpool_redis::{Connection, Hook, HookError, Manager, Pool, PoolConfig, Runtime, TimeoutType, Timeouts};
use futures_util::future::BoxFuture;
use redis::{AsyncConnectionConfig, ConnectionInfo, aio::MultiplexedConnection};

use super::{
    in_words::{in_words, is_tls},
    options::RedisOptions,
};

/// The maximum number of connections for large reads. More would not help: Redis replies to one at a time.
const READS: usize = 12;
/// The maximum number of connections for leases, checkpoints, and the watches of two streams.
const STEADY: usize = 6;
/// How long a read waits for a connection.
const WAIT_FOR_READS: Duration = Duration::from_secs(5);
/// The longest time that a call on such a connection may block.
pub(super) const LONGEST_BLOCK: Duration = Duration::from_secs(1);

/// The connections that a call is made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// For calls that may have a large reply.
    Reads,
    /// For calls that must not wait for large replies.
    Steady,
}

/// The pools of one server.
pub(super) struct Pools {
    reads: Pool,
    steady: Pool,
    is_tls: bool,
}

/// Why there is no connection.
pub(super) struct PoolError {
    pub why: String,
    /// All are in use: no conclusion about the server.
    pub is_busy: bool,
}

impl Pools {
    /// Pools of connections to `server`. Each new connection is verified by `verify`: it must lead to a primary that holds the same log.
    pub(super) fn new<L>(options: &RedisOptions, server: ConnectionInfo, verify: L) -> Result<Self, String>
    where
        L: Fn(&mut MultiplexedConnection) -> BoxFuture<'_, Result<(), String>> + Clone + Send + Sync + 'static,
    {
        let make = |size, wait| {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(options.connect_timeout))
                .set_response_timeout(Some(LONGEST_BLOCK + options.response_timeout));
            let manager = Manager::new_with_config(server.clone(), config).map_err(|error| error.to_string())?;
            let verify = verify.clone();
            let verify = Hook::async_fn(move |connection: &mut MultiplexedConnection, _| {
                let verifying = verify(connection);
                Box::pin(async move { verifying.await.map_err(HookError::message) })
            });
            let timeouts = Timeouts {
                wait: Some(wait),
                create: Some(options.connect_timeout),
                recycle: Some(options.response_timeout),
            };
            let pool = Pool::builder(manager).config(PoolConfig { max_size: size, timeouts, ..PoolConfig::default() });
            pool.runtime(Runtime::Tokio1).post_create(verify).build().map_err(|error| error.to_string())
        };
        Ok(Self {
            reads: make(READS, WAIT_FOR_READS)?,
            steady: make(STEADY, options.response_timeout)?,
            is_tls: is_tls(&server),
        })
    }

    /// A connection of this lane, returned when it is dropped.
    pub(super) async fn get(&self, lane: Lane) -> Result<Connection, PoolError> {
        let (pool, size) = match lane {
            Lane::Reads => (&self.reads, READS),
            Lane::Steady => (&self.steady, STEADY),
        };
        pool.get().await.map_err(|error| match error {
            deadpool_redis::PoolError::Timeout(TimeoutType::Wait) => {
                PoolError { why: format!("all {size} connections of this kind are in use"), is_busy: true }
            }
            deadpool_redis::PoolError::Timeout(_) => {
                PoolError { why: "a connection was not made in time".to_owned(), is_busy: false }
            }
            deadpool_redis::PoolError::Backend(error) => {
                PoolError { why: in_words(&error, self.is_tls, true), is_busy: false }
            }
            deadpool_redis::PoolError::PostCreateHook(HookError::Message(why)) => {
                PoolError { why: why.into_owned(), is_busy: false }
            }
            other => PoolError { why: other.to_string(), is_busy: false },
        })
    }
}
