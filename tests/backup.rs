//! Backups: made by running masters, checked, and made into a cluster again.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::cluster::Cluster;
use common::process::run_to_end;
use common::{PATIENCE, kube::client, until};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

const SECRET: &str = "very-secret-value";

fn tried(words: &[&str]) -> Output {
    common::step(&format!("+ quorate {}", words.join(" ")));
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(words).env_remove("KUBECONFIG");
    run_to_end(&mut command, b"", PATIENCE)
}

fn quorate(words: &[&str]) -> String {
    let output = tried(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(words: &[&str]) -> String {
    let output = tried(words);
    assert!(!output.status.success(), "{words:?} should be refused");
    String::from_utf8(output.stderr).unwrap()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

async fn maps(kubeconfig: &Path, url: &str) -> Api<ConfigMap> {
    Api::default_namespaced(client(kubeconfig, Some(url)).await)
}

async fn create(maps: &Api<ConfigMap>, name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let map = ConfigMap { metadata, ..ConfigMap::default() };
    maps.create(&PostParams::default(), &map).await.unwrap()
}

fn revision(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_ref().unwrap().parse().unwrap()
}

fn masters(cluster: &Cluster, number: usize) -> Vec<String> {
    let list = parsed(&cluster.quorate_at(number, &["masters", "list", "-o", "json"]));
    let all = list["masters"].as_array().unwrap().iter();
    all.map(|master| master["name"].as_str().unwrap().to_owned()).collect()
}

/// A watcher that goes on from a revision of the past must be told to list again.
async fn must_list_again(maps: &Api<ConfigMap>, revision: u64) {
    let watch = maps.watch(&WatchParams::default(), &revision.to_string()).await;
    let expired = match watch {
        Err(kube::Error::Api(status)) => status.code == 410,
        Err(error) => panic!("{error}"),
        Ok(stream) => {
            let first = tokio::time::timeout(PATIENCE, Box::pin(stream).next()).await.unwrap();
            match first {
                Some(Ok(WatchEvent::Error(status))) => status.code == 410,
                other => panic!("{other:?}"),
            }
        }
    };
    assert!(expired, "a watch from {revision} goes on");
}

async fn make_secret(cluster: &Cluster) {
    let client = client(&cluster.kubeconfig(), None).await;
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let metadata = ObjectMeta { name: Some("s".to_owned()), ..ObjectMeta::default() };
    let string_data = Some([("key".to_owned(), SECRET.to_owned())].into());
    let secret = Secret { metadata, string_data, ..Secret::default() };
    secrets.create(&PostParams::default(), &secret).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_restored_in_its_place_and_nobody_mistakes_it_for_the_old_one() {
    let mut cluster = Cluster::start(3);
    let own = maps(&cluster.kubeconfig(), &cluster.masters[0].url()).await;
    let before = create(&own, "before").await;
    make_secret(&cluster).await;
    let file = cluster.directory.path().join("one.backup");
    // On a follower, too, it has all that was acknowledged before.
    let follower = cluster.others(cluster.leader())[0];
    let saved =
        parsed(&cluster.quorate_at(follower, &["backup", "save", &path(&file), "-o", "json"]));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(saved["revision"].as_u64().unwrap() >= revision(&before.metadata), "{saved}");
    assert_eq!((&saved["keys"], &saved["format"]), (&"none".into(), &1.into()));
    assert_eq!(saved["madeBy"]["name"], cluster.masters[follower].name.as_str());
    for master in &cluster.masters {
        assert!(!master.process.text().contains(SECRET), "a Secret is in the log");
    }
    let again =
        refused(&["backup", "save", &path(&file), "--data", &path(&cluster.masters[0].data)]);
    assert!(again.contains("is there already"), "{again}");
    who_may_not_cannot(&cluster);
    the_file_is_checked(&file);

    // What the backup does not know.
    let after = create(&own, "after").await;
    let seen = own.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let in_use = refused(&[
        "backup",
        "restore",
        &path(&file),
        "--data",
        &path(&cluster.masters[0].data),
        "-y",
    ]);
    assert!(in_use.contains("is in use by process"), "{in_use}");
    for master in &mut cluster.masters {
        master.process.kill_9();
    }
    let data = cluster.masters[0].data.clone();
    let would = quorate(&["backup", "restore", &path(&file), "--data", &path(&data), "--dry-run"]);
    assert!(would.contains("(dry run)") && would.contains("would be moved aside"), "{would}");
    let beside: Vec<_> = std::fs::read_dir(data.parent().unwrap()).unwrap().flatten().collect();
    let made = beside.iter().any(|item| item.file_name().to_string_lossy().starts_with("m0.new"));
    assert!(!made, "a dry run leaves nothing: {beside:?}");
    let ask = refused(&["backup", "restore", &path(&file), "--data", &path(&data)]);
    assert!(ask.contains("moved aside") && ask.contains("say --yes"), "{ask}");
    let told = quorate(&["backup", "restore", &path(&file), "--data", &path(&data), "--yes"]);
    assert!(told.contains("--print-join-command") && told.contains("stay good"), "{told}");
    cluster.restart(0);
    cluster.masters[0].process.says_again("ready after");

    // The same kubeconfig, and nothing that was seen comes again.
    let there = own.get("before").await.unwrap();
    assert_eq!(there.metadata.uid, before.metadata.uid);
    assert!(revision(&there.metadata) > revision(&after.metadata), "{there:?}");
    assert!(own.get_opt("after").await.unwrap().is_none());
    must_list_again(&own, revision(&before.metadata)).await;
    must_list_again(&own, seen.parse().unwrap()).await;
    let newer = create(&own, "newer").await;
    assert!(revision(&newer.metadata) > revision(&there.metadata));

    old_masters_stay_out(&mut cluster).await;
    let old = json_of_old(&data);
    assert_ne!(
        old["clusterId"],
        parsed(&fs::read_to_string(data.join("cluster.json")).unwrap())["clusterId"]
    );
}

/// Two old masters are a majority of the old cluster. They stay among themselves, and join as new ones only.
async fn old_masters_stay_out(cluster: &mut Cluster) {
    cluster.restart(1);
    cluster.restart(2);
    cluster.masters[1].process.says_again("ready after");
    assert_eq!(masters(cluster, 0), ["m0"]);
    let of_old = maps(&cluster.kubeconfig(), &cluster.masters[1].url()).await;
    assert!(of_old.get_opt("newer").await.unwrap().is_none());
    for number in [1, 2] {
        cluster.masters[number].process.kill_9();
        fs::rename(
            &cluster.masters[number].data,
            cluster.masters[number].data.with_extension("old"),
        )
        .unwrap();
        cluster.rejoin(number, 0);
    }
    assert_eq!(masters(cluster, 1), ["m0", "m1", "m2"]);
    assert!(of_old.get_opt("newer").await.unwrap().is_some());
}

/// `cluster.json` of the directory that was moved aside.
fn json_of_old(data: &Path) -> Value {
    let name = format!("{}.old-", data.file_name().unwrap().to_string_lossy());
    let items = fs::read_dir(data.parent().unwrap()).unwrap();
    let old: Vec<PathBuf> = items
        .map(|item| item.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&name))
        .collect();
    assert_eq!(old.len(), 1, "{old:?}");
    parsed(&fs::read_to_string(old[0].join("cluster.json")).unwrap())
}

fn who_may_not_cannot(cluster: &Cluster) {
    let kubeconfig = path(&cluster.directory.path().join("jane"));
    cluster.quorate_at(0, &["kubeconfig", "--user", "jane", "--kubeconfig", &kubeconfig]);
    let file = path(&cluster.directory.path().join("janes.backup"));
    let denied = refused(&["backup", "save", &file, "--kubeconfig", &kubeconfig]);
    let text = "User \"jane\" cannot post path \"/quorate/v1/backups/save\"";
    assert!(denied.contains(text), "{denied}");
    assert!(!Path::new(&file).exists() && !Path::new(&format!("{file}.part")).exists());
}

fn the_file_is_checked(file: &Path) {
    let good = quorate(&["backup", "verify", &path(file)]);
    assert!(good.contains(": good, "), "{good}");
    let good = parsed(&quorate(&["backup", "verify", &path(file), "-o", "json"]));
    assert_eq!(
        (&good["items"][0]["good"], &good["items"][0]["file"]),
        (&json!(true), &path(file).into())
    );
    let shown = parsed(&quorate(&["backup", "inspect", &path(file), "-o", "json"]));
    assert!(shown["resources"]["configmaps"].as_u64().unwrap() >= 1, "{shown}");
    let directory = path(file.parent().unwrap());
    let list = parsed(&quorate(&["backup", "list", "--backup-dir", &directory, "-o", "json"]));
    assert_eq!(list["items"][0]["file"], path(file));
    let mut bytes = fs::read(file).unwrap();
    let cut = file.parent().unwrap().join("cut");
    fs::create_dir(&cut).unwrap();
    fs::write(cut.join("one.backup"), &bytes[..bytes.len() - 60]).unwrap();
    let list = parsed(&quorate(&["backup", "list", "--backup-dir", &path(&cut), "-o", "json"]));
    let problem = list["items"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("it is cut off"), "{list}");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let bad = file.with_extension("bad");
    fs::write(&bad, &bytes).unwrap();
    for command in [&["backup", "verify"][..], &["backup", "inspect"], &["backup", "restore", "-y"]]
    {
        let said = refused(&[command, &[&*path(&bad)][..]].concat());
        assert!(said.contains("damaged"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_another_machine_the_keys_come_from_the_backup_or_are_new() {
    let mut cluster = Cluster::start(1);
    let own = maps(&cluster.kubeconfig(), &cluster.masters[0].url()).await;
    create(&own, "before").await;
    let directory = cluster.directory.path().to_owned();
    let secret = directory.join("passphrase");
    fs::write(&secret, "correct horse battery\n").unwrap();
    let (file, secret) = (path(&directory.join("sealed.backup")), path(&secret));
    cluster.quorate_at(0, &["backup", "save", &file, "--passphrase-file", &secret]);
    assert!(!cluster.masters[0].process.text().contains("correct horse"));
    let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
    assert!(!text.contains("PRIVATE KEY") && text.contains("argon2id"), "the keys are sealed");
    cluster.masters[0].process.kill_9();

    let new = directory.join("machine");
    let restore = |words: &[&str]| {
        [&["backup", "restore", &file, "--data", &path(&new), "--name", "m0"][..], words]
            .concat()
            .join(" ")
    };
    let run = |line: String| tried(&line.split(' ').collect::<Vec<_>>());
    let said = String::from_utf8(run(restore(&[])).stderr).unwrap();
    assert!(said.contains("--passphrase-file FILE") && !new.exists(), "{said}");
    let wrong = directory.join("wrong");
    fs::write(&wrong, "another passphrase").unwrap();
    let said =
        String::from_utf8(run(restore(&["--passphrase-file", &path(&wrong)])).stderr).unwrap();
    assert!(said.contains("the passphrase does not open the keys") && !new.exists(), "{said}");
    assert!(run(restore(&["--passphrase-file", &secret])).status.success());
    cluster.masters[0].data = new.clone();
    cluster.restart(0);
    cluster.masters[0].process.says_again("ready after");
    // The kubeconfig of before.
    assert!(own.get_opt("before").await.unwrap().is_some());

    // Without any keys none are made that nobody asked for.
    let bare = path(&directory.join("bare.backup"));
    cluster.quorate_at(0, &["backup", "save", &bare]);
    let elsewhere = path(&directory.join("elsewhere"));
    let said = tried(&["backup", "restore", &bare, "--data", &elsewhere, "--name", "m0"]);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("holds no keys") && said.contains("--new-keys"), "{said}");
    assert!(!Path::new(&elsewhere).exists());

    // Once more, with keys that nobody knows.
    cluster.masters[0].process.kill_9();
    let output = run(restore(&["--new-keys", "--yes"]));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("The cluster has NEW keys"), "{said}");
    cluster.restart(0);
    cluster.masters[0].process.says_again("ready after");
    assert!(own.get_opt("before").await.is_err(), "the old kubeconfig is good for nothing");
    let kubeconfig = directory.join("fresh");
    cluster.quorate_at(0, &["kubeconfig", "--kubeconfig", &path(&kubeconfig)]);
    let fresh = maps(&kubeconfig, &cluster.masters[0].url()).await;
    assert!(fresh.get_opt("before").await.unwrap().is_some());
    // Keys of another cluster do not fit.
    let other = directory.join("other");
    let pki = path(&new.join("pki"));
    let words = ["backup", "restore", &file, "--data", &path(&other), "--pki", &pki];
    let said = refused(&words);
    assert!(said.contains("are not those of the cluster") && !other.exists(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_leaves_the_old_directory_or_the_new_one() {
    let mut cluster = Cluster::start(1);
    let own = maps(&cluster.kubeconfig(), &cluster.masters[0].url()).await;
    let data = Some([("fill".to_owned(), "x".repeat(100_000))].into());
    for number in 0..40 {
        let metadata = ObjectMeta { name: Some(format!("m{number}")), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, data: data.clone(), ..ConfigMap::default() };
        own.create(&PostParams::default(), &map).await.unwrap();
    }
    let file = path(&cluster.directory.path().join("one.backup"));
    cluster.quorate_at(0, &["backup", "save", &file]);
    cluster.masters[0].process.kill_9();
    let data = cluster.masters[0].data.clone();
    let id = |data: &Path| {
        parsed(&fs::read_to_string(data.join("cluster.json")).unwrap())["clusterId"].clone()
    };
    let words = ["backup", "restore", &file, "--data", &path(&data), "--yes"];
    let (mut before, mut wait, mut left, mut replaced) = (id(&data), Duration::ZERO, 0, 0);
    // Later and later, until some have come to their end.
    while replaced < 3 {
        assert!(wait < PATIENCE, "none comes to its end");
        let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(words)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(wait);
        drop(child.kill());
        child.wait().unwrap();
        let now = id(&data);
        replaced += u32::from(now != before);
        left += u32::from(now == before);
        before = now;
        wait += Duration::from_millis(10) + wait / 10;
        // Whichever it is, it is whole.
        let shown =
            quorate(&["masters", "recover", "--show", "--data", &path(&data), "-o", "json"]);
        assert!(parsed(&shown)["objects"].as_u64().unwrap() > 40, "{shown}");
    }
    assert!(left > 3, "only {left} were killed before their end: nothing was tested");
    quorate(&words);
    let unfinished = fs::read_dir(data.parent().unwrap())
        .unwrap()
        .filter(|item| item.as_ref().unwrap().path().join("unfinished").exists());
    assert_eq!(unfinished.count(), 0, "what the killed ones left is gone");
    cluster.restart(0);
    cluster.masters[0].process.says_again("ready after");
    assert_eq!(own.list(&ListParams::default().labels("!a")).await.unwrap().items.len(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_makes_backups_by_itself_and_keeps_the_newest() {
    let mut cluster = Cluster::start(1);
    let backups = cluster.masters[0].data.join("backups");
    fs::create_dir(&backups).unwrap();
    // Those of past days: only what they say of themselves is looked at.
    let one = cluster.directory.path().join("one.backup");
    cluster.quorate_at(0, &["backup", "save", &path(&one)]);
    let bytes = fs::read(&one).unwrap();
    let text = String::from_utf8_lossy(&bytes[12..400]).into_owned();
    let at = 12 + text.find("\"madeAt\":\"").unwrap() + 10;
    for day in 1..=3 {
        let mut old = bytes.clone();
        old[at..at + 10].copy_from_slice(format!("2025-01-0{day}").as_bytes());
        fs::write(backups.join(format!("scheduled-m0-2025010{day}T000000Z.backup")), old).unwrap();
    }
    fs::write(backups.join("scheduled-m0-20250104T000000Z.backup.part"), "half").unwrap();
    fs::write(backups.join("notes.txt"), "mine").unwrap();
    let list =
        || parsed(&quorate(&["backup", "list", "--backup-dir", &path(&backups), "-o", "json"]));
    assert_eq!(list()["items"].as_array().unwrap().len(), 3);
    cluster.masters[0].process.kill_9();
    // One was missed, so it is made now.
    cluster.options =
        ["--backup-keep", "2", "--backup-schedule", "0 3 * * *"].map(str::to_owned).into();
    cluster.restart(0);
    until("a backup is made, and two stay", PATIENCE, || {
        let list = list();
        let items = list["items"].as_array().unwrap();
        items.len() == 2 && !items[1]["madeAt"].as_str().unwrap().starts_with("2025")
    });
    let names: Vec<String> = fs::read_dir(&backups)
        .unwrap()
        .map(|item| item.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"notes.txt".to_owned()));
    assert!(names.contains(&"scheduled-m0-20250103T000000Z.backup".to_owned()), "{names:?}");
    let newest = path(Path::new(list()["items"][1]["file"].as_str().unwrap()));
    quorate(&["backup", "verify", &newest]);
    assert_eq!(fs::metadata(&newest).unwrap().permissions().mode() & 0o777, 0o600);
    // Not again until the schedule says so.
    cluster.masters[0].process.kill_9();
    cluster.options.push("--no-backups".to_owned());
    cluster.restart(0);
    cluster.masters[0].process.says_again("ready after");
    assert!(!cluster.masters[0].process.own_text().contains("backups are made"));
}
