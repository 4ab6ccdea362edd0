//! A caller whose credentials were verified.

use std::{sync::Arc, time::SystemTime};

use super::{limits::CallerLimits, principal::Principal};

/// A verified caller.
#[derive(Debug)]
pub struct Verified {
    /// Its identity.
    pub principal: Arc<Principal>,
    /// Its limits; `None` if it has none.
    pub limits: Option<Arc<CallerLimits>>,
}

/// A verified caller, with the expiry of its credentials.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The caller.
    pub caller: Arc<Verified>,
    /// When its credentials expire; `None`: never.
    pub until: Option<SystemTime>,
}

impl Accepted {
    /// Whether the credentials are still valid.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.until.is_none_or(|end| SystemTime::now() < end)
    }
}
