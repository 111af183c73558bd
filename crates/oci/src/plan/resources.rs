//! `linux.resources` in the files of cgroup v2 (runtime-spec, config-linux.md; cgroup-v2.rst).

use std::path::PathBuf;

use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources};
use podwright_sys::cgroup::{Limit, cpu_weight};
use podwright_sys::device::{Kind, MKNOD, READ, Rule, WRITE};

use super::{CgroupPlan, PlanError, Result};

/// The period of `cpu.max` where the configuration names none, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// Major numbers of the devices that every container may use: memory devices, terminals, Unix98 terminals.
const MEM: u32 = 1;
const TTY: u32 = 5;
const PTS: u32 = 136;

pub(super) fn plan(resources: Option<&LinuxResources>, path: PathBuf) -> Result<CgroupPlan> {
    let mut plan = CgroupPlan { path, ..CgroupPlan::default() };
    let Some(resources) = resources else { return Ok(plan) };
    refuse(resources)?;
    if let Some(memory) = resources.memory() {
        plan_memory(memory, &mut plan)?;
    }
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, &mut plan)?;
    }
    if let Some(pids) = resources.pids() {
        let limit = u64::try_from(pids.limit()).ok().filter(|limit| *limit > 0).map_or(Limit::Max, Limit::Value);
        plan.set("pids.max", limit);
    }
    // Last, so that a user of cgroup v2's own names has the last word.
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        if file.contains('/') || !file.contains('.') {
            let problem = format!("{file:?} is no file of a cgroup, such as memory.high");
            return Err(PlanError::new("linux.resources.unified", problem));
        }
        plan.set(file, value);
    }
    plan.devices = device_rules(resources.devices().as_deref().unwrap_or_default())?;
    Ok(plan)
}

impl CgroupPlan {
    fn set(&mut self, file: &str, value: impl ToString) {
        let controller = file.split('.').next().unwrap_or(file);
        if controller != "cgroup" && !self.controllers.iter().any(|known| known == controller) {
            self.controllers.push(controller.to_owned());
        }
        self.writes.push((file.to_owned(), value.to_string()));
    }
}

fn plan_memory(memory: &LinuxMemory, plan: &mut CgroupPlan) -> Result<()> {
    for (field, wanted) in [
        ("swappiness", memory.swappiness().is_some()),
        ("disableOOMKiller", memory.disable_oom_killer() == Some(true)),
        ("kernelTCP", memory.kernel_tcp().is_some_and(|limit| limit > 0)),
    ] {
        if wanted {
            let problem = "does not exist on cgroup v2; remove it";
            return Err(PlanError::new(format!("linux.resources.memory.{field}"), problem));
        }
    }
    let limit = |value: i64| u64::try_from(value).map_or(Limit::Max, Limit::Value);
    if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
        plan.set("memory.swap.max", swap_limit(swap, memory.limit())?);
    }
    if let Some(value) = memory.limit().filter(|value| *value != 0) {
        plan.set("memory.max", limit(value));
    }
    if let Some(value) = memory.reservation().filter(|value| *value != 0) {
        plan.set("memory.low", limit(value));
    }
    Ok(())
}

/// The configuration counts memory and swap together, cgroup v2 counts swap alone.
fn swap_limit(both: i64, memory: Option<i64>) -> Result<Limit> {
    let problem = |text: String| Err(PlanError::new("linux.resources.memory.swap", text));
    match (u64::try_from(both), memory.map(u64::try_from)) {
        (Err(_), _) => Ok(Limit::Max),
        (Ok(_), None | Some(Ok(0))) => {
            problem(format!("{both} found; it is the sum with memory.limit, which is missing"))
        }
        (Ok(_), Some(Err(_))) => problem(format!("{both} found while memory.limit is unlimited; -1 accepted")),
        (Ok(both), Some(Ok(memory))) => match both.checked_sub(memory) {
            Some(swap) => Ok(Limit::Value(swap)),
            None => problem(format!("{both} found; it includes memory.limit, so at least {memory} is accepted")),
        },
    }
}

fn plan_cpu(cpu: &LinuxCpu, plan: &mut CgroupPlan) -> Result<()> {
    for (field, present) in [
        ("realtimeRuntime", cpu.realtime_runtime().is_some_and(|value| value != 0)),
        ("realtimePeriod", cpu.realtime_period().is_some_and(|value| value != 0)),
    ] {
        if present {
            let problem = "does not exist on cgroup v2; remove it";
            return Err(PlanError::new(format!("linux.resources.cpu.{field}"), problem));
        }
    }
    if let Some(weight) = cpu.shares().and_then(cpu_weight) {
        plan.set("cpu.weight", weight);
    }
    if cpu.quota().is_some() || cpu.period().is_some_and(|period| period != 0) {
        let quota = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0);
        let period = cpu.period().filter(|period| *period != 0).unwrap_or(DEFAULT_PERIOD);
        plan.set("cpu.max", format!("{} {period}", quota.map_or(Limit::Max, Limit::Value)));
    }
    if let Some(burst) = cpu.burst() {
        plan.set("cpu.max.burst", burst);
    }
    if let Some(idle) = cpu.idle() {
        plan.set("cpu.idle", idle);
    }
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            plan.set(file, value);
        }
    }
    Ok(())
}

/// The configured rules followed by the ones every container needs. A configuration that ends by allowing everything needs no
/// program, and neither does one without rules.
fn device_rules(configured: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> =
        configured.iter().enumerate().map(|(index, rule)| device_rule(rule, index)).collect::<Result<_>>()?;
    let everything = Rule { allow: true, kind: None, major: None, minor: None, access: READ | WRITE | MKNOD };
    if rules.last().is_none_or(|last| *last == everything) {
        return Ok(Vec::new());
    }
    let char = Rule { kind: Some(Kind::Char), ..everything };
    // Nodes may be made, since using one is another question.
    rules.push(Rule { access: MKNOD, ..everything });
    rules.extend([3, 5, 7, 8, 9].map(|minor| Rule { major: Some(MEM), minor: Some(minor), ..char }));
    rules.extend([0, 2].map(|minor| Rule { major: Some(TTY), minor: Some(minor), ..char }));
    rules.push(Rule { major: Some(PTS), ..char });
    Ok(rules)
}

fn device_rule(rule: &LinuxDeviceCgroup, index: usize) -> Result<Rule> {
    let field = format!("linux.resources.devices[{index}]");
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Char),
        Some(LinuxDeviceType::P) => {
            return Err(PlanError::new(format!("{field}.type"), "\"p\" found, one of a, b, c accepted"));
        }
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| PlanError::new(format!("{field}.{name}"), format!("{value} is no device number"))),
    };
    let text = rule.access().as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
    let access = text.chars().try_fold(0, |bits, c| match c {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MKNOD),
        _ => Err(PlanError::new(format!("{field}.access"), format!("{text:?} found, letters of rwm accepted"))),
    })?;
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        access,
    })
}

fn refuse(resources: &LinuxResources) -> Result<()> {
    let network = resources.network().as_ref().is_some_and(|network| {
        network.class_id().is_some() || network.priorities().iter().any(|list| !list.is_empty())
    });
    for (field, present) in [
        ("blockIO", resources.block_io().is_some()),
        ("hugepageLimits", resources.hugepage_limits().iter().any(|list| !list.is_empty())),
        ("network", network),
        ("rdma", resources.rdma().iter().any(|map| !map.is_empty())),
    ] {
        if present {
            return Err(PlanError::unsupported(format!("linux.resources.{field}")));
        }
    }
    Ok(())
}
