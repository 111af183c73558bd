//! Prepares the start of one instance: bundle -> OCI spec -> what the shim is asked. Blocking; run beside the worker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};
use podwright_core::bundle::{self, ConfigError};
use podwright_core::manifest::PodDocument;
use podwright_core::pod::spec::{Container, MessagePolicy, PodSpec, PullPolicy, Volume, VolumeSource};
use podwright_core::signal;
use podwright_image::{Bundle, LookupError};
use podwright_proto::{InstanceId, MessageRequest, Origin, PodMount, StartRequest};
use podwright_sys::cgroup::Cgroup;
use podwright_sys::error::chain;
use podwright_sys::file;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{files, records, volumes};
use crate::aside::NoAnswer;
use crate::context::Context;
use crate::paths::PodPaths;

/// How much a container may write to its termination message's file, bytes; the last 4 KiB of it are taken.
const MESSAGE_BYTES: u64 = 64 << 10;

/// What is to be started.
pub struct Wanted {
    /// Everybody's.
    pub ctx: Arc<Context>,
    /// The pod.
    pub document: Arc<PodDocument>,
    /// Its directories.
    pub paths: PodPaths,
    /// Its cgroup.
    pub pod_cgroup: Cgroup,
    /// Index of the container.
    pub container: usize,
    /// The attempt.
    pub attempt: u32,
    /// The back-off after its end.
    pub restart_delay: Duration,
    /// The attempts of this container that are still known. Older ones leave nothing on disk.
    pub known: BTreeSet<u32>,
}

/// Why there will be no instance: the container's waiting reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// `ErrImagePull`, `CreateContainerConfigError`, …
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What the shim is asked.
///
/// # Errors
/// Why it is not.
pub async fn request(wanted: Wanted) -> Result<Box<StartRequest>, Refused> {
    let found = find(&wanted).await?;
    let prepared = tokio::task::spawn_blocking(move || prepare(&wanted, found).map(Box::new)).await;
    prepared.unwrap_or_else(|error| Err(Refused { reason: "CreateContainerError", message: error.to_string() }))
}

/// What a start needs of where users and administrators put it.
struct Found {
    runtime: PathBuf,
    bundle: Bundle,
    fingerprint: String,
}

/// Looks for what a container is made of. Whatever does not answer is an error, after a while.
///
/// # Errors
/// What is wrong with the image, the runtime or a volume.
async fn find(wanted: &Wanted) -> Result<Found, Refused> {
    let Wanted { ctx, document, .. } = wanted;
    let container = container(wanted)?;
    let asides = &ctx.asides;
    let silent = |reason| move |error: NoAnswer| Refused { reason, message: error.to_string() };
    let (runtime, name) = runtime(ctx, document.spec.runtime_class.as_deref())?;
    let known = runtime.clone();
    let runtime = asides.bundles.look(&known, move || canonical(&name, &runtime)).await;
    let runtime = runtime.map_err(silent(ConfigError::REASON))??;
    let (bundles, name, policy) = (ctx.bundles.clone(), container.image.clone(), container.pull_policy);
    let place = ctx.fixed.bundle_dir.join(&container.image);
    let looked = asides.bundles.look(&place, move || {
        let bundle = bundles.lookup(&name).map_err(|error| image(&error, policy))?;
        let fingerprint = fingerprint(&bundle);
        Ok((bundle, fingerprint))
    });
    let (bundle, fingerprint) = looked.await.map_err(silent("ErrImagePull"))??;
    let volumes = volumes::host_paths_answer(&document.spec, container, &asides.host_paths).await;
    volumes.map_err(|error| Refused { reason: "CreateContainerError", message: chain(&error) })?;
    Ok(Found { runtime, bundle, fingerprint })
}

fn container(wanted: &Wanted) -> Result<&Container, Refused> {
    let found = wanted.document.spec.containers.get(wanted.container);
    found.ok_or_else(|| config(&ConfigError::NoContainer { index: wanted.container }))
}

/// Makes the request.
///
/// # Errors
/// What is wrong with the configuration.
fn prepare(wanted: &Wanted, found: Found) -> Result<StartRequest, Refused> {
    let Wanted { ctx, document, paths, pod_cgroup, attempt, .. } = wanted;
    let (pod, container) = (&document.spec, container(wanted)?);
    let Found { runtime, bundle, fingerprint } = found;
    let cgroup = pod_cgroup.child(&container.name);
    let stop_signal = stop_signal(container, &bundle)?;
    if !paths.files().is_dir() {
        // A sandbox that an older agent has made.
        files::make(ctx, pod, paths)
            .map_err(|error| Refused { reason: "CreateContainerError", message: chain(&error) })?;
    }
    let (mounts, sub_paths) = mounts(pod, container, paths, &bundle, *attempt);
    let context = context(wanted, container, bundle, &cgroup, sub_paths);
    let spec = bundle::container_spec(pod, wanted.container, &context).map_err(|error| config(&error))?;
    let log = paths.container_log(&container.name, *attempt);
    let io = |error: io::Error| Refused { reason: "CreateContainerError", message: error.to_string() };
    if let Some(directory) = log.parent() {
        let (root, below, _) = file::parts_of_log(&log).ok_or_else(|| io(io::ErrorKind::InvalidInput.into()))?;
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(root);
        made.and_then(|()| Ok(file::make_directory(root, below, Mode::from_bits_truncate(0o755))?)).map_err(
            |error| io(io::Error::new(error.kind(), format!("cannot make {}: {error}", directory.display()))),
        )?;
        records::forget_old(&paths.records().join(&container.name), directory, &wanted.known);
    }
    let live = ctx.live.borrow();
    Ok(StartRequest {
        id: InstanceId { container: container.name.clone(), attempt: *attempt },
        restart_delay_ms: u64::try_from(wanted.restart_delay.as_millis()).unwrap_or(u64::MAX),
        runtime,
        mounts,
        config: serde_json::to_value(&spec).map_err(|error| io(error.into()))?,
        cgroup: cgroup.path().to_owned(),
        log,
        stop_signal: Some(stop_signal),
        message: Some(MessageRequest {
            file: paths.message(&container.name),
            fallback_to_log: container.message_policy == MessagePolicy::FallbackToLogsOnError,
            bound: Some(MESSAGE_BYTES),
        }),
        log_max_bytes: live.container_log_max_size,
        log_max_files: live.container_log_max_files,
        origin: Some(Origin { agent: env!("CARGO_PKG_VERSION").to_owned(), image: fingerprint }),
    })
}

/// The annotation that says an image's `STOPSIGNAL` (image-spec, "Conversion to OCI Runtime Configuration").
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// The container's own, else the image's, else SIGTERM.
fn stop_signal(container: &Container, bundle: &Bundle) -> Result<i32, Refused> {
    if let Some(signal) = container.lifecycle.stop_signal {
        return Ok(signal);
    }
    let Some(text) = bundle.config.annotations().as_ref().and_then(|a| a.get(STOP_SIGNAL)) else {
        return Ok(signal::SIGTERM);
    };
    signal::of_image(text).ok_or_else(|| Refused {
        reason: ConfigError::REASON,
        message: format!(
            "image {}: annotation {STOP_SIGNAL}: found {text:?}, accepted: a signal of Linux, as in SIGQUIT or 3",
            container.image
        ),
    })
}

/// Where the pod's runtime is, and what it is called.
fn runtime(ctx: &Context, class: Option<&str>) -> Result<(PathBuf, String), Refused> {
    let fixed = &ctx.fixed;
    let name = class.unwrap_or(&fixed.default_runtime);
    let path = fixed.runtimes.get(name).ok_or_else(|| {
        let known: Vec<&str> = fixed.runtimes.keys().map(String::as_str).collect();
        let message = format!(
            "spec.runtimeClassName: this node has no runtime {name:?}; it has: {}. Add one to `runtimes` in the configuration",
            known.join(", ")
        );
        Refused { reason: ConfigError::REASON, message }
    })?;
    Ok((path.clone(), name.to_owned()))
}

/// A runtime's path, absolute and without links: the shim has another working directory.
fn canonical(name: &str, path: &Path) -> Result<PathBuf, Refused> {
    fs::canonicalize(path).map_err(|error| Refused {
        reason: ConfigError::REASON,
        message: format!("runtime {name:?} ({}): {error}", path.display()),
    })
}

/// Changes when a bundle's configuration does, when its root file system is another directory, and when an entry of that
/// directory itself comes or goes. What is written further below does not show: that would take reading all of it.
fn fingerprint(bundle: &Bundle) -> String {
    let mut hash = Sha256::new();
    hash.update(in_order(&bundle.config).to_string());
    if let Ok(stat) = fs::metadata(&bundle.rootfs) {
        let parts = [stat.dev(), stat.ino(), stat.mtime().cast_unsigned(), stat.mtime_nsec().cast_unsigned()];
        parts.iter().for_each(|part| hash.update(part.to_le_bytes()));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The configuration with its maps and sets in order: in memory that is another one each time it is read.
fn in_order(config: &oci_spec::runtime::Spec) -> Value {
    let mut config = serde_json::to_value(config).unwrap_or_default();
    let capabilities = config.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for set in capabilities.into_iter().flatten().filter_map(|(_, set)| set.as_array_mut()) {
        set.sort_by_key(Value::to_string);
    }
    config
}

fn image(error: &LookupError, policy: PullPolicy) -> Refused {
    let reason = match (error, policy) {
        (LookupError::InvalidName { .. }, _) => "InvalidImageName",
        (LookupError::NotFound { .. }, PullPolicy::Never) => "ErrImageNeverPull",
        (LookupError::NotFound { .. }, PullPolicy::Always | PullPolicy::IfNotPresent) => "ErrImagePull",
        (LookupError::Broken { .. }, _) => "ImageInspectError",
    };
    Refused { reason, message: chain(error) }
}

fn config(error: &ConfigError) -> Refused {
    Refused { reason: ConfigError::REASON, message: chain(error) }
}

fn context(
    wanted: &Wanted,
    container: &Container,
    bundle: Bundle,
    cgroup: &Cgroup,
    sub_paths: BTreeMap<usize, PathBuf>,
) -> bundle::Context {
    let Wanted { ctx, document, paths, .. } = wanted;
    let pod = &document.spec;
    // Never the host's own files: what a container writes to them stays in the pod.
    let existing = |path: PathBuf| path.is_file().then_some(path);
    bundle::Context {
        bundle: bundle.config,
        rootfs: paths.root(&container.name),
        volumes: pod.volumes.iter().map(|v| (v.name.clone(), volumes::path(v, paths))).collect(),
        sub_paths,
        cgroups_path: Path::new("/").join(cgroup.path().strip_prefix(&ctx.cgroup_mount).unwrap_or(cgroup.path())),
        node: ctx.node,
        hostname: if pod.host_network { ctx.host_name.clone() } else { pod.hostname.clone() },
        hosts: existing(paths.hosts()),
        hostname_file: existing(paths.hostname()),
        resolv_conf: existing(paths.resolv_conf()),
        message: Some(paths.message(&container.name)),
        shm: Some(if pod.host_ipc { "/dev/shm".into() } else { paths.shm() }),
        sensors: sensors(Path::new("/sys/devices/system/cpu")),
        host_devices: if container.security.privileged { devices(Path::new("/dev")) } else { Vec::new() },
    }
}

/// Mounts in the shim's namespace, and the `subPath`s among them by index of the volume mount.
fn mounts(
    pod: &PodSpec,
    container: &Container,
    paths: &PodPaths,
    bundle: &Bundle,
    attempt: u32,
) -> (Vec<PodMount>, BTreeMap<usize, PathBuf>) {
    let volume = |name: &str| -> Option<&Volume> { pod.volumes.iter().find(|v| v.name == name) };
    let mut mounts = Vec::new();
    if !pod.host_ipc {
        mounts.push(PodMount::Tmpfs { target: paths.shm(), size: Some(bundle::SHM_BYTES) });
    }
    for mounted in container.mounts.iter().filter_map(|m| volume(&m.name)) {
        if let VolumeSource::EmptyDir { memory: true, size_limit } = mounted.source {
            let tmpfs = PodMount::Tmpfs { target: volumes::path(mounted, paths), size: size_limit };
            if !mounts.contains(&tmpfs) {
                mounts.push(tmpfs);
            }
        }
    }
    let mut sub_paths = BTreeMap::new();
    for (index, mount) in container.mounts.iter().enumerate() {
        let (Some(path), Some(volume)) = (&mount.sub_path, volume(&mount.name)) else { continue };
        let target = paths.subpath(&container.name, index);
        mounts.push(PodMount::Subpath {
            volume: volumes::path(volume, paths),
            path: path.into(),
            target: target.clone(),
        });
        sub_paths.insert(index, target);
    }
    mounts.push(PodMount::Overlay {
        lower: bundle.rootfs.clone(),
        layer: paths.layer(&container.name, attempt),
        target: paths.root(&container.name),
    });
    (mounts, sub_paths)
}

/// Counters of the processors' heat, by which others can be watched; only some processors have them.
fn sensors(cpus: &Path) -> Vec<String> {
    let names = fs::read_dir(cpus).into_iter().flatten().flatten().map(|entry| entry.path().join("thermal_throttle"));
    let mut found: Vec<String> =
        names.filter(|path| path.is_dir()).filter_map(|path| path.to_str().map(str::to_owned)).collect();
    found.sort();
    found
}

/// Levels of directories below `/dev` that are looked at: a container that has it as a volume may nest more.
const DEVICE_LEVELS: usize = 8;

/// The node's devices below a directory, without what each container has of its own. What disappears meanwhile is left out.
fn devices(directory: &Path) -> Vec<LinuxDevice> {
    let mut found = Vec::new();
    let mut pending = vec![(directory.to_owned(), 1)];
    while let Some((directory, level)) = pending.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(stat) = entry.metadata() else { continue };
            if stat.is_dir() {
                if level < DEVICE_LEVELS && !["pts", "shm", "mqueue", "fd"].iter().any(|own| name == *own) {
                    pending.push((path, level + 1));
                }
            } else if name != "console" {
                found.extend(device(&path, &stat));
            }
        }
    }
    found
}

fn device(path: &Path, stat: &fs::Metadata) -> Option<LinuxDevice> {
    let kind = match stat.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    let builder = LinuxDeviceBuilder::default()
        .path(path)
        .typ(kind)
        .major(i64::try_from(nix::sys::stat::major(stat.rdev())).ok()?)
        .minor(i64::try_from(nix::sys::stat::minor(stat.rdev())).ok()?)
        .file_mode(stat.mode() & 0o7777)
        .uid(stat.uid())
        .gid(stat.gid());
    builder.build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_core::manifest::{Format, parse};

    #[test]
    fn mounts_come_before_what_needs_them_and_tmpfs_once() {
        let text =
            "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: i, volumeMounts: [
            {name: m, mountPath: /m}, {name: m, mountPath: /n, subPath: sub}, {name: d, mountPath: /d}]}],
            volumes: [{name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}, {name: d, emptyDir: {}}]}}";
        let document = parse(text, Format::Yaml).unwrap().remove(0);
        let paths = PodPaths { state: "/s".into(), run: "/r".into(), log: "/l".into() };
        let bundle = Bundle { config: oci_spec::runtime::Spec::default(), rootfs: "/b/rootfs".into() };
        let (mounts, sub_paths) = mounts(&document.spec, &document.spec.containers[0], &paths, &bundle, 3);
        let shown: Vec<String> = mounts
            .iter()
            .map(|m| match m {
                PodMount::Tmpfs { target, size } => format!("tmpfs {} {size:?}", target.display()),
                PodMount::Subpath { volume, path, .. } => format!("subpath {} {}", volume.display(), path.display()),
                PodMount::Overlay { lower, layer, target } => {
                    format!("overlay {} {} {}", lower.display(), layer.display(), target.display())
                }
            })
            .collect();
        assert_eq!(
            shown,
            [
                "tmpfs /r/shm Some(67108864)",
                "tmpfs /r/volumes/m Some(1048576)",
                "subpath /r/volumes/m sub",
                "overlay /b/rootfs /s/layers/a/3 /r/roots/a"
            ]
        );
        assert_eq!(sub_paths.keys().collect::<Vec<_>>(), [&1]);
    }

    #[test]
    fn another_bundle_has_another_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("rootfs");
        fs::create_dir(&rootfs).unwrap();
        let bundle = Bundle { config: oci_spec::runtime::Spec::default(), rootfs: rootfs.clone() };
        let first = fingerprint(&bundle);
        assert_eq!((first.len(), &first), (16, &fingerprint(&bundle)));
        fs::write(rootfs.join("new"), "").unwrap();
        let second = fingerprint(&bundle);
        assert_ne!(first, second);
        let config: oci_spec::runtime::Spec = serde_json::from_str(r#"{"ociVersion": "1.2.0"}"#).unwrap();
        assert_ne!(second, fingerprint(&Bundle { config, rootfs }));
    }

    #[test]
    fn a_bundle_that_is_read_again_has_the_same_fingerprint() {
        let sets = r#"["CAP_KILL", "CAP_CHOWN", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID", "CAP_MKNOD"]"#;
        let text = format!(
            r#"{{"ociVersion": "1.2.0", "annotations": {{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5", "f": "6"}},
                 "process": {{"user": {{"uid": 0, "gid": 0}}, "cwd": "/", "capabilities": {{"bounding": {sets}, "effective": {sets}}}}},
                 "linux": {{"sysctl": {{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5", "f": "6"}}}}}}"#
        );
        let read = || Bundle { config: serde_json::from_str(&text).unwrap(), rootfs: "/proc/nowhere".into() };
        let first = fingerprint(&read());
        assert!((0..20).all(|_| fingerprint(&read()) == first));
    }

    #[test]
    fn the_nodes_devices_are_listed() {
        let null = devices(Path::new("/dev")).into_iter().find(|d| d.path() == Path::new("/dev/null")).unwrap();
        assert_eq!((null.typ(), null.major(), null.minor()), (LinuxDeviceType::C, 1, 3));
    }
}
