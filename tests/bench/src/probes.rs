//! What an exec probe costs: all that agent, shim and the probe's own process take, beside a bare loop of clone into the container's
//! cgroup, setns, exec of the same program and wait.
//!
//! Agent and shims work as always: containers whose readiness and liveness probes run `true` every second, as many as make the rate.
//! How many probes there were is told by the containers' PID namespaces, which number all processes.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{Pid, execve};
use podwright_sys::cgroup::Cgroup;

use podwright_sys::process::{self, Cloned};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::procs::cpu_seconds;
use crate::samples::Samples;
use crate::setup::Setup;

/// Containers of one pod, each with two probes a second.
const CONTAINERS: usize = 10;
/// Time for the probes of all pods to be under way.
const SETTLE: Duration = Duration::from_secs(5);
/// How long they are watched.
const WINDOW: Duration = Duration::from_secs(20);

/// Fills `exec_probe_ms`, `exec_probe_bare_ms` (CPU time), `exec_probe_bare_wall_ms` and `exec_probes_per_s`.
///
/// # Errors
/// When a pod does not run, or a process of the loop fails.
pub(crate) fn measure(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let mut agent = Agent::start(setup, "probes")?;
    let pods = setup.probe_rate.div_ceil(2 * CONTAINERS);
    let names: Vec<String> = (0..pods).map(|n| format!("probed{n}")).collect();
    for name in &names {
        agent.place(name, &manifest(name))?;
    }
    agent.running(pods)?;
    sleep(SETTLE);
    let mut doors = Vec::new();
    find_containers(agent.cgroup(), &mut doors)?;
    ensure!(doors.len() == pods * CONTAINERS, "{} containers where {} run", doors.len(), pods * CONTAINERS);

    // Counting takes its time: what is counted is from the middle of one count to the middle of the other.
    let (before, began) = counted(&doors)?;
    let (from, started) = (cpu(&agent)?, Instant::now());
    sleep(WINDOW);
    let used_per_s = (cpu(&agent)? - from) / started.elapsed().as_secs_f64();
    let (after, ended) = counted(&doors)?;
    // One process a container was ours.
    let probes = after.saturating_sub(before).saturating_sub(doors.len() as u64) as f64;
    ensure!(probes > 0.0, "no probe was run");
    let per_s = probes / ended.duration_since(began).as_secs_f64();
    samples.add("exec_probe_ms", used_per_s * 1e3 / per_s);
    samples.add("exec_probes_per_s", per_s);

    let rounds = setup.oci_rounds * 20;
    let (from, started) = (own_cpu()?, Instant::now());
    for n in 0..rounds {
        doors[n % doors.len()].run_true()?;
    }
    samples.add("exec_probe_bare_wall_ms", started.elapsed().as_secs_f64() * 1e3 / rounds as f64);
    samples.add("exec_probe_bare_ms", (own_cpu()? - from) * 1e3 / rounds as f64);
    for name in &names {
        agent.remove(name)?;
    }
    agent.gone(pods)?;
    agent.stop()
}

fn manifest(name: &str) -> Value {
    let probe = json!({"exec": {"command": ["/bin/true"]}, "periodSeconds": 1, "timeoutSeconds": 5});
    let containers: Vec<Value> = (0..CONTAINERS)
        .map(|n| {
            json!({
                "name": format!("c{n}"), "image": "busybox", "command": ["sleep", "1000000"],
                "readinessProbe": probe, "livenessProbe": probe,
            })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": containers},
    })
}

/// What a command of a plain pod enters besides the PID namespace.
const ENTERED: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// CPU seconds of the agent, and of the pods with their shims and all processes that have ended there.
fn cpu(agent: &Agent) -> Result<f64> {
    let stat = Cgroup::at(agent.cgroup()).read("cpu.stat")?;
    let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("cpu.stat: no usage_usec")?;
    Ok(usage.parse::<f64>()? / 1e6 + cpu_seconds(agent.pid())?)
}

/// Our own CPU seconds, and those of our children that were waited for.
fn own_cpu() -> Result<f64> {
    let mut micros = 0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        micros += usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    }
    Ok(micros as f64 / 1e6)
}

/// A running container.
struct Door {
    pid: Pid,
    cgroup: Cgroup,
}

/// The containers below a cgroup: what has processes and belongs neither to a shim nor to a command.
fn find_containers(directory: &Path, doors: &mut Vec<Door>) -> Result<()> {
    let mut below: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let passed_over = name == "_supervisor" || name.to_string_lossy().starts_with("_exec");
        if entry.file_type()?.is_dir() && !passed_over {
            below.push(entry.path());
        }
    }
    for path in below {
        let cgroup = Cgroup::at(path.clone());
        if let Some(pid) = cgroup.procs()?.into_iter().min() {
            doors.push(Door { pid: Pid::from_raw(pid), cgroup });
        }
        find_containers(&path, doors)?;
    }
    Ok(())
}

impl Door {
    /// Runs `true` in the container. Returns its number in the container's PID namespace.
    fn run_true(&self) -> Result<u64> {
        let target = process::pidfd_open(self.pid).context("a container has ended")?;
        let own = fs::File::open("/proc/self/ns/pid")?;
        let (path, directory) = (CString::new("/bin/true")?, self.cgroup.open()?);
        setns(target.as_fd(), CloneFlags::CLONE_NEWPID)?;
        let cloned = process::clone(CloneFlags::empty(), Some(directory.as_fd()));
        if let Ok(Cloned::Child) = cloned {
            if setns(target.as_fd(), ENTERED).is_ok() {
                let Err(_refused) = execve(&path, &[&path], &[c"PATH=/bin"]);
            }
            process::exit_now(126);
        }
        setns(own.as_fd(), CloneFlags::CLONE_NEWPID)?;
        let Cloned::Parent { pid, pidfd } = cloned? else { bail!("two children") };
        // It stays as long as it is not waited for.
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let ended = process::wait(pidfd)?;
        ensure!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "true ended with {ended:?}");
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).context("no NSpid")?;
        numbers.split_whitespace().last().and_then(|n| n.parse().ok()).context("no number in NSpid")
    }
}

/// How many processes there have been in all these containers together, one more in each by this; and the middle of the time that it
/// took to find out.
fn counted(doors: &[Door]) -> Result<(u64, Instant)> {
    let began = Instant::now();
    let sum = doors.iter().map(Door::run_true).sum::<Result<u64>>()?;
    Ok((sum, began + began.elapsed() / 2))
}
