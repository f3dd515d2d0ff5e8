//! The labels and annotations by which the agent finds its own sandboxes and containers again, after a restart and
//! beside other agents on the same runtime. The `io.kubernetes.*` ones are those other tools look for (crictl).

/// Pod name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Pod namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Pod uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Container name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// The node whose agent owns it: two agents may share one runtime.
pub const NODE: &str = "io.quorate.node";
/// Annotation: seconds of grace the pod asked for, for when its object is gone.
pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation: where the container's termination message is on the host.
pub const TERMINATION_LOG: &str = "io.quorate.termination-log";
/// Annotation: `terminationMessagePolicy`.
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: how often the container was restarted.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: the image as the pod named it when the container was made; another one now means a restart.
pub const IMAGE: &str = "io.quorate.image";
/// Annotation: the resources it was made with, JSON; others now mean a resize.
pub const RESOURCES: &str = "io.quorate.resources";
