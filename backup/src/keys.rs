//! Private keys in a backup: sealed with a passphrase, since whoever has them is the cluster.
//!
//! Argon2id makes a key of the passphrase, ChaCha20-Poly1305 seals the files with it. The numbers that Argon2 was given
//! stand beside, so that later versions may take higher ones.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::limits::{
    ARGON2_MEMORY_KIB, ARGON2_MEMORY_KIB_MAX, ARGON2_PASSES, ARGON2_PASSES_MAX,
    PASSPHRASE_BYTES_MAX, PASSPHRASE_BYTES_MIN,
};

const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const FORM: &str = "argon2id+chacha20poly1305";

/// Names and contents of files.
pub type Files = Vec<(String, String)>;

/// What opens sealed keys. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(***)")
    }
}

impl Passphrase {
    /// A passphrase as it stands in a file: white space around it does not belong to it.
    ///
    /// # Errors
    /// When it is too short to protect anything, or longer than any.
    pub fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if !(PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX).contains(&text.len()) {
            return Err(Error::Keys(format!(
                "a passphrase has {PASSPHRASE_BYTES_MIN} to {PASSPHRASE_BYTES_MAX} bytes, this one {}",
                text.len()
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was given.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Keys that only their passphrase opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedKeys {
    /// How they are sealed.
    pub form: String,
    /// Memory that Argon2 was given, KiB.
    pub memory_kib: u32,
    /// How often it went through that.
    pub passes: u32,
    /// Salt of the passphrase, base64.
    salt: String,
    /// Nonce of the seal, base64.
    nonce: String,
    /// The sealed files, base64.
    sealed: String,
}

/// What binds keys to the cluster that they are of: those of another one do not open in its place.
fn bound_to(cluster_id: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("quorate backup keys 1 {cluster_id}").into_bytes())
}

fn key_of(
    passphrase: &Passphrase,
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
) -> Result<LessSafeKey, Error> {
    let refused = |what: &dyn std::fmt::Display| Error::Keys(format!("cannot make a key: {what}"));
    let params =
        Params::new(memory_kib, passes, 1, Some(KEY_BYTES)).map_err(|error| refused(&error))?;
    let mut key = [0; KEY_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.0.as_bytes(), salt, &mut key)
        .map_err(|error| refused(&error))?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|error| refused(&error))?;
    Ok(LessSafeKey::new(key))
}

impl SealedKeys {
    /// Seals files. Takes a moment, on purpose.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(files: &Files, passphrase: &Passphrase, cluster_id: &str) -> Result<Self, Error> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_LEN]);
        let random = SystemRandom::new();
        let filled = random.fill(&mut salt).and_then(|()| random.fill(&mut nonce));
        filled.map_err(|_| Error::Keys("the system has no randomness".to_owned()))?;
        let key = key_of(passphrase, &salt, ARGON2_MEMORY_KIB, ARGON2_PASSES)?;
        let mut sealed =
            serde_json::to_vec(files).map_err(|error| Error::Keys(error.to_string()))?;
        let number = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(number, bound_to(cluster_id), &mut sealed)
            .map_err(|_| Error::Keys("the keys are too long to be sealed".to_owned()))?;
        Ok(Self {
            form: FORM.to_owned(),
            memory_kib: ARGON2_MEMORY_KIB,
            passes: ARGON2_PASSES,
            salt: BASE64.encode(salt),
            nonce: BASE64.encode(nonce),
            sealed: BASE64.encode(sealed),
        })
    }

    /// Opens them.
    ///
    /// # Errors
    /// When the passphrase is another one, or they are of another cluster.
    pub fn open(&self, passphrase: &Passphrase, cluster_id: &str) -> Result<Files, Error> {
        if self.form != FORM {
            let form = &self.form;
            return Err(Error::Keys(format!("the keys are sealed as {form}: use a newer quorate")));
        }
        if self.memory_kib > ARGON2_MEMORY_KIB_MAX || self.passes > ARGON2_PASSES_MAX {
            return Err(Error::Keys("the keys ask for more work than any may".to_owned()));
        }
        let bytes = |text: &str| {
            BASE64.decode(text).map_err(|_| Error::Keys("the keys do not decode".to_owned()))
        };
        let (salt, nonce, mut sealed) =
            (bytes(&self.salt)?, bytes(&self.nonce)?, bytes(&self.sealed)?);
        let key = key_of(passphrase, &salt, self.memory_kib, self.passes)?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce)
            .map_err(|_| Error::Keys("the keys do not decode".to_owned()))?;
        let opened = key
            .open_in_place(nonce, bound_to(cluster_id), &mut sealed)
            .map_err(|_| Error::Keys("the passphrase does not open the keys".to_owned()))?;
        serde_json::from_slice(opened).map_err(|error| Error::Keys(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text).unwrap()
    }

    #[test]
    fn only_the_passphrase_opens_and_only_for_the_cluster() {
        let files: Files = vec![("peer-ca.key".to_owned(), "a private key".to_owned())];
        let right = passphrase("correct horse\n");
        let sealed = SealedKeys::seal(&files, &right, "c1").unwrap();
        let text = serde_json::to_string(&sealed).unwrap();
        assert!(!text.contains("private"), "{text}");
        assert_eq!(sealed.open(&right, "c1").unwrap(), files);
        assert_eq!(sealed.open(&passphrase("correct horse"), "c1").unwrap(), files);
        for (passphrase, cluster) in [(passphrase("battery staple"), "c1"), (right, "c2")] {
            let error = sealed.open(&passphrase, cluster).unwrap_err();
            assert_eq!(error.to_string(), "the passphrase does not open the keys");
        }
    }

    #[test]
    fn a_file_cannot_ask_for_any_amount_of_work() {
        let right = passphrase("correct horse");
        let sealed = SealedKeys::seal(&Vec::new(), &right, "c1").unwrap();
        let greedy = SealedKeys { memory_kib: ARGON2_MEMORY_KIB_MAX + 1, ..sealed };
        assert!(greedy.open(&right, "c1").unwrap_err().to_string().contains("more work"));
    }

    #[test]
    fn a_passphrase_is_not_shown_and_not_short() {
        assert_eq!(format!("{:?}", passphrase("correct horse")), "Passphrase(***)");
        assert!(Passphrase::new("  short ").is_err());
        assert!(Passphrase::new(&"x".repeat(PASSPHRASE_BYTES_MAX + 1)).is_err());
    }
}
