//! Containers that run `true`: podwright-oci beside crun, runc and unshare(1), on the same bundles.

mod memory;
mod syscalls;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use podwright_sys::process::{pidfd_open, wait_end};
use serde_json::{Value, json};

use crate::clock::{boot_ns, ms};
use crate::command::{Line, word};
use crate::samples::{Samples, Turn, interleave};
use crate::setup::Setup;

pub(crate) use memory::{REPORT, report};

/// Longest time from `start` to the end of `true`.
const RUNS: Duration = Duration::from_secs(20);

/// System calls that the profile names, a rule each: the older ones that an unprivileged program may have.
const SYSCALLS: &str = include_str!("../syscalls");

/// Fills the keys of one container from start to end, of `exec`, of memory and of system calls.
///
/// # Errors
/// When a runtime fails.
pub(crate) fn measure(setup: &Setup, samples: &mut Samples) -> Result<()> {
    times(setup, samples)?;
    execs(setup, samples)?;
    memory::measure(setup, samples)?;
    syscalls::measure(setup, samples)
}

/// A runtime with a state directory of its own. All are called alike.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    /// Begin of its keys.
    name: &'static str,
    program: String,
    root: PathBuf,
}

impl Runtime {
    /// podwright-oci.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn ours(setup: &Setup) -> Result<Runtime> {
        Runtime::new(setup, "oci", &setup.program("podwright-oci").to_string_lossy())
    }

    /// One of the distribution's runtimes.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn peer(setup: &Setup, name: &'static str) -> Result<Runtime> {
        Runtime::new(setup, name, name)
    }

    fn new(setup: &Setup, name: &'static str, program: &str) -> Result<Runtime> {
        let root = setup.scratch.join("runtime").join(name);
        std::fs::create_dir_all(&root)?;
        Ok(Runtime { name, program: program.to_owned(), root })
    }

    fn line(&self, words: &[&str]) -> Line {
        let root = ["--root".into(), word(&self.root)];
        Line::new([self.program.clone().into()].into_iter().chain(root).chain(words.iter().map(Into::into)))
    }

    /// `run` to the container's end.
    pub(crate) fn run(&self, bundle: &Path) -> Line {
        self.line(&["run", "--bundle", &bundle.to_string_lossy(), "true"])
    }

    /// `create`, `start`, the program's end, `delete`; in milliseconds.
    fn cycle(&self, bundle: &Path) -> Result<f64> {
        let file = self.root.with_extension("pid");
        let (bundle, pid_file) = (bundle.to_string_lossy(), file.to_string_lossy());
        let created = self.line(&["create", "--bundle", &bundle, "--pid-file", &pid_file, "true"]).time()?;
        let pid = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let pidfd = pidfd_open(Pid::from_raw(pid.trim().parse().with_context(|| format!("the pid {pid:?}"))?))?;
        let started = self.line(&["start", "true"]).time()?;
        let from = boot_ns();
        ensure!(wait_end(&pidfd, RUNS)?, "`true` does not end");
        let waited = ms(from, boot_ns());
        Ok(created + started + waited + self.line(&["delete", "true"]).time()?)
    }
}

/// Fills `X_run_ms`, `X_csd_ms` and `X_seccomp_ms` (the same with a profile of 300 rules) for X of oci and crun, `runc_run_ms` and
/// `unshare_ms`.
fn times(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let bundle = setup.true_bundle()?;
    let filtered = setup.bundle("seccomp", |config| config["linux"]["seccomp"] = profile())?;
    let runc = Runtime::peer(setup, "runc")?.run(&bundle);
    let mut turns =
        vec![("unshare", turn("unshare_ms".into(), unshare(setup)?)), ("runc", turn("runc_run_ms".into(), runc))];
    for runtime in [Runtime::ours(setup)?, Runtime::peer(setup, "crun")?] {
        let name = runtime.name;
        turns.push((name, turn(format!("{name}_run_ms"), runtime.run(&bundle))));
        for (key, bundle) in [("csd", bundle.clone()), ("seccomp", filtered.clone())] {
            let runtime = runtime.clone();
            turns.push((name, timed(format!("{name}_{key}_ms"), move || runtime.cycle(&bundle))));
        }
    }
    interleave(setup.oci_rounds, &mut turns, samples)
}

/// Fills `X_exec_ms`: `true` in a container that runs.
fn execs(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let runtimes = [Runtime::ours(setup)?, Runtime::peer(setup, "crun")?];
    let mut turns = Vec::new();
    for runtime in &runtimes {
        let name = runtime.name;
        let bundle = setup.bundle(&format!("sleep-{name}"), |config| {
            config["process"]["args"] = json!(["/bin/busybox", "sleep", "100000"]);
            config["linux"]["cgroupsPath"] = json!(format!("/podwright-bench/sleep-{name}"));
        })?;
        runtime.line(&["run", "--detach", "--bundle", &bundle.to_string_lossy(), "sleep"]).time()?;
        turns.push((name, turn(format!("{name}_exec_ms"), runtime.line(&["exec", "sleep", "/bin/true"]))));
    }
    interleave(setup.oci_rounds, &mut turns, samples)?;
    runtimes.iter().try_for_each(|runtime| runtime.line(&["delete", "--force", "sleep"]).time().map(drop))
}

/// `linux.seccomp` with a rule for each of [`SYSCALLS`], for the architectures that the usual profiles name.
fn profile() -> Value {
    let rule = |name| json!({"names": [name], "action": "SCMP_ACT_ALLOW"});
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": SYSCALLS.split_whitespace().map(rule).collect::<Vec<_>>(),
    })
}

/// A turn that runs the command and keeps its time under `key`.
pub(crate) fn turn(key: String, line: Line) -> Turn<'static> {
    timed(key, move || line.time())
}

fn timed(key: String, run: impl Fn() -> Result<f64> + 'static) -> Turn<'static> {
    Box::new(move |samples| {
        samples.add(key.as_str(), run()?);
        Ok(())
    })
}

/// The bundle's namespaces, its program and its /proc, and nothing else of what a runtime has to do.
fn unshare(setup: &Setup) -> Result<Line> {
    let root = setup.true_bundle()?.join("rootfs");
    let flags = ["unshare", "--fork", "--pid", "--mount", "--ipc", "--net", "--uts", "--mount-proc"].map(Into::into);
    Ok(Line::new(flags.into_iter().chain(["--root".into(), word(&root), "/bin/true".into()])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_has_300_rules() {
        let profile = profile();
        let rules = profile["syscalls"].as_array().unwrap();
        assert_eq!(rules.len(), 300);
        assert!(rules.contains(&json!({"names": ["execve"], "action": "SCMP_ACT_ALLOW"})));
    }
}
