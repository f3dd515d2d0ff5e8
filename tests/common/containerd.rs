//! A containerd of the test's own: socket, root and images in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::scratch::Scratch;

/// The image that the tests use: busybox, under the name that the quick start uses.
pub const IMAGE: &str = "docker.io/library/busybox:latest";
/// The same image under a name that need not be pulled: the policy of a tag is `IfNotPresent`.
pub const TAGGED: &str = "docker.io/library/busybox:test";

/// containerd takes its time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Containerd {
    child: Child,
    pub dir: Scratch,
}

impl Containerd {
    /// Starts it, with a network of its own or one that the agent is to configure; or says why not.
    pub fn start(network: Option<(&str, &str)>) -> Option<Containerd> {
        for needed in ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/lib/cni/bridge", "/bin/busybox"]
        {
            if !Path::new(needed).exists() {
                eprintln!("SKIPPED: {needed} is missing, nothing was tested with containers");
                return None;
            }
        }
        let dir = Scratch::new("containerd");
        let root = dir.path();
        std::fs::create_dir_all(root.join("cni")).unwrap();
        if let Some((bridge, subnet)) = network {
            let cni = format!(
                r#"{{"cniVersion":"1.0.0","name":"{bridge}","plugins":[{{"type":"bridge",
                "bridge":"{bridge}","isGateway":true,"ipMasq":false,"ipam":{{"type":"host-local",
                "dataDir":"{}/ipam","ranges":[[{{"subnet":"{subnet}"}}]]}}}}]}}"#,
                root.display()
            );
            std::fs::write(root.join("cni/10-test.conflist"), cni).unwrap();
        }
        let config = format!(
            r#"version = 2
root = "{0}/root"
state = "{0}/state"
[grpc]
address = "{0}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
# A machine without CAP_SYS_RESOURCE (a container, some virtual machines) cannot lower the score.
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{0}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.internal.v1.opt"]
path = "{0}/opt"
"#,
            root.display()
        );
        std::fs::write(root.join("config.toml"), config).unwrap();
        let log = std::fs::File::create(root.join("containerd.log")).unwrap();
        let child = Command::new("/usr/bin/containerd")
            .arg("--config")
            .arg(root.join("config.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = Containerd { child, dir };
        started.import();
        Some(started)
    }

    pub fn cni_dir(&self) -> PathBuf {
        self.dir.path().join("cni")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("c.sock")
    }

    fn import(&self) {
        let archive = self.dir.path().join("image.tar");
        write_image(&archive);
        let began = Instant::now();
        loop {
            let output = Command::new("/usr/bin/ctr")
                .arg("-a")
                .arg(self.socket())
                .args(["-n", "k8s.io", "images", "import"])
                .arg(&archive)
                .output()
                .unwrap();
            if output.status.success() {
                return;
            }
            let log =
                std::fs::read_to_string(self.dir.path().join("containerd.log")).unwrap_or_default();
            assert!(
                began.elapsed() < PATIENCE,
                "image not imported: {}\n{log}",
                String::from_utf8_lossy(&output.stderr)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Its containers and shims outlive it: the directory takes them with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A docker archive with busybox alone, whose default command sleeps: pod and sandbox image in one.
pub fn write_image(path: &Path) {
    let mut layer = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").unwrap();
    for dir in ["bin/", "tmp/", "etc/", "dev/", "proc/", "sys/"] {
        entry(&mut layer, dir, tar::EntryType::Directory, &[], 0o755);
    }
    entry(&mut layer, "bin/busybox", tar::EntryType::Regular, &busybox, 0o755);
    entry(&mut layer, "etc/passwd", tar::EntryType::Regular, b"root:x:0:0::/:/bin/sh\n", 0o644);
    for name in [
        "sh",
        "sleep",
        "cat",
        "echo",
        "httpd",
        "touch",
        "rm",
        "ls",
        "test",
        "wget",
        "id",
        "trap",
        "nc",
        "uname",
        "env",
        "tail",
        "seq",
        "tar",
        "date",
        "hostname",
        "head",
        "stty",
        "wc",
        "sort",
        "grep",
        "tty",
        "mkdir",
        "true",
        "false",
        "sha256sum",
        "dd",
        "ps",
        "kill",
        "df",
        "mount",
        "find",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let diff: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "2147483"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
    });
    let manifest = serde_json::json!([{
        "Config": "config.json", "RepoTags": [IMAGE, TAGGED], "Layers": ["layer.tar"]
    }]);
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, content) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        entry(&mut archive, name, tar::EntryType::Regular, &content, 0o644);
    }
    archive.finish().unwrap();
}

fn entry<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    kind: tar::EntryType,
    content: &[u8],
    mode: u32,
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, name, content).unwrap();
}
