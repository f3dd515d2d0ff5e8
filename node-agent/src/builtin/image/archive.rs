//! Imports images from a docker archive (`docker save`), an OCI archive, or an OCI layout directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use tar::EntryType;

use super::config::ConfigFile;
use super::disk::{self, HashReader};
use super::store::{check, decompressed, parse};
use super::{Error, ImageRecord, ImageStore, Reference, Result};

/// A manifest or configuration larger than this is refused (bytes).
pub(super) const DOCUMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Indexes may nest this deep.
const INDEX_DEPTH_MAX: usize = 4;

/// A descriptor of OCI and docker.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
}

/// An image manifest or an index of them: whichever list is there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Manifest {
    pub(super) manifests: Vec<Descriptor>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Vec<Descriptor>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Whether this machine runs images of the platform.
pub(super) fn is_ours(platform: &Platform) -> bool {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    platform.os == "linux" && platform.architecture == arch
}

/// Imports every image of an archive or layout directory. `name`, when given, is put on an image that brings no name
/// of its own. Returns the images. Blocks.
pub fn import(
    store: &ImageStore,
    path: &Path,
    name: Option<&Reference>,
) -> Result<Vec<ImageRecord>> {
    let _work = store.begin_work()?;
    if path.is_dir() {
        let source = Source { dir: path.to_owned(), links: BTreeMap::new() };
        return source.import(store, name);
    }
    let extracted = store.ingest_dir()?;
    let links = extract(path, extracted.path())?;
    Source { dir: extracted.path().to_owned(), links }.import(store, name)
}

/// Extracts the regular files of an archive and tells its links (old `docker save` deduplicates layers by symlink).
fn extract(archive: &Path, dir: &Path) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let file = File::open(archive).map_err(Error::io("cannot open", archive))?;
    let reader = io::BufReader::with_capacity(1 << 18, file);
    let reader = decompressed(reader).map_err(Error::io("cannot read", archive))?;
    let broken = |err: io::Error| {
        Error::Invalid(format!("{} is not an image archive: {err}", archive.display()))
    };
    let mut links = BTreeMap::new();
    let mut tar = tar::Archive::new(reader);
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let Some(path) = normal(Path::new(""), &path) else {
            return Err(Error::Invalid(format!("archive entry {} leaves it", path.display())));
        };
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let target = dir.join(&path);
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent).map_err(Error::io("cannot make", parent))?;
                }
                let mut out = File::create(&target).map_err(Error::io("cannot write", &target))?;
                io::copy(&mut entry, &mut out).map_err(Error::io("cannot write", &target))?;
            }
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let base = if kind == EntryType::Symlink { path.parent() } else { None };
                let to = entry.link_name().map_err(broken)?.unwrap_or_default();
                if let Some(to) = normal(base.unwrap_or_else(|| Path::new("")), &to) {
                    links.insert(path, to);
                }
            }
            _ => {}
        }
    }
    Ok(links)
}

/// `base/path` without `.` and `..`; `None` when it leads out.
fn normal(base: &Path, path: &Path) -> Option<PathBuf> {
    let mut out = base.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir => {
                if !out.pop() {
                    return None;
                }
            }
            Component::Prefix(_) => return None,
        }
    }
    Some(out)
}

struct Source {
    dir: PathBuf,
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Source {
    fn import(&self, store: &ImageStore, name: Option<&Reference>) -> Result<Vec<ImageRecord>> {
        if self.dir.join("manifest.json").is_file() {
            return self.docker(store, name);
        }
        if !self.dir.join("index.json").is_file() {
            return Err(Error::Invalid(
                "neither manifest.json (docker archive) nor index.json (OCI layout) inside".into(),
            ));
        }
        let index: Manifest = parse("index.json", &self.document(Path::new("index.json"))?)?;
        let mut images = Vec::new();
        self.oci(store, &index, &[], name, &mut images, 0)?;
        if images.is_empty() {
            return Err(Error::Invalid("no image for this machine's platform inside".into()));
        }
        Ok(images)
    }

    fn docker(&self, store: &ImageStore, name: Option<&Reference>) -> Result<Vec<ImageRecord>> {
        let manifests: Vec<DockerManifest> =
            parse("manifest.json", &self.document(Path::new("manifest.json"))?)?;
        let mut images = Vec::new();
        for manifest in manifests {
            let config = self.document(Path::new(&manifest.config))?;
            let tags = manifest.repo_tags.unwrap_or_default();
            let mut names: Vec<Reference> =
                tags.iter().map(|tag| Reference::parse(tag)).collect::<Result<_>>()?;
            if names.is_empty() {
                names.extend(name.cloned());
            }
            let layers: Vec<_> =
                manifest.layers.iter().map(|path| (PathBuf::from(path), None)).collect();
            images.push(self.image(store, &config, &layers, &names)?);
        }
        Ok(images)
    }

    fn oci(
        &self,
        store: &ImageStore,
        index: &Manifest,
        inherited: &[Reference],
        name: Option<&Reference>,
        images: &mut Vec<ImageRecord>,
        depth: usize,
    ) -> Result<()> {
        if depth > INDEX_DEPTH_MAX {
            return Err(Error::Invalid("image indexes are nested too deep".into()));
        }
        for entry in &index.manifests {
            if entry.platform.as_ref().is_some_and(|p| !is_ours(p)) {
                continue;
            }
            let mut names = names_of(entry);
            if names.is_empty() {
                names = inherited.to_vec();
            }
            let bytes = self.blob_document(entry)?;
            let manifest: Manifest = parse("manifest", &bytes)?;
            let Some(config) = &manifest.config else {
                self.oci(store, &manifest, &names, name, images, depth + 1)?;
                continue;
            };
            if names.is_empty() {
                names.extend(name.cloned());
            }
            let config = self.blob_document(config)?;
            let file: ConfigFile = parse("image config", &config)?;
            let platform = Platform { architecture: file.architecture, os: file.os };
            if depth > 0 && entry.platform.is_none() && !is_ours(&platform) {
                continue;
            }
            let layers: Vec<_> = manifest
                .layers
                .iter()
                .map(|layer| Ok((blob_path(&layer.digest)?, Some(layer.digest.clone()))))
                .collect::<Result<_>>()?;
            images.push(self.image(store, &config, &layers, &names)?);
        }
        Ok(())
    }

    fn image(
        &self,
        store: &ImageStore,
        config: &[u8],
        layers: &[(PathBuf, Option<String>)],
        names: &[Reference],
    ) -> Result<ImageRecord> {
        let file: ConfigFile = parse("image config", config)?;
        if file.rootfs.diff_ids.len() != layers.len() {
            return Err(Error::Invalid("layers and diff_ids differ in number".into()));
        }
        let mut records = Vec::new();
        for ((path, digest), diff_id) in layers.iter().zip(&file.rootfs.diff_ids) {
            records.push(store.add_layer(&self.resolve(path)?, digest.as_deref(), diff_id)?);
        }
        store.commit(config, records, names)
    }

    fn blob_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.document(&blob_path(&descriptor.digest)?)?;
        check("blob", &descriptor.digest, disk::digest_of(&bytes))?;
        Ok(bytes)
    }

    fn document(&self, path: &Path) -> Result<Vec<u8>> {
        let path = self.resolve(path)?;
        let file = File::open(&path).map_err(Error::io("cannot open", &path))?;
        let mut bytes = Vec::new();
        let mut limited = HashReader::new(file.take(DOCUMENT_BYTES_MAX + 1));
        limited.read_to_end(&mut bytes).map_err(Error::io("cannot read", &path))?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(Error::Invalid(format!("{} is larger than 8 MiB", path.display())));
        }
        Ok(bytes)
    }

    /// Where a file of the archive is, through links inside the archive only.
    fn resolve(&self, path: &Path) -> Result<PathBuf> {
        let missing = || Error::Invalid(format!("{} is missing in the archive", path.display()));
        let mut path = normal(Path::new(""), path).ok_or_else(missing)?;
        for _ in 0..8 {
            match self.links.get(&path) {
                Some(to) => path = to.clone(),
                None => break,
            }
        }
        let full = self.dir.join(path);
        if full.is_file() { Ok(full) } else { Err(missing()) }
    }
}

fn blob_path(digest: &str) -> Result<PathBuf> {
    if !super::reference::is_digest(digest) {
        return Err(Error::Invalid(format!("bad digest \"{digest}\"")));
    }
    Ok(Path::new("blobs/sha256").join(digest.trim_start_matches("sha256:")))
}

/// containerd writes the whole name, the OCI annotation is often a mere tag: then it names nothing.
fn names_of(entry: &Descriptor) -> Vec<Reference> {
    let whole = entry.annotations.get("io.containerd.image.name");
    let short = entry.annotations.get("org.opencontainers.image.ref.name");
    let text = whole.or_else(|| short.filter(|text| text.contains(['/', ':'])));
    text.and_then(|text| Reference::parse(text).ok()).into_iter().collect()
}
