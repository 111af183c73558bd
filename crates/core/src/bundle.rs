//! A pod's container laid over its bundle's `config.json` -> the OCI spec to run.
//!
//! The result is what the kubelet and containerd would hand to a runtime, with two differences. The sandbox's namespaces
//! (net, ipc, uts) are inherited, so they do not appear. And a bundle knows more than an image: its rlimits, extra mounts,
//! annotations, hooks, capabilities, and seccomp filter are kept where the pod does not speak of them.

mod context;
mod defaults;
mod error;
mod expand;
mod files;
mod mounts;
mod node;
mod seccomp;
mod security;

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    Linux, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxNamespace, LinuxNamespaceType,
    LinuxResources, Process, Root, Spec,
};

use crate::pod::resources::{CPU_PERIOD, cpu_quota, cpu_weight, oom_score_adj, shares};
use crate::pod::spec::{Container, EnvVar, PodSpec};

pub use context::Context;
pub use defaults::SHM_BYTES;
pub use error::{ConfigError, ENTRYPOINT_LENGTH};
use expand::Expanded;
pub use expand::{LONGEST_ARGUMENT, MOST_ARGUMENTS, TooLong, Wrong, check_container, probe_command};
pub use files::{hosts, node_hosts};
pub use node::{LIMIT_COUNT, NodeFacts, NodeLimits};

/// Version of the runtime spec that is written: nothing newer is used, and crun before 1.9 (Debian 12) takes only 1.0.x.
const OCI_VERSION: &str = "1.0.2";

/// The spec of container `index` of the pod.
///
/// # Errors
/// [`ConfigError`]: what the pod wants cannot be.
pub fn container_spec(pod: &PodSpec, index: usize, context: &Context) -> Result<Spec, ConfigError> {
    let container = pod.containers.get(index).ok_or(ConfigError::NoContainer { index })?;
    let mut spec = context.bundle.clone();
    let process = process(pod, index, container, context)?;
    let mut root = Root::default();
    let bundle_read_only = context.bundle.root().as_ref().and_then(Root::readonly).unwrap_or(false);
    root.set_path(context.rootfs.clone());
    root.set_readonly(Some(container.security.read_only_root || bundle_read_only));
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_linux(Some(linux(pod, container, context)?))
        .set_process(Some(process))
        .set_mounts(Some(mounts::all(container, context)?))
        // The UTS namespace is the sandbox's, which has set it.
        .set_hostname(None)
        .set_domainname(None)
        .set_annotations(Some(annotations(pod, container, context)));
    Ok(spec)
}

fn process(pod: &PodSpec, index: usize, container: &Container, context: &Context) -> Result<Process, ConfigError> {
    let bundle = context.bundle.process().clone().unwrap_or_else(empty_process);
    let security = &container.security;
    let user = security::user(pod, container, bundle.user())?;
    let too_long = |source| ConfigError::TooLong { name: container.name.clone(), source };
    let expanded = expand::container(container).map_err(too_long)?;
    let cwd = match container.working_dir.as_ref().map(PathBuf::from).unwrap_or_else(|| bundle.cwd().clone()) {
        cwd if cwd.is_absolute() => cwd,
        _ => PathBuf::from("/"),
    };
    let env = environment(&bundle, &context.hostname, &expanded.env);
    let args = args(container, &bundle, context, expanded)?;
    expand::check(&args, &env).map_err(too_long)?;
    let mut process = bundle.clone();
    process
        .set_terminal(Some(false))
        .set_console_size(None)
        .set_args(Some(args))
        .set_env(Some(env))
        .set_cwd(cwd)
        .set_capabilities(Some(security::sets(security::bounding(security, &bundle), user.uid())))
        .set_user(user)
        .set_rlimits(Some(defaults::limits(bundle.rlimits().as_deref().unwrap_or_default(), &context.node)))
        .set_oom_score_adj(Some(oom_score_adj(pod, index, context.node.memory).max(context.node.lowest_oom_score_adj)));
    let escalation = security.allow_privilege_escalation.map(|allowed| !allowed);
    process
        .set_no_new_privileges(Some(escalation.or(bundle.no_new_privileges()).unwrap_or(defaults::NO_NEW_PRIVILEGES)));
    if security.privileged {
        process.set_no_new_privileges(Some(false)).set_apparmor_profile(None);
    }
    Ok(process)
}

/// For a bundle that has only a root file system. `Process::default` is a shell with a terminal's environment.
fn empty_process() -> Process {
    let mut process = Process::default();
    process.set_args(None).set_env(None).set_capabilities(None).set_rlimits(None).set_no_new_privileges(None);
    process
}

/// `command` replaces all of the bundle's args; `args` alone replace those after its entrypoint.
fn args(
    container: &Container,
    bundle: &Process,
    context: &Context,
    expanded: Expanded,
) -> Result<Vec<String>, ConfigError> {
    let own = bundle.args().as_deref().unwrap_or_default();
    let mut args = match (container.command.is_empty(), container.args.is_empty()) {
        (false, _) => expanded.command,
        (true, true) => own.to_vec(),
        (true, false) => own.get(..entrypoint_length(own.len(), context)?).unwrap_or_default().to_vec(),
    };
    args.extend(expanded.args);
    if args.is_empty() {
        return Err(ConfigError::NoCommand { name: container.name.clone() });
    }
    Ok(args)
}

fn entrypoint_length(args: usize, context: &Context) -> Result<usize, ConfigError> {
    let annotations = context.bundle.annotations().as_ref();
    let Some(text) = annotations.and_then(|a| a.get(ENTRYPOINT_LENGTH)) else { return Ok(args) };
    let length = text.parse().ok().filter(|length| *length <= args);
    length.ok_or_else(|| ConfigError::EntrypointLength { found: text.clone(), args })
}

/// The bundle's variables, `HOSTNAME`, the container's; a later one takes the place of an earlier one.
fn environment(bundle: &Process, hostname: &str, variables: &[EnvVar]) -> Vec<String> {
    let mut env: Vec<String> = bundle.env().clone().unwrap_or_default();
    let mut set = |variable: String| {
        let name = variable.split('=').next().unwrap_or_default();
        match env.iter_mut().find(|other| other.split('=').next() == Some(name)) {
            Some(other) => *other = variable,
            None => env.push(variable),
        }
    };
    set(format!("HOSTNAME={hostname}"));
    for EnvVar { name, value } in variables {
        set(format!("{name}={value}"));
    }
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.insert(0, defaults::PATH.to_owned());
    }
    env
}

fn linux(pod: &PodSpec, container: &Container, context: &Context) -> Result<Linux, ConfigError> {
    let bundle = context.bundle.linux().clone();
    let security = &container.security;
    let owned = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>();
    let empty = empty_process();
    let capabilities = security::bounding(security, context.bundle.process().as_ref().unwrap_or(&empty));
    let seccomp = bundle.as_ref().and_then(|linux| linux.seccomp().clone());
    let mut linux = bundle.clone().unwrap_or_default();
    linux
        .set_namespaces(Some(namespaces(pod)))
        .set_uid_mappings(None)
        .set_gid_mappings(None)
        .set_net_devices(None)
        .set_cgroups_path(Some(context.cgroups_path.clone()))
        .set_resources(Some(resources(container, &context.node)))
        .set_seccomp(security::filter(pod, security, &capabilities, seccomp)?);
    if security.privileged {
        linux.set_masked_paths(None).set_readonly_paths(None).set_devices(Some(context.host_devices.clone()));
    } else {
        let masked = bundle.as_ref().and_then(|linux| linux.masked_paths().clone());
        let read_only = bundle.as_ref().and_then(|linux| linux.readonly_paths().clone());
        linux
            .set_masked_paths(Some(
                masked.unwrap_or_else(|| [owned(&defaults::MASKED), context.sensors.clone()].concat()),
            ))
            .set_readonly_paths(Some(read_only.unwrap_or_else(|| owned(&defaults::READ_ONLY))));
    }
    Ok(linux)
}

/// New ones for each container; net, ipc and uts are inherited from the sandbox.
fn namespaces(pod: &PodSpec) -> Vec<LinuxNamespace> {
    let pid = Some(LinuxNamespaceType::Pid).filter(|_| !pod.host_pid);
    let kinds = pid.into_iter().chain([LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup]);
    kinds
        .map(|kind| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace
        })
        .collect()
}

fn resources(container: &Container, node: &NodeFacts) -> LinuxResources {
    let mut resources = LinuxResources::default();
    let mut unified = HashMap::new();
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(container.security.privileged).set_typ(Some(LinuxDeviceType::A)).set_access(Some("rwm".to_owned()));
    resources.set_devices(Some(vec![rule]));
    if node.cpu_controller {
        let shares = shares(container.resources.cpu_request.unwrap_or(0));
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(Some(shares));
        if let Some(milli) = container.resources.cpu_limit.filter(|milli| *milli > 0) {
            cpu.set_quota(i64::try_from(cpu_quota(milli)).ok()).set_period(Some(CPU_PERIOD));
        }
        resources.set_cpu(Some(cpu));
        // Runtimes differ in how they turn shares into a weight; this one is the same with all of them.
        unified.insert("cpu.weight".to_owned(), cpu_weight(shares).to_string());
    }
    if node.memory_controller {
        if let Some(limit) = container.resources.memory_limit.filter(|bytes| *bytes > 0) {
            let mut memory = LinuxMemory::default();
            memory.set_limit(i64::try_from(limit).ok());
            resources.set_memory(Some(memory));
            if node.swap_controller {
                // A container over its limit is to be killed, not to swap; as the kubelet does by default.
                unified.insert("memory.swap.max".to_owned(), "0".to_owned());
            }
        }
        // What is out of memory goes as a whole: half a container is worse than none.
        unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    resources.set_unified(Some(unified).filter(|unified| !unified.is_empty()));
    resources
}

/// The bundle's, and whose container it is, under the keys that CRI runtimes use.
fn annotations(pod: &PodSpec, container: &Container, context: &Context) -> HashMap<String, String> {
    let mut annotations = context.bundle.annotations().clone().unwrap_or_default();
    for (key, value) in [
        ("io.kubernetes.cri.container-name", &container.name),
        ("io.kubernetes.cri.image-name", &container.image),
        ("io.kubernetes.cri.sandbox-name", &pod.name),
        ("io.kubernetes.cri.sandbox-namespace", &pod.namespace),
        ("io.kubernetes.cri.sandbox-uid", &pod.uid),
    ] {
        annotations.insert(key.to_owned(), value.clone());
    }
    annotations
}

#[cfg(test)]
mod tests;
