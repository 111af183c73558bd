//! Where everything of a pod is on disk.

use std::path::{Path, PathBuf};

use podwright_core::api;
use podwright_core::pod::spec::PodSpec;
use sha2::{Digest as _, Sha256};

use crate::config::Fixed;

/// The argument of a pod's shim, in its run directory.
pub const SANDBOX_FILE: &str = "sandbox.json";

/// The agent's directories.
#[derive(Debug, Clone)]
pub struct Paths {
    state: PathBuf,
    run: PathBuf,
    log: PathBuf,
}

/// The directories of one pod uid.
#[derive(Debug, Clone)]
pub struct PodPaths {
    /// `STATE/pods/UID`: what is kept of the pod ([`crate::state::object`]), records, volumes, container layers.
    pub state: PathBuf,
    /// `RUN/pods/UID`: what lives as long as a sandbox.
    pub run: PathBuf,
    /// `LOGS/NAMESPACE_NAME_UID`; see [`log_directory`].
    pub log: PathBuf,
}

impl Paths {
    /// From the configuration.
    pub fn new(fixed: &Fixed) -> Paths {
        Paths { state: fixed.state_dir.clone(), run: fixed.run_dir.clone(), log: fixed.log_dir.clone() }
    }

    /// What survives a reboot.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The API's socket.
    pub fn api_socket(&self) -> PathBuf {
        self.run.join(api::SOCKET)
    }

    /// A directory per pod uid that was ever accepted and is not forgotten yet.
    pub fn state_pods(&self) -> PathBuf {
        self.state.join("pods")
    }

    /// A directory per pod uid that may have a sandbox.
    pub fn run_pods(&self) -> PathBuf {
        self.run.join("pods")
    }

    /// Of one pod.
    pub fn pod(&self, spec: &PodSpec) -> PodPaths {
        self.ended(&spec.namespace, &spec.name, &spec.uid)
    }

    /// Of one that is only known by name.
    pub fn ended(&self, namespace: &str, name: &str, uid: &str) -> PodPaths {
        PodPaths {
            state: self.state_pods().join(uid),
            run: self.run_pods().join(uid),
            log: self.log.join(log_directory(namespace, name, uid)),
        }
    }
}

impl PodPaths {
    /// `<container>/<attempt>.json`, written by the shim.
    pub fn records(&self) -> PathBuf {
        self.state.join("records")
    }

    /// `emptyDir` volumes on disk, by name.
    pub fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }

    /// The writable layers of the sandbox's instances.
    pub fn layers(&self) -> PathBuf {
        self.state.join("layers")
    }

    /// The writable layer of one instance.
    pub fn layer(&self, container: &str, attempt: u32) -> PathBuf {
        self.layers().join(container).join(attempt.to_string())
    }

    /// The shim's socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("shim.sock")
    }

    /// What the shim says on stderr.
    pub fn shim_log(&self) -> PathBuf {
        self.run.join("shim.log")
    }

    /// The shim's argument.
    pub fn sandbox(&self) -> PathBuf {
        self.run.join(SANDBOX_FILE)
    }

    /// Mount point of a container's root.
    pub fn root(&self, container: &str) -> PathBuf {
        self.run.join("roots").join(container)
    }

    /// Mount point of an `emptyDir` in memory.
    pub fn tmpfs(&self, volume: &str) -> PathBuf {
        self.run.join("volumes").join(volume)
    }

    /// Mount point of the `subPath` of a container's n-th volume mount.
    pub fn subpath(&self, container: &str, index: usize) -> PathBuf {
        self.run.join("subpaths").join(container).join(index.to_string())
    }

    /// Mount point of the `/dev/shm` that the pod's containers share.
    pub fn shm(&self) -> PathBuf {
        self.run.join("shm")
    }

    /// Directory of the files that each container of the pod gets. In the shim's mount namespace, copies in a tmpfs cover it.
    pub fn files(&self) -> PathBuf {
        self.run.join("files")
    }

    /// The containers' `/etc/hosts`.
    pub fn hosts(&self) -> PathBuf {
        self.files().join("hosts")
    }

    /// The containers' `/etc/hostname`.
    pub fn hostname(&self) -> PathBuf {
        self.files().join("hostname")
    }

    /// The containers' `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> PathBuf {
        self.files().join("resolv.conf")
    }

    /// Where a container writes its termination message, seen from the shim, which mounts a tmpfs at the directory.
    pub fn message(&self, container: &str) -> PathBuf {
        self.run.join("messages").join(container).join("log")
    }

    /// The log of one instance.
    pub fn container_log(&self, container: &str, attempt: u32) -> PathBuf {
        self.log.join(container).join(format!("{attempt}.log"))
    }
}

/// Longest name of a file or directory, bytes (NAME_MAX).
const LONGEST_NAME: usize = 255;

/// Name of a pod's directory of logs, which collectors take apart at `_`: `NAMESPACE_NAME_UID`, as in Kubernetes. There a pod whose
/// three names are longer together than the name of a directory may be never starts; here its name is cut, and has a digest of
/// the whole one at its end. Namespace and uid stay as they are, and the cut name is a pod's name still.
pub fn log_directory(namespace: &str, name: &str, uid: &str) -> String {
    let whole = format!("{namespace}_{name}_{uid}");
    let Some(over) = whole.len().checked_sub(LONGEST_NAME).filter(|over| *over > 0) else { return whole };
    let digest: String = Sha256::digest(name).iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let room = name.len().saturating_sub(over + digest.len() + 1);
    let cut = name.get(..name.floor_char_boundary(room)).unwrap_or_default().trim_end_matches(['.', '-']);
    let cut = if cut.is_empty() { digest } else { format!("{cut}-{digest}") };
    format!("{namespace}_{cut}_{uid}")
}

/// A short name for a path that may be longer than a socket address holds (108 bytes): through an open descriptor of its
/// directory. The second value keeps it valid.
pub fn short(path: &Path) -> std::io::Result<(PathBuf, std::fs::File)> {
    use std::os::fd::AsRawFd as _;
    let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let directory = std::fs::File::open(parent)?;
    Ok((Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name), directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_logs_has_a_name_that_every_file_system_takes_and_collectors_understand() {
        let uid = "5c2b0c9e-0000-4000-8000-000000000000";
        assert_eq!(log_directory("default", "web", uid), format!("default_web_{uid}"));
        let namespace = "n".repeat(63);
        let fits = LONGEST_NAME - namespace.len() - uid.len() - 2;
        let as_it_is = log_directory(&namespace, &"x".repeat(fits), uid);
        assert_eq!((as_it_is.len(), as_it_is.contains(&"x".repeat(fits))), (LONGEST_NAME, true));
        let mut seen = std::collections::HashSet::new();
        for (namespace, name) in [
            (namespace.clone(), "x".repeat(fits + 1)),
            (namespace.clone(), "x".repeat(253)),
            (namespace.clone(), format!("{}y", "x".repeat(252))),
            (namespace.clone(), format!("{}.{}", "x".repeat(142), "z".repeat(110))),
            ("d".to_owned(), "x".repeat(253)),
            (namespace.clone(), vec!["a"; 127].join(".")),
        ] {
            let directory = log_directory(&namespace, &name, uid);
            assert!(directory.len() <= LONGEST_NAME, "{}", directory.len());
            let [of, cut, whose] = directory.split('_').collect::<Vec<_>>()[..] else { panic!("{directory}") };
            assert_eq!((of, whose), (namespace.as_str(), uid));
            let (begin, digest) = cut.rsplit_once('-').unwrap();
            assert!(name.starts_with(begin) && begin.len() > 100 && digest.len() == 10, "{cut}");
            assert!(begin.ends_with(|c: char| c.is_ascii_alphanumeric()) && seen.insert(directory));
        }
        // Whatever comes, there is a name.
        assert!(log_directory(&"n".repeat(240), &"x".repeat(253), "u").starts_with(&"n".repeat(240)));
    }
}
