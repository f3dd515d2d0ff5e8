//! Image references, credentials, and pulls: the same image is pulled once however many pods wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use k8s_openapi::api::core::v1::{Container, Secret};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::limits::IMAGE_PULLS_MAX;
use crate::runtime::{Error, Image, RegistryAuth, Runtime};

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// The container's policy; without one, `latest` is pulled always and the rest if absent.
pub(crate) fn policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some(_) => PullPolicy::IfNotPresent,
        None => {
            let image = container.image.as_deref().unwrap_or_default();
            let latest = normalize(image).is_ok_and(|full| full.ends_with(":latest"));
            if latest { PullPolicy::Always } else { PullPolicy::IfNotPresent }
        }
    }
}

/// The full reference: registry, repository, and a tag when there is neither tag nor digest.
pub(crate) fn normalize(image: &str) -> Result<String, String> {
    let invalid = || {
        format!(
            "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": invalid \
             reference format"
        )
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    if image.is_empty() || !image.chars().all(valid) {
        return Err(invalid());
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    let (repository, tag) = match last.rsplit_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let (first, rest) = repository.split_once('/').unwrap_or(("", repository));
    let is_host = first.contains(['.', ':']) || first == "localhost";
    let path = if is_host { rest } else { repository };
    let holes = path.split('/').any(str::is_empty) || tag.is_some_and(str::is_empty);
    if holes || path.chars().any(|c| c.is_ascii_uppercase()) || path.contains(':') {
        return Err(invalid());
    }
    let full = match (is_host, path.contains('/')) {
        (true, _) => repository.to_owned(),
        (false, true) => format!("docker.io/{repository}"),
        (false, false) => format!("docker.io/library/{repository}"),
    };
    Ok(match (tag, digest) {
        (Some(tag), Some(digest)) => format!("{full}:{tag}@{digest}"),
        (Some(tag), None) => format!("{full}:{tag}"),
        (None, Some(digest)) => format!("{full}@{digest}"),
        (None, None) => format!("{full}:latest"),
    })
}

/// Credentials for an image from pull secrets (`kubernetes.io/dockerconfigjson` and the older form), best match first.
pub(crate) fn credentials(image: &str, secrets: &[Arc<Secret>]) -> Vec<RegistryAuth> {
    let mut found: Vec<(usize, RegistryAuth)> = Vec::new();
    for secret in secrets {
        let data = secret.data.as_ref();
        let file = |key: &str| data.and_then(|data| data.get(key)).map(|bytes| &bytes.0);
        let config: Option<serde_json::Value> = file(".dockerconfigjson")
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok())
            .map(|config| config["auths"].clone())
            .or_else(|| file(".dockercfg").and_then(|bytes| serde_json::from_slice(bytes).ok()));
        for (registry, entry) in config.as_ref().and_then(|c| c.as_object()).into_iter().flatten() {
            if let Some(length) = matches(registry, image) {
                found.push((length, auth(registry, entry)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// How much of the image's name a registry entry matches.
fn matches(registry: &str, image: &str) -> Option<usize> {
    let plain = registry.trim_start_matches("https://").trim_start_matches("http://");
    let plain = plain.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let plain = if plain == "index.docker.io" { "docker.io" } else { plain };
    let (host, path) = plain.split_once('/').unwrap_or((plain, ""));
    let (image_host, image_path) = image.split_once('/')?;
    let host_matches = match host.strip_prefix("*.") {
        Some(suffix) => image_host.split_once('.').is_some_and(|(_, rest)| rest == suffix),
        None => host == image_host,
    };
    (host_matches && image_path.starts_with(path)).then_some(plain.len())
}

fn auth(registry: &str, entry: &serde_json::Value) -> RegistryAuth {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")).ok();
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) => (user.to_owned(), password.trim_end_matches('\0').to_owned()),
        None => (text("username"), text("password")),
    };
    RegistryAuth {
        username: user,
        password,
        server_address: registry.to_owned(),
        identity_token: text("identitytoken"),
        ..RegistryAuth::default()
    }
}

/// A finished pull.
#[derive(Debug, Clone)]
pub(crate) struct Pulled {
    pub(crate) image: Image,
    pub(crate) took: Duration,
    pub(crate) waited: Duration,
}

type Slot = Arc<tokio::sync::Mutex<()>>;

/// Pulls images, a few at a time.
pub(crate) struct Puller {
    runtime: Arc<dyn Runtime>,
    slots: Semaphore,
    running: Mutex<BTreeMap<String, Slot>>,
}

impl Puller {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Puller {
            runtime,
            slots: Semaphore::new(IMAGE_PULLS_MAX),
            running: Mutex::new(BTreeMap::new()),
        }
    }

    /// The image when it is here.
    pub(crate) async fn present(&self, image: &str) -> Result<Option<Image>, Error> {
        self.runtime.image_status(image).await
    }

    /// Pulls; who comes while the same image is being pulled waits for that pull first.
    pub(crate) async fn pull(&self, image: &str, auths: &[RegistryAuth]) -> Result<Pulled, Error> {
        let asked = Instant::now();
        let slot = {
            let mut running =
                self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            running.retain(|_, slot| Arc::strong_count(slot) > 1);
            running.entry(image.to_owned()).or_default().clone()
        };
        let _mine = slot.lock().await;
        let _place = self.slots.acquire().await;
        let began = Instant::now();
        let mut result = Err(Error::ImagePull("no attempt".to_owned()));
        let tries = auths.iter().map(Some).chain(auths.is_empty().then_some(None));
        for auth in tries {
            result = self.runtime.pull_image(image, auth).await;
            if result.is_ok() {
                break;
            }
        }
        let id = result?;
        let missing = || Error::NotFound(format!("image {image} after its pull"));
        let found = match self.runtime.image_status(image).await? {
            Some(found) => found,
            None => self.runtime.image_status(&id).await?.ok_or_else(missing)?,
        };
        Ok(Pulled { image: found, took: began.elapsed(), waited: asked.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_completed() {
        for (short, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("quay.io/a/b:v1", "quay.io/a/b:v1"),
            ("a@sha256:0123", "docker.io/library/a@sha256:0123"),
        ] {
            assert_eq!(normalize(short).as_deref(), Ok(full));
        }
        for bad in ["", "UPPER", "a b", "a:b:c/d:"] {
            assert!(normalize(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_matching_credentials_come_first() {
        let config = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "quay.io": {"username": "q", "password": "1"},
            "quay.io/team": {"username": "t", "password": "2"},
            "*.example.com": {"username": "e", "password": "3"},
        }});
        let bytes = k8s_openapi::ByteString(config.to_string().into_bytes());
        let secret = Secret {
            data: Some(BTreeMap::from([(".dockerconfigjson".to_owned(), bytes)])),
            ..Secret::default()
        };
        let secrets = [Arc::new(secret)];
        let users = |image: &str| -> Vec<String> {
            credentials(image, &secrets).into_iter().map(|auth| auth.username).collect()
        };
        assert_eq!(users("docker.io/library/busybox:latest"), ["u"]);
        assert_eq!(users("quay.io/team/x:1"), ["t", "q"]);
        assert_eq!(users("reg.example.com/x:1"), ["e"]);
        assert_eq!(users("other.io/x:1"), [""; 0]);
    }
}
