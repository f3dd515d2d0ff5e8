//! Reads what the kernel tells about the machine.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use crate::thresholds::Thresholds;

/// What the machine has and uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processors.
    pub cpus: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Memory that could be had, bytes.
    pub memory_free_bytes: u64,
    /// Size of the file system of the agent's directory, bytes.
    pub disk_bytes: u64,
    /// What is free of it, bytes.
    pub disk_free_bytes: u64,
    /// Processes.
    pub pids: u64,
    /// Most processes.
    pub pids_max: u64,
    /// Size (`2Mi`) and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the distribution.
    pub os_image: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's.
    pub system_uuid: String,
    /// Changes with each boot.
    pub boot_id: String,
}

impl Usage {
    /// Thousandths of CPU, bytes of memory and of storage for pods: memory without what eviction keeps free and without
    /// huge pages, storage without what eviction keeps free.
    pub(crate) fn allocatable(&self, keep: &Thresholds) -> (i64, i64, i64) {
        let huge: u64 = self.hugepages.iter().map(|(_, bytes)| bytes).sum();
        let memory = self.memory_bytes.saturating_sub(keep.memory.of(self.memory_bytes) + huge);
        let disk = self.disk_bytes.saturating_sub(keep.disk.of(self.disk_bytes));
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        (signed(self.cpus as u64 * 1000), signed(memory), signed(disk))
    }
}

/// Measures now. `data` is on the file system that pods write to.
pub(crate) fn measure(data: &Path) -> Usage {
    let meminfo = read("/proc/meminfo");
    let disk = rustix::fs::statvfs(data).ok();
    let uname = rustix::system::uname();
    Usage {
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: field_kib(&meminfo, "MemTotal:") * 1024,
        memory_free_bytes: field_kib(&meminfo, "MemAvailable:") * 1024,
        disk_bytes: disk.as_ref().map_or(0, |disk| disk.f_blocks * disk.f_frsize),
        disk_free_bytes: disk.as_ref().map_or(0, |disk| disk.f_bavail * disk.f_frsize),
        pids: processes(),
        pids_max: read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0),
        hugepages: hugepages(),
        kernel: uname.release().to_string_lossy().into_owned(),
        os_image: os_image(&read("/etc/os-release")),
        machine_id: read("/etc/machine-id").trim().to_owned(),
        system_uuid: system_uuid(),
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Of the machine's firmware, or where it has none (as cAdvisor does it) of the installed system.
fn system_uuid() -> String {
    let sources =
        ["/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid", "/etc/machine-id"];
    let mut found =
        sources.iter().map(|path| read(path).trim_matches(['\0', ' ', '\n']).to_owned());
    found.find(|uuid| !uuid.is_empty()).unwrap_or_default().to_lowercase()
}

fn field_kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Threads of the whole machine: the fourth word of loadavg is `running/total`.
fn processes() -> u64 {
    let text = read("/proc/loadavg");
    let word = text.split(' ').nth(3).unwrap_or_default();
    word.split_once('/').and_then(|(_, total)| total.parse().ok()).unwrap_or(0)
}

fn hugepages() -> Vec<(String, u64)> {
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut found: Vec<(String, u64)> = sizes
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: u64 = std::fs::read_to_string(entry.path().join("nr_hugepages"))
                .ok()?
                .trim()
                .parse()
                .ok()?;
            let label = if kib >= 1 << 20 {
                format!("{}Gi", kib >> 20)
            } else {
                format!("{}Mi", kib >> 10)
            };
            Some((label, count * kib * 1024))
        })
        .collect();
    found.sort();
    found
}

fn os_image(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// The address of the default route, else the loopback: nothing is sent.
pub(crate) fn default_ips() -> Vec<IpAddr> {
    let route = |bind: &str, to: &str| -> Option<IpAddr> {
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let v4 = route("0.0.0.0:0", "192.0.2.1:9").filter(|ip| !ip.is_unspecified());
    vec![v4.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_measured() {
        let usage = measure(Path::new("/"));
        assert!(usage.cpus >= 1 && usage.memory_bytes > 64 << 20 && usage.disk_bytes > 0);
        assert!(usage.memory_free_bytes <= usage.memory_bytes && usage.pids > 0);
        let (cpu, memory, disk) = usage.allocatable(&Thresholds::default());
        assert!(cpu >= 1000 && memory > 0 && disk > 0);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }
}
