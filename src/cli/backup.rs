//! `quorate backup save|list|inspect|verify|restore`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use http::Method;
use jiff::Timestamp;
use quorate_backup::file::{self, Draft};
use quorate_backup::{Backup, Header};
use quorate_pki::ring::ROTATION_FILE;
use quorate_pki::{ClusterKeys, KeyRing};
use quorate_raft::{LogIndex, Term};
use serde_json::{Value, json};

use super::confirm::confirm;
use super::status::Output;
use super::token::Target;
use crate::backup::plan::{self, read_passphrase};
use crate::backup::rebuild::{self, Rebuild, Rebuilt};
use crate::backup::remote::{Fetched, Remote};
use crate::backup::serve::{SAVE_PATH, SAVE_WITH_KEYS_PATH};
use crate::backup::staging::Staging;
use crate::backup::{SAVED, rebuild::rebuild};
use crate::data_dir;
use crate::progress;
use crate::settings::NetworkWish;

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Have a running master make a backup, and keep it here
    Save {
        /// Where [default: saved-TIME.backup in this directory]
        file: Option<PathBuf>,
        #[command(flatten)]
        to: Target,
        /// File with a passphrase: seals the cluster's keys into the backup, which holds none without it
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
    /// List the backups in a directory of this machine, or in a bucket (s3://BUCKET/PREFIX)
    List {
        /// Data directory of a master [default: a usual one]
        #[arg(long, value_name = "DIR", env = "QUORATE_DATA", hide_env_values = true)]
        data: Option<PathBuf>,
        /// Directory with the backups [default: backups below --data]
        #[arg(long, value_name = "DIR", env = "QUORATE_BACKUP_DIR", hide_env_values = true)]
        backup_dir: Option<PathBuf>,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
    /// Show what a backup is of, and what is in it
    Inspect {
        /// Which
        file: PathBuf,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
    /// Check every byte of backups, without restoring anything
    Verify {
        /// Which
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
    /// Make the data directory of a new cluster's first master from a backup; what is there is moved aside
    Restore(RestoreArgs),
}

#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// Which backup
    file: PathBuf,
    /// Data directory to make [default: /var/lib/quorate/server]
    #[arg(long, value_name = "DIR", env = "QUORATE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// Name of the master [default: that of the directory that is there, or the host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Directory with the cluster's keys [default: pki in the data directory that is there]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["passphrase_file", "new_keys"])]
    pki: Option<PathBuf>,
    /// File with the passphrase that opens the keys in the backup
    #[arg(long, value_name = "FILE", conflicts_with = "new_keys")]
    passphrase_file: Option<PathBuf>,
    /// Make new keys: no certificate, kubeconfig, agent or token of the old cluster is good for the new one
    #[arg(long)]
    new_keys: bool,
    /// Only look whether it could be done, and say what would be; nothing is changed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

pub fn run(command: BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::Save { file, to, passphrase_file, output } => {
            super::block_on(save(file, &to, passphrase_file.as_deref(), output))
        }
        BackupCommand::List { data, backup_dir, output } => {
            super::block_on(list(data, backup_dir, output))
        }
        BackupCommand::Inspect { file, output } => {
            let fetched = super::block_on(Fetched::new(&file))?;
            inspect((&file, fetched.path()), output)
        }
        BackupCommand::Verify { files, output } => verify(&files, output),
        BackupCommand::Restore(mut args) => {
            let fetched = super::block_on(Fetched::new(&args.file))?;
            fetched.path().clone_into(&mut args.file);
            restore(&args)
        }
    }
}

async fn save(
    path: Option<PathBuf>,
    to: &Target,
    passphrase_file: Option<&Path>,
    output: Option<Output>,
) -> anyhow::Result<()> {
    let path = path.unwrap_or_else(|| PathBuf::from(file::name(SAVED, Timestamp::now())));
    if path.exists() {
        bail!("{} is there already: give another name", path.display());
    }
    let (place, body) = match passphrase_file {
        None => (SAVE_PATH, json!({})),
        Some(file) => {
            let passphrase = read_passphrase(file)?;
            (SAVE_WITH_KEYS_PATH, json!({ "passphrase": passphrase.expose() }))
        }
    };
    let what = || format!("cannot write {}", path.display());
    let client = to.client()?;
    let mut draft = Draft::begin(&path).with_context(what)?;
    client.download(Method::POST, place, &body, &mut draft).await?;
    let backup = draft.finish().with_context(what)?;
    let shown = described(&path, &backup);
    match output {
        Some(output) => output.show(&shown),
        None => {
            let header = backup.header();
            progress::say(&format!(
                "{}: {} objects at revision {}, made by {}{}",
                path.display(),
                header.objects,
                header.revision,
                header.made_by.name,
                if header.keys.is_some() { ", with sealed keys" } else { ", without keys" },
            ));
            Ok(())
        }
    }
}

fn described(path: &Path, backup: &Backup<File>) -> Value {
    let mut shown = of_header(backup.header());
    shown["file"] = path.display().to_string().into();
    shown["bytes"] = std::fs::metadata(path).map_or(0, |meta| meta.len()).into();
    shown["stateBytes"] = backup.state_bytes().into();
    shown["sha256"] = backup.sha256().into();
    shown
}

/// What a backup says of itself, without what is sealed in it.
fn of_header(header: &Header) -> Value {
    let mut shown = serde_json::to_value(header).unwrap_or_default();
    shown["keys"] = if header.keys.is_some() { "sealed" } else { "none" }.into();
    shown
}

async fn list(
    data: Option<PathBuf>,
    backup_dir: Option<PathBuf>,
    output: Option<Output>,
) -> anyhow::Result<()> {
    let directory = match (backup_dir, data) {
        (Some(directory), _) => directory,
        (None, Some(data)) => data.join(plan::DIRECTORY),
        (None, None) => super::server::found_data_dir()?.join(plan::DIRECTORY),
    };
    let all = match Remote::parse(&directory)? {
        Some(remote) => remote.list().await?,
        None => match file::list(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            all => all.with_context(|| format!("cannot list {}", directory.display()))?,
        },
    };
    let items: Vec<Value> = all
        .iter()
        .map(|one| {
            let mut shown = match &one.header {
                Ok(header) => of_header(header),
                Err(error) => json!({ "problem": error.to_string() }),
            };
            shown["file"] = directory.join(&one.name).display().to_string().into();
            shown["bytes"] = one.bytes.into();
            shown
        })
        .collect();
    if let Some(output) = output {
        return output.show(&json!({ "items": items }));
    }
    let columns = ["file", "madeAt", "madeBy", "revision", "objects", "bytes", "keys"];
    let row = |item: &Value| -> Vec<String> {
        let mut cells: Vec<String> =
            columns.iter().map(|column| super::status::text(&item[*column])).collect();
        cells[2] = super::status::text(&item["madeBy"]["name"]);
        if let Some(problem) = item["problem"].as_str() {
            cells[1] = problem.to_owned();
        }
        cells
    };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    let header = ["FILE", "MADE AT", "BY", "REVISION", "OBJECTS", "BYTES", "KEYS"];
    progress::say_raw(&progress::table(&header, &rows));
    Ok(())
}

/// Reads a backup and all of its state.
fn whole(path: &Path) -> anyhow::Result<(Backup<File>, quorate_state_machine::Machine)> {
    let read = || -> anyhow::Result<_> {
        let mut backup = file::open(path)?;
        let machine = rebuild::machine_of(&mut backup)?;
        Ok((backup, machine))
    };
    read().with_context(|| path.display().to_string())
}

fn inspect((named, path): (&Path, &Path), output: Option<Output>) -> anyhow::Result<()> {
    let (backup, machine) = whole(path)?;
    let view = machine.view();
    let counts: BTreeMap<String, usize> = view
        .resources()
        .filter(|(_, resource)| !resource.is_empty())
        .map(|(name, resource)| (name.to_string(), resource.len()))
        .collect();
    let mut shown = described(path, &backup);
    shown["file"] = named.display().to_string().into();
    shown["resources"] = json!(counts);
    if let Some(output) = output {
        return output.show(&shown);
    }
    progress::say_raw(&serde_saphyr::to_string(&shown)?);
    Ok(())
}

fn verify(paths: &[PathBuf], output: Option<Output>) -> anyhow::Result<()> {
    let (mut bad, mut items) = (0, Vec::new());
    for path in paths {
        let file = path.display().to_string();
        let checked = super::block_on(Fetched::new(path))
            .and_then(|fetched| Ok(described(fetched.path(), &whole(fetched.path())?.0)));
        match checked {
            Ok(mut shown) => {
                if output.is_none() {
                    let (objects, revision) = (&shown["objects"], &shown["revision"]);
                    progress::say(&format!(
                        "{file}: good, {objects} objects at revision {revision}"
                    ));
                }
                shown["file"] = file.into();
                shown["good"] = true.into();
                items.push(shown);
            }
            Err(error) => {
                bad += 1;
                items.push(json!({"file": file, "good": false, "problem": format!("{error:#}")}));
                if output.is_none() {
                    progress::complain(&error);
                }
            }
        }
    }
    if let Some(output) = output {
        output.show(&json!({ "items": items }))?;
    }
    match bad {
        0 => Ok(()),
        bad => bail!("{bad} of {} cannot be used", paths.len()),
    }
}

/// The keys that the state belongs to, and where they come from; `None`: new ones are to be made.
type Keys = Option<(KeyRing, String)>;

fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    // All of it before anything is touched.
    let (backup, machine) = whole(&args.file)?;
    let header = backup.header();
    let data = args.data.clone().unwrap_or_else(|| super::server::default_data_dir("server"));
    let known = if data.exists() { data_dir::read_cluster(&data)? } else { None };
    let keys = keys(args, header, &data)?;
    let member = rebuild::member(args.name.as_deref(), known.as_ref())?;
    let network = &header.network;
    let network = [&network.service_cidr, &network.cluster_cidr, &network.cluster_domain];
    let network = NetworkWish::parse(network.map(Clone::clone))?.fresh()?;
    let what = format!(
        "Make {} the data directory of master {:?} of a new cluster, with {} objects as of {} (revision {})?",
        data.display(),
        member.name,
        header.objects,
        header.made_at,
        header.revision
    );
    if args.dry_run {
        let staging = Staging::begin(&data)?;
        return would(args, &staging, header, keys.as_ref().map(|(_, from)| from.as_str()));
    }
    if data.exists() && !args.yes {
        confirm(&format!("{what} The one that is there is moved aside."))?;
    }
    let staging = Staging::begin(&data)?;
    let (keys, from) = match keys {
        Some((keys, from)) => (keys, Some(from)),
        None => {
            let keys = ClusterKeys::generate(&header.cluster_id, Timestamp::now())?;
            (KeyRing::new(keys), None)
        }
    };
    let rebuilt = rebuild(
        &staging,
        Rebuild {
            machine: &machine,
            last: (LogIndex(header.index), Term(header.term)),
            member,
            network,
            keys,
        },
    )?;
    let target = staging.target().to_owned();
    let old = staging.put_in_place()?;
    if let Some(output) = args.output {
        let mut shown = serde_json::to_value(&rebuilt)?;
        shown["data"] = target.display().to_string().into();
        shown["old"] = json!(old.map(|old| old.display().to_string()));
        shown["keys"] = json!(from);
        return output.show(&shown);
    }
    told(&rebuilt, &target, old.as_deref());
    match from {
        Some(from) => progress::say(&format!(
            "The keys are those of the old cluster (from {from}): kubeconfigs, agents and service account tokens stay good."
        )),
        None => progress::say(NEW_KEYS),
    }
    Ok(())
}

/// A dry run: the directory that was begun goes again.
fn would(
    args: &RestoreArgs,
    staging: &Staging,
    header: &Header,
    keys: Option<&str>,
) -> anyhow::Result<()> {
    let (target, there) = (staging.target(), staging.target().exists());
    if let Some(output) = args.output {
        return output.show(&json!({
            "dryRun": true,
            "data": target.display().to_string(),
            "movesAside": there,
            "objects": header.objects,
            "revision": header.revision,
            "madeAt": header.made_at.to_string(),
            "keys": keys,
        }));
    }
    progress::say(&format!(
        "{} would become the data directory of a new cluster, with {} objects as of {} (revision {}) (dry run)",
        target.display(),
        header.objects,
        header.made_at,
        header.revision
    ));
    if there {
        progress::say("The directory that is there would be moved aside.");
    }
    match keys {
        Some(from) => {
            progress::say(&format!("The keys would be those of the old cluster, from {from}."))
        }
        None => progress::say(
            "The keys would be new: nothing that the old cluster signed would be good any more.",
        ),
    }
    Ok(())
}

const NEW_KEYS: &str = "\
The cluster has NEW keys. Nothing that the old one signed is good any more:
  kubeconfigs             make new ones: quorate kubeconfig --data DIR
  node agents             stop them, remove pki in their data directories, start them with a new --token
  service account tokens  pods get new ones when they are started again; delete Secrets with tokens
  join tokens             make new ones: quorate token create";

/// Which keys go with the state: as told, or those of the directory that is there.
fn keys(args: &RestoreArgs, header: &Header, data: &Path) -> anyhow::Result<Keys> {
    let of_another = |keys: &KeyRing, from: &str| -> anyhow::Result<()> {
        if keys.is_of(&header.authority)? {
            return Ok(());
        }
        bail!(
            "the keys from {from} are not those of the cluster that {} is of ({}). Give its keys with --pki DIR or \
             --passphrase-file FILE, or make new ones with --new-keys",
            args.file.display(),
            header.cluster_id
        )
    };
    if args.new_keys {
        return Ok(None);
    }
    if let Some(file) = &args.passphrase_file {
        let passphrase = read_passphrase(file)?;
        let Some(sealed) = &header.keys else {
            bail!("{} holds no keys: leave --passphrase-file away", args.file.display());
        };
        let files: BTreeMap<String, String> =
            sealed.open(&passphrase, &header.cluster_id)?.into_iter().collect();
        let rotation = files.get(ROTATION_FILE).map(String::as_str);
        let read = |name: &str| Ok(files.get(name).cloned().unwrap_or_default());
        let keys = KeyRing::from_files(read, rotation)?;
        of_another(&keys, "the backup")?;
        return Ok(Some((keys, "the backup".to_owned())));
    }
    let pki = args.pki.clone().unwrap_or_else(|| data.join("pki"));
    let found =
        if args.pki.is_some() { Some(KeyRing::load(&pki)?) } else { rebuild::keys_in(data)? };
    match found {
        Some(keys) => {
            let from = pki.display().to_string();
            of_another(&keys, &from)?;
            Ok(Some((keys, from)))
        }
        None if header.keys.is_some() => bail!(
            "{} holds the cluster's keys, sealed: open them with --passphrase-file FILE, or make new ones with --new-keys",
            args.file.display()
        ),
        None => bail!(
            "{} holds no keys, and {} has none: give the cluster's keys with --pki DIR, or make new ones with --new-keys \
             (then no kubeconfig, agent or token of the old cluster is good any more)",
            args.file.display(),
            data.display()
        ),
    }
}

/// What was made, and what to do next.
pub fn told(rebuilt: &Rebuilt, data: &Path, old: Option<&Path>) {
    let Rebuilt { cluster_id, name, revision, objects, .. } = rebuilt;
    let data = data.display();
    progress::say(&format!("{data}: master {name:?} of the new cluster {cluster_id}"));
    progress::say(&format!("{objects} objects; the cluster goes on at revision {revision}"));
    if let Some(old) = old {
        progress::say(&format!("what was there is in {} now, and never read again", old.display()));
    }
    progress::say(&format!(
        "Next:
  1. on the machines of all other masters of the old cluster: stop them, and move their data directories aside.
     As long as a majority of them runs, they are the old cluster
  2. here: quorate server --data {data} (with the options that it had)
  3. quorate token create --data {data} --role server --print-join-command
     for each further master, which joins from an empty directory"
    ));
}
