//! Checks that the caller of an open call is still the one for whom the call was admitted.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::body::Body;
use http::{Extensions, HeaderValue, Request, header};

use super::{Access, audit::Who, certificate, has_role, rejected, table::Rule, trail::Trail};
use crate::{
    identity::{Accepted, Principal, Rejection, Verified, certificates::PeerCertificate},
    server::{
        error::{ApiError, Reason},
        last_caller::LastCaller,
    },
};

/// How often an open call looks at the clock for the end of its credentials: it may be set forward.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);
/// When to open a call again that has ended with its credentials: the client may have renewed them. If not, it is refused for good then.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

/// The credentials of an open call, for what it does later: they may be withdrawn or expire, and their roles may change.
#[derive(Debug)]
pub struct Standing {
    access: Access,
    /// With the caller as it was then.
    trail: Trail,
    authorization: Option<HeaderValue>,
    /// `None` where the header is what counts.
    certificate: Option<PeerCertificate>,
    /// For a call that verifies its caller again and again.
    last: LastCaller,
}

impl Standing {
    /// The credentials of `request`, a call under `rule`.
    pub(super) fn of(access: &Access, rule: &'static Rule, request: &Request<Body>) -> Self {
        let mut authorization = request.headers().get(header::AUTHORIZATION).cloned();
        if let Some(value) = &mut authorization {
            // Nothing can log it.
            value.set_sensitive(true);
        }
        let certificate = certificate(request).filter(|_| authorization.is_none()).cloned();
        let trail = Trail::new(Arc::clone(&access.audit), rule, Who::of(request.extensions(), None));
        Self { access: access.clone(), trail, authorization, certificate, last: LastCaller::default() }
    }

    /// The same, of the call `request` by `caller`.
    pub(super) fn by(mut self, request: &Request<Body>, caller: Option<&Principal>) -> Self {
        let who = Who::of(request.extensions(), caller);
        self.trail = Trail::new(Arc::clone(&self.access.audit), self.trail.rule(), who);
        self
    }

    /// Of the open call with `extensions`; `None` where callers are not identified, and for calls that do not stay open.
    #[must_use]
    pub fn in_extensions(extensions: &Extensions) -> Option<Arc<Self>> {
        extensions.get::<Arc<Self>>().cloned()
    }

    /// Verifies the caller again, and holds it to the rule of its call; a refusal is audited.
    ///
    /// # Errors
    /// `CREDENTIALS_INVALID`, `CREDENTIALS_EXPIRED`, `ROLE_MISSING`.
    pub fn reauthorize(&self) -> Result<Arc<Verified>, ApiError> {
        self.verify().map(|accepted| accepted.caller)
    }

    /// Waits until the caller is no longer one that may make the call: its credentials have been withdrawn or have expired, or it has lost the role.
    /// That is audited, and is what the call ends with. A client with renewed credentials may open it again.
    pub async fn lost(&self) -> ApiError {
        // Before the caller is verified: no change is missed.
        let mut changes = self.access.authenticator.changes();
        loop {
            let until = match self.verify() {
                Ok(accepted) => accepted.until,
                Err(error) if error.reason == Reason::RoleMissing => return error,
                Err(error) => return error.retry(REOPEN_AFTER),
            };
            tokio::select! {
                // Fails only without an authenticator, which this call has.
                _ = changes.changed() => {}
                () = reached(until) => {}
            }
        }
    }

    /// The same for the caller of a call; where callers are not identified, it waits for ever.
    pub async fn lost_by(caller: Option<Arc<Self>>) -> ApiError {
        match caller {
            Some(standing) => standing.lost().await,
            None => std::future::pending().await,
        }
    }

    fn verify(&self) -> Result<Accepted, ApiError> {
        const WITHDRAWN: Rejection = Rejection::Invalid("the client certificate is no longer that of a caller");
        let verified = self.access.verify(self.authorization.as_ref(), self.certificate.as_ref(), &self.last);
        let caller = verified.and_then(|caller| caller.ok_or(WITHDRAWN)).map_err(|rejection| rejected(&rejection));
        let outcome = caller.and_then(|accepted| has_role(self.trail.rule(), &accepted.caller).map(|()| accepted));
        outcome.inspect_err(|error| self.trail.record(error.reason))
    }

    /// Audits that the application has refused a part of the call for `reason`, if that concerns the caller.
    pub fn refused(&self, reason: Reason) {
        self.trail.refused(reason);
    }
}

/// Waits for a time of the clock; for ever, if there is none.
async fn reached(time: Option<SystemTime>) {
    let Some(time) = time else { return std::future::pending().await };
    while let Ok(left) = time.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(CLOCK_INTERVAL)).await;
    }
}
