//! Images: OCI layouts and registries, compressed layers, whiteouts, credentials, broken transfers.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use quorate_node_agent::builtin::image::{Reference, archive};
use quorate_node_agent::runtime::{ContainerConfig, Error, RegistryAuth, Runtime};
use serde_json::json;

use crate::registry::{Auth, Registry};
use crate::world::{World, add, can_run, hex};

const ARCH: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image of three layers as blobs by digest: plain, gzip and zstd. The upper ones delete files of the lower ones.
struct Sample {
    blobs: BTreeMap<String, Vec<u8>>,
    index: Vec<u8>,
    /// Digests of the manifest for this machine and of its layers.
    manifest: String,
    layers: Vec<String>,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, body) in files {
        add(&mut tar, path, body, 0o755);
    }
    tar.into_inner().unwrap()
}

fn sample() -> Sample {
    let busybox = std::fs::read(crate::world::BUSYBOX).unwrap();
    let plain = [
        layer(&[
            ("bin/sh", &busybox),
            ("bin/cat", &busybox),
            ("bin/ls", &busybox),
            ("etc/gone", b"x"),
            ("opt/old", b"x"),
            ("data/kept", b"low"),
        ]),
        layer(&[("etc/.wh.gone", b""), ("opt/.wh..wh..opq", b""), ("opt/new", b"n")]),
        layer(&[("data/kept", b"high")]),
    ];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain[1]).unwrap();
    let stored =
        [plain[0].clone(), gzip.finish().unwrap(), zstd::encode_all(&plain[2][..], 1).unwrap()];
    let diff_ids: Vec<String> = plain.iter().map(|bytes| digest(bytes)).collect();
    let config = json!({"architecture": ARCH, "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh", "-c", "cat /data/kept; ls /etc /opt"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string();
    let kinds = ["tar", "tar+gzip", "tar+zstd"];
    let describe = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let layers: Vec<_> = stored
        .iter()
        .zip(kinds)
        .map(|(bytes, kind)| describe(&format!("application/vnd.oci.image.layer.v1.{kind}"), bytes))
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": describe("application/vnd.oci.image.config.v1+json", config.as_bytes()), "layers": layers})
    .to_string();
    let mut ours = describe(MANIFEST, manifest.as_bytes());
    ours["platform"] = json!({"architecture": ARCH, "os": "linux"});
    let foreign = json!({"mediaType": MANIFEST, "digest": digest(b"foreign"), "size": 7,
        "platform": {"architecture": "s390x", "os": "linux"}});
    let index =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [foreign, ours]}).to_string();
    let mut blobs: BTreeMap<String, Vec<u8>> =
        stored.iter().map(|bytes| (digest(bytes), bytes.clone())).collect();
    blobs.insert(digest(config.as_bytes()), config.into_bytes());
    blobs.insert(digest(manifest.as_bytes()), manifest.clone().into_bytes());
    Sample {
        index: index.into_bytes(),
        manifest: digest(manifest.as_bytes()),
        layers: stored.iter().map(|bytes| digest(bytes)).collect(),
        blobs,
    }
}

impl Sample {
    fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<String, Vec<u8>> = self
            .blobs
            .iter()
            .map(|(digest, bytes)| (format!("blobs/{}", digest.replace(':', "/")), bytes.clone()))
            .collect();
        let inner = format!("blobs/{}", digest(&self.index).replace(':', "/"));
        let top = json!({"schemaVersion": 2, "manifests": [{"mediaType": INDEX, "digest": digest(&self.index),
            "size": self.index.len(), "annotations": {"io.containerd.image.name": name}}]});
        files.insert(inner, self.index.clone());
        files.insert("index.json".into(), top.to_string().into_bytes());
        files.insert("oci-layout".into(), br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec());
        files
    }

    fn upload(&self, registry: &Registry) {
        for (digest, bytes) in &self.blobs {
            registry.put(&format!("team/app/blobs/{digest}"), "application/octet-stream", bytes);
        }
        let manifest = &self.blobs[&self.manifest];
        registry.put(&format!("team/app/manifests/{}", self.manifest), MANIFEST, manifest);
        registry.put(&format!("team/app/manifests/{}", digest(&self.index)), INDEX, &self.index);
        registry.put("team/app/manifests/v1", INDEX, &self.index);
    }
}

/// Runs the image's own command and shows that its layers lie over each other as they should.
async fn runs(world: &World, name: &str, image: &str) {
    let config = ContainerConfig { image: image.into(), command: Vec::new(), ..World::shell("") };
    let (status, log) = world.output(name, &config).await;
    assert_eq!(status.exit_code, 0, "{}", status.message);
    let text: String = log.iter().map(|line| line.split_at(9).1).collect::<Vec<_>>().join("\n");
    assert!(text.contains("high") && text.contains("new"), "{text}");
    assert!(!text.contains("gone") && !text.contains("old") && !text.contains("low"), "{text}");
}

fn ingest_is_empty(world: &World) {
    let dir = world.runtime.images().root().join("ingest");
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn oci_layouts_are_imported_as_directory_and_as_archive() {
    if !can_run("oci_layouts_are_imported_as_directory_and_as_archive") {
        return;
    }
    let world = World::new(50).await;
    let sample = sample();
    let dir = world.dir.path().join("layout");
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in sample.files("example.com/team/app:v1") {
        let full = dir.join(&path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(full, &bytes).unwrap();
        add(&mut tar, &path, &bytes, 0o644);
    }
    let images = archive::import(world.runtime.images(), &dir, None).unwrap();
    assert_eq!(images.len(), 1, "only the platform of this machine");
    runs(&world, "directory", "example.com/team/app:v1").await;
    world.runtime.remove_image("example.com/team/app:v1").await.unwrap();
    assert!(world.runtime.image_status("example.com/team/app:v1").await.unwrap().is_none());
    let path = world.dir.path().join("layout.tar");
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    archive::import(world.runtime.images(), &path, None).unwrap();
    runs(&world, "archive", "example.com/team/app:v1").await;
    // A changed blob is found out, and nothing of it stays.
    world.runtime.remove_image("example.com/team/app:v1").await.unwrap();
    for sandbox in world.runtime.list_pod_sandboxes().await.unwrap() {
        world.runtime.remove_pod_sandbox(&sandbox.id).await.unwrap();
    }
    world.runtime.remove_image("example.com/none:v0").await.unwrap();
    let blob = dir.join("blobs").join(sample.layers[2].replace(':', "/"));
    std::fs::write(&blob, zstd::encode_all(&layer(&[("data/kept", b"evil")])[..], 1).unwrap())
        .unwrap();
    let err = archive::import(world.runtime.images(), &dir, None).unwrap_err();
    assert!(err.to_string().contains("digest"), "{err}");
    assert!(world.runtime.image_status("example.com/team/app:v1").await.unwrap().is_none());
    ingest_is_empty(&world);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_leads_out_is_refused() {
    if !can_run("an_archive_that_leads_out_is_refused") {
        return;
    }
    let world = World::new(51).await;
    let path = world.dir.path().join("evil.tar");
    let mut header = tar::Header::new_ustar();
    let name = b"../../escape";
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_size(1);
    header.set_mode(0o644);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, &b"x"[..]).unwrap();
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    let err = archive::import(world.runtime.images(), &path, None).unwrap_err();
    assert!(err.to_string().contains("leaves it"), "{err}");
    for (body, why) in
        [(&b"not a tar"[..], "not an image archive"), (&[0_u8; 1024][..], "neither manifest.json")]
    {
        std::fs::write(&path, body).unwrap();
        let err = archive::import(world.runtime.images(), &path, None).unwrap_err();
        assert!(err.to_string().contains(why), "{err}");
    }
    assert!(
        !world.dir.path().join("agent/images/escape").exists() && !Path::new("/escape").exists()
    );
    ingest_is_empty(&world);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pulled_with_a_token_by_tag_and_by_digest() {
    if !can_run("images_are_pulled_with_a_token_by_tag_and_by_digest") {
        return;
    }
    let world = World::new(52).await;
    let (registry, sample) = (Registry::start(Auth::Token).await, sample());
    sample.upload(&registry);
    let tagged = format!("{}/team/app:v1", registry.address);
    let id = world.runtime.pull_image(&tagged, None).await.unwrap();
    runs(&world, "tagged", &tagged).await;
    let image = world.runtime.image_status(&tagged).await.unwrap().unwrap();
    let by_digest = format!("{}/team/app@{}", registry.address, digest(&sample.index));
    assert_eq!((image.id.clone(), image.repo_digests), (id.clone(), vec![by_digest.clone()]));
    // Pulled again, no layer travels again.
    assert_eq!(world.runtime.pull_image(&by_digest, None).await.unwrap(), id);
    for layer in &sample.layers {
        assert_eq!(registry.asked(&format!("team/app/blobs/{layer}")), 1);
    }
    let missing = format!("{}/team/app:v2", registry.address);
    let err = world.runtime.pull_image(&missing, None).await.unwrap_err();
    assert!(matches!(err, Error::ImagePull(_)), "{err:?}");
    assert!(
        err.to_string().contains(&format!("failed to pull and unpack image \"{missing}\"")),
        "{err}"
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_open_a_registry_and_wrong_ones_do_not() {
    if !can_run("credentials_open_a_registry_and_wrong_ones_do_not") {
        return;
    }
    let world = World::new(53).await;
    let (registry, sample) = (Registry::start(Auth::Basic).await, sample());
    sample.upload(&registry);
    let image = format!("{}/team/app:v1", registry.address);
    let auth = |password: &str| RegistryAuth {
        username: "user".into(),
        password: password.into(),
        ..RegistryAuth::default()
    };
    for wrong in [None, Some(auth("guess"))] {
        let err = world.runtime.pull_image(&image, wrong.as_ref()).await.unwrap_err();
        assert!(matches!(err, Error::ImagePull(_)), "{err:?}");
    }
    let id = world.runtime.pull_image(&image, Some(&auth("secret"))).await.unwrap();
    assert!(id.starts_with("sha256:"));
    let encoded = RegistryAuth { auth: "dXNlcjpzZWNyZXQ=".into(), ..RegistryAuth::default() };
    assert_eq!(world.runtime.pull_image(&image, Some(&encoded)).await.unwrap(), id);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_transfer_leaves_nothing_and_the_next_one_works() {
    if !can_run("a_broken_transfer_leaves_nothing_and_the_next_one_works") {
        return;
    }
    let world = World::new(54).await;
    let (registry, sample) = (Registry::start(Auth::Nobody).await, sample());
    sample.upload(&registry);
    let image = format!("{}/team/app:v1", registry.address);
    let blob = format!("team/app/blobs/{}", sample.layers[0]);
    registry.break_once(&blob);
    let err = world.runtime.pull_image(&image, None).await.unwrap_err();
    assert!(matches!(err, Error::RegistryUnavailable(_) | Error::ImagePull(_)), "{err:?}");
    ingest_is_empty(&world);
    assert!(world.runtime.image_status(&image).await.unwrap().is_none());
    world.runtime.pull_image(&image, None).await.unwrap();
    runs(&world, "second", &image).await;
    // A registry that gives other bytes than the digest says is not believed.
    let other = World::new(55).await;
    let wrong = layer(&[("data/kept", b"evil")]);
    registry.put(
        &format!("team/app/blobs/{}", sample.layers[2]),
        "application/octet-stream",
        &wrong,
    );
    let err = other.runtime.pull_image(&image, None).await.unwrap_err();
    assert!(matches!(err, Error::ImagePull(_)) && err.to_string().contains("igest"), "{err:?}");
    ingest_is_empty(&other);
    assert!(other.runtime.image_status(&image).await.unwrap().is_none());
    other.finish().await;
    // Nobody there at all.
    drop(registry);
    let gone = Reference::parse("127.0.0.1:1/team/app:v1").unwrap().to_string();
    let err = world.runtime.pull_image(&gone, None).await.unwrap_err();
    assert!(matches!(err, Error::RegistryUnavailable(_)), "{err:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_keeps_its_layers_until_its_containers_are_gone() {
    if !can_run("an_image_in_use_keeps_its_layers_until_its_containers_are_gone") {
        return;
    }
    let world = World::new(56).await;
    let (sandbox, id) = world.run("user", &World::shell("sleep 1000")).await;
    let layers = || std::fs::read_dir(world.runtime.images().layers_dir()).unwrap().count();
    assert_eq!(layers(), 2, "one layer and its mark");
    world.runtime.remove_image(crate::world::IMAGE).await.unwrap();
    assert!(world.runtime.image_status(crate::world::IMAGE).await.unwrap().is_none());
    assert_eq!(world.sh(&id, "ls /bin/sh").await.0, 0);
    world.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    // The next removal of any image takes it.
    world.runtime.remove_image("docker.io/library/none:v0").await.unwrap();
    assert_eq!(layers(), 0);
    world.finish().await;
}
