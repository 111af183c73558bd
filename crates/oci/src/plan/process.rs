//! `process`: what is left to do once the root is the container's, down to execve(2).

use std::collections::HashSet;

use oci_spec::runtime::{Capability, PosixRlimitType, Process};
use podwright_sys::caps::CapSet;

use super::{PlanError, Program, Result, Step, TerminalSize};

/// The umask where the configuration names none.
const DEFAULT_UMASK: u32 = 0o022;

/// The steps, privileges last.
pub(super) fn steps(process: &Process, filtered: bool, field: &str) -> Result<Vec<Step>> {
    refuse(process, field)?;
    let program = program(process, field)?;
    let user = process.user();
    let caps = Sets::of(process, field)?;
    let no_new_privileges = process.no_new_privileges() == Some(true);
    let mut steps = vec![Step::NewSession];
    if process.terminal() == Some(true) {
        steps.push(Step::AttachTerminal);
    }
    steps.push(Step::OwnStdio(user.uid()));
    for limit in process.rlimits().iter().flatten() {
        steps.push(Step::Rlimit { resource: rlimit_number(limit.typ()), soft: limit.soft(), hard: limit.hard() });
    }
    steps.push(Step::CloseDescriptors);
    steps.push(Step::ResetSignals);
    steps.push(Step::Chdir(process.cwd().clone()));
    steps.push(Step::Umask(user.umask().unwrap_or(DEFAULT_UMASK)));
    steps.push(Step::LimitBounding(caps.bounding));
    steps.push(Step::SwitchUser {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
    });
    // A filter needs either no_new_privs or CAP_SYS_ADMIN: the earlier of the two places keeps the latter, and lets only
    // capset, prctl and execve through the filter; the later one lets execve alone through.
    if filtered && !no_new_privileges {
        steps.push(Step::LoadFilter);
    }
    steps.push(Step::Capabilities {
        effective: caps.effective,
        permitted: caps.permitted,
        inheritable: caps.inheritable,
        ambient: caps.ambient,
    });
    if no_new_privileges {
        steps.push(Step::NoNewPrivileges);
        if filtered {
            steps.push(Step::LoadFilter);
        }
    }
    steps.push(Step::Exec(program));
    Ok(steps)
}

/// The terminal to make, if one is asked for; a size without one says nothing (runtime-spec, config.md, "Process").
pub(super) fn terminal(process: &Process, console: bool, field: &str) -> Result<Option<Step>> {
    if process.terminal() != Some(true) {
        return Ok(None);
    }
    // The type has no accessors.
    let size = process.console_size().and_then(|size| serde_json::to_value(size).ok());
    let side = |name: &str| {
        let value = size.as_ref().and_then(|size| size.get(name)?.as_u64()).unwrap_or_default();
        u16::try_from(value).map_err(|_| {
            PlanError::new(format!("{field}.consoleSize.{name}"), format!("{value} found, at most 65535 accepted"))
        })
    };
    let size = match &size {
        Some(_) => Some(TerminalSize { rows: side("height")?, columns: side("width")? }),
        None => None,
    };
    Ok(Some(Step::OpenTerminal { size, console }))
}

pub(super) fn program(process: &Process, field: &str) -> Result<Program> {
    let args = process.args().clone().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(PlanError::new(format!("{field}.args"), "is empty; it has to name a program"));
    }
    let env = process.env().clone().unwrap_or_default();
    for (name, list) in [("args", &args), ("env", &env)] {
        if list.iter().any(|text| text.contains('\0')) {
            return Err(PlanError::new(format!("{field}.{name}"), "holds a NUL byte"));
        }
    }
    if !process.cwd().is_absolute() {
        return Err(PlanError::new(format!("{field}.cwd"), format!("{} is not absolute", process.cwd().display())));
    }
    Ok(Program { args, env })
}

#[derive(Default)]
struct Sets {
    bounding: CapSet,
    effective: CapSet,
    permitted: CapSet,
    inheritable: CapSet,
    ambient: CapSet,
}

impl Sets {
    /// Without `process.capabilities` all sets are empty.
    fn of(process: &Process, field: &str) -> Result<Self> {
        let Some(caps) = process.capabilities() else { return Ok(Self::default()) };
        let set = |name: &str, list: &Option<HashSet<Capability>>| {
            CapSet::from_names(list.iter().flatten().map(ToString::to_string)).map_err(|unknown| {
                PlanError::new(format!("{field}.capabilities.{name}"), format!("{unknown} is no capability"))
            })
        };
        let permitted = set("permitted", caps.permitted())?;
        let inheritable = set("inheritable", caps.inheritable())?;
        Ok(Self {
            bounding: set("bounding", caps.bounding())?,
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

fn refuse(process: &Process, field: &str) -> Result<()> {
    let present: [(&str, bool); 5] = [
        ("apparmorProfile", process.apparmor_profile().iter().any(|profile| !profile.is_empty())),
        ("selinuxLabel", process.selinux_label().iter().any(|label| !label.is_empty())),
        ("ioPriority", process.io_priority().is_some()),
        ("scheduler", process.scheduler().is_some()),
        ("execCPUAffinity", process.exec_cpu_affinity().is_some()),
    ];
    match present.iter().find(|(_, present)| *present) {
        Some((name, _)) => Err(PlanError::unsupported(format!("{field}.{name}"))),
        None => Ok(()),
    }
}
