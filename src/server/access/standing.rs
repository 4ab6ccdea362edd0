//! Checks that the caller of an open call may still make it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::body::Body;
use http::{Extensions, HeaderValue, Request, header};

use super::{Access, audit::Who, certificate, has_role, rejected, table::Rule, trail::Trail};
use crate::{
    application::Scope,
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

/// The credentials of an open call, to be verified again later: they may be withdrawn or expire, and their roles and their customer may change.
#[derive(Debug)]
pub struct Standing {
    access: Access,
    /// The audit of refusals, with the caller at admission.
    trail: Trail,
    authorization: Option<HeaderValue>,
    /// `None` if the header identifies the caller.
    certificate: Option<PeerCertificate>,
    /// The orders that the call shows, which are fixed when it is opened; `None` if it is not about orders, or has a scope for each of its commands.
    scope: Option<Scope>,
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
        Self { access: access.clone(), trail, authorization, certificate, scope: None, last: LastCaller::default() }
    }

    /// The standing of `caller`, who was verified for `request`.
    pub(super) fn by(mut self, request: &Request<Body>, caller: Option<&Principal>) -> Self {
        let (rule, who) = (self.trail.rule(), Who::of(request.extensions(), caller));
        self.trail = Trail::new(Arc::clone(&self.access.audit), rule, who);
        self.scope = caller.and_then(|caller| rule.scope_of_stream(caller));
        self
    }

    /// The standing of the open call with `extensions`; `None` where callers are not identified, and for calls that do not stay open.
    #[must_use]
    pub fn in_extensions(extensions: &Extensions) -> Option<Arc<Self>> {
        extensions.get::<Arc<Self>>().cloned()
    }

    /// Verifies the caller again, and checks it against the rule and the scope of its call; a refusal is audited.
    ///
    /// # Errors
    /// `CREDENTIALS_INVALID`, `CREDENTIALS_EXPIRED`, `ROLE_MISSING`.
    pub fn reauthorize(&self) -> Result<Arc<Verified>, ApiError> {
        self.verify().map(|accepted| accepted.caller)
    }

    /// Waits until the caller may no longer make the call: its credentials have been withdrawn or have expired, it has lost the role, or it may see
    /// other orders than those that the call shows. The returned error has been audited, and ends the call. A client with renewed credentials, or for
    /// which only the orders have changed, may open it again.
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
        let outcome = caller.and_then(|accepted| self.check(&accepted.caller).map(|()| accepted));
        outcome.inspect_err(|error| self.trail.record(error.into()))
    }

    fn check(&self, caller: &Verified) -> Result<(), ApiError> {
        const OTHER_ORDERS: &str =
            "the caller may see other orders now than when this stream was opened: open it again to follow those";
        let rule = self.trail.rule();
        has_role(rule, caller)?;
        if self.scope.is_some() && self.scope != rule.scope_of_stream(&caller.principal) {
            return Err(ApiError::new(Reason::CredentialsInvalid, OTHER_ORDERS));
        }
        Ok(())
    }

    /// Audits that a part of the call was refused with `error`, if that concerns the caller.
    pub fn refused(&self, error: &ApiError) {
        self.trail.refused(error.into());
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
