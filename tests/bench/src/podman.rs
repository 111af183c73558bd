//! `podman kube play`, with a storage of our own and the image imported from a file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::{Line, word};
use crate::setup::Setup;

/// The actor's image.
pub(crate) const IMAGE: &str = "localhost/actor:1";

/// A podman on its own directories, with the rest as the distribution has it: systemd makes the cgroups.
#[derive(Debug)]
pub(crate) struct Podman {
    base: PathBuf,
}

impl Podman {
    /// Imports the image.
    ///
    /// # Errors
    /// When podman fails.
    pub(crate) fn new(setup: &Setup) -> Result<Podman> {
        let podman = Podman { base: setup.scratch.join("podman") };
        fs::create_dir_all(&podman.base)?;
        let changes = ["--change", "ENTRYPOINT [\"/bin/act\"]", "--change", "ENV PATH=/usr/bin:/bin"];
        podman
            .line(
                &["import", "--quiet"]
                    .into_iter()
                    .chain(changes)
                    .chain([path(&setup.image)?, IMAGE])
                    .collect::<Vec<_>>(),
            )
            .time()?;
        Ok(podman)
    }

    /// Starts the pod of a manifest, with a network namespace that has a loopback only, as podwright's pods have.
    /// Returns the command's time in milliseconds.
    ///
    /// # Errors
    /// When podman fails.
    pub(crate) fn play(&self, manifest: &Path) -> Result<f64> {
        self.line(&["kube", "play", "--network=none", path(manifest)?]).time()
    }

    /// Removes a pod.
    ///
    /// # Errors
    /// When podman fails.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.line(&["pod", "rm", "--force", "--time", "10", name]).time().map(drop)
    }

    /// The logs of all containers there are.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn logs(&self) -> Result<Vec<PathBuf>> {
        let containers = self.base.join("root/overlay-containers");
        let mut logs = Vec::new();
        for entry in fs::read_dir(&containers).with_context(|| containers.display().to_string())? {
            let log = entry?.path().join("userdata/ctr.log");
            // The infra container has none, or an empty one.
            if fs::metadata(&log).is_ok_and(|m| m.len() > 0) {
                logs.push(log);
            }
        }
        Ok(logs)
    }

    fn line(&self, words: &[&str]) -> Line {
        let directory = |flag: &str, name: &str| [flag.into(), word(&self.base.join(name))];
        Line::new(
            [
                ["podman".into(), "--runtime=crun".into()],
                directory("--root", "root"),
                directory("--runroot", "run"),
                directory("--tmpdir", "tmp"),
            ]
            .into_iter()
            .flatten()
            .chain(words.iter().map(Into::into)),
        )
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
