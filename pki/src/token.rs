//! Join tokens: a Kubernetes bootstrap token (`id.secret`) and the hash of the cluster authority's
//! key, in one word. The id names a Secret `bootstrap-token-<id>` in `kube-system`.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Length of the id and of the secret (Kubernetes: `[a-z0-9]{6}` and `[a-z0-9]{16}`).
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const PIN_LENGTH: usize = 64;

/// A join token. `Debug` does not show the secret; `Display` is the token itself.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: String,
    secret: String,
    pin: String,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).field("pin", &self.pin).finish()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.id, self.secret, self.pin)
    }
}

impl JoinToken {
    /// A new token for the cluster whose authority has this hash.
    #[must_use]
    pub fn generate(pin: &str) -> Self {
        Self { id: random(ID_LENGTH), secret: random(SECRET_LENGTH), pin: pin.to_owned() }
    }

    /// Names the token; not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Proves the token.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Hash of the cluster authority's public key.
    #[must_use]
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// The part that Kubernetes knows: `id.secret`.
    #[must_use]
    pub fn bootstrap_token(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.trim().split('.');
        let (id, secret, pin) = (parts.next(), parts.next(), parts.next());
        let (Some(id), Some(secret), Some(pin), None) = (id, secret, pin, parts.next()) else {
            return Err(Error::Token("it has not three parts"));
        };
        let plain = |part: &str, length: usize| {
            part.len() == length
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if !plain(id, ID_LENGTH) || !plain(secret, SECRET_LENGTH) {
            return Err(Error::Token("id or secret is not lower-case letters and digits"));
        }
        if pin.len() != PIN_LENGTH || !pin.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::Token("its third part is not a SHA-256 in hex"));
        }
        Ok(Self { id: id.into(), secret: secret.into(), pin: pin.to_ascii_lowercase() })
    }
}

fn random(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..length).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text() {
        let token = JoinToken::generate(&"0a".repeat(32));
        assert_eq!(token.to_string().parse::<JoinToken>().unwrap(), token);
        assert!(!format!("{token:?}").contains(token.secret()));
    }

    #[test]
    fn other_texts_are_refused_with_what_is_wrong() {
        for (text, why) in [
            ("", "it has not three parts"),
            ("abcdef.0123456789abcdef", "it has not three parts"),
            ("ABCDEF.0123456789abcdef.00", "id or secret is not lower-case letters and digits"),
            ("abcdef.0123456789abcdef.00", "its third part is not a SHA-256 in hex"),
        ] {
            let error = text.parse::<JoinToken>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
