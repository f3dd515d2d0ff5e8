//! Keys of service account tokens: one signs, several verify.

use base64::Engine as _;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::config::ServiceAccountKeys;

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The signing key is neither a P-256 nor an RSA private key in PEM.
    #[error("the service account signing key is neither a P-256 (PKCS#8) nor an RSA private key")]
    Signing,
    /// A verification key is neither.
    #[error("service account verification key {0} is neither a P-256 nor an RSA key")]
    Verification(usize),
    /// The public half cannot be derived.
    #[error("the public half of a service account key cannot be derived")]
    Public(#[source] jsonwebtoken::errors::Error),
}

struct Verifier {
    id: String,
    algorithm: Algorithm,
    key: DecodingKey,
    jwk: Jwk,
}

/// See the module.
pub(super) struct TokenKeys {
    signing: EncodingKey,
    /// The signing key's own comes first.
    verifiers: Vec<Verifier>,
}

impl TokenKeys {
    pub(super) fn new(keys: &ServiceAccountKeys) -> Result<Self, KeyError> {
        let (signing, algorithm) = private_key(&keys.signing_key_pem).ok_or(KeyError::Signing)?;
        let mut verifiers = vec![verifier_of_private(&signing, algorithm)?];
        for (position, pem) in keys.also_accepted_pem.iter().enumerate() {
            let verifier = match private_key(pem) {
                Some((key, algorithm)) => verifier_of_private(&key, algorithm)?,
                None => public_key(pem).ok_or(KeyError::Verification(position))??,
            };
            verifiers.push(verifier);
        }
        Ok(Self { signing, verifiers })
    }

    /// Signs claims.
    pub(super) fn sign<C: Serialize>(
        &self,
        claims: &C,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let own = &self.verifiers[0];
        let mut header = Header::new(own.algorithm);
        header.kid = Some(own.id.clone());
        header.typ = None;
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    /// The claims, if one of our keys signed them. Times and audiences are not looked at here.
    pub(super) fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<C, String> {
        // What is no JWT at all is not for us to judge.
        let header = jsonwebtoken::decode_header(token).map_err(|_| String::new())?;
        let mut why = "no key of this cluster signed the token".to_owned();
        let candidates = self.verifiers.iter().filter(|verifier| {
            verifier.algorithm == header.alg
                && header.kid.as_ref().is_none_or(|id| *id == verifier.id)
        });
        for verifier in candidates {
            let mut validation = Validation::new(verifier.algorithm);
            validation.validate_exp = false;
            validation.validate_nbf = false;
            validation.validate_aud = false;
            validation.required_spec_claims.clear();
            match jsonwebtoken::decode::<C>(token, &verifier.key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    pub(super) fn algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = self
            .verifiers
            .iter()
            .map(|one| if one.algorithm == Algorithm::ES256 { "ES256" } else { "RS256" })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn jwks(&self) -> serde_json::Value {
        let keys: Vec<&Jwk> = self.verifiers.iter().map(|verifier| &verifier.jwk).collect();
        serde_json::json!({ "keys": keys })
    }
}

fn private_key(pem: &str) -> Option<(EncodingKey, Algorithm)> {
    if let Ok(key) = EncodingKey::from_ec_pem(pem.as_bytes()) {
        return Some((key, Algorithm::ES256));
    }
    EncodingKey::from_rsa_pem(pem.as_bytes()).ok().map(|key| (key, Algorithm::RS256))
}

fn verifier_of_private(key: &EncodingKey, algorithm: Algorithm) -> Result<Verifier, KeyError> {
    let jwk = Jwk::from_encoding_key(key, algorithm).map_err(KeyError::Public)?;
    verifier(jwk, algorithm)
}

fn public_key(pem: &str) -> Option<Result<Verifier, KeyError>> {
    let (key, algorithm) = match DecodingKey::from_ec_pem(pem.as_bytes()) {
        Ok(key) => (key, Algorithm::ES256),
        Err(_) => (DecodingKey::from_rsa_pem(pem.as_bytes()).ok()?, Algorithm::RS256),
    };
    let jwk = Jwk::from_decoding_key(&key, Some(algorithm)).map_err(KeyError::Public);
    Some(jwk.and_then(|jwk| verifier(jwk, algorithm)))
}

fn verifier(mut jwk: Jwk, algorithm: Algorithm) -> Result<Verifier, KeyError> {
    let key = DecodingKey::from_jwk(&jwk).map_err(KeyError::Public)?;
    // A name that follows from the key alone, so that all masters agree on it.
    let text = serde_json::to_vec(&jwk.algorithm).unwrap_or_default();
    let id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(&text));
    jwk.common.key_id = Some(id.clone());
    jwk.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
    Ok(Verifier { id, algorithm, key, jwk })
}
