//! `chaos`: one agent with many pods, jobs and cron jobs, killed again and again.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use lexopt::prelude::*;

use podwright_faults::chaos::chaos;
use podwright_faults::fill::own_mounts;
use podwright_faults::node::{Setting, has_programs};
use podwright_faults::run::{parent_cgroup, watch_signals};

const USAGE: &str = "\
chaos --bin DIR --bundles DIR [OPTION...] [SEED]
  --kills N     agents and shims that are killed [20]
  --work DIR    for the agent's directories, on a tmpfs [/dev/shm/podwright-chaos-PID]
  --keep        the directories stay if something is wrong
Exit status 0: everything held. 1: something did not. 2: the call is wrong.";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let (mut bin, mut bundles, mut kills, mut keep, mut seed) = (None, None, 20, false, None);
    let mut work = PathBuf::from(format!("/dev/shm/podwright-chaos-{}", std::process::id()));
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bin") => bin = Some(fs::canonicalize(parser.value()?).context("--bin")?),
            Long("bundles") => bundles = Some(fs::canonicalize(parser.value()?).context("--bundles")?),
            Long("kills") => kills = parser.value()?.parse()?,
            Long("work") => work = std::path::absolute(parser.value()?)?,
            Long("keep") => keep = true,
            Short('h') | Long("help") => {
                println!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            Value(value) if seed.is_none() => seed = Some(value.parse()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let (bin, bundles) = (bin.context("--bin is missing")?, bundles.context("--bundles is missing")?);
    has_programs(&bin, &["podwrightd", "podwright-shim", "podwright-oci", "tell"]).map_err(anyhow::Error::msg)?;
    let seed: u64 = match seed {
        Some(seed) => seed,
        None => {
            u64::from(std::process::id())
                ^ fs::read("/proc/sys/kernel/random/uuid")?.iter().fold(0, |a, b| a * 31 % 1_000_003 + u64::from(*b))
        }
    };
    own_mounts().context("a mount namespace of its own")?;
    watch_signals().context("signals")?;
    let (cgroup, lacks_controllers) = parent_cgroup("chaos").map_err(anyhow::Error::msg)?;
    fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    let setting = Setting { bin, bundles, work, cgroup, lacks_controllers, keep };
    let begin = Instant::now();
    println!("chaos: seed {seed}, {kills} kills");
    let report = chaos(&setting, seed, kills, |line| println!("{line}"));
    podwright_cases::host::destroy(&setting.cgroup);
    if !keep {
        fs::remove_dir_all(&setting.work).with_context(|| setting.work.display().to_string())?;
    }
    let report = report.map_err(anyhow::Error::msg)?;
    report.wrong.iter().for_each(|wrong| println!("FAULT {}", wrong.replace('\n', "\n    ")));
    println!("{} ({} s): {} faults", report.summary, begin.elapsed().as_secs(), report.wrong.len());
    if report.wrong.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("again: scripts/chaos --kills {kills} {seed}");
    Ok(ExitCode::from(1))
}
