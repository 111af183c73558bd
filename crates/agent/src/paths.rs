//! Where everything of a pod is on disk.

use std::path::{Path, PathBuf};

use podwright_core::pod::spec::PodSpec;

use crate::config::Fixed;

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
    /// `STATE/pods/UID`: [`PodPaths::file`], records, volumes, container layers.
    pub state: PathBuf,
    /// `RUN/pods/UID`: what lives as long as a sandbox.
    pub run: PathBuf,
    /// `LOGS/NAMESPACE_NAME_UID`.
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
        self.run.join("podwright.sock")
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
            log: self.log.join(format!("{namespace}_{name}_{uid}")),
        }
    }
}

impl PodPaths {
    /// What the agent keeps about the pod.
    pub fn file(&self) -> PathBuf {
        self.state.join("pod.json")
    }

    /// `<container>/<attempt>.json`, written by the shim.
    pub fn records(&self) -> PathBuf {
        self.state.join("records")
    }

    /// `emptyDir` volumes on disk, by name.
    pub fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }

    /// The writable layer of one instance.
    pub fn layer(&self, container: &str, attempt: u32) -> PathBuf {
        self.state.join("layers").join(container).join(attempt.to_string())
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
        self.run.join("sandbox.json")
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

    /// The containers' `/etc/hosts`.
    pub fn hosts(&self) -> PathBuf {
        self.run.join("hosts")
    }

    /// The containers' `/etc/hostname`.
    pub fn hostname(&self) -> PathBuf {
        self.run.join("hostname")
    }

    /// Where a container writes its termination message, seen from the host.
    pub fn message(&self, container: &str) -> PathBuf {
        self.run.join("messages").join(container)
    }

    /// The log of one instance.
    pub fn container_log(&self, container: &str, attempt: u32) -> PathBuf {
        self.log.join(container).join(format!("{attempt}.log"))
    }
}

/// A short name for a path that may be longer than a socket address holds (108 bytes): through an open descriptor of its
/// directory. The second value keeps it valid.
pub fn short(path: &Path) -> std::io::Result<(PathBuf, std::fs::File)> {
    use std::os::fd::AsRawFd as _;
    let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let directory = std::fs::File::open(parent)?;
    Ok((Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name), directory))
}
