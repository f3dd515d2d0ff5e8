//! What the runtime shows of one pod.

use std::net::IpAddr;

use crate::runtime::{ContainerState, ContainerStatus, SandboxId};

/// One sandbox of the pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SandboxView {
    pub(crate) id: SandboxId,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    pub(crate) ips: Vec<IpAddr>,
}

/// Everything the runtime has of the pod, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) sandboxes: Vec<SandboxView>,
    pub(crate) containers: Vec<ContainerStatus>,
}

impl Observed {
    /// Puts everything newest first.
    pub(crate) fn sort(&mut self) {
        self.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.attempt));
        self.containers.sort_by_key(|status| {
            std::cmp::Reverse((status.container.attempt, status.container.created_at))
        });
    }

    /// The newest sandbox.
    pub(crate) fn sandbox(&self) -> Option<&SandboxView> {
        self.sandboxes.first()
    }

    /// The newest sandbox when it is alive.
    pub(crate) fn ready_sandbox(&self) -> Option<&SandboxView> {
        self.sandbox().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of that name.
    pub(crate) fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|status| status.container.name == name)
    }

    /// The one before the newest.
    pub(crate) fn previous(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().filter(|status| status.container.name == name).nth(1)
    }

    /// Anything that still runs, or may.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.iter().filter(|status| {
            matches!(status.container.state, ContainerState::Running | ContainerState::Unknown)
        })
    }
}
