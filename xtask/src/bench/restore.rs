//! `cargo xtask bench-restore`: how long it takes to make a data directory of a backup.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use quorate_backup::file::Draft;
use quorate_backup::{FORMAT, Header, Maker, Network};
use quorate_state_machine::names::LogIndex;
use quorate_state_machine::{Entry, Image, Key, Machine, Op, Proposal, codec};
use sha2::{Digest, Sha256};

use super::{build, print, say};

/// Options of `cargo xtask bench-restore`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The binary to measure [default: a release build of this workspace]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Objects of 1 KiB in the backup, in thousands; a thousand of these is 1 GB
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    thousands: u32,
    /// How often it is restored; medians are shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    runs: u8,
    /// Where backup and directories go: on the disk that is to be measured [default: target]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None => build()?,
    };
    let directory = args.directory.clone().unwrap_or_else(|| crate::ci::root().join("target"));
    std::fs::create_dir_all(&directory)?;
    let temporary = tempfile::Builder::new().prefix("bench-").tempdir_in(&directory)?;
    let file = temporary.path().join("one.backup");
    say("making a backup");
    let state_bytes = make(&file, args.thousands)?;
    let file_bytes = std::fs::metadata(&file)?.len();
    let (mut verified, mut restored) = (Vec::new(), Vec::new());
    for run in 1..=args.runs {
        say(&format!("=== run {run} of {}", args.runs));
        let path = file.as_os_str();
        verified.push(timed(Command::new(&binary).args(["backup", "verify"]).arg(path))?);
        let data = temporary.path().join("data");
        let mut restore = Command::new(&binary);
        restore.args(["backup", "restore", "--new-keys", "--name", "m1", "--data"]).arg(&data);
        restored.push(timed(restore.arg(path))?);
        std::fs::remove_dir_all(&data)?;
    }
    let mb = |bytes: u64| bytes / 1_000_000;
    print(&format!(
        "state {} MB in {} thousand objects, file {} MB, medians of {} runs\nverify  {:.1} s\nrestore {:.1} s",
        mb(state_bytes),
        args.thousands,
        mb(file_bytes),
        args.runs,
        median(verified).as_secs_f64(),
        median(restored).as_secs_f64()
    ));
    Ok(())
}

fn timed(command: &mut Command) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    if !status.success() {
        bail!("{command:?} failed");
    }
    Ok(began.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Writes a backup of objects that do not shrink much: half of each is no text that repeats. Gives the state's bytes.
fn make(path: &Path, thousands: u32) -> anyhow::Result<u64> {
    let mut machine = Machine::default();
    for thousand in 0..u64::from(thousands) {
        let ops = (0..1000).map(|number| object(thousand * 1000 + number)).collect();
        let command = quorate_state_machine::Command::Write(ops);
        let entry = Entry { proposals: vec![Proposal { session: None, command }] };
        machine.apply(LogIndex(thousand + 1), Some(&codec::encode_entry(&entry)?))?;
    }
    let machine = Machine::without_past(machine.view());
    let view = machine.view();
    let header = Header {
        format: FORMAT,
        cluster_id: "bench".to_owned(),
        made_at: jiff::Timestamp::now(),
        made_by: Maker { name: "bench".to_owned(), node_id: 1, version: String::new() },
        revision: view.revision().0,
        index: view.index().0,
        term: 1,
        level: view.level().0,
        state_hash: format!("{:032x}", view.hash()),
        objects: u64::from(thousands) * 1000,
        network: Network {
            service_cidr: "10.43.0.0/16".to_owned(),
            cluster_cidr: "10.42.0.0/16".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        },
        authority: String::new(),
        keys: None,
    };
    let mut draft = Draft::begin(path)?;
    let bytes = quorate_backup::write(&mut draft, &header, |out| machine.write_snapshot(out))?;
    draft.finish()?;
    Ok(bytes)
}

fn object(number: u64) -> Op {
    let mut noise = String::new();
    for part in 0..8_u64 {
        let sum = Sha256::digest((number * 8 + part).to_le_bytes());
        noise.extend(sum.iter().map(|byte| format!("{byte:02x}")));
    }
    let name = format!("object-{number}");
    let uid = format!("00000000-0000-4000-8000-{number:012x}");
    let text = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"bench","uid":"{uid}"}},"data":{{"fill":"{}","noise":"{noise}"}}}}"#,
        "some text that is much the same in each ".repeat(10)
    );
    let offset = text.find("\"name\"").unwrap_or_default();
    let image = Image {
        header: quorate_state_machine::Header { uid, ..Default::default() },
        bytes: Bytes::from(text),
        revision_offset: u32::try_from(offset).unwrap_or_default(),
    };
    Op::Create { key: Key::new("", "configmaps", "bench", &name), image, namespace: None }
}
