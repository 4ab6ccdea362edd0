//! Single-owner work under a lease.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::owners::Owners;
use crate::ports::{
    lease_store::{Lease, LeaseError, LeaseStore, WORK_TTL},
    server_name::named,
};

/// The interval at which a standby tries to become the leader.
pub const STANDBY_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which the leader renews its lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// The pause before a failed renewal is retried.
const RENEW_RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// The timeout of a call to the lease store.
const LEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a leadership ended, or why it did not begin.
#[derive(Debug)]
pub enum Leadership<T> {
    /// Another node leads; its name, if known.
    Standby(Option<String>),
    /// The lease could not be acquired.
    Failed(String),
    /// The lease was lost before the work ended; the reason.
    Lost(String),
    /// The work ended by itself.
    Ended(T),
}

/// The result of work that ended by itself.
#[derive(Debug)]
pub struct Ended<T> {
    /// Its outcome.
    pub outcome: T,
    /// Whether to release the lease, so that the next leader can start at once. Otherwise it waits for the lease to expire, unless this node acquires
    /// it again.
    pub releases: bool,
}

/// Runs `work` as the leader of `name`, if `node` can acquire the lease; records who leads in `owners`. The token passed to `work` is cancelled when the lease is lost; `work` must
/// then end promptly, and is awaited.
pub async fn run_as_leader<T>(
    leases: &dyn LeaseStore,
    name: &str,
    node: &str,
    owners: &Owners,
    work: impl AsyncFnOnce(&Lease, CancellationToken) -> Ended<T>,
) -> Leadership<T> {
    // Awaited to its end, not raced: the lease might have been granted.
    let lease = match timeout(LEASE_TIMEOUT, leases.acquire(name, node, WORK_TTL)).await {
        Ok(Ok(Some(lease))) => lease,
        Ok(Ok(None)) => {
            let owner = timeout(LEASE_TIMEOUT, leases.holder(name)).await;
            let leader = owner.ok().and_then(Result::ok).flatten().map(|owner| owner.holder);
            if let Some(leader) = &leader {
                owners.saw(name, leader);
            }
            return Leadership::Standby(leader);
        }
        Ok(Err(error)) => return Leadership::Failed(error.to_string()),
        Err(_) => return Leadership::Failed(named(leases.server().as_ref(), "the lease store does not answer")),
    };
    owners.saw(name, node);
    let lost = CancellationToken::new();
    let mut working = std::pin::pin!(work(&lease, lost.clone()));
    let ended = tokio::select! {
        ended = &mut working => ended,
        error = renew_until_lost(leases, &lease) => {
            lost.cancel();
            let _ = working.await;
            return Leadership::Lost(describe_loss(leases, &lease, error).await);
        }
    };
    if ended.releases {
        // If that fails, the lease expires.
        let _ = timeout(LEASE_TIMEOUT, leases.release(&lease)).await;
    }
    Leadership::Ended(ended.outcome)
}

/// Renews `lease` every few seconds, for [`WORK_TTL`] each time, until it is lost; returns the reason. An unavailable store is retried while the
/// lease is valid.
async fn renew_until_lost(store: &dyn LeaseStore, lease: &Lease) -> LeaseError {
    let mut expires_at = lease.expires_at;
    let mut pause = RENEW_INTERVAL;
    loop {
        sleep(pause).await;
        pause = match timeout_at(expires_at, store.renew(lease, WORK_TTL)).await {
            Ok(Ok(renewed)) => {
                expires_at = renewed.expires_at;
                RENEW_INTERVAL
            }
            Ok(Err(error @ LeaseError::Unavailable(_))) if Instant::now() + RENEW_RETRY_INTERVAL >= expires_at => {
                return error;
            }
            Ok(Err(LeaseError::Unavailable(_))) => RENEW_RETRY_INTERVAL,
            Ok(Err(error)) => return error,
            Err(_) => {
                return LeaseError::Unavailable(named(store.server().as_ref(), "a renewal was not answered in time"));
            }
        };
    }
}

/// Why `lease` was lost, for the operator.
async fn describe_loss(store: &dyn LeaseStore, lease: &Lease, error: LeaseError) -> String {
    let now = match error {
        LeaseError::Lost => timeout(LEASE_TIMEOUT, store.holder(&lease.name)).await.ok().and_then(Result::ok).flatten(),
        _ => return named(store.server().as_ref(), error.to_string()),
    };
    match now {
        Some(owner) if owner.holder == lease.holder && owner.fencing_token > lease.fencing_token => {
            format!("another node has the same name, {}", lease.holder)
        }
        _ => named(store.server().as_ref(), error.to_string()),
    }
}
