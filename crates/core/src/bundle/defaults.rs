//! What a container gets when neither its pod nor its bundle says anything: all of it is decided here, and nothing is left to what the
//! agent happens to have. docs/security.md compares it with containerd.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, Mount, PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use super::node::{LIMIT_COUNT, NodeFacts};

/// The bounding set; of it, root has all, and other users have nothing.
pub(super) const CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Hidden from containers that are not privileged; what a kernel does not have is passed over.
pub(super) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Not writable in containers that are not privileged.
pub(super) const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The file mode creation mask.
pub(super) const UMASK: u32 = 0o022;

/// Where programs are looked for.
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether programs are kept from gaining privileges by execve(2).
pub(super) const NO_NEW_PRIVILEGES: bool = false;

/// Size of the `/dev/shm` that a pod's containers share, bytes.
pub const SHM_BYTES: u64 = 64 << 20;

const UNLIMITED: u64 = u64::MAX;

/// Resource limits in the order of their numbers (getrlimit(2)), soft and hard: those of services under systemd, and of the kernel
/// for what systemd leaves alone. [`SIGNALS`] stands for a number that depends on the node's memory.
const LIMITS: [(PosixRlimitType, u64, u64); LIMIT_COUNT] = [
    (PosixRlimitType::RlimitCpu, UNLIMITED, UNLIMITED),
    (PosixRlimitType::RlimitFsize, UNLIMITED, UNLIMITED),
    (PosixRlimitType::RlimitData, UNLIMITED, UNLIMITED),
    (PosixRlimitType::RlimitStack, 8 << 20, UNLIMITED),
    // A crash writes nothing unless the container has asked for it.
    (PosixRlimitType::RlimitCore, 0, UNLIMITED),
    (PosixRlimitType::RlimitRss, UNLIMITED, UNLIMITED),
    // Counted by user, over all containers and the node's own processes: the pod's `pids.max` is what bounds it.
    (PosixRlimitType::RlimitNproc, UNLIMITED, UNLIMITED),
    // 1024 is what programs with select(2) can do; those that need more raise it, up to the second number.
    (PosixRlimitType::RlimitNofile, 1024, 512 << 10),
    (PosixRlimitType::RlimitMemlock, 8 << 20, 8 << 20),
    (PosixRlimitType::RlimitAs, UNLIMITED, UNLIMITED),
    (PosixRlimitType::RlimitLocks, UNLIMITED, UNLIMITED),
    (PosixRlimitType::RlimitSigpending, SIGNALS, SIGNALS),
    (PosixRlimitType::RlimitMsgqueue, 800 << 10, 800 << 10),
    (PosixRlimitType::RlimitNice, 0, 0),
    (PosixRlimitType::RlimitRtprio, 0, 0),
    (PosixRlimitType::RlimitRttime, UNLIMITED, UNLIMITED),
];
const SIGNALS: u64 = u64::MAX - 1;

/// A container's limits: the bundle's own, and for the other kinds the defaults, as far as the node can give them.
pub(super) fn limits(bundle: &[PosixRlimit], node: &NodeFacts) -> Vec<PosixRlimit> {
    let mut limits = bundle.to_vec();
    for (number, (kind, soft, hard)) in LIMITS.into_iter().enumerate() {
        if bundle.iter().any(|limit| limit.typ() == kind) {
            continue;
        }
        let most = match kind {
            PosixRlimitType::RlimitNofile => node.limits.open_files,
            PosixRlimitType::RlimitSigpending => node.limits.pending_signals,
            _ => UNLIMITED,
        };
        let ceiling = node.limits.ceilings.and_then(|all| all.get(number).copied()).unwrap_or(UNLIMITED);
        let hard = hard.min(most).min(ceiling);
        // All of its fields are given, so it can be built.
        limits.extend(PosixRlimitBuilder::default().typ(kind).soft(soft.min(hard)).hard(hard).build());
    }
    limits
}

/// The kernel's file systems. `shm` is the pod's `/dev/shm`; without one the container has its own.
pub(super) fn mounts(privileged: bool, shm: Option<&Path>) -> Vec<Mount> {
    let access = if privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ];
    mounts.push(match shm {
        Some(shm) => bind(Path::new("/dev/shm"), shm, &["rbind", "rw", "nosuid", "noexec", "nodev"]),
        None => mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    });
    mounts
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(target))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options.iter().map(|&o| o.to_owned()).collect()));
    mount
}

pub(super) fn bind(target: &Path, source: &Path, options: &[&str]) -> Mount {
    let mut mount = mount("", "bind", "", options);
    mount.set_destination(target.to_owned()).set_source(Some(source.to_owned()));
    mount
}
