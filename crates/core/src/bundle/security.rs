//! Who a container's process is and what it may do.

use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxSeccomp, Process, User};

use super::error::ConfigError;
use super::{defaults, seccomp};
use crate::pod::spec::{Container, PodSpec, Seccomp, Security};

/// All of capabilities(7).
const ALL: [Capability; 41] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::AuditWrite,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::Syslog,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::WakeAlarm,
];

/// The container's user: its own setting, the pod's, the bundle's, in this order.
///
/// A `runAsUser` without a `runAsGroup` runs in group 0, as a user that the image's `/etc/passwd` does not know.
pub(super) fn user(pod: &PodSpec, container: &Container, bundle: &User) -> Result<User, ConfigError> {
    let chosen = container.security.run_as_user.or(pod.security.run_as_user);
    let group = container.security.run_as_group.or(pod.security.run_as_group);
    let uid = chosen.unwrap_or(bundle.uid());
    let own = uid == bundle.uid();
    if container.security.run_as_non_root.or(pod.security.run_as_non_root).unwrap_or(false) && uid == 0 {
        let name = container.name.clone();
        return Err(match chosen {
            Some(_) => ConfigError::NonRootContradicted { name },
            None => ConfigError::NonRootImage { name },
        });
    }
    let mut groups: Vec<u32> = bundle.additional_gids().clone().filter(|_| own).unwrap_or_default();
    for group in &pod.security.supplemental_groups {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    let mut user = User::default();
    user.set_uid(uid);
    user.set_gid(group.unwrap_or(if own { bundle.gid() } else { 0 }));
    user.set_umask(bundle.umask().or(Some(defaults::UMASK)));
    user.set_additional_gids(Some(groups).filter(|g| !g.is_empty()));
    Ok(user)
}

/// The bounding set: the bundle's or containerd's, changed by `capabilities.add` and `drop`; all if privileged.
pub(super) fn bounding(security: &Security, bundle: &Process) -> Capabilities {
    if security.privileged {
        return ALL.into();
    }
    let has = |list: &[String], name: &str| list.iter().any(|c| c == name);
    let named = |list: &[String]| list.iter().filter_map(|name| capability(name)).collect::<Vec<_>>();
    let given = bundle.capabilities().as_ref().and_then(|c| c.bounding().clone());
    let mut set = given.unwrap_or_else(|| defaults::CAPABILITIES.into());
    if has(&security.add_capabilities, "ALL") {
        set.extend(ALL);
    }
    if has(&security.drop_capabilities, "ALL") {
        set.clear();
    }
    set.extend(named(&security.add_capabilities));
    for dropped in named(&security.drop_capabilities) {
        set.remove(&dropped);
    }
    set
}

fn capability(name: &str) -> Option<Capability> {
    Capability::from_str(name.strip_prefix("CAP_").unwrap_or(name)).ok()
}

/// The sets for a process: a user other than root begins with none, and gains them only from files (capabilities(7)).
pub(super) fn sets(bounding: Capabilities, uid: u32) -> LinuxCapabilities {
    let held = if uid == 0 { bounding.clone() } else { Capabilities::new() };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(bounding));
    sets.set_effective(Some(held.clone()));
    sets.set_permitted(Some(held));
    // Kept empty: what is inheritable survives an execve of files that trust it (CVE-2022-24769).
    sets.set_inheritable(Some(Capabilities::new()));
    sets.set_ambient(Some(Capabilities::new()));
    sets
}

/// The seccomp filter: the container's setting, the pod's, the bundle's, in this order; none if privileged.
pub(super) fn filter(
    pod: &PodSpec,
    security: &Security,
    capabilities: &Capabilities,
    bundle: Option<LinuxSeccomp>,
) -> Result<Option<LinuxSeccomp>, ConfigError> {
    if security.privileged {
        return Ok(None);
    }
    match security.seccomp.or(pod.security.seccomp) {
        Some(Seccomp::RuntimeDefault) => seccomp::runtime_default(capabilities).map(Some),
        Some(Seccomp::Unconfined) => Ok(None),
        None => Ok(bundle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::CAPABILITIES;

    #[test]
    fn every_capability_that_a_manifest_may_name_is_known() {
        let named: Vec<Capability> = CAPABILITIES.iter().filter_map(|name| capability(name)).collect();
        assert_eq!(named.len(), CAPABILITIES.len());
        assert_eq!(named.into_iter().collect::<Capabilities>(), ALL.into());
    }
}
