//! A pod as the rest of podwright sees it: accepted, defaulted, every field resolved.
//!
//! Made by [`crate::manifest`] from a `v1` Pod; what podwright does not do has no place here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An accepted pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSpec {
    /// `metadata.namespace`, `default` if absent.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Derived from identity and content (see `manifest::uid`).
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.restartPolicy`, default `Always`.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`, default 30 s.
    pub grace: Duration,
    /// `spec.activeDeadlineSeconds`.
    pub active_deadline: Option<Duration>,
    /// The annotation `podwright.dev/sidecar-start-gate`; `None`: the node's setting.
    pub start_gate: Option<StartGate>,
    /// `spec.readinessGates`: conditions without which the pod is not ready, whatever its containers are.
    pub readiness_gates: Vec<String>,
    /// `spec.hostname`, default the pod's name.
    pub hostname: String,
    /// `spec.runtimeClassName`: a name of the node's `runtimes`; `None`: its default.
    pub runtime_class: Option<String>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `spec.hostPID`.
    pub host_pid: bool,
    /// `spec.hostIPC`.
    pub host_ipc: bool,
    /// `spec.securityContext`.
    pub security: PodSecurity,
    /// `spec.volumes`.
    pub volumes: Vec<Volume>,
    /// `spec.initContainers` in order, then `spec.containers` in order; [`Container::role`] tells them apart.
    pub containers: Vec<Container>,
}

/// Pod-level `restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Restart whatever ended.
    Always,
    /// Restart what failed.
    OnFailure,
    /// Restart nothing.
    Never,
}

/// When a sidecar lets the next container start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartGate {
    /// Once it has started (its startup probe has succeeded, if it has one).
    Started,
    /// Once it has started and its readiness probe, if it has one, has succeeded once.
    Ready,
}

/// What a container is to its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Entry of `initContainers` without `restartPolicy: Always`: runs to completion before what follows.
    Init,
    /// Entry of `initContainers` with `restartPolicy: Always` (KEP-753).
    Sidecar,
    /// Entry of `containers`.
    Main,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Unique in the pod.
    pub name: String,
    /// What it is to its pod.
    pub role: Role,
    /// A bundle's name.
    pub image: String,
    /// `imagePullPolicy`.
    pub pull_policy: PullPolicy,
    /// Replaces the image's entrypoint; empty: the image's.
    pub command: Vec<String>,
    /// Replaces the image's arguments; `$(VAR)` not yet expanded.
    pub args: Vec<String>,
    /// `workingDir`.
    pub working_dir: Option<String>,
    /// `env` in order; `$(VAR)` not yet expanded.
    pub env: Vec<EnvVar>,
    /// `ports`.
    pub ports: Vec<Port>,
    /// `resources`.
    pub resources: Resources,
    /// `volumeMounts`.
    pub mounts: Vec<VolumeMount>,
    /// `startupProbe`.
    pub startup_probe: Option<Probe>,
    /// `readinessProbe`.
    pub readiness_probe: Option<Probe>,
    /// `livenessProbe`.
    pub liveness_probe: Option<Probe>,
    /// `lifecycle`.
    pub lifecycle: Lifecycle,
    /// The container's own `restartPolicy`; `None`: the pod's. (What makes a sidecar is in [`Container::role`].)
    pub restart_policy: Option<RestartPolicy>,
    /// `restartPolicyRules`, of which the first that matches decides (KEP-5307).
    pub restart_rules: Vec<RestartRule>,
    /// `terminationMessagePath`, absolute.
    pub message_path: String,
    /// `terminationMessagePolicy`.
    pub message_policy: MessagePolicy,
    /// `securityContext`.
    pub security: Security,
}

/// `lifecycle`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// `postStart`.
    pub post_start: Option<Hook>,
    /// `preStop`.
    pub pre_stop: Option<Hook>,
    /// `stopSignal`, a number; `None`: the image's, else SIGTERM.
    pub stop_signal: Option<i32>,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    /// `exec`.
    Exec {
        /// `$(VAR)` not yet expanded.
        command: Vec<String>,
    },
    /// `httpGet`: any answer is success.
    HttpGet(HttpGet),
    /// `sleep`.
    Sleep(Duration),
    /// `tcpSocket`: accepted, as by the API, and fails when it is run.
    TcpSocket,
}

/// An entry of `restartPolicyRules`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRule {
    /// `action`.
    pub action: RestartAction,
    /// `exitCodes.operator` is `NotIn`.
    pub not_in: bool,
    /// `exitCodes.values`.
    pub values: Vec<i32>,
}

/// What follows when a [`RestartRule`] matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartAction {
    /// The container is restarted.
    Restart,
    /// All containers of the pod are, from the first init (KEP-5532).
    RestartAllContainers,
}

impl RestartRule {
    /// Whether it speaks of this exit code.
    pub fn matches(&self, code: i32) -> bool {
        self.values.contains(&code) != self.not_in
    }
}

/// `terminationMessagePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessagePolicy {
    /// What the file holds.
    File,
    /// The end of the log, when the container failed and the file is empty.
    FallbackToLogsOnError,
}

/// `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Always pull.
    Always,
    /// Pull what is not there.
    IfNotPresent,
    /// Use only what is there.
    Never,
}

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// `name`.
    pub name: String,
    /// `value`, default empty.
    pub value: String,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// `name`; probes may refer to it.
    pub name: Option<String>,
    /// `containerPort`.
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// Requests and limits; a request defaults to the limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_request: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu_limit: Option<u64>,
    /// Bytes.
    pub memory_request: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// `name`.
    pub name: String,
    /// What it is.
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// `emptyDir`.
    EmptyDir {
        /// `medium: Memory`.
        memory: bool,
        /// `sizeLimit`, bytes.
        size_limit: Option<u64>,
    },
    /// `hostPath`.
    HostPath {
        /// Absolute.
        path: String,
        /// `type`.
        kind: HostPathType,
    },
}

/// `hostPath.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum HostPathType {
    Unset,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// The volume's name.
    pub name: String,
    /// Absolute.
    pub path: String,
    /// `readOnly`.
    pub read_only: bool,
    /// `subPath`, relative and without `..`.
    pub sub_path: Option<String>,
}

/// A probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is tried.
    pub action: ProbeAction,
    /// `initialDelaySeconds`.
    pub initial_delay: Duration,
    /// `periodSeconds`, default 10 s.
    pub period: Duration,
    /// `timeoutSeconds`, default 1 s.
    pub timeout: Duration,
    /// `successThreshold`, default 1.
    pub success_threshold: u32,
    /// `failureThreshold`, default 3.
    pub failure_threshold: u32,
    /// `terminationGracePeriodSeconds` of the probe.
    pub grace: Option<Duration>,
}

/// What a probe tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeAction {
    /// `exec`.
    Exec {
        /// `$(VAR)` not yet expanded.
        command: Vec<String>,
    },
    /// `httpGet`.
    HttpGet(HttpGet),
    /// `tcpSocket`.
    TcpSocket {
        /// `None`: the pod's address.
        host: Option<String>,
        /// A number, resolved from a port's name.
        port: u16,
    },
    /// `grpc`: `Check` of the service `grpc.health.v1.Health`, at the pod's address.
    Grpc {
        /// A number.
        port: u16,
        /// Whose health is asked for; empty: the whole server's.
        service: String,
    },
}

/// `httpGet` of a probe or hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpGet {
    /// `http` or `https`.
    pub scheme: String,
    /// `None`: the pod's address.
    pub host: Option<String>,
    /// A number, resolved from a port's name.
    pub port: u16,
    /// With its query string.
    pub path: String,
    /// In order, repeated names allowed.
    pub headers: Vec<(String, String)>,
}

/// Pod-level `securityContext`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSecurity {
    /// `runAsUser`.
    pub run_as_user: Option<u32>,
    /// `runAsGroup`.
    pub run_as_group: Option<u32>,
    /// `runAsNonRoot`.
    pub run_as_non_root: Option<bool>,
    /// `supplementalGroups`.
    pub supplemental_groups: Vec<u32>,
    /// `seccompProfile`.
    pub seccomp: Option<Seccomp>,
}

/// Container-level `securityContext`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// `runAsUser`.
    pub run_as_user: Option<u32>,
    /// `runAsGroup`.
    pub run_as_group: Option<u32>,
    /// `runAsNonRoot`.
    pub run_as_non_root: Option<bool>,
    /// `privileged`.
    pub privileged: bool,
    /// `allowPrivilegeEscalation`; `None`: the kernel's default, allowed.
    pub allow_privilege_escalation: Option<bool>,
    /// `readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// `capabilities.add`, with `CAP_`, or `ALL`.
    pub add_capabilities: Vec<String>,
    /// `capabilities.drop`, with `CAP_`, or `ALL`.
    pub drop_capabilities: Vec<String>,
    /// `seccompProfile`.
    pub seccomp: Option<Seccomp>,
}

/// `seccompProfile.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// podwright's own profile.
    RuntimeDefault,
    /// None.
    Unconfined,
}

/// Quality of service class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Qos {
    /// Limits equal requests for cpu and memory in every container.
    Guaranteed,
    /// Something in between.
    Burstable,
    /// No request and no limit anywhere.
    BestEffort,
}
