//! `act spy`: a container that tries to reach its host through the processes that come into it (CVE-2016-9962): probes and hooks.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};

use crate::args::Args;
use crate::line::Events;

/// Half of the symlinks that the kernel follows in one lookup (path_resolution(7)): it counts on where it has to begin anew.
const LINKS: usize = 19;
/// Steps of each link, as many as fit into one: together some milliseconds, thirty under emulation.
const STEPS: usize = 800;
/// Time between two looks, in looks: many are taken while one slow name is looked up all the same.
const PAUSES: u32 = 2;
/// From any directory of a file system to its root.
const UP: &str = "../../../../../../../../../../../../../../../../../../../..";

/// `act spy slow=DIR`: makes `DIR/act` and `DIR/true`, names for programs that take the kernel its time to look up. `act spy for=S`: looks into
/// all others until S seconds are over, or SIGTERM comes; an event `saw` tells of each. Exit status 0: there were some, and nothing was to be had; 1: something was,
/// each time with an event `reached`; 2: nobody came.
pub(crate) fn spy(args: &Args) -> Result<u8, String> {
    if let Some(directory) = args.get("slow", 1) {
        return make_slow(Path::new(directory)).map(|()| 0).map_err(|error| format!("{directory}: {error}"));
    }
    let time = args.time("for", 1, Some(Duration::ZERO))?;
    let events = Events::own().map_err(|error| error.to_string())?;
    let told = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&told)).map_err(|error| error.to_string())?;
    let mut spy = Spy::new().map_err(|error| error.to_string())?;
    events.write("started", &[]);
    let begin = Instant::now();
    while !told.load(Ordering::Relaxed) && time.is_none_or(|time| begin.elapsed() < time) {
        let looked = Instant::now();
        spy.look(&events);
        // Several of these run side by side, and what they wait for has to come.
        sleep(looked.elapsed() * PAUSES);
    }
    events.write("bye", &[("saw", &spy.seen.len().to_string())]);
    Ok(if spy.reached.is_empty() { if spy.seen.is_empty() { 2 } else { 0 } } else { 1 })
}

fn make_slow(directory: &Path) -> io::Result<()> {
    fs::create_dir(directory.join("d"))?;
    for name in ["act", "true"] {
        symlink(format!("/bin/{name}"), directory.join(format!("{name}.0")))?;
        for link in 1..LINKS {
            let target = format!("{}{name}.{}", "d/../".repeat(STEPS), link - 1);
            symlink(target, directory.join(format!("{name}.{link}")))?;
        }
        fs::rename(directory.join(format!("{name}.{}", LINKS - 1)), directory.join(name))?;
    }
    Ok(())
}

/// Who looks, and what was found.
struct Spy {
    root: FileStat,
    /// The container's own, by number.
    mounts: HashSet<String>,
    own: String,
    bounding: u64,
    seen: HashSet<String>,
    reached: HashSet<(String, String)>,
}

impl Spy {
    fn new() -> io::Result<Self> {
        let root = stat("/")?;
        let bounding = capabilities("self", "CapBnd:").ok_or(io::ErrorKind::InvalidData)?;
        let own = std::process::id().to_string();
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let mounts = table.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
        Ok(Self { root, mounts, own, bounding, seen: HashSet::new(), reached: HashSet::new() })
    }

    fn look(&mut self, events: &Events) {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
                continue;
            };
            if pid == self.own || !is_of_this_pod(pid) {
                continue;
            }
            if self.seen.insert(pid.to_owned()) {
                events.write("saw", &[("pid", pid)]);
            }
            for what in self.look_into(pid) {
                if self.reached.insert((pid.to_owned(), what.clone())) {
                    events.write("reached", &[("pid", pid), ("what", &what)]);
                }
            }
        }
    }

    /// What of a process is the host's, or more than this container has.
    fn look_into(&self, pid: &str) -> Vec<String> {
        let mut found = Vec::new();
        for link in ["root", "cwd"] {
            let directory = open(format!("/proc/{pid}/{link}").as_str(), OFlag::O_PATH, Mode::empty());
            if directory.is_ok_and(|directory| self.leads_out(directory)) {
                found.push(link.to_owned());
            }
        }
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(fd) = open(&entry.path(), OFlag::O_PATH, Mode::empty()) else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            if self.is_foreign(&fd) || self.leads_out(fd) {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                found.push(format!("fd/{name} {}", target.display()));
            }
        }
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"));
        // Who held more after it could be written holds it still.
        if memory.is_ok() && capabilities(pid, "CapPrm:").is_some_and(|permitted| permitted & !self.bounding != 0) {
            found.push("capabilities".to_owned());
        }
        found
    }

    /// Whether this is a file, a namespace or a process that is in no mount of the container's.
    fn is_foreign(&self, fd: &OwnedFd) -> bool {
        fstat(fd).is_ok_and(|stat| kind(&stat) == SFlag::S_IFREG)
            && mount_of(fd).is_some_and(|mount| !self.mounts.contains(&mount))
    }

    /// Whether this is a directory from which another root than the container's is reached.
    fn leads_out(&self, directory: impl AsFd) -> bool {
        let top = openat(directory, UP, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty());
        let top: Option<File> = top.ok().map(File::from);
        top.and_then(|top| top.metadata().ok())
            .is_some_and(|top| (top.dev(), top.ino()) != (self.root.st_dev, self.root.st_ino))
    }
}

/// The number of the mount that a descriptor was opened in.
fn mount_of(fd: &OwnedFd) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    Some(text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned())
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Whether it is in this container's cgroup, or in the one of what makes containers. With the host's PID namespace there are others.
fn is_of_this_pod(pid: &str) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.is_some_and(|path| path.starts_with("/../_supervisor") || !path.starts_with("/.."))
}

fn capabilities(pid: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    u64::from_str_radix(value.trim(), 16).ok()
}
