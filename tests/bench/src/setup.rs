//! What the measurements need: programs, bundles, directories, and how often.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The ground of all measurements.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Directory with podwrightd, podwright-shim and podwright-oci.
    pub(crate) bin: PathBuf,
    /// Directory with the bundles `actor` and `busybox`.
    pub(crate) bundles: PathBuf,
    /// Archive of the actor's root file system, to import.
    pub(crate) image: PathBuf,
    /// A directory of our own, on a tmpfs.
    pub(crate) scratch: PathBuf,
    /// How often each of the short commands runs.
    pub(crate) oci_rounds: usize,
    /// How often each kind of pod is started.
    pub(crate) pod_rounds: usize,
    /// How many pods are many.
    pub(crate) pods: usize,
    /// Length of the idle time, in seconds.
    pub(crate) idle_seconds: u64,
    /// Exec probes a second.
    pub(crate) probe_rate: usize,
    /// How often everything is measured; promises are judged by the median of all runs.
    pub(crate) runs: usize,
}

/// The configuration of the bundle `true`: what `runc spec` writes, without a terminal.
const CONFIG: &str = include_str!("../config.json");

impl Setup {
    /// One of podwright's programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Makes the bundle `true` with another name and another configuration. It shares the root file system.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn bundle(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<PathBuf> {
        let mut config: Value = serde_json::from_str(CONFIG)?;
        config["root"]["path"] = self.true_bundle()?.join("rootfs").to_string_lossy().into();
        change(&mut config);
        let bundle = self.scratch.join(name);
        fs::create_dir_all(&bundle).with_context(|| bundle.display().to_string())?;
        fs::write(bundle.join("config.json"), config.to_string())?;
        Ok(bundle)
    }

    /// Makes the bundle `true`: busybox, ending at once.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn true_bundle(&self) -> Result<PathBuf> {
        let bundle = self.scratch.join("true");
        fs::create_dir_all(&bundle).with_context(|| bundle.display().to_string())?;
        let rootfs = bundle.join("rootfs");
        if !rootfs.exists() {
            copy_busybox(&self.bundles.join("busybox/rootfs"), &rootfs)
                .context("the root file system of the bundle true")?;
            fs::write(bundle.join("config.json"), CONFIG)?;
        }
        Ok(bundle)
    }
}

/// Takes what `true` needs of a root file system: one static program under two names, and mount points.
fn copy_busybox(from: &Path, to: &Path) -> Result<()> {
    for directory in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(to.join(directory))?;
    }
    fs::copy(from.join("bin/busybox"), to.join("bin/busybox"))?;
    std::os::unix::fs::symlink("busybox", to.join("bin/true"))?;
    Ok(())
}
