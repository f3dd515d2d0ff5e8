//! The index of images and the unpacked layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::config::{ConfigFile, ImageConfig};
use super::disk::{self, HashReader};
use super::{Error, Reference, Result, unpack};

const INDEX_VERSION: u32 = 1;

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of its uncompressed tar.
    pub diff_id: String,
    /// Bytes of its files.
    pub size_bytes: u64,
}

impl LayerRecord {
    /// Its directory below `layers/`. Short, because all lower directories of an overlay share one page.
    pub fn dir_name(&self) -> &str {
        layer_dir_name(&self.diff_id)
    }
}

fn layer_dir_name(diff_id: &str) -> &str {
    let hex = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
    hex.get(..20).unwrap_or(hex)
}

/// An image that is here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRecord {
    /// Digest of its configuration.
    pub id: String,
    /// What containers inherit.
    pub config: ImageConfig,
    /// Lowest first.
    pub layers: Vec<LayerRecord>,
    /// Normalised references with a tag.
    pub tags: BTreeSet<String>,
    /// `name@sha256:…` by which it was pulled.
    pub digests: BTreeSet<String>,
}

impl ImageRecord {
    /// Bytes of all its layers.
    pub fn size_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size_bytes).sum()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Index {
    version: u32,
    images: BTreeMap<String, ImageRecord>,
}

/// The store. All methods block on the disk: call them off the async threads.
#[derive(Debug, Clone)]
pub struct ImageStore {
    root: PathBuf,
}

impl ImageStore {
    /// Opens or makes the store at `root`. What an interrupted import left is removed, unless another process is at it.
    pub fn open(root: &Path) -> Result<ImageStore> {
        for dir in ["", "blobs", "blobs/sha256", "layers", "ingest"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).map_err(Error::io("cannot make", &path))?;
        }
        let root = root.canonicalize().map_err(Error::io("cannot find", root))?;
        let store = ImageStore { root };
        if let Some(_alone) = disk::try_lock(&store.root.join("work.lock"))? {
            for entry in read_dir(&store.root.join("ingest"))? {
                disk::remove_tree(&entry)?;
            }
        }
        Ok(store)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the unpacked layers.
    pub fn layers_dir(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// All images.
    pub fn list(&self) -> Result<Vec<ImageRecord>> {
        Ok(self.read()?.images.into_values().collect())
    }

    /// The image by id (whole, with or without `sha256:`) or reference.
    pub fn find(&self, image: &str) -> Result<Option<ImageRecord>> {
        let mut index = self.read()?;
        Ok(id_of(&index, image).and_then(|id| index.images.remove(&id)))
    }

    /// Removes a reference, or the image with all its references when an id is given. Layers that neither an image
    /// nor `used_layers` (directory names) needs go, too. Unknown images are no error.
    pub fn remove(&self, image: &str, used_layers: &BTreeSet<String>) -> Result<()> {
        self.change(|index| {
            let Some(id) = id_of(index, image) else { return };
            let Some(record) = index.images.get_mut(&id) else { return };
            if let Ok(reference) = Reference::parse(image)
                && !image.starts_with("sha256:")
                && image.trim_start_matches("sha256:") != id.trim_start_matches("sha256:")
            {
                let text = reference.to_string();
                record.tags.remove(&text);
                record.digests.remove(&text);
                if !record.tags.is_empty() || !record.digests.is_empty() {
                    return;
                }
            }
            index.images.remove(&id);
        })?;
        self.collect_garbage(used_layers)
    }

    /// Removes layers and blobs that nothing needs. Does nothing while an import or pull is under way (in any
    /// process): their layers are not in the index yet.
    pub fn collect_garbage(&self, used_layers: &BTreeSet<String>) -> Result<()> {
        let Some(_alone) = disk::try_lock(&self.root.join("work.lock"))? else { return Ok(()) };
        let index = self.read()?;
        let mut keep = used_layers.clone();
        let layers = index.images.values().flat_map(|image| &image.layers);
        keep.extend(layers.map(|layer| layer.dir_name().to_owned()));
        for path in read_dir(&self.layers_dir())? {
            let stem =
                path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            if keep.contains(&stem) {
                continue;
            }
            if path.extension().is_some() {
                remove_file(&path)?;
            } else {
                // First the mark, then the tree: half a tree is never taken for a layer.
                remove_file(&self.layer_mark(&stem))?;
                disk::remove_tree(&path)?;
            }
        }
        for path in read_dir(&self.root.join("blobs/sha256"))? {
            let name =
                path.file_name().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            if !index.images.contains_key(&format!("sha256:{name}")) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Bytes of all unpacked layers.
    pub fn used_bytes(&self) -> Result<u64> {
        let mut sizes = BTreeMap::new();
        for image in self.read()?.images.values() {
            sizes.extend(image.layers.iter().map(|l| (l.diff_id.clone(), l.size_bytes)));
        }
        Ok(sizes.values().sum())
    }

    /// Keeps garbage collection away while layers are added. Hold it until [`ImageStore::commit`].
    pub(super) fn begin_work(&self) -> Result<disk::Lock> {
        disk::lock(&self.root.join("work.lock"), FlockOperation::LockShared)
    }

    /// A fresh directory for work in progress, removed when dropped.
    pub(super) fn ingest_dir(&self) -> Result<tempfile::TempDir> {
        let dir = self.root.join("ingest");
        tempfile::TempDir::new_in(&dir).map_err(Error::io("cannot make a directory in", &dir))
    }

    /// The layer's record when it is unpacked already.
    pub(super) fn layer(&self, diff_id: &str) -> Option<LayerRecord> {
        let bytes = fs::read(self.layer_mark(layer_dir_name(diff_id))).ok()?;
        let record: LayerRecord = serde_json::from_slice(&bytes).ok()?;
        (record.diff_id == diff_id).then_some(record)
    }

    /// Unpacks a layer blob, checking its digest (when known) and its `diff_id`.
    pub(super) fn add_layer(
        &self,
        blob: &Path,
        digest: Option<&str>,
        diff_id: &str,
    ) -> Result<LayerRecord> {
        if let Some(record) = self.layer(diff_id) {
            return Ok(record);
        }
        if !super::reference::is_digest(diff_id) {
            return Err(Error::Invalid(format!("bad diff_id \"{diff_id}\"")));
        }
        let work = self.ingest_dir()?;
        let tree = work.path().join("tree");
        fs::create_dir(&tree).map_err(Error::io("cannot make", &tree))?;
        let file = File::open(blob).map_err(Error::io("cannot open", blob))?;
        let mut raw = HashReader::new(io::BufReader::with_capacity(1 << 18, file));
        let mut plain =
            HashReader::new(decompressed(&mut raw).map_err(Error::io("cannot read", blob))?);
        let size_bytes = unpack::unpack(&mut plain, &tree)?;
        let found = plain.finish().map_err(Error::io("cannot read", blob))?;
        check("layer", diff_id, found)?;
        if let Some(digest) = digest {
            let found = raw.finish().map_err(Error::io("cannot read", blob))?;
            check("layer blob", digest, found)?;
        }
        let record = LayerRecord { diff_id: diff_id.to_owned(), size_bytes };
        self.commit_layer(&tree, &record)?;
        Ok(record)
    }

    fn commit_layer(&self, tree: &Path, record: &LayerRecord) -> Result<()> {
        let dir = File::open(tree).map_err(Error::io("cannot open", tree))?;
        rustix::fs::syncfs(&dir).map_err(|err| Error::io("cannot sync", tree)(err.into()))?;
        let _index = disk::lock(&self.root.join("index.lock"), FlockOperation::LockExclusive)?;
        if self.layer(&record.diff_id).is_some() {
            return Ok(());
        }
        let target = self.layers_dir().join(record.dir_name());
        disk::remove_tree(&target)?;
        fs::rename(tree, &target).map_err(Error::io("cannot rename to", &target))?;
        disk::sync_dir(&self.layers_dir())?;
        let mark = serde_json::to_vec(record).map_err(|err| Error::Invalid(err.to_string()))?;
        disk::write_durably(&self.layer_mark(record.dir_name()), &mark)
    }

    /// Enters an image whose layers are all here, under the given names.
    pub(super) fn commit(
        &self,
        config_bytes: &[u8],
        layers: Vec<LayerRecord>,
        names: &[Reference],
    ) -> Result<ImageRecord> {
        let file: ConfigFile = parse("image config", config_bytes)?;
        let id = disk::digest_of(config_bytes);
        let blob = self.root.join("blobs/sha256").join(id.trim_start_matches("sha256:"));
        disk::write_durably(&blob, config_bytes)?;
        let mut committed = ImageRecord::default();
        self.change(|index| {
            // A tag names one image: the one that gets it takes it from the other.
            for name in names.iter().filter(|name| name.digest.is_none()) {
                let text = name.to_string();
                for other in index.images.values_mut() {
                    other.tags.remove(&text);
                }
            }
            let record = index.images.entry(id.clone()).or_default();
            record.id = id.clone();
            record.config = file.config.clone();
            record.layers = layers.clone();
            for name in names {
                let set =
                    if name.digest.is_some() { &mut record.digests } else { &mut record.tags };
                set.insert(name.to_string());
            }
            committed = record.clone();
        })?;
        Ok(committed)
    }

    fn change(&self, change: impl FnOnce(&mut Index)) -> Result<()> {
        let _lock = disk::lock(&self.root.join("index.lock"), FlockOperation::LockExclusive)?;
        let mut index = self.read()?;
        change(&mut index);
        index.version = INDEX_VERSION;
        let bytes = serde_json::to_vec_pretty(&index).map_err(|e| Error::Invalid(e.to_string()))?;
        disk::write_durably(&self.root.join("index.json"), &bytes)
    }

    fn read(&self) -> Result<Index> {
        let path = self.root.join("index.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(err) => return Err(Error::io("cannot read", &path)(err)),
        };
        let index: Index = parse("image index", &bytes)?;
        if index.version > INDEX_VERSION {
            let version = index.version;
            return Err(Error::Invalid(format!("image index has version {version}: too new")));
        }
        Ok(index)
    }

    fn layer_mark(&self, dir_name: &str) -> PathBuf {
        self.layers_dir().join(format!("{dir_name}.json"))
    }
}

fn id_of(index: &Index, image: &str) -> Option<String> {
    let as_id = format!("sha256:{}", image.trim_start_matches("sha256:"));
    if index.images.contains_key(&as_id) {
        return Some(as_id);
    }
    let name = Reference::parse(image).ok()?.to_string();
    let mut images = index.images.values();
    images.find(|i| i.tags.contains(&name) || i.digests.contains(&name)).map(|i| i.id.clone())
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|err| Error::Invalid(format!("bad {what}: {err}")))
}

pub(super) fn check(what: &str, expected: &str, found: String) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Digest { what: what.to_owned(), expected: expected.to_owned(), found })
}

/// Undoes gzip or zstd, by their magic numbers: media types lie often enough.
pub(super) fn decompressed<'a>(mut reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0_u8; 4];
    let mut have = 0;
    while have < magic.len() {
        match reader.read(&mut magic[have..])? {
            0 => break,
            count => have += count,
        }
    }
    let whole = io::Cursor::new(magic[..have].to_vec()).chain(reader);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

fn read_dir(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).map_err(Error::io("cannot list", path))?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(Error::io("cannot list", path))
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove", path)(err))
        }
        _ => Ok(()),
    }
}
