//! `/version`.

use serde_json::json;

use crate::config::ClusterFacts;

/// The document.
pub(crate) fn document(facts: &ClusterFacts) -> serde_json::Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": quorate_api::version::FULL,
        "gitCommit": facts.git_commit,
        "gitTreeState": "clean",
        "buildDate": facts.build_date,
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{arch}", std::env::consts::OS),
    })
}
