//! `linux.namespaces`, and what belongs to a namespace: names and kernel parameters.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Spec};
use podwright_sys::timens::CLONE_NEWTIME;

use super::{PlanError, Result, Step};

/// The namespaces of a container: made, joined, or the caller's.
pub(super) struct Namespaces {
    /// Made by clone3(2).
    pub(super) new: CloneFlags,
    /// Entered by path, in the configuration's order; a user namespace is the last one, since who has entered it may enter only
    /// what belongs to it.
    pub(super) joins: Vec<(CloneFlags, PathBuf)>,
    /// A PID namespace to enter.
    pub(super) pid: Option<PathBuf>,
    /// A new cgroup namespace: made once the process is in its cgroup.
    pub(super) unshare_cgroup: bool,
    /// A new time namespace: made by its first process, which sets its clocks.
    pub(super) unshare_time: bool,
    /// Whether there is an own user namespace, new or joined.
    pub(super) user: bool,
}

/// Whose mount namespace a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mounts {
    /// Its own.
    Own,
    /// One that it joins.
    Joined,
    /// The runtime's.
    Inherited,
}

impl Namespaces {
    pub(super) fn of(linux: &Linux) -> Result<Self> {
        let mut found = Self {
            new: CloneFlags::empty(),
            joins: Vec::new(),
            pid: None,
            unshare_cgroup: false,
            unshare_time: false,
            user: false,
        };
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            found.add(namespace, &format!("linux.namespaces[{index}]"))?;
        }
        // The paths of others are looked up before the mounts change; with a user namespace, what it does not own is out of reach.
        found.joins.sort_by_key(|(kind, _)| match *kind {
            CloneFlags::CLONE_NEWUSER => 2,
            CloneFlags::CLONE_NEWNS => 1,
            _ => 0,
        });
        if found.user && !found.owns(CloneFlags::CLONE_NEWNS) {
            let problem =
                "has an entry of type user and none of type mount; mounts cannot be made in the host's from there";
            return Err(PlanError::new("linux.namespaces", problem));
        }
        Ok(found)
    }

    /// Whose the mounts are.
    pub(super) fn mounts(&self) -> Mounts {
        match (self.new.contains(CloneFlags::CLONE_NEWNS), self.owns(CloneFlags::CLONE_NEWNS)) {
            (true, _) => Mounts::Own,
            (false, true) => Mounts::Joined,
            (false, false) => Mounts::Inherited,
        }
    }

    fn add(&mut self, namespace: &LinuxNamespace, field: &str) -> Result<()> {
        let kind = match namespace.typ() {
            LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
            LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
            LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
            LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
            LinuxNamespaceType::Time => CLONE_NEWTIME,
        };
        if self.owns(kind) {
            return Err(PlanError::new(field, format!("type {} is listed twice", namespace.typ())));
        }
        self.user |= kind == CloneFlags::CLONE_NEWUSER;
        match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            Some(path) if !path.is_absolute() => {
                return Err(PlanError::new(field, format!("path {} is not absolute", path.display())));
            }
            Some(path) if kind == CloneFlags::CLONE_NEWPID => self.pid = Some(path.clone()),
            Some(path) => self.joins.push((kind, path.clone())),
            None if kind == CloneFlags::CLONE_NEWCGROUP => self.unshare_cgroup = true,
            None if kind == CLONE_NEWTIME => self.unshare_time = true,
            None => self.new |= kind,
        }
        Ok(())
    }

    /// What a process in between has to enter before it makes the container's first process: with a user namespace all that
    /// is joined, since the first process, which is in the user namespace from the beginning, could not.
    pub(super) fn on_the_way(&self) -> Vec<(CloneFlags, PathBuf)> {
        if !self.user || self.joins.is_empty() && self.pid.is_none() {
            return Vec::new();
        }
        let pid = self.pid.iter().map(|path| (CloneFlags::CLONE_NEWPID, path.clone()));
        pid.chain(self.joins.iter().cloned()).collect()
    }

    /// Whether the container has its own one of this kind, or joins one that it names.
    pub(super) fn owns(&self, kind: CloneFlags) -> bool {
        self.new.contains(kind)
            || self.joins.iter().any(|(joined, _)| *joined == kind)
            || kind == CloneFlags::CLONE_NEWPID && self.pid.is_some()
            || kind == CloneFlags::CLONE_NEWCGROUP && self.unshare_cgroup
            || kind == CLONE_NEWTIME && self.unshare_time
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

/// Clocks of a new time namespace, as lines of `/proc/self/timens_offsets` (time_namespaces(7)).
pub(super) fn time_offsets(linux: &Linux, namespaces: &Namespaces) -> Result<Option<Step>> {
    let offsets = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty());
    if offsets.is_some() && !namespaces.unshare_time {
        let problem = "needs an entry of type time without a path in linux.namespaces: clocks of others cannot be set";
        return Err(PlanError::new("linux.timeOffsets", problem));
    }
    if !namespaces.unshare_time {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for (clock, offset) in offsets.into_iter().flatten().collect::<BTreeMap<_, _>>() {
        let field = format!("linux.timeOffsets.{clock}");
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(PlanError::new(field, "is no clock of a time namespace; accepted are monotonic and boottime"));
        }
        let nanosecs = offset.nanosecs().unwrap_or(0);
        if nanosecs >= 1_000_000_000 {
            return Err(PlanError::new(format!("{field}.nanosecs"), format!("{nanosecs} found, below 10^9 accepted")));
        }
        lines.push(format!("{clock} {} {nanosecs}\n", offset.secs().unwrap_or(0)));
    }
    lines.sort();
    Ok(Some(Step::UnshareTime { offsets: lines.concat() }))
}

/// Kernel parameters by the namespace they belong to (sysctl(5), namespaces(7)).
pub(super) fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<Step>> {
    const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let mut steps = Vec::new();
    // In order, so that of several mistakes the same one is told every time.
    for (key, value) in linux.sysctl().iter().flatten().collect::<BTreeMap<_, _>>() {
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
