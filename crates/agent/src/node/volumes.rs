//! A pod's volumes on the host: `emptyDir` directories and the checks of `hostPath`.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use podwright_core::pod::spec::{Container, HostPathType, PodSpec, Volume, VolumeSource};
use podwright_sys::tree::{self, Usage};

use crate::aside::{Aside, NoAnswer};
use crate::paths::PodPaths;

/// A volume that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file operation failed.
    #[error("volume {volume:?}: {} cannot be made", path.display())]
    Make {
        /// Its name.
        volume: String,
        /// What was to be made.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is on the host does not answer.
    #[error("volume {volume:?}: {error}")]
    NoAnswer {
        /// Its name.
        volume: String,
        /// Which path, and since when.
        error: NoAnswer,
    },
    /// What is on the host is not what the volume asks for.
    #[error("volume {volume:?}: hostPath {path} {found}, and its type is {wanted:?}")]
    HostPath {
        /// Its name.
        volume: String,
        /// On the host.
        path: String,
        /// What there is, as a predicate: `does not exist`, `is a directory`.
        found: String,
        /// The type asked for.
        wanted: HostPathType,
    },
}

/// Where a volume is on the host; one in memory only exists in the shim's mount namespace.
pub fn path(volume: &Volume, paths: &PodPaths) -> PathBuf {
    match &volume.source {
        VolumeSource::EmptyDir { memory: true, .. } => paths.tmpfs(&volume.name),
        VolumeSource::EmptyDir { memory: false, .. } => paths.volumes().join(&volume.name),
        VolumeSource::HostPath { path, .. } => path.into(),
    }
}

/// Makes the volumes of the pod's own that are on disk. What exists already is kept.
///
/// # Errors
/// The first volume that cannot be had.
pub fn make(spec: &PodSpec, paths: &PodPaths) -> Result<(), VolumeError> {
    for volume in &spec.volumes {
        match &volume.source {
            VolumeSource::EmptyDir { memory: true, .. } => {}
            VolumeSource::EmptyDir { memory: false, .. } => {
                let path = path(volume, paths);
                let open_to_all = fs::Permissions::from_mode(0o777);
                fs::create_dir_all(&path)
                    .and_then(|()| fs::set_permissions(&path, open_to_all))
                    .map_err(|source| VolumeError::Make { volume: volume.name.clone(), path, source })?;
            }
            VolumeSource::HostPath { .. } => {}
        }
    }
    Ok(())
}

/// Checks the volumes of the host, and makes those that are to be made. One that does not answer is an error as well.
///
/// # Errors
/// The first volume that cannot be had.
pub async fn check_host_paths(spec: &PodSpec, place: &Aside) -> Result<(), VolumeError> {
    for volume in &spec.volumes {
        if let VolumeSource::HostPath { path, kind } = &volume.source {
            let (name, at, kind) = (volume.name.clone(), path.clone(), *kind);
            let checked = place.look(Path::new(path), move || host_path(&name, &at, kind)).await;
            checked.map_err(|error| VolumeError::NoAnswer { volume: volume.name.clone(), error })??;
        }
    }
    Ok(())
}

/// Whether the volumes of the host that a container mounts answer. Its mounts are made by a process that could not be stopped.
///
/// # Errors
/// The first one that does not.
pub async fn host_paths_answer(spec: &PodSpec, container: &Container, place: &Aside) -> Result<(), VolumeError> {
    for mount in &container.mounts {
        let Some(volume) = spec.volumes.iter().find(|v| v.name == mount.name) else { continue };
        if let VolumeSource::HostPath { path, .. } = &volume.source {
            let at = match &mount.sub_path {
                Some(below) => Path::new(path).join(below),
                None => path.into(),
            };
            // What is there, and whether anything is, is found out by whoever mounts it.
            let looked = at.clone();
            let answer = place.look(&at, move || drop(fs::symlink_metadata(looked))).await;
            answer.map_err(|error| VolumeError::NoAnswer { volume: volume.name.clone(), error })?;
        }
    }
    Ok(())
}

fn host_path(volume: &str, path: &str, wanted: HostPathType) -> Result<(), VolumeError> {
    let make = |made: io::Result<()>| {
        made.map_err(|source| VolumeError::Make { volume: volume.to_owned(), path: path.into(), source })
    };
    let found = match fs::metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match wanted {
                // Without a type, what is absent becomes a directory, as with containerd.
                HostPathType::DirectoryOrCreate | HostPathType::Unset => make(make_directories(Path::new(path))),
                HostPathType::FileOrCreate => make(make_file(Path::new(path))),
                HostPathType::Directory
                | HostPathType::File
                | HostPathType::Socket
                | HostPathType::CharDevice
                | HostPathType::BlockDevice => Err(mismatch(volume, path, "does not exist", wanted)),
            };
        }
        Err(error) => return Err(mismatch(volume, path, &format!("cannot be looked at ({error})"), wanted)),
    };
    let fits = match wanted {
        HostPathType::Unset => true,
        HostPathType::DirectoryOrCreate | HostPathType::Directory => found.is_dir(),
        HostPathType::FileOrCreate | HostPathType::File => found.is_file(),
        HostPathType::Socket => found.is_socket(),
        HostPathType::CharDevice => found.is_char_device(),
        HostPathType::BlockDevice => found.is_block_device(),
    };
    if fits { Ok(()) } else { Err(mismatch(volume, path, kind_of(found), wanted)) }
}

/// Makes a directory, and those above it that are missing, with mode 0755 whatever the umask is.
fn make_directories(path: &Path) -> io::Result<()> {
    // From the outside in: a path of a manifest may have thousands of parts.
    let above: Vec<&Path> = path.ancestors().collect();
    for directory in above.into_iter().rev().filter(|directory| !directory.as_os_str().is_empty()) {
        match fs::create_dir(directory) {
            Ok(()) => fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?,
            Err(_) if directory.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes an empty file with mode 0644 whatever the umask is.
fn make_file(path: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file.set_permissions(fs::Permissions::from_mode(0o644)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn mismatch(volume: &str, path: &str, found: &str, wanted: HostPathType) -> VolumeError {
    VolumeError::HostPath { volume: volume.to_owned(), path: path.to_owned(), found: found.to_owned(), wanted }
}

fn kind_of(found: fs::FileType) -> &'static str {
    match found {
        f if f.is_dir() => "is a directory",
        f if f.is_file() => "is a file",
        f if f.is_socket() => "is a socket",
        f if f.is_char_device() => "is a character device",
        f if f.is_block_device() => "is a block device",
        _ => "is a fifo",
    }
}

/// How often a measurement may be disturbed in a row.
const DISTURBED: u32 = 6;

/// Measures the disk volumes of a pod that have a limit.
#[derive(Debug, Default)]
pub struct Gauge {
    stop: Arc<AtomicBool>,
    /// Measurements in a row that were disturbed.
    disturbed: u32,
}

impl Gauge {
    /// What ends a measurement under way.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// The first disk `emptyDir` that takes more space than its `sizeLimit`, or cannot be measured: a message for the pod's
    /// status. Takes as long as the volumes are big.
    pub fn over_limit(&mut self, spec: &PodSpec, paths: &PodPaths) -> Option<String> {
        let mut disturbed = false;
        for (volume, limit) in limited(spec) {
            let (name, path) = (&volume.name, path(volume, paths));
            let measured = tree::usage(&path, &self.stop);
            if measured == Ok(Usage::Stopped) {
                return None;
            }
            disturbed |= matches!(measured, Ok(Usage::Disturbed(_)));
            match measured {
                Ok(Usage::Whole(used) | Usage::TooDeep(used) | Usage::Disturbed(used)) if used > limit => {
                    return Some(format!(
                        "Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\" ({used} bytes used)."
                    ));
                }
                Ok(Usage::TooDeep(_)) => {
                    return Some(format!(
                        "EmptyDir volume {name:?} has a limit and cannot be measured: its directories are nested too deeply."
                    ));
                }
                Ok(Usage::Disturbed(_)) if self.disturbed + 1 >= DISTURBED => {
                    return Some(format!(
                        "EmptyDir volume {name:?} has a limit and cannot be measured: deeply nested directories of it are \
                         moved all the time."
                    ));
                }
                Ok(_) => {}
                Err(errno) => {
                    tracing::warn!(volume = name, path = %path.display(), error = errno.desc(), "a volume cannot be measured")
                }
            }
        }
        self.disturbed = if disturbed { self.disturbed + 1 } else { 0 };
        None
    }
}

/// Whether there is anything to measure.
pub fn has_limits(spec: &PodSpec) -> bool {
    limited(spec).next().is_some()
}

fn limited(spec: &PodSpec) -> impl Iterator<Item = (&Volume, u64)> {
    spec.volumes.iter().filter_map(|volume| match volume.source {
        VolumeSource::EmptyDir { memory: false, size_limit: Some(limit) } => Some((volume, limit)),
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_checked_and_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        host_path("v", &at("new/dir"), HostPathType::DirectoryOrCreate).unwrap();
        host_path("v", &at("file"), HostPathType::FileOrCreate).unwrap();
        host_path("v", &at("file"), HostPathType::File).unwrap();
        host_path("v", &at("unset"), HostPathType::Unset).unwrap();
        assert!(dir.path().join("unset").is_dir());
        host_path("v", "/dev/null", HostPathType::CharDevice).unwrap();
        let wrong = host_path("v", &at("file"), HostPathType::Directory).unwrap_err().to_string();
        assert!(wrong.contains("is a file") && wrong.contains("Directory"), "{wrong}");
        let absent = host_path("v", &at("none"), HostPathType::Socket).unwrap_err().to_string();
        assert!(absent.contains("does not exist"), "{absent}");
        assert!(host_path("v", &at("no/parent"), HostPathType::FileOrCreate).is_err());
    }

    #[test]
    fn what_is_made_does_not_depend_on_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o7777;
        for (number, umask) in [0o000, 0o022, 0o077, 0o777].into_iter().enumerate() {
            let name = |what: &str| format!("{what}{number}");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // The umask of this thread alone.
                    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
                    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
                    host_path("v", &at(&name("a/b")), HostPathType::DirectoryOrCreate).unwrap();
                    host_path("v", &at(&name("u")), HostPathType::Unset).unwrap();
                    host_path("v", &at(&name("f")), HostPathType::FileOrCreate).unwrap();
                });
            });
            let found = [format!("a/b{number}"), format!("u{number}"), format!("f{number}")].map(|name| mode(&name));
            assert_eq!(found, [0o755, 0o755, 0o644], "umask {umask:o}");
        }
        assert_eq!(mode("a"), 0o755);
        // What is there already keeps its mode.
        fs::set_permissions(at("f0"), fs::Permissions::from_mode(0o600)).unwrap();
        host_path("v", &at("f0"), HostPathType::FileOrCreate).unwrap();
        assert_eq!(mode("f0"), 0o600);
    }

    #[test]
    fn a_volume_is_measured_at_any_depth_and_one_that_cannot_be_is_over_its_limit() {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: i}],
            volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]}}";
        let format = podwright_core::manifest::Format::Yaml;
        let spec = podwright_core::manifest::parse(text, format).unwrap().remove(0).spec;
        let dir = tempfile::tempdir().unwrap();
        let paths = PodPaths { state: dir.path().join("s"), run: dir.path().join("r"), log: dir.path().join("l") };
        make(&spec, &paths).unwrap();
        let mut gauge = Gauge::default();
        assert_eq!(gauge.over_limit(&spec, &paths), None);
        let volume = paths.volumes().join("v");
        // By steps: a path may not be that long.
        let mut deep = fs::File::open(&volume).unwrap();
        for _ in 0..3_000 {
            use nix::fcntl::{OFlag, openat};
            nix::sys::stat::mkdirat(&deep, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
            deep = openat(&deep, "d", OFlag::O_DIRECTORY, nix::sys::stat::Mode::empty()).unwrap().into();
        }
        let file = nix::fcntl::openat(
            &deep,
            "big",
            nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY,
            nix::sys::stat::Mode::S_IRWXU,
        );
        io::Write::write_all(&mut fs::File::from(file.unwrap()), &vec![1; 30 << 20]).unwrap();
        let message = gauge.over_limit(&spec, &paths).unwrap();
        assert!(message.starts_with("Usage of EmptyDir volume \"v\" exceeds the limit \"1048576\""), "{message}");
        gauge.stop().store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(gauge.over_limit(&spec, &paths), None);
        tree::remove(&paths.volumes()).unwrap();
    }
}
