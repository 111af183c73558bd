//! What a case has left behind once everything is removed. Nothing may be.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::agent::Places;
use crate::host::{cgroups_below, destroy, processes, processes_in, signal};

/// Asks until nothing is left or the time is over, and names what is left then.
pub fn wait(places: &Places, namespaces: &BTreeSet<PathBuf>, patience: Duration) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let left = find(places, namespaces);
        if left.is_empty() || begin.elapsed() > patience {
            return left;
        }
        sleep(Duration::from_millis(50));
    }
}

fn find(places: &Places, namespaces: &BTreeSet<PathBuf>) -> Vec<String> {
    let mut left = Vec::new();
    for cgroup in cgroups_below(&places.cgroup) {
        left.extend(processes_in(&cgroup).iter().map(|pid| format!("process {pid} in {}", cgroup.display())));
        if cgroup.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pod")) {
            left.push(format!("cgroup {}", cgroup.display()));
        }
    }
    let root = places.root.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    left.extend(mounts.lines().filter(|line| line.contains(&format!(" {root}/"))).map(|line| format!("mount {line}")));
    left.extend(sockets(&places.run()).iter().map(|socket| format!("socket {}", socket.display())));
    for pid in processes() {
        if let Some(command) = command_with(pid, &root) {
            left.push(format!("process {pid}: {command}"));
        }
        if let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/net"))
            && namespaces.contains(&namespace)
            && cgroup_of(pid) == cgroup_of_self()
        {
            left.push(format!("network namespace {} of process {pid}", namespace.display()));
        }
    }
    left
}

/// The path of a process in the cgroup v2 hierarchy.
///
/// The number of a network namespace is soon given to another one, which may be another case's. Its processes are in that
/// case's cgroups; one that has left its pod behind is where the agent was started.
fn cgroup_of(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn cgroup_of_self() -> Option<String> {
    cgroup_of(i32::try_from(std::process::id()).ok()?)
}

/// The command line of a process if it names a path of the case.
fn command_with(pid: i32, root: &str) -> Option<String> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    command.contains(&format!("{root}/")).then_some(command)
}

fn sockets(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(sockets(&entry.path())),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// Takes away by force what a case left behind, so that it does not disturb the others.
pub fn sweep(places: &Places) {
    destroy(&places.cgroup);
    let root = places.root.display().to_string();
    for pid in processes() {
        if command_with(pid, &root).is_some() {
            // It may have ended in between.
            drop(signal(pid, Signal::SIGKILL));
        }
    }
}
