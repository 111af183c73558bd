//! What pods that only run cost: memory of agent and shims, and what they do while nothing happens.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::agent::Agent;
use crate::clock::{boot_ns, ms};
use crate::pods::{containers, manifest};
use crate::procs::{Usage, pss_kib, rss_kib};
use crate::samples::{Samples, median};
use crate::setup::Setup;

/// Time for what a start leaves behind to end: the agent's pool threads live 10 s without work.
const SETTLE: Duration = Duration::from_secs(20);

/// Fills the keys of memory, with one pod and with many, and of idle time.
///
/// # Errors
/// When a pod does not run, or ends meanwhile.
pub(crate) fn measure(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let mut agent = Agent::start(setup, "idle")?;
    start(&mut agent, 0..1)?;
    sleep(SETTLE);
    memory(&agent, 1, "_1", samples)?;
    let took = start(&mut agent, 1..setup.pods)?;
    samples.add("pods49_ms", took);
    eprintln!("  {} pods run", setup.pods);
    sleep(SETTLE);
    memory(&agent, setup.pods, "_50", samples)?;
    idle(&agent, setup, samples)?;
    for n in 0..setup.pods {
        agent.remove(&name(n))?;
    }
    agent.gone(setup.pods)?;
    agent.stop()
}

fn name(n: usize) -> String {
    format!("idle{n}")
}

/// Returns the milliseconds from the first manifest to the API's word that all run.
fn start(agent: &mut Agent, which: std::ops::Range<usize>) -> Result<f64> {
    let from = boot_ns();
    let count = which.len();
    for n in which {
        agent.place(&name(n), &manifest(&name(n), "actor", &containers(1)))?;
    }
    let running = agent.running(count)?;
    Ok(ms(from, running.values().map(|r| r.at).max().unwrap_or(from)))
}

fn memory(agent: &Agent, pods: usize, suffix: &str, samples: &mut Samples) -> Result<()> {
    let shims = agent.shims()?;
    ensure!(shims.len() == pods, "{} shims for {pods} pods", shims.len());
    let of_shims = |read: fn(u32) -> Result<f64>| -> Result<f64> {
        let values: Vec<f64> = shims.iter().map(|&pid| read(pid)).collect::<Result<_>>()?;
        Ok(median(&values).unwrap_or_default())
    };
    samples.add(format!("shim_pss_kib{suffix}"), of_shims(pss_kib)?);
    samples.add(format!("shim_rss_kib{suffix}"), of_shims(rss_kib)?);
    samples.add(format!("agent_pss_kib{suffix}"), pss_kib(agent.pid())?);
    samples.add(format!("agent_rss_kib{suffix}"), rss_kib(agent.pid())?);
    Ok(())
}

fn idle(agent: &Agent, setup: &Setup, samples: &mut Samples) -> Result<()> {
    let (own, shims) = ([agent.pid()], agent.shims()?);
    let before = (Usage::of(&own)?, Usage::of(&shims)?);
    sleep(Duration::from_secs(setup.idle_seconds));
    let after = (Usage::of(&own)?, Usage::of(&shims)?);
    let (agent, shims) = (after.0.since(&before.0), after.1.since(&before.1));
    samples.add("idle_cpu_s", agent.cpu_seconds + shims.cpu_seconds);
    samples.add("idle_bytes", agent.written + shims.written);
    samples.add("idle_agent_switches", agent.switches);
    samples.add("idle_shim_switches", shims.switches);
    Ok(())
}
