//! `linux.namespaces`, and what belongs to a namespace: names and kernel parameters.

use std::path::{Component, Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::{PlanError, Result, Step};

/// The namespaces of a container: made, joined, or the caller's.
pub(super) struct Namespaces {
    pub(super) new: CloneFlags,
    pub(super) joins: Vec<(CloneFlags, PathBuf)>,
    pub(super) pid: Option<PathBuf>,
    pub(super) unshare_cgroup: bool,
}

impl Namespaces {
    pub(super) fn of(linux: &Linux) -> Result<Self> {
        let mut found = Self { new: CloneFlags::empty(), joins: Vec::new(), pid: None, unshare_cgroup: false };
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let field = format!("linux.namespaces[{index}]");
            let kind = match namespace.typ() {
                LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
                LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
                LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
                LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
                LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
                LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
                LinuxNamespaceType::User | LinuxNamespaceType::Time => {
                    return Err(PlanError::unsupported(format!("{field} (type {})", namespace.typ())));
                }
            };
            if found.owns(kind) {
                return Err(PlanError::new(field, format!("type {} is listed twice", namespace.typ())));
            }
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                Some(path) if !path.is_absolute() => {
                    return Err(PlanError::new(field, format!("path {} is not absolute", path.display())));
                }
                Some(_) if kind == CloneFlags::CLONE_NEWNS => {
                    return Err(PlanError::unsupported(format!("{field}.path (type mount)")));
                }
                Some(path) if kind == CloneFlags::CLONE_NEWPID => found.pid = Some(path.clone()),
                Some(path) => found.joins.push((kind, path.clone())),
                None if kind == CloneFlags::CLONE_NEWCGROUP => found.unshare_cgroup = true,
                None => found.new |= kind,
            }
        }
        if found.new.contains(CloneFlags::CLONE_NEWNS) {
            Ok(found)
        } else {
            Err(PlanError::new("linux.namespaces", "has no entry of type mount; a container needs its own mounts"))
        }
    }

    /// Whether the container has its own one of this kind, or joins one that it names.
    pub(super) fn owns(&self, kind: CloneFlags) -> bool {
        self.new.contains(kind)
            || self.joins.iter().any(|(joined, _)| *joined == kind)
            || kind == CloneFlags::CLONE_NEWPID && self.pid.is_some()
            || kind == CloneFlags::CLONE_NEWCGROUP && self.unshare_cgroup
    }
}

/// Host and domain name.
pub(super) fn names(spec: &Spec, namespaces: &Namespaces) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (field, value, step) in [
        ("hostname", spec.hostname(), Step::Hostname as fn(String) -> Step),
        ("domainname", spec.domainname(), Step::Domainname),
    ] {
        let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
        if !namespaces.owns(CloneFlags::CLONE_NEWUTS) {
            return Err(PlanError::new(
                field,
                "needs an entry of type uts in linux.namespaces: it would name the host",
            ));
        }
        steps.push(step(value.clone()));
    }
    Ok(steps)
}

/// Kernel parameters by the namespace they belong to (sysctl(5), namespaces(7)).
pub(super) fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<Step>> {
    const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let mut steps = Vec::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        let field = format!("linux.sysctl.{key}");
        // As sysctl(8) reads it: the separator that comes first decides, the other one is part of names.
        let path = match key.find(['.', '/']) {
            Some(at) if key.as_bytes()[at] == b'.' => swap_separators(key),
            _ => key.clone(),
        };
        let (kind, file) = match path.split_once('/') {
            Some(("net", _)) => (CloneFlags::CLONE_NEWNET, "net"),
            Some(("kernel", "hostname" | "domainname")) => (CloneFlags::CLONE_NEWUTS, "uts"),
            Some(("kernel", name)) if IPC.contains(&name) => (CloneFlags::CLONE_NEWIPC, "ipc"),
            Some(("fs", name)) if name.starts_with("mqueue/") => (CloneFlags::CLONE_NEWIPC, "ipc"),
            _ => {
                return Err(PlanError::new(
                    field,
                    "belongs to the whole host; accepted are net.*, fs.mqueue.*, the kernel.msg*, kernel.sem and \
                     kernel.shm* of an IPC namespace, kernel.hostname and kernel.domainname",
                ));
            }
        };
        if !is_plain(Path::new(&path)) {
            return Err(PlanError::new(field, "has . or .. as a component"));
        }
        let shared_namespace = (!namespaces.owns(kind)).then_some(file);
        steps.push(Step::Sysctl { path: path.into(), value: value.clone(), shared_namespace });
    }
    steps.sort_by(|a, b| match (a, b) {
        (Step::Sysctl { path: a, .. }, Step::Sysctl { path: b, .. }) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
    Ok(steps)
}

fn swap_separators(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

/// Relative, and each component a name.
pub(super) fn is_plain(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}
