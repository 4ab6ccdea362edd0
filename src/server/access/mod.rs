//! Access control, in front of both APIs: verifies the caller of a call, and checks the call against the table of rules and the limits of the caller.

pub mod audit;
mod held;
mod refusals;
mod standing;
pub mod table;
mod trail;

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Request, Response, header};

use self::{
    audit::{Audit, Outcome, Who},
    refusals::{add_rate, missing, not_served, rejected, role_missing},
    table::{Called, Kind, Policy, Rule},
    trail::Trail,
};
pub use self::{
    held::HeldBody,
    refusals::{explain, limited},
    standing::Standing,
};
use super::{call, error::ApiError, last_caller::LastCaller, operators::IsOperator};
use crate::{
    identity::{
        Accepted, Authenticator, Principal, Rejection, Role, Verified,
        certificates::PeerCertificate,
        limits::{Permit, RateLeft},
    },
    telemetry::call::set_caller,
};

/// The scheme of the header `authorization`.
const SCHEME: &str = "bearer ";

/// Access control. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    authenticator: Authenticator,
    audit: Arc<Audit>,
    nobody: Arc<Principal>,
}

/// An admitted call, with the permits that it holds.
#[derive(Debug)]
pub struct Admitted {
    rule: &'static Rule,
    command: Option<Permit>,
    stream: Option<Permit>,
    rate: Option<RateLeft>,
    /// The operator, for an action that is audited.
    who: Option<Who>,
    /// The audit of refusals by the application, for a call that it may refuse to this caller.
    trail: Option<Trail>,
    /// The standing of the caller, for a call that ends once the caller may no longer make it.
    standing: Option<Arc<Standing>>,
}

impl Access {
    /// Verifies callers with `authenticator`.
    #[must_use]
    pub fn new(authenticator: Authenticator, audit: Arc<Audit>) -> Self {
        Self { authenticator, audit, nobody: Arc::new(Principal::nobody()) }
    }

    /// Admits `request`, a call of `called`, and adds its verified caller to the extensions; refused calls are audited.
    ///
    /// # Errors
    /// `CREDENTIALS_MISSING`, `CREDENTIALS_INVALID`, `CREDENTIALS_EXPIRED`, `ROLE_MISSING`, `CALLER_LIMIT`; a call without a row in the table is
    /// answered as if it did not exist.
    pub fn admit(&self, request: &mut Request<Body>, called: Called, is_grpc: bool) -> Result<Admitted, ApiError> {
        let Called::Rule(rule) = called else {
            let who = Who::of(request.extensions(), None);
            let error = not_served(called, is_grpc);
            self.audit.record(&who, None, Outcome::Refused((&error).into()));
            return Err(error);
        };
        // Created before the header is removed, and visible to a handler only if the call is admitted.
        let standing = rule.stays_open().then(|| Standing::of(self, rule, request));
        let caller = self.caller(request);
        let mut outcome = self.authorize(rule, caller.as_ref(), request);
        let principal = caller.as_ref().ok().and_then(Option::as_ref).map(|caller| &*caller.principal);
        if let Some(name) = principal.and_then(Principal::name) {
            set_caller(name);
        }
        if let (Some(standing), Ok(admitted)) = (standing, &mut outcome) {
            let standing = Arc::new(standing.by(request, principal));
            // A call with commands checks each command against it, and ends only after its replies.
            let ends_itself = !is_grpc || rule.has_commands();
            admitted.standing = (!ends_itself).then(|| Arc::clone(&standing));
            request.extensions_mut().insert(standing);
        }
        outcome.inspect_err(|error| {
            self.audit.record(&Who::of(request.extensions(), principal), Some(rule), Outcome::Refused(error.into()));
        })
    }

    /// The verified caller; `None` without credentials.
    fn caller(&self, request: &mut Request<Body>) -> Result<Option<Arc<Verified>>, Rejection> {
        let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
        let (value, another) = (values.next(), values.next());
        if another.is_some() {
            return Err(Rejection::Invalid("the header authorization must be given once"));
        }
        let accepted = match call::connection(request.extensions()) {
            Some(connection) => self.verify(value, connection.certificate.as_ref(), &connection.last_caller),
            None => self.verify(value, None, &LastCaller::default()),
        };
        let accepted = accepted?;
        // Sensitive: nothing behind access control can log it.
        request.headers_mut().remove(header::AUTHORIZATION);
        Ok(accepted.map(|accepted| accepted.caller))
    }

    /// The caller with this header `authorization`, else with this certificate; `last` is the one that had either before.
    fn verify(
        &self,
        authorization: Option<&HeaderValue>,
        certificate: Option<&PeerCertificate>,
        last: &LastCaller,
    ) -> Result<Option<Accepted>, Rejection> {
        let (bytes, version) = (authorization.map(HeaderValue::as_bytes), self.authenticator.version());
        if bytes.is_none() && certificate.is_none() {
            return Ok(None);
        }
        if let Some(accepted) = last.find(bytes, version) {
            return Ok(Some(accepted));
        }
        let accepted = match authorization {
            Some(value) => self.of_header(value).map(Some),
            None => certificate.map_or(Ok(None), |certificate| self.authenticator.of_certificate(certificate)),
        }?;
        if let Some(accepted) = &accepted {
            last.remember(bytes, version, accepted);
        }
        Ok(accepted)
    }

    fn of_header(&self, value: &HeaderValue) -> Result<Accepted, Rejection> {
        let token = value.to_str().ok().and_then(bearer);
        let token = token.ok_or(Rejection::Invalid("the header authorization must have the form: Bearer TOKEN"))?;
        self.authenticator.of_token(token)
    }

    fn authorize(
        &self,
        rule: &'static Rule,
        caller: Result<&Option<Arc<Verified>>, &Rejection>,
        request: &mut Request<Body>,
    ) -> Result<Admitted, ApiError> {
        let mut admitted =
            Admitted { rule, command: None, stream: None, rate: None, who: None, trail: None, standing: None };
        if rule.policy == Policy::Public {
            // Here wrong credentials are treated like missing ones.
            match caller {
                Ok(Some(caller)) => attach(request, caller),
                Ok(None) | Err(_) => drop(request.extensions_mut().insert(Arc::clone(&self.nobody))),
            }
            return Ok(admitted);
        }
        let caller = match caller {
            Ok(Some(caller)) => caller,
            Ok(None) => return Err(missing()),
            Err(rejection) => return Err(rejected(rejection)),
        };
        // Counted first, so that calls without the role cost as much as others.
        if let Some(limits) = &caller.limits {
            admitted.rate = limits.call().map_err(|exceeded| limited(&exceeded))?;
        }
        has_role(rule, caller)?;
        if let Some(limits) = &caller.limits {
            match rule.kind {
                Kind::Command => admitted.command = limits.command().map_err(|exceeded| limited(&exceeded))?,
                Kind::Stream => admitted.stream = limits.stream().map_err(|exceeded| limited(&exceeded))?,
                Kind::Read | Kind::Admin | Kind::Page => {}
            }
        }
        if caller.principal.roles().has(Role::Customer) {
            let who = Who::of(request.extensions(), Some(&caller.principal));
            admitted.trail = Some(Trail::new(Arc::clone(&self.audit), rule, who));
        }
        if rule.kind == Kind::Admin {
            admitted.who = Some(Who::of(request.extensions(), Some(&caller.principal)));
        }
        attach(request, caller);
        Ok(admitted)
    }
}

/// Adds the verified caller to the extensions, where handlers look for it.
fn attach(request: &mut Request<Body>, caller: &Verified) {
    let extensions = request.extensions_mut();
    if caller.principal.roles().has(Role::Operator) {
        extensions.insert(IsOperator);
    }
    extensions.insert(Arc::clone(&caller.principal));
}

/// The certificate of the client that sent `request`.
fn certificate(request: &Request<Body>) -> Option<&PeerCertificate> {
    call::connection(request.extensions()).and_then(|connection| connection.certificate.as_ref())
}

/// Checks `caller` against the roles of `rule`.
fn has_role(rule: &Rule, caller: &Verified) -> Result<(), ApiError> {
    match rule.policy {
        Policy::OneOf(roles) if !caller.principal.roles().has_any(roles) => Err(role_missing(&caller.principal, roles)),
        Policy::OneOf(_) | Policy::Verified | Policy::Public => Ok(()),
    }
}

impl Admitted {
    /// An action of an operator, whose outcome is audited.
    #[must_use]
    pub const fn audited(rule: &'static Rule, who: Who) -> Self {
        Self { rule, command: None, stream: None, rate: None, who: Some(who), trail: None, standing: None }
    }

    /// Whether nothing has to be done for the reply.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.command.is_none()
            && self.stream.is_none()
            && self.rate.is_none()
            && self.who.is_none()
            && self.trail.is_none()
            && self.standing.is_none()
    }

    /// The rule of an action of an operator, and the operator, for the audit of its outcome.
    pub fn take_audited(&mut self) -> Option<(&'static Rule, Who)> {
        self.who.take().map(|who| (self.rule, who))
    }

    /// Begins the reply with `response`: reports the rate to REST clients, and audits a refusal by the application. A stream occupies its permit
    /// until the end of its body.
    pub fn finish<B>(self, is_grpc: bool, mut response: Response<B>) -> Response<HeldBody<B>> {
        let Self { rule: _, command, stream, rate, who: _, trail, standing } = self;
        drop(command);
        if let Some(trail) = trail {
            trail.answered(&response);
        }
        if let Some(rate) = rate.filter(|_| !is_grpc) {
            add_rate(response.headers_mut(), &rate);
        }
        response.map(|inner| HeldBody::new(inner, stream, standing))
    }
}

/// The token of a header; the scheme is case-insensitive (RFC 9110, 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::error::Reason;

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("BEARER abc", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearerabc", None),
            ("", None),
        ] {
            assert_eq!(bearer(value), token, "{value:?}");
        }
    }

    #[test]
    fn an_unclassified_path_is_refused_before_any_router_sees_it() {
        use crate::identity::api_keys::NewKey;
        let (folder, key) = (tempfile::tempdir().unwrap(), NewKey::draw().unwrap());
        let path = folder.path().join("identities.toml");
        let hash = key.hash().to_hex();
        let entry = format!("[[api_keys]]\nname = \"a\"\nroles = [\"writer\", \"operator\"]\nsha256 = \"{hash}\"\n");
        std::fs::write(&path, entry).unwrap();
        let access = Access::new(Authenticator::open(&path, false).unwrap(), Arc::new(Audit::new()));
        let admit = |path: &str, method: &str, is_grpc| {
            let bearer = format!("Bearer {}", key.as_str());
            let request = Request::builder().method(method).uri(path).header("authorization", bearer);
            let mut request = request.body(Body::empty()).unwrap();
            let called = table::called(is_grpc, request.method(), path);
            access.admit(&mut request, called, is_grpc).map(|_| ()).map_err(|error| error.reason)
        };
        assert_eq!(admit("/orders", "POST", false), Ok(()));
        assert_eq!(admit("/catga.orders.v1.OrderCommandService/PayOrder", "POST", true), Ok(()));
        for (path, is_grpc) in [
            ("/catga.orders.v1.OrderCommandService/HoldOrder", true),
            ("/catga.orders.v1.OrderCommandService/", true),
            ("/orders", true),
            ("/orders/1/hold", false),
            ("/catga.orders.v1.OrderCommandService/PayOrder", false),
        ] {
            assert_eq!(admit(path, "POST", is_grpc), Err(Reason::RouteNotFound), "{path}");
        }
        assert_eq!(admit("/metrics", "POST", false), Err(Reason::MethodNotAllowed));
    }
}
