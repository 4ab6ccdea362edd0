//! Checks that the caller of an open call may still make it.

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

/// How often an open call checks whether its credentials have expired: the clock may be set forward.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);
/// The retry delay of a call that has ended with its credentials: the client may have renewed them. If not, it is refused permanently then.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

/// The credentials of an open call, to be verified again later: they may be withdrawn or expire, and their roles may change.
#[derive(Debug)]
pub struct Standing {
    access: Access,
    /// The audit of refusals, with the caller at admission.
    trail: Trail,
    authorization: Option<HeaderValue>,
    /// `None` if the header identifies the caller.
    certificate: Option<PeerCertificate>,
    /// Caches the caller for a call that verifies it repeatedly.
    last: LastCaller,
}

impl Standing {
    /// The credentials of `request`, a call under `rule`.
    pub(super) fn of(access: &Access, rule: &'static Rule, request: &Request<Body>) -> Self {
        let mut authorization = request.headers().get(header::AUTHORIZATION).cloned();
        if let Some(value) = &mut authorization {
            // Sensitive: nothing can log it.
            value.set_sensitive(true);
        }
        let certificate = certificate(request).filter(|_| authorization.is_none()).cloned();
        let trail = Trail::new(Arc::clone(&access.audit), rule, Who::of(request.extensions(), None));
        Self { access: access.clone(), trail, authorization, certificate, last: LastCaller::default() }
    }

    /// The standing with the certificate of `request`, a call by `caller`.
    pub(super) fn by(mut self, request: &Request<Body>, caller: Option<&Principal>) -> Self {
        let who = Who::of(request.extensions(), caller);
        self.trail = Trail::new(Arc::clone(&self.access.audit), self.trail.rule(), who);
        self
    }

    /// The standing of the open call with `extensions`; `None` where callers are not identified, and for calls that do not stay open.
    #[must_use]
    pub fn in_extensions(extensions: &Extensions) -> Option<Arc<Self>> {
        extensions.get::<Arc<Self>>().cloned()
    }

    /// Verifies the caller again, and checks it against the rule of its call; a refusal is audited.
    ///
    /// # Errors
    /// `CREDENTIALS_INVALID`, `CREDENTIALS_EXPIRED`, `ROLE_MISSING`.
    pub fn reauthorize(&self) -> Result<Arc<Verified>, ApiError> {
        self.verify().map(|accepted| accepted.caller)
    }

    /// Waits until the caller may no longer make the call: its credentials have been withdrawn or have expired, or it has lost the role. The returned
    /// error has been audited, and ends the call. A client with renewed credentials may open it again.
    pub async fn lost(&self) -> ApiError {
        // Subscribed before the caller is verified, so that no change is missed.
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

    /// Like [`Standing::lost`], for the caller of any call; where callers are not identified, it waits forever.
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

/// Waits until the clock reaches `time`; forever without one.
async fn reached(time: Option<SystemTime>) {
    let Some(time) = time else { return std::future::pending().await };
    while let Ok(left) = time.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(CLOCK_INTERVAL)).await;
    }
}
