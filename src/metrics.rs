//! Metrics of the whole process: Raft's numbers and the kernel's about the process, read when somebody asks. What each
//! one means is in `docs/metrics.md`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use quorate_pki::{Phase, authority};
use quorate_raft::{DiskUse, LogIndex, MemberStatus, Role, Status};
use quorate_store::{Alarm, Masters};

use crate::certs::{self, Certs};

/// A voter that has not answered the leader for so long does not count as one that is there.
const CONTACT_MAX: Duration = Duration::from_secs(5);

/// Shows what is a fact of this moment: Raft's state, the members, alarms, sizes.
#[derive(Debug)]
pub struct RaftCollector(pub Masters);

impl Collector for RaftCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.0.status();
        for fact in facts(&status, self.0.disk_use(), &self.0.alarms()) {
            fact.encode(&mut encoder)?;
        }
        let vips = self.0.vips();
        let help = "Virtual addresses that this master holds";
        let held = Some(count(vips.held.len()));
        Fact::gauge("quorate_vip_held", help, held).encode(&mut encoder)?;
        let help = "Times that this master has taken a virtual address";
        Fact::counter("quorate_vip_taken", help, Some(float(vips.taken))).encode(&mut encoder)
    }
}

/// Everything that a master's `/metrics` shows beside what the API server and the roles of the leader count.
pub fn register(registry: &mut Registry, masters: &Masters, certs: &Arc<Certs>) {
    masters.meters().register(registry);
    registry.register_collector(Box::new(RaftCollector(masters.clone())));
    registry.register_collector(Box::new(ProcessCollector));
    registry.register_collector(Box::new(CertificateCollector(certs.clone())));
    let build = Family::<Build, Gauge>::default();
    build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("quorate_build_info", "1, with the version of this master", build);
}

/// When the certificates of this moment end, and how far a change of the authorities is.
#[derive(Debug)]
struct CertificateCollector(Arc<Certs>);

impl Collector for CertificateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let ends = certs::serve::all(&self.0).into_iter().filter_map(|(name, pem)| {
            // Seconds since 1970 are exact in a double for millions of years.
            #[allow(clippy::cast_precision_loss, reason = "see above")]
            authority::ends_at(&pem).map(|at| (name, at as f64))
        });
        let help = "When a certificate of this master ends, seconds since 1970";
        let name = "quorate_certificate_expiration_timestamp_seconds";
        Fact::by("certificate", name, help, ends.collect()).encode(&mut encoder)?;
        let phase = match self.0.now().ring.phase() {
            Phase::Done => 0.0,
            Phase::Trust => 1.0,
            Phase::Sign => 2.0,
        };
        let help = "0, or how far a change of the authorities is on this master: 1 the new ones are believed, 2 they sign";
        Fact::gauge("quorate_authorities_change_phase", help, Some(phase)).encode(&mut encoder)
    }
}

/// Label `version`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// One metric, read at this moment: its series, each with the value of its label.
struct Fact {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    label: &'static str,
    series: Vec<(String, f64)>,
}

impl Fact {
    fn gauge(name: &'static str, help: &'static str, value: Option<f64>) -> Self {
        let series = value.into_iter().map(|value| (String::new(), value)).collect();
        Self { name, help, kind: MetricType::Gauge, label: "", series }
    }

    /// Its name ends in `_total` where it is shown.
    fn counter(name: &'static str, help: &'static str, value: Option<f64>) -> Self {
        Self { kind: MetricType::Counter, ..Self::gauge(name, help, value) }
    }

    fn by(
        label: &'static str,
        name: &'static str,
        help: &'static str,
        series: Vec<(String, f64)>,
    ) -> Self {
        Self { name, help, kind: MetricType::Gauge, label, series }
    }

    /// What has no value has no line.
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if self.series.is_empty() {
            return Ok(());
        }
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, self.kind)?;
        for (of, value) in &self.series {
            if self.label.is_empty() {
                return self.encode_one(*value, metric);
            }
            self.encode_one(*value, metric.encode_family(&[(self.label, of.as_str())])?)?;
        }
        Ok(())
    }

    fn encode_one(&self, value: f64, one: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        if matches!(self.kind, MetricType::Counter) {
            ConstCounter::new(value).encode(one)
        } else {
            ConstGauge::new(value).encode(one)
        }
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
        if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            let help = "Maximum number of open file descriptors";
            Fact::gauge("process_max_fds", help, Some(float(most))).encode(&mut encoder)?;
        }
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
        ("process_threads", "Number of threads", field(stat, 20)),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

fn count(value: usize) -> f64 {
    float(value as u64)
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

fn index(index: Option<LogIndex>) -> Option<f64> {
    index.map(|index| float(index.0))
}

fn facts(status: &Status, disk: DiskUse, alarms: &BTreeSet<Alarm>) -> Vec<Fact> {
    let mut all = of_raft(status);
    all.extend(of_members(status));
    all.extend(of_sizes(status, disk));
    let series = Alarm::ALL.into_iter();
    let series = series.map(|alarm| (alarm.name().to_owned(), flag(alarms.contains(&alarm))));
    all.push(Fact::by(
        "alarm",
        "quorate_alarm",
        "1 while this master has the alarm",
        series.collect(),
    ));
    all
}

fn of_raft(status: &Status) -> Vec<Fact> {
    let gauge = Fact::gauge;
    let leads = status.leader == Some(status.id);
    let acked = status.quorum_ack_ms.map(|ms| float(ms) / 1000.0);
    vec![
        gauge(
            "quorate_raft_is_leader",
            "1 on the leader, while a quorum answers it",
            Some(flag(leads)),
        ),
        gauge(
            "quorate_raft_has_leader",
            "1 when a leader is known",
            Some(flag(status.leader.is_some())),
        ),
        gauge("quorate_raft_term", "Raft's term", Some(float(status.term.0))),
        gauge("quorate_raft_last_log_index", "Last entry in the log", index(status.last_log)),
        gauge(
            "quorate_raft_committed_index",
            "Last entry that is known here to be committed",
            index(status.committed),
        ),
        gauge("quorate_raft_applied_index", "Last applied entry", index(status.applied)),
        Fact::counter(
            "quorate_raft_proposals_committed",
            "Entries that are known here to be committed, in the life of the cluster",
            Some(index(status.committed).unwrap_or_default()),
        ),
        Fact::counter(
            "quorate_raft_proposals_applied",
            "Entries that this master has applied, in the life of the cluster",
            Some(index(status.applied).unwrap_or_default()),
        ),
        gauge(
            "quorate_raft_proposals_pending",
            "Proposals on this master that wait for their outcome",
            Some(count(status.proposals_pending)),
        ),
        gauge(
            "quorate_raft_snapshot_index",
            "Last entry of the newest snapshot",
            index(status.snapshot),
        ),
        gauge(
            "quorate_raft_purged_index",
            "Last entry that is no longer in the log",
            index(status.purged),
        ),
        gauge(
            "quorate_raft_quorum_ack_age_seconds",
            "On the leader: time since a quorum has answered it",
            acked,
        ),
        gauge(
            "quorate_raft_group_commits",
            "Synced writes of the log",
            Some(float(status.group_commits)),
        ),
        gauge(
            "quorate_raft_sync_p99_seconds",
            "99th percentile of the last synced writes",
            status.sync_p99.map(|took| took.as_secs_f64()),
        ),
    ]
}

/// Of how the others are knows the leader alone.
fn of_members(status: &Status) -> Vec<Fact> {
    let leads = status.role == Role::Leader;
    let voters = || status.members.iter().filter(|member| member.voter);
    let others = || status.members.iter().filter(|member| leads && member.id != status.id);
    let there = voters().filter(|member| {
        member.id == status.id || member.last_contact.is_some_and(|ago| ago < CONTACT_MAX)
    });
    let name = |member: &MemberStatus| member.member.name.clone();
    vec![
        Fact::gauge("quorate_raft_voters", "Masters that vote", Some(count(voters().count()))),
        Fact::gauge(
            "quorate_raft_learners",
            "Masters that do not vote yet",
            Some(count(status.members.len() - voters().count())),
        ),
        Fact::gauge(
            "quorate_raft_membership_joint",
            "1 while a change of the membership is half done",
            Some(flag(status.joint)),
        ),
        Fact::gauge(
            "quorate_raft_voters_in_contact",
            "On the leader: voters that have answered it in the last five seconds, itself included",
            leads.then(|| count(there.count())),
        ),
        Fact::by(
            "peer",
            "quorate_raft_peer_trailing_entries",
            "On the leader: entries that another master is not known to have",
            others().filter_map(|member| Some((name(member), float(member.lag?)))).collect(),
        ),
        Fact::by(
            "peer",
            "quorate_raft_peer_last_contact_seconds",
            "On the leader: time since another master has answered",
            others()
                .filter_map(|member| Some((name(member), member.last_contact?.as_secs_f64())))
                .collect(),
        ),
    ]
}

fn of_sizes(status: &Status, disk: DiskUse) -> Vec<Fact> {
    let bytes = |name, help, value| Fact::gauge(name, help, Some(float(value)));
    vec![
        bytes("quorate_state_bytes", "Bytes of the replicated state", status.state_bytes),
        bytes("quorate_raft_log_bytes", "Bytes of the log", status.log_bytes),
        bytes("quorate_raft_log_disk_bytes", "Bytes of the log's files", disk.log_bytes),
        Fact::gauge(
            "quorate_raft_snapshot_bytes",
            "Bytes of the newest snapshot",
            status.snapshot_bytes.map(float),
        ),
        bytes("quorate_raft_snapshot_disk_bytes", "Bytes of all snapshots", disk.snapshot_bytes),
        bytes("quorate_disk_free_bytes", "Free bytes on the log's disk", status.disk_free_bytes),
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
