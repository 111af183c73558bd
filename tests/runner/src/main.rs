//! `cases`: runs behaviour cases, many at once, each with its own `podwrightd` and its own root directories.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use serde_json::{Map, Value, json};

use podwright_cases::agent::has_program;
use podwright_cases::case::{Case, read};
use podwright_cases::host::Host;
use podwright_cases::judge::Failure;
use podwright_cases::recording::Recording;
use podwright_cases::report::{Verdict, timeline, verdict};
use podwright_cases::run::{INTERRUPTED, Setting, run};
use podwright_cases::shape;

const USAGE: &str = "\
cases [OPTION...] DIR|FILE...
  --bin DIR         where podwrightd, podwright and what they start are
  --bundles DIR     the bundles (scripts/bundles)
  --work DIR        directory for the cases' own directories, on a tmpfs [/dev/shm/podwright-cases-PID]
  --jobs N          cases at once [16]
  --slow FACTOR     how much slower than an idle machine; multiplies upper bounds [1]
  --only ID,...     only these cases
  --kernel SEED     only cases that a kernel may make a difference to, and the tenth of the others that SEED draws
  --stage STAGE     only cases of this stage: spine or lifecycle
  --have NEED,...   what the host has whatever is found: cgroup, oom, netns, api, image
  --set KEY=VALUE   configuration for every agent; may be repeated
  --runtime NAME=PATH  another OCI runtime for all containers, such as crun=/usr/bin/crun
  --self-test       judge contradictions too: each has to fail where its expectation holds
  --save DIR        keep the recording of each case as DIR/ID.json
  --keep            leave the cases' directories there
  --check           only read the files
A case of which nothing but upper bounds of time failed runs again, alone, unless there are more than 3 of them.
Exit status 0: no case failed. 1: some did. 2: the files or the call are wrong.";

struct Options {
    bin: Option<PathBuf>,
    bundles: Option<PathBuf>,
    work: PathBuf,
    jobs: usize,
    slow: f64,
    only: BTreeSet<String>,
    kernel: Option<u64>,
    stage: Option<String>,
    have: BTreeSet<String>,
    set: Map<String, Value>,
    self_test: bool,
    save: Option<PathBuf>,
    keep: bool,
    check: bool,
    paths: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match parse().and_then(|options| if options.check { check(&options) } else { run_all(&options) }) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cases: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn parse() -> Result<Options> {
    let mut options = Options {
        bin: None,
        bundles: None,
        work: PathBuf::from(format!("/dev/shm/podwright-cases-{}", std::process::id())),
        jobs: 16,
        slow: 1.0,
        only: BTreeSet::new(),
        kernel: None,
        stage: None,
        have: BTreeSet::new(),
        set: Map::new(),
        self_test: false,
        save: None,
        keep: false,
        check: false,
        paths: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bin") => options.bin = Some(absolute(parser.value()?)?),
            Long("bundles") => options.bundles = Some(absolute(parser.value()?)?),
            Long("work") => options.work = std::path::absolute(parser.value()?)?,
            Long("jobs") => options.jobs = parser.value()?.parse::<usize>()?.max(1),
            Long("slow") => options.slow = number(&parser.value()?)?,
            Long("only") => options.only = words(&parser.value()?.string()?),
            Long("kernel") => options.kernel = Some(parser.value()?.parse()?),
            Long("stage") => options.stage = Some(one_of(parser.value()?.string()?, &["spine", "lifecycle"])?),
            Long("have") => {
                for need in words(&parser.value()?.string()?) {
                    options.have.insert(one_of(need, shape::NEEDS)?);
                }
            }
            Long("set") => {
                let word = parser.value()?.string()?;
                let (key, value) = word.split_once('=').with_context(|| format!("--set {word}: expected KEY=VALUE"))?;
                options.set.insert(key.to_owned(), value.into());
            }
            Long("runtime") => {
                let word = parser.value()?.string()?;
                let (name, path) =
                    word.split_once('=').with_context(|| format!("--runtime {word}: expected NAME=PATH"))?;
                options.set.insert("runtimes".to_owned(), json!({ name: path }));
                options.set.insert("defaultRuntime".to_owned(), name.into());
            }
            Long("self-test") => options.self_test = true,
            Long("save") => options.save = Some(parser.value()?.into()),
            Long("keep") => options.keep = true,
            Long("check") => options.check = true,
            Short('h') | Long("help") => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            Value(path) => options.paths.push(path.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    if options.paths.is_empty() {
        bail!("no file or directory is given\n{USAGE}");
    }
    Ok(options)
}

fn absolute(path: OsString) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    path.canonicalize().with_context(|| path.display().to_string())
}

fn number(text: &OsString) -> Result<f64> {
    let text = text.to_str().context("no number")?;
    let value = f64::from_str(text).with_context(|| format!("{text:?} is no number"))?;
    if value.is_finite() && value >= 1.0 { Ok(value) } else { bail!("--slow {text}: at least 1 is accepted") }
}

fn words(list: &str) -> BTreeSet<String> {
    list.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn one_of(word: String, known: &[&str]) -> Result<String> {
    if known.contains(&word.as_str()) { Ok(word) } else { bail!("{word:?} is none of {}", known.join(", ")) }
}

/// Reads the files; problems in them are printed.
fn cases(options: &Options) -> Result<Vec<Case>> {
    let mut cases = read(&options.paths).map_err(|problems| {
        problems.iter().for_each(|problem| println!("{problem}"));
        anyhow::anyhow!("{} problems in the case files", problems.len())
    })?;
    let unknown: Vec<&String> = options.only.iter().filter(|id| !cases.iter().any(|case| case.id == **id)).collect();
    if !unknown.is_empty() {
        bail!("--only: no case {unknown:?}");
    }
    cases.retain(|case| options.only.is_empty() || options.only.contains(&case.id));
    cases.retain(|case| options.kernel.is_none_or(|seed| case.is_kernels() || case.is_drawn(seed)));
    cases.retain(|case| options.stage.as_ref().is_none_or(|stage| case.stage == *stage));
    Ok(cases)
}

fn check(options: &Options) -> Result<ExitCode> {
    println!("{} cases ok", cases(options)?.len());
    Ok(ExitCode::SUCCESS)
}

struct Done {
    verdict: Verdict,
    recording: Recording,
    seconds: f64,
}

fn run_all(options: &Options) -> Result<ExitCode> {
    let cases = cases(options)?;
    let host = Host::probe().map_err(anyhow::Error::msg)?;
    let name = format!("podwright-cases-{}", std::process::id());
    let cgroup = host.make_parent(&name).with_context(|| format!("cgroup {name}"))?;
    for signal in [2, 15] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED)).with_context(|| format!("signal {signal}"))?;
    }
    let setting = setting(options, &host, cgroup)?;
    let done = run_all_cases(options, &host, &setting, cases);
    podwright_cases::host::destroy(&setting.cgroup);
    if !options.keep {
        // What could not be removed was reported by its case.
        drop(fs::remove_dir_all(&setting.work));
    }
    let Counts { passed, failed, skipped, flaky, .. } = done?;
    // scripts/lib.sh repeats these lines at the end of a whole run.
    flaky.iter().for_each(|line| println!("flaky: {line}"));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// The most cases that may run again because of nothing but upper bounds of time.
const MOST_FLAKY: usize = 3;

#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Cases of which nothing but upper bounds of time failed; they are in none of the other figures.
    late: Vec<Case>,
    /// What is said of those at the end.
    flaky: Vec<String>,
}

/// Runs all cases, and the late ones again, each alone.
fn run_all_cases(options: &Options, host: &Host, setting: &Setting, cases: Vec<Case>) -> Result<Counts> {
    let mut counts = run_cases(options, options.jobs, host, setting, cases)?;
    let late = std::mem::take(&mut counts.late);
    if late.len() > MOST_FLAKY {
        counts.failed += late.len();
        counts.flaky = late.iter().map(|case| format!("{}, one of more than {MOST_FLAKY}: failed", case.id)).collect();
        return Ok(counts);
    }
    if late.is_empty() {
        return Ok(counts);
    }
    let ids: Vec<String> = late.iter().map(|case| case.id.clone()).collect();
    println!("== again, each alone: {}", ids.join(", "));
    for case in late {
        let id = case.id.clone();
        let again = run_cases(options, 1, host, setting, vec![case])?;
        counts.passed += again.passed;
        counts.failed += again.failed + again.late.len();
        let verdict = if again.passed == 1 { "passed alone" } else { "failed alone too" };
        counts.flaky.push(format!("{id}, late beside others, {verdict}"));
    }
    Ok(counts)
}

fn setting(options: &Options, host: &Host, cgroup: PathBuf) -> Result<Setting> {
    let bin = options.bin.clone().context("--bin is missing")?;
    let bundles = options.bundles.clone().context("--bundles is missing")?;
    for program in ["podwrightd", "podwright"] {
        has_program(&bin, program).map_err(anyhow::Error::msg)?;
    }
    let mut config = options.set.clone();
    if !host.has_controllers() {
        config.insert("allowMissingControllers".to_owned(), true.into());
    }
    fs::create_dir_all(&options.work).with_context(|| options.work.display().to_string())?;
    let (work, slow, keep) = (options.work.clone(), options.slow, options.keep);
    Ok(Setting { bin, bundles, work, cgroup, slow, config, keep })
}

/// Runs the cases in parallel and prints them in order. Longest first, so that none is left alone at the end.
fn run_cases(options: &Options, jobs: usize, host: &Host, setting: &Setting, cases: Vec<Case>) -> Result<Counts> {
    let mut queue: Vec<usize> = (0..cases.len()).collect();
    queue.sort_by(|a, b| cases[*b].max.total_cmp(&cases[*a].max));
    let (cases, queue, next) = (Arc::new(cases), Arc::new(queue), Arc::new(AtomicUsize::new(0)));
    let (send, results) = channel();
    let missing = |case: &Case| -> Vec<String> {
        case.needs.iter().filter(|need| !host.has(need) && !options.have.contains(*need)).cloned().collect()
    };
    let lacking: Arc<Vec<Vec<String>>> = Arc::new(cases.iter().map(missing).collect());
    let setting = Arc::new(setting.clone());
    for _ in 0..jobs.min(cases.len()) {
        let (cases, queue, next, send) = (cases.clone(), queue.clone(), next.clone(), send.clone());
        let (lacking, setting, self_test) = (lacking.clone(), setting.clone(), options.self_test);
        thread::spawn(move || {
            while let Some(&i) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                let done = run_one(&cases[i], &setting, &lacking[i], self_test);
                if send.send((i, done)).is_err() {
                    return;
                }
            }
        });
    }
    drop(send);
    let mut waiting: Vec<Option<Done>> = (0..cases.len()).map(|_| None).collect();
    let (mut printed, mut counts) = (0, Counts::default());
    for (i, done) in results {
        waiting[i] = Some(done);
        while let Some(done) = waiting.get_mut(printed).and_then(Option::take) {
            let case = &cases[printed];
            if let Some(dir) = &options.save {
                save(dir, case, &done.recording)?;
            }
            print(case, &done, &mut counts);
            printed += 1;
        }
    }
    if printed < cases.len() {
        bail!("a case's thread panicked");
    }
    Ok(counts)
}

fn run_one(case: &Case, setting: &Setting, lacking: &[String], self_test: bool) -> Done {
    let begin = Instant::now();
    if !lacking.is_empty() {
        return Done { verdict: Verdict::Skipped(lacking.to_vec()), recording: Recording::default(), seconds: 0.0 };
    }
    let recording = run(case, setting);
    let verdict = verdict(case, &recording, setting.slow, self_test);
    Done { verdict, recording, seconds: begin.elapsed().as_secs_f64() }
}

fn print(case: &Case, done: &Done, counts: &mut Counts) {
    match &done.verdict {
        Verdict::Passed => {
            counts.passed += 1;
            println!("pass {} ({:.1} s)", case.id, done.seconds);
        }
        Verdict::Failed(failures) => {
            let word = if done.verdict.is_late() { "LATE" } else { "FAIL" };
            match done.verdict.is_late() {
                true => counts.late.push(case.clone()),
                false => counts.failed += 1,
            }
            println!("{word} {} ({:.1} s): {}", case.id, done.seconds, case.title);
            for Failure { kind, why } in failures {
                println!("  {kind:?}: {}", why.replace('\n', "\n    "));
            }
            print!("{}", timeline(&done.recording));
        }
        Verdict::Skipped(lacking) => {
            counts.skipped += 1;
            println!("skip {}: needs {}", case.id, lacking.join(", "));
        }
    }
}

fn save(dir: &std::path::Path, case: &Case, recording: &Recording) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let path = dir.join(format!("{}.json", case.id));
    fs::write(&path, serde_json::to_vec_pretty(recording)?).with_context(|| path.display().to_string())
}
