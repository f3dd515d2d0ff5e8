//! Nothing of a run is left on the host: no process, network namespace, link, mount or control group.
//!
//! Source: `reliability.md` section 8, (21): "no leaked fault (verify heal)", and Chaos Mesh's users' complaints about
//! faults that outlive their experiment. It is looked for after all processes were ended (`chaos/src/real/left.rs`).

use crate::report::{Check, Evidence};

const NAME: &str = "left";

/// Fails for each thing that is still there.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let checked = "processes, namespaces, links, mounts and control groups".to_owned();
    match &evidence.left {
        None => Check::unknown(NAME, checked, "nobody looked: an older program made this report"),
        Some(left) => Check::broken(NAME, checked, left.clone()),
    }
}
