//! Kubernetes itself as a workload: node agents with real containers, the run's own or those of a cluster that is
//! there, and a user who creates, scales, rolls and deletes Deployments with Services before them.
//!
//! [`user`] does what a person would; [`witness`] notes on which nodes pods were ever seen; [`ending`] waits until all
//! has come to rest after the faults, and keeps what there is then, on the API and on the host.

pub mod agents;
pub mod change;
pub mod ending;
pub(crate) mod image;
pub mod trial;
pub mod user;
pub mod witness;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::history::Tick;
use ending::Last;

/// Deployments, each with a Service.
pub const DEPLOYMENTS: usize = 2;

/// The label of everything of one Deployment.
pub const LABEL: &str = "app";

/// In the environment of each container: the pod's uid.
pub const POD_UID: &str = "QUORATE_CHAOS_POD";

/// In the environment of each container: the directory of the run.
pub const RUN: &str = "QUORATE_CHAOS_RUN";

/// The template's annotation that each rollout changes.
pub const ROUND: &str = "chaos.quorate/round";

/// What the user has last been told, of one Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// It is there.
    pub exists: bool,
    /// How many pods.
    pub replicas: u64,
    /// Which template.
    pub round: u64,
    /// Whether the answer to the last operation is known.
    pub known: bool,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exists {
            true => write!(f, "{} replicas of round {}", self.replicas, self.round),
            false => f.write_str("nothing"),
        }
    }
}

/// A pod on a node, as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The pod's uid.
    pub uid: String,
    /// Its name.
    pub pod: String,
    /// Where it was said to be.
    pub node: String,
    /// When that was seen first.
    pub at: Tick,
}

/// What the pods run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pods {
    /// The image that the run has given its own agents, marked with the run's directory.
    Own {
        /// The directory.
        directory: String,
    },
    /// An image that nodes which were there can get: what it begins with by itself has to go on.
    There {
        /// Its name.
        image: String,
    },
}

impl Pods {
    /// Their container.
    #[must_use]
    pub fn container(&self) -> Value {
        match self {
            Self::Own { directory } => {
                let uid = json!({"fieldRef": {"fieldPath": "metadata.uid"}});
                json!({
                    "name": "main",
                    "image": image::NAME,
                    "command": ["/bin/sh", "-c",
                        "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"],
                    "env": [
                        {"name": POD_UID, "valueFrom": uid},
                        {"name": RUN, "value": directory},
                    ],
                })
            }
            Self::There { image } => json!({
                "name": "main",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
            }),
        }
    }
}

/// What all who take part share.
#[derive(Debug)]
pub struct Shared {
    /// What runs.
    pub pods: Pods,
    /// Nodes that were there, by name; `None` when the run has its own.
    pub nodes: Option<Vec<String>>,
    /// By name.
    pub wanted: Mutex<BTreeMap<String, Wanted>>,
    /// How often the user did what, with success.
    pub done: Mutex<BTreeMap<String, usize>>,
    /// What the user found instead of what had been acknowledged.
    pub surprises: Mutex<Vec<String>>,
    /// By uid and node.
    pub bindings: Mutex<BTreeMap<(String, String), Binding>>,
}

impl Shared {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(pods: Pods, nodes: Option<Vec<String>>) -> Self {
        Self {
            pods,
            nodes,
            wanted: Mutex::default(),
            done: Mutex::default(),
            surprises: Mutex::default(),
            bindings: Mutex::default(),
        }
    }
}

/// What is kept of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Why this host cannot run it.
    pub lacks: Option<String>,
    /// Nodes that were there before the run, and ready; `None` when the run had its own.
    #[serde(default)]
    pub nodes: Option<Vec<String>>,
    /// What the user was told at last.
    pub wanted: BTreeMap<String, Wanted>,
    /// What the user did, with success.
    pub done: BTreeMap<String, usize>,
    /// What the user found instead of what had been acknowledged.
    pub surprises: Vec<String>,
    /// Where pods were seen.
    pub bindings: Vec<Binding>,
    /// How long after the faults all came to rest; `None` when it did not.
    pub converged: Option<Duration>,
    /// What there was at the end; `None` when the run did not come so far.
    pub last: Option<Last>,
}

/// The name of a Deployment and of its Service.
#[must_use]
pub fn name(index: usize) -> String {
    format!("web-{index}")
}
