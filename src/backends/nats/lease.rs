//! Leases, each stored as one key of a bucket; the token is the revision that the key had when the lease was acquired, plus the creation time of the
//! bucket.
//!
//! Every change is written on condition of the revision that was read, so of any number of holders one wins, and no late write undoes a newer one.
//! Revisions are the sequences of the bucket's stream, which grow for as long as the bucket exists. A bucket that has vanished is recreated and
//! counts from 1; its creation time, in microseconds, keeps its tokens above all tokens of the previous one, which was not written to a million times
//! a second. That assumes that the server's clock has not gone back beyond the creation of the previous bucket.
//!
//! **When a lease has expired.** JetStream cannot decide this: it has no condition on time, its messages carry the clock of the server that led the
//! stream then, and the clocks of servers and nodes differ and jump. So no clocks are compared. A holder may take over a lease when it has itself
//! seen the same revision, unchanged, for the whole time to live that is written there, by its own monotonic clock, counted from when the reply that
//! showed it had come. That is sound: the owner counts from before it asked for that revision, so from earlier, and has stopped relying on the lease
//! by then; and if it had renewed in the meantime, the take-over's condition would fail. The only assumption is that the clocks of two machines run
//! at the same rate.
//!
//! The price: a node that sees a lease for the first time waits for its time to live from then on, even if its owner has long been gone. A node that
//! polls has seen it before, and loses no more than its polling interval.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    connection::{ConnectError, Nats},
    kv::{Bucket, Entry, WriteError},
    provision::Made,
};
use crate::ports::lease_store::{Lease, LeaseError, LeaseOwner, LeaseStore, validate, validate_name, validate_ttl};

/// How often a call that loses to another call of the same name is retried. Each failed try means that another call succeeded.
const MAX_TRIES: usize = 16;

/// A [`LeaseStore`] in the bucket `{prefix}-leases`, shared by all nodes that use the same NATS. See the module for when a lease expires.
#[derive(Debug)]
pub struct NatsLeaseStore {
    bucket: Bucket,
    /// The last known content of each name. As many entries as there are names.
    seen: Mutex<HashMap<String, Sighting>>,
}

/// The value stored under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    holder: String,
    /// 0 in the write that acquired the lease, whose token is `base` and the revision.
    token: u64,
    /// When the bucket was created.
    #[serde(default)]
    base: u64,
    ttl_ns: u64,
}

/// One ownership, at one revision.
#[derive(Clone, Debug)]
struct Owned {
    stored: Stored,
    revision: u64,
    written_at: i128,
}

/// When a revision was first seen, or, if it was written here, when its owner starts to count.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    revision: u64,
    /// `None` for a revision written here.
    written_at: Option<i128>,
    ends_at: Instant,
}

impl Owned {
    fn token(&self) -> u64 {
        if self.stored.token == 0 { self.stored.base.saturating_add(self.revision) } else { self.stored.token }
    }

    fn belongs_to(&self, lease: &Lease) -> bool {
        self.stored.holder == lease.holder && self.token() == lease.fencing_token
    }
}

impl NatsLeaseStore {
    /// The store in `nats`, which need not be connected yet.
    #[must_use]
    pub fn new(nats: Nats) -> Self {
        Self { bucket: Bucket::new(nats, "leases"), seen: Mutex::default() }
    }

    /// Finds or creates the bucket.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason why it cannot be used, and whether waiting helps.
    pub async fn verify(&self) -> Result<(), ConnectError> {
        self.bucket.verify_writable().await
    }

    fn with_seen<T>(&self, work: impl FnOnce(&mut HashMap<String, Sighting>) -> T) -> T {
        work(&mut self.seen.lock())
    }

    /// The content of `name`, with its revision; 0 if it was never written.
    async fn read(&self, name: &str) -> Result<(Option<Owned>, u64), LeaseError> {
        let Some(Entry { revision, written_at, value }) =
            self.bucket.get(name).await.map_err(LeaseError::Unavailable)?
        else {
            return Ok((None, 0));
        };
        let Some(value) = value else { return Ok((None, revision)) };
        let stored = serde_json::from_slice(&value)
            .map_err(|error| LeaseError::Unavailable(format!("the stored value is not a lease: {error}")))?;
        Ok((Some(Owned { stored, revision, written_at }), revision))
    }

    /// When the ownership ends as far as this node knows: counted from now if it sees this revision for the first time.
    fn ends_at(&self, name: &str, owned: &Owned) -> Instant {
        let now = Instant::now();
        self.with_seen(|seen| {
            if let Some(known) = seen.get_mut(name)
                && known.revision == owned.revision
                && known.written_at.is_none_or(|at| at == owned.written_at)
            {
                known.written_at = Some(owned.written_at);
                return known.ends_at;
            }
            let ends_at = now + Duration::from_nanos(owned.stored.ttl_ns);
            let sighting = Sighting { revision: owned.revision, written_at: Some(owned.written_at), ends_at };
            seen.insert(name.to_owned(), sighting);
            ends_at
        })
    }

    /// Writes an ownership that ends at `ends_at` by its owner's count.
    async fn write(&self, name: &str, stored: &Stored, expected: u64, ends_at: Instant) -> Result<u64, WriteError> {
        let value = serde_json::to_vec(stored).map_err(|error| WriteError::Unavailable(error.to_string()))?;
        let revision = self.bucket.write(name, Some(Bytes::from(value)), expected).await?;
        self.with_seen(|seen| seen.insert(name.to_owned(), Sighting { revision, written_at: None, ends_at }));
        Ok(revision)
    }

    /// The revision of `lease` if its owner still holds it.
    async fn current(&self, lease: &Lease) -> Result<u64, LeaseError> {
        let known_end = self.with_seen(|seen| seen.get(&lease.name).map(|known| (known.revision, known.ends_at)));
        let (owned, revision) = self.read(&lease.name).await?;
        let owned = owned.filter(|owned| owned.belongs_to(lease)).ok_or(LeaseError::Lost)?;
        // The end known to this node; if it has not seen the lease before, the owner's own count.
        let ends_at = match known_end {
            Some((known, _)) if known == revision => self.ends_at(&lease.name, &owned),
            _ => lease.expires_at.min(self.ends_at(&lease.name, &owned)),
        };
        if Instant::now() >= ends_at { Err(LeaseError::Lost) } else { Ok(revision) }
    }
}

/// A time to live in nanoseconds; it is 24 hours at most.
fn nanoseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX)
}

#[async_trait]
impl LeaseStore for NatsLeaseStore {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, LeaseError> {
        validate(name, holder, ttl)?;
        for _ in 0..MAX_TRIES {
            let (owned, revision) = self.read(name).await?;
            if let Some(owned) = owned {
                let ends_at = self.ends_at(name, &owned);
                if owned.stored.holder != holder && Instant::now() < ends_at {
                    return Ok(None);
                }
            }
            let Made(base) = self.bucket.made().await.map_err(LeaseError::Unavailable)?;
            let stored = Stored { holder: holder.to_owned(), token: 0, base, ttl_ns: nanoseconds(ttl) };
            let expires_at = Instant::now() + ttl;
            match self.write(name, &stored, revision, expires_at).await {
                Ok(revision) => {
                    // Checks that it was written into the bucket whose creation time is in the token. If the bucket was recreated in the meantime, the
                    // lease was not written there, or is gone.
                    if self.bucket.made_now().await.map_err(LeaseError::Unavailable)? != Made(base) {
                        continue;
                    }
                    let fencing_token = base.saturating_add(revision);
                    let (name, holder) = (name.to_owned(), holder.to_owned());
                    return Ok(Some(Lease { name, holder, fencing_token, expires_at }));
                }
                Err(WriteError::Conflict) => {}
                // If it was written nevertheless, the holder need only acquire it again: its own lease does not lock it out.
                Err(WriteError::Unavailable(why)) => return Err(LeaseError::Unavailable(why)),
            }
        }
        Err(LeaseError::Unavailable(format!("changing the lease {name} lost {MAX_TRIES} times to others")))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        validate_ttl(ttl)?;
        let token = lease.fencing_token;
        for _ in 0..MAX_TRIES {
            let revision = self.current(lease).await?;
            let expires_at = Instant::now() + ttl;
            let stored = Stored { holder: lease.holder.clone(), token, base: 0, ttl_ns: nanoseconds(ttl) };
            match self.write(&lease.name, &stored, revision, expires_at).await {
                Ok(_) => return Ok(Lease { expires_at, ..lease.clone() }),
                // By another node, then the lease is lost; or by a renewal of the same owner.
                Err(WriteError::Conflict) => {}
                Err(WriteError::Unavailable(why)) => return Err(LeaseError::Unavailable(why)),
            }
        }
        Err(LeaseError::Unavailable(format!("changing the lease {} lost {MAX_TRIES} times to others", lease.name)))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        for _ in 0..MAX_TRIES {
            let revision = self.current(lease).await?;
            match self.bucket.write(&lease.name, None, revision).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Conflict) => {}
                Err(WriteError::Unavailable(why)) => return Err(LeaseError::Unavailable(why)),
            }
        }
        Err(LeaseError::Unavailable(format!("changing the lease {} lost {MAX_TRIES} times to others", lease.name)))
    }

    async fn holder(&self, name: &str) -> Result<Option<LeaseOwner>, LeaseError> {
        validate_name(name)?;
        let (owned, _) = self.read(name).await?;
        let owned = owned.filter(|owned| Instant::now() < self.ends_at(name, owned));
        Ok(owned.map(|owned| LeaseOwner { fencing_token: owned.token(), holder: owned.stored.holder }))
    }
}
