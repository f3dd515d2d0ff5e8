//! `quorate dev` on a containerd of its own, as a person has it on their machine.

use super::containerd::Containerd;
use super::free_port;
use super::kubectl::Kubectl;
use super::process::Process;
use super::scratch::Scratch;
use super::{PATIENCE, PodRange};

/// A master and a node in one process, with real containers.
pub struct Dev {
    // In the order in which they go: the directories take what is left.
    pub process: Process,
    pub kubectl: Kubectl,
    pub directory: Scratch,
    pub range: PodRange,
    pub containerd: Containerd,
}

impl Dev {
    /// The name of its node.
    pub const NODE: &str = "node-a";

    /// Starts it and waits until its node is ready; or says what is missing for that.
    pub fn start() -> Option<Self> {
        let containerd = Containerd::start(None)?;
        let range = PodRange::claim();
        let directory = Scratch::new("dev");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let kubectl = Kubectl::new(&directory.path().join("kubeconfig"))?;
        let address = || format!("127.0.0.1:{}", free_port());
        let socket = containerd.socket().display().to_string();
        let cni = containerd.cni_dir().display().to_string();
        let flags = [
            ("--name", Self::NODE.to_owned()),
            ("--data", path("data")),
            ("--listen", address()),
            ("--peer-listen", address()),
            ("--kubeconfig", path("kubeconfig")),
            ("--cluster-cidr", range.cidr.clone()),
            ("--runtime", "containerd".to_owned()),
            ("--containerd-socket", socket),
            ("--cni-conf-dir", cni),
        ];
        let mut arguments = vec!["dev"];
        arguments.extend(flags.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
        let mut process = Process::start(&directory.path().join("dev.log"), &arguments);
        process.says("kubectl get pods -o wide");
        let dev = Self { process, kubectl, directory, range, containerd };
        // Ready for calls, it may not have registered its node yet; and kubectl waits for nothing that is not there.
        let there = |nodes: &serde_json::Value| nodes["items"].get(0).is_some();
        dev.kubectl.until("the node has registered", PATIENCE, &["nodes"], there);
        dev.kubectl.run(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
        Some(dev)
    }
}
