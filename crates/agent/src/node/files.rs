//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod's containers: files of the pod, never the node's own.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use podwright_core::bundle;
use podwright_core::pod::spec::PodSpec;

use crate::context::Context;
use crate::paths::PodPaths;

/// How large a file of the node may be that each pod gets a copy of. Lists that block advertisements by name have that much.
const MAX_BYTES: u64 = 8 << 20;

/// A file that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The node's own file cannot be copied.
    #[error("the pod cannot have a copy of the node's {}", path.display())]
    Node {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pod's cannot be written.
    #[error("writing {} failed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes them into the pod's run directory. They hold for one sandbox, as with the kubelet: what changes on the node later is seen
/// by the next one.
///
/// # Errors
/// When the node's cannot be read, or the pod's not be written. What the node does not have, the pod does not get.
pub fn make(ctx: &Context, pod: &PodSpec, paths: &PodPaths) -> Result<(), FilesError> {
    let hosts = match pod.host_network {
        true => node_file(Path::new("/etc/hosts"))?.map(|node| bundle::node_hosts(&node)),
        false => Some(bundle::hosts(&pod.hostname)),
    };
    let hostname = if pod.host_network { &ctx.host_name } else { &pod.hostname };
    let files = [
        (paths.hosts(), hosts),
        (paths.hostname(), Some(format!("{hostname}\n").into_bytes())),
        (paths.resolv_conf(), node_file(Path::new("/etc/resolv.conf"))?),
    ];
    let directory = paths.files();
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&directory);
    made.map_err(|source| FilesError::Write { path: directory, source })?;
    for (path, text) in files {
        if let Some(text) = text {
            fs::write(&path, text).map_err(|source| FilesError::Write { path, source })?;
        }
    }
    Ok(())
}

/// A file of the node; `None`: there is none.
fn node_file(path: &Path) -> Result<Option<Vec<u8>>, FilesError> {
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FilesError::Node { path: path.to_owned(), source }),
        Ok(text) => Ok(Some(text)),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_node_are_read_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(node_file(&at("none")).unwrap(), None);
        fs::write(at("real"), "127.0.0.1 localhost\n").unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        assert_eq!(node_file(&at("link")).unwrap().as_deref(), Some(&b"127.0.0.1 localhost\n"[..]));
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (name, why) in [("fifo", "not a regular file"), (".", "not a regular file")] {
            let error = podwright_sys::error::chain(&node_file(&at(name)).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
        fs::File::create(at("huge")).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let error = podwright_sys::error::chain(&node_file(&at("huge")).unwrap_err());
        assert!(error.contains("larger than 8 MiB"), "{error}");
    }
}
