//! Audits refusals by the application in calls that access control has admitted: only the application knows the owner of an order.

use std::sync::Arc;

use http::Response;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{
    audit::{Audit, Outcome, Refusal, Who},
    table::Rule,
};
use crate::server::error::Reason;

/// The refusals that concern the permissions or the limits of the caller.
const REASONS: [Reason; 4] =
    [Reason::RoleMissing, Reason::CustomerNotAllowed, Reason::ActorNotAllowed, Reason::CallerLimit];

/// Records the refusals of one call, or of the single commands of a stream.
#[derive(Debug)]
pub struct Trail {
    audit: Arc<Audit>,
    rule: &'static Rule,
    who: Who,
}

impl Trail {
    /// The trail of a call of `rule` by `who`.
    #[must_use]
    pub const fn new(audit: Arc<Audit>, rule: &'static Rule, who: Who) -> Self {
        Self { audit, rule, who }
    }

    /// The rule of the call.
    pub const fn rule(&self) -> &'static Rule {
        self.rule
    }

    /// Records a refusal.
    pub fn record(&self, refusal: Refusal<'_>) {
        self.audit.record(&self.who, Some(self.rule), Outcome::Refused(refusal));
    }

    /// Records a refusal, if it concerns the caller.
    pub fn refused(&self, refusal: Refusal<'_>) {
        if REASONS.contains(&refusal.reason) {
            self.record(refusal);
        }
    }

    /// Records `response`, if it is a refusal.
    pub fn answered<B>(&self, response: &Response<B>) {
        let over_rest = response.extensions().get::<Reason>().copied();
        if let Some(reason) = over_rest.or_else(|| over_grpc(response)) {
            self.refused(reason.into());
        }
    }
}

fn over_grpc<B>(response: &Response<B>) -> Option<Reason> {
    let status = Status::from_header_map(response.headers())?;
    if status.code() != tonic::Code::PermissionDenied {
        return None;
    }
    let told = status.get_details_error_info()?.reason;
    REASONS.into_iter().find(|reason| reason.spec().name == told)
}
