//! The seccomp profile `RuntimeDefault`.
//!
//! `seccomp_default.json` is the data: system calls that a container may make, some only with, or without, a capability. All
//! others fail with EPERM; `clone3` fails with ENOSYS where its flags may not be trusted, since a filter cannot read them
//! and libraries then fall back to `clone`.

use oci_spec::runtime::{Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use serde::Deserialize;

use super::error::ConfigError;

const DATA: &str = include_str!("seccomp_default.json");
const EPERM: u32 = 1;

#[derive(Deserialize)]
struct Profile {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// Only for containers that have one of these.
    #[serde(default)]
    with: Vec<Capability>,
    /// Only for containers that have none of these.
    #[serde(default)]
    without: Vec<Capability>,
    /// Only on this architecture, in Rust's naming.
    arch: Option<String>,
    syscall: LinuxSyscall,
}

/// The profile for a container with these capabilities.
pub(super) fn runtime_default(capabilities: &Capabilities) -> Result<LinuxSeccomp, ConfigError> {
    let profile: Profile = serde_json::from_str(DATA).map_err(ConfigError::Seccomp)?;
    let holds = |rule: &Rule| {
        (rule.with.is_empty() || rule.with.iter().any(|c| capabilities.contains(c)))
            && !rule.without.iter().any(|c| capabilities.contains(c))
            && rule.arch.as_deref().is_none_or(|arch| arch == std::env::consts::ARCH)
    };
    let syscalls: Vec<LinuxSyscall> = profile.rules.into_iter().filter(holds).map(|rule| rule.syscall).collect();
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(architectures()))
        .set_syscalls(Some(syscalls));
    Ok(seccomp)
}

fn architectures() -> Vec<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        _ => vec![Arch::ScmpArchNative],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn allowed(capabilities: &[Capability]) -> BTreeSet<String> {
        let seccomp = runtime_default(&capabilities.iter().copied().collect()).unwrap();
        let syscalls = seccomp.syscalls().clone().unwrap();
        let allowed = syscalls.iter().filter(|s| s.action() == LinuxSeccompAction::ScmpActAllow);
        allowed.flat_map(|s| s.names().clone()).collect()
    }

    #[test]
    fn what_every_program_needs_is_allowed_and_what_breaks_out_is_not() {
        let plain = allowed(&[]);
        for name in ["read", "execve", "mmap", "futex", "clone", "socket", "personality", "exit_group", "openat2"] {
            assert!(plain.contains(name), "{name}");
        }
        for name in ["mount", "setns", "unshare", "bpf", "kexec_load", "init_module", "keyctl", "add_key", "reboot"] {
            assert!(!plain.contains(name), "{name}");
        }
        // What would use up the host past all limits of a pod.
        for name in ["request_key", "perf_event_open", "userfaultfd", "io_uring_setup", "fanotify_init"] {
            assert!(!plain.contains(name), "{name}");
        }
    }

    #[test]
    fn capabilities_open_what_belongs_to_them() {
        assert!(
            allowed(&[Capability::SysAdmin])
                .is_superset(&["mount", "setns", "unshare", "clone3"].map(str::to_owned).into())
        );
        assert!(allowed(&[Capability::SysTime]).contains("clock_settime"));
        assert!(allowed(&[Capability::SysChroot]).contains("chroot"));
        assert!(!allowed(&[]).contains("chroot"));
    }

    #[test]
    fn clone_without_sys_admin_makes_no_namespaces() {
        let find = |name: &str, capabilities: &[Capability]| {
            let seccomp = runtime_default(&capabilities.iter().copied().collect()).unwrap();
            let syscalls = seccomp.syscalls().clone().unwrap();
            syscalls.into_iter().filter(|s| s.names().iter().any(|n| n == name)).collect::<Vec<_>>()
        };
        let [clone] = &find("clone", &[])[..] else { panic!("one rule for clone") };
        assert_eq!(clone.args().as_ref().unwrap()[0].value(), 0x7e02_0000);
        let [clone3] = &find("clone3", &[])[..] else { panic!("one rule for clone3") };
        assert_eq!((clone3.action(), clone3.errno_ret()), (LinuxSeccompAction::ScmpActErrno, Some(38)));
        let [clone] = &find("clone", &[Capability::SysAdmin])[..] else { panic!("one rule for clone") };
        assert_eq!(clone.args(), &None);
    }
}
