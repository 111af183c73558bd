//! Puts planned resources into force, for a new container and by `update`.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;
use podwright_sys::cgroup::{Cgroup, CgroupError, Limit};
use podwright_sys::device;

use super::{change, wrong_status};
use crate::config::{self, Document as _};
use crate::error::{Error, Result, kernel};
use crate::plan::{self, Absent, CgroupPlan, Current, PlanError, Write};
use crate::state::Status;
use crate::systemd;

/// Changes the resources of a container that is created, running or paused. `source` names where they are from, for errors.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongStatus`]; [`Error::Plan`] for what cgroup v2 does not have; the kernel's.
pub fn update(root: &Path, id: &str, resources: &LinuxResources, source: &Path) -> Result<()> {
    let (_lock, state, status) = change(root, id)?;
    let state = state
        .filter(|_| matches!(status, Status::Created | Status::Running | Status::Paused))
        .ok_or_else(|| wrong_status(id, status, "update"))?;
    let cgroup = Cgroup::at(&state.cgroup);
    let plan = plan::update(resources, current(&cgroup))
        .map_err(|problem| Error::Plan { path: source.to_owned(), source: problem })?;
    check_memory(&cgroup, plan.memory_check)?;
    if let Some(unit) = &state.unit {
        systemd::update(unit, &plan)?;
    }
    write(&cgroup, &plan)?;
    if resources.devices().as_ref().is_some_and(|rules| !rules.is_empty()) {
        let replaced = device::replace(cgroup.open()?, &plan.devices);
        replaced.map_err(device_error("replace", plan.devices.len()))?;
    }
    Ok(())
}

/// Puts the resources of a new container into force.
pub(super) fn set(cgroup: &Cgroup, group: &OwnedFd, plan: &CgroupPlan) -> Result<()> {
    // A scope of systemd's has them by Delegate=.
    if plan.open && plan.place.unit.is_none() {
        cgroup.open_to_controllers().map_err(Error::Resources)?;
    }
    write(cgroup, plan)?;
    if plan.devices.is_empty() {
        return Ok(());
    }
    device::restrict(group, &plan.devices).map_err(device_error("load", plan.devices.len()))
}

fn device_error(verb: &str, rules: usize) -> impl FnOnce(Errno) -> Error {
    let what = format!("linux.resources.devices: {verb} a device program");
    move |errno| match errno {
        Errno::E2BIG => kernel(format!(
            "{what} of {rules} rules, default devices included, which are more than the kernel follows"
        ))(errno),
        errno => kernel(what)(errno),
    }
}

/// What is not there cannot be missed: its controller is not enabled.
fn current(cgroup: &Cgroup) -> Current {
    let bandwidth = cgroup.read("cpu.max").ok().and_then(|text| {
        let (quota, period) = text.trim_end().split_once(' ')?;
        Some((Limit::parse(quota)?, period.parse().ok()?))
    });
    Current { memory: cgroup.limit("memory.max").ok(), bandwidth }
}

fn check_memory(cgroup: &Cgroup, limit: Option<u64>) -> Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    match cgroup.limit("memory.current") {
        Ok(Limit::Value(used)) if used > limit => Err(Error::MemoryInUse { limit, used }),
        // Without the controller nothing is counted, and setting the limit fails on its own.
        Err(err) if !is_absent(&err) => Err(Error::Resources(err)),
        _ => Ok(()),
    }
}

fn write(cgroup: &Cgroup, plan: &CgroupPlan) -> Result<()> {
    let write = || plan.writes.iter().try_for_each(|entry| write_one(cgroup, entry));
    match write() {
        Ok(()) => Ok(()),
        // The usual case costs no look at what is enabled; this one finds out what is missing.
        Err(err) if is_absent(&err) => {
            let wanted: Vec<&str> = plan.controllers.iter().map(String::as_str).collect();
            cgroup.require_controllers(&wanted).and_then(|()| write()).map_err(Error::Resources)
        }
        Err(err) => Err(Error::Resources(err)),
    }
}

fn write_one(cgroup: &Cgroup, entry: &Write) -> std::result::Result<(), CgroupError> {
    match (cgroup.write(&entry.file, &entry.value), &entry.absent) {
        (Err(err), Absent::Skip) if is_absent(&err) => Ok(()),
        (Err(err), Absent::Instead { file, value }) if is_absent(&err) => cgroup.write(file, value),
        (result, _) => result,
    }
}

fn is_absent(err: &CgroupError) -> bool {
    let CgroupError::Io { source, .. } = err else { return false };
    matches!(source.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::EACCES))
}

/// Reads resources as the specification has them: as JSON, with anything else refused.
///
/// # Errors
/// [`Error::Plan`] names the place.
pub fn parse(text: &[u8], source: &Path) -> Result<LinuxResources> {
    let mut resources: LinuxResources = config::from_slice(text).map_err(|err| Error::Plan {
        path: source.to_owned(),
        source: PlanError::new("resources", format!("is not the specification's linux.resources: {err}")),
    })?;
    resources.correct(text);
    Ok(resources)
}
