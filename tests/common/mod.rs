//! What the end-to-end tests share: the real binary, the real kubectl, a containerd of their own.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

pub mod api;
pub mod caller;
pub mod cluster;
pub mod containerd;
pub mod dev;
pub mod disk;
pub mod documented;
pub mod field;
pub mod hook;
pub mod hooked;
pub mod kube;
pub mod kubectl;
pub mod load;
pub mod memory;
pub mod network;
pub mod process;
pub mod s3;
pub mod scratch;

use std::time::{Duration, Instant};

pub use network::{PodRange, free_port};

/// Generous: the tests share two cores with whatever else runs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(50);

/// Says what the test does, with the time, so that one sees where it hangs.
pub fn step(what: &str) {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let began = BEGAN.get_or_init(Instant::now);
    eprintln!("{:>7.2} s  {what}", began.elapsed().as_secs_f64());
}

/// Waits until something holds; fails the test with `what` when it does not in time.
pub fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    step(&format!("wait until {what}"));
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(POLL);
    }
}
