//! Bootstrap tokens: Secrets `kube-system/bootstrap-token-ID` of type
//! `bootstrap.kubernetes.io/token`.

use base64::Engine as _;
use jiff::Timestamp;
use quorate_state_machine::{Key, View};

use crate::clock::parse_seconds;
use crate::identity::{Identity, User};

/// `ID.SECRET`: six and sixteen lower-case letters and digits.
pub(super) fn looks_like_one(token: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    token.split_once('.').is_some_and(|(id, secret)| {
        id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)
    })
}

pub(super) fn authenticate(view: &View, token: &str, now: Timestamp) -> Result<Identity, String> {
    let (id, secret) = token.split_once('.').ok_or("no bootstrap token")?;
    let key = Key::new("", "secrets", "kube-system", &format!("bootstrap-token-{id}"));
    let stored = view.get(&key).ok_or("no such bootstrap token")?;
    if stored.image.header.deletion.is_some() {
        return Err("the bootstrap token is being deleted".to_owned());
    }
    let object: serde_json::Value =
        serde_json::from_slice(&stored.image.bytes).map_err(|error| error.to_string())?;
    if object["type"] != "bootstrap.kubernetes.io/token" {
        return Err("the secret is no bootstrap token".to_owned());
    }
    let field = |name: &str| {
        let text = object["data"][name].as_str()?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        String::from_utf8(bytes).ok()
    };
    let same = |a: &str, b: &str| {
        // Each byte is looked at whatever came before: the time taken tells nothing.
        a.len() == b.len()
            && a.bytes().zip(b.bytes()).fold(0, |different, (x, y)| different | (x ^ y)) == 0
    };
    if !same(&field("token-secret").unwrap_or_default(), secret)
        || field("token-id").as_deref() != Some(id)
    {
        return Err("the bootstrap token's secret is another one".to_owned());
    }
    if let Some(text) = field("expiration") {
        let expires = parse_seconds(&text).ok_or("the bootstrap token's expiration is no time")?;
        if expires <= now.as_second() {
            return Err("the bootstrap token has expired".to_owned());
        }
    }
    if field("usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err("the bootstrap token is not for authentication".to_owned());
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    for group in field("auth-extra-groups").unwrap_or_default().split(',') {
        let group = group.trim();
        if group.starts_with("system:bootstrappers:") && !groups.iter().any(|own| own == group) {
            groups.push(group.to_owned());
        }
    }
    let user = User { name: format!("system:bootstrap:{id}"), groups, ..User::default() };
    Ok(Identity::authenticated(user))
}
