//! kubeconfig files: made, merged into an existing one, never damaging it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quorate_pki::{Certified, files};
use rustix::fs::{Access as Rights, FlockOperation, access as may, flock};
use serde_json::{Value, json};

/// Largest kubeconfig that is merged into.
const KUBECONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A lock this old was left by a program that was killed: changing the file takes milliseconds.
const LOCK_STALE: Duration = Duration::from_secs(60);

/// A lock of another program's that does not go away in this time ends ours with an error.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

const LOCK_POLL: Duration = Duration::from_millis(50);

/// How a user reaches a cluster, and as whom.
#[derive(Debug)]
pub struct Access {
    /// Name of cluster, user and context.
    pub name: String,
    /// `https://host:port`.
    pub server: String,
    /// By what name the server proves itself, when that is not its host.
    pub server_name: Option<String>,
    /// Whom to trust.
    pub ca_pem: String,
    /// Whom to be: the content of a `user` entry.
    pub user: Value,
}

/// The content of a `user` entry with a certificate.
pub fn user_of(client: &Certified) -> Value {
    json!({
        "client-certificate-data": BASE64.encode(&client.certificate_pem),
        "client-key-data": BASE64.encode(&client.key_pem),
    })
}

impl Access {
    /// A whole kubeconfig with this access alone.
    pub fn document(&self) -> Value {
        let mut config = empty();
        self.merge_into(&mut config);
        config
    }

    fn merge_into(&self, config: &mut Value) {
        let mut cluster = json!({
            "server": self.server,
            "certificate-authority-data": BASE64.encode(&self.ca_pem),
        });
        if let Some(name) = &self.server_name {
            cluster["tls-server-name"] = name.as_str().into();
        }
        let context = json!({"cluster": self.name, "user": self.name});
        upsert(config, "clusters", "cluster", &self.name, cluster);
        upsert(config, "users", "user", &self.name, self.user.clone());
        upsert(config, "contexts", "context", &self.name, context);
        config["current-context"] = self.name.as_str().into();
    }

    /// Adds this access to the file, or replaces the one of the same name, and makes it the current
    /// one. What else is in the file stays. Written beside and renamed; a link is followed.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let path = &behind_links(path);
        if let Some(directory) = path.parent()
            && !directory.as_os_str().is_empty()
        {
            files::create_private_dir(directory)?;
        }
        let _lock = Lock::take(path)?;
        let mut config = read(path)?;
        self.merge_into(&mut config);
        files::write_private(path, to_yaml(&config)?.as_bytes())?;
        Ok(())
    }
}

fn empty() -> Value {
    json!({"apiVersion": "v1", "kind": "Config", "preferences": {}})
}

/// Whether an access could be merged into the file: asked before anything is started, so that a start that cannot
/// write its kubeconfig leaves no cluster behind.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let path = behind_links(path);
    read(&path)?;
    let refused = || format!("cannot write the kubeconfig {}", path.display());
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    if directory.is_dir() {
        if path.exists() {
            // A rename would replace it all the same: that is not what read-only means.
            may(&path, Rights::WRITE_OK).with_context(refused)?;
        }
        drop(Lock::take(&path)?);
        return Ok(());
    }
    let there = directory.ancestors().find(|one| one.exists()).unwrap_or_else(|| Path::new("/"));
    may(there, Rights::WRITE_OK | Rights::EXEC_OK).with_context(refused)
}

/// The file that a path leads to, also when it is not there yet.
fn behind_links(path: &Path) -> PathBuf {
    // Absolute: a bare file name has no directory that could be opened.
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // As many links as the kernel follows; then opening fails and says so.
    for _ in 0..40 {
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or_else(|| Path::new(".")).join(target);
    }
    path
}

/// The lock by which kubectl keeps others from the file while it changes it: a file of that name and
/// `.lock`.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> anyhow::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let began = tokio::time::Instant::now();
        loop {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock) {
                Ok(_) => return Ok(Self(lock)),
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("cannot write {}", path.display()));
                }
                Err(_) if remove_stale(&lock) => {}
                Err(_) if began.elapsed() > LOCK_PATIENCE => bail!(
                    "{} is locked by another program (such as kubectl config): if none runs, remove {}",
                    path.display(),
                    lock.display()
                ),
                Err(_) => std::thread::sleep(LOCK_POLL),
            }
        }
    }
}

/// Removes a lock that was left behind; whether it did. Of several who find the same one, one removes it, and nobody
/// the lock that is taken next.
fn remove_stale(lock: &Path) -> bool {
    let Ok(file) = File::open(lock) else { return false };
    let Ok(left) = file.metadata() else { return false };
    let old = left.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LOCK_STALE));
    if !old || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return false;
    }
    let still = std::fs::metadata(lock).is_ok_and(|now| now.ino() == left.ino());
    if still {
        tracing::warn!(lock = %lock.display(), "a lock that was left behind is removed");
    }
    still && std::fs::remove_file(lock).is_ok()
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Several kubeconfig files as one, as kubectl sees them: the first that says something wins. Files
/// that are not there say nothing; paths in a file are relative to it.
pub fn load(paths: &[PathBuf]) -> anyhow::Result<Value> {
    let mut all = empty();
    for path in paths {
        let mut config = read(path)?;
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        for (list, entry) in LISTS {
            for item in config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(content) = item.get_mut(entry) {
                    make_absolute(content, directory);
                }
                let has = all[list]
                    .as_array()
                    .is_some_and(|known| known.iter().any(|known| known["name"] == item["name"]));
                if !has {
                    push(&mut all, list, item.take());
                }
            }
        }
        let current = config["current-context"].as_str().filter(|name| !name.is_empty());
        if let (None, Some(current)) = (all["current-context"].as_str(), current) {
            all["current-context"] = current.into();
        }
    }
    Ok(all)
}

/// The cluster and the user of the current context, under another name.
pub fn current(paths: &[PathBuf], name: &str) -> anyhow::Result<Access> {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let names = names.join(", ");
    let config = load(paths)?;
    let read = || {
        let context = named(&config, "contexts", &config["current-context"])?["context"].clone();
        let cluster = named(&config, "clusters", &context["cluster"])?["cluster"].clone();
        let user = named(&config, "users", &context["user"])?["user"].clone();
        Ok::<_, anyhow::Error>(Access {
            name: name.to_owned(),
            server: cluster["server"].as_str().context("its cluster has no server")?.to_owned(),
            server_name: cluster["tls-server-name"].as_str().map(str::to_owned),
            ca_pem: pem(&cluster, "certificate-authority")?
                .context("its cluster has no certificate-authority-data")?,
            user,
        })
    };
    read().with_context(|| format!("kubeconfig {names}"))
}

/// What a kubeconfig holds itself (`…-data`) or in a file that it names.
pub fn pem(value: &Value, key: &str) -> anyhow::Result<Option<String>> {
    if let Some(text) = value[format!("{key}-data")].as_str() {
        return Ok(Some(String::from_utf8(BASE64.decode(text)?)?));
    }
    value[key].as_str().map(|file| Ok(files::read(Path::new(file))?)).transpose()
}

/// An entry of one of its lists.
pub fn named<'a>(config: &'a Value, list: &str, name: &Value) -> anyhow::Result<&'a Value> {
    let found = config[list]
        .as_array()
        .and_then(|items| items.iter().find(|item| !name.is_null() && item["name"] == *name));
    found.with_context(|| format!("it has no {name} in its {list}"))
}

const LISTS: [(&str, &str); 3] =
    [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];

fn make_absolute(content: &mut Value, directory: &Path) {
    for key in ["certificate-authority", "client-certificate", "client-key", "tokenFile"] {
        if let Some(Value::String(file)) = content.get_mut(key)
            && !file.is_empty()
        {
            *file = directory.join(&*file).display().to_string();
        }
    }
}

/// A kubeconfig as YAML.
pub fn to_yaml(config: &Value) -> anyhow::Result<String> {
    serde_saphyr::to_string(config).context("cannot write the kubeconfig as YAML")
}

fn read(path: &Path) -> anyhow::Result<Value> {
    if !path.exists() {
        return Ok(empty());
    }
    let refuse = || {
        format!(
            "{} is not a kubeconfig; it was left as it is. Give another file with --kubeconfig",
            path.display()
        )
    };
    if !path.metadata()?.is_file() {
        bail!("{}", refuse());
    }
    if path.metadata()?.len() > KUBECONFIG_BYTES_MAX {
        bail!("{} is larger than {KUBECONFIG_BYTES_MAX} bytes", path.display());
    }
    let text = files::read(path)?;
    if text.trim().is_empty() {
        return Ok(empty());
    }
    let config: Value = serde_saphyr::from_str(&text).with_context(refuse)?;
    let list = |name: &str| config.get(name).is_none_or(|v| v.is_null() || v.is_array());
    if !config.is_object() || !["clusters", "users", "contexts"].into_iter().all(list) {
        bail!("{}", refuse());
    }
    Ok(config)
}

fn push(config: &mut Value, list: &str, item: Value) {
    let list = &mut config[list];
    if !list.is_array() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

fn upsert(config: &mut Value, list: &str, entry: &str, name: &str, content: Value) {
    let mut item = json!({"name": name});
    item[entry] = content;
    let items = config.get_mut(list).and_then(Value::as_array_mut);
    match items.and_then(|items| items.iter_mut().find(|item| item["name"] == name)) {
        Some(existing) => {
            // A namespace that the user has set for the context stays.
            if let Some(namespace) = existing[entry].get("namespace").cloned() {
                item[entry]["namespace"] = namespace;
            }
            *existing = item;
        }
        None => push(config, list, item),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            name: "quorate".to_owned(),
            server: "https://127.0.0.1:6443".to_owned(),
            server_name: None,
            ca_pem: "ca".to_owned(),
            user: user_of(&Certified {
                certificate_pem: "cert".to_owned(),
                key_pem: "key".to_owned(),
            }),
        }
    }

    #[test]
    fn other_clusters_and_settings_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(
            &path,
            "apiVersion: v1\nkind: Config\nclusters:\n- name: other\n  cluster: {server: https://o}\n\
             contexts:\n- name: quorate\n  context: {cluster: x, user: x, namespace: mine}\n\
             current-context: other\nextensions: [{name: e}]\n",
        )
        .unwrap();
        access().write(&path).unwrap();
        let merged = read(&path).unwrap();
        assert_eq!(merged["clusters"][0]["name"], "other");
        assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://127.0.0.1:6443");
        assert_eq!(merged["contexts"][0]["context"]["namespace"], "mine");
        assert_eq!(merged["contexts"][0]["context"]["cluster"], "quorate");
        assert_eq!(merged["current-context"], "quorate");
        assert_eq!(merged["extensions"][0]["name"], "e");
        assert_eq!(merged["users"][0]["user"]["client-key-data"], BASE64.encode("key"));
    }

    #[test]
    fn the_name_of_the_server_is_there_when_it_is_not_its_host() {
        let named = Access { server_name: Some("master".to_owned()), ..access() };
        assert_eq!(named.document()["clusters"][0]["cluster"]["tls-server-name"], "master");
        // A direct way that takes its place does not keep it.
        let mut config = named.document();
        access().merge_into(&mut config);
        assert_eq!(config["clusters"][0]["cluster"].get("tls-server-name"), None);
    }

    #[test]
    fn links_are_followed_also_to_where_nothing_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("real")).unwrap();
        std::os::unix::fs::symlink("real/config", path("link")).unwrap();
        for _ in 0..2 {
            access().write(&path("link")).unwrap();
            assert!(path("link").is_symlink());
            assert_eq!(read(&path("real/config")).unwrap()["current-context"], "quorate");
        }
        let mode = std::os::unix::fs::PermissionsExt::mode;
        assert_eq!(mode(&path("real/config").metadata().unwrap().permissions()) & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path("real")).unwrap().count(), 1, "no lock is left");
    }

    #[test]
    fn somebody_elses_lock_is_respected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let lock = directory.path().join("config.lock");
        std::fs::write(&lock, "").unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || access().write(&path)
        });
        // However long that takes to be seen, the file is only written once the lock is gone.
        assert!(!path.exists());
        std::fs::remove_file(&lock).unwrap();
        waiting.join().unwrap().unwrap();
        assert!(path.exists() && !lock.exists());
    }

    #[test]
    fn a_lock_that_was_left_behind_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let lock = directory.path().join("config.lock");
        let left = std::fs::File::create(&lock).unwrap();
        left.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        drop(left);
        check(&path).unwrap();
        access().write(&path).unwrap();
        check(&path).unwrap();
        assert!(path.exists() && !lock.exists());
    }

    #[test]
    fn many_writers_at_once_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let path = path.clone();
                let name = format!("c{number}");
                std::thread::spawn(move || Access { name, ..access() }.write(&path).unwrap())
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        let all = read(&path).unwrap();
        for list in ["clusters", "users", "contexts"] {
            assert_eq!(all[list].as_array().unwrap().len(), 4, "{list}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/below/config");
        check(&path).unwrap();
        assert!(!directory.path().join("new").exists(), "asking leaves no trace");
        // Nobody, root included, makes files here.
        let error = format!("{:#}", check(Path::new("/proc/config")).unwrap_err());
        assert!(error.starts_with("cannot write /proc/config"), "{error}");
    }

    #[test]
    fn several_files_are_one_and_the_first_wins() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(
            path("a"),
            "clusters: [{name: c, cluster: {server: https://a, certificate-authority: ca.crt}}]\n",
        )
        .unwrap();
        std::fs::write(
            path("b"),
            "clusters:\n- {name: c, cluster: {server: https://b}}\n\
             - {name: d, cluster: {server: https://d}}\ncurrent-context: x\n",
        )
        .unwrap();
        let all = load(&[path("a"), path("missing"), path("b")]).unwrap();
        let ca = path("ca.crt").display().to_string();
        assert_eq!(
            all["clusters"],
            json!([
                {"name": "c", "cluster": {"server": "https://a", "certificate-authority": ca}},
                {"name": "d", "cluster": {"server": "https://d"}},
            ])
        );
        assert_eq!(all["current-context"], "x");
    }

    #[test]
    fn writing_twice_adds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config");
        access().write(&path).unwrap();
        let once = files::read(&path).unwrap();
        access().write(&path).unwrap();
        assert_eq!(files::read(&path).unwrap(), once);
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        for content in ["{{{", "- a\n- b\n", "clusters: none\n"] {
            std::fs::write(&path, content).unwrap();
            let error = format!("{:#}", access().write(&path).unwrap_err());
            assert!(error.contains("is not a kubeconfig; it was left as it is"), "{error}");
            assert_eq!(files::read(&path).unwrap(), content);
        }
    }
}
