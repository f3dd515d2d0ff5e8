//! `cargo xtask ci`: everything that must hold before a change lands, in the order in which it
//! fails fastest. Also the README's test command: it installs what the tests need.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

/// Debian packages that the tests use: a container runtime, a static busybox to make an image of, a browser that opens
/// reports, and Prometheus, of which only the tool that checks rules is used. Name of the package, and a file that
/// shows that it is there.
const PACKAGES: &[(&str, &[&str])] = &[
    ("containerd", &["/usr/bin/containerd"]),
    ("runc", &["/usr/sbin/runc", "/usr/bin/runc"]),
    ("containernetworking-plugins", &["/usr/lib/cni/bridge", "/opt/cni/bin/bridge"]),
    ("busybox-static", &["/bin/busybox", "/usr/bin/busybox"]),
    ("iproute2", &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"]),
    ("nftables", &["/usr/sbin/nft"]),
    ("iptables", &["/usr/sbin/iptables"]),
    ("prometheus", &["/usr/bin/promtool", "/usr/local/bin/promtool"]),
    ("chromium", &["/usr/bin/chromium", "/usr/bin/google-chrome"]),
];

type Step = fn() -> anyhow::Result<()>;

/// Options of `cargo xtask ci`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the named step: packages, fmt, tidy, clippy, test, sim, mutants
    #[arg(long)]
    only: Option<String>,
}

/// Runs all steps.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let steps: &[(&str, Step)] = &[
        ("packages", packages),
        ("fmt", || cargo(&["fmt", "--all", "--check"])),
        ("tidy", || crate::tidy::run(&root())),
        ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("test", test),
        ("sim", sim),
        ("mutants", mutants),
    ];
    for (name, step) in steps {
        if args.only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        say(&format!("=== {name}"));
        let start = Instant::now();
        step().with_context(|| format!("step {name} failed"))?;
        say(&format!("=== {name}: ok after {} s", start.elapsed().as_secs()));
    }
    Ok(())
}

/// The workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new(".")).to_owned()
}

fn test() -> anyhow::Result<()> {
    if Command::new("cargo-nextest").arg("--version").output().is_ok_and(|o| o.status.success()) {
        cargo(&["nextest", "run", "--workspace"])
    } else {
        // One at a time, so that the name of a test that hangs is on the screen.
        cargo(&["test", "--workspace", "--", "--test-threads=1"])
    }
}

/// Three minutes of simulated clusters with seeds that nobody has tried, by the program that the tests had.
fn sim() -> anyhow::Result<()> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let program = target.join("debug/quorate");
    if !program.exists() {
        cargo(&["build", "--workspace", "--bin=quorate"])?;
    }
    let status =
        Command::new(&program).args(["chaos", "sim", "--for=3m", "--steps=40"]).status()?;
    if !status.success() {
        bail!("simulations failed: again with `quorate chaos sim --seed SEED --steps 40`");
    }
    Ok(())
}

/// Some of the bugs that the simulated world must find; `cargo xtask chaos-mutants` has all.
fn mutants() -> anyhow::Result<()> {
    crate::chaos::sample()
}

fn packages() -> anyhow::Result<()> {
    // Debian has none that is recent: its absence is said, it is not installed.
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        say(
            "kubectl is missing, so the tests that drive it SKIP what they are for: install it from \
             https://kubernetes.io/docs/tasks/tools/",
        );
    }
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, files)| !files.iter().any(|file| Path::new(file).exists()))
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install -y {}", missing.join(" "));
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    if !is_root || !Path::new("/usr/bin/apt-get").exists() {
        say(&format!("missing, so the tests that need them say that they are skipped: {command}"));
        return Ok(());
    }
    say(&format!("installing: {}", missing.join(" ")));
    let run = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(["-qq", "-o", "DPkg::Lock::Timeout=120"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
    };
    run(&["update"])?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&missing);
    if !run(&install)?.success() {
        bail!("cannot install what the tests need; by hand: {command}");
    }
    Ok(())
}

pub(crate) fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program).args(arguments).current_dir(root()).status()?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "a contributor's tool")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}
