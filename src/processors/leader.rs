//! Work that one node does at a time, under a lease.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::ports::lease_store::{Lease, LeaseError, LeaseStore, WORK_TTL};

/// How often a standby asks whether it may lead.
pub const STANDBY_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often the leader renews its lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// The pause before a renewal that failed is tried again.
const RENEW_RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How long the lease store may take to answer before the call counts as failed.
const LEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a time of leadership ended, or why there was none.
#[derive(Debug)]
pub enum Leadership<T> {
    /// Another node leads; its name, if that is known.
    Standby(Option<String>),
    /// The lease could not be acquired.
    Failed(String),
    /// The lease was lost before the work ended: why.
    Lost(String),
    /// The work ended by itself.
    Ended(T),
}

/// What work that ended by itself leaves behind.
#[derive(Debug)]
pub struct Ended<T> {
    /// Its outcome.
    pub outcome: T,
    /// Whether the next leader may start at once. Otherwise it waits for the lease to expire, unless this node acquires it again.
    pub releases: bool,
}

/// Runs `work` as the leader of `name`, if `node` can be that. The token given to `work` is cancelled when the lease is lost; `work` then ends
/// as soon as it can, and is awaited.
pub async fn run_as_leader<T>(
    leases: &dyn LeaseStore,
    name: &str,
    node: &str,
    work: impl AsyncFnOnce(&Lease, CancellationToken) -> Ended<T>,
) -> Leadership<T> {
    // Awaited to its end, not raced: the lease might have been granted.
    let lease = match timeout(LEASE_TIMEOUT, leases.acquire(name, node, WORK_TTL)).await {
        Ok(Ok(Some(lease))) => lease,
        Ok(Ok(None)) => {
            let owner = timeout(LEASE_TIMEOUT, leases.holder(name)).await;
            return Leadership::Standby(owner.ok().and_then(Result::ok).flatten().map(|owner| owner.holder));
        }
        Ok(Err(error)) => return Leadership::Failed(error.to_string()),
        Err(_) => return Leadership::Failed("the lease store does not answer".to_owned()),
    };
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

/// Renews `lease` every few seconds, for [`WORK_TTL`] each time, until it is lost; returns why. An unavailable store is asked again for as long as
/// the lease is in force.
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
            Err(_) => return LeaseError::Unavailable("a renewal was not answered in time".to_owned()),
        };
    }
}

/// Why `lease` was lost, for the operator.
async fn describe_loss(store: &dyn LeaseStore, lease: &Lease, error: LeaseError) -> String {
    let now = match error {
        LeaseError::Lost => timeout(LEASE_TIMEOUT, store.holder(&lease.name)).await.ok().and_then(Result::ok).flatten(),
        _ => return error.to_string(),
    };
    match now {
        Some(owner) if owner.holder == lease.holder && owner.fencing_token > lease.fencing_token => {
            format!("another node has the same name, {}", lease.holder)
        }
        _ => error.to_string(),
    }
}
