//! Claims of a name and a worker number: each is a lease, which a process that has ended on this host may still hold.

use std::time::Duration;

use tokio::time::timeout;

use super::{JoinError, Member, Membership, mark_unavailable, unavailable};
use crate::{
    cluster::{
        MAX_NODES, mark_checkpoint, name_lease,
        process::{self, Process},
        worker_lease,
    },
    id_generator::{MAX_CLOCK_LEAD_MS, NodeIdentity},
    ports::{
        lease_store::{Lease, LeaseError, LeaseStore, WORK_TTL},
        server_name::named,
    },
    telemetry::outage::Line,
};

/// How long taking one lease from an ended process may take; otherwise it expires.
const FREE_TIMEOUT: Duration = Duration::from_secs(2);

impl Membership {
    /// Claims the name of the node, and a worker number.
    pub(super) async fn claim(&self) -> Result<Member, JoinError> {
        let name_lease = self.take_name().await?;
        let taken = match self.take_worker_number(true).await {
            Ok((identity, worker_lease)) => {
                self.issue_as(identity, worker_lease.fencing_token).await.map(|()| (identity, worker_lease))
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok((identity, worker_lease)) => Ok(Member { identity, name_lease, worker_lease }),
            Err(error) => {
                // A node that does not start must not block the name for the one that will.
                let _ = self.parts.leases.release(&name_lease).await;
                Err(error)
            }
        }
    }

    async fn take_name(&self) -> Result<Lease, JoinError> {
        let (name, leases) = (&self.parts.name, &self.parts.leases);
        let lease = name_lease(name);
        let holder = self.holder();
        if let Some(name_lease) = leases.acquire(&lease, &holder, WORK_TTL).await.map_err(unavailable)? {
            return Ok(name_lease);
        }
        if self.free_if_ended(name, None).await?
            && let Some(name_lease) = leases.acquire(&lease, &holder, WORK_TTL).await.map_err(unavailable)?
        {
            return Ok(name_lease);
        }
        let owner = leases.holder(&lease).await.map_err(unavailable)?;
        Err(JoinError::NameTaken { address: owner.map(|owner| address_of(&owner.holder)).unwrap_or_default() })
    }

    /// This process's value for its name's lease: its instance, its process, and its address.
    fn holder(&self) -> String {
        let process = self.process.map_or_else(String::new, |process| format!(".{process}"));
        format!("{}{process}@{}", self.instance, self.parts.address)
    }

    /// The first worker number that is free and not ahead of the clock, beginning with the preferred one; with `or_ahead`, if there is none, the free
    /// one that is the least ahead.
    pub(super) async fn take_worker_number(&self, or_ahead: bool) -> Result<(NodeIdentity, Lease), JoinError> {
        let mut ahead = Vec::new();
        for identity in self.candidates() {
            let by_ms = match self.is_ahead_by_ms(identity).await {
                Ok(by_ms) => by_ms,
                Err(JoinError::Unavailable(why)) if !self.parts.is_pinned && self.has_damaged_mark(identity) => {
                    if let Some(Line { unsaid }) = self.damaged_marks.failed(&why) {
                        tracing::error!(why, unsaid, "skipping a worker number");
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            if by_ms > MAX_CLOCK_LEAD_MS {
                ahead.push((by_ms, identity));
            } else if let Some(lease) = self.take(identity).await? {
                return Ok((identity, lease));
            }
        }
        if or_ahead {
            ahead.sort_unstable_by_key(|(by_ms, _)| *by_ms);
            for (by_ms, identity) in ahead {
                if let Some(lease) = self.take(identity).await? {
                    let worker = identity.worker_id();
                    tracing::warn!(
                        worker,
                        by_ms,
                        "new ids wait: every worker number that is free is ahead of the clock"
                    );
                    return Ok((identity, lease));
                }
            }
        }
        if self.parts.is_pinned { self.number_taken().await } else { Err(JoinError::Full) }
    }

    fn candidates(&self) -> impl Iterator<Item = NodeIdentity> + use<> {
        let preferred = self.parts.preferred;
        let count = if self.parts.is_pinned { 1 } else { MAX_NODES };
        (0..count).filter_map(move |offset| {
            NodeIdentity::new(preferred.datacenter_id(), (preferred.worker_id() + offset) % MAX_NODES).ok()
        })
    }

    async fn number_taken(&self) -> Result<(NodeIdentity, Lease), JoinError> {
        let (identity, leases) = (self.parts.preferred, &self.parts.leases);
        let owner = leases.holder(&worker_lease(identity)).await.map_err(unavailable)?;
        let name = owner.map(|owner| owner.holder).unwrap_or_default();
        let named = leases.holder(&name_lease(&name)).await.ok().flatten();
        let address = named.map(|named| address_of(&named.holder)).unwrap_or_default();
        Err(JoinError::NumberTaken { identity, name, address })
    }

    /// The lease of a worker number, if it is available.
    async fn take(&self, identity: NodeIdentity) -> Result<Option<Lease>, JoinError> {
        let (lease, leases) = (worker_lease(identity), &self.parts.leases);
        let taken = leases.acquire(&lease, &self.parts.name, WORK_TTL).await.map_err(unavailable)?;
        if taken.is_some() {
            return Ok(taken);
        }
        let Some(owner) = leases.holder(&lease).await.map_err(unavailable)? else { return Ok(None) };
        if self.free_if_ended(&owner.holder, Some(&lease)).await? {
            return leases.acquire(&lease, &self.parts.name, WORK_TTL).await.map_err(unavailable);
        }
        Ok(None)
    }

    /// If the process that has `name` has certainly ended, releases its leases: its work, its worker number and its name.
    ///
    /// # Errors
    /// [`JoinError::Unavailable`]: a store without a quorum may return leases and refuse to change them.
    async fn free_if_ended(&self, name: &str, worker: Option<&str>) -> Result<bool, JoinError> {
        let lease = name_lease(name);
        let Some(owner) = self.parts.leases.holder(&lease).await.map_err(unavailable)? else { return Ok(false) };
        let left = owner.holder.split_once('@').and_then(|(left, _)| left.split_once('.')).map(|(_, process)| process);
        let left = left.and_then(Process::parse);
        let has_ended = match (left, self.process) {
            (Some(left), Some(this)) => left.has_ended(this, process::sight_of),
            _ => false,
        };
        if !has_ended {
            return Ok(false);
        }
        // The owner of the name has the rest: a restarted process with that name is kept out until this is done.
        let acquired = timeout(FREE_TIMEOUT, self.parts.leases.acquire(&lease, &owner.holder, WORK_TTL)).await;
        let server = self.parts.leases.server();
        let silent = |_| JoinError::Unavailable(named(server.as_ref(), "the lease store does not answer"));
        let Some(named) = acquired.map_err(silent)?.map_err(unavailable)? else { return Ok(false) };
        for (store, role) in &self.parts.roles {
            free(&**store, role, name).await;
        }
        if let Some(worker) = worker {
            free(&*self.parts.leases, worker, name).await;
        }
        let _ = self.parts.leases.release(&named).await;
        tracing::info!(node = name, "released the leases of a process of this host that has ended");
        Ok(true)
    }

    /// How far ids that may have been issued under a worker number are ahead of the clock, in milliseconds.
    async fn is_ahead_by_ms(&self, identity: NodeIdentity) -> Result<u64, JoinError> {
        Ok(self.mark_of(identity).await?.unwrap_or(0).saturating_sub(self.now_unix_ms()))
    }

    fn has_damaged_mark(&self, identity: NodeIdentity) -> bool {
        self.parts.left_marks.as_ref().is_some_and(|left| left.load_of(identity).is_err())
    }

    /// The Unix millisecond up to which ids of a worker number may have been issued.
    pub(super) async fn mark_of(&self, identity: NodeIdentity) -> Result<Option<u64>, JoinError> {
        let stored = self.parts.checkpoints.load(&mark_checkpoint(identity)).await.map_err(mark_unavailable)?;
        let left = self.parts.left_marks.as_ref().map_or(Ok(None), |left| left.load_of(identity));
        let left = left.map_err(|error| JoinError::Unavailable(error.to_string()))?;
        Ok(stored.map(|mark| mark.position.0).max(left))
    }
}

/// Takes a lease from an ended holder, and releases it. If that fails, the lease expires.
async fn free(store: &dyn LeaseStore, lease: &str, holder: &str) {
    let freed = async {
        if store.holder(lease).await?.is_some_and(|owner| owner.holder == holder)
            && let Some(owned) = store.acquire(lease, holder, WORK_TTL).await?
        {
            store.release(&owned).await?;
        }
        Ok::<_, LeaseError>(())
    };
    let _ = timeout(FREE_TIMEOUT, freed).await;
}

fn address_of(holder: &str) -> String {
    holder.split_once('@').map(|(_, address)| address.to_owned()).unwrap_or_default()
}
