//! Containers.

use std::collections::HashMap;

use super::super::names;
use super::super::problem::{At, Problems};
use super::super::quantity::QuantityError;
use super::super::quote::shown;
use super::super::schema::LATER;
use super::super::suggest::nearest;
use super::facts::PodFacts;
use super::fields::{id, named, seccomp};
use super::volume::{amount, bytes, mounts};
use super::{lifecycle, probe, restart};
use crate::bundle::check_container;
use crate::pod::spec::{Container, EnvVar, MessagePolicy, Port, PullPolicy, Resources, Role, Security};

/// One container.
pub(super) fn container(at: &At<'_>, role: Role, pod: &PodFacts<'_>, problems: &mut Problems) -> Container {
    let image = at.str("image").unwrap_or_default();
    if let Some(field) = at.get("image")
        && field.node.as_str().is_some()
        && (image.is_empty() || image.trim() != image)
    {
        problems.at(&field, format!("found {}, accepted: the name of a bundle", shown(image)));
    }
    let working_dir = at.str("workingDir").filter(|dir| !dir.is_empty()).map(str::to_owned);
    if let (Some(field), Some(dir)) = (at.get("workingDir"), &working_dir)
        && !dir.starts_with('/')
    {
        problems.at(&field, format!("found {}, accepted: an absolute path", shown(dir)));
    }
    let ports = ports(at, pod.host_network, problems);
    let container = Container {
        name: named(at, "name", names::label, problems),
        role,
        image: image.to_owned(),
        pull_policy: match at.str("imagePullPolicy") {
            Some("Always") => PullPolicy::Always,
            Some("Never") => PullPolicy::Never,
            Some(_) => PullPolicy::IfNotPresent,
            None => default_pull_policy(image),
        },
        command: at.strings("command"),
        args: at.strings("args"),
        working_dir,
        env: env(at, problems),
        resources: resources(at, problems),
        mounts: mounts(at, &pod.volumes, problems),
        startup_probe: probe::probe(at, "startupProbe", role, &ports, problems),
        readiness_probe: probe::probe(at, "readinessProbe", role, &ports, problems),
        liveness_probe: probe::probe(at, "livenessProbe", role, &ports, problems),
        lifecycle: lifecycle::lifecycle(at, role, &ports, pod, problems),
        restart_policy: restart::policy(at, role),
        restart_rules: restart::rules(at, problems),
        message_path: message_path(at, problems),
        message_policy: match at.str("terminationMessagePolicy") {
            Some("FallbackToLogsOnError") => MessagePolicy::FallbackToLogsOnError,
            _ => MessagePolicy::File,
        },
        security: security(at, problems),
        ports,
    };
    if let Err(error) = check_container(&container) {
        let (line, path) = at.reach(&error.field);
        problems.push(line, path, format!("container {}: {}", container.name, error.wrong));
    }
    container
}

/// `Always` for an image without a tag or with the tag `latest`, as the API server defaults it.
pub(in crate::manifest) fn default_pull_policy(image: &str) -> PullPolicy {
    if image.contains('@') {
        return PullPolicy::IfNotPresent;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None | Some((_, "latest")) => PullPolicy::Always,
        Some(_) => PullPolicy::IfNotPresent,
    }
}

/// Where a container leaves its last words unless it says otherwise; kubelet's default.
pub(in crate::manifest) const MESSAGE_PATH: &str = "/dev/termination-log";

fn message_path(at: &At<'_>, problems: &mut Problems) -> String {
    let Some(field) = at.get("terminationMessagePath") else { return MESSAGE_PATH.to_owned() };
    let path = field.node.as_str().unwrap_or_default();
    let names = path.split('/').filter(|part| !matches!(*part, "" | "."));
    if path.is_empty() {
        return MESSAGE_PATH.to_owned();
    }
    if !path.starts_with('/')
        || path.ends_with('/')
        || names.clone().next().is_none()
        || names.clone().any(|n| n == "..")
    {
        problems.at(&field, format!("found {}, accepted: the absolute path of a file, without ..", shown(path)));
    }
    path.to_owned()
}

fn env(at: &At<'_>, problems: &mut Problems) -> Vec<EnvVar> {
    let variable = |at: &At<'_>| EnvVar {
        name: named(at, "name", names::env, problems),
        value: at.str("value").unwrap_or_default().to_owned(),
    };
    at.items("env").iter().map(variable).collect()
}

fn ports(at: &At<'_>, host_network: bool, problems: &mut Problems) -> Vec<Port> {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut made = Vec::new();
    for port in at.items("ports") {
        let container_port = port.int("containerPort").and_then(|p| u16::try_from(p).ok()).unwrap_or(0);
        if let Some(field) = port.get("hostPort") {
            let same = field.node.as_int() == Some(i64::from(container_port));
            if !host_network {
                problems.at(&field, format!("{LATER}; remove it, or use hostNetwork"));
            } else if field.node.as_int().is_some() && !same {
                problems.at(&field, format!("with hostNetwork, accepted: containerPort's value, {container_port}"));
            }
        }
        let name = port.get("name").map(|field| {
            let name = named(&port, "name", names::port, problems);
            if let Some(other) = seen.insert(name.clone(), port.path.clone()) {
                problems.at(&field, format!("{} is the name of {other} already", shown(&name)));
            }
            name
        });
        let protocol = port.str("protocol").unwrap_or("TCP").to_owned();
        made.push(Port { name, container_port, protocol });
    }
    made
}

/// With the node's network two containers that run at the same time cannot listen on one port.
pub(super) fn check_host_ports(all: &[(At<'_>, Role)], problems: &mut Problems) {
    let mut seen: HashMap<(i64, String), String> = HashMap::new();
    for (at, _) in all.iter().filter(|(_, role)| *role != Role::Init) {
        for port in at.items("ports") {
            let Some(number) = port.int("containerPort") else { continue };
            let protocol = port.str("protocol").unwrap_or("TCP").to_owned();
            if let Some(other) = seen.insert((number, protocol), port.path.clone()) {
                problems.at(&port, format!("with hostNetwork, port {number} is taken by {other} already"));
            }
        }
    }
}

fn resources(at: &At<'_>, problems: &mut Problems) -> Resources {
    let Some(at) = at.get("resources") else { return Resources::default() };
    let mut cpu = |list: &str| {
        let list = at.get(list)?;
        amount::<QuantityError>(&list, "cpu", problems, |quantity| quantity.thousandths())
    };
    let (cpu_request, cpu_limit) = (cpu("requests"), cpu("limits"));
    let mut memory = |list: &str| at.get(list).and_then(|list| bytes(&list, "memory", problems));
    let (memory_request, memory_limit) = (memory("requests"), memory("limits"));
    for (name, request, limit) in [("cpu", cpu_request, cpu_limit), ("memory", memory_request, memory_limit)] {
        let (Some(request), Some(limit)) = (request, limit) else { continue };
        if let Some(field) = at.get("requests").and_then(|r| r.get(name)).filter(|_| request > limit) {
            let limit = at.get("limits").and_then(|l| l.get(name)).map(|l| l.node.describe()).unwrap_or_default();
            problems.at(&field, format!("found {}, accepted: at most the limit, {limit}", field.node.describe()));
        }
    }
    Resources {
        cpu_request: cpu_request.or(cpu_limit),
        cpu_limit,
        memory_request: memory_request.or(memory_limit),
        memory_limit,
    }
}

fn security(at: &At<'_>, problems: &mut Problems) -> Security {
    let Some(at) = at.get("securityContext") else { return Security::default() };
    let capabilities = at.get("capabilities");
    let mut list = |key: &str| capabilities.as_ref().map(|c| capability_list(c, key, problems)).unwrap_or_default();
    let (add_capabilities, drop_capabilities) = (list("add"), list("drop"));
    let security = Security {
        run_as_user: id(&at, "runAsUser"),
        run_as_group: id(&at, "runAsGroup"),
        run_as_non_root: at.bool("runAsNonRoot"),
        privileged: at.bool("privileged").unwrap_or(false),
        allow_privilege_escalation: at.bool("allowPrivilegeEscalation"),
        read_only_root: at.bool("readOnlyRootFilesystem").unwrap_or(false),
        add_capabilities,
        drop_capabilities,
        seccomp: seccomp(&at),
    };
    if let Some(field) =
        at.get("allowPrivilegeEscalation").filter(|_| security.allow_privilege_escalation == Some(false))
    {
        let admin = security.add_capabilities.iter().any(|c| c == "CAP_SYS_ADMIN");
        if security.privileged || admin {
            let other = if security.privileged { "privileged: true" } else { "the capability SYS_ADMIN" };
            problems.at(&field, format!("found false together with {other}; accepted: one of them"));
        }
    }
    security
}

fn capability_list(at: &At<'_>, key: &str, problems: &mut Problems) -> Vec<String> {
    let mut made = Vec::new();
    for item in at.items(key) {
        let Some(text) = item.node.as_str() else { continue };
        let name = text.to_uppercase();
        let short = name.strip_prefix("CAP_").unwrap_or(&name);
        if short == "ALL" && name == short {
            made.push(name);
        } else if CAPABILITIES.contains(&short) {
            made.push(format!("CAP_{short}"));
        } else {
            let hint = nearest(short, CAPABILITIES.iter().copied()).map(|c| format!("; did you mean \"{c}\"?"));
            let hint = hint.unwrap_or_default();
            problems.at(
                &item,
                format!("found {}, accepted: ALL or a Linux capability, as in NET_ADMIN{hint}", shown(text)),
            );
        }
    }
    made
}

/// capabilities(7), without `CAP_`.
pub(crate) const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
