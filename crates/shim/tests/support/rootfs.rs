//! Containers with a real root file system and the real runtime.

use std::fs;
use std::path::{Path, PathBuf};

use podwright_proto::{PodMount, StartRequest};
use serde_json::json;

use super::Sandbox;

/// `podwright-oci`, or the runtime that PODWRIGHT_OCI names.
pub(crate) fn runtime() -> PathBuf {
    let beside = || Path::new(env!("CARGO_BIN_EXE_podwright-shim")).with_file_name("podwright-oci");
    let path = std::env::var_os("PODWRIGHT_OCI").map_or_else(beside, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p podwright-oci`, or set PODWRIGHT_OCI to an OCI runtime",
        path.display()
    );
    path
}

/// The actor.
pub(crate) fn actor() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_podwright-shim")).with_file_name("act")
}

/// A root file system with busybox, on a file system that can carry an overlay. Removed when dropped.
pub(crate) struct Rootfs(tempfile::TempDir);

impl Rootfs {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        for name in ["bin", "proc", "dev", "tmp"] {
            fs::create_dir_all(dir.path().join("rootfs").join(name)).unwrap();
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| fs::exists(path).unwrap());
        let target = dir.path().join("rootfs/bin/busybox");
        fs::copy(busybox.expect("Debian's busybox-static is needed"), &target).unwrap();
        fs::copy(actor(), target.with_file_name("act"))
            .expect("the actor is built with the workspace: cargo build -p act");
        for applet in ["sh", "sleep", "hostname", "echo", "cat", "env", "ls", "readlink", "true", "which"] {
            std::os::unix::fs::symlink("busybox", target.with_file_name(applet)).unwrap();
        }
        Self(dir)
    }

    /// The directory that the layers and the root file system are in.
    pub(crate) fn base(&self) -> &Path {
        self.0.path()
    }

    /// A file of it, by its path in the container.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join("rootfs").join(path.trim_start_matches('/'))
    }

    /// A request to run a command in it.
    pub(crate) fn request(&self, sandbox: &Sandbox, container: &str, attempt: u32, args: &[&str]) -> StartRequest {
        let layer = self.0.path().join(format!("layers/{container}-{attempt}"));
        let target = sandbox.path(&format!("run/roots/{container}"));
        let v2 = podwright_sys::cgroup::v2_mount().unwrap();
        let cgroup = sandbox.cgroup.child(container);
        let config = json!({
            "ociVersion": "1.0.2",
            "root": {"path": target},
            "process": {
                "args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
                "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
                "noNewPrivileges": true,
            },
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}],
                "cgroupsPath": format!("/{}", cgroup.path().strip_prefix(v2).unwrap().display()),
            },
        });
        let mut request = sandbox.request(container, attempt, runtime(), config);
        request.mounts = vec![PodMount::Overlay { lower: self.0.path().join("rootfs"), layer, target }];
        request
    }
}
