//! The steps into namespaces, and those that set what belongs to one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use podwright_sys::{process as sys_process, timens};

use super::{Progress, Result, StepError, errno_of, kernel, mounts};
use crate::plan::Step;

pub(super) fn apply(progress: &Progress<'_>, step: &Step) -> Result<()> {
    match step {
        Step::Join { kind, path } => join(*kind, path),
        Step::EnterRoot => match progress.init.target_root {
            Some(root) => mounts::chroot_to(root).map_err(kernel("enter the container's root")),
            None => Err(StepError::Misplaced),
        },
        Step::UnshareTime { offsets } => timens::enter_new(offsets)
            .map_err(|err| kernel("linux.timeOffsets: make a time namespace and set its clocks")(errno_of(&err))),
        Step::UnshareCgroup => unshare(CloneFlags::CLONE_NEWCGROUP).map_err(kernel("make a cgroup namespace")),
        Step::Hostname(name) => nix::unistd::sethostname(name).map_err(kernel("hostname")),
        Step::Domainname(name) => sys_process::set_domainname(name).map_err(kernel("domainname")),
        Step::Sysctl { path, value, shared_namespace } => sysctl(path, value, *shared_namespace),
        _ => Err(StepError::Misplaced),
    }
}

fn join(kind: CloneFlags, path: &Path) -> Result<()> {
    let what = || format!("linux.namespaces: enter {}", path.display());
    let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(kernel(what()))?;
    setns(file, kind).map_err(kernel(what()))
}

/// Writes a file of the host's procfs, named without its `/proc`.
fn write_proc(path: &Path, value: &str, field: &str) -> Result<()> {
    let what = || format!("{field}write {value:?} to /proc/{}", path.display());
    let file = super::host_proc()?.file(path, OFlag::O_WRONLY).map_err(kernel(what()))?;
    File::from(file).write_all(value.as_bytes()).map_err(|err| kernel(what())(errno_of(&err)))
}

fn sysctl(path: &Path, value: &str, shared_namespace: Option<&'static str>) -> Result<()> {
    if let Some(kind) = shared_namespace {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        let differs = matches!((of("self"), of("1")), (Ok(own), Ok(host)) if own != host);
        if !differs {
            return Err(StepError::HostSysctl(path.display().to_string(), kind));
        }
    }
    write_proc(&Path::new("sys").join(path), value, "linux.sysctl: ")
}
