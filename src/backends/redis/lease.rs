//! Leases as keys that expire by Redis's clock, with a token counter for each name that does not expire.

use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::{
    connection::{CallError, Redis},
    pools::Lane,
    script::Script,
    values,
};
use crate::ports::lease_store::{Lease, LeaseError, LeaseOwner, LeaseStore, validate, validate_name, validate_ttl};

static ACQUIRE: Script = Script::new(concat!(include_str!("need.lua"), include_str!("lease/acquire.lua")));
static CHANGE: Script = Script::new(include_str!("lease/change.lua"));

/// A [`LeaseStore`] in Redis, shared by all nodes that use the same one. A fail-over to a replica may lose tokens.
#[derive(Debug)]
pub struct RedisLeaseStore {
    redis: Redis,
}

impl RedisLeaseStore {
    /// The store in `redis`, which need not be connected yet.
    #[must_use]
    pub const fn new(redis: Redis) -> Self {
        Self { redis }
    }

    fn key(&self, name: &str) -> String {
        self.redis.key(&format!("lease:{name}"))
    }

    /// Whether the lease was still owned, and so was changed. A `ttl_ms` of 0 releases it.
    async fn change(&self, lease: &Lease, ttl_ms: u128) -> Result<(), LeaseError> {
        let owner = format!("{} {}", lease.fencing_token, lease.holder);
        let changed = CHANGE
            .prepare()
            .key(&self.key(&lease.name))
            .arg(owner)
            .number(ttl_ms)
            .run_in(&self.redis, Lane::Steady)
            .await;
        match changed.map_err(unavailable)? {
            Value::Int(1) => Ok(()),
            _ => Err(LeaseError::Lost),
        }
    }
}

/// Rounded up: the owner must stop relying on a lease before Redis expires it.
fn milliseconds(ttl: Duration) -> u128 {
    ttl.as_nanos().div_ceil(1_000_000)
}

fn unavailable(error: CallError) -> LeaseError {
    LeaseError::Unavailable(error.to_string())
}

#[async_trait]
impl LeaseStore for RedisLeaseStore {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, LeaseError> {
        validate(name, holder, ttl)?;
        let expires_at = Instant::now() + ttl;
        let tokens = self.redis.key(&format!("lease-token:{name}"));
        let call = ACQUIRE.prepare().key(&self.key(name)).key(&tokens).arg(holder).number(milliseconds(ttl));
        let token = call.run_in(&self.redis, Lane::Steady).await.map_err(unavailable)?;
        Ok(values::number(&token).map(|fencing_token| Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            fencing_token,
            expires_at,
        }))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        validate_ttl(ttl)?;
        let expires_at = Instant::now() + ttl;
        self.change(lease, milliseconds(ttl)).await?;
        Ok(Lease { expires_at, ..lease.clone() })
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.change(lease, 0).await
    }

    async fn holder(&self, name: &str) -> Result<Option<LeaseOwner>, LeaseError> {
        validate_name(name)?;
        let owner = self.redis.call_in(Lane::Steady, &Cmd::get(self.key(name))).await.map_err(unavailable)?;
        let parts = values::text(&owner).and_then(|owner| owner.split_once(' '));
        Ok(parts.and_then(|(token, holder)| {
            Some(LeaseOwner { holder: holder.to_owned(), fencing_token: token.parse().ok()? })
        }))
    }
}
