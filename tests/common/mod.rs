//! What the end-to-end tests share: the real binary, the real kubectl, a containerd of their own.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

pub mod cluster;
pub mod containerd;
pub mod kubectl;

use std::time::{Duration, Instant};

/// Waits until something holds; fails the test with `what` when it does not in time.
pub fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A port that nobody listens on. Each call gives another one.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A range for the pods of one test. The bridge that an agent makes for it outlives the agent, as
/// its pods do: it is removed
/// when the test begins and when it ends.
pub struct PodRange {
    gateway: String,
    pub cidr: String,
}

impl PodRange {
    pub fn new(second: u8) -> Self {
        let range =
            Self { gateway: format!("10.{second}.0.1/"), cidr: format!("10.{second}.0.0/16") };
        range.remove_bridge();
        range
    }

    fn remove_bridge(&self) {
        let shown = std::process::Command::new("ip").args(["-o", "-4", "addr", "show"]).output();
        let shown = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for line in shown.unwrap_or_default().lines().filter(|line| line.contains(&self.gateway)) {
            let interface = line.split_whitespace().nth(1).unwrap_or_default();
            let arguments = ["link", "delete", interface];
            drop(std::process::Command::new("ip").args(arguments).status());
        }
    }
}

impl Drop for PodRange {
    fn drop(&mut self) {
        self.remove_bridge();
    }
}
