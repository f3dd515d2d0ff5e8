//! Compiles the library that is loaded into masters (`shim/shim.rs`), to be embedded in the program.
//!
//! Where it cannot be had (another system than Linux with glibc, another processor) an empty file stands for it, and
//! the faults that need it are left out when a scenario is run.
#![allow(
    clippy::disallowed_methods,
    reason = "Cargo tells a build script all it has to know in the environment"
)]

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let library = PathBuf::from(variable("OUT_DIR")).join("shim.so");
    let target = variable("TARGET");
    let known = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
    if !known.contains(&target.as_str()) {
        std::fs::write(&library, [])?;
        return Ok(());
    }
    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        .args(["--edition", "2024", "--crate-name", "quorate_chaos_shim", "--crate-type", "cdylib"])
        .args(["-C", "panic=abort", "-C", "opt-level=2", "-C", "strip=symbols"])
        // Without it the library asks for what only `std` has.
        .args(["-C", "lto=fat"])
        .args(["--target", &target])
        .arg("-o")
        .args([&library, &PathBuf::from("shim/shim.rs")]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    let output = rustc.output()?;
    if !output.status.success() {
        return Err(format!("shim/shim.rs:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}
