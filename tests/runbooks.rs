//! What the runbooks tell people to type, typed: each ```sh block runs as it stands, against three masters. What no
//! shell does (a machine that dies, a service manager) stands in comments beside it: `<!-- runbook: kill m1 m2 -->`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::cluster::Cluster;
use common::disk::SmallDisk;
use common::process::run_to_end;
use common::scratch::Scratch;
use common::{PATIENCE, free_port, until};

/// What a runbook says.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Something that no shell does, and to which masters.
    Does(String, Vec<String>),
    Shell(String),
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if let Some(words) = line.strip_prefix("<!-- runbook: ") {
            let words = words.strip_suffix(" -->").expect("a comment of one line");
            let mut words = words.split(' ').map(str::to_owned);
            steps.push(Step::Does(words.next().unwrap(), words.collect()));
        } else if line == "```sh" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
            steps.push(Step::Shell(block.join("\n")));
        }
    }
    steps
}

/// Whoever follows a runbook: on which machine, and in which directory.
struct Reader {
    cluster: Cluster,
    on: usize,
    /// Has `quorate` in it, and nothing else.
    programs: PathBuf,
    desk: PathBuf,
    said: String,
    /// Of the one master that has one of its own.
    disk: Option<SmallDisk>,
}

impl Reader {
    fn new() -> Self {
        Self::with(Cluster::start(3))
    }

    fn with(cluster: Cluster) -> Self {
        let programs = cluster.directory.path().join("bin");
        let desk = cluster.directory.path().join("desk");
        fs::create_dir(&programs).unwrap();
        fs::create_dir(&desk).unwrap();
        let binary = env!("CARGO_BIN_EXE_quorate");
        std::os::unix::fs::symlink(binary, programs.join("quorate")).unwrap();
        Self { cluster, on: 0, programs, desk, said: String::new(), disk: None }
    }

    /// Masters are named after their place, also those that are not there yet.
    fn number(name: &str) -> usize {
        name.strip_prefix('m').unwrap().parse().unwrap()
    }

    fn follow(&mut self, text: &str) {
        let steps = steps(text);
        assert!(steps.iter().filter(|step| matches!(step, Step::Shell(_))).count() > 5);
        for step in steps {
            match step {
                Step::Shell(block) => self.types(&block),
                Step::Does(what, names) => {
                    for name in names {
                        let number = Self::number(&name);
                        self.does(&what, number);
                    }
                }
            }
        }
    }

    fn does(&mut self, what: &str, number: usize) {
        match what {
            "on" => self.on = number,
            "kill" => self.cluster.masters[number].process.kill_9(),
            "start" => {
                self.cluster.restart(number);
                self.cluster.masters[number].process.says_again("ready after");
            }
            "stop" => {
                let status = self.cluster.masters[number].process.stop();
                assert!(status.success(), "{status}");
            }
            "join" => self.cluster.rejoin(number, 0),
            "new" => self.cluster.add_master(number, 0),
            "standby" => {
                self.cluster.options = vec!["--standby".to_owned()];
                self.cluster.add_master(number, 0);
                self.cluster.options.clear();
            }
            "fill" | "free" => {
                let disk = self.disk.as_ref().expect("a master with a disk of its own");
                assert_eq!(self.cluster.masters[number].data, disk.path());
                disk.leave(if what == "fill" { 100 } else { u64::MAX });
            }
            other => panic!("{other:?} is nothing that a reader does"),
        }
    }

    fn types(&mut self, block: &str) {
        common::step(&format!("at {}:\n{block}", self.cluster.masters[self.on].name));
        let path = std::env::var_os("PATH").unwrap();
        let mut all = vec![self.programs.clone()];
        all.extend(std::env::split_paths(&path));
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", block])
            .current_dir(&self.desk)
            .env("PATH", std::env::join_paths(all).unwrap())
            .env("QUORATE_DATA", &self.cluster.masters[self.on].data)
            .env("MASTER", self.cluster.masters[self.on].url())
            // Of the machine that is looked at: others have the usual ports here.
            .env("QUORATE_LISTEN", format!("127.0.0.1:{}", free_port()))
            .env("QUORATE_PEER_LISTEN", format!("127.0.0.1:{}", free_port()))
            .env_remove("KUBECONFIG");
        let output = run_to_end(&mut shell, b"", PATIENCE);
        self.said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n{}{complaint}", self.said);
        eprintln!("{}{complaint}", self.said);
    }

    /// Three masters vote, and know each other.
    fn is_whole(&self) {
        let list = self.cluster.quorate_at(1, &["masters", "list"]);
        assert!(list.contains("survives the loss of 1") && !list.contains("not answer"), "{list}");
    }
}

fn runbook(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks").join(name);
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_backup_is_made_and_restored() {
    let mut reader = Reader::new();
    reader.cluster.quorate(&["token", "create", "--description", "before"]);
    let text = runbook("backup-and-restore.md");
    let (restored, new_machines) = text.split_once("## Restore on new machines").unwrap();
    reader.follow(restored);
    reader.is_whole();
    let tokens = reader.cluster.quorate(&["token", "list"]);
    assert!(tokens.contains("before"), "{tokens}");
    for step in steps(new_machines) {
        match step {
            Step::Shell(block) => reader.types(&block),
            Step::Does(what, names) => {
                for name in names {
                    let number = Reader::number(&name);
                    reader.does(&what, number);
                }
            }
        }
    }
    // Both are what they should be: with the cluster's own keys.
    for made in ["new-machine", "other-machine"] {
        let pki = |data: &Path| fs::read(data.join("pki/cluster-ca.key")).unwrap();
        assert_eq!(pki(&reader.desk.join(made)), pki(&reader.cluster.masters[0].data), "{made}");
        reader.cluster.masters[0].data = reader.desk.join(made);
        reader.does("start", 0);
        let tokens = reader.cluster.quorate(&["token", "list"]);
        assert!(tokens.contains("before"), "{tokens}");
        reader.does("kill", 0);
        reader.cluster.masters[0].data = reader.cluster.directory.path().join("m0");
    }
}

#[test]
fn a_lost_quorum_is_made_good() {
    let mut reader = Reader::new();
    reader.cluster.quorate(&["token", "create", "--description", "before"]);
    let text = runbook("quorum-loss.md");
    reader.follow(&text);
    reader.is_whole();
    let tokens = reader.cluster.quorate(&["token", "list"]);
    assert!(tokens.contains("before"), "{tokens}");
    let shown = fs::read_to_string(reader.desk.join("m0.json")).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["members"].as_array().unwrap().len(), 3, "{shown}");
}

/// The masters that vote, as one of them says.
fn voters(reader: &Reader, asked: usize) -> Vec<String> {
    let list = reader.cluster.quorate_at(asked, &["masters", "list", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let voters = list["masters"].as_array().unwrap().iter().filter(|one| one["voter"] == true);
    voters.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn three_masters_become_five_and_three_again() {
    let mut reader = Reader::new();
    reader.follow(&runbook("scaling-masters.md"));
    assert_eq!(voters(&reader, 1), ["m0", "m1", "m2"]);
    for gone in [3, 4] {
        let process = &mut reader.cluster.masters[gone].process;
        until("it has ended", PATIENCE, || !process.is_running());
        assert!(process.stopped().success(), "as it was told to");
    }
    assert!(!reader.desk.join("new-machine").exists(), "a preflight makes nothing");
}

#[test]
fn masters_are_replaced() {
    let mut reader = Reader::new();
    reader.follow(&runbook("replacing-a-master.md"));
    assert_eq!(voters(&reader, 3), ["m0", "m3", "m4"]);
    let old = &mut reader.cluster.masters[1].process;
    until("it has ended", PATIENCE, || !old.is_running());
    // The dead machine comes back after all.
    reader.cluster.restart(2);
    let dead = &mut reader.cluster.masters[2].process;
    until("it has ended", PATIENCE, || !dead.is_running());
    assert!(dead.text().contains("was removed from the cluster"), "{}", dead.text());
}

#[test]
fn masters_are_upgraded_one_by_one() {
    let mut reader = Reader::new();
    reader.follow(&runbook("upgrade.md"));
    reader.is_whole();
}

#[test]
fn a_disk_is_full() {
    let directory = Scratch::new("disks");
    let place = directory.path().join("m1");
    fs::create_dir(&place).unwrap();
    let Some(disk) = SmallDisk::mount_at(&place, 512) else { return };
    let mut reader = Reader::with(Cluster::start_in(Some(directory.path()), 3));
    reader.cluster.quorate_at(0, &["masters", "transfer-leader", "m1"]);
    reader.disk = Some(disk);
    reader.follow(&runbook("disk-full.md"));
    reader.is_whole();
    who_is_not_fit_leads_only_by_force(&reader);
}

fn who_is_not_fit_leads_only_by_force(reader: &Reader) {
    let (cluster, disk) = (&reader.cluster, reader.disk.as_ref().unwrap());
    cluster.quorate_at(0, &["masters", "transfer-leader", "m0"]);
    disk.leave(100);
    let mut refused = String::new();
    common::until("m1 is not fit to lead", PATIENCE, || {
        let tried = cluster.tried_at(2, &["masters", "transfer-leader", "m1", "--dry-run"]);
        refused = String::from_utf8(tried.stderr).unwrap();
        !tried.status.success()
    });
    let why = "master \"m1\" is not fit to lead, it has the alarm NOSPACE: its disk is nearly full";
    assert!(refused.contains(why) && refused.contains("With --force"), "{refused}");
    // Nor is it who comes first when nobody is named.
    for leader in ["m2", "m0", "m2"] {
        let said = cluster.quorate_at(1, &["masters", "transfer-leader"]);
        assert_eq!(said.trim(), format!("{leader} leads"));
    }
    let said = cluster.quorate_at(2, &["masters", "transfer-leader", "m1", "--force"]);
    assert_eq!(said.trim(), "m1 leads");
    disk.leave(u64::MAX);
}

#[test]
fn certificates_are_rotated() {
    let mut reader = Reader::new();
    let authority = |reader: &Reader, number: usize| {
        let pki = reader.cluster.masters[number].data.join("pki");
        (fs::read(pki.join("cluster-ca.crt")).unwrap(), fs::read(pki.join("peer-ca.crt")).unwrap())
    };
    let before = authority(&reader, 0);
    reader.follow(&runbook("certificate-rotation.md"));
    reader.is_whole();
    let after = authority(&reader, 0);
    assert!(before.0 != after.0 && before.1 != after.1, "both are others");
    assert!((1..3).all(|number| authority(&reader, number) == after), "all have the same");
    // What was saved before the change can be restored with what was sealed into it, and with the keys of now.
    for (name, keys) in [("sealed", "--passphrase-file passphrase"), ("now", "")] {
        let pki = reader.cluster.masters[0].data.join("pki").display().to_string();
        let keys = if keys.is_empty() { format!("--pki {pki}") } else { keys.to_owned() };
        reader.types(&format!(
            "quorate backup restore before-rotation.backup --data restored-{name} {keys} --yes"
        ));
        let restored = reader.desk.join(format!("restored-{name}/pki/cluster-ca.crt"));
        let wanted = if name == "sealed" { &before.0 } else { &after.0 };
        assert_eq!(fs::read(restored).unwrap(), *wanted, "{name}");
    }
}

#[test]
fn blocks_and_comments_are_found() {
    let text = "a\n<!-- runbook: kill m1 m2 -->\n```sh\nx\ny\n```\n```text\nz\n```\n";
    let names = vec!["m1".to_owned(), "m2".to_owned()];
    assert_eq!(steps(text), [Step::Does("kill".to_owned(), names), Step::Shell("x\ny".to_owned())]);
}
