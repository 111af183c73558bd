//! What a runtime does that trusts names: the dangerous operations, each with the host's view of a path in the container's root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde::Deserialize;

use super::stage::Stage;

/// How long a race may take to be lost.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Naive {
    r#do: Operation,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    /// Make an empty file.
    File,
    /// Write to a file.
    Write,
    /// Make a symlink.
    Link,
    /// Mount a procfs.
    Proc,
    /// Mount a tmpfs.
    Tmpfs,
    /// Mask a file with the root's `/dev/null`, then write to it as the container would.
    Mask,
}

impl Naive {
    /// Whether this changes the outside, in a mount namespace of its own.
    pub(super) fn touches(&self, stage: &Stage) -> bool {
        let act = || {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            let before = stage.outside();
            let deadline = Instant::now() + PATIENCE;
            stage.swapping(|| {
                loop {
                    let done = self.act(&stage.path(&self.path), &stage.container.rootfs());
                    if stage.outside() != before {
                        return true;
                    }
                    let Some(swapped) = &stage.scene.swap else {
                        // Without a race it happens at once or never.
                        done.unwrap();
                        return false;
                    };
                    assert!(Instant::now() < deadline, "the race is never lost: {done:?}");
                    for path in swapped {
                        umount2(&stage.path(path), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).ok();
                    }
                }
            })
        };
        std::thread::scope(|scope| scope.spawn(act).join().unwrap())
    }

    fn act(&self, path: &Path, root: &Path) -> std::io::Result<()> {
        match self.r#do {
            Operation::File => fs::File::create(path).map(drop),
            Operation::Write => fs::write(path, "evil"),
            Operation::Link => symlink("evil", path),
            Operation::Proc => Ok(mount(Some("proc"), path, Some("proc"), MsFlags::empty(), None::<&str>)?),
            Operation::Tmpfs => Ok(mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?),
            Operation::Mask => {
                mount(Some(&root.join("dev/null")), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                fs::write(path, "evil")
            }
        }
    }
}
