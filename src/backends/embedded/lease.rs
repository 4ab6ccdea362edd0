//! Leases. Ownership is in memory: one process at a time has the data folder, so all owners are in this one, and end with it. Only the growth of
//! tokens must survive it: the last one is in the file, synced before it is issued.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::Mutex, time::Instant};

use super::{
    database::{Database, Sync},
    error::DbError,
};
use crate::ports::lease_store::{Lease, LeaseError, LeaseOwner, LeaseStore, validate, validate_name, validate_ttl};

/// Leases among the tasks of the process that has the data folder.
#[derive(Debug)]
pub struct EmbeddedLeaseStore {
    database: Arc<Database>,
    /// Held while a token is written: acquisitions come one after the other.
    owned: Mutex<HashMap<String, Lease>>,
}

impl EmbeddedLeaseStore {
    /// Initially nothing is owned: earlier owners were in a process that has ended.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database, owned: Mutex::default() }
    }

    /// One counter for all names: tokens of a name grow although nothing is stored of an ended lease.
    async fn next_token(&self) -> Result<u64, LeaseError> {
        let next = |connection: &rusqlite::Connection| {
            let sql = "UPDATE facts SET value = value + 1 WHERE name = 'lease_token' RETURNING value";
            Ok::<_, DbError>(connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?)
        };
        Ok(self.database.write(Sync::Now, next).await?.cast_unsigned())
    }
}

/// The ownership that `lease` refers to, if it is still in force.
fn current<'a>(owned: &'a mut HashMap<String, Lease>, lease: &Lease) -> Result<&'a mut Lease, LeaseError> {
    owned
        .get_mut(&lease.name)
        .filter(|owned| owned.fencing_token == lease.fencing_token && Instant::now() < owned.expires_at)
        .ok_or(LeaseError::Lost)
}

#[async_trait]
impl LeaseStore for EmbeddedLeaseStore {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, LeaseError> {
        validate(name, holder, ttl)?;
        let mut owned = self.owned.lock().await;
        let now = Instant::now();
        owned.retain(|_, lease| now < lease.expires_at);
        if owned.get(name).is_some_and(|lease| lease.holder != holder) {
            return Ok(None);
        }
        let fencing_token = self.next_token().await?;
        let lease = Lease { name: name.to_owned(), holder: holder.to_owned(), fencing_token, expires_at: now + ttl };
        owned.insert(name.to_owned(), lease.clone());
        Ok(Some(lease))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        validate_ttl(ttl)?;
        let mut owned = self.owned.lock().await;
        let current = current(&mut owned, lease)?;
        current.expires_at = Instant::now() + ttl;
        Ok(current.clone())
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        let mut owned = self.owned.lock().await;
        current(&mut owned, lease)?;
        owned.remove(&lease.name);
        Ok(())
    }

    async fn holder(&self, name: &str) -> Result<Option<LeaseOwner>, LeaseError> {
        validate_name(name)?;
        let owned = self.owned.lock().await;
        let lease = owned.get(name).filter(|lease| Instant::now() < lease.expires_at);
        Ok(lease.map(|lease| LeaseOwner { holder: lease.holder.clone(), fencing_token: lease.fencing_token }))
    }
}
