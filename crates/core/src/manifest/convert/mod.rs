//! A pod of the right form -> [`PodSpec`], with what the form cannot say checked as the API server does.
//!
//! Where a value is wrong, a placeholder takes its place so that the check goes on and finds the other problems; the result
//! then is thrown away.

pub(super) mod container;
mod cron;
mod job;
mod lifecycle;
mod probe;
mod restart;
mod volume;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::names;
use super::problem::{At, Problems, shown};
use super::suggest::nearest;
use crate::cron::spec::CronSpec;
use crate::job::spec::JobSpec;
use crate::pod::spec::{Container, PodSecurity, PodSpec, RestartPolicy, Role, Seccomp, StartGate};

/// Annotations with this prefix are podwright's own.
const OWN_PREFIX: &str = "podwright.dev/";
/// Chooses, for one pod, when a sidecar lets the next container start.
const START_GATE: &str = "podwright.dev/sidecar-start-gate";
/// Those of a pod.
const POD_ANNOTATIONS: &[&str] = &[START_GATE];
/// Of all annotations of an object, in bytes; the API server's limit.
const MOST_ANNOTATIONS: usize = 256 * 1024;

/// Makes the accepted job, all but its UID.
pub(super) fn job(at: &At<'_>, problems: &mut Problems) -> JobSpec {
    job::job(at, problems)
}

/// Makes the accepted cron job, all but its UID.
pub(super) fn cron_job(at: &At<'_>, problems: &mut Problems) -> Option<CronSpec> {
    cron::cron_job(at, problems)
}

/// Makes the accepted pod, all but its UID.
pub(super) fn pod(at: &At<'_>, problems: &mut Problems) -> PodSpec {
    let metadata = at.get("metadata").unwrap_or_else(|| at.clone());
    let spec = at.get("spec").unwrap_or_else(|| at.clone());
    let name = named(&metadata, "name", names::subdomain, problems);
    let namespace = namespace(&metadata, problems);
    spec_of(&metadata, &spec, (namespace, name), problems)
}

fn namespace(metadata: &At<'_>, problems: &mut Problems) -> String {
    match metadata.get("namespace") {
        Some(_) => named(metadata, "namespace", names::label, problems),
        None => "default".to_owned(),
    }
}

/// A `v1` PodSpec, of a pod or of the template of a job.
fn spec_of(metadata: &At<'_>, spec: &At<'_>, (namespace, name): (String, String), problems: &mut Problems) -> PodSpec {
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

/// A required name; the form's check has reported an absent one.
fn named(at: &At<'_>, key: &str, check: impl Fn(&str) -> Result<(), &'static str>, problems: &mut Problems) -> String {
    let Some(field) = at.get(key) else { return String::new() };
    let name = field.node.as_str().unwrap_or_default();
    if let (Some(_), Err(accepted)) = (field.node.as_str(), check(name)) {
        problems.at(&field, format!("found {}, {accepted}", shown(name)));
    }
    name.to_owned()
}

/// A duration in seconds.
fn seconds(at: &At<'_>, key: &str) -> Option<Duration> {
    at.int(key).and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs)
}

/// The pod's name, cut as kubelet cuts it.
fn default_hostname(name: &str) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn labels(metadata: &At<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(labels) = metadata.get("labels") else { return BTreeMap::new() };
    for (key, value) in labels.fields() {
        if let Err(accepted) = names::label_key(key) {
            problems.at(&value, format!("found the key {}, {accepted}", shown(key)));
        }
        let text = value.node.as_str().unwrap_or_default();
        if let Err(accepted) = names::label_value(text) {
            problems.at(&value, format!("found {}, {accepted}", shown(text)));
        }
    }
    strings(&labels)
}

/// `known` are those of podwright's own that the kind of object has.
fn annotations(metadata: &At<'_>, known: &[&str], problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(annotations) = metadata.get("annotations") else { return BTreeMap::new() };
    for (key, value) in annotations.fields() {
        if let Err(accepted) = names::annotation_key(key) {
            problems.at(&value, format!("found the key {}, {accepted}", shown(key)));
        }
        if key.starts_with(OWN_PREFIX) && !known.contains(&key) {
            let hint = nearest(key, known.iter().copied()).map(|k| format!("; did you mean \"{k}\"?"));
            let accepted = if known.is_empty() { "none here".to_owned() } else { known.join(", ") };
            let message = format!("unknown annotation of podwright; accepted: {accepted}{}", hint.unwrap_or_default());
            problems.at(&value, message);
        }
    }
    let all = strings(&annotations);
    let size: usize = all.iter().map(|(k, v)| k.len() + v.len()).sum();
    if size > MOST_ANNOTATIONS {
        problems.at(&annotations, format!("{size} bytes, accepted: at most {MOST_ANNOTATIONS} in all"));
    }
    all
}

fn strings(at: &At<'_>) -> BTreeMap<String, String> {
    at.fields().map(|(k, v)| (k.to_owned(), v.node.as_str().unwrap_or_default().to_owned())).collect()
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

/// A user's or group's number.
fn id(at: &At<'_>, key: &str) -> Option<u32> {
    at.int(key).and_then(|id| u32::try_from(id).ok())
}

fn seccomp(at: &At<'_>) -> Option<Seccomp> {
    match at.get("seccompProfile")?.str("type")? {
        "RuntimeDefault" => Some(Seccomp::RuntimeDefault),
        "Unconfined" => Some(Seccomp::Unconfined),
        _ => None,
    }
}

fn containers(spec: &At<'_>, host_network: bool, grace: Duration, problems: &mut Problems) -> Vec<Container> {
    let volumes = spec.items("volumes");
    let facts = container::PodFacts {
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
