//! Metrics of the whole process: Raft's numbers and the kernel's about the process, read when
//! somebody asks.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use quorate_raft::{Role, Status};
use quorate_store::Masters;

/// Shows Raft's state as gauges.
#[derive(Debug)]
pub struct RaftCollector(pub Masters);

impl Collector for RaftCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in gauges(&self.0.status()) {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

/// What Prometheus' client libraries say of a process, under their names.
#[derive(Debug)]
pub struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
        // Not on every system, and nothing to fail a scrape for.
        let stat = read("stat").unwrap_or_default();
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let page = rustix::param::page_size();
        let ticks = rustix::param::clock_ticks_per_second();
        for (name, help, value) in process(&stat, ticks, page, boot_seconds(), open) {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let seconds = cpu_seconds(&stat, ticks);
        let counter = ConstCounter::new(seconds);
        let help = "Total user and system CPU time spent in seconds";
        let metric =
            encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?;
        counter.encode(metric)
    }
}

/// When the machine was started, seconds since 1970.
fn boot_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or_default()
}

/// Field `number` of `/proc/self/stat` as proc(5) counts them, from the third on.
fn field(stat: &str, number: usize) -> f64 {
    // The second is the command in parentheses, which may hold spaces.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let word = rest.split_whitespace().nth(number - 3);
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
fn cpu_seconds(stat: &str, ticks: u64) -> f64 {
    (field(stat, 14) + field(stat, 15)) / ticks as f64
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
fn process(
    stat: &str,
    ticks: u64,
    page: usize,
    boot: f64,
    open: usize,
) -> Vec<(&'static str, &'static str, f64)> {
    let start = boot + field(stat, 22) / ticks as f64;
    vec![
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds",
            start,
        ),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes", field(stat, 23)),
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes",
            field(stat, 24) * page as f64,
        ),
        ("process_open_fds", "Number of open file descriptors", open as f64),
    ]
}

fn gauges(status: &Status) -> Vec<(&'static str, &'static str, Option<f64>)> {
    #[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
    let float = |value: u64| value as f64;
    let index = |index: Option<quorate_raft::LogIndex>| index.map(|index| float(index.0));
    let leads = if status.role == Role::Leader { 1.0 } else { 0.0 };
    vec![
        ("quorate_raft_is_leader", "1 on the leader", Some(leads)),
        (
            "quorate_raft_has_leader",
            "1 when a leader is known",
            Some(if status.leader.is_some() { 1.0 } else { 0.0 }),
        ),
        ("quorate_raft_term", "Raft's term", Some(float(status.term.0))),
        ("quorate_raft_last_log_index", "Last entry in the log", index(status.last_log)),
        ("quorate_raft_applied_index", "Last applied entry", index(status.applied)),
        (
            "quorate_raft_snapshot_index",
            "Last entry of the newest snapshot",
            index(status.snapshot),
        ),
        (
            "quorate_raft_purged_index",
            "Last entry that is no longer in the log",
            index(status.purged),
        ),
        (
            "quorate_raft_group_commits",
            "Synced writes of the log",
            Some(float(status.group_commits)),
        ),
        (
            "quorate_raft_sync_p99_seconds",
            "99th percentile of the last synced writes",
            status.sync_p99.map(|took| took.as_secs_f64()),
        ),
        ("quorate_state_bytes", "Bytes of the replicated state", Some(float(status.state_bytes))),
        ("quorate_raft_log_bytes", "Bytes of the log", Some(float(status.log_bytes))),
        (
            "quorate_disk_free_bytes",
            "Free bytes on the log's disk",
            Some(float(status.disk_free_bytes)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read_behind_the_command() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 8 0 400 4096 3 184";
        let own = process(stat, 100, 4096, 1000.0, 9);
        let value = |name: &str| own.iter().find(|(known, ..)| *known == name).unwrap().2;
        assert!((value("process_start_time_seconds") - 1004.0).abs() < f64::EPSILON);
        assert!((value("process_resident_memory_bytes") - 12288.0).abs() < f64::EPSILON);
        assert!((value("process_open_fds") - 9.0).abs() < f64::EPSILON);
        assert!((cpu_seconds(stat, 100) - 2.0).abs() < f64::EPSILON);
    }
}
