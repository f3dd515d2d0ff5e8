//! Pulls an image from a registry.

use std::collections::BTreeSet;
use std::sync::Once;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth as OciAuth;

use super::archive::{DOCUMENT_BYTES_MAX, Descriptor, Manifest, is_ours};
use super::config::ConfigFile;
use super::store::{check, parse};
use super::{Error, ImageRecord, ImageStore, Reference, Result, disk};
use crate::runtime::RegistryAuth;

/// Longest wait for a connection to a registry.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence of a registry in the middle of an answer; then the pull fails and is tried again later.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

const MANIFEST_TYPES: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Pulls `reference` and enters it in the store. A layer that is here already is not fetched again. Registries on the
/// loopback and those in `plain_http` are spoken to without TLS, as docker does.
pub async fn pull(
    store: &ImageStore,
    reference: &Reference,
    auth: Option<&RegistryAuth>,
    plain_http: &BTreeSet<String>,
) -> Result<ImageRecord> {
    install_crypto();
    let puller = Puller::new(store, reference, auth, plain_http)?;
    let work_store = store.clone();
    let _work = blocking(move || work_store.begin_work()).await?;
    let (manifest, digest) = puller.manifest().await?;
    let config = manifest
        .config
        .as_ref()
        .ok_or_else(|| Error::Invalid(format!("{reference} is not an image")))?;
    if config.size > DOCUMENT_BYTES_MAX {
        return Err(Error::Invalid("image config is larger than 8 MiB".into()));
    }
    let mut config_bytes = Vec::new();
    puller.blob(config, &mut config_bytes).await?;
    check("image config", &config.digest, disk::digest_of(&config_bytes))?;
    let file: ConfigFile = parse("image config", &config_bytes)?;
    if file.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(Error::Invalid("layers and diff_ids differ in number".into()));
    }
    let mut layers = Vec::new();
    for (layer, diff_id) in manifest.layers.iter().zip(&file.rootfs.diff_ids) {
        layers.push(puller.layer(layer, diff_id).await?);
    }
    let by_digest = Reference { tag: None, digest: Some(digest), ..reference.clone() };
    let names = vec![reference.clone(), by_digest];
    let store = store.clone();
    blocking(move || store.commit(&config_bytes, layers, &names)).await
}

/// `rustls` wants one process-wide provider before the first client is made.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that the program has installed one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

struct Puller {
    store: ImageStore,
    client: oci_client::Client,
    reference: Reference,
    auth: OciAuth,
}

impl Puller {
    fn new(
        store: &ImageStore,
        reference: &Reference,
        auth: Option<&RegistryAuth>,
        plain_http: &BTreeSet<String>,
    ) -> Result<Puller> {
        let registry = &reference.registry;
        let plain = plain_http.contains(registry) || is_loopback(registry);
        let protocol = if plain { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            ..ClientConfig::default()
        };
        Ok(Puller {
            store: store.clone(),
            client: oci_client::Client::new(config),
            reference: reference.clone(),
            auth: auth.map_or(Ok(OciAuth::Anonymous), credentials)?,
        })
    }

    fn at(&self, digest: Option<&str>) -> oci_client::Reference {
        let (registry, repository) =
            (self.reference.registry.clone(), self.reference.repository.clone());
        match digest.or(self.reference.digest.as_deref()) {
            Some(digest) => {
                oci_client::Reference::with_digest(registry, repository, digest.to_owned())
            }
            None => {
                let tag = self.reference.tag.clone().unwrap_or_else(|| "latest".to_owned());
                oci_client::Reference::with_tag(registry, repository, tag)
            }
        }
    }

    /// The image manifest for this machine, and the digest of what the reference names.
    async fn manifest(&self) -> Result<(Manifest, String)> {
        let (manifest, digest) = self.fetch_manifest(None).await?;
        if manifest.config.is_some() || manifest.manifests.is_empty() {
            return Ok((manifest, digest));
        }
        let ours = manifest.manifests.iter().find(|m| m.platform.as_ref().is_some_and(is_ours));
        let ours = ours.ok_or_else(|| {
            let name = &self.reference;
            Error::Refused(format!("{name}: no match for platform in manifest: not found"))
        })?;
        let (manifest, _) = self.fetch_manifest(Some(&ours.digest)).await?;
        Ok((manifest, digest))
    }

    async fn fetch_manifest(&self, digest: Option<&str>) -> Result<(Manifest, String)> {
        let at = self.at(digest);
        let (bytes, _) = self
            .client
            .pull_manifest_raw(&at, &self.auth, MANIFEST_TYPES)
            .await
            .map_err(|err| self.failed(&err))?;
        let found = disk::digest_of(&bytes);
        if let Some(expected) = at.digest() {
            check("manifest", expected, found.clone())?;
        }
        Ok((parse("manifest", &bytes)?, found))
    }

    async fn blob(
        &self,
        descriptor: &Descriptor,
        out: impl tokio::io::AsyncWrite + Unpin,
    ) -> Result<()> {
        let wanted = OciDescriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        let at = self.at(None);
        self.client.pull_blob(&at, &wanted, out).await.map_err(|err| self.failed(&err))
    }

    async fn layer(&self, layer: &Descriptor, diff_id: &str) -> Result<super::LayerRecord> {
        let (store, id) = (self.store.clone(), diff_id.to_owned());
        if let Some(record) = blocking(move || Ok(store.layer(&id))).await? {
            return Ok(record);
        }
        let dir = self.store.ingest_dir()?;
        let path = dir.path().join("blob");
        let mut file =
            tokio::fs::File::create(&path).await.map_err(Error::io("cannot write", &path))?;
        self.blob(layer, &mut file).await?;
        let flushed = tokio::io::AsyncWriteExt::flush(&mut file).await;
        flushed.map_err(Error::io("cannot write", &path))?;
        drop(file);
        let (store, digest, id) = (self.store.clone(), layer.digest.clone(), diff_id.to_owned());
        blocking(move || {
            let _dir = dir;
            store.add_layer(&path, Some(&digest), &id)
        })
        .await
    }

    /// The words follow containerd's, which people search for.
    fn failed(&self, err: &OciDistributionError) -> Error {
        let name = &self.reference;
        let text = format!("failed to pull and unpack image \"{name}\": {}", super::chain(err));
        match err {
            OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => {
                Error::Unreachable(text)
            }
            OciDistributionError::ServerError { code, .. } if *code >= 500 => {
                Error::Unreachable(text)
            }
            _ => Error::Refused(text),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(err) => Err(Error::Invalid(format!("image work ended early: {err}"))),
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn credentials(auth: &RegistryAuth) -> Result<OciAuth> {
    use base64::Engine as _;
    if !auth.registry_token.is_empty() {
        return Ok(OciAuth::Bearer(auth.registry_token.clone()));
    }
    if !auth.username.is_empty() {
        return Ok(OciAuth::Basic(auth.username.clone(), auth.password.clone()));
    }
    if auth.auth.is_empty() {
        return Ok(OciAuth::Anonymous);
    }
    let bad =
        || Error::Refused("the image pull secret's auth is not base64 of user:password".into());
    let bytes = base64::engine::general_purpose::STANDARD.decode(&auth.auth).map_err(|_| bad())?;
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    let (user, password) = text.split_once(':').ok_or_else(bad)?;
    Ok(OciAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()))
}
