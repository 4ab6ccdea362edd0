use data_encoding::BASE64URL_NOPAD;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;

use super::*;
use crate::identity::file::IdentityFile;

/// An RSA key of which only the public part was kept, and tokens signed with it: RS256 and PS256, until the year 2100.
const RSA_MODULUS: &str = concat!(
    "u8UylifI_pV-tdlqKWC-s24HMbXd4Te4bAutdJ7cDXaCANhAx1pdY5VlJGtySbX5yKBxIB3_sgB-xzN0-GG60JawIBUAddfyoNlD",
    "biZnP7ALPJ1yiP3Nkom-hj4hHiARpNTEymYc8VWwaNyGj58un5pN3gYWh4aT90t8ekgcUC_g3_ZUB73uVLnRSAZnCdKNPaeX7cmQ",
    "kVHxFcDPqQNJRiESRkwXcMFaeFF2o1UfRgRyMbT6Jyy8_vpVKmkiQxu-1RifdmPPrLCFFkFQbiW_yz5bB4HjQiIZANjq6NR3PZDN",
    "MBmBHWbG57--Zs-kkt0ZOIivcy9SSqMmsA6DgzSWwQ",
);
const RS256_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXV",
    "kIjoib3JkZXJzIiwic3ViIjoiYmlsbGluZyIsInJvbGVzIjpbIndyaXRlciJdLCJleHAiOjQxMDI0NDQ4MDB9.Wew84tLbFa47hq",
    "yWVQWelIjGzjUowcdff34nRLRz8a2jT4uRHpN6rAeM_npyVA_o2WqW01Wqj7ojw0Mp1ezDDWVJpL-9eMZWM7ZyvQf_4eCf3DvpwV",
    "cpEkmRbXTYKejhepZJUHPukpR7iAy2FEcPGg4zKYbOUvKGHDVS7DKdYXn2sq3aA8Y4N7IX7ol3vEW88Yu1UFswz2DkgnilLUeV8E",
    "PeV34iF3SKpRLBuV0cqronLlyzqcm186Ul1gIvqMAG4libvT9BYI5FXD2QcHVv7JMhb5sfv-s1wIGqiRibErqVKb_9VfKtD4EZyO",
    "ji_KmT0vr-NLDmhAHUijodHJTdeQ",
);
const PS256_TOKEN: &str = concat!(
    "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXV",
    "kIjoib3JkZXJzIiwic3ViIjoiYmlsbGluZyIsInJvbGVzIjpbIndyaXRlciJdLCJleHAiOjQxMDI0NDQ4MDB9.r7tKm2lR8aVsqn",
    "e9N7RJNF9Yn0WalC-FxuwjlljyX6Qbbgar94axyk90sRkq1kWaNEOtdI2hia0V96H9-_ISy65YGhbv-NHVM8zVO-LwZwzJT-2mO3",
    "TUvBCGQmZJyu6WNLkXZC9FDISsl5YKH6jAW52UyocAugdtAzr86aCiM8Ca0c8XHYVzrnef6h87c_OlHQJwWTk18MlaBkaKdNH1cB",
    "hKQLIjky_boDTuQvWmRsI-mvOFGtTfzg5iK5ZyKr_ws_prLqAcoruzAriUU1UP1d3chXIz208kPfFPFJ57fgIbQEST9QXOUkz2V0",
    "BxkvHDPN85g4jTR91x_8By562vyg",
);

fn encode(text: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(text.as_ref())
}

/// An issuer with a key on the curve P-256 and an Ed25519 key.
struct Issuer {
    curve: EcdsaKeyPair,
    edwards: Ed25519KeyPair,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let curve = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let edwards = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            curve: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, curve.as_ref(), &random).unwrap(),
            edwards: Ed25519KeyPair::from_pkcs8(edwards.as_ref()).unwrap(),
        }
    }

    fn keys(&self) -> Value {
        let point = self.curve.public_key().as_ref();
        json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "curve", "use": "sig", "x": encode(&point[1..33]), "y": encode(&point[33..]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "edwards", "x": encode(self.edwards.public_key()) },
            { "kty": "RSA", "kid": "rsa", "n": RSA_MODULUS, "e": "AQAB" },
            { "kty": "EC", "crv": "secp256k1", "kid": "other", "x": "AA", "y": "AA" },
        ] })
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = match header["alg"].as_str() {
            Some("ES256") => encode(self.curve.sign(&SystemRandom::new(), message.as_bytes()).unwrap()),
            Some("EdDSA") => encode(self.edwards.sign(message.as_bytes())),
            Some("HS256") => {
                // The attack on libraries that take a public key for a shared secret.
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.curve.public_key().as_ref());
                encode(hmac::sign(&key, message.as_bytes()))
            }
            _ => String::new(),
        };
        format!("{message}.{signature}")
    }
}

fn entry(more: &str) -> JwtEntry {
    let text = format!(
        "[jwt]\njwks = \"keys.json\"\nissuer = \"https://issuer.example\"\naudience = [\"orders\", \"shop\"]\n\
         algorithms = [\"ES256\", \"EdDSA\", \"RS256\"]\n{more}"
    );
    IdentityFile::parse(&text).unwrap().jwt.unwrap()
}

fn tokens(issuer: &Issuer, more: &str) -> Tokens {
    Tokens::new(entry(more), &issuer.keys().to_string()).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({ "iss": "https://issuer.example", "aud": "orders", "sub": "billing", "roles": ["writer", "admin"], "exp": now() + 600 })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn caller(tokens: &Tokens, token: &str) -> Result<Principal, Rejection> {
    let plain = |principal| Verified { principal: Arc::new(principal), limits: None };
    tokens.caller(token, plain).map(|accepted| (*accepted.caller.principal).clone())
}

#[test]
fn a_token_of_each_algorithm_names_its_caller_and_its_roles() {
    let issuer = Issuer::new();
    let tokens = tokens(&issuer, "");
    let of_curve = issuer.token(&json!({ "alg": "ES256", "kid": "curve" }), &claims());
    let without_key_id = issuer.token(&json!({ "alg": "ES256" }), &claims());
    let edwards = issuer.token(&json!({ "alg": "EdDSA", "kid": "edwards", "typ": "at+jwt" }), &claims());
    for token in [&of_curve, &without_key_id, &edwards, RS256_TOKEN] {
        let principal = caller(&tokens, token).unwrap();
        assert_eq!(principal.name().unwrap().as_str(), "billing");
        assert_eq!(principal.roles(), Roles::of(&[Role::Writer]), "unknown roles are those of other services");
    }
    let issuer_of_pss =
        Tokens::new(JwtEntry { algorithms: vec![Algorithm::PS256], ..entry("") }, &issuer.keys().to_string());
    assert!(caller(&issuer_of_pss.unwrap(), PS256_TOKEN).is_ok());
    assert!(caller(&tokens, PS256_TOKEN).is_err(), "not pinned");
}

#[test]
fn forged_tokens_and_tokens_for_others_are_refused() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let tokens = tokens(&issuer, "");
    let curve = json!({ "alg": "ES256", "kid": "curve" });
    let good = issuer.token(&curve, &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let other_claims = encode(with(claims(), "sub", json!("root")).to_string());
    let as_customer = with(claims(), "roles", json!("customer"));
    let signed = |claims: &Value| issuer.token(&curve, claims);
    for (token, said) in [
        (stranger.token(&curve, &claims()), "signature"),
        (format!("{}.{other_claims}.{}", parts[0], parts[2]), "signature"),
        (format!("{}.{}.", parts[0], parts[1]), "signature"),
        (issuer.token(&json!({ "alg": "none" }), &claims()), "not a JWT of an algorithm"),
        (issuer.token(&json!({ "alg": "None", "kid": "curve" }), &claims()), "not a JWT of an algorithm"),
        (issuer.token(&json!({ "alg": "HS256", "kid": "curve" }), &claims()), "not a JWT of an algorithm"),
        (issuer.token(&json!({ "alg": "ES256", "kid": "edwards" }), &claims()), "key that is not known"),
        (issuer.token(&json!({ "alg": "ES256", "kid": "../keys" }), &claims()), "key that is not known"),
        (issuer.token(&json!({ "alg": "ES256", "crit": ["exp"] }), &claims()), "crit"),
        (signed(&with(claims(), "aud", json!("another"))), "another service"),
        (signed(&with(claims(), "aud", json!([]))), "another service"),
        (signed(&with(claims(), "iss", json!("https://issuer.example.evil"))), "another issuer"),
        (signed(&with(claims(), "nbf", json!(now() + 300))), "not valid yet"),
        (signed(&with(claims(), "exp", Value::Null)), "lacks"),
        (signed(&with(claims(), "exp", json!("soon"))), "(exp) is not a number"),
        (signed(&with(claims(), "exp", json!((now() + 600).to_string()))), "(exp) is not a number"),
        (signed(&with(claims(), "nbf", json!("0"))), "(nbf) is not a number"),
        (
            signed(&with(claims(), "iss", json!(["https://issuer.example", "https://other.example"]))),
            "(iss) is not a text",
        ),
        (signed(&with(claims(), "iss", json!(["https://issuer.example"]))), "(iss) is not a text"),
        (signed(&with(claims(), "aud", Value::Null)), "lacks"),
        (signed(&with(claims(), "iss", json!({ "a": 1 }))), "lacks"),
        (signed(&with(claims(), "sub", Value::Null)), "does not name"),
        (signed(&with(claims(), "sub", json!("a\nb"))), "does not name"),
        (signed(&with(claims(), "sub", json!("bil\u{200B}ling"))), "does not name"),
        (signed(&with(claims(), "sub", json!("\u{2800}"))), "does not name"),
        (signed(&with(claims(), "roles", json!("customer"))), "no customer id"),
        (signed(&with(as_customer, "customer", json!("ad\u{202E}a"))), "customer id in the token"),
        (format!("{good}.x"), "not a JWT"),
        ("a.b.c".to_owned(), "not a JWT"),
        (String::new(), "not a JWT"),
        ("x".repeat(MAX_TOKEN_BYTES + 1), "too long"),
    ] {
        match caller(&tokens, &token) {
            Err(Rejection::Invalid(why)) => assert!(why.contains(said), "{why}, not {said}: {token}"),
            other => panic!("{said}: {other:?}"),
        }
    }
    assert!(caller(&tokens, &good).is_ok());
}

#[test]
fn a_token_ends_after_its_leeway_even_when_it_is_cached() {
    let issuer = Issuer::new();
    let tokens = tokens(&issuer, "leeway_seconds = 2");
    let of = |exp| issuer.token(&json!({ "alg": "EdDSA" }), &with(claims(), "exp", json!(exp)));
    assert_eq!(caller(&tokens, &of(now() - 10)), Err(EXPIRED));
    let short = of(now() - 1);
    assert!(caller(&tokens, &short).is_ok(), "within the leeway");
    assert_eq!(tokens.remembered.len(), 1);
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!(caller(&tokens, &short), Err(EXPIRED));
    assert_eq!(caller(&tokens, &short), Err(EXPIRED), "nor is it verified again");
}

#[test]
fn one_instant_ends_a_token_whether_it_is_new_or_remembered() {
    let issuer = Issuer::new();
    let tokens = tokens(&issuer, "leeway_seconds = 0");
    let seconds = now() + 2;
    let of = |exp: Value, number: u32| {
        let claims = with(with(claims(), "exp", exp), "jti", json!(number));
        issuer.token(&json!({ "alg": "EdDSA" }), &claims)
    };
    let used = of(json!(seconds), 0);
    assert!(caller(&tokens, &used).is_ok());
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    while SystemTime::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The second since 1970 in which the token ends has just begun.
    for number in 1..=3 {
        assert_eq!(caller(&tokens, &used), Err(EXPIRED));
        assert_eq!(caller(&tokens, &of(json!(seconds), number)), Err(EXPIRED), "never seen before");
        assert_eq!(caller(&tokens, &of(json!(seconds as f64 - 0.4), number)), Err(EXPIRED), "nor is it rounded up");
    }
    assert_eq!(tokens.remembered.len(), 0, "nor is one remembered");
}

#[test]
fn a_token_lasts_no_longer_than_allowed_whenever_it_is_used() {
    let issuer = Issuer::new();
    let of = |issued: Value, end: u64| {
        let claims = with(with(claims(), "iat", issued), "exp", json!(end));
        issuer.token(&json!({ "alg": "EdDSA" }), &claims)
    };
    let bounded = tokens(&issuer, "max_lifetime_seconds = 600\nleeway_seconds = 30");
    let now = now();
    assert!(caller(&bounded, &of(json!(now), now + 600)).is_ok());
    assert!(caller(&bounded, &of(json!(now as f64 - 0.5), now + 599)).is_ok(), "seconds need not be whole");
    for (issued, end, said) in [
        (json!(now), now + 601, "lasts for longer"),
        (json!(now - 3_600), now + 1, "lasts for longer"),
        (json!(now + 3_000), now + 3_600, "not valid yet"),
        (Value::Null, now + 60, "lacks the claim iat"),
        (json!("now"), now + 60, "(iat) is not a number"),
    ] {
        match caller(&bounded, &of(issued.clone(), end)) {
            Err(Rejection::Invalid(why)) => assert!(why.contains(said), "{why}, not {said}: {issued}"),
            other => panic!("{issued} {end}: {other:?}"),
        }
    }
    assert!(caller(&tokens(&issuer, ""), &of(Value::Null, now + 1_000_000)).is_ok(), "not bounded unless set");
}

#[test]
fn claims_may_have_other_names_and_be_within_others() {
    let issuer = Issuer::new();
    let more = "name_claim = \"client\"\nroles_claim = \"realm_access.roles\"\nrole_prefix = \"orders:\"\n\
                customer_claim = \"https://example.com/customer\"";
    let tokens = tokens(&issuer, more);
    let mut claims = claims();
    claims["client"] = json!("shop");
    claims["realm_access"] = json!({ "roles": ["writer", "orders:customer"] });
    claims["https://example.com/customer"] = json!("c-7");
    let principal = caller(&tokens, &issuer.token(&json!({ "alg": "EdDSA" }), &claims)).unwrap();
    assert_eq!(principal.name().unwrap().as_str(), "shop");
    assert_eq!(principal.roles(), Roles::of(&[Role::Customer]), "writer has no prefix");
    assert_eq!(principal.customer().unwrap().as_str(), "c-7");
    claims["realm_access"] = json!({ "roles": "orders:reader orders:events" });
    let principal = caller(&tokens, &issuer.token(&json!({ "alg": "EdDSA" }), &claims)).unwrap();
    assert_eq!(principal.roles(), Roles::of(&[Role::Reader, Role::Events]));
    assert_eq!(principal.customer(), None, "it is no customer");
}

#[test]
fn a_key_set_with_private_or_too_few_keys_is_refused() {
    let issuer = Issuer::new();
    for (keys, said) in [
        (json!({ "keys": [] }), "no key for ES256"),
        (json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] }), "shared secret"),
        (json!({ "keys": [{ "kty": "RSA", "n": "AA", "e": "AQAB", "d": "AA" }] }), "private key"),
        (json!({ "keys": [{ "kty": "RSA", "n": "AA" }] }), "key 0"),
        (json!([]), "not a key set"),
    ] {
        let why = Tokens::new(entry(""), &keys.to_string()).unwrap_err();
        assert!(why.contains(said), "{why}");
    }
    let mut for_encryption = issuer.keys();
    for_encryption["keys"][0]["use"] = json!("enc");
    assert!(Tokens::new(entry(""), &for_encryption.to_string()).unwrap_err().contains("ES256"));
}
