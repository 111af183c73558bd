//! The systemd cgroup driver (`--systemd-cgroup`): the container's cgroup is a transient scope, made by systemd and delegated
//! to the container (systemd.scope(5), systemd.resource-control(5)). docs/adr/0002 says why the D-Bus client is our own.

mod bus;
mod properties;
mod wire;

use std::fs;
use std::path::PathBuf;

use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid, pause};
use podwright_sys::process::{self, Cloned};

use crate::error::{Error, Result, file, kernel};
use crate::plan::{CgroupPlan, Unit};
use bus::Bus;
use wire::Value;

pub use bus::BusError;
pub(crate) use properties::{PREFIX as ANNOTATIONS, check_annotations};
pub(crate) use wire::Property;

/// A process that keeps a scope alive until the container's first one is in it: systemd makes no empty scopes.
pub(crate) struct Scope {
    keeper: std::os::fd::OwnedFd,
    /// The cgroup below the v2 mount.
    pub(crate) cgroup: PathBuf,
}

impl Scope {
    /// Makes the unit with what the plan wants of it.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub(crate) fn start(unit: &Unit, plan: &CgroupPlan) -> Result<Self> {
        let runtime = getpid();
        let Cloned::Parent { pid, pidfd } = process::clone(CloneFlags::empty(), None).map_err(kernel("clone3"))? else {
            keep(runtime);
        };
        let mut scope = Self { keeper: pidfd, cgroup: PathBuf::new() };
        let mut bus = Bus::connect()?;
        let mut wanted: Vec<Property> = [
            ("Description", Value::Text(format!("container {}", unit.container))),
            ("Slice", Value::Text(unit.slice.clone())),
            ("Delegate", Value::Bool(true)),
            ("DefaultDependencies", Value::Bool(false)),
            ("CollectMode", Value::Text("inactive-or-failed".into())),
            ("PIDs", Value::U32s(vec![pid.as_raw().cast_unsigned()])),
            ("CPUAccounting", Value::Bool(true)),
            ("IOAccounting", Value::Bool(true)),
            ("MemoryAccounting", Value::Bool(true)),
            ("TasksAccounting", Value::Bool(true)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        wanted.extend(properties::of_writes(&plan.writes));
        // The user's own words replace ours.
        for (name, value) in &unit.properties {
            wanted.retain(|(known, _)| known != name);
            wanted.push((name.clone(), value.clone()));
        }
        match bus.start_transient(&unit.name, &wanted) {
            Err(err) if err.is("UnitExists") => {
                // One that failed and was never looked at; if it runs, the second try fails as well.
                bus.reset_failed(&unit.name)?;
                bus.start_transient(&unit.name, &wanted)?;
            }
            other => other?,
        }
        // Where systemd has put it: it may itself live in a part of the hierarchy.
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path).map_err(file("read", &path))?;
        scope.cgroup = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().into();
        Ok(scope)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // Its only failure is that it has ended by itself.
        process::pidfd_send_signal(&self.keeper, nix::libc::SIGKILL).unwrap_or(());
        process::wait(&self.keeper).map(drop).unwrap_or(());
    }
}

/// Sleeps until the end; it comes with the runtime's at the latest.
fn keep(runtime: Pid) -> ! {
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != runtime {
        std::process::exit(1);
    }
    loop {
        pause();
    }
}

/// Tells systemd of new resources, so that it does not restore the old ones when it reloads its units.
///
/// # Errors
/// [`Error::Systemd`].
pub(crate) fn update(unit: &str, plan: &CgroupPlan) -> Result<()> {
    let wanted = properties::of_writes(&plan.writes);
    if wanted.is_empty() {
        return Ok(());
    }
    Ok(Bus::connect()?.set_properties(unit, &wanted)?)
}

/// Removes a unit. One that is gone is fine.
///
/// # Errors
/// [`Error::Systemd`].
pub(crate) fn stop(unit: &str) -> Result<()> {
    let mut bus = Bus::connect()?;
    for result in [bus.stop(unit), bus.reset_failed(unit)] {
        match result {
            Err(err) if err.is("NoSuchUnit") => {}
            other => other?,
        }
    }
    Ok(())
}

impl From<BusError> for Error {
    fn from(source: BusError) -> Self {
        Self::Systemd(source)
    }
}
