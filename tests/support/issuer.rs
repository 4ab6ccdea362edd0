//! An issuer of tokens, with one Ed25519 key.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

/// An issuer of tokens.
pub struct Issuer(Ed25519KeyPair);

impl Issuer {
    pub const URL: &str = "https://issuer.example";
    pub const AUDIENCE: &str = "orders";

    pub fn new() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random bytes");
        Self(Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key"))
    }

    /// Its key set.
    pub fn key_set(&self) -> String {
        let key = BASE64URL_NOPAD.encode(self.0.public_key().as_ref());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "1", "x": key }] }).to_string()
    }

    /// The section of an identity file for it, with its key set in `keys.json`.
    pub fn section() -> String {
        let (url, audience) = (Self::URL, Self::AUDIENCE);
        format!(
            "[jwt]\njwks = \"keys.json\"\nissuer = \"{url}\"\naudience = \"{audience}\"\nalgorithms = [\"EdDSA\"]\n"
        )
    }

    /// The claims of a token for `name` that ends in `seconds`, which may be negative.
    pub fn claims(name: &str, roles: &[&str], seconds: i64) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed();
        json!({ "iss": Self::URL, "aud": Self::AUDIENCE, "sub": name, "roles": roles, "exp": now + seconds })
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_as(&json!({ "alg": "EdDSA", "kid": "1" }), claims)
    }

    /// The same with this header.
    pub fn token_as(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", encode(header), encode(claims));
        format!("{message}.{}", BASE64URL_NOPAD.encode(self.0.sign(message.as_bytes()).as_ref()))
    }
}
