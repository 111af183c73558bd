//! Memory: the most that a runtime has resident, and the least with which a container starts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

use super::Runtime;
use crate::command::{Line, word};
use crate::samples::Samples;
use crate::setup::Setup;

/// Limits are tried in multiples of this.
const STEP_KIB: u64 = 16;
/// A limit that is enough for every runtime.
const ENOUGH_KIB: u64 = 64 * 1024;
/// Time for a container that lacks memory to fail.
const TRIAL: Duration = Duration::from_secs(20);
/// Begin of the command line that [`report`] is for.
pub(crate) const REPORT: &str = "max-rss";

/// Fills `X_max_rss_kib` and `X_min_memory_kib` for X of oci and crun.
///
/// # Errors
/// When a runtime fails with plenty of memory.
pub(super) fn measure(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let bundle = setup.true_bundle()?;
    let this = std::env::current_exe().context("the path of this program")?;
    for runtime in [Runtime::ours(setup)?, Runtime::peer(setup, "crun")?] {
        for _ in 0..3 {
            let said = Line::new([word(&this), REPORT.into()]).then(&runtime.run(&bundle)).output()?;
            let kib = said.trim().parse().with_context(|| format!("{said:?} where KiB belong"))?;
            samples.add(format!("{}_max_rss_kib", runtime.name), kib);
        }
        samples.add(format!("{}_min_memory_kib", runtime.name), least(setup, &runtime)? as f64);
        eprintln!("  memory of {}", runtime.name);
    }
    Ok(())
}

/// Runs a command and prints the largest resident set that it or one of its descendants had, in KiB. This process is
/// small, but forks: nothing below its own size can be told.
///
/// # Errors
/// When the command fails.
pub(crate) fn report(command: Line) -> Result<()> {
    command.time()?;
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}

/// The smallest `memory.max` with which `true` runs, in KiB: what fails below, works above.
fn least(setup: &Setup, runtime: &Runtime) -> Result<u64> {
    let works = |steps: u64| starts(setup, runtime, steps * STEP_KIB);
    let (mut fails, mut enough) = (0, ENOUGH_KIB / STEP_KIB);
    if !works(enough)? {
        bail!("{} does not run `true` with {ENOUGH_KIB} KiB", runtime.name);
    }
    while enough - fails > 1 {
        let middle = fails.midpoint(enough);
        if works(middle)? { enough = middle } else { fails = middle }
    }
    Ok(enough * STEP_KIB)
}

fn starts(setup: &Setup, runtime: &Runtime, kib: u64) -> Result<bool> {
    let bundle = setup.bundle("limited", |config| {
        config["linux"]["resources"]["memory"] = json!({"limit": kib * 1024});
    })?;
    let started = runtime.run(&bundle).succeeds(TRIAL)?;
    if !started {
        // Some leave half a container behind; without one this fails.
        runtime.line(&["delete", "--force", "true"]).succeeds(TRIAL)?;
        remove_cgroup(Path::new("/sys/fs/cgroup/podwright-bench/true"))?;
    }
    Ok(started)
}

/// The cgroup that a runtime forgot.
fn remove_cgroup(path: &Path) -> Result<()> {
    match std::fs::remove_dir(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err).context(path.display().to_string()),
        _ => Ok(()),
    }
}
