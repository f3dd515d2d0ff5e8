//! Machines on one link: network namespaces joined by a bridge, which is in a namespace of its own, so that nothing of
//! it is seen by the host. Names begin with `qv` and the test's process id: what an aborted test left goes with the
//! next.

use std::path::Path;
use std::process::{Command, Output};

use super::step;

const PREFIX: &str = "qv";

/// Names of machines are those of their namespaces without the prefix; each has `eth0`.
pub struct Field {
    machines: Vec<String>,
}

impl Field {
    /// Machine number `n` has the addresses `10.0.0.<10 + n>` and `fd00::<10 + n>`.
    pub fn new(machines: &[&str]) -> Self {
        sweep();
        let field = Self { machines: machines.iter().map(ToString::to_string).collect() };
        let switch = field.namespace("switch");
        ip(&format!("netns add {switch}"));
        // Ports that come and go do not wait for a spanning tree.
        ip(&format!(
            "-n {switch} link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        ));
        ip(&format!("-n {switch} link set br0 up"));
        for (number, name) in machines.iter().enumerate() {
            let own = field.namespace(name);
            ip(&format!("netns add {own}"));
            ip(&format!("-n {own} link set lo up"));
            ip(&format!("-n {switch} link add {name} type veth peer name eth0 netns {own}"));
            ip(&format!("-n {switch} link set {name} master br0 up"));
            let host = 10 + number;
            ip(&format!("-n {own} addr add 10.0.0.{host}/24 dev eth0"));
            ip(&format!("-n {own} addr add fd00::{host}/64 dev eth0 nodad"));
            ip(&format!("-n {own} link set eth0 up"));
        }
        field
    }

    pub fn namespace(&self, machine: &str) -> String {
        format!("{PREFIX}{}{machine}", std::process::id())
    }

    /// Runs `ip` on a machine.
    pub fn ip(&self, machine: &str, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.namespace(machine)))
    }

    /// A command on a machine.
    pub fn command(&self, machine: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(machine), program]);
        command
    }

    /// Takes a machine off the link, which stays up, or brings it back.
    pub fn cut(&self, machine: &str, cut: bool) {
        step(&format!("{machine} is {}", if cut { "cut off" } else { "back" }));
        let how = if cut { "nomaster" } else { "master br0" };
        self.ip("switch", &format!("link set {machine} {how}"));
    }

    /// The machines that have an address.
    pub fn holders(&self, address: &str) -> Vec<String> {
        let has = |machine: &&String| self.has(machine, address);
        self.machines.iter().filter(has).cloned().collect()
    }

    pub fn has(&self, machine: &str, address: &str) -> bool {
        let shown = self.ip(machine, "-o addr show dev eth0");
        shown.split_whitespace().any(|word| word.split('/').next() == Some(address))
    }

    /// The hardware address of a machine.
    pub fn mac(&self, machine: &str) -> String {
        let shown = self.ip(machine, "-o link show dev eth0");
        let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
        words.nth(1).unwrap().to_owned()
    }

    /// Under which hardware address a machine looks for an address.
    pub fn neighbour(&self, machine: &str, address: &str) -> Option<String> {
        let shown = self.ip(machine, &format!("neigh show {address} dev eth0"));
        let mut words = shown.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).map(str::to_owned)
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        for machine in self.machines.iter().map(String::as_str).chain(["switch"]) {
            drop(run(&format!("netns del {}", self.namespace(machine))));
        }
    }
}

/// Removes what tests whose process is gone have left.
fn sweep() {
    let listed = ip("netns list");
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let pid: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if !pid.is_empty() && !Path::new(&format!("/proc/{pid}")).exists() {
            drop(run(&format!("netns del {name}")));
        }
    }
}

fn run(arguments: &str) -> Output {
    Command::new("ip").args(arguments.split(' ')).output().unwrap()
}

fn ip(arguments: &str) -> String {
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
