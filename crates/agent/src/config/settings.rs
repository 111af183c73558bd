//! The fields of the configuration, each an optional value: as flags (clap), as keys of the file ([`KEYS`]), resolved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use podwright_core::api::DEFAULT_RUN_DIR;
use podwright_core::pod::spec::StartGate;

use super::values::{duration, size};
use super::{Config, Fixed, Live, LogFormat, OWN_RUNTIME};

/// What a file or the command line says; `None` where it is silent.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Settings {
    /// Directory that is watched for manifests [default: /etc/podwright/manifests]
    #[arg(long, value_name = "DIR")]
    pub manifest_dir: Option<PathBuf>,
    /// Directory for what survives a reboot [default: /var/lib/podwright]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory for sockets and what lives no longer than a boot [default: /run/podwright]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Directory for container logs [default: /var/log/pods]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Directory with an OCI bundle per image name [default: STATE_DIR/bundles]
    #[arg(long, value_name = "DIR")]
    pub bundle_dir: Option<PathBuf>,
    /// Directory in the cgroup v2 file system for all pods [default: podwright.slice below its mount, or the unit's own]
    #[arg(long, value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// File that holds the host's boot id [default: /proc/sys/kernel/random/boot_id]
    #[arg(long, value_name = "FILE")]
    pub boot_id_file: Option<PathBuf>,
    /// Name of this node in pods' status [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// error, warn, info, debug, trace or a tracing filter [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Start although cgroup v2 lacks the cpu, memory or pids controller; limits that need them are not applied
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub allow_missing_controllers: Option<bool>,
    /// The shim's binary [default: podwright-shim beside podwrightd]
    #[arg(long, value_name = "FILE")]
    pub shim: Option<PathBuf>,
    /// An OCI runtime, repeatable; `podwright` is podwright-oci beside podwrightd
    #[arg(long = "runtime", value_name = "NAME=PATH", value_parser = named_path)]
    pub runtimes: Vec<(String, PathBuf)>,
    /// The runtime that runs the pods [default: podwright]
    #[arg(long, value_name = "NAME")]
    pub default_runtime: Option<String>,
    /// Time between two full looks at the manifest directory, 15 times as long where watching it tells all [default: 20s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub file_check_frequency: Option<Duration>,
    /// First delay before a container that keeps ending is restarted [default: 10s]
    #[arg(long = "crash-loop-back-off-initial", value_name = "DURATION", value_parser = duration)]
    pub back_off_initial: Option<Duration>,
    /// Longest such delay [default: 300s]
    #[arg(long = "crash-loop-back-off-max", value_name = "DURATION", value_parser = duration)]
    pub back_off_max: Option<Duration>,
    /// When a sidecar lets the next container start: Ready or Started [default: Ready]
    #[arg(long, value_name = "GATE", value_parser = gate)]
    pub sidecar_start_gate: Option<StartGate>,
    /// Most processes and threads in a pod; 0: no limit [default: 0]
    #[arg(long, value_name = "N")]
    pub pod_pids_limit: Option<u64>,
    /// Container logs are rotated at this size [default: 10Mi]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub container_log_max_size: Option<u64>,
    /// Log files kept per container instance, the current one included [default: 5]
    #[arg(long, value_name = "N")]
    pub container_log_max_files: Option<u32>,
    /// How long an ended pod stays readable [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub retention_age: Option<Duration>,
    /// How many ended pods stay readable [default: 1000]
    #[arg(long, value_name = "N")]
    pub retention_pods: Option<usize>,
}

type Set = fn(&mut Settings, &str) -> Result<(), String>;

/// The keys of the file whose value is one scalar. `runtimes` is a map of its own.
pub(super) const KEYS: &[(&str, Set)] = &[
    ("manifestDir", |s, v| put(&mut s.manifest_dir, Ok(v.into()))),
    ("stateDir", |s, v| put(&mut s.state_dir, Ok(v.into()))),
    ("runDir", |s, v| put(&mut s.run_dir, Ok(v.into()))),
    ("logDir", |s, v| put(&mut s.log_dir, Ok(v.into()))),
    ("bundleDir", |s, v| put(&mut s.bundle_dir, Ok(v.into()))),
    ("cgroupRoot", |s, v| put(&mut s.cgroup_root, Ok(v.into()))),
    ("bootIdFile", |s, v| put(&mut s.boot_id_file, Ok(v.into()))),
    ("nodeName", |s, v| put(&mut s.node_name, Ok(v.to_owned()))),
    ("logFormat", |s, v| put(&mut s.log_format, LogFormat::from_str(v, false).map_err(|_| one_of(v, "text or json")))),
    ("logLevel", |s, v| put(&mut s.log_level, Ok(v.to_owned()))),
    ("allowMissingControllers", |s, v| {
        put(&mut s.allow_missing_controllers, v.parse().map_err(|_| one_of(v, "true or false")))
    }),
    ("shim", |s, v| put(&mut s.shim, Ok(v.into()))),
    ("defaultRuntime", |s, v| put(&mut s.default_runtime, Ok(v.to_owned()))),
    ("fileCheckFrequency", |s, v| put(&mut s.file_check_frequency, duration(v))),
    ("crashLoopBackOff.initial", |s, v| put(&mut s.back_off_initial, duration(v))),
    ("crashLoopBackOff.max", |s, v| put(&mut s.back_off_max, duration(v))),
    ("sidecarStartGate", |s, v| put(&mut s.sidecar_start_gate, gate(v))),
    ("podPidsLimit", |s, v| put(&mut s.pod_pids_limit, number(v))),
    ("containerLogMaxSize", |s, v| put(&mut s.container_log_max_size, size(v))),
    ("containerLogMaxFiles", |s, v| put(&mut s.container_log_max_files, number(v))),
    ("retention.age", |s, v| put(&mut s.retention_age, duration(v))),
    ("retention.pods", |s, v| put(&mut s.retention_pods, number(v))),
];

fn put<T>(slot: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    *slot = Some(value?);
    Ok(())
}

fn one_of(found: &str, accepted: &str) -> String {
    format!("{found:?} found, {accepted} accepted")
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| one_of(text, "a whole number from 0 on"))
}

fn gate(text: &str) -> Result<StartGate, String> {
    match text {
        "Ready" => Ok(StartGate::Ready),
        "Started" => Ok(StartGate::Started),
        _ => Err(one_of(text, "Ready or Started")),
    }
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err(one_of(text, "NAME=PATH")),
    }
}

impl Settings {
    /// `self` where `flags` is silent.
    pub(super) fn overlaid_by(self, flags: &Settings) -> Settings {
        let f = flags.clone();
        Settings {
            manifest_dir: f.manifest_dir.or(self.manifest_dir),
            state_dir: f.state_dir.or(self.state_dir),
            run_dir: f.run_dir.or(self.run_dir),
            log_dir: f.log_dir.or(self.log_dir),
            bundle_dir: f.bundle_dir.or(self.bundle_dir),
            cgroup_root: f.cgroup_root.or(self.cgroup_root),
            boot_id_file: f.boot_id_file.or(self.boot_id_file),
            node_name: f.node_name.or(self.node_name),
            log_format: f.log_format.or(self.log_format),
            log_level: f.log_level.or(self.log_level),
            allow_missing_controllers: f.allow_missing_controllers.or(self.allow_missing_controllers),
            shim: f.shim.or(self.shim),
            runtimes: self.runtimes.into_iter().chain(f.runtimes).collect(),
            default_runtime: f.default_runtime.or(self.default_runtime),
            file_check_frequency: f.file_check_frequency.or(self.file_check_frequency),
            back_off_initial: f.back_off_initial.or(self.back_off_initial),
            back_off_max: f.back_off_max.or(self.back_off_max),
            sidecar_start_gate: f.sidecar_start_gate.or(self.sidecar_start_gate),
            pod_pids_limit: f.pod_pids_limit.or(self.pod_pids_limit),
            container_log_max_size: f.container_log_max_size.or(self.container_log_max_size),
            container_log_max_files: f.container_log_max_files.or(self.container_log_max_files),
            retention_age: f.retention_age.or(self.retention_age),
            retention_pods: f.retention_pods.or(self.retention_pods),
        }
    }

    /// What cannot be used: the key, and why.
    pub(super) fn check(&self) -> Vec<(String, String)> {
        let config = self.clone().resolve();
        let mut problems = self.relative_paths();
        let mut problem = |key: &str, message: String| problems.push((key.to_owned(), message));
        let (fixed, live) = (&config.fixed, &config.live);
        if !is_node_name(&fixed.node_name) {
            let accepted = "at most 253 lower case letters, digits, '-' and '.'";
            problem("nodeName", format!("{:?} found; accepted: {accepted}", fixed.node_name));
        }
        if fixed.state_dir == fixed.run_dir {
            problem("runDir", "the same as stateDir; they have to differ, since a reboot empties runDir".to_owned());
        }
        if !fixed.runtimes.contains_key(&fixed.default_runtime) {
            let known: Vec<&str> = fixed.runtimes.keys().map(String::as_str).collect();
            problem(
                "defaultRuntime",
                format!("{:?} is none of runtimes ({})", fixed.default_runtime, known.join(", ")),
            );
        }
        for (key, zero) in [
            ("fileCheckFrequency", live.file_check_frequency.is_zero()),
            ("containerLogMaxSize", live.container_log_max_size == 0),
            ("containerLogMaxFiles", live.container_log_max_files == 0),
        ] {
            if zero {
                problem(key, "0 found, more than 0 accepted".to_owned());
            }
        }
        if let Err(error) = live.log_level.parse::<tracing_subscriber::EnvFilter>() {
            let level = &live.log_level;
            let accepted = "a level (error, warn, info, debug, trace)";
            problem("logLevel", format!("{level:?} is neither {accepted} nor a filter: {error}"));
        }
        problems
    }

    /// Paths that are given and not absolute. Programs are started in `/`, so theirs have to be absolute as well.
    fn relative_paths(&self) -> Vec<(String, String)> {
        let given = [
            ("manifestDir", &self.manifest_dir),
            ("stateDir", &self.state_dir),
            ("runDir", &self.run_dir),
            ("logDir", &self.log_dir),
            ("bundleDir", &self.bundle_dir),
            ("cgroupRoot", &self.cgroup_root),
            ("bootIdFile", &self.boot_id_file),
            ("shim", &self.shim),
        ];
        let given = given.into_iter().filter_map(|(key, path)| Some((key.to_owned(), path.as_ref()?)));
        given
            .chain(self.runtimes.iter().map(|(name, path)| (format!("runtimes.{name}"), path)))
            .filter(|(_, path)| !path.is_absolute())
            .map(|(key, path)| (key, format!("{:?} found, an absolute path accepted", path.display().to_string())))
            .collect()
    }

    /// With the defaults filled in.
    pub(super) fn resolve(self) -> Config {
        let state_dir = self.state_dir.unwrap_or_else(|| "/var/lib/podwright".into());
        let mut runtimes = BTreeMap::from([(OWN_RUNTIME.to_owned(), beside_us("podwright-oci"))]);
        runtimes.extend(self.runtimes);
        let fixed = Fixed {
            manifest_dir: self.manifest_dir.unwrap_or_else(|| "/etc/podwright/manifests".into()),
            run_dir: self.run_dir.unwrap_or_else(|| DEFAULT_RUN_DIR.into()),
            log_dir: self.log_dir.unwrap_or_else(|| "/var/log/pods".into()),
            bundle_dir: self.bundle_dir.unwrap_or_else(|| state_dir.join("bundles")),
            state_dir,
            cgroup_root: self.cgroup_root,
            boot_id_file: self.boot_id_file.unwrap_or_else(|| "/proc/sys/kernel/random/boot_id".into()),
            node_name: self.node_name.unwrap_or_else(host_name),
            log_format: self.log_format.unwrap_or_default(),
            allow_missing_controllers: self.allow_missing_controllers.unwrap_or(false),
            shim: self.shim.unwrap_or_else(|| beside_us("podwright-shim")),
            runtimes,
            default_runtime: self.default_runtime.unwrap_or_else(|| OWN_RUNTIME.to_owned()),
        };
        let live = Live {
            log_level: self.log_level.unwrap_or_else(|| "info".to_owned()),
            file_check_frequency: self.file_check_frequency.unwrap_or(Duration::from_secs(20)),
            back_off_initial: self.back_off_initial.unwrap_or(Duration::from_secs(10)),
            back_off_max: self.back_off_max.unwrap_or(Duration::from_secs(300)),
            sidecar_start_gate: self.sidecar_start_gate.unwrap_or(StartGate::Ready),
            pod_pids_limit: self.pod_pids_limit.filter(|n| *n > 0),
            container_log_max_size: self.container_log_max_size.unwrap_or(10 << 20),
            container_log_max_files: self.container_log_max_files.unwrap_or(5),
            retention_age: self.retention_age.unwrap_or(Duration::from_secs(7 * 86_400)),
            retention_pods: self.retention_pods.unwrap_or(1000),
        };
        Config { fixed, live }
    }
}

/// An RFC 1123 subdomain, roughly: what can stand in a pod's `spec.nodeName`.
fn is_node_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    (1..=253).contains(&name.len()) && name.chars().all(legal)
}

/// The file of that name in the directory of this program.
fn beside_us(name: &str) -> PathBuf {
    let us = std::env::current_exe().unwrap_or_default();
    us.parent().unwrap_or(Path::new("/usr/bin")).join(name)
}

fn host_name() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = text.trim();
    // The kernel takes names that no DNS would.
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    if name.is_empty() { "localhost".to_owned() } else { name.chars().map(legal).collect() }
}
