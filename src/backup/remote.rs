//! Backups in a bucket that speaks S3: `s3://BUCKET/PREFIX` where a directory is asked for. Who one is, and where the
//! bucket is, say the variables that every S3 tool reads (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
//! `AWS_ENDPOINT_URL`, ...), or the machine's own role.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as ObjectPath;
use object_store::{
    ClientConfigKey, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig, WriteMultipart,
};
use quorate_backup::file::{EXTENSION, Listed, sort};
use quorate_backup::read_header;

/// What a place in a bucket begins with.
pub const SCHEME: &str = "s3://";

/// One request ends after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A request that fails is tried again for so long.
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);

/// What a backup says of itself is in its first so many bytes, sealed keys included.
const HEADER_BYTES_MAX: u64 = 256 * 1024;

/// A backup goes up in parts of this size, two at a time.
const PART_BYTES: usize = 8 * 1024 * 1024;
const PARTS_AT_ONCE: usize = 2;

/// Headers that are read at the same time for a list.
const HEADERS_AT_ONCE: usize = 8;

/// Backups that are listed; more are an error, which names what to do.
const LISTED_MAX: usize = 10_000;

/// A place in a bucket. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    url: String,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the store, which knows keys.
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Remote {
    /// The place that a text names; `None` when it names a directory.
    pub fn parse(text: &Path) -> anyhow::Result<Option<Self>> {
        let Some(rest) = text.to_str().and_then(|text| text.strip_prefix(SCHEME)) else {
            return Ok(None);
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            bail!("{} names no bucket: write s3://BUCKET/PREFIX", text.display());
        }
        let retry = RetryConfig { retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        // The library takes the process' own; that there is one already is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        // Beside what the variables say of connections (AWS_ALLOW_HTTP, AWS_PROXY_URL).
        let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_config(timeout, format!("{}s", REQUEST_TIMEOUT.as_secs()))
            .with_retry(retry)
            .build()
            .with_context(|| format!("{} cannot be used", text.display()))?;
        let prefix = ObjectPath::parse(prefix.trim_end_matches('/'))
            .with_context(|| format!("{}: the prefix is not one", text.display()))?;
        let url = format!("{SCHEME}{bucket}/{prefix}");
        Ok(Some(Self { store: Arc::new(store), prefix, url }))
    }

    fn path(&self, name: &str) -> ObjectPath {
        self.prefix.clone().join(name)
    }

    /// The backups that are there, oldest first. Of each only the beginning is read.
    pub async fn list(&self) -> anyhow::Result<Vec<Listed>> {
        let what = || format!("cannot list {}", self.url);
        let prefix = Some(&self.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let found = self.store.list_with_delimiter(prefix).await.with_context(what)?.objects;
        let is_backup = |name: &str| Path::new(name).extension().is_some_and(|is| is == EXTENSION);
        let found: Vec<_> = found
            .into_iter()
            .filter(|one| one.location.filename().is_some_and(is_backup))
            .collect();
        if found.len() > LISTED_MAX {
            bail!(
                "{} has {} backups, at most {LISTED_MAX} are listed: give a prefix",
                self.url,
                found.len()
            );
        }
        let headers = futures::stream::iter(found).map(|one| async move {
            let end = HEADER_BYTES_MAX.min(one.size);
            let header = match self.store.get_range(&one.location, 0..end.max(1)).await {
                // Another master has removed one of its own meanwhile.
                Err(object_store::Error::NotFound { .. }) => return None,
                Err(error) => Err(std::io::Error::other(error).into()),
                Ok(begin) => read_header(&mut begin.as_ref()),
            };
            let name = one.location.filename().unwrap_or_default().to_owned();
            Some(Listed { name, bytes: one.size, header })
        });
        let headers: Vec<Option<Listed>> =
            headers.buffer_unordered(HEADERS_AT_ONCE).collect().await;
        let mut all: Vec<Listed> = headers.into_iter().flatten().collect();
        sort(&mut all);
        Ok(all)
    }

    /// Puts a file there.
    pub async fn upload(&self, file: &Path, name: &str) -> anyhow::Result<()> {
        let what = || format!("cannot put {name} into {}", self.url);
        let mut input = File::open(file).with_context(|| file.display().to_string())?;
        let path = self.path(name);
        if input.metadata()?.len() <= PART_BYTES as u64 {
            let mut bytes = Vec::new();
            input.read_to_end(&mut bytes)?;
            self.store.put(&path, PutPayload::from(bytes)).await.with_context(what)?;
            return Ok(());
        }
        let upload = self.store.put_multipart(&path).await.with_context(what)?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        if let Err(error) = send(&mut input, &mut writer).await {
            // What came of it would be paid for, for ever.
            drop(writer.abort().await);
            return Err(error).with_context(what);
        }
        writer.finish().await.with_context(what)?;
        Ok(())
    }

    /// Writes one of them to a file that is not there yet.
    pub async fn download(&self, name: &str, file: &Path) -> anyhow::Result<()> {
        let what = || format!("cannot get {name} from {}", self.url);
        let mut output = File::create_new(file).with_context(|| file.display().to_string())?;
        let path = self.path(name);
        let size = self.store.head(&path).await.with_context(what)?.size;
        let mut at = 0;
        // Each part is a request with its own time.
        while at < size {
            let end = size.min(at + PART_BYTES as u64);
            let part = self.store.get_range(&path, at..end).await.with_context(what)?;
            anyhow::ensure!(!part.is_empty(), "{}: it ends early", what());
            at += part.len() as u64;
            output.write_all(&part)?;
        }
        output.sync_all()?;
        Ok(())
    }

    /// Removes one; that it is gone already is fine.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("cannot remove {name} from {}", self.url))
            }
        }
    }
}

async fn send(input: &mut File, writer: &mut WriteMultipart) -> anyhow::Result<()> {
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        if std::io::Read::by_ref(input).take(PART_BYTES as u64).read_to_end(&mut part)? == 0 {
            return Ok(());
        }
        writer.wait_for_capacity(PARTS_AT_ONCE).await?;
        writer.put(Bytes::from(part));
    }
}

/// A backup that is named on the command line, on this disk for as long as this lives.
#[derive(Debug)]
pub struct Fetched {
    path: std::path::PathBuf,
    _scratch: Option<tempfile::TempDir>,
}

impl Fetched {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gets it, when it is not on this machine.
    pub async fn new(named: &Path) -> anyhow::Result<Self> {
        let text = named.to_str().unwrap_or_default();
        let Some((place, name)) = text.strip_prefix(SCHEME).and_then(|_| text.rsplit_once('/'))
        else {
            return Ok(Self { path: named.to_owned(), _scratch: None });
        };
        let remote =
            Remote::parse(Path::new(place))?.with_context(|| format!("{text} is no place"))?;
        // It may be large: beside what people work on, not in memory.
        let scratch = tempfile::Builder::new().prefix(".quorate-backup-").tempdir_in(".")?;
        let path = scratch.path().join(name);
        remote.download(name, &path).await?;
        Ok(Self { path, _scratch: Some(scratch) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_so_is_in_a_bucket() {
        let parse = |text: &str| Remote::parse(Path::new(text));
        assert!(parse("/var/backups").unwrap().is_none());
        assert!(parse("s3").unwrap().is_none());
        let remote = parse("s3://bucket/a/b/").unwrap().unwrap();
        assert_eq!(remote.to_string(), "s3://bucket/a/b");
        assert_eq!(remote.path("x.backup").as_ref(), "a/b/x.backup");
        assert_eq!(parse("s3://bucket").unwrap().unwrap().path("x").as_ref(), "x");
        let error = format!("{:#}", parse("s3:///x").unwrap_err());
        assert!(error.contains("write s3://BUCKET/PREFIX"), "{error}");
    }
}
