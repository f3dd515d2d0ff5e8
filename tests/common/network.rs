//! Addresses and ports that no other test on this machine uses at the same time: each is claimed by a lock on a file,
//! which the kernel gives up with the process that holds it.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use super::scratch::forget_network;

/// Below the ports that the kernel gives to outgoing connections: one of those could take the port of a master while
/// it is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Second numbers of `10.N.0.0/16`.
const RANGES: std::ops::Range<u8> = 150..200;

fn claim(name: &str) -> Option<File> {
    let directory = std::env::temp_dir().join("quorate-e2e.claims");
    std::fs::create_dir_all(&directory).unwrap();
    let path: PathBuf = directory.join(name);
    let file = File::options().create(true).append(true).open(path).unwrap();
    file.try_lock().is_ok().then_some(file)
}

/// A port that nobody listens on, for as long as this process lives. Each call gives another one.
pub fn free_port() -> u16 {
    static CLAIMED: Mutex<Vec<File>> = Mutex::new(Vec::new());
    // Processes of one run begin at different places.
    let spread = u16::try_from(std::process::id() % 1000).unwrap() * 12;
    for offset in 0..PORTS.end - PORTS.start {
        let port = PORTS.start + (spread + offset) % (PORTS.end - PORTS.start);
        let Some(claimed) = claim(&format!("port-{port}")) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            CLAIMED.lock().unwrap().push(claimed);
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

/// A range for the pods of one test. The bridge that an agent makes for it outlives the agent, as its pods do: it is
/// removed when the test begins and when it ends.
pub struct PodRange {
    pub second: u8,
    pub cidr: String,
    _claimed: File,
}

impl PodRange {
    /// The first range that nobody on this machine uses.
    pub fn claim() -> Self {
        for second in RANGES {
            let Some(claimed) = claim(&format!("range-{second}")) else { continue };
            for bridge in bridges_on(second) {
                forget_network(&bridge);
            }
            if interfaces_on(second).is_empty() {
                return Self { second, cidr: format!("10.{second}.0.0/16"), _claimed: claimed };
            }
        }
        panic!("none of the ranges 10.N.0.0/16 with N in {RANGES:?} is free");
    }

    /// Beginning of all addresses in it.
    pub fn prefix(&self) -> String {
        format!("10.{}.", self.second)
    }
}

impl Drop for PodRange {
    fn drop(&mut self) {
        for bridge in bridges_on(self.second) {
            forget_network(&bridge);
        }
    }
}

/// Interfaces of this machine with an address in the range.
fn interfaces_on(second: u8) -> Vec<String> {
    let shown = Command::new("ip").args(["-o", "-4", "addr", "show"]).output();
    let shown = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let prefix = format!(" 10.{second}.");
    let shown = shown.unwrap_or_default();
    let lines = shown.lines().filter(|line| line.contains(&prefix));
    lines.filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

/// Those of them that tests or agents made.
fn bridges_on(second: u8) -> Vec<String> {
    let interfaces = interfaces_on(second).into_iter();
    interfaces.filter(|name| name.starts_with("qbr") || name.starts_with("qrt")).collect()
}
