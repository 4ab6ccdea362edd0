//! A node that identifies its callers, and one caller of each kind.

use std::{fmt::Write as _, sync::Arc};

use http::Method;
use ordersystem::{
    identity::{Role, api_keys::NewKey},
    node::Backends,
    ports::clock::SystemClock,
    server::access::table::{Policy, Rule},
};
use strum::VariantArray as _;
use tempfile::TempDir;
use tonic::Request;

use crate::{
    rest::Rest,
    support::{Issuer, TestServer},
};

/// A node that identifies callers, with a key for each kind of caller.
pub struct Guarded {
    pub rest: Rest,
    folder: TempDir,
    /// Its key set is beside the identity file.
    pub issuer: Issuer,
    keys: Vec<(Caller, String)>,
}

/// A kind of caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Nobody,
    Stranger,
    Expired,
    Known(Role),
}

impl Caller {
    pub fn all() -> Vec<Self> {
        let known = Role::VARIANTS.iter().copied().map(Self::Known);
        [Self::Nobody, Self::Stranger, Self::Expired].into_iter().chain(known).collect()
    }

    /// The reason for which the call of `rule` is refused; `None`: it is admitted.
    pub fn refusal(self, rule: &Rule) -> Option<&'static str> {
        match (rule.policy, self) {
            (Policy::Public, _) | (Policy::Verified, Self::Known(_)) => None,
            (Policy::OneOf(roles), Self::Known(role)) if roles.has(role) => None,
            (_, Self::Nobody) => Some("CREDENTIALS_MISSING"),
            (_, Self::Stranger) => Some("CREDENTIALS_INVALID"),
            (_, Self::Expired) => Some("CREDENTIALS_EXPIRED"),
            (_, Self::Known(_)) => Some("ROLE_MISSING"),
        }
    }
}

impl Guarded {
    pub async fn start() -> Self {
        Self::start_with("", &[]).await
    }

    /// With `more` in the identity file, and more settings.
    pub async fn start_with(more: &str, settings: &[(&'static str, &str)]) -> Self {
        Self::start_as(more, settings, Backends::memory()).await
    }

    pub async fn start_on(more: &str, backends: Backends) -> Self {
        Self::start_as(more, &[], backends).await
    }

    async fn start_as(more: &str, settings: &[(&'static str, &str)], backends: Backends) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (keys, text) = entries();
        let issuer = Issuer::new();
        std::fs::write(folder.path().join("keys.json"), issuer.key_set()).expect("written");
        let path = folder.path().join("identities.toml");
        std::fs::write(&path, format!("{text}{more}")).expect("written");
        let path = path.to_str().expect("UTF-8").to_owned();
        let mut all = vec![("identities", path.as_str()), ("require-auth", "true")];
        all.extend_from_slice(settings);
        Self { rest: Rest::of(TestServer::start_on(&all, backends, Arc::new(SystemClock)).await), folder, issuer, keys }
    }

    pub fn server(&self) -> &TestServer {
        &self.rest.server
    }

    /// Changes the identity file, which the node looks at every few seconds.
    pub fn edit_identities(&self, edit: impl FnOnce(String) -> String) {
        let path = self.folder.path().join("identities.toml");
        let text = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, edit(text)).expect("written");
    }

    pub fn key(&self, caller: Caller) -> Option<&str> {
        self.keys.iter().find(|(known, _)| *known == caller).map(|(_, key)| key.as_str())
    }

    /// The value of the header `authorization`.
    pub fn bearer(&self, caller: Caller) -> Option<String> {
        self.key(caller).map(|key| format!("Bearer {key}"))
    }

    pub fn request<T>(&self, caller: Caller, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = self.bearer(caller) {
            request.metadata_mut().insert("authorization", value.parse().expect("a value"));
        }
        request
    }

    pub fn rest(&self, caller: Caller, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.rest.request(method, path);
        match self.bearer(caller) {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }
}

fn entries() -> (Vec<(Caller, String)>, String) {
    let (mut keys, mut text) = (Vec::new(), String::new());
    for caller in Caller::all() {
        let key = NewKey::draw().expect("random bytes");
        let (name, role, more) = match caller {
            Caller::Nobody => continue,
            Caller::Stranger => {
                keys.push((caller, key.as_str().to_owned()));
                continue;
            }
            Caller::Expired => ("expired", "operator", "expires = 2020-01-01T00:00:00Z\n"),
            Caller::Known(Role::Customer) => ("the-customer", "customer", "customer = \"customer-1\"\n"),
            Caller::Known(role) => (role.name(), role.name(), ""),
        };
        let hash = key.hash().to_hex();
        write!(text, "[[api_keys]]\nname = \"{name}\"\nroles = [\"{role}\"]\n{more}sha256 = \"{hash}\"\n")
            .expect("text");
        keys.push((caller, key.as_str().to_owned()));
    }
    (keys, text)
}
