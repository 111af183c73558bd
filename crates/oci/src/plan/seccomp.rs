//! `linux.seccomp` in the terms of `podwright_sys::seccomp`.

use std::path::PathBuf;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use podwright_sys::seccomp::{
    Action, Compare, FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_WAIT_KILLABLE_RECV, Operator, Profile, Rule,
};

use super::{PlanError, Result};

/// EPERM, where an action names no errno.
const DEFAULT_ERRNO: u16 = 1;

/// What `linux.seccomp.architectures` may name.
pub(super) fn architectures() -> Vec<String> {
    let all = [
        Arch::ScmpArchAarch64,
        Arch::ScmpArchArm,
        Arch::ScmpArchLoongarch64,
        Arch::ScmpArchM68k,
        Arch::ScmpArchMips,
        Arch::ScmpArchMips64,
        Arch::ScmpArchMips64n32,
        Arch::ScmpArchMipsel,
        Arch::ScmpArchMipsel64,
        Arch::ScmpArchMipsel64n32,
        Arch::ScmpArchParisc,
        Arch::ScmpArchParisc64,
        Arch::ScmpArchPpc,
        Arch::ScmpArchPpc64,
        Arch::ScmpArchPpc64le,
        Arch::ScmpArchRiscv64,
        Arch::ScmpArchS390,
        Arch::ScmpArchS390x,
        Arch::ScmpArchSh,
        Arch::ScmpArchSheb,
        Arch::ScmpArchX32,
        Arch::ScmpArchX86,
        Arch::ScmpArchX86_64,
    ];
    all.iter().map(ToString::to_string).collect()
}

/// Who answers for the kernel where the action is SCMP_ACT_NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its socket on the host.
    pub path: PathBuf,
    /// What it is told besides the container's state.
    pub metadata: String,
}

/// The filter, and its listener if it needs one.
pub(super) fn plan(seccomp: &LinuxSeccomp) -> Result<(Profile, Option<Listener>)> {
    let profile = profile(seccomp)?;
    let path = seccomp.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    let metadata = seccomp.listener_metadata().clone().unwrap_or_default();
    if path.is_none() && !metadata.is_empty() {
        return Err(PlanError::new("linux.seccomp.listenerMetadata", "goes with listenerPath, which is missing"));
    }
    match (profile.notifies(), path) {
        // Of no use then, and to be ignored.
        (false, _) => Ok((profile, None)),
        (true, None) => {
            Err(PlanError::new("linux.seccomp.listenerPath", "is missing; SCMP_ACT_NOTIFY needs somebody to notify"))
        }
        (true, Some(path)) if !path.is_absolute() => {
            let problem = format!("{} is not absolute", path.display());
            Err(PlanError::new("linux.seccomp.listenerPath", problem))
        }
        (true, Some(path)) => Ok((profile, Some(Listener { path, metadata }))),
    }
}

fn profile(seccomp: &LinuxSeccomp) -> Result<Profile> {
    let default_action = seccomp.default_action();
    let default_errno = errno(seccomp.default_errno_ret(), "linux.seccomp.defaultErrnoRet")?;
    if default_errno.is_some() && !takes_errno(default_action) {
        let problem = format!("is given, and {default_action} has no errno to return");
        return Err(PlanError::new("linux.seccomp.defaultErrnoRet", problem));
    }
    let mut rules = Vec::new();
    for (index, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        add_rule(&mut rules, rule, &format!("linux.seccomp.syscalls[{index}]"))?;
    }
    let flags = seccomp.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => FLAG_TSYNC,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => FLAG_WAIT_KILLABLE_RECV,
            }
    });
    Ok(Profile {
        default: action(default_action, default_errno.unwrap_or(DEFAULT_ERRNO)),
        architectures: seccomp.architectures().iter().flatten().map(ToString::to_string).collect(),
        flags,
        rules,
    })
}

/// Several conditions on one argument are alternatives, each a rule of its own: so runc and crun have it, since libseccomp takes
/// one condition for each argument. Conditions on different arguments must hold together.
fn add_rule(rules: &mut Vec<Rule>, rule: &LinuxSyscall, field: &str) -> Result<()> {
    if rule.names().is_empty() {
        return Err(PlanError::new(format!("{field}.names"), "is empty; at least one system call is accepted"));
    }
    let own = errno(rule.errno_ret(), &format!("{field}.errnoRet"))?;
    if own.is_some() && !takes_errno(rule.action()) {
        let problem = format!("is given, and {} has no errno to return", rule.action());
        return Err(PlanError::new(format!("{field}.errnoRet"), problem));
    }
    let action = action(rule.action(), own.unwrap_or(DEFAULT_ERRNO));
    let compare: Vec<Compare> = rule.args().iter().flatten().map(|arg| compare(arg, field)).collect::<Result<_>>()?;
    let repeated = compare
        .iter()
        .enumerate()
        .any(|(index, one)| compare[..index].iter().any(|other| other.argument == one.argument));
    let with = |compare: Vec<Compare>| Rule { names: rule.names().clone(), action, compare };
    if repeated {
        rules.extend(compare.into_iter().map(|one| with(vec![one])));
    } else {
        rules.push(with(compare));
    }
    Ok(())
}

fn errno(value: Option<u32>, field: &str) -> Result<Option<u16>> {
    // linux/err.h, MAX_ERRNO: the kernel makes it of anything above.
    const MAX: u32 = 4095;
    match value {
        None => Ok(None),
        Some(value) => match u16::try_from(value) {
            Ok(number) if value <= MAX => Ok(Some(number)),
            _ => Err(PlanError::new(field, format!("{value} found, 0 to {MAX} accepted"))),
        },
    }
}

fn takes_errno(action: LinuxSeccompAction) -> bool {
    matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace)
}

fn action(action: LinuxSeccompAction, errno: u16) -> Action {
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Action::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActErrno => Action::Errno(errno),
        LinuxSeccompAction::ScmpActTrace => Action::Trace(errno),
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
        LinuxSeccompAction::ScmpActNotify => Action::Notify,
    }
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
