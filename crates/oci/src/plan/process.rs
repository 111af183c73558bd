//! `process`: what is left to do once the root is the container's, down to execve(2).

use std::collections::HashSet;

use oci_spec::runtime::{Capability, Linux, PosixRlimitType, Process};
use podwright_inside::{self as inside, Program};
use podwright_sys::caps::CapSet;

use super::ids::check_id;
use super::step::SecurityModule;
use super::{PlanError, Result, Step, TerminalSize, schedule};

/// The umask where the configuration names none.
const DEFAULT_UMASK: u32 = 0o022;

/// The field that all of this is below.
const FIELD: &str = "process";

/// The steps, privileges last. For a process that can be `traced` from its first moment on, CAP_SYS_ADMIN is too much to have even
/// while the filter is loaded: no_new_privs takes its place.
pub(super) fn steps(process: &Process, linux: Option<&Linux>, traced: bool) -> Result<Vec<Step>> {
    let filtered = linux.is_some_and(|linux| linux.seccomp().is_some());
    check_ranges(process)?;
    let program = program(process)?;
    let user = process.user();
    let caps = Sets::of(process)?;
    let no_new_privileges = process.no_new_privileges() == Some(true) || traced && filtered;
    let mut steps = Vec::new();
    if process.terminal() != Some(true) {
        steps.push(inside::Step::NewSession.into());
    }
    steps.push(inside::Step::OwnStdio(user.uid()).into());
    steps.extend(schedule::steps(process, linux)?.into_iter().map(Step::Inside));
    steps.extend(rlimits(process)?.into_iter().map(Step::Inside));
    steps.push(inside::Step::CloseDescriptors.into());
    steps.push(inside::Step::ResetSignals.into());
    steps.push(inside::Step::Chdir(process.cwd().clone()).into());
    steps.push(inside::Step::Umask(user.umask().unwrap_or(DEFAULT_UMASK)).into());
    steps.extend(labels(process).map(|(module, _, label)| Step::Label { module, label }));
    steps.push(inside::Step::LimitBounding(caps.bounding).into());
    steps.push(
        inside::Step::SwitchUser {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
        }
        .into(),
    );
    // A filter needs either no_new_privs or CAP_SYS_ADMIN: the earlier of the two places keeps the latter, and lets only
    // capset, prctl and execve through the filter; the later one lets execve alone through.
    if filtered && !no_new_privileges {
        steps.push(inside::Step::LoadFilter.into());
    }
    steps.push(
        inside::Step::Capabilities {
            effective: caps.effective,
            permitted: caps.permitted,
            inheritable: caps.inheritable,
            ambient: caps.ambient,
        }
        .into(),
    );
    if no_new_privileges {
        steps.push(inside::Step::NoNewPrivileges.into());
        if filtered {
            steps.push(inside::Step::LoadFilter.into());
        }
    }
    steps.push(inside::Step::Exec(program).into());
    Ok(steps)
}

/// Stands for a process that the configuration does not have: root, who asks for nothing.
pub(super) fn nobody() -> Result<Process> {
    let value = serde_json::json!({"user": {"uid": 0, "gid": 0}, "cwd": "/"});
    serde_json::from_value(value).map_err(|err| PlanError::new(FIELD, err.to_string()))
}

/// The labels that are asked for, with their fields.
fn labels(process: &Process) -> impl Iterator<Item = (SecurityModule, &'static str, String)> {
    let wanted = [
        (SecurityModule::AppArmor, "process.apparmorProfile", process.apparmor_profile()),
        (SecurityModule::SeLinux, "process.selinuxLabel", process.selinux_label()),
    ];
    wanted.into_iter().filter_map(|(module, field, label)| {
        let label = label.clone().filter(|label| !label.is_empty())?;
        Some((module, field, label))
    })
}

/// Looks for the modules that labels need, while the host's `/proc` and `/sys` are there.
pub(super) fn modules(process: &Process) -> impl Iterator<Item = Step> {
    labels(process).map(|(module, field, _)| Step::FindModule { module, field })
}

/// Room for the limits, for a process that will not be allowed to make it.
pub(super) fn raised_limits(process: &Process) -> Result<Vec<Step>> {
    let raised = |step| match step {
        inside::Step::Rlimit { resource, hard, .. } => Some(inside::Step::RaiseLimit { resource, hard }.into()),
        _ => None,
    };
    Ok(rlimits(process)?.into_iter().filter_map(raised).collect())
}

fn rlimits(process: &Process) -> Result<Vec<inside::Step>> {
    let mut steps = Vec::new();
    let mut seen = HashSet::new();
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let problem = |text: String| Err(PlanError::new(format!("{FIELD}.rlimits[{index}]"), text));
        let (soft, hard) = (limit.soft(), limit.hard());
        if !seen.insert(limit.typ().to_string()) {
            return problem(format!("type {} is listed twice", limit.typ()));
        }
        if soft > hard {
            return problem(format!("soft {soft} is above hard {hard}"));
        }
        steps.push(inside::Step::Rlimit { resource: rlimit_number(limit.typ()), soft, hard });
    }
    Ok(steps)
}

/// The terminal to make, if one is asked for; a size without one says nothing (runtime-spec, config.md, "Process").
pub(super) fn terminal(process: &Process, console: bool) -> Result<Option<Step>> {
    if process.terminal() != Some(true) {
        return Ok(None);
    }
    // The type has no accessors.
    let size = process.console_size().and_then(|size| serde_json::to_value(size).ok());
    let side = |name: &str| {
        let value = size.as_ref().and_then(|size| size.get(name)?.as_u64()).unwrap_or_default();
        u16::try_from(value).map_err(|_| {
            PlanError::new(format!("{FIELD}.consoleSize.{name}"), format!("{value} found, at most 65535 accepted"))
        })
    };
    let size = match &size {
        Some(_) => Some(TerminalSize { rows: side("height")?, columns: side("width")? }),
        None => None,
    };
    Ok(Some(Step::OpenTerminal { size, console }))
}

/// The terminal takes the place of descriptors 0 to 2 before the gate: whoever waits for the end of what `create` writes would
/// otherwise wait for the container's.
pub(super) fn attach(process: &Process) -> impl Iterator<Item = Step> {
    let steps = [inside::Step::NewSession.into(), Step::AttachTerminal];
    steps.into_iter().filter(|_| process.terminal() == Some(true))
}

pub(super) fn program(process: &Process) -> Result<Program> {
    let args = process.args().clone().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(PlanError::new(format!("{FIELD}.args"), "is empty; it has to name a program"));
    }
    let env = process.env().clone().unwrap_or_default();
    for (name, list) in [("args", &args), ("env", &env)] {
        if list.iter().any(|text| text.contains('\0')) {
            return Err(PlanError::new(format!("{FIELD}.{name}"), "holds a NUL byte"));
        }
    }
    if !process.cwd().is_absolute() {
        return Err(PlanError::new(format!("{FIELD}.cwd"), format!("{:?} is not absolute", process.cwd())));
    }
    Ok(Program { args, env })
}

/// What the kernel would refuse without saying which number it means.
fn check_ranges(process: &Process) -> Result<()> {
    if let Some(score) = process.oom_score_adj().filter(|score| !(-1000..=1000).contains(score)) {
        return Err(PlanError::new(format!("{FIELD}.oomScoreAdj"), format!("{score} found, -1000 to 1000 accepted")));
    }
    let user = process.user();
    check_id(|| format!("{FIELD}.user.uid"), user.uid())?;
    check_id(|| format!("{FIELD}.user.gid"), user.gid())?;
    for (index, gid) in user.additional_gids().iter().flatten().enumerate() {
        check_id(|| format!("{FIELD}.user.additionalGids[{index}]"), *gid)?;
    }
    match user.umask().filter(|mask| *mask > 0o777) {
        Some(mask) => {
            Err(PlanError::new(format!("{FIELD}.user.umask"), format!("{mask:#o} found, at most 0o777 accepted")))
        }
        None => Ok(()),
    }
}

/// Capability sets of a process.
#[derive(Default)]
pub(super) struct Sets {
    pub(super) bounding: CapSet,
    pub(super) effective: CapSet,
    pub(super) permitted: CapSet,
    pub(super) inheritable: CapSet,
    pub(super) ambient: CapSet,
}

impl Sets {
    /// Without `process.capabilities` all sets are empty.
    pub(super) fn of(process: &Process) -> Result<Self> {
        let Some(caps) = process.capabilities() else { return Ok(Self::default()) };
        let set = |name: &str, list: &Option<HashSet<Capability>>| {
            CapSet::from_names(list.iter().flatten().map(ToString::to_string)).map_err(|unknown| {
                PlanError::new(format!("{FIELD}.capabilities.{name}"), format!("{unknown} is no capability"))
            })
        };
        let bounding = set("bounding", caps.bounding())?;
        let permitted = set("permitted", caps.permitted())?;
        let inheritable = set("inheritable", caps.inheritable())?;
        if let Some(name) = inheritable.without(bounding).names().next() {
            let problem = format!("{name} found, which is not in bounding (capset(2): operation not permitted)");
            return Err(PlanError::new(format!("{FIELD}.capabilities.inheritable"), problem));
        }
        Ok(Self {
            bounding,
            effective: set("effective", caps.effective())?,
            permitted,
            inheritable,
            // The kernel keeps no others; `runc spec` lists ambient ones without their inheritable counterparts.
            ambient: set("ambient", caps.ambient())?.intersection(permitted).intersection(inheritable),
        })
    }
}

fn rlimit_number(kind: PosixRlimitType) -> u32 {
    // asm-generic/resource.h
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}
