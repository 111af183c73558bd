//! From a written manifest to running containers, for pods of one and of three containers: podwrightd beside
//! `podman kube play`, and beside one `crun run`.
//!
//! A container runs when its process has written its first line, which carries the process's own clock reading. So the
//! end of the measured time is the same event for both, whatever they report and when.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::clock::{boot_ns, ms};
use crate::oci;
use crate::podman::{IMAGE, Podman};
use crate::samples::{Samples, Turn, interleave};
use crate::setup::Setup;

/// Longest wait for a container's first line once its runtime has reported it running.
const FIRST_LINE: Duration = Duration::from_secs(20);
/// Time between two looks at the logs; what is measured is the stamp in them.
const LOOK: Duration = Duration::from_millis(5);

/// Fills `podN_ms` and `podman_podN_ms` (written to the last container's first line), `podN_reported_ms` and
/// `podman_podN_reported_ms` (to the API's word that all run, to the end of the command), `podN_agent_ms` (to the first
/// request that the pod's shim took) and `pods_crun_run_ms`, for N of 1 and 3.
///
/// # Errors
/// When any of them fails.
pub(crate) fn measure(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let own_agent = RefCell::new(Agent::start(setup, "pods")?);
    let own_podman = Podman::new(setup).context("podman")?;
    let (agent, podman) = (&own_agent, &own_podman);
    let crun = oci::Runtime::peer(setup, "crun")?.run(&setup.true_bundle()?);
    // A pod of the same name and content would be the same pod again, with a further attempt.
    let round = RefCell::new(0..);
    let number = || round.borrow_mut().next().unwrap_or(0);
    let own =
        |count| -> Turn<'_> { Box::new(move |samples| own_pod(&mut agent.borrow_mut(), count, number(), samples)) };
    let peer = |count| -> Turn<'_> { Box::new(move |samples| podman_pod(setup, podman, count, samples)) };
    let mut turns = [
        ("crun run", oci::turn("pods_crun_run_ms".into(), crun)),
        ("a pod of 1", own(1)),
        ("a pod of 3", own(3)),
        ("podman, a pod of 1", peer(1)),
        ("podman, a pod of 3", peer(3)),
    ];
    interleave(setup.pod_rounds, &mut turns, samples)?;
    drop(turns);
    own_agent.into_inner().stop()
}

/// A pod of actors that run until they are told to stop; the same for both sides but for the image's name.
pub(crate) fn manifest(name: &str, image: &str, containers: &[String]) -> Value {
    let containers: Vec<Value> =
        containers.iter().map(|c| json!({"name": c, "image": image, "args": ["run=inf"]})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 10, "containers": containers},
    })
}

/// `c1`, `c2`, …
pub(crate) fn containers(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("c{n}")).collect()
}

fn own_pod(agent: &mut Agent, count: usize, number: u32, samples: &mut Samples) -> Result<()> {
    let kind = format!("pod{count}");
    let name = format!("{kind}-{number}");
    let containers = containers(count);
    let from = agent.place(&name, &manifest(&name, "actor", &containers))?;
    let running = agent.running(1)?.remove(&name).with_context(|| format!("another pod than {name} runs"))?;
    let started = last_start(&agent.logs(&name, &running.uid, &containers), from)?;
    let requests: Vec<i64> = containers.iter().map(|c| agent.requested(&running.uid, c)).collect::<Result<_>>()?;
    let requested = requests.into_iter().min().unwrap_or(from);
    samples.add(format!("{kind}_agent_ms"), ms(from, requested));
    samples.add(format!("{kind}_ms"), ms(from, started));
    samples.add(format!("{kind}_reported_ms"), ms(from, running.at));
    agent.remove(&name)?;
    agent.gone(1)
}

fn podman_pod(setup: &Setup, podman: &Podman, count: usize, samples: &mut Samples) -> Result<()> {
    let name = format!("pod{count}");
    let path = setup.scratch.join(format!("podman-{name}.json"));
    fs::write(&path, manifest(&name, IMAGE, &containers(count)).to_string())?;
    let from = boot_ns();
    let took = podman.play(&path)?;
    let since = Instant::now();
    let logs = loop {
        let logs = podman.logs()?;
        match logs.len() {
            found if found == count => break logs,
            found if since.elapsed() > FIRST_LINE => bail!("podman has logs of {found} of {count} containers"),
            _ => sleep(LOOK),
        }
    };
    samples.add(format!("podman_{name}_ms"), ms(from, last_start(&logs, from)?));
    samples.add(format!("podman_{name}_reported_ms"), took);
    podman.remove(&name)
}

/// The latest of the logs' `started` lines, `CLOCK_BOOTTIME`.
fn last_start(logs: &[PathBuf], from: i64) -> Result<i64> {
    let since = Instant::now();
    let mut last = from;
    for log in logs {
        let at = loop {
            let text = fs::read_to_string(log).unwrap_or_default();
            match text.lines().find_map(started) {
                Some(at) => break at,
                None if since.elapsed() > FIRST_LINE => bail!("{} has no line \"started\"", log.display()),
                None => sleep(LOOK),
            }
        };
        last = last.max(at);
    }
    Ok(last)
}

/// The stamp of a log line `TIME STREAM TAG @NANOSECONDS started …`.
fn started(line: &str) -> Option<i64> {
    let (_, event) = line.split_once(" @")?;
    let (at, rest) = event.split_once(' ')?;
    rest.split(' ').next().filter(|&word| word == "started").and_then(|_| at.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_actors_first_event_counts() {
        assert_eq!(started("2026-11-23T18:00:00.1Z stdout F @123456 started n=1"), Some(123_456));
        assert_eq!(started("2026-11-23T18:00:00.1Z stdout F @123456 started"), Some(123_456));
        assert_eq!(started("2026-11-23T18:00:00.1Z stdout F @123456 term"), None);
        assert_eq!(started("2026-11-23T18:00:00.1Z stderr F started"), None);
    }

    #[test]
    fn the_last_container_decides() {
        let directory = std::env::temp_dir().join(format!("podwright-bench-pods-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let logs: Vec<PathBuf> = ["7", "9", "8"].iter().map(|n| directory.join(n)).collect();
        for log in &logs {
            let stamp = log.file_name().unwrap().to_str().unwrap();
            fs::write(log, format!("t stdout F @{stamp} started\nt stdout F @99 term\n")).unwrap();
        }
        assert_eq!(last_start(&logs, 1).unwrap(), 9);
        fs::remove_dir_all(&directory).unwrap();
    }
}
