//! Backups in a bucket: made, kept, listed, checked, restored.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::cluster::Cluster;
use common::process::run_to_end;
use common::s3::{Bucket, SECRET};
use common::{PATIENCE, step};
use serde_json::Value;

/// Runs a command that uses the bucket, in a directory of its own.
fn tried(bucket: &Bucket, directory: &Path, words: &[&str]) -> Output {
    step(&format!("+ quorate {}", words.join(" ")));
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(words).current_dir(directory).env_remove("KUBECONFIG").envs(bucket.variables());
    run_to_end(&mut command, b"", PATIENCE)
}

async fn quorate(bucket: &Bucket, directory: &Path, words: &[&str]) -> (bool, String) {
    let (bucket, directory) = (bucket.clone(), directory.to_owned());
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let run = move || {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        tried(&bucket, &directory, &words)
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// What is listed, when that is as wanted.
async fn listed(bucket: &Bucket, place: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let began = std::time::Instant::now();
    loop {
        let words = ["backup", "list", "--backup-dir", place, "-o", "json"];
        let (good, text) = quorate(bucket, Path::new("/"), &words).await;
        assert!(good, "{text}");
        let items =
            serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().clone();
        if wanted(&items) {
            return items;
        }
        assert!(began.elapsed() < PATIENCE, "not in time: {text}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// What other days, other clusters and people have put there.
fn fill(bucket: &Bucket, bytes: Vec<u8>) {
    let text = String::from_utf8_lossy(&bytes[12..400]).into_owned();
    let at = 12 + text.find("\"madeAt\":\"").unwrap() + 10;
    for day in 1..=3 {
        let mut old = bytes.clone();
        old[at..at + 10].copy_from_slice(format!("2025-01-0{day}").as_bytes());
        bucket.put(&format!("of/this-cluster/scheduled-m0-2025010{day}T000000Z.backup"), old);
    }
    bucket.put("of/this-cluster/notes.txt", b"mine".to_vec());
    bucket.put("of/this-cluster/damaged.backup", b"no backup at all".to_vec());
    bucket.put("of/another/scheduled-m0-20250101T000000Z.backup", bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_go_to_a_bucket_and_come_back() {
    let bucket = Bucket::start().await;
    let place = "s3://backups/of/this-cluster";
    let mut cluster = Cluster::start_in(None, 0);
    cluster.options =
        ["--backup-dir", place, "--backup-keep", "2", "--backup-schedule", "* * * * * UTC"]
            .map(str::to_owned)
            .into();
    cluster.variables = bucket.variables().map(|(name, value)| (name.to_owned(), value)).into();
    cluster.add_master(0, 0);
    cluster.quorate(&["token", "create", "--description", "before"]);
    let desk = cluster.directory.path().join("desk");
    std::fs::create_dir(&desk).unwrap();
    // One of an earlier day, so that the next is due at once; those of others, which stay.
    let own = desk.join("one.backup");
    cluster.quorate_at(0, &["backup", "save", &own.display().to_string()]);
    cluster.masters[0].process.kill_9();
    fill(&bucket, std::fs::read(&own).unwrap());
    cluster.restart(0);
    let scheduled = |item: &&Value| item["file"].as_str().unwrap().contains("/scheduled-m0-2");
    let items = listed(&bucket, place, |items| {
        let own: Vec<&Value> = items.iter().filter(scheduled).collect();
        let new = own.iter().any(|item| !item["madeAt"].as_str().unwrap().starts_with("2025"));
        new && own.len() == 2
    })
    .await;
    let newest = items.last().unwrap()["file"].as_str().unwrap().to_owned();
    assert!(newest.starts_with(place), "{newest}");
    let damaged =
        items.iter().find(|item| item["file"].as_str().unwrap().ends_with("damaged.backup"));
    assert!(damaged.unwrap()["problem"].is_string(), "{items:?}");
    let names = bucket.names();
    for kept in ["of/this-cluster/notes.txt", "of/another/scheduled-m0-20250101T000000Z.backup"] {
        assert!(names.contains(&kept.to_owned()), "{names:?}");
    }
    let here = std::fs::read_dir(cluster.masters[0].data.join("backups")).unwrap();
    assert_eq!(here.count(), 0, "nothing stays on the master's disk");
    assert!(!cluster.masters[0].process.text().contains(SECRET), "no key is in the log");

    step("they are checked and restored by their names");
    let (good, said) = quorate(&bucket, &desk, &["backup", "verify", &newest]).await;
    assert!(good && said.contains("good"), "{said}");
    let (good, said) = quorate(&bucket, &desk, &["backup", "inspect", &newest, "-o", "json"]).await;
    assert!(good, "{said}");
    let inspected: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(inspected["file"], newest.as_str());
    let damaged = format!("{place}/damaged.backup");
    let (good, said) = quorate(&bucket, &desk, &["backup", "verify", &damaged]).await;
    assert!(!good && said.contains("damaged.backup"), "{said}");
    let (good, said) =
        quorate(&bucket, &desk, &["backup", "verify", &format!("{place}/none.backup")]).await;
    assert!(!good && said.contains("cannot get none.backup from s3://backups"), "{said}");
    cluster.masters[0].process.kill_9();
    let data = cluster.masters[0].data.display().to_string();
    let (good, said) =
        quorate(&bucket, &desk, &["backup", "restore", &newest, "--data", &data, "--yes"]).await;
    assert!(good, "{said}");
    let left: Vec<_> =
        std::fs::read_dir(&desk).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left, ["one.backup"], "what was fetched is gone");
    cluster.restart(0);
    cluster.masters[0].process.says_again("ready after");
    assert!(cluster.quorate(&["token", "list"]).contains("before"));
    assert_eq!(bucket.refused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_backup_goes_up_in_parts() {
    let bucket = Bucket::start().await;
    let place = "s3://backups";
    let mut cluster = Cluster::start(1);
    let kubeconfig = cluster.kubeconfig();
    let api = common::api::Api::new(&kubeconfig, &cluster.masters[0].url()).await;
    // Noise, which is not made smaller by packing: 20 MB.
    let mut noise = 88_172_645_463_325_252_u64;
    for number in 0..28 {
        let text: String = (0..700_000)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                char::from(b'!' + u8::try_from(noise % 90).unwrap())
            })
            .map(|sign| if sign == '"' || sign == '\\' { 'x' } else { sign })
            .collect();
        let metadata = serde_json::json!({ "name": format!("noise-{number}") });
        let map = serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": { "text": text } });
        let path = "/api/v1/namespaces/default/configmaps";
        let (code, said) =
            api.call(http::Method::POST, path, map.to_string().into_bytes()).await.unwrap();
        assert_eq!(code, 201, "{said}");
    }
    cluster.masters[0].process.kill_9();
    cluster.options =
        ["--backup-dir", place, "--backup-schedule", "* * * * * UTC"].map(str::to_owned).into();
    cluster.variables = bucket.variables().map(|(name, value)| (name.to_owned(), value)).into();
    cluster.restart(0);
    // At the next full minute at the latest.
    let began = std::time::Instant::now();
    while bucket.names().is_empty() {
        assert!(began.elapsed() < 2 * PATIENCE, "no backup came");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let name = bucket.names()[0].clone();
    assert!(bucket.get(&name).len() > 9 << 20, "several parts of 8 MiB");
    let desk = cluster.directory.path().join("desk");
    std::fs::create_dir(&desk).unwrap();
    let (good, said) =
        quorate(&bucket, &desk, &["backup", "verify", &format!("{place}/{name}")]).await;
    assert!(good && said.contains("good"), "{said}");
}
