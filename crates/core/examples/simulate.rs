//! Runs seeded schedules of a whole node: `simulate [--schedules N] [--first SEED] [--seed SEED]`.
//!
//! Each seed makes a node with pods and a job. Each is run once undisturbed by crashes, then again with the agent dying at one of its
//! steps, going through all steps over the seeds. `--seed` replays one seed with its timeline. Exit status 1 names the seed that failed.

use std::process::ExitCode;

use podwright_core::sim::{JobReport, JobSchedule, Report, Schedule};

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
        return verdict(seed, 1, run(seed, true).and_then(|_| run_job(seed, true)));
    }
    let (mut done, mut seed) = (0, first);
    while done < schedules {
        match run(seed, false).and_then(|pods| Ok(pods + run_job(seed, false)?)) {
            Ok(n) => done += n,
            Err(e) => return verdict(seed, done, Err(e)),
        }
        seed += 1;
    }
    verdict(seed, done, Ok(done))
}

fn verdict(seed: u64, done: u64, result: Result<u64, String>) -> ExitCode {
    match result {
        Ok(_) => {
            println!("simulation: {done} schedules, no invariant violated");
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("{e}\nseed {seed} failed; replay it: scripts/simulate --seed {seed}");
            ExitCode::FAILURE
        }
    }
}

/// The schedules of one seed: without a crash, and with one at each of a few steps. How many they were.
fn run(seed: u64, show: bool) -> Result<u64, String> {
    let schedule = Schedule::new(seed);
    let calm = schedule.run(&[]);
    check(&calm, "without a crash", show)?;
    let mut count = 1;
    // Short schedules are crashed at every step, long ones at every step over the seeds.
    let stride = 1 + calm.steps / 12;
    let mut step = 1 + seed % stride;
    while step <= calm.steps {
        let crashed = schedule.run(&[step]);
        check(&crashed, &format!("with a crash before step {step}"), show)?;
        if schedule.is_undisturbed() && crashed.outcomes != calm.outcomes {
            return Err(format!(
                "invariant crash-changes-no-outcome violated: {:?} became {:?} with a crash before step {step}\n{}",
                calm.outcomes,
                crashed.outcomes,
                crashed.timeline.join("\n")
            ));
        }
        count += 1;
        step += stride;
    }
    Ok(count)
}

/// The same for the seed's job.
fn run_job(seed: u64, show: bool) -> Result<u64, String> {
    let schedule = JobSchedule::new(seed);
    let calm = schedule.run(&[]);
    check_job(&calm, "without a crash", show)?;
    let mut count = 1;
    let stride = 1 + calm.steps / 12;
    let mut step = 1 + seed % stride;
    while step <= calm.steps {
        let crashed = schedule.run(&[step]);
        check_job(&crashed, &format!("with a crash before step {step}"), show)?;
        if schedule.is_undisturbed() && crashed.outcome != calm.outcome {
            return Err(format!(
                "invariant crash-changes-no-outcome violated: the job's {:?} became {:?} with a crash before step {step}\n{}",
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

fn check_job(report: &JobReport, how: &str, show: bool) -> Result<(), String> {
    if show {
        println!("--- job {how}: {} steps\n{}", report.steps, report.timeline.join("\n"));
    }
    match &report.violation {
        None => Ok(()),
        Some(v) => Err(format!("{v} (job {how})\n{}", report.timeline.join("\n"))),
    }
}

fn check(report: &Report, how: &str, show: bool) -> Result<(), String> {
    if show {
        println!("--- {how}: {} steps\n{}", report.steps, report.timeline.join("\n"));
    }
    match &report.violation {
        None => Ok(()),
        Some(v) => Err(format!("{v} ({how})\n{}", report.timeline.join("\n"))),
    }
}
