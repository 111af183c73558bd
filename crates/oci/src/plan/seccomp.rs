//! `linux.seccomp` in the terms of `podwright_sys::seccomp`.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};
use podwright_sys::seccomp::{Action, Compare, FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_TSYNC, Operator, Profile, Rule};

use super::{PlanError, Result};

/// EPERM, where the profile names no errno.
const DEFAULT_ERRNO: u32 = 1;

pub(super) fn profile(seccomp: &LinuxSeccomp) -> Result<Profile> {
    if seccomp.listener_path().is_some() {
        return Err(PlanError::unsupported("linux.seccomp.listenerPath"));
    }
    let default_errno = seccomp.default_errno_ret().unwrap_or(DEFAULT_ERRNO);
    let mut flags = 0;
    for flag in seccomp.flags().iter().flatten() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(PlanError::unsupported("linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"));
            }
        };
    }
    let rules = seccomp.syscalls().iter().flatten().enumerate().map(|(index, rule)| {
        let field = format!("linux.seccomp.syscalls[{index}]");
        let errno = rule.errno_ret().unwrap_or(default_errno);
        let compare = rule.args().iter().flatten().map(|arg| compare(arg, &field)).collect::<Result<_>>()?;
        Ok(Rule { names: rule.names().clone(), action: action(rule.action(), errno, &field)?, compare })
    });
    Ok(Profile {
        default: action(seccomp.default_action(), default_errno, "linux.seccomp.defaultAction")?,
        architectures: seccomp.architectures().iter().flatten().map(ToString::to_string).collect(),
        flags,
        rules: rules.collect::<Result<_>>()?,
    })
}

fn action(action: LinuxSeccompAction, errno: u32, field: &str) -> Result<Action> {
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Action::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActErrno => Action::Errno(errno as u16),
        LinuxSeccompAction::ScmpActTrace => Action::Trace(errno as u16),
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
        LinuxSeccompAction::ScmpActNotify => return Err(PlanError::unsupported(format!("{field}: SCMP_ACT_NOTIFY"))),
    })
}

fn compare(arg: &LinuxSeccompArg, field: &str) -> Result<Compare> {
    let argument = u32::try_from(arg.index()).ok().filter(|index| *index < 6);
    let argument =
        argument.ok_or_else(|| PlanError::new(format!("{field}.args"), format!("index {} is above 5", arg.index())))?;
    // For a masked comparison the first value is the mask.
    let (operator, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (Operator::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (Operator::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (Operator::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (Operator::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (Operator::GreaterOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (Operator::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (Operator::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0)),
    };
    Ok(Compare { argument, operator, value })
}
