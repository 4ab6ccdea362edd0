//! The signatures of tokens, verified with ring. Only algorithms with public keys are supported: with a shared secret the node could issue tokens
//! itself.

use jsonwebtoken::{
    Algorithm as JwtAlgorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature::{Error as SignatureError, Verifier},
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use strum::VariantArray;

/// A signature algorithm, RFC 7518 and RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, VariantArray)]
#[allow(missing_docs, reason = "the names are those of the RFCs")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// The algorithm for that of the library; `None` if it is not supported here.
    #[must_use]
    pub fn of(algorithm: JwtAlgorithm) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|known| known.in_library() == algorithm)
    }

    /// The algorithm of the library for this one.
    #[must_use]
    pub const fn in_library(self) -> JwtAlgorithm {
        match self {
            Self::RS256 => JwtAlgorithm::RS256,
            Self::RS384 => JwtAlgorithm::RS384,
            Self::RS512 => JwtAlgorithm::RS512,
            Self::PS256 => JwtAlgorithm::PS256,
            Self::PS384 => JwtAlgorithm::PS384,
            Self::PS512 => JwtAlgorithm::PS512,
            Self::ES256 => JwtAlgorithm::ES256,
            Self::ES384 => JwtAlgorithm::ES384,
            Self::EdDSA => JwtAlgorithm::EdDSA,
        }
    }

    /// The kind of its keys.
    #[must_use]
    pub const fn family(self) -> AlgorithmFamily {
        match self {
            Self::ES256 | Self::ES384 => AlgorithmFamily::Ec,
            Self::EdDSA => AlgorithmFamily::Ed,
            _ => AlgorithmFamily::Rsa,
        }
    }

    fn verification(self) -> Verification {
        match self {
            Self::RS256 => Verification::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Self::RS384 => Verification::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Self::RS512 => Verification::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Self::PS256 => Verification::Rsa(&RSA_PSS_2048_8192_SHA256),
            Self::PS384 => Verification::Rsa(&RSA_PSS_2048_8192_SHA384),
            Self::PS512 => Verification::Rsa(&RSA_PSS_2048_8192_SHA512),
            Self::ES256 => Verification::Curve(&ECDSA_P256_SHA256_FIXED),
            Self::ES384 => Verification::Curve(&ECDSA_P384_SHA384_FIXED),
            Self::EdDSA => Verification::Curve(&ED25519),
        }
    }
}

enum Verification {
    Rsa(&'static RsaParameters),
    Curve(&'static dyn VerificationAlgorithm),
}

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: no_signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Makes the library verify with ring. A program that embeds a node may have chosen a provider for its own tokens; it then verifies ours as well.
pub fn install() {
    let _already_chosen = PROVIDER.install_default();
}

/// Refuses to sign: a node issues no tokens.
fn no_signer(_algorithm: &JwtAlgorithm, _key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

fn verifier(algorithm: &JwtAlgorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let known = Algorithm::of(*algorithm).filter(|known| known.family() == key.family());
    let algorithm = known.ok_or(ErrorKind::InvalidAlgorithm)?;
    Ok(Box::new(KeyVerifier { algorithm, key: key.kind().clone() }))
}

struct KeyVerifier {
    algorithm: Algorithm,
    key: DecodingKeyKind,
}

impl Verifier<Vec<u8>> for KeyVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let verified = match (self.algorithm.verification(), &self.key) {
            (Verification::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Verification::Curve(algorithm), DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(algorithm, point).verify(message, signature)
            }
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for KeyVerifier {
    fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm.in_library()
    }
}
