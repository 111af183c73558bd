//! Figures of a cgroup, in the shape of `runc events`, which is cgroup v1's: go-runc and with it containerd read it.
//! What cgroup v2 does not count is 0.

use std::collections::BTreeMap;

use podwright_sys::cgroup::{Cgroup, CgroupError, Limit};
use serde::Serialize;

use crate::error::Result;

/// What runc writes for "no limit".
const UNLIMITED: u64 = u64::MAX;

const NANOS_PER_MICRO: u64 = 1000;

/// All figures.
#[derive(Debug, Serialize)]
pub(super) struct Stats {
    cpu: Cpu,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
    hugetlb: BTreeMap<String, Hugetlb>,
    /// Of interfaces that runc itself made, which nobody asks it to any more.
    network_interfaces: [(); 0],
}

#[derive(Debug, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

/// In nanoseconds.
#[derive(Debug, Serialize)]
struct CpuUsage {
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    /// In nanoseconds.
    throttled_time: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    cache: u64,
    usage: MemoryEntry,
    /// Memory and swap together.
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

/// In bytes.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct MemoryEntry {
    limit: u64,
    usage: u64,
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct Pids {
    current: u64,
    /// 0: none.
    limit: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio {
    io_service_bytes_recursive: Vec<BlkioEntry>,
    io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct BlkioEntry {
    major: u64,
    minor: u64,
    op: &'static str,
    value: u64,
}

#[derive(Debug, Serialize)]
struct Hugetlb {
    usage: u64,
    failcnt: u64,
}

/// Pressure stall information.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Psi {
    some: Pressure,
    full: Pressure,
}

/// Shares of time in percent, and the total in microseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
struct Pressure {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

/// Reads all that the cgroup has; without a controller its figures are 0.
///
/// # Errors
/// read(2)'s, but not that a file is missing.
pub(super) fn read(cgroup: &Cgroup) -> Result<Stats> {
    Ok(Stats {
        cpu: cpu(cgroup)?,
        memory: memory(cgroup)?,
        pids: pids(cgroup)?,
        blkio: blkio(cgroup)?,
        hugetlb: hugetlb(cgroup)?,
        network_interfaces: [],
    })
}

/// The content of a file; empty where there is none.
fn text(cgroup: &Cgroup, file: &str) -> Result<String> {
    match cgroup.read(file) {
        Err(CgroupError::Io { source, .. })
            if matches!(source.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENODEV | nix::libc::EOPNOTSUPP)) =>
        {
            Ok(String::new())
        }
        other => Ok(other?),
    }
}

fn number(cgroup: &Cgroup, file: &str) -> Result<u64> {
    Ok(match Limit::parse(&text(cgroup, file)?) {
        Some(Limit::Value(value)) => value,
        Some(Limit::Max) => UNLIMITED,
        None => 0,
    })
}

/// The pairs of a "flat keyed" file.
fn flat(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn cpu(cgroup: &Cgroup) -> Result<Cpu> {
    let stat = flat(&text(cgroup, "cpu.stat")?);
    let count = |key: &str| stat.get(key).copied().unwrap_or(0);
    let nanos = |key: &str| count(key).saturating_mul(NANOS_PER_MICRO);
    Ok(Cpu {
        usage: CpuUsage { total: nanos("usage_usec"), kernel: nanos("system_usec"), user: nanos("user_usec") },
        throttling: Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: nanos("throttled_usec"),
        },
        psi: psi(&text(cgroup, "cpu.pressure")?),
    })
}

fn memory(cgroup: &Cgroup) -> Result<Memory> {
    let raw = flat(&text(cgroup, "memory.stat")?);
    let events = flat(&text(cgroup, "memory.events")?);
    let of = |map: &BTreeMap<String, u64>, key: &str| map.get(key).copied().unwrap_or(0);
    let usage = MemoryEntry {
        limit: number(cgroup, "memory.max")?,
        usage: number(cgroup, "memory.current")?,
        max: number(cgroup, "memory.peak")?,
        failcnt: of(&events, "max"),
    };
    let swap = MemoryEntry {
        limit: number(cgroup, "memory.swap.max")?.saturating_add(usage.limit),
        usage: number(cgroup, "memory.swap.current")?.saturating_add(usage.usage),
        ..MemoryEntry::default()
    };
    Ok(Memory {
        cache: of(&raw, "file"),
        usage,
        swap,
        kernel: MemoryEntry { usage: of(&raw, "kernel"), ..MemoryEntry::default() },
        kernel_tcp: MemoryEntry { usage: of(&raw, "sock"), ..MemoryEntry::default() },
        raw,
        psi: psi(&text(cgroup, "memory.pressure")?),
    })
}

fn pids(cgroup: &Cgroup) -> Result<Pids> {
    let current = text(cgroup, "pids.current")?;
    let Some(Limit::Value(current)) = Limit::parse(&current) else {
        // Without the controller they can be counted.
        return Ok(Pids { current: cgroup.all_procs()?.len() as u64, limit: 0 });
    };
    let limit = number(cgroup, "pids.max")?;
    Ok(Pids { current, limit: if limit == UNLIMITED { 0 } else { limit } })
}

fn blkio(cgroup: &Cgroup) -> Result<Blkio> {
    let stat = text(cgroup, "io.stat")?;
    Ok(Blkio {
        io_service_bytes_recursive: entries(&stat, [("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")]),
        io_serviced_recursive: entries(&stat, [("rios", "Read"), ("wios", "Write"), ("dios", "Discard")]),
        psi: psi(&text(cgroup, "io.pressure")?),
    })
}

/// The counters of all devices that go by these keys in `io.stat`.
fn entries(stat: &str, keys: [(&str, &'static str); 3]) -> Vec<BlkioEntry> {
    let mut found = Vec::new();
    for line in stat.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Some((_, op)) = keys.iter().find(|(known, _)| *known == key) else { continue };
            let Ok(value) = value.parse() else { continue };
            found.push(BlkioEntry { major, minor, op, value });
        }
    }
    found
}

fn hugetlb(cgroup: &Cgroup) -> Result<BTreeMap<String, Hugetlb>> {
    let mut found = BTreeMap::new();
    for file in cgroup.files()? {
        // hugetlb.2MB.current; hugetlb.2MB.rsvd.current counts what is only reserved.
        let Some(size) = file.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".current")) else { continue };
        if size.contains('.') {
            continue;
        }
        let reserved = text(cgroup, &format!("hugetlb.{size}.rsvd.current"))?;
        let usage = match Limit::parse(&reserved) {
            Some(Limit::Value(value)) => value,
            _ => number(cgroup, &file)?,
        };
        let events = flat(&text(cgroup, &format!("hugetlb.{size}.events"))?);
        found.insert(size.to_owned(), Hugetlb { usage, failcnt: events.get("max").copied().unwrap_or(0) });
    }
    Ok(found)
}

/// `None` for an empty text: the kernel does not measure pressure.
fn psi(text: &str) -> Option<Psi> {
    let mut psi = None;
    for line in text.lines() {
        let (kind, values) = line.split_once(' ')?;
        let mut pressure = Pressure::default();
        for (key, value) in values.split(' ').filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => pressure.avg10 = value.parse().ok()?,
                "avg60" => pressure.avg60 = value.parse().ok()?,
                "avg300" => pressure.avg300 = value.parse().ok()?,
                "total" => pressure.total = value.parse().ok()?,
                _ => {}
            }
        }
        let psi = psi.get_or_insert_with(Psi::default);
        match kind {
            "some" => psi.some = pressure,
            "full" => psi.full = pressure,
            _ => {}
        }
    }
    psi
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_counters_are_read_by_device() {
        let stat = "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n254:1 rbytes=5 cost.usage=7\nbroken\n";
        let entry = |major, minor, op, value| BlkioEntry { major, minor, op, value };
        let bytes = entries(stat, [("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")]);
        let expected =
            [entry(8, 0, "Read", 10), entry(8, 0, "Write", 20), entry(8, 0, "Discard", 0), entry(254, 1, "Read", 5)];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn pressure_is_read() {
        let found =
            psi("some avg10=1.50 avg60=0.00 avg300=0.25 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n");
        let found = found.unwrap();
        assert_eq!((found.some.avg10, found.some.avg300, found.some.total, found.full.total), (1.5, 0.25, 42, 7));
        assert_eq!(psi(""), None);
    }
}
