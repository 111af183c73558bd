//! Runs seeded schedules of a whole node: `simulate [--schedules N] [--first SEED] [--seed SEED]`.
//!
//! Each seed makes a node with pods, a job and a cron job. Each is run once undisturbed by crashes, then again with the agent dying at one
//! of its steps, going through all steps over the seeds. `--seed` replays one seed with its timeline. Exit status 1 names the seed that
//! failed. There are as many schedules as asked for of pods and jobs, and as many again of cron jobs.

use std::fmt::Debug;
use std::process::ExitCode;

use podwright_core::sim::{CronSchedule, JobSchedule, Schedule, Violation};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut schedules, mut first, mut replay) = (20_000_u64, 0_u64, None);
    while let Some(arg) = args.next() {
        let value = args.next().and_then(|v| v.parse::<u64>().ok());
        match (arg.as_str(), value) {
            ("--schedules", Some(n)) => schedules = n,
            ("--first", Some(n)) => first = n,
            ("--seed", Some(n)) => replay = Some(n),
            _ => {
                eprintln!("usage: simulate [--schedules N] [--first SEED] [--seed SEED]; found {arg:?}");
                return ExitCode::from(2);
            }
        }
    }
    if let Some(seed) = replay {
        return verdict(seed, run(seed, true));
    }
    let (mut done, mut seed) = (Counts::default(), first);
    while done[0] + done[1] < schedules || done[2] < schedules {
        let all = done[0] + done[1] < schedules;
        match if all { run(seed, false) } else { run_cron(seed, false).map(|n| [0, 0, n]) } {
            Ok(counts) => done.iter_mut().zip(counts).for_each(|(all, more)| *all += more),
            Err(e) => return verdict(seed, Err(e)),
        }
        seed += 1;
    }
    verdict(seed, Ok(done))
}

fn verdict(seed: u64, result: Result<Counts, String>) -> ExitCode {
    match result {
        Ok(counts) => {
            let [pods, jobs, crons] = counts;
            let all: u64 = counts.iter().sum();
            println!(
                "simulation: {all} schedules ({pods} of pods, {jobs} of jobs, {crons} of cron jobs), no invariant violated"
            );
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("{e}\nseed {seed} failed; replay it: scripts/simulate --seed {seed}");
            ExitCode::FAILURE
        }
    }
}

/// A schedule's run.
struct Run<O> {
    steps: u64,
    outcome: O,
    timeline: Vec<String>,
    violation: Option<Violation>,
}

/// Schedules that were run: of pods, of jobs, of cron jobs.
type Counts = [u64; 3];

/// All schedules of one seed.
fn run(seed: u64, show: bool) -> Result<Counts, String> {
    let schedule = Schedule::new(seed);
    let pods = with_crashes(seed, "pods", show, schedule.is_undisturbed(), |crashes| {
        let report = schedule.run(crashes);
        Run { steps: report.steps, outcome: report.outcomes, timeline: report.timeline, violation: report.violation }
    })?;
    let schedule = JobSchedule::new(seed);
    let jobs = with_crashes(seed, "job", show, schedule.is_undisturbed(), |crashes| {
        let report = schedule.run(crashes);
        Run { steps: report.steps, outcome: report.outcome, timeline: report.timeline, violation: report.violation }
    })?;
    Ok([pods, jobs, run_cron(seed, show)?])
}

fn run_cron(seed: u64, show: bool) -> Result<u64, String> {
    let schedule = CronSchedule::new(seed);
    with_crashes(seed, "cron job", show, schedule.is_undisturbed(), |crashes| {
        let report = schedule.run(crashes);
        Run { steps: report.steps, outcome: report.outcome, timeline: report.timeline, violation: report.violation }
    })
}

/// One without a crash, and one with a crash at each of a few steps. How many they were.
fn with_crashes<O: PartialEq + Debug>(
    seed: u64,
    what: &str,
    show: bool,
    is_undisturbed: bool,
    run: impl Fn(&[u64]) -> Run<O>,
) -> Result<u64, String> {
    let calm = run(&[]);
    check(&calm, &format!("{what} without a crash"), show)?;
    let mut count = 1;
    // Short schedules are crashed at every step, long ones at every step over the seeds.
    let stride = 1 + calm.steps / 12;
    let mut step = 1 + seed % stride;
    while step <= calm.steps {
        let crashed = run(&[step]);
        check(&crashed, &format!("{what} with a crash before step {step}"), show)?;
        if is_undisturbed && crashed.outcome != calm.outcome {
            return Err(format!(
                "invariant crash-changes-no-outcome violated: {what}: {:?} became {:?} with a crash before step {step}\n{}",
                calm.outcome,
                crashed.outcome,
                crashed.timeline.join("\n")
            ));
        }
        count += 1;
        step += stride;
    }
    Ok(count)
}

fn check<O>(run: &Run<O>, how: &str, show: bool) -> Result<(), String> {
    if show {
        println!("--- {how}: {} steps\n{}", run.steps, run.timeline.join("\n"));
    }
    match &run.violation {
        None => Ok(()),
        Some(v) => Err(format!("{v} ({how})\n{}", run.timeline.join("\n"))),
    }
}
