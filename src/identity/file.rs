//! The identity file, in TOML. It is parsed strictly: an unknown key, role or algorithm is an error that names the line.

mod text;

use std::{
    collections::HashMap,
    fs,
    num::NonZeroU64,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::process;
use serde::Deserialize;

pub use self::text::instant;
use self::text::{algorithms, audience, expiry, name, optional_customer, roles, sha256};
use super::{
    bounds::LimitEntries,
    certificates::{AlternativeName, Matched, Subject},
    hash::Hash,
    principal::Principal,
    redaction::without_keys,
    roles::{Role, Roles},
    signatures::Algorithm,
};
use crate::{
    domain::{
        text::{Actor, CustomerId},
        visible,
    },
    private_files,
};

/// The maximum size of an identity file and of a key set, in bytes.
pub const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// The permission bits that let another user change a file.
const OTHERS_WRITE: u32 = 0o022;

/// The content of an identity file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFile {
    /// `[[api_keys]]`. A name may have several keys, so that a key can be replaced while the previous one is still in use.
    #[serde(default)]
    pub api_keys: Vec<ApiKeyEntry>,
    /// `[jwt]`.
    pub jwt: Option<JwtEntry>,
    /// `[[certificates]]`.
    #[serde(default)]
    pub certificates: Vec<CertificateEntry>,
    /// `[limits]`.
    #[serde(default)]
    pub limits: LimitEntries,
}

/// One API key.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawApiKey")]
pub struct ApiKeyEntry {
    /// The caller that it identifies.
    pub principal: Principal,
    /// The hash of the key.
    pub sha256: Hash,
    /// When the key expires.
    pub expires: Option<SystemTime>,
}

/// The rules by which tokens are verified.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtEntry {
    /// The file with the issuer's public keys; relative to the folder of the identity file.
    pub jwks: PathBuf,
    /// The issuer.
    #[serde(deserialize_with = "text::issuer")]
    pub issuer: String,
    /// The accepted audiences; a token has one of them.
    #[serde(deserialize_with = "audience")]
    pub audience: Vec<String>,
    /// The accepted signature algorithms, whatever the token names.
    #[serde(deserialize_with = "algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// The tolerance for clocks that differ, in seconds.
    #[serde(default = "default_leeway", deserialize_with = "text::leeway")]
    pub leeway_seconds: u64,
    /// The longest time from the issue (`iat`) of a token to its end, in seconds; `None`: not bounded.
    #[serde(default)]
    pub max_lifetime_seconds: Option<NonZeroU64>,
    /// The name of the claim with the caller's name.
    #[serde(default = "default_name_claim")]
    pub name_claim: String,
    /// The name of the claim with the caller's roles: a list, or one text with spaces between them.
    #[serde(default = "default_roles_claim")]
    pub roles_claim: String,
    /// The prefix of the roles; other values of the claim are not roles of this service.
    #[serde(default)]
    pub role_prefix: String,
    /// The name of the claim with the caller's customer id.
    #[serde(default = "default_customer_claim")]
    pub customer_claim: String,
}

fn default_leeway() -> u64 {
    30
}

fn default_name_claim() -> String {
    "sub".to_owned()
}

fn default_roles_claim() -> String {
    "roles".to_owned()
}

fn default_customer_claim() -> String {
    "customer".to_owned()
}

/// The caller of one client certificate.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawCertificate")]
pub struct CertificateEntry {
    /// The certificate.
    pub matched: Matched,
    /// The caller that it identifies.
    pub principal: Principal,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApiKey {
    #[serde(deserialize_with = "name")]
    name: Actor,
    #[serde(deserialize_with = "roles")]
    roles: Roles,
    #[serde(default, deserialize_with = "optional_customer")]
    customer: Option<CustomerId>,
    #[serde(deserialize_with = "sha256")]
    sha256: Hash,
    #[serde(default, deserialize_with = "expiry")]
    expires: Option<SystemTime>,
}

impl TryFrom<RawApiKey> for ApiKeyEntry {
    type Error = String;

    fn try_from(raw: RawApiKey) -> Result<Self, String> {
        let RawApiKey { name, roles, customer, sha256, expires } = raw;
        Ok(Self { principal: in_file(principal(name, roles, customer))?, sha256, expires })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    subject: Option<String>,
    san: Option<String>,
    #[serde(deserialize_with = "name")]
    name: Actor,
    #[serde(deserialize_with = "roles")]
    roles: Roles,
    #[serde(default, deserialize_with = "optional_customer")]
    customer: Option<CustomerId>,
}

impl TryFrom<RawCertificate> for CertificateEntry {
    type Error = String;

    fn try_from(raw: RawCertificate) -> Result<Self, String> {
        let RawCertificate { subject, san, name, roles, customer } = raw;
        let matched = match (subject, san) {
            (Some(subject), None) => Matched::Subject(Subject::parse(&subject)?),
            (None, Some(san)) => Matched::Name(AlternativeName::parse(&san)?),
            _ => return Err(format!("the certificate of '{name}' needs either subject or san")),
        };
        Ok(Self { matched, principal: in_file(principal(name, roles, customer))? })
    }
}

/// A customer id and the role customer, of which a caller has one without the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HalfCustomer {
    /// It has the role.
    #[error("'{0}' has the role customer and no customer id")]
    WithoutId(Actor),
    /// It has the id.
    #[error("'{0}' has a customer id without the role customer")]
    WithoutRole(Actor),
}

/// The caller of an entry. It has a customer id exactly if it has the role customer.
///
/// # Errors
/// [`HalfCustomer`].
pub fn principal(name: Actor, roles: Roles, customer: Option<CustomerId>) -> Result<Principal, HalfCustomer> {
    match (roles.has(Role::Customer), &customer) {
        (true, None) => Err(HalfCustomer::WithoutId(name)),
        (false, Some(_)) => Err(HalfCustomer::WithoutRole(name)),
        _ => Ok(Principal::verified(name, roles, customer)),
    }
}

fn in_file(principal: Result<Principal, HalfCustomer>) -> Result<Principal, String> {
    principal.map_err(|error| match &error {
        HalfCustomer::WithoutId(_) => format!("{error}: add customer = \"ID\""),
        HalfCustomer::WithoutRole(_) => error.to_string(),
    })
}

impl IdentityFile {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// One line that names the line in the file, or the entry. It has no key that was written in the wrong place.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {}", without_keys(&error.message().replace('\n', " ")))
        })?;
        file.check().map_err(|why| without_keys(&why))?;
        Ok(file)
    }

    fn check(&self) -> Result<(), String> {
        for (index, key) in self.api_keys.iter().enumerate() {
            if self.api_keys[..index].iter().any(|other| other.sha256 == key.sha256) {
                return Err(format!("api_keys: the key of '{}' is there twice", name_of(&key.principal)));
            }
        }
        for (index, entry) in self.certificates.iter().enumerate() {
            if self.certificates[..index].iter().any(|other| other.matched == entry.matched) {
                return Err(format!("certificates: that of '{}' is there twice", name_of(&entry.principal)));
            }
        }
        self.check_customers()?;
        let bounds = self.limits.role.values().chain(self.limits.name.values());
        if bounds.into_iter().any(|bounds| bounds.burst.is_some() && bounds.rate.is_none()) {
            return Err("limits: burst needs rate".to_owned());
        }
        for name in self.limits.name.keys() {
            let parsed: Result<Actor, _> = visible::parse(name);
            parsed.map_err(|rule| format!("limits: the name {rule}"))?;
        }
        if self.api_keys.is_empty() && self.jwt.is_none() && self.certificates.is_empty() {
            return Err("it names no caller: add [[api_keys]], [jwt] or [[certificates]]".to_owned());
        }
        Ok(())
    }

    /// Checks that all entries of a name have the same customer: they are credentials of one caller, which has one rate, and one name in the events
    /// of its orders.
    fn check_customers(&self) -> Result<(), String> {
        let of_keys = self.api_keys.iter().map(|entry| &entry.principal);
        let of_certificates = self.certificates.iter().map(|entry| &entry.principal);
        let mut customers = HashMap::new();
        for caller in of_keys.chain(of_certificates) {
            let Some(customer) = caller.customer() else { continue };
            let first = customers.entry(name_of(caller)).or_insert(customer);
            if *first != customer {
                let name = name_of(caller);
                return Err(format!(
                    "'{name}' is the customer {first} and the customer {customer}: give each its own name"
                ));
            }
        }
        Ok(())
    }
}

fn name_of(principal: &Principal) -> &str {
    principal.name().map_or("", |name| name.as_str())
}

/// Reads a file that decides about access: no one but this user and root may be able to change it.
///
/// # Errors
/// A description that names the file.
pub fn read_guarded(path: &Path) -> Result<String, String> {
    let said = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let found = fs::metadata(path).map_err(|error| said(&error))?;
    if !found.is_file() {
        return Err(said(&"it is not a file"));
    }
    if found.mode() & OTHERS_WRITE != 0 {
        let mode = found.mode() & 0o7777;
        return Err(said(&format_args!("others may change it (mode {mode:04o}): chmod go-w it")));
    }
    let own = process::geteuid().as_raw();
    if found.uid() != own && found.uid() != 0 {
        return Err(said(&format_args!("it belongs to another user (uid {}), who could change it", found.uid())));
    }
    if found.len() > MAX_FILE_BYTES {
        return Err(said(&format_args!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    private_files::read_text(path).map_err(|error| said(&error))
}

#[cfg(test)]
mod tests;
