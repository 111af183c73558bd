//! A pod's volumes on the host: `emptyDir` directories and the checks of `hostPath`.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use podwright_core::pod::spec::{Container, HostPathType, PodSpec, Volume, VolumeSource};

use crate::aside::{Aside, NoAnswer};
use crate::paths::PodPaths;

/// A volume that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
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
pub(super) fn path(volume: &Volume, paths: &PodPaths) -> PathBuf {
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
pub(super) fn make(spec: &PodSpec, paths: &PodPaths) -> Result<(), VolumeError> {
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
pub(super) async fn check_host_paths(spec: &PodSpec, place: &Aside) -> Result<(), VolumeError> {
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
pub(super) async fn host_paths_answer(spec: &PodSpec, container: &Container, place: &Aside) -> Result<(), VolumeError> {
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
                HostPathType::DirectoryOrCreate | HostPathType::Unset => make(fs::create_dir_all(path)),
                HostPathType::FileOrCreate => {
                    make(fs::OpenOptions::new().create(true).append(true).open(path).map(drop))
                }
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

/// The first disk `emptyDir` that takes more space than its `sizeLimit`: a message for the pod's status.
pub(super) fn over_limit(spec: &PodSpec, paths: &PodPaths) -> Option<String> {
    limited(spec).find_map(|(volume, limit)| {
        let used = usage(&path(volume, paths));
        let name = &volume.name;
        (used > limit)
            .then(|| format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\" ({used} bytes used)."))
    })
}

/// Whether there is anything for [`over_limit`] to look at.
pub(super) fn has_limits(spec: &PodSpec) -> bool {
    limited(spec).next().is_some()
}

fn limited(spec: &PodSpec) -> impl Iterator<Item = (&Volume, u64)> {
    spec.volumes.iter().filter_map(|volume| match volume.source {
        VolumeSource::EmptyDir { memory: false, size_limit: Some(limit) } => Some((volume, limit)),
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => None,
    })
}

/// Bytes that a directory takes on disk, like du(1): hard links once per name, other file systems not at all. What
/// disappears meanwhile counts for nothing.
fn usage(directory: &Path) -> u64 {
    let Ok(root) = fs::symlink_metadata(directory) else { return 0 };
    let mut total = root.blocks() * 512;
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let Ok(stat) = entry.metadata() else { continue };
            if stat.dev() != root.dev() {
                continue;
            }
            total += stat.blocks() * 512;
            if stat.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    total
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
    fn usage_counts_what_is_below_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), vec![1; 300_000]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let used = usage(dir.path());
        assert!((300_000..400_000).contains(&used), "{used}");
        assert_eq!(usage(&dir.path().join("none")), 0);
    }
}
