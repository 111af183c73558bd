//! What a process gets of processors, memory nodes and disks: `process.scheduler`, `process.ioPriority`,
//! `process.execCPUAffinity`, `linux.memoryPolicy`, `linux.personality`.

use nix::libc;
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};
use podwright_inside::Step;
use podwright_sys::sched::Attributes;

use super::{PlanError, Result};

/// The highest processor or memory node that may be named: above what any kernel is built for.
const MAX_NUMBER: u32 = 65_535;

/// Modes of `linux.memoryPolicy`, with their numbers in set_mempolicy(2).
pub(super) const MEMORY_MODES: [(MemoryPolicyModeType, u32); 7] = [
    (MemoryPolicyModeType::MpolDefault, 0),
    (MemoryPolicyModeType::MpolPreferred, 1),
    (MemoryPolicyModeType::MpolBind, 2),
    (MemoryPolicyModeType::MpolInterleave, 3),
    (MemoryPolicyModeType::MpolLocal, 4),
    (MemoryPolicyModeType::MpolPreferredMany, 5),
    (MemoryPolicyModeType::MpolWeightedInterleave, 6),
];

/// Flags of `linux.memoryPolicy`, which go into the mode.
pub(super) const MEMORY_FLAGS: [(MemoryPolicyFlagType, u32); 3] = [
    (MemoryPolicyFlagType::MpolFNumaBalancing, 1 << 13),
    (MemoryPolicyFlagType::MpolFRelativeNodes, 1 << 14),
    (MemoryPolicyFlagType::MpolFStaticNodes, 1 << 15),
];

/// What is set for the process itself and inherited by its program.
pub(super) fn steps(process: &Process, linux: Option<&Linux>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if let Some(scheduler) = process.scheduler() {
        steps.push(Step::Scheduler(attributes(scheduler)?));
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u16::try_from(priority.priority()).ok().filter(|level| *level < 8).ok_or_else(|| {
            let problem = format!("{} found, 0 to 7 accepted", priority.priority());
            PlanError::new("process.ioPriority.priority", problem)
        })?;
        steps.push(Step::IoPriority { class, level });
    }
    if let Some(policy) = linux.and_then(|linux| linux.memory_policy().as_ref()) {
        steps.push(memory_policy(policy)?);
    }
    if let Some(personality) = linux.and_then(|linux| linux.personality().as_ref()) {
        if let Some(flag) = personality.flags().iter().flatten().next() {
            let problem = format!("{flag:?} found; the specification knows no flag");
            return Err(PlanError::new("linux.personality.flags", problem));
        }
        // linux/personality.h
        steps.push(Step::Personality(match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        }));
    }
    Ok(steps)
}

/// The processors of `process.execCPUAffinity`.
#[derive(Default)]
pub(super) struct Affinity {
    /// Of the runtime, until the process is in its cgroup.
    pub(super) first: Option<Vec<u32>>,
    /// Of the process then.
    pub(super) last: Option<Vec<u32>>,
}

pub(super) fn affinity(process: &Process) -> Result<Affinity> {
    let Some(affinity) = process.exec_cpu_affinity() else { return Ok(Affinity::default()) };
    let list = |name: &str, text: &Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => numbers(text, &format!("process.execCPUAffinity.{name}")).map(Some),
    };
    Ok(Affinity { first: list("initial", affinity.initial())?, last: list("final", affinity.cpu_affinity_final())? })
}

fn attributes(scheduler: &Scheduler) -> Result<Attributes> {
    let problem = |name: &str, text: String| Err(PlanError::new(format!("process.scheduler.{name}"), text));
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE,
        LinuxSchedulerPolicy::SchedIso => {
            return problem("policy", "SCHED_ISO is reserved; Linux does not have it".into());
        }
    };
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return problem("nice", format!("{nice} found, -20 to 19 accepted"));
    }
    let priority = scheduler.priority().unwrap_or(0);
    let accepted = if matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR) { 1..=99 } else { 0..=0 };
    let Some(priority) = u32::try_from(priority).ok().filter(|priority| accepted.contains(priority)) else {
        let accepted = format!("{} to {}", accepted.start(), accepted.end());
        return problem("priority", format!("{priority} found, {accepted} accepted for {}", scheduler.policy()));
    };
    let [runtime, deadline, period] =
        [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|value| value.unwrap_or(0));
    if policy == libc::SCHED_DEADLINE {
        if runtime == 0 || runtime > deadline || period != 0 && deadline > period {
            let found = format!("runtime {runtime}, deadline {deadline}, period {period}");
            return problem("runtime", format!("{found} found; 0 < runtime <= deadline <= period accepted"));
        }
    } else if [runtime, deadline, period] != [0; 3] {
        return problem(
            "policy",
            format!("runtime, deadline and period go with SCHED_DEADLINE, not {}", scheduler.policy()),
        );
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| flags | flag_bit(*flag));
    Ok(Attributes { policy: policy.cast_unsigned(), flags, nice, priority, runtime, deadline, period })
}

fn flag_bit(flag: LinuxSchedulerFlag) -> u64 {
    let bit = match flag {
        LinuxSchedulerFlag::SchedResetOnFork => libc::SCHED_FLAG_RESET_ON_FORK,
        LinuxSchedulerFlag::SchedFlagReclaim => libc::SCHED_FLAG_RECLAIM,
        LinuxSchedulerFlag::SchedFlagDLOverrun => libc::SCHED_FLAG_DL_OVERRUN,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => libc::SCHED_FLAG_KEEP_POLICY,
        LinuxSchedulerFlag::SchedFlagKeepParams => libc::SCHED_FLAG_KEEP_PARAMS,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => libc::SCHED_FLAG_UTIL_CLAMP_MIN,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => libc::SCHED_FLAG_UTIL_CLAMP_MAX,
    };
    u64::from(bit.cast_unsigned())
}

fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<Step> {
    const FIELD: &str = "linux.memoryPolicy.nodes";
    let number = |mode| MEMORY_MODES.iter().find(|(known, _)| *known == mode).map_or(0, |(_, number)| *number);
    let bit = |flag| MEMORY_FLAGS.iter().find(|(known, _)| known == flag).map_or(0, |(_, bit)| *bit);
    let flags = policy.flags().iter().flatten().fold(0, |flags, flag| flags | bit(flag));
    let nodes = match policy.nodes().as_deref().unwrap_or_default() {
        "" => Vec::new(),
        text => numbers(text, FIELD)?,
    };
    match (policy.mode(), nodes.is_empty()) {
        (MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal, false) => {
            return Err(PlanError::new(FIELD, format!("goes not with {}, which names no nodes", policy.mode())));
        }
        (
            MemoryPolicyModeType::MpolBind
            | MemoryPolicyModeType::MpolInterleave
            | MemoryPolicyModeType::MpolWeightedInterleave
            | MemoryPolicyModeType::MpolPreferredMany,
            true,
        ) => return Err(PlanError::new(FIELD, format!("is missing; {} needs at least one node", policy.mode()))),
        _ => {}
    }
    Ok(Step::MemoryPolicy { mode: number(policy.mode()) | flags, nodes })
}

/// A list of numbers and ranges, such as `0-3,7`.
fn numbers(text: &str, field: &str) -> Result<Vec<u32>> {
    let problem = || {
        let problem = format!("{text:?} found; numbers up to {MAX_NUMBER} and ranges of them accepted, such as 0-3,7");
        PlanError::new(field, problem)
    };
    let number = |text: &str| text.parse().ok().filter(|number| *number <= MAX_NUMBER).ok_or_else(problem);
    let mut list = Vec::new();
    for part in text.split(',') {
        match part.trim().split_once('-') {
            None => list.push(number(part.trim())?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(problem());
                }
                list.extend(first..=last);
            }
        }
    }
    list.sort_unstable();
    list.dedup();
    Ok(list)
}
