//! A podwrightd of our own on its own directories.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podwright_sys::cgroup::{Cgroup, v2_mount};
use serde_json::Value;

use crate::clock::boot_ns;
use crate::setup::Setup;
use crate::watch::Watch;

/// Longest time for the agent to come up or to leave.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at what cannot be waited for.
const LOOK: Duration = Duration::from_millis(20);

/// A running agent. Dropping it kills it and its pods.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    base: PathBuf,
    cgroup: PathBuf,
    watch: Watch,
}

/// A pod of which the API says that all of it runs.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    /// When that was read, `CLOCK_BOOTTIME`.
    pub(crate) at: i64,
    /// The pod's uid.
    pub(crate) uid: String,
}

impl Agent {
    /// Starts it and waits until its API answers.
    ///
    /// # Errors
    /// When it does not come up, with its log.
    pub(crate) fn start(setup: &Setup, name: &str) -> Result<Agent> {
        let base = setup.scratch.join(name);
        for directory in ["manifests", "state", "run", "logs"] {
            fs::create_dir_all(base.join(directory)).with_context(|| base.display().to_string())?;
        }
        let has_controllers = Cgroup::at(v2_mount()?).controllers()?.iter().any(|name| name == "memory");
        let cgroup = v2_mount()?.join(format!("podwright-bench-{name}.slice"));
        let log = File::create(base.join("agent.log"))?;
        let mut child =
            Command::new(setup.program("podwrightd"))
                .args(["manifest", "state", "run", "log"].iter().zip(["manifests", "state", "run", "logs"]).flat_map(
                    |(flag, directory)| [format!("--{flag}-dir").into(), base.join(directory).into_os_string()],
                ))
                .arg("--bundle-dir")
                .arg(&setup.bundles)
                .arg("--cgroup-root")
                .arg(&cgroup)
                .args(
                    std::env::var_os("PODWRIGHT_BENCH_LOG")
                        .map(|level| [std::ffi::OsString::from("--log-level"), level])
                        .into_iter()
                        .flatten(),
                )
                // A host that has none measures all that needs none.
                .args((!has_controllers).then_some("--allow-missing-controllers"))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
                .context("podwrightd")?;
        let socket = base.join("run/podwright.sock");
        let since = Instant::now();
        let watch = loop {
            match Watch::open(&socket) {
                Ok(watch) => break watch,
                Err(error) if since.elapsed() > PATIENCE || child.try_wait()?.is_some() => {
                    let log = fs::read_to_string(base.join("agent.log")).unwrap_or_default();
                    return Err(error.context(format!("podwrightd does not answer; it said:\n{}", log.trim())));
                }
                Err(_) => sleep(LOOK),
            }
        };
        Ok(Agent { child, base, cgroup, watch })
    }

    /// The agent's pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The cgroup of all pods.
    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The pids of all shims: those in the pods' `_supervisor` cgroups.
    ///
    /// # Errors
    /// Those of reading the cgroup file system.
    pub(crate) fn shims(&self) -> Result<Vec<u32>> {
        let mut pids = Vec::new();
        supervisors(&self.cgroup, &mut pids).with_context(|| self.cgroup.display().to_string())?;
        Ok(pids)
    }

    /// Puts a manifest into the directory, whole. Returns the time just before it was there.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn place(&self, name: &str, manifest: &Value) -> Result<i64> {
        let draft = self.base.join(format!("{name}.draft"));
        fs::write(&draft, manifest.to_string())?;
        let at = boot_ns();
        fs::rename(&draft, self.manifest(name))?;
        Ok(at)
    }

    /// Takes the manifest away.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.manifest(name))?)
    }

    /// Waits until the API says of `count` pods that all their containers run. They are given by name.
    ///
    /// # Errors
    /// When the watch ends or is silent, or a pod fails.
    pub(crate) fn running(&mut self, count: usize) -> Result<BTreeMap<String, Running>> {
        let mut running = BTreeMap::new();
        while running.len() < count {
            let seen = self.watch.next().with_context(|| self.complaint())?;
            let name = seen.pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let phase = seen.pod["status"]["phase"].as_str().unwrap_or_default();
            ensure!(phase != "Failed", "pod {name} failed: {}", seen.pod["status"]);
            if seen.kind != "DELETED" && phase == "Running" && all_run(&seen.pod) {
                let uid = seen.pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                running.entry(name).or_insert(Running { at: seen.at, uid });
            }
        }
        Ok(running)
    }

    /// Waits until `count` pods are gone from the API.
    ///
    /// # Errors
    /// When the watch ends or is silent.
    pub(crate) fn gone(&mut self, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let seen = self.watch.next().with_context(|| self.complaint())?;
            left -= usize::from(seen.kind == "DELETED");
        }
        Ok(())
    }

    /// The logs of the pod's containers.
    pub(crate) fn logs(&self, name: &str, uid: &str, containers: &[String]) -> Vec<PathBuf> {
        let pod = self.base.join("logs").join(format!("default_{name}_{uid}"));
        containers.iter().map(|c| pod.join(c).join("0.log")).collect()
    }

    /// When the shim took the request to start the container, `CLOCK_BOOTTIME`.
    ///
    /// # Errors
    /// When there is no such record.
    pub(crate) fn requested(&self, uid: &str, container: &str) -> Result<i64> {
        let path = self.base.join("state/pods").join(uid).join("records").join(container).join("0.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let record: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        record["requested"]["boot_ns"].as_i64().with_context(|| format!("{}: no requested.boot_ns", path.display()))
    }

    /// Stops the agent, whose pods must be gone.
    ///
    /// # Errors
    /// When it does not leave in time.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGTERM)?;
        let since = Instant::now();
        while self.child.try_wait()?.is_none() {
            if since.elapsed() > PATIENCE {
                bail!("podwrightd did not leave {} s after SIGTERM", PATIENCE.as_secs());
            }
            sleep(LOOK);
        }
        Ok(())
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.base.join("manifests").join(format!("{name}.json"))
    }

    /// The end of the agent's log, for an error.
    fn complaint(&self) -> String {
        let log = fs::read_to_string(self.base.join("agent.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("waiting for podwrightd, which last said:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // All of it may be gone already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
        fs::write(self.cgroup.join("cgroup.kill"), "1").ok();
    }
}

fn all_run(pod: &Value) -> bool {
    let wanted = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let statuses = pod["status"]["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    wanted > 0 && statuses.iter().filter(|s| s["state"]["running"].is_object()).count() == wanted
}

fn supervisors(directory: &Path, pids: &mut Vec<u32>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        if entry.file_name() == "_supervisor" {
            let text = fs::read_to_string(entry.path().join("cgroup.procs"))?;
            pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
        } else {
            supervisors(&entry.path(), pids)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_runs_when_each_of_its_containers_does() {
        let pod =
            |statuses: Value| json!({"spec": {"containers": [{}, {}]}, "status": {"containerStatuses": statuses}});
        let (running, waiting) = (json!({"state": {"running": {}}}), json!({"state": {"waiting": {}}}));
        assert!(all_run(&pod(json!([running, running]))));
        for statuses in [json!([running, waiting]), json!([running]), json!(null)] {
            assert!(!all_run(&pod(statuses.clone())), "{statuses}");
        }
    }
}
