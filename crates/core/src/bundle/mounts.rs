//! What is mounted in a container.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::{ConfigError, Context};
use crate::pod::spec::Container;

/// Hidden from containers that are not privileged, as by containerd.
pub(super) const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
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

/// Not writable in containers that are not privileged, as by containerd.
pub(super) const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// File systems of the kernel, then the bundle's own mounts, the pod's files, the volumes; a later one takes the place of
/// an earlier one at the same path, and a path comes before what is below it.
pub(super) fn all(container: &Container, context: &Context) -> Result<Vec<Mount>, ConfigError> {
    let mut mounts = Vec::new();
    let bundled = context.bundle.mounts().clone().unwrap_or_default();
    for mount in kernel(container, context) {
        place(&mut mounts, mount);
    }
    for mount in bundled {
        // The kernel's file systems are given by the pod, not by the bundle.
        if !mounts.iter().any(|m: &Mount| same(m.destination(), mount.destination())) {
            mounts.push(mount);
        }
    }
    for mount in files(container, context) {
        place(&mut mounts, mount);
    }
    for mount in volumes(container, context)? {
        place(&mut mounts, mount);
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

fn place(mounts: &mut Vec<Mount>, mount: Mount) {
    mounts.retain(|m| !same(m.destination(), mount.destination()));
    mounts.push(mount);
}

/// Compared by components, so that a slash at the end does not count.
fn same(a: &Path, b: &Path) -> bool {
    a == b
}

fn kernel(container: &Container, context: &Context) -> Vec<Mount> {
    let access = if container.security.privileged { "rw" } else { "ro" };
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
    mounts.push(match &context.shm {
        Some(shm) => bind(Path::new("/dev/shm"), shm, &["rbind", "rw", "nosuid", "noexec", "nodev"]),
        None => mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    });
    mounts
}

fn files(container: &Container, context: &Context) -> Vec<Mount> {
    let access = if container.security.read_only_root { "ro" } else { "rw" };
    let bind_file = |(target, source): (&str, &Option<PathBuf>)| {
        source.as_ref().map(|source| bind(Path::new(target), source, &["rbind", "rprivate", access]))
    };
    let message = context
        .message
        .as_ref()
        .map(|source| bind(Path::new(&container.message_path), source, &["rbind", "rprivate", "rw"]));
    [
        ("/etc/hosts", &context.hosts),
        ("/etc/hostname", &context.hostname_file),
        ("/etc/resolv.conf", &context.resolv_conf),
    ]
    .into_iter()
    .filter_map(bind_file)
    .chain(message)
    .collect()
}

fn volumes(container: &Container, context: &Context) -> Result<Vec<Mount>, ConfigError> {
    let made = container.mounts.iter().enumerate().map(|(index, volume)| {
        let source = match volume.sub_path {
            Some(_) => context.sub_paths.get(&index),
            None => context.volumes.get(&volume.name),
        };
        let Some(source) = source else {
            let name = container.name.clone();
            return Err(ConfigError::NoVolume { name, volume: volume.name.clone() });
        };
        let access = if volume.read_only { "ro" } else { "rw" };
        Ok(bind(Path::new(&volume.path), source, &["rbind", "rprivate", access]))
    });
    made.collect()
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

fn bind(target: &Path, source: &Path, options: &[&str]) -> Mount {
    let mut mount = mount("", "bind", "", options);
    mount.set_destination(target.to_owned()).set_source(Some(source.to_owned()));
    mount
}
