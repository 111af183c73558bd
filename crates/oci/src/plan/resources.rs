//! `linux.resources` in the files of cgroup v2 (runtime-spec, config-linux.md; cgroup-v2.rst).

mod access;
mod io;

use std::collections::HashMap;

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxRdma, LinuxResources};
use podwright_sys::cgroup::{Limit, cpu_weight};

use super::cgroup::{CgroupPlan, not_on_v2};
use super::write::Absent;
use super::{Place, PlanError, Result};

/// The period of `cpu.max` where the configuration names none, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// What `unified` may name of the files that belong to no controller.
const CGROUP_LIMITS: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

/// What a container that exists has, where an update names a part only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Current {
    /// `memory.max`.
    pub memory: Option<Limit>,
    /// The words of `cpu.max`: the quota, and the period in microseconds.
    pub bandwidth: Option<(Limit, u64)>,
}

/// Plans the cgroup of a new container.
pub(super) fn plan(resources: Option<&LinuxResources>, place: Place) -> Result<CgroupPlan> {
    let mut plan = CgroupPlan { place, ..CgroupPlan::default() };
    if let Some(resources) = resources {
        fill(resources, None, &mut plan)?;
    }
    Ok(plan)
}

/// Plans new resources for a container that exists. What they do not name stays as it is.
///
/// # Errors
/// [`PlanError`] for the first field that is invalid or that cgroup v2 does not have.
pub fn update(resources: &LinuxResources, current: Current) -> Result<CgroupPlan> {
    let mut plan = CgroupPlan::default();
    fill(resources, Some(current), &mut plan)?;
    Ok(plan)
}

fn fill(resources: &LinuxResources, current: Option<Current>, plan: &mut CgroupPlan) -> Result<()> {
    refuse_network(resources)?;
    if let Some(memory) = resources.memory() {
        plan_memory(memory, current, plan)?;
    }
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, current, plan)?;
    }
    if let Some(pids) = resources.pids() {
        // The first process counts, so there is no less than one: a process cannot be made in a cgroup that has no room for it, and
        // systemd has no 0 either. runc does the same.
        let limit = u64::try_from(pids.limit()).map_or(Limit::Max, |limit| Limit::Value(limit.max(1)));
        plan.set("pids.max", limit);
    }
    if let Some(block_io) = resources.block_io() {
        io::plan(block_io, plan)?;
    }
    plan_hugetlb(resources.hugepage_limits().as_deref().unwrap_or_default(), plan)?;
    plan_rdma(resources.rdma().as_ref(), plan)?;
    // Last, so that a user of cgroup v2's own names has the last word.
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        if file.contains('/') || file.starts_with('.') || !file.contains('.') {
            let problem = format!("{file:?} is no file of a cgroup, such as memory.high");
            return Err(PlanError::new("linux.resources.unified", problem));
        }
        // What is written there is no limit: it would move, stop or kill processes, maybe of others.
        if file.starts_with("cgroup.") && !CGROUP_LIMITS.contains(&file.as_str()) {
            let problem = format!("is the runtime's to write; of its kind {} are accepted", CGROUP_LIMITS.join(", "));
            return Err(PlanError::new(format!("linux.resources.unified.{file}"), problem));
        }
        plan.set(file, value);
    }
    plan.devices = access::device_rules(resources.devices().as_deref().unwrap_or_default())?;
    Ok(())
}

fn plan_memory(memory: &LinuxMemory, current: Option<Current>, plan: &mut CgroupPlan) -> Result<()> {
    for (field, wanted) in [
        ("swappiness", memory.swappiness().is_some()),
        ("disableOOMKiller", memory.disable_oom_killer() == Some(true)),
        ("kernel", memory.kernel().is_some_and(|limit| limit > 0)),
        ("kernelTCP", memory.kernel_tcp().is_some_and(|limit| limit > 0)),
    ] {
        if wanted {
            return Err(not_on_v2(&format!("memory.{field}")));
        }
    }
    let limit = |value: i64| u64::try_from(value).map_or(Limit::Max, Limit::Value);
    let max = memory.limit().filter(|value| *value != 0).map(limit);
    if memory.check_before_update() == Some(true)
        && let Some(Limit::Value(bytes)) = max
    {
        plan.memory_check = Some(bytes);
    }
    let swap = match memory.swap().filter(|swap| *swap != 0) {
        Some(both) => Some(swap_limit(both, max.or(current.and_then(|current| current.memory)))?),
        // cgroup v1's one limit for both is gone when the limit for memory is.
        None if max == Some(Limit::Max) => Some(Limit::Max),
        None => None,
    };
    if let Some(swap) = swap {
        // A kernel without swap accounting has no file, and where there is no swap these two hold anyway.
        let absent = if matches!(swap, Limit::Max | Limit::Value(0)) { Absent::Skip } else { Absent::Fail };
        plan.set_or("memory.swap.max", swap, absent);
    }
    if let Some(max) = max {
        plan.set("memory.max", max);
    }
    if let Some(value) = memory.reservation().filter(|value| *value != 0) {
        plan.set("memory.low", limit(value));
    }
    Ok(())
}

/// The configuration counts memory and swap together, cgroup v2 counts swap alone.
fn swap_limit(both: i64, memory: Option<Limit>) -> Result<Limit> {
    let problem = |text: String| Err(PlanError::new("linux.resources.memory.swap", text));
    match (u64::try_from(both), memory) {
        (Err(_), _) => Ok(Limit::Max),
        (Ok(_), None) => problem(format!("{both} found; it is the sum with memory.limit, which is missing")),
        // Without a limit for memory there is nothing to subtract; runc does the same.
        (Ok(both), Some(Limit::Max)) => Ok(Limit::Value(both)),
        (Ok(both), Some(Limit::Value(memory))) => match both.checked_sub(memory) {
            Some(swap) => Ok(Limit::Value(swap)),
            None => problem(format!("{both} found; it includes memory.limit, so at least {memory} is accepted")),
        },
    }
}

fn plan_cpu(cpu: &LinuxCpu, current: Option<Current>, plan: &mut CgroupPlan) -> Result<()> {
    for (field, present) in [
        ("realtimeRuntime", cpu.realtime_runtime().is_some_and(|value| value != 0)),
        ("realtimePeriod", cpu.realtime_period().is_some_and(|value| value != 0)),
    ] {
        if present {
            return Err(not_on_v2(&format!("cpu.{field}")));
        }
    }
    let weight = cpu.shares().and_then(cpu_weight);
    match cpu.idle() {
        // An idle cgroup has no weight: the kernel refuses to set one.
        Some(idle) => {
            plan.set("cpu.idle", idle);
            weight.filter(|_| idle == 0).into_iter().for_each(|weight| plan.set("cpu.weight", weight));
        }
        None => weight.into_iter().for_each(|weight| plan.set("cpu.weight", weight)),
    }
    plan_bandwidth(cpu, current, plan);
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            plan.set(file, value);
        }
    }
    Ok(())
}

fn plan_bandwidth(cpu: &LinuxCpu, current: Option<Current>, plan: &mut CgroupPlan) {
    let named = |quota: i64| u64::try_from(quota).ok().filter(|quota| *quota > 0).map_or(Limit::Max, Limit::Value);
    let (quota, period) = match (cpu.quota(), cpu.period().filter(|period| *period != 0), current) {
        (quota, period, None) => (quota.map(named), period),
        // 0 leaves it alone, as runc has it.
        (quota, period, Some(_)) => (quota.filter(|quota| *quota != 0).map(named), period),
    };
    let (old_quota, old_period) = current.and_then(|current| current.bandwidth).unwrap_or((Limit::Max, DEFAULT_PERIOD));
    let changed = quota.is_some() || period.is_some();
    if changed && current.is_some() && cpu.burst().is_some() {
        // A quota below the old burst is refused, and so is a burst above the old quota.
        plan.set_or("cpu.max.burst", 0, Absent::Skip);
    }
    if changed {
        plan.set("cpu.max", format!("{} {}", quota.unwrap_or(old_quota), period.unwrap_or(old_period)));
    }
    if let Some(burst) = cpu.burst() {
        let absent = if burst == 0 { Absent::Skip } else { Absent::Fail };
        plan.set_or("cpu.max.burst", burst, absent);
    }
}

fn plan_hugetlb(limits: &[LinuxHugepageLimit], plan: &mut CgroupPlan) -> Result<()> {
    for (index, entry) in limits.iter().enumerate() {
        let size = entry.page_size();
        let unit = size.trim_start_matches(|c: char| c.is_ascii_digit());
        if unit.len() == size.len() || !matches!(unit, "KB" | "MB" | "GB") {
            let problem = format!("{size:?} found; a size such as 64KB, 2MB, 1GB accepted");
            return Err(PlanError::new(format!("linux.resources.hugepageLimits[{index}].pageSize"), problem));
        }
        let limit = u64::try_from(entry.limit()).map_or(Limit::Max, Limit::Value);
        plan.set(&format!("hugetlb.{size}.max"), limit);
        // Counted when reserved, since Linux 5.7; the other limit holds when the pages are used.
        plan.set_or(&format!("hugetlb.{size}.rsvd.max"), limit, Absent::Skip);
    }
    Ok(())
}

fn plan_rdma(devices: Option<&HashMap<String, LinuxRdma>>, plan: &mut CgroupPlan) -> Result<()> {
    let mut devices: Vec<_> = devices.into_iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    for (name, limits) in devices {
        let field = || format!("linux.resources.rdma.{name}");
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(PlanError::new(field(), "is no name of a device"));
        }
        let part = |key: &str, value: Option<u32>| value.map(|value| format!(" {key}={value}")).unwrap_or_default();
        let line = part("hca_handle", limits.hca_handles()) + &part("hca_object", limits.hca_objects());
        if line.is_empty() {
            return Err(PlanError::new(field(), "has neither hcaHandles nor hcaObjects"));
        }
        plan.set("rdma.max", format!("{name}{line}"));
    }
    Ok(())
}

fn refuse_network(resources: &LinuxResources) -> Result<()> {
    let Some(network) = resources.network() else { return Ok(()) };
    let priorities = network.priorities().iter().any(|list| !list.is_empty());
    for (field, present) in [("classID", network.class_id().is_some_and(|id| id != 0)), ("priorities", priorities)] {
        if present {
            let problem = "belongs to cgroup v1's net_cls and net_prio, which cgroup v2 does not have; match the container's \
                           cgroup in the packet filter instead (nft: socket cgroupv2)";
            return Err(PlanError::new(format!("linux.resources.network.{field}"), problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
