//! Scenarios that come with the program.

use anyhow::bail;

use super::{Scenario, read};

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        /// Names and texts, in the order in which they are listed.
        pub const ALL: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".yaml")))),*];
    };
}

builtin!(
    "quick",
    "leader-loss",
    "total-loss",
    "rolling-restart",
    "restart-loop",
    "hang",
    "partitions",
    "partitions-five",
    "swizzle",
    "overlap",
    "bad-links",
    "disk-full",
    "throttle",
    "bank",
    "leases",
    "workloads",
    "clocks",
    "bad-disks",
    "power-loss",
    "power-loss-hundred",
    "disk-lies",
    "crash-points",
    "code-points",
    "damage",
    "stop",
    "nuisances",
    "api-flood",
    "clients-cut",
    "forgetting",
    "certificates",
    "rotate-ca",
    "short-lived",
    "restore",
    "quorum-lost",
    "slow-start",
    "addresses",
    "joins",
    "replace",
    "walk",
    "hunger",
    "rollback",
    "mixed-versions",
    "deployments",
    "nodes",
);

/// The text of one.
///
/// # Errors
/// When there is none of this name, with those that are there.
pub fn text(name: &str) -> anyhow::Result<&'static str> {
    match ALL.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Ok(text),
        None => {
            let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
            bail!("there is no scenario {name:?}: a file, or one of {}", names.join(", "))
        }
    }
}

/// One, read.
///
/// # Errors
/// When there is none of this name.
pub fn scenario(name: &str, seed: u64) -> anyhow::Result<Scenario> {
    Ok(read::text(&format!("{name}.yaml"), text(name)?, seed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_right() {
        let mut files: Vec<String> =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
        files.sort_unstable();
        let mut names: Vec<String> = ALL.iter().map(|(name, _)| format!("{name}.yaml")).collect();
        names.sort_unstable();
        assert_eq!(files, names, "each file is built in");
        for (name, text) in ALL {
            let scenario = scenario(name, 1).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
            assert_eq!(scenario.name, *name);
            assert!(!scenario.description.is_empty() && scenario.description.len() < 90, "{name}");
            let again = read::text("again.yaml", &scenario.to_yaml().unwrap(), 1).unwrap();
            assert_eq!(again, scenario);
        }
        assert!(text("leader-los").unwrap_err().to_string().contains("one of quick, leader-loss"));
    }
}
