//! Leases: one owner at a time, with a fencing token.
//!
//! A lease saves work: it keeps nodes from doing the same thing twice. It does not make work safe, since a paused owner may wake up after its lease
//! has passed to another. Its writes must be conditional on the fencing token (see [`crate::ports::checkpoint_store`]) or on another condition that
//! the store checks.
//!
//! Every backend guarantees the following, held by one contract suite:
//! - **One owner**: of any number of holders that race for a free lease, exactly one acquires it.
//! - **Growing tokens**: every successful [`LeaseStore::acquire`] is a new ownership with a token above all earlier ones of that name, also after
//!   expiry and release, for as long as the backend keeps its data.
//! - **Expiry**: an owner that does not renew in time loses the lease and can no longer renew it, even if no other holder took it.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::ports::{
    checkpoint_store::{MAX_NAME_CHARS, is_valid_name},
    server_name::ServerName,
};

/// The minimum time to live of a lease.
pub const MIN_TTL: Duration = Duration::from_millis(10);
/// The maximum time to live of a lease.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The time to live of leases for single-owner work: the longest pause of that work after a crash.
pub const WORK_TTL: Duration = Duration::from_secs(6);
/// One ownership of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The name of the lease.
    pub name: String,
    /// The owner.
    pub holder: String,
    /// Grows with every ownership of this name.
    pub fencing_token: u64,
    /// When the owner must stop relying on the lease, by this process's monotonic clock. Counted from before the request was sent, hence never later
    /// than the store's own expiry.
    pub expires_at: Instant,
}

/// The current owner of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOwner {
    /// The name that the owner acquired it under.
    pub holder: String,
    /// The token of this ownership.
    pub fencing_token: u64,
}

/// Why a lease operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The lease has expired, was released, or has been acquired again: the caller's lease is void.
    #[error("the lease is lost")]
    Lost,
    /// The name or holder is not 1 to 128 allowed characters, or the time to live is not between [`MIN_TTL`] and [`MAX_TTL`].
    #[error("{0}")]
    Invalid(&'static str),
    /// The store is unreachable or overloaded; it is unknown whether anything changed. A retry may help.
    #[error("the lease store is unavailable: {0}")]
    Unavailable(String),
}

/// Validates the arguments of an acquire, for every backend.
///
/// # Errors
/// [`LeaseError::Invalid`] for an invalid `name` (see [`is_valid_name`]), a `holder` that is not 1 to 128 visible ASCII characters, or a `ttl` out of
/// bounds.
pub fn validate(name: &str, holder: &str, ttl: Duration) -> Result<(), LeaseError> {
    validate_name(name)?;
    if !(1..=MAX_NAME_CHARS).contains(&holder.len()) || !holder.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(LeaseError::Invalid("a holder is 1 to 128 visible ASCII characters"));
    }
    validate_ttl(ttl)
}

/// Checks the name of a lease.
///
/// # Errors
/// [`LeaseError::Invalid`].
pub fn validate_name(name: &str) -> Result<(), LeaseError> {
    if is_valid_name(name) {
        Ok(())
    } else {
        Err(LeaseError::Invalid("a name is 1 to 128 ASCII letters, digits, '-' and '_'"))
    }
}

/// Checks a time to live.
///
/// # Errors
/// [`LeaseError::Invalid`].
pub fn validate_ttl(ttl: Duration) -> Result<(), LeaseError> {
    if (MIN_TTL..=MAX_TTL).contains(&ttl) {
        Ok(())
    } else {
        Err(LeaseError::Invalid("a time to live is 10 ms to 24 h"))
    }
}

/// Grants leases. See the module for the guarantees of every backend.
#[async_trait]
pub trait LeaseStore: fmt::Debug + Send + Sync + 'static {
    /// Its server, for messages; `None` if it is none, or has no name here.
    fn server(&self) -> Option<ServerName> {
        None
    }

    /// Makes `holder` the owner of `name` for `ttl`; `None` if another holder owns it.
    ///
    /// A holder that already owns the lease acquires it again as a new ownership with a new token; its earlier [`Lease`] is lost. So a node restarted
    /// under its old name need not wait, and any remnant of its former process is fenced out.
    ///
    /// # Errors
    /// [`LeaseError::Invalid`], [`LeaseError::Unavailable`].
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, LeaseError>;

    /// Extends `lease` to `ttl` from now, under the same token.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] if the caller no longer owns it; [`LeaseError::Invalid`], [`LeaseError::Unavailable`].
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError>;

    /// Gives `lease` up, so that the next owner need not wait for it to expire.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] if the caller no longer owns it: nothing changes; [`LeaseError::Unavailable`].
    async fn release(&self, lease: &Lease) -> Result<(), LeaseError>;

    /// The current owner of `name`, if any. It may be outdated when returned: for display, not for decisions.
    ///
    /// # Errors
    /// [`LeaseError::Invalid`], [`LeaseError::Unavailable`].
    async fn holder(&self, name: &str) -> Result<Option<LeaseOwner>, LeaseError>;
}
