//! `podwright-bench`: times podwright beside crun, runc, unshare(1) and podman, and measures what pods cost that only
//! run. `scripts/bench` calls it in a VM, under systemd as process 1.

mod agent;
mod clock;
mod command;
mod idle;
mod machine;
mod oci;
mod podman;
mod pods;
mod probes;
mod procs;
mod report;
mod samples;
mod setup;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use command::Line;
use samples::Samples;
use setup::Setup;

const USAGE: &str = "\
podwright-bench --bin DIR --bundles DIR --image TAR --scratch DIR [--only oci|pods|idle|probes]... [--probe-rate N] [--runs N] [--quick]
prints a table, and the same as one line of JSON, the last
podwright-bench max-rss COMMAND [ARGUMENT]...
runs a command and prints its largest resident set in KiB";

const PARTS: [&str; 4] = ["oci", "pods", "idle", "probes"];

fn main() -> Result<()> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [first, command @ ..] = words.as_slice()
        && first == oci::REPORT
    {
        return oci::report(Line::new(command));
    }
    let Some((setup, only)) = arguments()? else {
        println!("{USAGE}");
        return Ok(());
    };
    std::fs::create_dir_all(&setup.scratch).with_context(|| setup.scratch.display().to_string())?;
    let mut runs = Vec::new();
    for run in 1..=setup.runs {
        eprintln!("run {run} of {}", setup.runs);
        let mut samples = Samples::default();
        for part in PARTS.into_iter().filter(|p| only.is_empty() || only.iter().any(|o| o == p)) {
            eprintln!("measuring: {part}");
            match part {
                "oci" => oci::measure(&setup, &mut samples),
                "pods" => pods::measure(&setup, &mut samples),
                "idle" => idle::measure(&setup, &mut samples),
                _ => probes::measure(&setup, &mut samples),
            }
            .with_context(|| format!("measuring {part}"))?;
        }
        runs.push(report::complete(samples.medians()));
    }
    let values = report::of_runs(&runs);
    print!("{}", report::table(&values, &machine::describe()));
    // scripts/bench looks for the lines of what was missed.
    report::promises(&runs).iter().for_each(|line| println!("{line}"));
    println!("{}", report::json(&values));
    Ok(())
}

/// `None`: help was asked for.
fn arguments() -> Result<Option<(Setup, Vec<String>)>> {
    use lexopt::prelude::*;

    let (mut bin, mut bundles, mut image, mut scratch) = (None, None, None, None);
    let (mut only, mut quick, mut probe_rate) = (Vec::new(), false, 40);
    let mut runs = 3;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bin") => bin = Some(PathBuf::from(parser.value()?)),
            Long("bundles") => bundles = Some(PathBuf::from(parser.value()?)),
            Long("image") => image = Some(PathBuf::from(parser.value()?)),
            Long("scratch") => scratch = Some(PathBuf::from(parser.value()?)),
            Long("only") => only.push(parser.value()?.string()?),
            Long("probe-rate") => probe_rate = parser.value()?.parse()?,
            Long("runs") => runs = parser.value()?.parse::<usize>()?.max(1),
            Long("quick") => quick = true,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    if let Some(unknown) = only.iter().find(|o| !PARTS.contains(&o.as_str())) {
        bail!("--only {unknown}: the parts are {}", PARTS.join(", "));
    }
    let setup = Setup {
        bin: bin.context("--bin DIR is missing")?,
        bundles: bundles.context("--bundles DIR is missing")?,
        image: image.context("--image TAR is missing")?,
        scratch: scratch.context("--scratch DIR is missing")?,
        oci_rounds: if quick { 7 } else { 25 },
        pod_rounds: if quick { 3 } else { 10 },
        pods: 50,
        idle_seconds: 60,
        probe_rate,
        runs,
    };
    Ok(Some((setup, only)))
}
