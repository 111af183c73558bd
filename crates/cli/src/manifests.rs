//! `validate` and `plan`: what can be told about a manifest without an agent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use podwright_core::cron::spec::CronSpec;
use podwright_core::job::spec::JobSpec;
use podwright_core::manifest::{self, Format, LONGEST, Resource};
use podwright_core::pod::spec::{Container, PodSpec, Role, StartGate};
use podwright_core::pod::{NodePolicy, backoff};
use podwright_core::rehearse::{Assumptions, Line, RUNS_FOR, rehearse};

use super::args::{Gate, Plan, Validate};
use super::context::Context;
use super::error::{CliError, Done};
use super::page::{Page, Tone};
use super::values::StopTakes;
use podwright_core::objects::Identity;
use podwright_core::time::{LOCALTIME, zone_of};

pub(super) fn validate(args: &Validate, context: &mut Context) -> Done {
    let (mut files, mut sound) = (Vec::new(), true);
    for given in &args.files {
        match expand(given) {
            Ok(found) => files.extend(found),
            Err(message) => {
                sound = false;
                context.out.print(&Page::of_line(message))?;
            }
        }
    }
    let mut files_of: BTreeMap<Identity, String> = BTreeMap::new();
    for file in &files {
        let shown = shown(file);
        let objects = match read(file) {
            Ok(objects) => objects,
            Err(problems) => {
                sound = false;
                context.out.print(&painted(&problems, context))?;
                continue;
            }
        };
        let (mut found, mut twins) = (Vec::new(), Vec::new());
        for object in &objects {
            let identity = Identity::of(object);
            if let Some(other) = files_of.get(&identity) {
                twins.push(identity.conflict(&shown, other));
            }
            for note in object.notes() {
                context.out.print(&Page::of_line(note.in_file(&shown)))?;
            }
            found.push(identity);
        }
        if twins.is_empty() {
            let names: Vec<String> = found.iter().map(Identity::to_string).collect();
            context.out.print(&Page::of_line(format_args!("{shown}: ok ({})", names.join(", "))))?;
            files_of.extend(found.into_iter().map(|identity| (identity, shown.clone())));
        } else {
            sound = false;
            context.out.print(&painted(&twins, context))?;
        }
    }
    if sound { Ok(()) } else { Err(CliError::Reported) }
}

pub(super) fn plan(args: &Plan, context: &mut Context) -> Done {
    let objects = match read(&args.file) {
        Ok(objects) => objects,
        Err(problems) => {
            problems.iter().for_each(|problem| context.out.note(&Page::of_line(problem)));
            return Err(CliError::Reported);
        }
    };
    let policy = NodePolicy {
        start_gate: match args.sidecar_start_gate {
            Gate::Ready => StartGate::Ready,
            Gate::Started => StartGate::Started,
        },
        crash_backoff: backoff::DEFAULT,
        host_ips: Vec::new(),
    };
    let stop_takes = match args.stop_takes {
        StopTakes::After(time) => Some(time),
        StopTakes::Never => None,
    };
    let assumed = Assumptions { init_takes: args.init_takes, main_takes: args.main_takes, stop_takes };
    for (i, object) in objects.iter().enumerate() {
        let (pod, about) = match object {
            Resource::Pod(document) => (&document.spec, Vec::new()),
            Resource::Job(document) => (&document.spec.template.pod, vec![about_job(&document.spec)]),
            Resource::CronJob(document) => {
                let job = &document.spec.template.job;
                let mut about = about_cron_job(&document.spec, Timestamp::now());
                about.push(about_job(job));
                (&job.template.pod, about)
            }
        };
        let timeline = rehearse(pod, &policy, &assumed).map_err(|e| {
            CliError::Failed(format!("a rule of podwright itself does not hold, please report it: {e}"))
        })?;
        let mut page = Page::new(context.style);
        if i > 0 {
            page.end_line();
        }
        page.line(Identity::of(object));
        about.iter().chain(&assumptions(&assumed)).for_each(|line| page.line(line));
        page.end_line();
        roles(pod, policy.start_gate, &mut page);
        page.end_line();
        print_timeline(&timeline, &mut page);
        context.out.print(&page)?;
    }
    Ok(())
}

fn painted(problems: &[String], context: &Context) -> Page {
    let mut page = Page::new(context.style);
    problems.iter().for_each(|problem| page.painted(Tone::Bad, problem));
    page
}

fn print_timeline(timeline: &[Line], page: &mut Page) {
    for line in timeline {
        page.line(format_args!("{:>9.3}s  {}", line.at.as_secs_f64(), line.text));
    }
}

fn assumptions(assumed: &Assumptions) -> [String; 2] {
    let time = |d: Duration| format!("{} s", d.as_secs_f64());
    let stop = match assumed.stop_takes {
        Some(after) => format!("a container leaves {} after its stop signal", time(after)),
        None => "a container ignores its stop signal".to_owned(),
    };
    let (init, main) = (time(assumed.init_takes), time(assumed.main_takes));
    [
        format!("assumed: a plain init runs {init}, a main that may end runs {main}, probes succeed at once,"),
        format!("         {stop}, a pod that runs on is removed after {}", time(RUNS_FOR)),
    ]
}

/// Every container in the order of its start, with what it is and what it holds back.
fn roles(pod: &PodSpec, node: StartGate, page: &mut Page) {
    let gate = pod.start_gate.unwrap_or(node);
    let width = pod.containers.iter().map(|c| c.name.len()).max().unwrap_or(0);
    for container in &pod.containers {
        page.line(format_args!("  {:<width$}  {}", container.name, role(container, gate)));
    }
}

fn role(container: &Container, gate: StartGate) -> &'static str {
    let startup = container.startup_probe.is_some();
    let readiness = gate == StartGate::Ready && container.readiness_probe.is_some();
    match (container.role, startup, readiness) {
        (Role::Init, ..) => "init container; what follows waits until it has left with 0",
        (Role::Main, ..) => "container",
        (Role::Sidecar, false, false) => "sidecar; what follows waits until it runs",
        (Role::Sidecar, true, false) => "sidecar; what follows waits until its startupProbe has succeeded",
        (Role::Sidecar, false, true) => "sidecar; what follows waits until its readinessProbe has succeeded once",
        (Role::Sidecar, true, true) => {
            "sidecar; what follows waits until its startupProbe, then its readinessProbe have succeeded once"
        }
    }
}

/// How many pods of a job there will be, and what it bears.
fn about_job(job: &JobSpec) -> String {
    let pods = match job.completions {
        Some(completions) => format!("{completions} completions, at most {} pods at a time", job.parallelism),
        None => format!("{} pods at a time until one succeeds", job.parallelism),
    };
    let bears = match job.backoff_limit_per_index {
        Some(limit) => format!("{limit} failures of each index are borne"),
        None => format!("{} failures are borne", job.backoff_limit),
    };
    let held = if job.suspend { "; suspended" } else { "" };
    format!("{pods}; {bears}{held}. Each pod:")
}

/// The next times, in the schedule's zone; without one in this machine's.
fn about_cron_job(cron: &CronSpec, now: Timestamp) -> Vec<String> {
    let zone = cron.time_zone.clone().unwrap_or_else(|| zone_of(std::fs::read(LOCALTIME).ok().as_deref()));
    let mut lines = vec![format!("schedule {}, next times:", cron.schedule.text())];
    let mut at = now;
    for _ in 0..5 {
        let Some(next) = cron.schedule.next(at, &zone) else { break };
        lines.push(format!("  {}", next.to_zoned(zone.clone()).strftime("%a, %d %b %Y %H:%M:%S %z")));
        at = next;
    }
    lines
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

/// A directory stands for the manifests directly in it, in the order of their names.
fn expand(given: &Path) -> Result<Vec<PathBuf>, String> {
    if !given.is_dir() {
        return Ok(vec![given.to_owned()]);
    }
    let unreadable = |e: io::Error| format!("{}: cannot be read: {e}", given.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(given).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if Format::of(&entry.file_name().to_string_lossy()).is_some() && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(format!("{}: no manifest in it; accepted: *.yaml, *.yml, *.json", given.display()));
    }
    Ok(found)
}

/// The objects of a file, or everything that is wrong with it, one line each.
fn read(file: &Path) -> Result<Vec<Resource>, Vec<String>> {
    let shown = shown(file);
    let (format, text) = if file == Path::new("-") {
        // JSON is YAML.
        (Format::Yaml, read_text(io::stdin().lock()))
    } else {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let Some(format) = Format::of(&name) else {
            return Err(vec![format!(
                "{shown}: the agent leaves a file of this name alone; accepted: *.yaml, *.yml, *.json"
            )]);
        };
        (format, File::open(file).and_then(read_text))
    };
    let text = text.map_err(|e| vec![format!("{shown}: cannot be read: {e}")])?;
    manifest::read(&text, format).map_err(|problems| problems.iter().map(|p| p.in_file(&shown)).collect())
}

fn read_text(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One more than is accepted, so that the parser says what is wrong with a longer one.
    from.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8: {}", e.utf8_error())))
}
