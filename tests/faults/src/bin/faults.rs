//! `faults`: runs a short scenario again and again on real agents, each time with another fault, and says what did not hold.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use nix::errno::Errno;

use podwright_faults::fill::{Resource, own_mounts};
use podwright_faults::inject::{ERRORS, Mode, Plan, errno};
use podwright_faults::node::{Setting, has_programs};
use podwright_faults::random::Random;
use podwright_faults::run::{Case, Fault, INTERRUPTED, Report, parent_cgroup, run, watch_signals};
use podwright_faults::supervise::{LAUNCH, launch};

const USAGE: &str = "\
faults --bin DIR --bundles DIR WHAT [OPTION...]
WHAT is one of
  --all             every call, once and until lifted, with and without a kill of the agent; the errors take turns. And full disks.
  --seeded K SEED   K faults that SEED chooses
  --n N --errno E --mode once|until    the N-th call that can fail with E: ENOSPC, EIO, EROFS, EMFILE, ENFILE, EAGAIN, ENOMEM
  --fill bytes|inodes --at MS          small file systems that are full from then on for 1.5 s
  --calm            no fault
  --control         a shim is killed, and nothing is excused: faults have to be found
  --kill            with --n and --fill: the agent is killed as well
  --runtime-too     with --n: calls of podwright-oci count as well
Options
  --every-errno     with --all: each call with each error that it can fail with
  --from N          with --all: from this call on
  --jobs N          runs side by side [12]
  --work DIR        for the runs' directories, on a tmpfs [/dev/shm/podwright-faults-PID]
  --keep            the directories of runs with faults stay
Exit status 0: everything held. 1: something did not. 2: the call is wrong.";

enum What {
    All { every_errno: bool, from: u64 },
    Seeded { count: u64, seed: u64 },
    One(Case),
}

struct Options {
    bin: PathBuf,
    bundles: PathBuf,
    what: What,
    jobs: usize,
    work: PathBuf,
    keep: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((LAUNCH, rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        let Err(error) = launch(rest);
        eprintln!("faults: {error}");
        return ExitCode::from(2);
    }
    match parse().and_then(|options| run_all(&options)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[derive(Default)]
struct Words {
    bin: Option<PathBuf>,
    bundles: Option<PathBuf>,
    all: bool,
    every_errno: bool,
    from: u64,
    seeded: Option<(u64, u64)>,
    n: Option<u64>,
    errno: Option<Errno>,
    mode: Option<Mode>,
    fill: Option<Resource>,
    at: u64,
    calm: bool,
    control: bool,
    kill: bool,
    runtime_too: bool,
}

fn parse() -> Result<Options> {
    let mut words = Words { from: 1, ..Words::default() };
    let (mut jobs, mut keep) = (12, false);
    let mut work = PathBuf::from(format!("/dev/shm/podwright-faults-{}", std::process::id()));
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bin") => words.bin = Some(absolute(parser.value()?)?),
            Long("bundles") => words.bundles = Some(absolute(parser.value()?)?),
            Long("all") => words.all = true,
            Long("every-errno") => words.every_errno = true,
            Long("from") => words.from = parser.value()?.parse()?,
            Long("seeded") => words.seeded = Some((parser.value()?.parse()?, parser.value()?.parse()?)),
            Long("n") => words.n = Some(parser.value()?.parse::<u64>()?.max(1)),
            Long("errno") => words.errno = Some(errno(&parser.value()?.string()?).map_err(anyhow::Error::msg)?),
            Long("mode") => words.mode = Some(parser.value()?.string()?.parse().map_err(anyhow::Error::msg)?),
            Long("fill") => words.fill = Some(resource(&parser.value()?.string()?)?),
            Long("at") => words.at = parser.value()?.parse()?,
            Long("calm") => words.calm = true,
            Long("control") => words.control = true,
            Long("kill") => words.kill = true,
            Long("runtime-too") => words.runtime_too = true,
            Long("jobs") => jobs = parser.value()?.parse::<usize>()?.max(1),
            Long("work") => work = std::path::absolute(parser.value()?)?,
            Long("keep") => keep = true,
            Short('h') | Long("help") => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let what = what(&words)?;
    let bin = words.bin.context("--bin is missing")?;
    let bundles = words.bundles.context("--bundles is missing")?;
    has_programs(&bin, &["podwrightd", "podwright-shim", "podwright-oci", "tell"]).map_err(anyhow::Error::msg)?;
    Ok(Options { bin, bundles, what, jobs, work, keep })
}

fn what(words: &Words) -> Result<What> {
    let one = |fault| What::One(Case { fault, kill: words.kill, runtime_too: words.runtime_too });
    if words.control {
        return Ok(one(Fault::Control));
    }
    match (words.all, words.seeded, words.n, words.fill, words.calm) {
        (true, None, None, None, false) => Ok(What::All { every_errno: words.every_errno, from: words.from }),
        (false, Some((count, seed)), None, None, false) => Ok(What::Seeded { count, seed }),
        (false, None, Some(n), None, false) => {
            let (errno, mode) = words.errno.zip(words.mode).context("--n goes with --errno and --mode")?;
            Ok(one(Fault::Calls(Plan { n, errno, mode })))
        }
        (false, None, None, Some(resource), false) => Ok(one(Fault::Full(resource, words.at))),
        (false, None, None, None, true) => Ok(one(Fault::None)),
        _ => bail!("expected one of --all, --seeded, --n, --fill, --calm\n{USAGE}"),
    }
}

fn absolute(path: OsString) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    path.canonicalize().with_context(|| path.display().to_string())
}

fn resource(text: &str) -> Result<Resource> {
    match text {
        "bytes" => Ok(Resource::Bytes),
        "inodes" => Ok(Resource::Inodes),
        _ => bail!("--fill {text}: accepted are bytes and inodes"),
    }
}

fn run_all(options: &Options) -> Result<ExitCode> {
    own_mounts().context("a mount namespace of its own")?;
    watch_signals().context("signals")?;
    let (cgroup, lacks_controllers) = parent_cgroup("faults").map_err(anyhow::Error::msg)?;
    fs::create_dir_all(&options.work).with_context(|| options.work.display().to_string())?;
    let (bin, bundles, work) = (options.bin.clone(), options.bundles.clone(), options.work.clone());
    let setting = Setting { bin, bundles, work, cgroup, lacks_controllers, keep: options.keep };
    let result = try_cases(options, &setting);
    podwright_cases::host::destroy(&setting.cgroup);
    if !options.keep {
        fs::remove_dir_all(&setting.work).with_context(|| setting.work.display().to_string())?;
    }
    result
}

fn try_cases(options: &Options, setting: &Setting) -> Result<ExitCode> {
    let begin = Instant::now();
    let cases = match &options.what {
        What::One(case) => vec![*case],
        what => choose(what, count(setting)?),
    };
    let (send, results) = channel();
    let next = AtomicUsize::new(0);
    let is_long = matches!(options.what, What::All { .. });
    let (mut tried, mut happened, mut wrong, mut longest) = (0, 0, Vec::new(), 0.0_f64);
    thread::scope(|scope| {
        for _ in 0..options.jobs.min(cases.len()) {
            let (send, cases, next) = (send.clone(), &cases, &next);
            scope.spawn(move || {
                while let Some((index, case)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(index).map(|case| (index, case))
                } {
                    if INTERRUPTED.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = run(setting, &format!("run{index}"), *case);
                    if send.send((*case, report)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (case, report) in results {
            tried += 1;
            happened += usize::from(report.happened);
            longest = longest.max(report.seconds);
            // Thousands of lines that say that nothing is wrong are for nobody.
            if !is_long || !report.wrong.is_empty() {
                print(&case, &report);
            } else if tried % 200 == 0 {
                println!("{tried} of {} tried ({} s)", cases.len(), begin.elapsed().as_secs());
            }
            if !report.wrong.is_empty() {
                wrong.push((case, report));
            }
        }
    });
    summarise(&wrong);
    let seconds = begin.elapsed().as_secs();
    println!(
        "{tried} tried, in {happened} the fault came to pass, {} with faults found ({seconds} s, the longest {longest:.1} s)",
        wrong.len()
    );
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    // Calls come in another number each time, so the last ones may be missed; most may not.
    let is_blind = tried > 1 && happened * 2 < tried;
    if is_blind {
        println!("too few faults came to pass");
    }
    Ok(ExitCode::from(u8::from(is_blind || !wrong.is_empty())))
}

/// How many calls can fail with each error, counted in a run in which none does: that has to hold anyway. And the control has to be found.
fn count(setting: &Setting) -> Result<[u64; ERRORS.len()]> {
    let calm = Case { fault: Fault::None, kill: false, runtime_too: false };
    let report = run(setting, "calm", calm);
    if !report.wrong.is_empty() {
        print(&calm, &report);
        bail!("something is wrong without any fault");
    }
    let control = Case { fault: Fault::Control, ..calm };
    let found = run(setting, "control", control).wrong;
    if !found.iter().any(|wrong| wrong.starts_with("six/main is shown as lost")) {
        bail!("the control, a shim that is killed, went unnoticed: {found:?}");
    }
    let (seen, counts) = report.counts;
    if counts.contains(&0) {
        bail!("no call is seen that could fail: {counts:?}");
    }
    let of: Vec<String> = ERRORS.iter().zip(counts).map(|(errno, count)| format!("{errno:?} {count}")).collect();
    println!("calls seen {seen}, which can fail: {} ({:.1} s)", of.join(", "), report.seconds);
    Ok(counts)
}

/// The cases, now that it is known how many calls there are.
fn choose(what: &What, counts: [u64; ERRORS.len()]) -> Vec<Case> {
    let mut cases = Vec::new();
    match what {
        What::One(case) => cases.push(*case),
        What::Seeded { count, seed } => {
            let mut random = Random::new(*seed);
            for _ in 0..*count {
                cases.push(chosen(&mut random, counts));
            }
        }
        What::All { every_errno, from } => {
            let last = counts.iter().copied().max().unwrap_or(0);
            for n in *from..=last {
                for (way, (mode, kill)) in
                    [(Mode::Once, false), (Mode::Once, true), (Mode::Until, false), (Mode::Until, true)]
                        .into_iter()
                        .enumerate()
                {
                    let fits: Vec<Errno> = ERRORS
                        .into_iter()
                        .zip(counts)
                        .filter(|(_, count)| n <= *count)
                        .map(|(errno, _)| errno)
                        .collect();
                    let turn = fits.iter().copied().cycle().nth(n as usize % fits.len().max(1) + way);
                    let errors = if *every_errno { fits } else { turn.into_iter().collect() };
                    let plans = errors.into_iter().map(|errno| Plan { n, errno, mode });
                    cases.extend(plans.map(|plan| Case { fault: Fault::Calls(plan), kill, runtime_too: false }));
                }
            }
            for at in (0..3000).step_by(100) {
                for resource in [Resource::Bytes, Resource::Inodes] {
                    for kill in [false, true] {
                        cases.push(Case { fault: Fault::Full(resource, at), kill, runtime_too: false });
                    }
                }
            }
        }
    }
    cases
}

fn chosen(random: &mut Random, counts: [u64; ERRORS.len()]) -> Case {
    let kill = random.one_in(2);
    let fault = if random.one_in(5) {
        let resource = if random.one_in(2) { Resource::Bytes } else { Resource::Inodes };
        Fault::Full(resource, random.between(0, 3000))
    } else {
        let index = random.between(0, ERRORS.len() as u64 - 1) as usize;
        let errno = ERRORS.get(index).copied().unwrap_or(Errno::ENOSPC);
        let n = random.between(1, counts.get(index).copied().unwrap_or(1).max(1));
        let mode = if random.one_in(2) { Mode::Once } else { Mode::Until };
        Fault::Calls(Plan { n, errno, mode })
    };
    Case { fault, kill, runtime_too: false }
}

fn print(case: &Case, report: &Report) {
    if report.wrong.is_empty() {
        let note = if report.happened || case.fault == Fault::None { "" } else { ", the fault did not come to pass" };
        println!("ok    {case} ({:.1} s{note})", report.seconds);
        return;
    }
    println!("FAULT {case} ({:.1} s)", report.seconds);
    report.failed.iter().for_each(|call| println!("    failed: {call}"));
    report.wrong.iter().for_each(|wrong| println!("  {}", wrong.replace('\n', "\n    ")));
    println!("  again: scripts/faults {case}");
}

/// Faults of a kind have many calls that lead to them.
fn summarise(wrong: &[(Case, Report)]) {
    let mut kinds: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (case, report) in wrong {
        for text in &report.wrong {
            let first = text.lines().next().unwrap_or_default();
            let kind: String = first.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).take(120).collect();
            kinds.entry(kind).or_insert_with(|| (0, case.to_string())).0 += 1;
        }
    }
    for (kind, (count, example)) in kinds {
        println!("{count:4} × {kind}\n       scripts/faults {example}");
    }
}
