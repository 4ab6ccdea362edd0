//! Leases in a map, by tokio's monotonic clock.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ports::lease_store::{Lease, LeaseError, LeaseOwner, LeaseStore, validate, validate_name, validate_ttl};

/// Leases among the tasks of one process.
#[derive(Debug, Default)]
pub struct MemoryLeaseStore {
    state: Mutex<LeaseTable>,
}

#[derive(Debug, Default)]
struct LeaseTable {
    /// One counter for all names: tokens of a name grow although nothing is stored of an ended lease.
    last_token: u64,
    owned: HashMap<String, Lease>,
}

impl MemoryLeaseStore {
    /// A store without owners.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut LeaseTable) -> T) -> T {
        work(&mut self.state.lock())
    }
}

impl LeaseTable {
    /// The ownership that `lease` refers to, if it is still in force.
    fn current(&mut self, lease: &Lease, now: Instant) -> Result<&mut Lease, LeaseError> {
        self.owned
            .get_mut(&lease.name)
            .filter(|owned| owned.fencing_token == lease.fencing_token && now < owned.expires_at)
            .ok_or(LeaseError::Lost)
    }
}

#[async_trait]
impl LeaseStore for MemoryLeaseStore {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, LeaseError> {
        validate(name, holder, ttl)?;
        self.with(|state| {
            let now = Instant::now();
            state.owned.retain(|_, owned| now < owned.expires_at);
            if state.owned.get(name).is_some_and(|owned| owned.holder != holder) {
                return Ok(None);
            }
            state.last_token += 1;
            let lease = Lease {
                name: name.to_owned(),
                holder: holder.to_owned(),
                fencing_token: state.last_token,
                expires_at: now + ttl,
            };
            state.owned.insert(name.to_owned(), lease.clone());
            Ok(Some(lease))
        })
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        validate_ttl(ttl)?;
        self.with(|state| {
            let now = Instant::now();
            let owned = state.current(lease, now)?;
            owned.expires_at = now + ttl;
            Ok(owned.clone())
        })
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.with(|state| {
            state.current(lease, Instant::now())?;
            state.owned.remove(&lease.name);
            Ok(())
        })
    }

    async fn holder(&self, name: &str) -> Result<Option<LeaseOwner>, LeaseError> {
        validate_name(name)?;
        self.with(|state| {
            let now = Instant::now();
            Ok(state
                .owned
                .get(name)
                .filter(|owned| now < owned.expires_at)
                .map(|owned| LeaseOwner { holder: owned.holder.clone(), fencing_token: owned.fencing_token }))
        })
    }
}
