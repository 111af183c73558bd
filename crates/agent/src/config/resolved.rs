//! The configuration as the agent goes by it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use podwright_core::pod::spec::StartGate;

/// The OCI runtime that is always there.
pub const OWN_RUNTIME: &str = "podwright";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people and journald.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The resolved configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What cannot change while the agent runs.
    pub fixed: Fixed,
    /// What can.
    pub live: Live,
}

/// Settings that hold from start to end of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// `manifestDir`: watched for manifests.
    pub manifest_dir: PathBuf,
    /// `stateDir`: what survives a reboot.
    pub state_dir: PathBuf,
    /// `runDir`: what does not.
    pub run_dir: PathBuf,
    /// `logDir`: container logs.
    pub log_dir: PathBuf,
    /// `bundleDir`: OCI bundles by image name.
    pub bundle_dir: PathBuf,
    /// `cgroupRoot`: absolute, in the cgroup v2 file system; `None`: found at start.
    pub cgroup_root: Option<PathBuf>,
    /// `bootIdFile`.
    pub boot_id_file: PathBuf,
    /// `nodeName`.
    pub node_name: String,
    /// `logFormat`.
    pub log_format: LogFormat,
    /// `allowMissingControllers`.
    pub allow_missing_controllers: bool,
    /// `shim`: the shim's binary.
    pub shim: PathBuf,
    /// `runtimes`: OCI runtimes by name.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// `defaultRuntime`: a key of `runtimes`.
    pub default_runtime: String,
}

/// Settings that SIGHUP can change.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// `logLevel`: a level or a filter of tracing-subscriber's `EnvFilter`.
    pub log_level: String,
    /// `fileCheckFrequency`: time between two full looks at the manifest directory.
    pub file_check_frequency: Duration,
    /// `crashLoopBackOff.initial`.
    pub back_off_initial: Duration,
    /// `crashLoopBackOff.max`.
    pub back_off_max: Duration,
    /// `sidecarStartGate`.
    pub sidecar_start_gate: StartGate,
    /// `podPidsLimit`: processes and threads of a pod; `None`: no limit of podwright's own.
    pub pod_pids_limit: Option<u64>,
    /// `containerLogMaxSize`, bytes.
    pub container_log_max_size: u64,
    /// `containerLogMaxFiles`, the current one included.
    pub container_log_max_files: u32,
    /// `retention.age`: how long an ended pod stays readable.
    pub retention_age: Duration,
    /// `retention.pods`: how many ended pods stay readable.
    pub retention_pods: usize,
}
