//! What is mounted in a container.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::context::Context;
use super::defaults::{self, bind};
use super::error::ConfigError;
use crate::pod::spec::Container;

/// File systems of the kernel, then the bundle's own mounts, the pod's files, the volumes; a later one takes the place of
/// an earlier one at the same path, and a path comes before what is below it.
pub(super) fn all(container: &Container, context: &Context) -> Result<Vec<Mount>, ConfigError> {
    let mut mounts = Vec::new();
    let bundled = context.bundle.mounts().clone().unwrap_or_default();
    for mount in defaults::mounts(container.security.privileged, context.shm.as_deref()) {
        place(&mut mounts, mount);
    }
    for mount in bundled {
        // The kernel's file systems are given by the pod, not by the bundle.
        if !mounts.iter().any(|m: &Mount| same(m.destination(), mount.destination())) {
            mounts.push(mount);
        }
    }
    for mount in files(container, context) {
        place(&mut mounts, mount);
    }
    for mount in volumes(container, context)? {
        place(&mut mounts, mount);
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

fn place(mounts: &mut Vec<Mount>, mount: Mount) {
    mounts.retain(|m| !same(m.destination(), mount.destination()));
    mounts.push(mount);
}

/// Compared by components, so that a slash at the end does not count.
fn same(a: &Path, b: &Path) -> bool {
    a == b
}

fn files(container: &Container, context: &Context) -> Vec<Mount> {
    let access = if container.security.read_only_root { "ro" } else { "rw" };
    let bind_file = |(target, source): (&str, &Option<PathBuf>)| {
        source.as_ref().map(|source| bind(Path::new(target), source, &["rbind", "rprivate", access]))
    };
    let message = context
        .message
        .as_ref()
        .map(|source| bind(Path::new(&container.message_path), source, &["rbind", "rprivate", "rw"]));
    [
        ("/etc/hosts", &context.hosts),
        ("/etc/hostname", &context.hostname_file),
        ("/etc/resolv.conf", &context.resolv_conf),
    ]
    .into_iter()
    .filter_map(bind_file)
    .chain(message)
    .collect()
}

fn volumes(container: &Container, context: &Context) -> Result<Vec<Mount>, ConfigError> {
    let made = container.mounts.iter().enumerate().map(|(index, volume)| {
        let source = match volume.sub_path {
            Some(_) => context.sub_paths.get(&index),
            None => context.volumes.get(&volume.name),
        };
        let Some(source) = source else {
            let name = container.name.clone();
            return Err(ConfigError::NoVolume { name, volume: volume.name.clone() });
        };
        let access = if volume.read_only { "ro" } else { "rw" };
        Ok(bind(Path::new(&volume.path), source, &["rbind", "rprivate", access]))
    });
    made.collect()
}
