//! Tokens of an issuer: JSON Web Tokens (RFC 7519), verified with the keys of a key set file (RFC 7517).

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{AlgorithmFamily, DecodingKey, Validation, decode, decode_header, errors::ErrorKind, jwk::Jwk};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    file::{self, JwtEntry},
    hash::Hash,
    principal::Principal,
    redaction::without_keys,
    rejection::Rejection,
    roles::{Role, Roles},
    signatures::{self, Algorithm},
    verified::{Accepted, Verified},
};
use crate::domain::visible;

/// The maximum number of verified tokens that are remembered until they expire.
const MAX_REMEMBERED: usize = 20_000;
/// The maximum length of a token, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The claims that every token must have. The end (`exp`) is checked here, the others by the library.
const REQUIRED: [&str; 2] = ["iss", "aud"];
/// A time, in seconds since 1970, that is far beyond the end of every real token.
const NEVER_SECONDS: f64 = 1e11;

/// Verifies tokens, and remembers the verified ones.
#[derive(Debug)]
pub struct Tokens {
    entry: JwtEntry,
    keys: Vec<Key>,
    remembered: Cache<Hash, Accepted>,
}

/// A public key of the issuer.
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    family: AlgorithmFamily,
    key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A key set. Its keys are parsed one by one: keys for other uses and of other kinds are left out.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Tokens {
    /// Verifies tokens by the rules of `entry`, with the keys in `key_set`.
    ///
    /// # Errors
    /// A description of the defect of the key set.
    pub fn new(entry: JwtEntry, key_set: &str) -> Result<Self, String> {
        signatures::install();
        let described = |error: serde_json::Error| format!("it is not a key set: {}", without_keys(&error.to_string()));
        let set: KeySet = serde_json::from_str(key_set).map_err(described)?;
        let mut keys = Vec::new();
        for (index, value) in set.keys.iter().enumerate() {
            keys.extend(Key::of(value).map_err(|why| format!("key {index}: {why}"))?);
        }
        let is_usable = |algorithm: &Algorithm| keys.iter().any(|key| key.is_for(*algorithm));
        match entry.algorithms.iter().find(|algorithm| !is_usable(algorithm)) {
            Some(without) => Err(format!("it has no key for {without:?}, which algorithms names")),
            None => Ok(Self { entry, keys, remembered: Cache::new(MAX_REMEMBERED) }),
        }
    }

    /// The caller with this `token`; `finish` adds its limits.
    ///
    /// # Errors
    /// A token that was not issued by the issuer for this service, or is not valid now.
    pub fn caller(&self, token: &str, finish: impl FnOnce(Principal) -> Verified) -> Result<Accepted, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::Invalid("the token is too long"));
        }
        let hash = Hash::of(token);
        if let Some(known) = self.remembered.get(&hash) {
            if known.lasts() {
                return Ok(known);
            }
            self.remembered.remove(&hash);
            return Err(EXPIRED);
        }
        let claims = self.verified(token)?;
        let until = self.end_of(&claims)?;
        self.check_lifetime(&claims)?;
        let caller = Arc::new(finish(self.principal(&claims)?));
        let accepted = Accepted { caller, until: Some(until) };
        // By the same instant as when it is remembered.
        if !accepted.lasts() {
            return Err(EXPIRED);
        }
        self.remembered.insert(hash, accepted.clone());
        Ok(accepted)
    }

    /// The claims of a valid token.
    fn verified(&self, token: &str) -> Result<Map<String, Value>, Rejection> {
        const MALFORMED: Rejection = Rejection::Invalid("the token is not a JWT of an algorithm that is accepted here");
        let header = decode_header(token).map_err(|_| MALFORMED)?;
        let algorithm = Algorithm::of(header.alg).filter(|algorithm| self.entry.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(MALFORMED)?;
        if names_critical(token).ok_or(MALFORMED)? {
            return Err(Rejection::Invalid("the token needs an extension (crit) that is not known here"));
        }
        let validation = self.validation(algorithm);
        // A token that names its key is verified with that one only.
        let fits = |key: &&Key| key.is_for(algorithm) && (header.kid.is_none() || key.id == header.kid);
        let mut rejection = Rejection::Invalid("the token is signed with a key that is not known here");
        for key in self.keys.iter().filter(fits) {
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                // The library also takes a list that has the issuer: RFC 7519, 4.1.1, has one.
                Ok(verified) if !verified.claims.get("iss").is_some_and(Value::is_string) => {
                    return Err(Rejection::Invalid("the issuer of the token (iss) is not a text"));
                }
                Ok(verified) => return Ok(verified.claims),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {
                        rejection = Rejection::Invalid("the signature of the token is wrong");
                    }
                    other => return Err(why(other)),
                },
            }
        }
        Err(rejection)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm.in_library());
        validation.set_required_spec_claims(&REQUIRED);
        validation.set_issuer(&[&self.entry.issuer]);
        validation.set_audience(&self.entry.audience);
        validation.leeway = self.entry.leeway_seconds;
        validation.validate_nbf = true;
        // The library compares whole seconds, and would accept a token for up to a second after its end.
        validation.validate_exp = false;
        validation
    }

    /// Refuses a token whose lifetime exceeds the maximum.
    fn check_lifetime(&self, claims: &Map<String, Value>) -> Result<(), Rejection> {
        let Some(max) = self.entry.max_lifetime_seconds else { return Ok(()) };
        const LACKS: Rejection = Rejection::Invalid("the token lacks the claim iat");
        const NO_NUMBER: Rejection = Rejection::Invalid("the issue time of the token (iat) is not a number");
        let issued = time_in(claims, "iat").ok_or(NO_NUMBER)?.ok_or(LACKS)?;
        // Otherwise a token with an issue time in the future could be used for longer.
        if issued > SystemTime::now() + Duration::from_secs(self.entry.leeway_seconds) {
            return Err(Rejection::Invalid("the token is not valid yet"));
        }
        let end = time_in(claims, "exp").flatten();
        match end.is_some_and(|end| end > issued + Duration::from_secs(max.get())) {
            true => Err(Rejection::Invalid("the token lasts for longer (iat to exp) than is accepted here")),
            false => Ok(()),
        }
    }

    /// The instant from which the token is refused.
    fn end_of(&self, claims: &Map<String, Value>) -> Result<SystemTime, Rejection> {
        const NO_NUMBER: Rejection = Rejection::Invalid("the end of the token (exp) is not a number");
        let end = time_in(claims, "exp").ok_or(NO_NUMBER)?.ok_or(LACKS_CLAIM)?;
        Ok(end + Duration::from_secs(self.entry.leeway_seconds))
    }

    /// The caller that the claims describe.
    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal, Rejection> {
        let JwtEntry { name_claim, roles_claim, role_prefix, customer_claim, .. } = &self.entry;
        let text = |name: &str| claim(claims, name).and_then(Value::as_str);
        let name = text(name_claim).and_then(|name| visible::parse(name).ok());
        let name = name.ok_or(Rejection::Invalid("the token does not name its caller"))?;
        let roles = claim(claims, roles_claim).map(|value| roles_in(value, role_prefix)).unwrap_or_default();
        let customer = match text(customer_claim).filter(|_| roles.has(Role::Customer)) {
            None => None,
            Some(id) => {
                let id = visible::parse(id);
                Some(id.map_err(|_| Rejection::Invalid("the customer id in the token is not one"))?)
            }
        };
        file::principal(name, roles, customer)
            .map_err(|_| Rejection::Invalid("the token has the role customer and no customer id"))
    }
}

impl Key {
    /// Parses a key; `None` if it is not for signatures of tokens.
    fn of(value: &Value) -> Result<Option<Self>, &'static str> {
        if ["d", "k"].iter().any(|private| value.get(private).is_some()) {
            return Err("it is a private key or a shared secret: give the public keys only");
        }
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|used_for| used_for != "sig") {
            return Ok(None);
        }
        let family = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => AlgorithmFamily::Rsa,
            (Some("EC"), Some("P-256" | "P-384")) => AlgorithmFamily::Ec,
            (Some("OKP"), Some("Ed25519")) => AlgorithmFamily::Ed,
            _ => return Ok(None),
        };
        let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|_| "it is not a JSON Web Key")?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| "it is not a key")?;
        let of_curve = match text("crv") {
            Some("P-256") => Some("ES256"),
            Some("P-384") => Some("ES384"),
            _ => None,
        };
        let algorithm = of_curve.or(text("alg")).map(str::to_owned);
        Ok(Some(Self { id: text("kid").map(str::to_owned), algorithm, family, key }))
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        let name = format!("{algorithm:?}");
        self.family == algorithm.family() && self.algorithm.as_ref().is_none_or(|own| *own == name)
    }
}

const EXPIRED: Rejection = Rejection::Expired("the token has expired");
const LACKS_CLAIM: Rejection = Rejection::Invalid("the token lacks one of the claims exp, iss and aud");

fn why(error: &ErrorKind) -> Rejection {
    Rejection::Invalid(match error {
        ErrorKind::MissingRequiredClaim(_) => return LACKS_CLAIM,
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another service (aud)",
        ErrorKind::InvalidIssuer => "the token is of another issuer (iss)",
        // Of the times, the library checks this one.
        ErrorKind::InvalidClaimFormat(_) => "the start of the token (nbf) is not a number",
        _ => "the token is not a JWT that is accepted here",
    })
}

/// Whether the header demands extensions (RFC 7515, 4.1.11), of which none is supported; `None` if there is no header.
fn names_critical(token: &str) -> Option<bool> {
    let header = BASE64URL_NOPAD.decode(token.split('.').next()?.as_bytes()).ok()?;
    let header: Map<String, Value> = serde_json::from_slice(&header).ok()?;
    Some(header.contains_key("crit"))
}

/// The time in the claim `name`: seconds since 1970, which need not be whole (RFC 7519, 2). `Some(None)`: it is not there; `None`: it is not a number.
#[allow(clippy::option_option, reason = "wrong, left out and given are three things")]
fn time_in(claims: &Map<String, Value>, name: &str) -> Option<Option<SystemTime>> {
    let Some(value) = claims.get(name).filter(|value| !value.is_null()) else { return Some(None) };
    let seconds = value.as_f64()?.clamp(0.0, NEVER_SECONDS);
    Some(Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)))
}

/// The claim with this name, or at this path: `realm_access.roles`.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    // Names may contain dots themselves: https://example.com/roles.
    claims.get(name).or_else(|| {
        let mut steps = name.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    })
}

/// The roles of a claim. The claim may have values for other services.
fn roles_in(value: &Value, prefix: &str) -> Roles {
    let role = |text: &str| text.strip_prefix(prefix)?.parse::<Role>().ok();
    match value {
        Value::String(texts) => texts.split_ascii_whitespace().filter_map(role).collect(),
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).filter_map(role).collect(),
        _ => Roles::NONE,
    }
}

/// The path of the key set of `entry`, next to the identity file at `file`.
#[must_use]
pub fn key_set_path(file: &Path, entry: &JwtEntry) -> std::path::PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).join(&entry.jwks)
}

#[cfg(test)]
mod tests;
