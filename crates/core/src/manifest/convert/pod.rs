//! A `v1` Pod or PodSpec.

use std::collections::HashMap;
use std::time::Duration;

use super::super::names;
use super::super::problem::{At, Problems};
use super::super::quote::shown;
use super::facts::PodFacts;
use super::fields::{annotations, id, labels, named, namespace, seccomp, seconds};
use super::{container, volume};
use crate::pod::spec::{Container, PodSecurity, PodSpec, RestartPolicy, Role, StartGate};

/// Chooses, for one pod, when a sidecar lets the next container start.
const START_GATE: &str = "podwright.dev/sidecar-start-gate";
/// Those of a pod.
const POD_ANNOTATIONS: &[&str] = &[START_GATE];

/// Makes the accepted pod, all but its UID.
pub(in crate::manifest) fn pod(at: &At<'_>, problems: &mut Problems) -> PodSpec {
    let metadata = at.get("metadata").unwrap_or_else(|| at.clone());
    let spec = at.get("spec").unwrap_or_else(|| at.clone());
    let name = named(&metadata, "name", names::subdomain, problems);
    let namespace = namespace(&metadata, problems);
    spec_of(&metadata, &spec, (namespace, name), problems)
}

/// A `v1` PodSpec, of a pod or of the template of a job.
pub(super) fn spec_of(
    metadata: &At<'_>,
    spec: &At<'_>,
    (namespace, name): (String, String),
    problems: &mut Problems,
) -> PodSpec {
    let hostname = match spec.get("hostname") {
        Some(_) => named(spec, "hostname", names::label, problems),
        None => default_hostname(&name),
    };
    let volumes = volume::volumes(spec, problems);
    let host_network = spec.bool("hostNetwork").unwrap_or(false);
    let grace = seconds(spec, "terminationGracePeriodSeconds").unwrap_or(Duration::from_secs(30));
    PodSpec {
        labels: labels(metadata, problems),
        annotations: annotations(metadata, POD_ANNOTATIONS, problems),
        start_gate: start_gate(metadata, problems),
        restart_policy: match spec.str("restartPolicy") {
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some("Never") => RestartPolicy::Never,
            _ => RestartPolicy::Always,
        },
        grace,
        active_deadline: seconds(spec, "activeDeadlineSeconds"),
        host_network,
        host_pid: spec.bool("hostPID").unwrap_or(false),
        runtime_class: spec.str("runtimeClassName").map(str::to_owned),
        host_ipc: spec.bool("hostIPC").unwrap_or(false),
        security: pod_security(spec),
        readiness_gates: readiness_gates(spec, problems),
        containers: containers(spec, host_network, grace, problems),
        volumes,
        hostname,
        namespace,
        name,
        uid: String::new(),
    }
}

fn readiness_gates(spec: &At<'_>, problems: &mut Problems) -> Vec<String> {
    spec.items("readinessGates").iter().map(|gate| named(gate, "conditionType", names::label_key, problems)).collect()
}

/// The pod's name, cut as kubelet cuts it.
fn default_hostname(name: &str) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn start_gate(metadata: &At<'_>, problems: &mut Problems) -> Option<StartGate> {
    let gate = metadata.get("annotations")?.get(START_GATE)?;
    match gate.node.as_str()? {
        "Started" => Some(StartGate::Started),
        "Ready" => Some(StartGate::Ready),
        other => {
            problems.at(&gate, format!("found {}, accepted: Started, Ready", shown(other)));
            None
        }
    }
}

fn pod_security(spec: &At<'_>) -> PodSecurity {
    let Some(at) = spec.get("securityContext") else { return PodSecurity::default() };
    PodSecurity {
        run_as_user: id(&at, "runAsUser"),
        run_as_group: id(&at, "runAsGroup"),
        run_as_non_root: at.bool("runAsNonRoot"),
        supplemental_groups: at
            .items("supplementalGroups")
            .iter()
            .filter_map(|group| group.node.as_int().and_then(|id| u32::try_from(id).ok()))
            .collect(),
        seccomp: seccomp(&at),
    }
}

fn containers(spec: &At<'_>, host_network: bool, grace: Duration, problems: &mut Problems) -> Vec<Container> {
    let volumes = spec.items("volumes");
    let facts = PodFacts {
        host_network,
        volumes: volumes.iter().filter_map(|v| v.str("name")).collect(),
        grace,
        names_os: spec.get("os").is_some(),
    };
    let mains = spec.items("containers");
    if mains.is_empty()
        && let Some(list) = spec.get("containers").filter(|list| list.node.is_seq())
    {
        problems.at(&list, "found empty list, accepted: one container or more");
    }
    let inits = spec.items("initContainers").into_iter().map(|at| {
        let role = if at.str("restartPolicy") == Some("Always") { Role::Sidecar } else { Role::Init };
        (at, role)
    });
    let all: Vec<(At<'_>, Role)> = inits.chain(mains.into_iter().map(|at| (at, Role::Main))).collect();
    let mut first: HashMap<&str, &str> = HashMap::new();
    for (at, _) in &all {
        let Some(name) = at.get("name") else { continue };
        let Some(text) = name.node.as_str() else { continue };
        if let Some(other) = first.get(text) {
            problems.at(&name, format!("{} is the name of {other} already; names are unique in a pod", shown(text)));
        } else {
            first.insert(text, &at.path);
        }
    }
    let mut made = Vec::with_capacity(all.len());
    for (at, role) in &all {
        if problems.is_full() {
            break;
        }
        made.push(container::container(at, *role, &facts, problems));
    }
    if host_network {
        container::check_host_ports(&all, problems);
    }
    made
}
