//! API keys: long random texts, of which a node only knows the hashes.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use data_encoding::BASE64URL_NOPAD;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{
    hash::Hash,
    rejection::Rejection,
    verified::{Accepted, Verified},
};

/// The prefix of every key, by which people and secret scanners recognise one.
pub const PREFIX: &str = "orderkey_";
/// The number of random bytes of a key. Keys of this length cannot be guessed, so a fast hash protects them.
const RANDOM_BYTES: usize = 32;
/// The characters of a key.
pub const KEY_CHARS: usize = PREFIX.len() + (RANDOM_BYTES * 4).div_ceil(3);

/// A new key. It is shown once, and stored nowhere.
pub struct NewKey(String);

impl NewKey {
    /// Draws a random key.
    ///
    /// # Errors
    /// If the operating system has no random bytes.
    pub fn draw() -> Result<Self, String> {
        let mut bytes = [0; RANDOM_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
        Ok(Self(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))))
    }

    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(&self.0)
    }
}

/// The keys that a node knows.
#[derive(Debug, Default)]
pub struct ApiKeys(HashMap<[u8; 4], Vec<KnownKey>>);

#[derive(Debug)]
struct KnownKey {
    hash: Hash,
    accepted: Accepted,
}

impl ApiKeys {
    /// Adds the key with this hash, which stands for `caller` until `expires`.
    pub fn add(&mut self, hash: Hash, caller: Arc<Verified>, expires: Option<SystemTime>) {
        self.0.entry(hash.prefix()).or_default().push(KnownKey { hash, accepted: Accepted { caller, until: expires } });
    }

    /// The caller with this `key`.
    ///
    /// # Errors
    /// An unknown or expired key.
    pub fn caller(&self, key: &str, now: SystemTime) -> Result<Accepted, Rejection> {
        // Longer texts are not worth hashing.
        let hash = if key.len() == KEY_CHARS { Hash::of(key) } else { return Err(UNKNOWN) };
        let same_prefix = self.0.get(&hash.prefix()).map(Vec::as_slice).unwrap_or_default();
        let known = same_prefix.iter().find(|known| known.hash.is(&hash)).ok_or(UNKNOWN)?;
        match known.accepted.until {
            Some(end) if now >= end => Err(Rejection::Expired("the API key has expired")),
            _ => Ok(known.accepted.clone()),
        }
    }
}

const UNKNOWN: Rejection = Rejection::Invalid("the API key is not known here");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::text::Actor,
        identity::{Principal, Role, Roles},
    };

    fn caller(name: &str) -> Arc<Verified> {
        let principal = Principal::verified(Actor::parse(name).unwrap(), Roles::of(&[Role::Reader]), None);
        Arc::new(Verified { principal: Arc::new(principal), limits: None })
    }

    #[test]
    fn a_key_is_long_random_and_recognisable() {
        let [first, second] = [(); 2].map(|()| NewKey::draw().unwrap());
        assert_ne!(first.as_str(), second.as_str());
        for key in [&first, &second] {
            assert!(key.as_str().starts_with(PREFIX));
            assert_eq!(key.as_str().len(), KEY_CHARS);
            assert_eq!(BASE64URL_NOPAD.decode(&key.as_str().as_bytes()[PREFIX.len()..]).unwrap().len(), 32);
        }
    }

    #[test]
    fn only_the_whole_key_is_accepted_and_only_before_its_end() {
        let (mut keys, key, now) = (ApiKeys::default(), NewKey::draw().unwrap(), SystemTime::now());
        let end = now + Duration::from_secs(1);
        keys.add(key.hash(), caller("billing"), Some(end));
        let name =
            |key: &str, now| keys.caller(key, now).map(|found| found.caller.principal.name().unwrap().to_string());
        assert_eq!(name(key.as_str(), now), Ok("billing".to_owned()));
        assert_eq!(name(key.as_str(), end), Err(Rejection::Expired("the API key has expired")));
        let mut other = key.as_str().to_owned();
        let last = other.pop().unwrap();
        for wrong in [other.clone(), format!("{other}{}", if last == 'A' { 'B' } else { 'A' }), String::new()] {
            assert_eq!(name(&wrong, now), Err(UNKNOWN), "{wrong}");
        }
        assert_eq!(name(&key.hash().to_hex(), now), Err(UNKNOWN), "the hash is not the key");
    }

    #[test]
    fn keys_whose_hashes_begin_alike_are_distinguished() {
        let mut keys = ApiKeys::default();
        let key = NewKey::draw().unwrap();
        let near = key.hash().with_other_rest();
        keys.add(near, caller("near"), None);
        assert_eq!(keys.caller(key.as_str(), SystemTime::now()).map(|_| ()), Err(UNKNOWN));
        keys.add(key.hash(), caller("own"), None);
        let found = keys.caller(key.as_str(), SystemTime::now()).unwrap();
        assert_eq!(found.caller.principal.name().unwrap().as_str(), "own");
    }
}
