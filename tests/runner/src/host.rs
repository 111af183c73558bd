//! What the host is like: its clock, its cgroup v2 hierarchy, its processes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// `CLOCK_BOOTTIME` in nanoseconds.
pub fn boot_ns() -> i64 {
    now(ClockId::CLOCK_BOOTTIME)
}

/// Wall clock minus boot clock, in nanoseconds.
pub fn wall_minus_boot_ns() -> i64 {
    now(ClockId::CLOCK_REALTIME) - boot_ns()
}

fn now(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}

/// The cgroup v2 hierarchy of this host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where it is mounted.
    pub cgroup2: PathBuf,
    /// The controllers that it has.
    pub controllers: BTreeSet<String>,
}

/// The controllers that limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

impl Host {
    /// Looks for the hierarchy.
    pub fn probe() -> Result<Host, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
        let cgroup2 = mounts.lines().find_map(cgroup2_mount).ok_or("no cgroup v2 hierarchy is mounted")?;
        let file = cgroup2.join("cgroup.controllers");
        let controllers = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(Host { cgroup2, controllers: controllers.split_whitespace().map(str::to_owned).collect() })
    }

    /// Whether the hierarchy has what limits need.
    pub fn has_controllers(&self) -> bool {
        CONTROLLERS.iter().all(|c| self.controllers.contains(*c))
    }

    /// Whether the host has what a case `needs`. Networks with addresses and image registries are not there yet.
    pub fn has(&self, need: &str) -> bool {
        match need {
            "cgroup" | "oom" => self.has_controllers(),
            "api" => true,
            _ => false,
        }
    }

    /// Makes a cgroup for many agents, with the controllers for each of them.
    pub fn make_parent(&self, name: &str) -> io::Result<PathBuf> {
        let parent = self.cgroup2.join(name);
        fs::create_dir_all(&parent)?;
        if self.has_controllers() {
            for dir in [&self.cgroup2, &parent] {
                fs::write(dir.join("cgroup.subtree_control"), "+cpu +memory +pids")?;
            }
        }
        Ok(parent)
    }
}

/// The mount point of a line of mountinfo (proc(5)) if it is a cgroup v2 hierarchy.
fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (mount, source) = line.split_once(" - ")?;
    (source.split(' ').next() == Some("cgroup2")).then_some(())?;
    mount.split(' ').nth(4).map(PathBuf::from)
}

/// The directories below a cgroup, itself included, children before parents.
pub fn cgroups_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(entries) = fs::read_dir(root) {
        let children = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
        found = children.flat_map(|child| cgroups_below(&child.path())).collect();
        found.push(root.to_owned());
    }
    found
}

/// The processes in one cgroup.
pub fn processes_in(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills everything below a cgroup and removes it, as far as that is possible.
pub fn destroy(root: &Path) {
    // Either may fail because the cgroup is gone, which is what is wanted.
    drop(fs::write(root.join("cgroup.kill"), "1"));
    for _ in 0..100 {
        for cgroup in cgroups_below(root) {
            drop(fs::remove_dir(cgroup));
        }
        if !root.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Start time of a process in clock ticks since boot (proc(5), stat field 22).
pub fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Sends a signal to one process.
pub fn signal(pid: i32, signal: Signal) -> Result<(), String> {
    kill(Pid::from_raw(pid), signal).map_err(|e| format!("process {pid}: {e}"))
}

/// Every process of the host.
pub fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_on_a_hybrid_host() {
        let v1 = "33 24 0:29 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu";
        let v2 = "42 24 0:30 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(v1), None);
        assert_eq!(cgroup2_mount(v2), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn knows_a_process_by_its_start() {
        let me = i32::try_from(std::process::id()).expect("a pid");
        assert!(start_ticks(me).is_some_and(|ticks| ticks > 0) && processes().contains(&me));
        assert_eq!(start_ticks(-1), None);
    }
}
